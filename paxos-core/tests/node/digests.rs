//! State machines that do not do the same.

use std::io;

use paxos_core::{node::NodeError, port::StateMachine, replica::Halt, types::Slot};

use super::cluster::Cluster;

/// Adds up; one that is wrong loses what makes the total a multiple of three.
#[derive(Default)]
struct Sum {
    total: u64,
    is_wrong: bool,
}

impl StateMachine for Sum {
    type Command = u64;
    type Response = u64;
    type Snapshot = u64;

    fn apply(&mut self, _: Slot, commands: Vec<u64>) -> Vec<u64> {
        let add = |number: u64| {
            let total = self.total + number;
            self.total = if self.is_wrong && total.is_multiple_of(3) { self.total } else { total };
            self.total
        };
        commands.into_iter().map(add).collect()
    }

    fn snapshot(&self) -> u64 {
        self.total
    }

    fn restore(&mut self, _: Slot, total: u64) -> io::Result<()> {
        self.total = total;
        Ok(())
    }

    fn digest(&self) -> Option<u64> {
        Some(self.total)
    }
}

#[tokio::test(start_paused = true)]
async fn the_one_that_does_something_else_stops_and_the_others_go_on() {
    let mut cluster: Cluster<Sum> = Cluster::new(3, |config| config.digest_slots = 4);
    for id in 1..=3 {
        cluster.start_node(id, Sum { total: 0, is_wrong: id == 2 }).await;
    }
    let mut proposed = 0;
    while cluster.node(2).propose(1).await.is_ok() {
        proposed += 1;
        assert!(proposed < 30, "a node with another state goes on");
    }
    let ended = cluster.node(2).stopped().await.expect_err("its state is wrong");
    assert!(matches!(ended, NodeError::Halted(Halt::StateDiverged { .. })), "{ended}");
    let total = cluster.node(1).propose(0).await.expect("two of three go on");
    assert!((proposed..=proposed + 1).contains(&total), "{total} after {proposed}");
    assert_eq!(cluster.node(3).propose(1).await, Ok(total + 1));
}
