//! Clients: each a task that proposes, waits for the answer, and proposes again (a closed loop).

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{
    sync::Barrier,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    Cell, CompareError, Sample, Terms,
    sample::{self, TIMED_EVERY},
};
use crate::{Payload, Tally, process};

/// What one client remembers: enough for a measurement of a second, and no more after an hour.
const LATENCIES_MAX: usize = 4096;

/// How often it is looked whether a measurement should end early.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A cluster whose nodes are tasks of the current runtime.
pub(super) trait Service: Sized {
    /// What a client proposes through.
    type Client: Client;

    /// An empty cluster with a leader.
    async fn start(nodes: usize) -> Result<Self, CompareError>;

    /// A client of the leader.
    fn client(&self) -> Self::Client;

    /// Waits until the replicas have applied that many commands, for as long as it may take, and
    /// stops them. Returns what each of them has applied since the start.
    async fn stop(self, commands: u64) -> Result<Vec<Tally>, CompareError>;
}

/// Proposes at the leader of a [`Service`].
pub(super) trait Client: Clone + Send + Sync + 'static {
    /// Resolves once the command is committed and applied at the leader.
    fn propose(&self, payload: Bytes) -> impl Future<Output = Result<(), CompareError>> + Send;
}

/// Measures, then checks that every replica has applied every command.
pub(super) async fn measure<S: Service>(
    cell: &Cell,
    terms: &Terms,
) -> Result<Sample, CompareError> {
    let service = S::start(cell.nodes).await?;
    let payload = Payload::of_size(cell.payload).content().clone();
    let client = service.client();
    let warm = load(&client, &payload, cell.in_flight, terms, terms.warm_up).await?;
    let sample = load(&client, &payload, cell.in_flight, terms, terms.time).await?;
    drop(client);
    let commands = warm.commands + sample.commands;
    let expected = Tally { commands, bytes: commands * cell.payload as u64 };
    let replicas = service.stop(commands).await?;
    match replicas.into_iter().enumerate().find(|(_, found)| *found != expected) {
        Some((node, found)) => Err(CompareError::Diverged { node, found, expected }),
        None => Ok(sample),
    }
}

/// Keeps commands in flight for this long, then lets them end.
async fn load<C: Client>(
    client: &C,
    payload: &Bytes,
    in_flight: usize,
    terms: &Terms,
    time: Duration,
) -> Result<Sample, CompareError> {
    let stop = Arc::new(AtomicBool::new(false));
    let ready = Arc::new(Barrier::new(in_flight + 1));
    let mut tasks = JoinSet::new();
    for index in 0..in_flight {
        let (client, payload) = (client.clone(), payload.clone());
        let (stop, ready) = (Arc::clone(&stop), Arc::clone(&ready));
        tasks.spawn(async move {
            ready.wait().await;
            ready.wait().await;
            propose_until(&stop, &client, &payload, index as u64).await
        });
    }
    // Once all clients are there, they wait again: none starts before the clocks do.
    ready.wait().await;
    let (cpu, start) = (process::cpu_time(), Instant::now());
    ready.wait().await;
    while start.elapsed() < time && !terms.is_over() && tasks.len() == in_flight {
        sleep(LOOK_EVERY.min(time.saturating_sub(start.elapsed()))).await;
        if process::resident_bytes() > terms.memory_max {
            break;
        }
    }
    stop.store(true, Ordering::Relaxed);
    let mut commands = 0;
    let mut latencies = sample::latencies();
    while let Some(ended) = match timeout(terms.patience, tasks.join_next()).await {
        Ok(ended) => ended,
        Err(_) => return Err(CompareError::Stalled { commands }),
    } {
        let share = ended.map_err(crate::HarnessError::from)??;
        commands += share.commands;
        for latency in share.latencies {
            sample::record(&mut latencies, latency);
        }
    }
    let elapsed = start.elapsed();
    Ok(Sample { commands, elapsed, cpu: process::cpu_time() - cpu, latencies })
}

/// What one client has seen.
struct Share {
    commands: u64,
    latencies: Vec<Duration>,
    /// Of so many commands one is timed.
    timed_every: u64,
}

impl Share {
    /// Remembers a time; once there are many, every other one, from now on too.
    fn push(&mut self, latency: Duration) {
        self.latencies.push(latency);
        if self.latencies.len() == LATENCIES_MAX {
            let mut number = 0;
            self.latencies.retain(|_| {
                number += 1;
                number % 2 == 0
            });
            self.timed_every *= 2;
        }
    }
}

/// A client. It times every so manyth command, and no two neighbours the same ones.
async fn propose_until<C: Client>(
    stop: &AtomicBool,
    client: &C,
    payload: &Bytes,
    index: u64,
) -> Result<Share, CompareError> {
    let mut share = Share { commands: 0, latencies: Vec::new(), timed_every: TIMED_EVERY };
    while !stop.load(Ordering::Relaxed) {
        if (share.commands + index).is_multiple_of(share.timed_every) {
            let begun = Instant::now();
            client.propose(payload.clone()).await?;
            share.push(begun.elapsed());
        } else {
            client.propose(payload.clone()).await?;
        }
        share.commands += 1;
    }
    Ok(share)
}
