//! Clients: each proposes, waits for the result, and proposes again (a closed loop).

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use paxos_core::{Node, node::ProposeError};
use tokio::{sync::Barrier, task::JoinSet};

use crate::{HarnessError, Payload, Tally};

/// Proposes `commands` copies of `payload`, `in_flight` of them at any time until the last ones, and
/// returns the time from the first proposal to the last result.
///
/// Client `i` of the `in_flight` ones proposes at `entry[i % entry.len()]`. They take commands from a
/// common stock, so a slow client does not make the others wait at the end.
///
/// # Errors
///
/// The first command that has no result.
///
/// # Panics
///
/// If `entry` is empty.
pub async fn drive(
    entry: &[Node<Tally>],
    payload: &Payload,
    in_flight: usize,
    commands: u64,
) -> Result<Duration, HarnessError> {
    let stock = Arc::new(AtomicU64::new(commands));
    let ready = Arc::new(Barrier::new(in_flight + 1));
    let mut clients = JoinSet::new();
    for index in 0..in_flight {
        let node = entry[index % entry.len()].clone();
        let (stock, ready, payload) = (Arc::clone(&stock), Arc::clone(&ready), payload.clone());
        clients.spawn(async move {
            ready.wait().await;
            ready.wait().await;
            while take(&stock) {
                node.propose(payload.clone()).await?;
            }
            Ok::<(), ProposeError>(())
        });
    }
    // Once all clients are there, they wait again: none starts before the clock does.
    ready.wait().await;
    let start = Instant::now();
    ready.wait().await;
    while let Some(client) = clients.join_next().await {
        client??;
    }
    Ok(start.elapsed())
}

fn take(stock: &AtomicU64) -> bool {
    stock.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
}

/// How one task keeps several commands in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pipeline {
    /// [`Node::submit`]: a future for each, of which it waits for the oldest.
    Submit,
    /// [`Node::propose_batch`]: all of them at once, then it waits for all.
    Batch,
}

/// As [`drive`], from a single task.
///
/// # Errors
///
/// The first command that has no result.
pub async fn pipeline(
    node: &Node<Tally>,
    payload: &Payload,
    way: Pipeline,
    in_flight: usize,
    commands: u64,
) -> Result<Duration, HarnessError> {
    let start = Instant::now();
    let mut left = commands;
    let mut submitted = VecDeque::with_capacity(in_flight);
    while left > 0 {
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(in_flight);
        match way {
            Pipeline::Batch => {
                node.propose_batch(vec![payload.clone(); count]).await?;
                left -= count as u64;
            }
            Pipeline::Submit => {
                if submitted.len() == in_flight
                    && let Some(oldest) = submitted.pop_front()
                {
                    oldest.await?;
                }
                submitted.push_back(node.submit(payload.clone()));
                left -= 1;
            }
        }
    }
    for response in submitted {
        response.await?;
    }
    Ok(start.elapsed())
}

/// Clients that keep a cluster busy while something else is measured.
#[derive(Debug)]
pub struct Background {
    stop: Arc<AtomicBool>,
    clients: JoinSet<Result<u64, ProposeError>>,
}

impl Background {
    /// Starts `clients` of them, as in [`drive`], and returns once each has had its first result.
    ///
    /// # Errors
    ///
    /// If one has none.
    ///
    /// # Panics
    ///
    /// If `entry` is empty.
    pub async fn start(
        entry: &[Node<Tally>],
        payload: &Payload,
        clients: usize,
    ) -> Result<Background, HarnessError> {
        let stop = Arc::new(AtomicBool::new(false));
        let warm = Arc::new(Barrier::new(clients + 1));
        let mut tasks = JoinSet::new();
        for index in 0..clients {
            let node = entry[index % entry.len()].clone();
            let (stop, warm, payload) = (Arc::clone(&stop), Arc::clone(&warm), payload.clone());
            tasks.spawn(async move {
                let first = node.propose(payload.clone()).await;
                // Also after a failure, or the others would wait for ever.
                warm.wait().await;
                first?;
                let mut commands = 1;
                while !stop.load(Ordering::Relaxed) {
                    node.propose(payload.clone()).await?;
                    commands += 1;
                }
                Ok(commands)
            });
        }
        warm.wait().await;
        Ok(Background { stop, clients: tasks })
    }

    /// Stops them, each after the result it waits for. Returns how many commands they proposed.
    ///
    /// # Errors
    ///
    /// The first command that had no result.
    pub async fn stop(mut self) -> Result<u64, HarnessError> {
        self.stop.store(true, Ordering::Relaxed);
        let mut commands = 0;
        while let Some(client) = self.clients.join_next().await {
            commands += client??;
        }
        Ok(commands)
    }
}
