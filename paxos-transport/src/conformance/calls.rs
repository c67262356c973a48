//! What one call of `send` and `poll_recv` promises.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use paxos_core::{
    message::{Lane, Message},
    port::{Event, Transport},
    types::NodeId,
};

use super::harness::{
    Bind, Node, accept, bound, close, cluster, deliver, identity, poll, pulled, value, within,
};

/// How long to wait for what was sent before sending it again.
const AGAIN: Duration = Duration::from_millis(200);

/// How often.
const ROUNDS_MAX: u64 = 100;

/// One call reaches each of its recipients with everything in it, each lane in the order of the
/// call, and leaves the vector empty, with its capacity.
pub(super) async fn sends_to_several_in_order<T: Transport>(bind: &impl Bind<T>) {
    let nodes = cluster(bind, 3).await;
    for to in &nodes[1..] {
        deliver(&nodes[0], to, &[poll(0), accept(1, value(0)), pulled(0, value(0))]).await;
    }
    // Strangers among the recipients are passed over.
    let to = [NodeId(99), NodeId(2), NodeId(3), NodeId(1)];
    let mut round = 0;
    let mut missing = vec![&nodes[1], &nodes[2]];
    let all = async {
        while !missing.is_empty() {
            round += 1;
            assert!(round <= ROUNDS_MAX, "9: one call reaches all its recipients, in order");
            let sent = call_of_round(round);
            let mut messages = sent.clone();
            let capacity = messages.capacity();
            nodes[0].transport.send(&to, &mut messages);
            assert!(messages.is_empty(), "send leaves the vector empty");
            assert!(messages.capacity() >= capacity, "send leaves the vector its capacity");
            let mut late = Vec::new();
            for node in missing.drain(..) {
                if !arrives(node, &sent).await {
                    late.push(node);
                }
            }
            missing = late;
        }
    };
    within("guarantee 2: messages arrive between connected nodes", all).await;
    close(nodes).await;
}

/// Ten messages of each lane, small ones and larger ones; all together as much as has to keep its order.
fn call_of_round(round: u64) -> Vec<Message> {
    let numbers = round * 100..round * 100 + 10;
    let size =
        |number: u64| value(if number.is_multiple_of(5) { 10_000 } else { number as usize % 50 });
    numbers
        .flat_map(|number| {
            let slot = number + 1;
            [poll(number), accept(slot, size(number)), pulled(number, size(number))]
        })
        .collect()
}

/// Whether all of `sent` come in, before long, and in each lane in order. One call may be lost or cut
/// into parts that overtake each other; a transport that never keeps the order fails in the end.
async fn arrives<T: Transport>(node: &Node<T>, sent: &[Message]) -> bool {
    let mut arrived = Vec::new();
    while let Ok(event) = tokio::time::timeout(AGAIN, node.event()).await {
        let Event::Message { message, .. } = event else { continue };
        if sent.contains(&message) {
            arrived.push(message);
        }
        if arrived.len() == sent.len() {
            break;
        }
    }
    [Lane::Control, Lane::Log, Lane::Bulk].into_iter().all(|lane| {
        let of_lane = |messages: &[Message]| -> Vec<Message> {
            messages.iter().filter(|message| message.lane() == lane).cloned().collect()
        };
        of_lane(&arrived) == of_lane(sent)
    })
}

/// Many in one call, the limit as it is given, and everything in the end; what was in the vector
/// stays.
pub(super) async fn takes_what_has_arrived_up_to_the_limit<T: Transport>(bind: &impl Bind<T>) {
    const COUNT: u64 = 100;
    let nodes = cluster(bind, 2).await;
    deliver(&nodes[0], &nodes[1], &[poll(0)]).await;
    let mut round = 0;
    let all = async {
        let mut most = 0;
        while most < 7 {
            round += 1;
            assert!(round <= ROUNDS_MAX, "10: many messages come out in one call");
            let numbers = round * 1000..round * 1000 + COUNT;
            nodes[0].transport.send(&[NodeId(2)], &mut numbers.clone().map(poll).collect());
            let mark = Event::Refused { peer: None, reason: "what was there".to_owned() };
            let mut events = vec![mark.clone()];
            let mut seen = 0;
            while seen < COUNT {
                let before = events.len();
                let taken = poll_fn(|cx| nodes[1].transport.poll_recv(cx, &mut events, 7));
                let Ok(taken) = tokio::time::timeout(AGAIN, taken).await else { break };
                assert!((1..=7).contains(&taken), "10: {taken} events at a limit of 7");
                assert_eq!(events.len(), before + taken, "10: as many as it says, at the end");
                assert_eq!(events[0], mark, "10: what was in the vector stays");
                seen = events.iter().filter(|event| is_poll(event, &numbers)).count() as u64;
                most = most.max(taken);
            }
        }
    };
    within("guarantee 2: messages arrive between connected nodes", all).await;
    close(nodes).await;
}

fn is_poll(event: &Event, numbers: &std::ops::Range<u64>) -> bool {
    let Event::Message { message: Message::Poll(poll), .. } = event else { return false };
    numbers.contains(&poll.number)
}

/// Knows whether it was woken.
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A task whose `poll_recv` was pending is woken once something arrives: the one that polled last.
pub(super) async fn wakes_whoever_waits<T: Transport>(bind: &impl Bind<T>) {
    let nodes = cluster(bind, 2).await;
    deliver(&nodes[0], &nodes[1], &[poll(0)]).await;
    let first = Arc::new(Flag(AtomicBool::new(false)));
    let last = Arc::new(Flag(AtomicBool::new(false)));
    let mut events = Vec::new();
    for flag in [&first, &last] {
        let waker = Waker::from(flag.clone());
        // What `deliver` has sent again may still come in.
        while nodes[1]
            .transport
            .poll_recv(&mut Context::from_waker(&waker), &mut events, 1)
            .is_ready()
        {}
    }
    let woken = async {
        let mut number = 1;
        while !last.0.load(Ordering::SeqCst) {
            nodes[0].send(NodeId(2), poll(number));
            number += 1;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    within("10: a task that waits is woken when something arrives", woken).await;
    let waker = Waker::from(last);
    let polled = nodes[1].transport.poll_recv(&mut Context::from_waker(&waker), &mut events, 1);
    assert_eq!(polled, Poll::Ready(1), "10: what woke a task is there");
    close(nodes).await;
}

/// Zero is said after `close`, at once and again, and to those who wait already.
pub(super) async fn says_nothing_more_after_close<T: Transport>(bind: &impl Bind<T>) {
    let node = bound(bind, identity(1)).await;
    node.start(Vec::new()).await;
    let flag = Arc::new(Flag(AtomicBool::new(false)));
    let waker = Waker::from(flag.clone());
    let mut cx = Context::from_waker(&waker);
    let mut events = Vec::new();
    let waiting = node.transport.poll_recv(&mut cx, &mut events, 1);
    assert_eq!(waiting, Poll::Pending, "nothing has happened");
    within("close", node.transport.close()).await;
    assert!(flag.0.load(Ordering::SeqCst), "10: close wakes whoever waits");
    for _ in 0..2 {
        let ended = node.transport.poll_recv(&mut cx, &mut events, 1);
        assert_eq!((ended, events.len()), (Poll::Ready(0), 0), "10: after close");
    }
    let mut messages = vec![poll(1)];
    node.transport.send(&[NodeId(2)], &mut messages);
    assert!(messages.is_empty(), "9: send leaves the vector empty, after close too");
}
