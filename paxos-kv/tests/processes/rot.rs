//! The tables of a server have rotted: it serves nothing of that, says what is wrong and ends, without an abort;
//! the others go on.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    time::{Duration, Instant},
};

use paxos_kv::proto::{
    etcdserverpb::{
        PutRequest, RangeRequest, RequestOp, TxnRequest, kv_client::KvClient, request_op::Request,
    },
    mvccpb::KeyValue,
};
use tonic::{Status, transport::Channel};

use super::{
    cluster::Cluster,
    options::{Setup, Transport},
    wire::{all_keys, connect},
};

const SERVERS: usize = 3;
const VICTIM: usize = 0;
const KEYS: usize = 4000;
const KEYS_PER_TXN: usize = 100;
const VALUE_BYTES: usize = 200;
const BLOCK_BYTES: u64 = 4096;
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn rot_in_the_tables() -> Result<(), String> {
    let setup = Setup {
        election_timeout: Duration::from_millis(500),
        ..Setup::new(SERVERS, Transport::Tcp, 1, Duration::ZERO, false)
    };
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let cluster = Cluster::start(setup, directory.path()).await;
    let mut cluster = cluster.map_err(|error| format!("the servers do not start: {error}"))?;
    let channels: Vec<_> = cluster.endpoints().iter().map(|endpoint| connect(endpoint)).collect();
    fill(&channels[1]).await?;
    let expected = answered(&channels[VICTIM]).await?;

    // In an orderly way, so that all is in the tables.
    cluster.terminate_all().await.map_err(|error| error.to_string())?;
    let state = cluster.data(VICTIM).join("state.redb");
    rot(&state).map_err(|error| format!("{}: {error}", state.display()))?;
    cluster.restart_all().map_err(|error| error.to_string())?;
    let deadline = Instant::now() + PATIENCE;
    // It may end before it answers, and must not answer what is wrong.
    let code = loop {
        match everything(&channels[VICTIM], true).await {
            Ok(found) if found != expected => return Err("what has rotted is served".to_owned()),
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
        match cluster.has_ended(VICTIM).map_err(|error| error.to_string())? {
            Some(status) => break status.code(),
            None if Instant::now() > deadline => {
                return Err("a server goes on with what has rotted".to_owned());
            }
            None => {}
        }
    };
    let log = cluster.log(VICTIM).map_err(|error| error.to_string())?;
    let last = log.lines().next_back().unwrap_or_default();
    let path = state.display().to_string();
    let is_said = [path.as_str(), "is damaged", "from", "replace this node as a new member"];
    if code != Some(1) || !is_said.iter().all(|text| last.contains(text)) {
        return Err(format!("it has ended with {code:?} and said {last:?}"));
    }
    for channel in &channels[1..] {
        if answered(channel).await? != expected {
            return Err("the others have caught something".to_owned());
        }
    }
    Ok(())
}

async fn fill(channel: &Channel) -> Result<(), String> {
    for first in (0..KEYS).step_by(KEYS_PER_TXN) {
        let put = |number: usize| PutRequest {
            key: format!("key {number:05}").into(),
            value: number.to_string().repeat(VALUE_BYTES).into_bytes()[..VALUE_BYTES]
                .to_vec()
                .into(),
            ..PutRequest::default()
        };
        let puts = (first..first + KEYS_PER_TXN)
            .map(|number| RequestOp { request: Some(Request::RequestPut(put(number))) });
        let txn = TxnRequest { success: puts.collect(), ..TxnRequest::default() };
        let deadline = Instant::now() + PATIENCE;
        while let Err(status) = KvClient::new(channel.clone()).txn(txn.clone()).await {
            if Instant::now() > deadline {
                return Err(format!("nothing is written: {status}"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}

async fn everything(channel: &Channel, serializable: bool) -> Result<Vec<KeyValue>, Status> {
    let request = RangeRequest { serializable, ..RangeRequest::default() };
    all_keys(channel, request).await.map(|(_, found)| found)
}

/// The same from a server that is sound, once there is a quorum.
async fn answered(channel: &Channel) -> Result<Vec<KeyValue>, String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match everything(channel, false).await {
            Ok(found) => return Ok(found),
            Err(status) if Instant::now() > deadline => return Err(status.to_string()),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Flips a bit in every block but those at the beginning, of which a start needs nothing but a few bytes.
fn rot(file: &std::path::Path) -> std::io::Result<()> {
    let file = File::options().read(true).write(true).open(file)?;
    let mut byte = [0];
    for block in 6..file.metadata()?.len() / BLOCK_BYTES {
        let at = block * BLOCK_BYTES + 1000;
        file.read_exact_at(&mut byte, at)?;
        file.write_all_at(&[byte[0] ^ 16], at)?;
    }
    Ok(())
}
