//! The costs that a command's time is made of, one by one. The crate's front page explains the
//! figures.

mod setup;

use std::{
    hint::black_box,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use paxos_bench::{HarnessError, Laps, Payload, Solo, Trio, matrix::IN_FLIGHT};
use paxos_core::{
    Config,
    limits::{SESSION_WINDOW, VOTERS_MAX},
    message::{Accept, Message, Pulled, Record, Watermark},
    port::{Storage, Transport, Write, WriteBatch},
    types::{
        Ballot, BatchBuilder, ClientId, ClusterId, Identity, Membership, NodeId, Peer, RequestId,
        Slot, StoreId, Value,
    },
};
use paxos_storage::MemoryStorage;
use paxos_transport::{MemoryNetwork, MemoryTransport};
use setup::group;
use tokio::runtime::{Builder, Runtime};

/// The size of a command in bytes, and how ids name it.
const SIZE: (usize, &str) = (256, "256B");

/// Commands of a batch in group `sessions`, and the clients that they are from.
const COMMANDS: usize = 1024;
const CLIENTS: [usize; 3] = [1, 64, 1024];

/// Messages of a call, records of a write.
const AT_ONCE: [usize; 2] = [1, 64];

/// Calls that are timed together, so that to look at the clock costs them nothing.
const SLICE: u64 = 64;

/// Slots after which a storage is given the first one again: its log ends.
const SLOTS: u64 = 4096;

fn main() -> Result<(), HarnessError> {
    setup::run(&[step, sessions, checkpoint, codec, transport, storage])
}

/// A command.
fn command() -> Bytes {
    Payload::of_size(SIZE.0).content().clone()
}

/// A batch to which each client contributes as many commands, its next ones after `before`.
fn batch(clients: usize, before: u64, commands: usize, command: &Bytes) -> Value {
    let mut builder = BatchBuilder::with_capacity(commands, commands * command.len());
    // Names apart from those of the nodes.
    for name in (100..).take(clients) {
        let client = ClientId { name, epoch: 1 };
        for sequence in (before + 1..).take(commands / clients) {
            builder.push(RequestId { client, sequence }, before + 1, command);
        }
    }
    Value::Batch(builder.build().expect("it has commands"))
}

fn accept(value: Value) -> Message {
    let (ballot, slot) = (Ballot { round: 1, node: NodeId(1) }, Slot(7));
    Message::Accept(Accept { ballot, slot, value, chosen: Watermark::default() })
}

/// What a replica does for a batch.
fn step(criterion: &mut Criterion) -> Result<(), HarnessError> {
    let mut group = group(criterion, "step", SamplingMode::Auto);
    let command = command();
    for role in ["leader", "follower"] {
        let lap = |laps: Laps| if role == "leader" { laps.leader } else { laps.follower };
        for commands in IN_FLIGHT {
            let mut trio = Trio::elected()?;
            group.throughput(Throughput::Elements(commands as u64));
            let id = BenchmarkId::new(format!("{role}/{}", SIZE.1), commands);
            group.bench_function(id, |bencher| {
                bencher.iter_custom(|rounds| {
                    let round = |_| lap(trio.round(&command, commands).expect("a leader leads"));
                    (0..rounds).map(round).sum()
                });
            });
        }
    }
    group.finish();
    Ok(())
}

/// What at-most-once costs a follower, as a part of the delivery of a batch.
fn sessions(criterion: &mut Criterion) -> Result<(), HarnessError> {
    let mut group = group(criterion, "sessions", SamplingMode::Auto);
    group.throughput(Throughput::Elements(COMMANDS as u64));
    // As small as may be, so that to hash and to count them is little.
    let command = Bytes::from_static(b"command");
    for kind in ["fresh", "duplicate"] {
        for clients in CLIENTS {
            let mut follower = Solo::cluster(3)?.pop().expect("three");
            let share = (COMMANDS / clients) as u64;
            let (mut slot, mut before) = (Slot::ZERO, 0);
            let mut round = || {
                // A slot that somebody knows to be chosen, as one that was missed.
                let value = batch(clients, before, COMMANDS, &command);
                if kind == "fresh" {
                    before += share;
                }
                slot = slot.next();
                let values = vec![(slot, value)];
                let pulled = Pulled { number: 0, values, chosen: slot, floor: Slot::ZERO };
                follower.receive(NodeId(1), Message::Pulled(pulled));
                let begun = Instant::now();
                follower.turn().expect("chosen is chosen");
                let time = begun.elapsed();
                (time, follower.take_applied().commands)
            };
            round();
            let expected = if kind == "fresh" { COMMANDS as u64 } else { 0 };
            assert_eq!(round().1, expected, "the requests are {kind}");
            group.bench_function(BenchmarkId::new(kind, clients), |bencher| {
                bencher.iter_custom(|rounds| (0..rounds).map(|_| round().0).sum());
            });
        }
    }
    group.finish();
    Ok(())
}

/// What a checkpoint costs in a driver's turn: to encode the session table. It is empty, or as large as it
/// gets: nine nodes and others have left out every second request, for as long as that is remembered.
fn checkpoint(criterion: &mut Criterion) -> Result<(), HarnessError> {
    let mut group = group(criterion, "checkpoint", SamplingMode::Auto);
    for (table, clients) in [("empty", 0), ("full", VOTERS_MAX as u64 + 8)] {
        let voters = (1..=VOTERS_MAX as u64).map(|id| (id, format!("node-{id}")));
        let config = Config::new(NodeId(1), Membership::new(voters)?);
        let mut follower = Solo::with(Config { checkpoint_slots: 1, ..config })?;
        let mut slot = Slot::ZERO;
        let mut turn = |value| {
            slot = slot.next();
            let values = vec![(slot, value)];
            let pulled = Pulled { number: 0, values, chosen: slot, floor: Slot::ZERO };
            follower.receive(NodeId(2), Message::Pulled(pulled));
            let begun = Instant::now();
            follower.turn().expect("chosen is chosen");
            begun.elapsed()
        };
        for name in (1..=VOTERS_MAX as u64).chain(100..).take(clients as usize) {
            let client = ClientId { name, epoch: 1 };
            let odd: Vec<_> = (1..SESSION_WINDOW).step_by(2).collect();
            for sequences in odd.chunks(COMMANDS) {
                let mut builder = BatchBuilder::default();
                for &sequence in sequences {
                    builder.push(RequestId { client, sequence }, 1, b"");
                }
                turn(Value::Batch(builder.build().expect("it has commands")));
            }
        }
        group.bench_function(table, |bencher| {
            bencher.iter_custom(|rounds| (0..rounds).map(|_| turn(Value::Noop)).sum());
        });
    }
    group.finish();
    Ok(())
}

/// From values and messages to bytes, and back.
fn codec(criterion: &mut Criterion) -> Result<(), HarnessError> {
    let mut group = group(criterion, "codec", SamplingMode::Auto);
    let (command, size) = (command(), SIZE.1);
    for commands in IN_FLIGHT {
        group.throughput(Throughput::Elements(commands as u64));
        let value = batch(1, 0, commands, &command);
        let message = accept(value.clone());
        let frame: Bytes = message.encode().parts().flatten().copied().collect();
        let id = |what: &str| BenchmarkId::new(format!("{what}/{size}"), commands);
        group.bench_function(id("encode-value"), |bencher| {
            bencher.iter(|| batch(1, 0, commands, black_box(&command)));
        });
        group.bench_function(id("decode-value"), |bencher| {
            let encoded = value.encoded();
            bencher.iter(|| Value::decode(black_box(encoded.clone())).expect("our own"));
        });
        group.bench_function(id("encode-accept"), |bencher| {
            bencher.iter(|| black_box(&message).encode());
        });
        group.bench_function(id("decode-accept"), |bencher| {
            bencher.iter(|| Message::decode(black_box(frame.clone())).expect("our own"));
        });
    }
    group.finish();
    Ok(())
}

/// Times `rounds` calls, so many at a time.
fn in_slices(rounds: u64, mut slice: impl FnMut(u64) -> Duration) -> Duration {
    let whole: Duration = (0..rounds / SLICE).map(|_| slice(SLICE)).sum();
    whole + slice(rounds % SLICE)
}

fn runtime() -> Result<Runtime, HarnessError> {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.map_err(|source| HarnessError::Io { operation: "start a runtime", source })
}

/// From a sender to the inboxes of its receivers, and out of one.
fn transport(criterion: &mut Criterion) -> Result<(), HarnessError> {
    let mut group = group(criterion, "transport", SamplingMode::Auto);
    let runtime = runtime()?;
    let nodes = runtime.block_on(neighbours())?;
    let _inside = runtime.enter();
    let [sender, receivers @ ..] = &nodes[..] else { unreachable!("three") };
    let message = accept(batch(1, 0, 1, &command()));
    let lists = |calls: u64, messages: usize| -> Vec<Vec<Message>> {
        (0..calls).map(|_| vec![message.clone(); messages]).collect()
    };
    for messages in AT_ONCE {
        group.throughput(Throughput::Elements(messages as u64));
        for to in [&[NodeId(2)][..], &[NodeId(2), NodeId(3)]] {
            let id = format!("memory/send-to-{}/{}", to.len(), SIZE.1);
            group.bench_function(BenchmarkId::new(id, messages), |bencher| {
                let slice = |calls| {
                    let mut lists = lists(calls, messages);
                    let begun = Instant::now();
                    for list in &mut lists {
                        sender.send(to, list);
                    }
                    let time = begun.elapsed();
                    for receiver in &receivers[..to.len()] {
                        receive(receiver, calls, messages);
                    }
                    time
                };
                bencher.iter_custom(|rounds| in_slices(rounds, slice));
            });
        }
        let id = BenchmarkId::new(format!("memory/receive/{}", SIZE.1), messages);
        group.bench_function(id, |bencher| {
            let slice = |calls| {
                for mut list in lists(calls, messages) {
                    sender.send(&[NodeId(2)], &mut list);
                }
                receive(&receivers[0], calls, messages)
            };
            bencher.iter_custom(|rounds| in_slices(rounds, slice));
        });
    }
    group.finish();
    Ok(())
}

/// Three nodes' transports, which have met.
async fn neighbours() -> Result<Vec<MemoryTransport>, HarnessError> {
    let network = MemoryNetwork::new(0);
    let nodes: Vec<_> = (1..=3_u64).map(|id| network.join(id)).collect();
    let peers = (1..=3).zip(&nodes).map(|(id, node)| {
        let (address, store) = (node.address().to_owned(), None);
        Peer { id: NodeId(id), address, store }
    });
    let peers: Vec<_> = peers.collect();
    for (id, node) in (1..).zip(&nodes) {
        let identity = Identity { cluster: ClusterId(1), node: NodeId(id), store: StoreId(id) };
        let others = peers.iter().filter(|peer| peer.id.0 != id).cloned().collect();
        node.start(identity, others).await?;
    }
    for node in &nodes {
        // That they have met is an event, too.
        let mut events = Vec::new();
        let context = &mut Context::from_waker(Waker::noop());
        while node.poll_recv(context, &mut events, 1).is_ready() {}
    }
    Ok(nodes)
}

/// Takes in what has been sent by so many calls, and times it.
fn receive(node: &MemoryTransport, calls: u64, messages: usize) -> Duration {
    let mut events = Vec::with_capacity(calls as usize * messages);
    let context = &mut Context::from_waker(Waker::noop());
    let begun = Instant::now();
    for _ in 0..calls {
        let taken = node.poll_recv(context, &mut events, messages);
        assert_eq!(taken, Poll::Ready(messages), "nothing is dropped");
    }
    begun.elapsed()
}

/// A write that is durable at once.
fn storage(criterion: &mut Criterion) -> Result<(), HarnessError> {
    let mut group = group(criterion, "storage", SamplingMode::Auto);
    let storage = MemoryStorage::new();
    runtime()?.block_on(storage.recover(ClusterId(1), NodeId(1)))?;
    let value = batch(1, 0, 1, &command());
    let ballot = Ballot { round: 1, node: NodeId(1) };
    let mut slots = (1..=SLOTS).cycle().map(Slot);
    for records in AT_ONCE {
        group.throughput(Throughput::Elements(records as u64));
        let id = BenchmarkId::new(format!("memory/write/{}", SIZE.1), records);
        group.bench_function(id, |bencher| {
            let mut slice = |calls| {
                let mut write = || {
                    let record = |slot| Record { slot, ballot, value: value.clone() };
                    let records = slots.by_ref().take(records).map(record).collect();
                    WriteBatch { records, ..WriteBatch::default() }
                };
                let batches: Vec<_> = (0..calls).map(|_| write()).collect();
                let begun = Instant::now();
                for batch in batches {
                    let write = storage.write(batch);
                    assert!(matches!(write, Write::Done(Ok(()))), "{write:?}");
                }
                begun.elapsed()
            };
            bencher.iter_custom(|rounds| in_slices(rounds, &mut slice));
        });
    }
    group.finish();
    Ok(())
}
