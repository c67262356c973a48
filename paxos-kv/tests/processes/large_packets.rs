//! Paths that lose what is large, as when their MTU has shrunk: heartbeats pass, and what is proposed does not.
//!
//! While that lasts, writes through the other servers get on, whichever way the leader is affected.

use std::time::{Duration, Instant};

use super::{
    ending::{everybody_works, they_work},
    faults::effect,
    hosts::Lost,
    network::Pair,
    options::{Setup, Transport},
    run::{Stage, go_through},
};

const SERVERS: usize = 3;

/// More than one packet takes.
const LARGE_BYTES: usize = 8 << 10;

/// How long it may take to see who leads.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn large_packets(transport: Transport) -> Result<(), String> {
    let setup = Setup {
        packet_filter: true,
        election_timeout: Duration::from_millis(300),
        ..Setup::new(SERVERS, transport, 1, Duration::ZERO, false)
    };
    let report = go_through(setup, async |stage| {
        while_lost(stage, |leader, (from, _)| from == leader).await?;
        while_lost(stage, |leader, (_, to)| to == leader).await
    });
    let report = report.await?;
    report.print();
    match report.count(effect::DROPPED_FOR_SIZE) {
        0 => Err("no packet was dropped".to_owned()),
        _ => Ok(()),
    }
}

/// Large writes through all servers but the one that leads get on, while what is large is lost on the links
/// between it and them that are named.
async fn while_lost(
    stage: &mut Stage<'_>,
    is_lossy: impl Fn(usize, Pair) -> bool,
) -> Result<(), String> {
    let leader = leader(stage).await?;
    let pairs = stage.cluster.network.pairs().into_iter();
    let pairs: Vec<_> = pairs.filter(|&pair| is_lossy(leader, pair)).collect();
    let others: Vec<_> = (0..SERVERS).filter(|&server| server != leader).collect();
    let failed = |error: std::io::Error| error.to_string();
    stage.cluster.hosts.lose(Lost::Large, &pairs).map_err(failed)?;
    let took = they_work(&others, LARGE_BYTES, stage).await?;
    println!("  large writes got on after {:.1} s", took.as_secs_f64());
    stage.cluster.hosts.lose_nothing().map_err(failed)?;
    everybody_works(stage).await.map(drop)
}

async fn leader(stage: &Stage<'_>) -> Result<usize, String> {
    let since = Instant::now();
    loop {
        match stage.nemesis.leader().await {
            Some(leader) => return Ok(leader),
            None if since.elapsed() > PATIENCE => return Err("nobody leads".to_owned()),
            None => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}
