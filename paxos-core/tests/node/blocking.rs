//! State machines that block: nobody loses the leadership by it, and nobody waits for longer than
//! they want to. On threads and a clock that are real, since nothing else blocks.

use std::{
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use paxos_core::{node::ProposeError, port::StateMachine, types::Slot};

use super::cluster::Cluster;

/// The command at which a [`Turnstile`] blocks.
const BLOCK: u64 = 1;

const ELECTION_TIMEOUT: Duration = Duration::from_millis(500);

/// Stands still at a command until it is let go; counts commands.
#[derive(Clone, Default)]
struct Turnstile {
    open: Arc<(Mutex<Gate>, Condvar)>,
    count: usize,
}

#[derive(Default)]
struct Gate {
    is_blocked: bool,
    is_open: bool,
}

impl Turnstile {
    fn let_go(&self) {
        self.open.0.lock().expect("no panic").is_open = true;
        self.open.1.notify_all();
    }

    fn is_blocked(&self) -> bool {
        self.open.0.lock().expect("no panic").is_blocked
    }
}

impl StateMachine for Turnstile {
    type Command = u64;
    type Response = usize;

    fn apply(&mut self, _: Slot, commands: Vec<u64>) -> Vec<usize> {
        let pass = |command| {
            if command == BLOCK {
                let mut gate = self.open.0.lock().expect("no panic");
                gate.is_blocked = true;
                drop(self.open.1.wait_while(gate, |gate| !gate.is_open).expect("no panic"));
            }
            self.count += 1;
            self.count
        };
        commands.into_iter().map(pass).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_state_machine_that_blocks_unannounced_costs_nobody_the_leadership() {
    let mut cluster = Cluster::new(3, |config| {
        config.election_timeout = ELECTION_TIMEOUT;
        config.heartbeat_interval = ELECTION_TIMEOUT / 20;
    });
    let turnstiles: Vec<_> = (1..=3).map(|_| Turnstile::default()).collect();
    for (id, turnstile) in (1..).zip(&turnstiles) {
        cluster.start_node(id, turnstile.clone()).await;
    }
    let leader = cluster.leader_of(1).await;
    let turnstile = &turnstiles[usize::try_from(leader).expect("small") - 1];
    // The others are not stopped: they would count as one that blocks each.
    let others = turnstiles.iter().filter(|other| !Arc::ptr_eq(&other.open, &turnstile.open));
    others.for_each(Turnstile::let_go);
    let node = cluster.node(leader).clone();
    assert_eq!(node.propose(7).await, Ok(1));
    let ballot = node.status().ballot;

    let blocked = tokio::spawn({
        let node = node.clone();
        async move { node.propose_within(BLOCK, 60 * ELECTION_TIMEOUT).await }
    });
    while !turnstile.is_blocked() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // Whoever does not want to wait for the state machine does not.
    let early = node.propose_within(8, ELECTION_TIMEOUT).await;
    assert_eq!(early, Err(ProposeError::UnknownOutcome));
    tokio::time::sleep(3 * ELECTION_TIMEOUT).await;
    for id in 1..=3 {
        let status = cluster.node(id).status();
        assert_eq!((status.leader.map(|id| id.0), status.ballot), (Some(leader), ballot));
    }
    // The command that nobody waited for is chosen, and applied elsewhere.
    assert_eq!(cluster.node(cluster.other_than(leader)).propose(9).await, Ok(4));

    turnstile.let_go();
    assert_eq!(blocked.await.expect("no panic"), Ok(2));
    assert_eq!(node.propose(10).await, Ok(5), "on a thread of its own");
    assert_eq!(node.status().ballot, ballot);
    for id in 1..=3 {
        assert_eq!(cluster.node(id).shutdown().await, Ok(()));
    }
}
