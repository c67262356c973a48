//! What must hold once all faults are healed: everybody works, and all hold the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use paxos_kv::proto::mvccpb::KeyValue;
use tonic::transport::Channel;

use super::{
    cluster::Cluster,
    history::{Answer, Found, Operation, Outcome, Request, key},
    linearizability::group,
    run::Stage,
    wire::{everything, perform},
};

/// Within this every server takes a write, on any machine however busy: elections, reconnecting
/// and catching up take a few seconds.
const RECOVERY_MAX: Duration = Duration::from_secs(60);

/// How long one write may take.
const WRITE_MAX: Duration = Duration::from_secs(5);

/// Between two attempts.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// Waits until a write through each server was acknowledged, and returns how long that took.
///
/// # Errors
///
/// If it takes longer than [`RECOVERY_MAX`], or a server has ended.
pub(crate) async fn everybody_works(stage: &mut Stage<'_>) -> Result<Duration, String> {
    let all: Vec<_> = (0..stage.channels.len()).collect();
    they_work(&all, 0, stage).await
}

/// The same for each of these, one after the other, with values of so many bytes at least.
pub(crate) async fn they_work(
    servers: &[usize],
    bytes: usize,
    stage: &mut Stage<'_>,
) -> Result<Duration, String> {
    let Stage { channels, clients, nemesis, cluster } = stage;
    let group = clients.fresh_group();
    let start = Instant::now();
    // What the servers were given: a machine that was suspended in between is not their fault.
    let mut given = Duration::ZERO;
    for (number, &server) in servers.iter().enumerate() {
        let channel = &channels[server];
        for attempt in 0.. {
            nemesis.look_after(cluster)?;
            let value = format!("{:x<bytes$}", format!("{group}.{number}.{attempt}"));
            let request = Request::Put { key: key(group, server as u64), value };
            let began = clients.now();
            let outcome = perform(channel, &request, WRITE_MAX).await;
            let ended = clients.now();
            let client = OBSERVER + server;
            let operation = Operation { client, server, began, ended, request, outcome };
            clients.record(operation.clone());
            let reason = match operation.outcome {
                Outcome::Answered(_) => break,
                Outcome::Failed(reason) | Outcome::Unknown(reason) => reason,
            };
            given += Duration::from_nanos(ended - began).min(2 * WRITE_MAX) + RETRY_INTERVAL;
            if given > RECOVERY_MAX {
                let name = cluster.name(server);
                return Err(format!("{name} takes no write within {RECOVERY_MAX:?}: {reason}"));
            }
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
    }
    Ok(start.elapsed())
}

/// Numbers from here on are those of this module's own requests.
const OBSERVER: usize = 1000;

/// Reads everything from every server and compares it. Returns what was found as the reads that it
/// amounts to: of these groups, whose keys are all there are.
///
/// # Errors
///
/// If two servers hold something else at the same revision, or one does not answer.
pub(crate) async fn all_hold_the_same(
    channels: &[Channel],
    clock: impl Fn() -> u64,
    groups: BTreeSet<u64>,
    cluster: &Cluster,
) -> Result<Vec<Operation>, String> {
    let mut first: Option<(i64, Vec<KeyValue>)> = None;
    let mut reads = Vec::new();
    for (server, channel) in channels.iter().enumerate() {
        let name = cluster.name(server);
        let began = clock();
        let at = first.as_ref().map_or(0, |(revision, _)| *revision);
        let answer = tokio::time::timeout(RECOVERY_MAX, everything(channel, at)).await;
        let answer = answer.map_err(|_| format!("{name} does not answer"))?;
        let (revision, kvs) = answer.map_err(|status| format!("{name}: {status}"))?;
        match &first {
            Some((_, expected)) if *expected == kvs => {}
            Some((at, expected)) => {
                let difference = difference(expected, &kvs);
                return Err(format!("{name} holds something else at {at}: {difference}"));
            }
            None => {
                let read = (revision, server, began, clock());
                reads = by_group(&kvs, groups.clone(), read)?;
                first = Some((revision, kvs));
            }
        }
    }
    Ok(reads)
}

/// The first key that the two do not have alike.
fn difference(expected: &[KeyValue], found: &[KeyValue]) -> String {
    let pairs = expected.iter().zip(found).find(|(expected, found)| expected != found);
    match pairs {
        Some((expected, found)) => {
            format!(
                "{:?} instead of {:?}",
                Found::from(found.clone()),
                Found::from(expected.clone())
            )
        }
        None => format!("{} keys instead of {}", found.len(), expected.len()),
    }
}

fn by_group(
    kvs: &[KeyValue],
    groups: BTreeSet<u64>,
    (revision, server, began, ended): (i64, usize, u64, u64),
) -> Result<Vec<Operation>, String> {
    let mut groups: BTreeMap<u64, Vec<Found>> =
        groups.into_iter().map(|group| (group, Vec::new())).collect();
    for found in kvs.iter().cloned().map(Found::from) {
        match group(&found.key).and_then(|group| groups.get_mut(&group)) {
            Some(group) => group.push(found),
            None => return Err(format!("nobody wrote {found:?}")),
        }
    }
    let read = |(group, found)| Operation {
        client: OBSERVER + server,
        server,
        began,
        ended,
        request: Request::Range { group },
        outcome: Outcome::Answered(Answer { revision, found, ..Answer::default() }),
    };
    Ok(groups.into_iter().map(read).collect())
}
