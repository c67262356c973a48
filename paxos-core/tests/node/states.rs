//! States as the embedder has them: read by queries, slow to come by, or unreadable.

use std::{
    io::{self, Cursor, Read},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use paxos_core::{
    Config, Node,
    node::{NodeError, ProposeError},
    port::{Snapshot, StateMachine},
    types::Slot,
};

use super::cluster::Cluster;

const ELECTION_TIMEOUT: Duration = Duration::from_millis(500);

/// They are read on other threads, and the virtual clock stands still until those are done.
pub(crate) async fn let_snapshots_be_read() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// What goes wrong with a state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Trouble {
    #[default]
    None,
    /// Taking a snapshot takes long, once it is asked for.
    SlowToTake,
    /// Its bytes do.
    SlowToRead,
    /// There is no getting at them.
    Unreadable,
    /// They mean nothing to whoever is to take them over.
    Senseless,
}

/// Counts commands.
#[derive(Clone, Default)]
struct Counter {
    count: u64,
    trouble: Trouble,
    /// Whether the trouble has begun.
    is_on: Arc<AtomicBool>,
    /// Whether it has been met.
    is_met: Arc<AtomicBool>,
}

/// The count, with the trouble of whoever has counted.
struct View(Counter);

impl Counter {
    fn with(trouble: Trouble) -> Counter {
        Counter { trouble, ..Counter::default() }
    }

    /// Blocks for several election timeouts, the first time.
    fn block(&self, trouble: Trouble) {
        if self.trouble == trouble && self.is_on.swap(false, Ordering::SeqCst) {
            self.is_met.store(true, Ordering::SeqCst);
            thread::sleep(4 * ELECTION_TIMEOUT);
        }
    }
}

impl StateMachine for Counter {
    type Command = ();
    type Response = u64;
    type Snapshot = View;

    fn apply(&mut self, _: Slot, commands: Vec<()>) -> Vec<u64> {
        let count = |()| {
            self.count += 1;
            self.count
        };
        commands.into_iter().map(count).collect()
    }

    fn snapshot(&self) -> View {
        self.block(Trouble::SlowToTake);
        View(self.clone())
    }

    fn restore(&mut self, _: Slot, View(state): View) -> io::Result<()> {
        if self.trouble == Trouble::Senseless {
            return Err(io::Error::other("written by a later version"));
        }
        self.count = state.count;
        Ok(())
    }
}

impl Snapshot for View {
    fn into_reader(self) -> io::Result<Box<dyn Read + Send>> {
        let View(state) = self;
        state.block(Trouble::SlowToRead);
        if state.trouble == Trouble::Unreadable {
            return Err(io::Error::other("a bad sector in the table"));
        }
        Ok(Box::new(Cursor::new(state.count.to_le_bytes())))
    }

    fn from_reader(mut reader: Box<dyn Read + Send>) -> io::Result<View> {
        let mut count = [0; 8];
        reader.read_exact(&mut count)?;
        Ok(View(Counter { count: u64::from_le_bytes(count), ..Counter::default() }))
    }
}

fn often(config: &mut Config) {
    config.checkpoint_slots = 3;
}

#[tokio::test(start_paused = true)]
async fn a_query_that_takes_long_works_on_a_snapshot() {
    let cluster = Cluster::start(3).await;
    for command in 0..5 {
        cluster.node(1).propose(command).await.expect("a response");
    }
    let entries = cluster.node(2).read(|ledger| ledger.snapshot()).await;
    cluster.node(1).propose(5).await.expect("a response");
    assert_eq!(entries, Ok(vec![0, 1, 2, 3, 4]), "as of when it was taken");
}

/// Proposes until the node has stopped; returns why.
async fn reason(node: &Node<Counter>) -> NodeError {
    for _ in 0..100 {
        match node.propose(()).await {
            Err(ProposeError::Stopped(reason)) => return reason,
            outcome => drop(outcome),
        }
        let_snapshots_be_read().await;
    }
    panic!("it goes on")
}

#[tokio::test(start_paused = true)]
async fn a_state_that_cannot_be_read_ends_the_node_with_the_reason() {
    let mut cluster = Cluster::new(1, often);
    cluster.start_node(1, Counter::with(Trouble::Unreadable)).await;
    let reason = reason(cluster.node(1)).await;
    assert_eq!(reason, NodeError::Snapshot("a bad sector in the table".to_owned()));
    assert_eq!(cluster.node(1).stopped().await, Err(reason.clone()));
    assert!(reason.to_string().contains("a bad sector in the table"));
}

#[tokio::test(start_paused = true)]
async fn a_state_that_makes_no_sense_ends_the_node_with_the_reason_and_stays() {
    let mut cluster = Cluster::new(1, often);
    cluster.start_node(1, Counter::default()).await;
    for count in 1..=10 {
        assert_eq!(cluster.node(1).propose(()).await, Ok(count));
        let_snapshots_be_read().await;
    }
    cluster.node(1).shutdown().await.expect("a clean end");
    cluster.start_node(1, Counter::with(Trouble::Senseless)).await;
    let reason = reason(cluster.node(1)).await;
    let NodeError::Restore { slot, reason: text } = &reason else { panic!("{reason}") };
    assert_eq!((slot.0 >= 9, &text[..]), (true, "written by a later version"));
    assert_eq!(cluster.node(1).stopped().await, Err(reason.clone()));
    // With the version that knows it, the node goes on.
    cluster.start_node(1, Counter::default()).await;
    let count = cluster.node(1).read(|counter| counter.count).await.expect("it runs");
    assert!(count >= 10, "{count}");
}

/// On threads and a clock that are real, since nothing else blocks.
async fn blocks_without_costing_the_leadership(trouble: Trouble) {
    let mut cluster = Cluster::new(3, |config| {
        often(config);
        config.election_timeout = ELECTION_TIMEOUT;
        config.heartbeat_interval = ELECTION_TIMEOUT / 20;
    });
    let counters: Vec<_> = (1..=3).map(|_| Counter::with(trouble)).collect();
    for (id, counter) in (1..).zip(&counters) {
        cluster.start_node(id, counter.clone()).await;
    }
    let leader = cluster.leader_of(1).await;
    cluster.node(leader).propose(()).await.expect("a response");
    let ballot = cluster.node(leader).status().ballot;
    let slow = &counters[usize::try_from(leader).expect("small") - 1];
    slow.is_on.store(true, Ordering::SeqCst);
    // Those who wait at other nodes wait for nothing but the log.
    let other = cluster.node(cluster.other_than(leader)).clone();
    let mut count = 1;
    while !slow.is_met.load(Ordering::SeqCst) {
        count += 1;
        assert_eq!(other.propose(()).await, Ok(count));
    }
    for _ in 0..5 {
        count += 1;
        assert_eq!(other.propose(()).await, Ok(count));
        tokio::time::sleep(ELECTION_TIMEOUT / 2).await;
    }
    let patience = 60 * ELECTION_TIMEOUT;
    assert_eq!(cluster.node(leader).propose_within((), patience).await, Ok(count + 1));
    for id in 1..=3 {
        let status = cluster.node(id).status();
        assert_eq!((status.leader.map(|id| id.0), status.ballot), (Some(leader), ballot));
    }
    for id in 1..=3 {
        assert_eq!(cluster.node(id).shutdown().await, Ok(()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_snapshot_that_takes_long_to_take_costs_nobody_the_leadership() {
    blocks_without_costing_the_leadership(Trouble::SlowToTake).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_snapshot_that_takes_long_to_read_costs_nobody_the_leadership() {
    blocks_without_costing_the_leadership(Trouble::SlowToRead).await;
}
