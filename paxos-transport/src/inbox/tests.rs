use std::{
    future::poll_fn,
    sync::Arc,
    task::{Wake, Waker},
};

use paxos_core::{
    message::{Poll as PollMessage, Propose, Pull},
    types::{ClientId, Slot, StoreId},
};

use super::*;

const SENDER: NodeId = NodeId(2);

fn poll(number: u64) -> Message {
    Message::Poll(PollMessage { number, chosen: Slot::ZERO, leave: None })
}

/// A message of the log lane.
fn propose(bytes: usize) -> Message {
    let commands = vec![(1, vec![0; bytes].into())];
    Message::Propose(Propose { client: ClientId::default(), open_from: 1, commands, hops: 0 })
}

/// What is there, at most `limit`.
fn taken(inbox: &Inbox, limit: usize) -> Vec<Event> {
    let mut events = Vec::new();
    let _ = inbox.poll_recv(&mut Context::from_waker(Waker::noop()), &mut events, limit);
    events
}

/// Puts messages in, for want of room only some of them, and says how many are left over.
fn put(inbox: &Inbox, from: NodeId, messages: impl IntoIterator<Item = Message>) -> usize {
    let mut left_over = 0;
    let mut queues = inbox.queues();
    for message in messages {
        match queues.admit(from, message) {
            Ok(letter) => queues.put(letter),
            Err(_) => left_over += 1,
        }
    }
    wake(queues);
    left_over
}

fn waiting(inbox: &Inbox) -> usize {
    inbox.queues().waiting.values().flatten().map(|level| level.bytes).sum()
}

#[test]
fn news_come_first_and_lanes_by_urgency() {
    let inbox = Inbox::default();
    let bulk = Message::Pull(Pull { number: 1, from: Slot(1), to: Slot(1) });
    put(&inbox, SENDER, [bulk.clone(), propose(1), poll(1), poll(2)]);
    let met = Event::Met { peer: SENDER, store: StoreId(1) };
    inbox.report(met.clone());
    let letters = [poll(1), poll(2), propose(1), bulk];
    let letters = letters.map(|message| Event::Message { from: SENDER, message });
    let expected: Vec<_> = [met].into_iter().chain(letters).collect();
    assert_eq!([taken(&inbox, 2), taken(&inbox, 1), taken(&inbox, 9)].concat(), expected);
    assert_eq!(waiting(&inbox), 0, "every byte was given back");
}

#[test]
fn a_full_lane_of_a_sender_takes_nothing_from_others() {
    let inbox = Inbox::default();
    let large = || propose(12 << 20);
    assert_eq!(put(&inbox, SENDER, (0..5).map(|_| large())), 2, "three of them are 36 MiB");
    assert_eq!(put(&inbox, SENDER, [poll(1)]), 0, "another lane");
    assert_eq!(put(&inbox, NodeId(3), [large()]), 0, "another sender");
    assert_eq!(taken(&inbox, 2).len(), 2);
    assert_eq!(put(&inbox, SENDER, [large(), large()]), 1, "room for the one that was taken out");
    assert_eq!(taken(&inbox, 9).len(), 4);
    assert_eq!(waiting(&inbox), 0);
}

#[cfg(any(feature = "tcp", feature = "quic"))]
#[tokio::test]
async fn whoever_finds_no_room_waits_for_it() {
    let inbox = Inbox::default();
    let mut messages: VecDeque<_> = (0..9).map(|_| propose(8 << 20)).collect();
    let receive = async {
        let mut events = Vec::new();
        while events.len() < 9 {
            poll_fn(|cx| inbox.poll_recv(cx, &mut events, 2)).await;
        }
    };
    tokio::join!(inbox.deliver(SENDER, &mut messages, None), receive);
    assert!(messages.is_empty());
    assert_eq!(waiting(&inbox), 0);
}

/// Polls once.
#[cfg(any(feature = "tcp", feature = "quic"))]
fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    std::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Across all connections, which know nothing of each other.
#[cfg(any(feature = "tcp", feature = "quic"))]
#[tokio::test]
async fn what_is_being_read_counts_and_stands_in_line() {
    const LARGE: usize = 24 << 20;
    let inbox = Arc::new(Inbox::default());
    let reserve = |bytes| Box::pin(inbox.reserve(SENDER, Lane::Log, bytes));
    let first = reserve(LARGE).await;
    let second = reserve(LARGE).await;
    assert_eq!(waiting(&inbox), 2 * LARGE);
    let (mut third, mut fourth) = (reserve(LARGE), reserve(1));
    assert!(poll_once(&mut third).is_pending(), "no room");
    assert!(poll_once(&mut fourth).is_pending(), "behind the third");
    assert_eq!(put(&inbox, SENDER, [propose(1)]), 1, "so is what is small");
    assert_eq!(put(&inbox, NodeId(3), [propose(1)]), 0, "another sender");
    drop(second);
    assert!(poll_once(&mut fourth).is_pending(), "behind the third");
    let Poll::Ready(third) = poll_once(&mut third) else { panic!("there is room") };
    assert!(poll_once(&mut fourth).is_pending(), "no room");
    let mut read = [propose(LARGE - 1000), propose(1)].into();
    assert!(inbox.redeem(first, &mut read).is_none());
    assert_eq!(read.len(), 1, "for one alone");
    assert_eq!(taken(&inbox, 9).len(), 2);
    let Poll::Ready(fourth) = poll_once(&mut fourth) else { panic!("there is room") };
    assert_eq!(put(&inbox, SENDER, [propose(1)]), 0, "nobody stands in line");
    let held = inbox.redeem(third, &mut [poll(1)].into()).expect("not for another lane");
    drop((held, fourth));
    taken(&inbox, 9);
    assert_eq!(waiting(&inbox), 0);
}

#[cfg(any(feature = "tcp", feature = "quic"))]
#[tokio::test]
async fn whoever_leaves_the_line_or_finds_it_closed_holds_nobody_up() {
    let inbox = Arc::new(Inbox::default());
    let reserve = |bytes| Box::pin(inbox.reserve(SENDER, Lane::Log, bytes));
    let whole = reserve(48 << 20).await;
    let (mut second, mut third) = (reserve(48 << 20), reserve(1));
    assert!(poll_once(&mut second).is_pending() && poll_once(&mut third).is_pending());
    drop((whole, second));
    let third = third.await;
    let mut last = reserve(48 << 20);
    assert!(poll_once(&mut last).is_pending());
    inbox.close();
    drop((last.await, third));
    assert_eq!(waiting(&inbox), 0);
}

struct Count(Mutex<usize>);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        *self.0.lock().expect("no panic") += 1;
    }
}

#[test]
fn whoever_waits_is_woken_once() {
    let inbox = Inbox::default();
    let count = Arc::new(Count(Mutex::new(0)));
    let waker = Waker::from(count.clone());
    let mut cx = Context::from_waker(&waker);
    assert!(inbox.poll_recv(&mut cx, &mut Vec::new(), 1).is_pending());
    assert!(inbox.poll_recv(&mut cx, &mut Vec::new(), 1).is_pending());
    put(&inbox, SENDER, (0..10).map(poll));
    put(&inbox, SENDER, [poll(10)]);
    assert_eq!(*count.0.lock().expect("no panic"), 1);
    assert_eq!(taken(&inbox, 100).len(), 11);
}

#[tokio::test]
async fn a_closed_inbox_keeps_nothing() {
    let inbox = Inbox::default();
    put(&inbox, SENDER, [poll(1)]);
    inbox.close();
    inbox.report(Event::Met { peer: SENDER, store: StoreId(1) });
    #[cfg(any(feature = "tcp", feature = "quic"))]
    inbox.deliver(SENDER, &mut [poll(2)].into(), None).await;
    #[cfg(feature = "memory")]
    inbox.offer(SENDER, [poll(3)].into_iter());
    let mut events = Vec::new();
    assert_eq!(poll_fn(|cx| inbox.poll_recv(cx, &mut events, 9)).await, 0);
    assert_eq!((events.len(), waiting(&inbox)), (0, 0));
}

#[test]
fn a_loss_is_reported_once_and_behind_all_that_has_come_before() {
    let inbox = Inbox::default();
    put(&inbox, SENDER, [propose(1), poll(1)]);
    put(&inbox, NodeId(3), [propose(2)]);
    inbox.lose(SENDER);
    inbox.lose(SENDER);
    let letter = |from, message| Event::Message { from, message };
    assert_eq!(taken(&inbox, 1), [letter(SENDER, poll(1))]);
    assert_eq!(taken(&inbox, 1), [letter(SENDER, propose(1))]);
    let lost = Event::Lost { peer: SENDER };
    assert_eq!(taken(&inbox, 9), [letter(NodeId(3), propose(2)), lost]);
    assert_eq!(taken(&inbox, 9), []);
}

/// A large message that was about to come may have been the last that the peer has said.
#[cfg(any(feature = "tcp", feature = "quic"))]
#[tokio::test]
async fn a_loss_waits_for_what_is_being_read() {
    let inbox = Arc::new(Inbox::default());
    let reservation = inbox.reserve(SENDER, Lane::Log, 1000).await;
    inbox.lose(SENDER);
    assert_eq!(taken(&inbox, 9), []);
    let (mut events, reader) = (Vec::new(), inbox.clone());
    let next = poll_fn(|cx| reader.poll_recv(cx, &mut events, 9));
    tokio::join!(next, async { drop(reservation) });
    assert_eq!(events, [Event::Lost { peer: SENDER }]);
}

#[test]
fn refusals_are_bounded_and_meetings_are_kept() {
    let inbox = Inbox::default();
    for _ in 0..NEWS_MAX * 2 {
        inbox.report(Event::Refused { peer: None, reason: String::new() });
    }
    inbox.report(Event::Met { peer: NodeId(2), store: StoreId(1) });
    assert_eq!(inbox.queues().news.len(), NEWS_MAX + 1);
}
