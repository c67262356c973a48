//! Commands of every shape that serde knows.

use std::io;

use paxos_core::{
    Node,
    node::ProposeError,
    port::{CodecError, StateMachine},
    types::{Membership, Slot},
};
use paxos_storage::MemoryStorage;
use paxos_transport::MemoryNetwork;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Remembers its last command.
struct Last<C>(Option<C>);

impl<C: Clone + Serialize + DeserializeOwned + Send + 'static> StateMachine for Last<C> {
    type Command = C;
    type Response = C;
    type Snapshot = Option<C>;

    fn apply(&mut self, _: Slot, commands: Vec<C>) -> Vec<C> {
        self.0 = commands.last().cloned().or(self.0.take());
        commands
    }

    fn snapshot(&self) -> Option<C> {
        self.0.clone()
    }

    fn restore(&mut self, _: Slot, last: Option<C>) -> io::Result<()> {
        self.0 = last;
        Ok(())
    }
}

async fn node<C: Clone + Serialize + DeserializeOwned + Send + 'static>() -> Node<Last<C>> {
    Node::builder(1, Membership::new([(1, "a")]).expect("a membership"))
        .storage(MemoryStorage::new())
        .transport(MemoryNetwork::new(1).bind("a"))
        .start(Last(None))
        .await
        .expect("a node")
}

/// As a connection to a database is.
#[tokio::test]
async fn a_state_machine_may_be_one_that_no_two_threads_may_look_at_at_once() {
    struct Counter(std::cell::Cell<u64>);

    impl StateMachine for Counter {
        type Command = u64;
        type Response = u64;
        type Snapshot = u64;

        fn apply(&mut self, _: Slot, commands: Vec<u64>) -> Vec<u64> {
            commands.into_iter().map(|add| self.0.replace(self.0.get() + add)).collect()
        }

        fn snapshot(&self) -> u64 {
            self.0.get()
        }

        fn restore(&mut self, _: Slot, total: u64) -> io::Result<()> {
            self.0.set(total);
            Ok(())
        }
    }

    let start = Node::builder(1, Membership::new([(1, "a")]).expect("a membership"))
        .storage(MemoryStorage::new())
        .transport(MemoryNetwork::new(1).bind("a"))
        .start(Counter(0.into()));
    let node = tokio::spawn(start).await.expect("no panic").expect("a node");
    let proposed = tokio::spawn({
        let node = node.clone();
        async move { (node.propose(3).await, node.submit(4).await) }
    });
    assert_eq!(proposed.await.expect("no panic"), (Ok(0), Ok(3)));
    let read = tokio::spawn(async move { node.read(|counter| counter.0.get()).await });
    assert_eq!(read.await.expect("no panic"), Ok(7));
}

/// In an encoding without names it was applied as 1 → 3 of 7.
#[tokio::test(start_paused = true)]
async fn a_payment_is_applied_as_it_was_proposed() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Payment {
        payer: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        note: Option<u64>,
        payee: u64,
        amount: u64,
        marks: Vec<u64>,
    }

    let node = node().await;
    let payment = Payment { payer: 1, note: None, payee: 1, amount: 3, marks: vec![7, 0] };
    assert_eq!(node.propose(payment.clone()).await, Ok(payment.clone()));
    assert_eq!(node.read(|last| last.0.clone()).await, Ok(Some(payment)));
}

#[tokio::test(start_paused = true)]
async fn a_command_that_comes_back_as_another_one_takes_no_slot() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Lossy(#[serde(with = "another")] u64);

    /// Writes another number than it was given.
    mod another {
        use serde::{Deserialize, Deserializer, Serializer};

        pub(super) fn serialize<S: Serializer>(number: &u64, to: S) -> Result<S::Ok, S::Error> {
            to.serialize_u64(if *number == 0 { 0 } else { *number + 1 })
        }

        pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
            u64::deserialize(from)
        }
    }

    let node = node().await;
    assert_eq!(node.propose(Lossy(0)).await, Ok(Lossy(0)));
    let before = node.status().chosen;
    let refused =
        |result| matches!(result, Err(ProposeError::Unencodable(CodecError::Unencodable(_))));
    assert!(refused(node.propose(Lossy(1)).await));
    assert!(refused(node.submit(Lossy(1)).await));
    assert!(matches!(
        node.propose_batch(vec![Lossy(0), Lossy(1)]).await,
        Err(ProposeError::Unencodable(_))
    ));
    assert_eq!(node.status().chosen, before);
    assert_eq!(node.read(|last| last.0.clone()).await, Ok(Some(Lossy(0))));
}
