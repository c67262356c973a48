//! State machines and reads that wait for their own node, and nodes that end without what does not come back.
//! On threads and a clock that are real, since nothing else blocks.

use std::{
    future, io,
    ops::RangeInclusive,
    pin::pin,
    sync::{Arc, Mutex, OnceLock, mpsc},
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use paxos_core::{
    Node,
    message::Record,
    node::{NodeBuilder, NodeError, ProposeError, ReadError},
    port::{Recovered, StateMachine, Storage, StorageError, Write, WriteBatch},
    types::{ClusterId, Membership, NodeId, Slot},
};
use paxos_storage::MemoryStorage;
use paxos_transport::MemoryNetwork;
use tokio::runtime::Handle;

/// Waits on this thread, in a runtime or not.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        thread::park();
    }
}

type Behaviour = Arc<dyn Fn(u64) -> String + Send + Sync>;

/// Does with a command what the test says; responds with what came of it.
#[derive(Clone)]
struct Doing(Behaviour);

impl StateMachine for Doing {
    type Command = u64;
    type Response = String;
    type Snapshot = ();

    fn apply(&mut self, _: Slot, commands: Vec<u64>) -> Vec<String> {
        commands.into_iter().map(|command| (self.0)(command)).collect()
    }

    fn snapshot(&self) {}

    fn restore(&mut self, _: Slot, (): ()) -> io::Result<()> {
        Ok(())
    }
}

/// A node, as its state machine may come to know it.
type Known = Arc<OnceLock<Node<Doing>>>;

fn builder(disk: MemoryStorage) -> NodeBuilder {
    Node::builder(1, Membership::new([(1, "a")]).expect("a membership"))
        .storage(disk)
        .transport(MemoryNetwork::new(1).bind("a"))
}

async fn start(
    builder: NodeBuilder,
    does: impl Fn(&Node<Doing>, u64) -> String + Send + Sync + 'static,
) -> Node<Doing> {
    let known = Known::default();
    let behaviour = {
        let known = Arc::clone(&known);
        move |command| does(known.get().expect("it is known before it is asked"), command)
    };
    let node = builder.start(Doing(Arc::new(behaviour))).await.expect("a node");
    assert!(known.set(node.clone()).is_ok());
    node
}

fn said(result: Result<impl Sized, impl ToString>) -> String {
    result.map_or_else(|error| error.to_string(), |_| "it went well".to_owned())
}

fn waits_for_itself(node: &Node<Doing>, command: u64) -> String {
    match command {
        1 => said(block_on(node.propose(9))),
        2 => said(block_on(node.propose_batch(vec![9]))),
        3 => said(block_on(node.submit(9))),
        4 => said(block_on(node.read(|_| ()))),
        5 => said(block_on(node.read_local(|_| ()))),
        6 => said(block_on(node.stopped())),
        _ => "nothing".to_owned(),
    }
}

async fn is_told(node: &Node<Doing>) {
    for command in 1..=6 {
        let said = node.propose(command).await.expect("a response");
        assert!(said.contains("inside its own state machine"), "{command}: {said}");
    }
    let within = node.clone();
    let read = node.read(move |_| block_on(within.read(|_| ()))).await;
    assert_eq!(read, Ok(Err(ReadError::WithinStateMachine)));
    let within = node.clone();
    let proposed = node.read_local(move |_| block_on(within.propose(1))).await;
    assert_eq!(proposed, Ok(Err(ProposeError::WithinStateMachine)));
    assert_eq!(node.propose(7).await.as_deref(), Ok("nothing"), "it goes on");
    let within = node.clone();
    let ended = node.read(move |_| block_on(within.shutdown())).await;
    assert_eq!(ended, Ok(Err(NodeError::WithinStateMachine)));
    assert_eq!(node.stopped().await, Ok(()), "it ends all the same");
}

#[tokio::test]
async fn whoever_waits_for_the_node_inside_its_state_machine_is_told() {
    is_told(&start(builder(MemoryStorage::new()), waits_for_itself).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_for_the_node_on_a_thread_of_the_state_machine_is_told() {
    let builder = builder(MemoryStorage::new()).blocking_state_machine();
    is_told(&start(builder, waits_for_itself).await).await;
}

const SHORT: Duration = Duration::from_millis(150);

/// By way of another task nobody can see who waits for whom; but no call lasts longer than it may.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_machine_that_waits_for_a_task_that_waits_for_the_node_gets_on() {
    let runtime = Handle::current();
    let does = move |node: &Node<Doing>, command| {
        let (told, hears) = mpsc::channel();
        let node = node.clone();
        runtime.spawn(async move {
            let result = match command {
                1 => said(node.propose_within(9, SHORT).await),
                2 => said(node.read_within(|_| (), SHORT).await),
                3 => said(node.read_local(|_| ()).await),
                _ => "nothing".to_owned(),
            };
            told.send(result).expect("it waits");
        });
        hears.recv().expect("the task ends")
    };
    let builder = builder(MemoryStorage::new()).blocking_state_machine().request_timeout(SHORT);
    let node = start(builder, does).await;
    for (command, reason) in [(1, "unknown"), (2, "stands still"), (3, "stands still")] {
        let said = node.propose_within(command, Duration::from_secs(60)).await.expect("a response");
        assert!(said.contains(reason), "{command}: {said}");
    }
    assert_eq!(node.shutdown().await, Ok(()));
}

/// Blocks at command 1 until it is let go, and says when it does.
fn blocking() -> (Behaviour, mpsc::Sender<()>, mpsc::Receiver<()>) {
    let (let_go, gate) = mpsc::channel();
    let (blocks, blocked) = mpsc::channel();
    let gate = Mutex::new(gate);
    let does = move |command| {
        if command == 1 {
            blocks.send(()).expect("the test waits");
            gate.lock().expect("no panic").recv().expect("it is let go in the end");
        }
        String::new()
    };
    (Arc::new(does), let_go, blocked)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_ends_without_a_state_machine_that_does_not_come_back() {
    for is_announced in [true, false] {
        let (does, let_go, blocked) = blocking();
        let builder = builder(MemoryStorage::new()).shutdown_timeout(SHORT);
        let builder = if is_announced { builder.blocking_state_machine() } else { builder };
        let node = start(builder, move |_, command| does(command)).await;
        let proposed = tokio::spawn({
            let node = node.clone();
            async move { node.propose(1).await }
        });
        tokio::task::spawn_blocking(move || blocked.recv())
            .await
            .expect("no panic")
            .expect("it blocks");
        let read = tokio::spawn({
            let node = node.clone();
            async move { node.read(|_| ()).await }
        });
        let began = Instant::now();
        let ended = node.shutdown().await.expect_err("something is left");
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        assert!(
            matches!(&ended, NodeError::Unfinished { left, .. } if left == "its state machine")
        );
        let proposed = proposed.await.expect("no panic");
        assert_eq!(proposed, Err(ProposeError::Stopped(ended.clone())));
        assert_eq!(read.await.expect("no panic"), Err(ReadError::Stopped(ended)));
        let_go.send(()).expect("it waits");
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_ends_without_a_disk_that_does_not_come_back() {
    let disk = MemoryStorage::new();
    let node = start(builder(disk.clone()), |_, _| String::new()).await;
    node.propose(1).await.expect("a response");
    disk.hold_writes();
    let (proposed, ended) = tokio::join!(node.propose(1), async {
        tokio::task::yield_now().await;
        node.shutdown().await
    });
    let ended = ended.expect_err("something is left");
    assert!(
        matches!(&ended, NodeError::Unfinished { left, .. } if left == "a write to its storage")
    );
    assert!(ended.to_string().contains("end the process"), "{ended}");
    assert_eq!(proposed, Err(ProposeError::Stopped(ended)));
    disk.release_writes();
}

/// A disk that does not come back when it is closed or dropped.
struct HangingDisk {
    disk: MemoryStorage,
    gate: Mutex<mpsc::Receiver<()>>,
}

#[async_trait]
impl Storage for HangingDisk {
    async fn recover(&self, cluster: ClusterId, node: NodeId) -> Result<Recovered, StorageError> {
        self.disk.recover(cluster, node).await
    }

    fn write(&self, batch: WriteBatch) -> Write {
        self.disk.write(batch)
    }

    async fn read(
        &self,
        slots: RangeInclusive<Slot>,
        bytes_max: usize,
    ) -> Result<Vec<Record>, StorageError> {
        self.disk.read(slots, bytes_max).await
    }

    async fn read_state(
        &self,
        slot: Slot,
        offset: u64,
        bytes_max: usize,
    ) -> Result<Bytes, StorageError> {
        self.disk.read_state(slot, offset, bytes_max).await
    }

    async fn close(&self) {
        future::pending().await
    }
}

impl Drop for HangingDisk {
    fn drop(&mut self) {
        // As one that waits for its thread, which waits for the disk.
        self.gate.get_mut().expect("no panic").recv().expect("it is let go in the end");
    }
}

/// On one thread, which has better things to do than to wait for it.
#[tokio::test]
async fn a_disk_that_hangs_when_it_is_let_go_of_holds_up_nobody() {
    let (let_go, gate) = mpsc::channel();
    let disk = HangingDisk { disk: MemoryStorage::new(), gate: Mutex::new(gate) };
    let node = Node::builder(1, Membership::new([(1, "a")]).expect("a membership"))
        .storage(disk)
        .transport(MemoryNetwork::new(1).bind("a"))
        .shutdown_timeout(SHORT);
    let node = start(node, |_, _| String::new()).await;
    node.propose(1).await.expect("a response");
    let ended = node.shutdown().await;
    assert!(matches!(&ended, Err(NodeError::Unfinished { left, .. }) if left == "its storage"));
    drop(node);
    tokio::time::sleep(SHORT).await;
    let_go.send(()).expect("somebody waits for it, elsewhere");
}
