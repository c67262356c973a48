//! Every line in the log of a process with several nodes says which node it is about. In a process of
//! its own: `tracing` remembers for every place whether anybody wants its lines, and the threads of other
//! tests, which want none, would be asked as well.

#![cfg(feature = "node")]

use std::{
    cell::RefCell,
    collections::HashMap,
    io, mem,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use paxos_core::{
    Node,
    port::StateMachine,
    types::{Membership, Slot},
};
use paxos_storage::MemoryStorage;
use paxos_transport::MemoryNetwork;
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};

thread_local! {
    /// The spans that this thread is in.
    static INSIDE: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// Remembers each line's message, and of which node the span is in which it was written.
#[derive(Clone, Default)]
struct Log(Arc<Inner>);

#[derive(Default)]
struct Inner {
    spans: AtomicU64,
    nodes: Mutex<HashMap<u64, u64>>,
    lines: Mutex<Vec<(Option<u64>, String)>>,
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("paxos_core") || metadata.target() == module_path!()
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let span = self.0.spans.fetch_add(1, Ordering::Relaxed) + 1;
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let node = fields.id.expect("the spans are the nodes'");
        self.0.nodes.lock().expect("no panic").insert(span, node);
        Id::from_u64(span)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let span = INSIDE.with_borrow(|inside| inside.last().copied());
        let nodes = self.0.nodes.lock().expect("no panic");
        let node = span.and_then(|span| nodes.get(&span).copied());
        self.0.lines.lock().expect("no panic").push((node, fields.message));
    }

    fn enter(&self, span: &Id) {
        INSIDE.with_borrow_mut(|inside| inside.push(span.into_u64()));
    }

    fn exit(&self, _: &Id) {
        INSIDE.with_borrow_mut(|inside| inside.pop());
    }
}

#[derive(Default)]
struct Fields {
    id: Option<u64>,
    message: String,
}

impl Visit for Fields {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "id" {
            self.id = Some(value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        }
    }
}

/// Sleeps for as many milliseconds as it is told, and says so.
struct Talker;

impl StateMachine for Talker {
    type Command = u64;
    type Response = ();
    type Snapshot = ();

    fn apply(&mut self, _: Slot, commands: Vec<u64>) -> Vec<()> {
        let talk = |millis| {
            tracing::info!("applied");
            thread::sleep(Duration::from_millis(millis));
        };
        commands.into_iter().map(talk).collect()
    }

    fn snapshot(&self) {}

    fn restore(&mut self, _: Slot, _state: ()) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_node_is_named_by_its_lines_whatever_thread_and_task_they_come_from() {
    let log = Log::default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_time()
        .on_thread_start({
            let log = log.clone();
            // For as long as the thread lives.
            move || mem::forget(tracing::subscriber::set_default(log.clone()))
        })
        .build()
        .expect("threads");
    let ends = runtime.spawn(async {
        let node = Node::builder(1, Membership::new([(1, "node-1")]).expect("a membership"))
            .storage(MemoryStorage::new())
            .transport(MemoryNetwork::new(1).join(1))
            .start(Talker)
            .await
            .expect("the node starts");
        // Rescued from the first, back in the driver's turn, rescued from the third; the last one is
        // done on a thread of its own.
        for millis in [300, 0, 300, 0] {
            node.propose(millis).await.expect("a response");
        }
        node.shutdown().await.expect("a clean end");
    });
    runtime.block_on(ends).expect("no panic");
    let lines = log.0.lines.lock().expect("no panic");
    let of = |text: &str| lines.iter().filter(|(_, line)| line.starts_with(text)).count();
    // A busy machine may stop the process for as long as a heartbeat.
    assert!(of("applied") == 4 && of("the state machine blocks") >= 2, "{lines:?}");
    let nameless: Vec<_> = lines.iter().filter(|(node, _)| *node != Some(1)).collect();
    assert!(nameless.iter().all(|(_, line)| line == "recovered"), "{nameless:?}");
}
