//! Requests that come when they come, whether or not earlier ones have been answered: what users
//! with a will of their own see.
//!
//! Each request has an intended start, and its latency counts from there. So a cluster that stalls is
//! charged for every request that would have come meanwhile, and a late start of the request for its
//! delay, too.

use std::{
    thread,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use paxos_core::Node;
use tokio::{runtime::Handle, sync::mpsc};

use crate::{HarnessError, Payload, Tally};

/// Latencies above it count as this, in nanoseconds: ten minutes.
const LATENCY_MAX: u64 = 600_000_000_000;

/// What is asked for.
#[derive(Clone, Debug)]
pub enum Operation {
    /// Proposes the command.
    Write(Payload),
    /// A linearizable read.
    Read,
}

/// What the requests have seen. Times are in nanoseconds.
#[derive(Clone, Debug)]
pub struct OpenLoop {
    /// From the intended start to the answer, of those that had one.
    pub latencies: Histogram<u64>,
    /// How late requests were started: of this harness and its machine, and part of the latencies.
    pub lateness: Histogram<u64>,
    /// Requests without an answer: refused, or given up by the node.
    pub failed: u64,
    /// From the first intended start to the last answer, or the end of the time that was asked for.
    pub elapsed: Duration,
}

/// One request's end.
struct Outcome {
    intended: Instant,
    started: Instant,
    ended: Instant,
    answered: bool,
}

/// Asks for `operation` at a steady `rate` per second for some `time`, at the nodes in turn, and waits
/// for all the answers. Blocks its thread; the requests run on `runtime`.
///
/// # Errors
///
/// If the operating system starts no thread.
///
/// # Panics
///
/// If there are no nodes, or the rate is not positive.
pub fn open_loop(
    runtime: &Handle,
    nodes: &[Node<Tally>],
    operation: &Operation,
    rate: f64,
    time: Duration,
) -> Result<OpenLoop, HarnessError> {
    assert!(rate > 0.0 && !nodes.is_empty(), "requests go somewhere, at some time");
    let count = (time.as_secs_f64() * rate).ceil() as u64;
    let (outcomes, mut ended) = mpsc::unbounded_channel();
    let (runtime, nodes, operation) = (runtime.clone(), nodes.to_vec(), operation.clone());
    let generate = move || {
        let start = Instant::now();
        for number in 0..count {
            let intended = start + Duration::from_secs_f64(number as f64 / rate);
            thread::sleep(intended.saturating_duration_since(Instant::now()));
            let node = nodes[number as usize % nodes.len()].clone();
            runtime.spawn(request(node, operation.clone(), intended, outcomes.clone()));
        }
        start
    };
    let generator = thread::Builder::new().name("generator".to_owned()).spawn(generate);
    let generator = generator.map_err(HarnessError::io("start a thread"))?;
    let histogram = || Histogram::new_with_max(LATENCY_MAX, 3).expect("the bounds are sensible");
    let (mut latencies, mut lateness, mut failed) = (histogram(), histogram(), 0);
    let mut last = None;
    while let Some(Outcome { intended, started, ended, answered }) = ended.blocking_recv() {
        record(&mut lateness, started - intended);
        if answered {
            record(&mut latencies, ended - intended);
        } else {
            failed += 1;
        }
        last = last.max(Some(ended));
    }
    let start = generator.join().expect("the generator only sleeps and spawns");
    let elapsed = last.map_or(time, |last| time.max(last - start));
    Ok(OpenLoop { latencies, lateness, failed, elapsed })
}

async fn request(
    node: Node<Tally>,
    operation: Operation,
    intended: Instant,
    outcomes: mpsc::UnboundedSender<Outcome>,
) {
    let started = Instant::now();
    let answered = match operation {
        Operation::Write(payload) => node.propose(payload).await.is_ok(),
        Operation::Read => node.read(|tally| tally.commands).await.is_ok(),
    };
    let outcome = Outcome { intended, started, ended: Instant::now(), answered };
    // Whoever counts stays until all have ended.
    drop(outcomes.send(outcome));
}

fn record(histogram: &mut Histogram<u64>, time: Duration) {
    histogram.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
}
