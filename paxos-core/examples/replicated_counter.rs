//! A counter on three nodes outlives its leader: `cargo run -p paxos-core --example replicated_counter`

use std::io;

use paxos_core::{
    Node,
    port::StateMachine,
    types::{Membership, Slot},
};
use paxos_storage::MemoryStorage;
use paxos_transport::MemoryNetwork;

#[derive(Default)]
struct Counter(i64);

impl StateMachine for Counter {
    type Command = i64;
    type Response = i64;
    type Snapshot = i64;

    fn apply(&mut self, _slot: Slot, commands: Vec<i64>) -> Vec<i64> {
        let add = |number| {
            self.0 += number;
            self.0
        };
        commands.into_iter().map(add).collect()
    }

    fn snapshot(&self) -> i64 {
        self.0
    }

    fn restore(&mut self, _: Slot, total: i64) -> io::Result<()> {
        self.0 = total;
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cluster = Membership::new([1, 2, 3].map(|id| (id, format!("node-{id}"))))?;
    let network = MemoryNetwork::new(1);
    let mut nodes = Vec::new();
    for id in cluster.voters() {
        let builder = Node::builder(id, cluster.clone());
        let builder = builder.storage(MemoryStorage::new()).transport(network.join(id));
        nodes.push(builder.start(Counter::default()).await?);
    }
    println!("3 makes {}", nodes[0].propose(3).await?);
    let leads = |node: &Node<Counter>| node.status().leader == Some(node.identity().node);
    let leader = nodes.iter().position(leads).ok_or("a leader has answered")?;
    nodes.remove(leader).shutdown().await?;
    println!("the leader is gone; 4 more makes {}", nodes[0].propose(4).await?);
    println!("the other node reads {}", nodes[1].read(|counter| counter.0).await?);
    Ok(())
}
