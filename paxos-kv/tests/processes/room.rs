//! Servers whose state has no more room while their logs have some.
//!
//! They take no writes of their clients and say why, serve reads, follow what others write as far as there is
//! place in memory, end when they are asked to, and go on when there is room.

use std::time::{Duration, Instant};

use paxos_kv::proto::etcdserverpb::{
    AlarmRequest, AlarmType, PutRequest, RangeRequest, StatusRequest, alarm_request::AlarmAction,
    kv_client::KvClient, maintenance_client::MaintenanceClient,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::{Code, Status, transport::Channel};

use super::{
    cluster::Cluster,
    options::{Setup, Transport},
    wire::connect,
};

const SERVERS: usize = 3;
/// The ones with small disks, and the one that always has room.
const FULL: [usize; 2] = [0, 1];
const WITH_ROOM: usize = 2;

const LARGE_BYTES: usize = 1 << 20;
/// More large values than there is place for in the memory of a server whose disk is full.
const MORE_THAN_FITS: usize = 130;
const PATIENCE: Duration = Duration::from_secs(30);

/// The servers, and how clients see them.
struct Run {
    cluster: Cluster,
    channels: Vec<Channel>,
}

pub(crate) async fn tables_without_room() -> Result<(), String> {
    let setup = Setup {
        logs_elsewhere: true,
        election_timeout: Duration::from_millis(500),
        ..Setup::new(SERVERS, Transport::Tcp, 1, Duration::ZERO, true)
    };
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let cluster = Cluster::start(setup, directory.path()).await;
    let cluster = cluster.map_err(|error| format!("the servers do not start: {error}"))?;
    let channels = cluster.endpoints().iter().map(|endpoint| connect(endpoint)).collect();
    let mut run = Run { cluster, channels };
    for server in 0..SERVERS {
        run.becomes_writable(server).await?;
    }
    for server in FULL {
        run.cluster.fill_disk(server).map_err(|error| error.to_string())?;
    }
    run.become_full().await?;
    run.check_full().await?;
    run.write_past_the_full().await?;
    run.cluster.make_room().map_err(|error| error.to_string())?;
    run.cluster.restart_all().map_err(|error| error.to_string())?;
    for server in 0..SERVERS {
        run.becomes_writable(server).await?;
    }
    run.check_sound().await?;
    let ended = run.cluster.terminate_all().await.map_err(|error| error.to_string())?;
    match ended.iter().find(|(_, status)| !status.success()) {
        Some((name, status)) => Err(format!("{name} ended with {status}")),
        None => Ok(()),
    }
}

impl Run {
    async fn put(&self, server: usize, key: &str, value: Vec<u8>) -> Result<(), Status> {
        let mut kv = KvClient::new(self.channels[server].clone());
        let put = PutRequest { key: key.to_owned().into(), value: value.into(), ..<_>::default() };
        kv.put(put).await.map(drop)
    }

    /// What a server finds under a key, as of now or, if that is enough, as of what it has.
    async fn get(&self, server: usize, key: &str, serializable: bool) -> Result<Vec<u8>, String> {
        let mut kv = KvClient::new(self.channels[server].clone());
        let key = key.to_owned();
        let range = RangeRequest { key: key.clone().into(), serializable, ..<_>::default() };
        let found =
            kv.range(range).await.map_err(|status| format!("{key} on {server}: {status}"))?;
        let found = found.into_inner().kvs.pop();
        found.map(|found| found.value.to_vec()).ok_or(format!("{server} does not find {key}"))
    }

    async fn becomes_writable(&self, server: usize) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.put(server, &format!("written by {server}"), b"it is".to_vec()).await {
                Ok(()) => return Ok(()),
                Err(status) if Instant::now() > deadline => {
                    return Err(format!("{server} takes no writes: {status}"));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Writes until the servers with full disks have noticed it.
    async fn become_full(&mut self) -> Result<(), String> {
        for server in FULL {
            let deadline = Instant::now() + PATIENCE;
            loop {
                let key = format!("large {server}");
                match self.put(server, &key, vec![7; LARGE_BYTES]).await {
                    Err(status) if status.code() == Code::ResourceExhausted => break,
                    Ok(()) if Instant::now() < deadline => {}
                    other => return Err(format!("{server}, whose disk is full, says {other:?}")),
                }
            }
        }
        self.cluster.check_processes()
    }

    /// The servers whose disks are full say so, and serve reads.
    async fn check_full(&self) -> Result<(), String> {
        self.put(WITH_ROOM, "later", b"1".to_vec()).await.map_err(|status| status.to_string())?;
        for server in FULL {
            let refused = self.put(server, "refused", Vec::new()).await;
            let text =
                refused.map_or_else(|status| status.message().to_owned(), |()| String::new());
            if text != "etcdserver: mvcc: database space exceeded" {
                return Err(format!("{server} refuses with {text:?}"));
            }
            for serializable in [false, true] {
                self.get(server, "written by 0", serializable).await?;
                self.get(server, "later", serializable).await?;
            }
        }
        self.check_alarms(true).await
    }

    async fn check_sound(&self) -> Result<(), String> {
        for server in FULL {
            self.get(server, &format!("past {}", MORE_THAN_FITS - 1), false).await?;
        }
        self.check_alarms(false).await
    }

    /// Whether all that shows a full disk does so.
    async fn check_alarms(&self, is_full: bool) -> Result<(), String> {
        for server in FULL {
            let mut maintenance = MaintenanceClient::new(self.channels[server].clone());
            let failed = |status: Status| status.to_string();
            let status = maintenance.status(StatusRequest {}).await.map_err(failed)?.into_inner();
            let member = status.header.map_or(0, |header| header.member_id);
            let expected = format!("memberID:{member} alarm:NOSPACE ");
            let disarm = AlarmRequest { action: AlarmAction::Deactivate.into(), ..<_>::default() };
            let disarmed = maintenance.alarm(disarm).await.map_err(failed)?.into_inner().alarms;
            let corrupt = AlarmRequest { alarm: AlarmType::Corrupt.into(), ..<_>::default() };
            let others = maintenance.alarm(corrupt).await.map_err(failed)?.into_inner().alarms;
            if !disarmed.is_empty() || !others.is_empty() {
                return Err(format!("{server}: {disarmed:?} disarmed, others: {others:?}"));
            }
            let alarms = maintenance.alarm(AlarmRequest::default()).await.map_err(failed)?;
            let alarms = alarms.into_inner().alarms;
            let health = self.health(server).await.map_err(|error| error.to_string())?;
            let shown = [
                status.errors.contains(&expected),
                alarms.iter().any(|alarm| alarm.member_id == member && alarm.alarm == 1),
                health.contains("ALARM NOSPACE") && health.contains(" 503 "),
            ];
            if shown != [is_full; 3] {
                let errors = status.errors;
                return Err(format!("full: {is_full}, {server}: {errors:?} {alarms:?} {health}"));
            }
        }
        Ok(())
    }

    async fn health(&self, server: usize) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(&self.cluster.endpoints()[server]).await?;
        stream
            .write_all(b"GET /health HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
            .await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    /// One server writes more than the others have place for: they wait, serve what they have, and end when
    /// they are asked to.
    async fn write_past_the_full(&mut self) -> Result<(), String> {
        for number in 0..MORE_THAN_FITS {
            let written =
                self.put(WITH_ROOM, &format!("past {number}"), vec![7; LARGE_BYTES]).await;
            written.map_err(|status| format!("write {number} past full disks: {status}"))?;
        }
        self.cluster.check_processes()?;
        for server in FULL {
            self.get(server, "written by 0", true).await?;
            if self.get(server, &format!("past {}", MORE_THAN_FITS - 1), true).await.is_ok() {
                return Err(format!("{server} has place without end"));
            }
        }
        let ended = self.cluster.terminate(&FULL[..1]).await.map_err(|error| error.to_string())?;
        match &ended[..] {
            [(_, status)] if status.success() => Ok(()),
            other => Err(format!("a server that waits for room ended with {other:?}")),
        }
    }
}
