use proptest::prelude::*;

use super::*;
use crate::{limits::SESSION_RANGES_KEPT, message::Watermark, types::BatchBuilder};

fn membership() -> Membership {
    Membership::new([(1, ""), (2, ""), (3, "")]).expect("three voters")
}

fn restore(checkpoint: &Checkpoint, bytes_max: usize) -> Result<SessionTable, SessionsError> {
    SessionTable::restore(checkpoint, &membership(), bytes_max)
}

fn table_of(bytes_max: usize) -> SessionTable {
    restore(&Checkpoint::default(), bytes_max).expect("empty")
}

fn table() -> SessionTable {
    table_of(limits::SESSIONS_BYTES_MAX)
}

fn checkpoint(slot: Slot, sessions: Bytes) -> Checkpoint {
    Checkpoint { at: Watermark { slot, hash: 0 }, sessions, state: None }
}

fn id(name: u64, epoch: u64, sequence: u64) -> RequestId {
    RequestId { client: ClientId { name, epoch }, sequence }
}

/// Verdicts on one slot with these requests, one by one.
fn verdicts(table: &mut SessionTable, requests: &[(RequestId, u64)]) -> Vec<Verdict> {
    let mut builder = BatchBuilder::default();
    for (id, open_from) in requests {
        builder.push(*id, *open_from, Bytes::new());
    }
    let batch = builder.build();
    let verdicts = table.take_in(table.slot().next(), batch.as_ref());
    verdicts.into_iter().flat_map(|(range, verdict)| range.map(move |_| verdict)).collect()
}

/// The verdict on a request by itself.
fn verdict(table: &mut SessionTable, id: RequestId) -> Verdict {
    verdicts(table, &[(id, 1)])[0]
}

/// Takes in every second request from 1 on, so many of them.
fn leave_holes(table: &mut SessionTable, name: u64, epoch: u64, requests: u64) {
    let odd: Vec<_> = (0..requests).map(|index| (id(name, epoch, 2 * index + 1), 1)).collect();
    assert!(odd.chunks(4096).all(|odd| {
        let verdicts = verdicts(table, odd);
        verdicts.iter().all(|verdict| *verdict == Verdict::Fresh)
    }));
}

#[test]
fn a_request_is_fresh_once() {
    let mut table = table();
    let request = [(id(1, 1, 5), 1)];
    assert_eq!(verdicts(&mut table, &request), [Verdict::Fresh]);
    assert_eq!(verdicts(&mut table, &request), [Verdict::Duplicate]);
    assert!(table.is_settled(id(1, 1, 5)) && !table.is_settled(id(1, 1, 4)));
}

#[test]
fn settled_requests_and_older_lives_are_expired() {
    let mut table = table();
    assert_eq!(verdicts(&mut table, &[(id(1, 2, 9), 8)]), [Verdict::Fresh]);
    assert_eq!(verdicts(&mut table, &[(id(1, 2, 7), 1)]), [Verdict::Expired]);
    assert_eq!(verdicts(&mut table, &[(id(1, 1, 99), 1)]), [Verdict::Expired]);
    assert_eq!(verdicts(&mut table, &[(id(1, 3, 7), 1)]), [Verdict::Fresh]);
}

#[test]
fn beyond_the_window_nothing_can_be_remembered_and_nothing_is_applied() {
    let mut table = table();
    let far = 1 + limits::SESSION_WINDOW;
    assert_eq!(verdicts(&mut table, &[(id(1, 1, far), 1)]), [Verdict::Expired]);
    assert_eq!(verdicts(&mut table, &[(id(1, 1, far), 2)]), [Verdict::Fresh]);
}

#[test]
fn verdicts_are_given_on_ranges() {
    let mut table = table();
    let mut take_in = |ids: &[RequestId]| {
        let mut builder = BatchBuilder::default();
        ids.iter().for_each(|&id| builder.push(id, 1, Bytes::new()));
        table.take_in(table.slot().next(), builder.build().as_ref())
    };
    take_in(&[id(1, 1, 2)]);
    let expected = [(0..1, Verdict::Fresh), (1..2, Verdict::Duplicate), (2..4, Verdict::Fresh)];
    assert_eq!(take_in(&[1, 2, 3, 4].map(|sequence| id(1, 1, sequence)))[..], expected);
    let of_the_past = [1, 2, 3].map(|sequence| id(1000, 0, sequence));
    let expected = [(0..1, Verdict::Fresh), (1..4, Verdict::Expired), (4..5, Verdict::Fresh)];
    let [first, second, third] = of_the_past;
    assert_eq!(take_in(&[id(1, 1, 9), first, second, third, id(2, 1, 1)])[..], expected);
}

#[test]
fn settling_forgets_what_is_below_and_nothing_else() {
    let mut table = table();
    let done: Vec<_> = (5..10).map(|sequence| (id(1, 1, sequence), 1)).collect();
    verdicts(&mut table, &done);
    assert_eq!(verdicts(&mut table, &[(id(1, 1, 8), 7)]), [Verdict::Duplicate]);
    assert_eq!(table.refusal(id(1, 1, 6)), Some(Refusal::Expired));
    assert_eq!(table.refusal(id(1, 1, 4)), Some(Refusal::Expired), "done or not");
    assert_eq!(table.refusal(id(1, 1, 9)), Some(Refusal::AlreadyApplied));
    assert_eq!(table.refusal(id(1, 1, 10)), None);
    let far = 10 + limits::SESSION_WINDOW;
    assert_eq!(verdicts(&mut table, &[(id(1, 1, far), 10)]), [Verdict::Expired]);
    assert_eq!(table.clients.sessions[&1].ranges(), 0, "all of it is settled");
}

/// Neither by its size nor by that of all that it pretends to be.
#[test]
fn a_client_that_leaves_holes_takes_nothing_from_others() {
    let mut table = table();
    let (neighbour, kept) = (100, SESSION_RANGES_KEPT as u64);
    leave_holes(&mut table, neighbour, 1, kept);
    leave_holes(&mut table, 1, 1, limits::SESSION_WINDOW / 2);
    let node = table.clients.sessions[&1].clone();
    for name in 200..216 {
        leave_holes(&mut table, name, 1, limits::SESSION_WINDOW / 2);
        let len = table.encode().len();
        assert!(len <= ENCODED_BYTES_MAX, "{len} bytes");
    }
    assert!(table.bytes() > limits::SESSIONS_BYTES_MAX / 2, "no more than needed is forgotten");
    for sequence in 1..2 * kept {
        let expected = if sequence % 2 == 1 { Verdict::Duplicate } else { Verdict::Fresh };
        assert_eq!(verdict(&mut table, id(neighbour, 1, sequence)), expected, "{sequence}");
    }
    assert_eq!(table.clients.sessions[&1], node, "nor does it concern the nodes");
    for sequence in [1, 2] {
        assert_eq!(verdict(&mut table, id(200, 1, sequence)), Verdict::Expired);
        assert_eq!(table.refusal(id(200, 1, sequence)), Some(Refusal::Expired));
    }
    let last = limits::SESSION_WINDOW - 1;
    assert_eq!(verdict(&mut table, id(200, 1, last)), Verdict::Duplicate, "the latest stay");
    let restored = restore(&checkpoint(table.slot(), table.encode()), limits::SESSIONS_BYTES_MAX);
    assert_eq!(restored.as_ref(), Ok(&table));
}

#[test]
fn those_with_as_many_holes_pay_alike_and_those_with_few_pay_nothing() {
    let sizes = [20, 100, 100, 30];
    let most: usize = sizes.map(session::bytes).iter().sum();
    let mut table = table_of(most);
    for (name, requests) in (100..).zip(sizes) {
        leave_holes(&mut table, name, 1, requests as u64);
    }
    leave_holes(&mut table, 99, 1, 1);
    let ranges: Vec<_> = table.others().map(|(_, session)| session.ranges()).collect();
    let [1, 20, level, other_level, 30] = ranges[..] else { panic!("{ranges:?}") };
    assert_eq!(level, other_level);
    assert!(table.bytes() <= most - most / 16 && level > 60, "{} bytes", table.bytes());
}

#[test]
fn the_clients_unused_for_longest_are_forgotten_and_stay_so() {
    let mut table = table();
    let clients = limits::SESSIONS_BYTES_MAX / session::bytes(1) + 1;
    for client in 1..=clients as u64 {
        assert_eq!(verdict(&mut table, id(1000 + client, client, 1)), Verdict::Fresh);
        assert_eq!(verdict(&mut table, id(2, 1, client)), Verdict::Fresh, "a node's own");
        if client % 1000 == 0 {
            assert_eq!(verdict(&mut table, id(1001, 1, 1)), Verdict::Duplicate, "it is in use");
        }
    }
    let left: Vec<_> = table.others().map(|(name, _)| name).collect();
    assert!(left.len() > 5000, "{} clients", left.len());
    assert_eq!(left[0], 1001);
    let forgotten = left[1] - 1;
    for (name, epoch) in [(1002, 2), (forgotten, forgotten - 1000), (9999, 1)] {
        assert_eq!(table.refusal(id(name, epoch, 1)), Some(Refusal::Expired), "{name}");
        assert!(!table.are_open(id(name, epoch, 1).client, &(1..2)));
        assert_eq!(verdict(&mut table, id(name, epoch, 1)), Verdict::Expired, "{name}");
    }
    let next = forgotten - 999;
    for request in [id(forgotten, next, 1), id(9999, next, 1), id(3, 1, 1)] {
        assert_eq!(table.refusal(request), None);
        assert!(table.are_open(request.client, &(1..2)));
        assert_eq!(verdict(&mut table, request), Verdict::Fresh);
    }
}

/// Whatever its numbers, a session takes up no more than is counted.
#[test]
fn no_session_takes_up_more_than_is_counted() {
    let window = limits::SESSION_WINDOW;
    for begin in [1, 1 << 35, u64::MAX - 2 * window] {
        for (gap, len) in [(1, 1), (1, 2), (127, 1), (128, 128), (1, 128), (1, 20_000)] {
            let mut session = Session::new(u64::MAX);
            let mut first = begin;
            while first + len <= begin + window {
                let count = u32::try_from(len).expect("small");
                let client = ClientId { name: u64::MAX, epoch: u64::MAX };
                let run = Run { client, first, count, open_from: begin };
                session.take_in(Slot(u64::MAX), &run, |_, verdict| {
                    assert_eq!(verdict, Verdict::Fresh);
                });
                first += len + gap;
            }
            let encoded = postcard::to_stdvec(&(u64::MAX, &session)).expect("plain data").len();
            let (ranges, counted) = (session.ranges(), session.bytes());
            assert!(encoded <= counted, "{ranges} ranges: {encoded} bytes, {counted} counted");
            assert!(counted <= session::BYTES_MAX);
        }
    }
}

/// What damage or somebody's malice has made does not get in.
#[test]
fn a_table_that_nobody_can_have_is_refused() {
    let bytes_max = limits::SESSIONS_BYTES_MAX;
    let refused = |clients: &Clients| {
        let encoded = postcard::to_stdvec(clients).expect("plain data").into();
        let restored = restore(&checkpoint(Slot(9), encoded), bytes_max);
        restored == Err(SessionsError { slot: Slot(9) })
    };
    let mut of_one = table_of(bytes_max);
    leave_holes(&mut of_one, 100, 1, 3);
    let sound = of_one.clients;
    assert!(!refused(&sound));
    let session = &sound.sessions[&100];
    let count = (bytes_max / session.bytes()) as u64;
    let many = |count| {
        let sessions = (100..100 + count).map(|name| (name, session.clone())).collect();
        Clients { sessions, ..sound.clone() }
    };
    assert!(!refused(&many(count)) && refused(&many(count + 1)));
    assert!(refused(&many(100 * count)), "not even decoded");
    assert!(refused(&Clients { bytes_max: bytes_max - 1, ..sound.clone() }), "of other settings");
    let with = |session: Session| Clients { sessions: [(100, session)].into(), ..sound.clone() };
    assert!(refused(&with(Session { last_used: Slot(10), ..session.clone() })));
    for (sequence, open_from, is_refused) in [
        (limits::SESSION_WINDOW, 1, false),
        (limits::SESSION_WINDOW + 1, 2, false),
        (limits::SESSION_WINDOW + 1, 1, true),
        (1, 1, false),
        (1, 2, true),
    ] {
        let mut session = Session { open_from, ..Session::new(1) };
        session.done.insert(sequence..sequence + 1);
        let clients = with(session);
        assert_eq!(refused(&clients), is_refused, "{sequence} of those from {open_from} on");
    }
}

/// The rule as it is written, without a thought for the time it takes.
#[derive(Default)]
struct Plain {
    bytes_max: usize,
    /// Epoch, lowest unsettled request, requests done, and slot of the last use.
    sessions: BTreeMap<u64, (u64, u64, BTreeSet<u64>, Slot)>,
    forgotten_epoch: u64,
}

fn ranges(done: &BTreeSet<u64>) -> usize {
    done.iter().filter(|number| !done.contains(&(*number - 1))).count()
}

impl Plain {
    fn take_in(&mut self, slot: Slot, run: &Run) -> Vec<Verdict> {
        let ClientId { name, epoch } = run.client;
        let known = self.sessions.get(&name).map(|session| session.0);
        if known > Some(epoch) || known.is_none() && name > 3 && epoch <= self.forgotten_epoch {
            return vec![Verdict::Expired; run.count as usize];
        }
        if known < Some(epoch) {
            self.sessions.insert(name, (epoch, 1, BTreeSet::new(), slot));
        }
        let (_, open_from, done, last_used) = self.sessions.get_mut(&name).expect("it is there");
        *last_used = slot;
        *open_from = run.open_from.max(*open_from);
        let verdict = |sequence| {
            if sequence < *open_from {
                Verdict::Expired
            } else if done.insert(sequence) {
                Verdict::Fresh
            } else {
                Verdict::Duplicate
            }
        };
        let verdicts = (run.first..run.end()).map(verdict).collect();
        done.retain(|sequence| sequence >= open_from);
        if name > 3 && self.bytes() > self.bytes_max {
            self.make_room();
        }
        verdicts
    }

    fn bytes(&self) -> usize {
        self.sessions.range(4..).map(|(_, session)| session::bytes(ranges(&session.2))).sum()
    }

    fn make_room(&mut self) {
        let target = self.bytes_max - self.bytes_max / 16;
        while self.bytes() > target {
            let others = self.sessions.range_mut(4..);
            let most = others.map(|(_, session)| ranges(&session.2)).max().expect("some");
            if most <= SESSION_RANGES_KEPT {
                let by_use = self.sessions.range(4..).min_by_key(|(_, session)| session.3);
                let name = *by_use.expect("some").0;
                let (epoch, ..) = self.sessions.remove(&name).expect("it is there");
                self.forgotten_epoch = self.forgotten_epoch.max(epoch);
                continue;
            }
            for (_, (_, open_from, done, _)) in self.sessions.range_mut(4..) {
                if ranges(done) == most {
                    let lowest = *done.first().expect("a range");
                    let end = (lowest..).find(|number| !done.contains(number)).expect("an end");
                    *open_from = end;
                    done.retain(|number| *number >= end);
                }
            }
        }
    }
}

proptest! {
    /// Ranges, settling and making room agree with remembering every request and with the rule in the
    /// plainest words; nothing has its effect twice, and a checkpoint loses nothing.
    #[test]
    fn agrees_with_a_plain_model(
        bytes_max in prop::sample::select(vec![1, 150, 300, 500, 800, limits::SESSIONS_BYTES_MAX]),
        slots in prop::collection::vec(
            prop::collection::vec((1..8u64, 1..3u64, 1..120u64, 0..40u64), 0..30), 1..30,
        ),
    ) {
        let mut table = table_of(bytes_max);
        let mut plain = Plain { bytes_max, ..Plain::default() };
        let mut effects = BTreeSet::new();
        for requests in slots {
            let requests: Vec<_> = requests
                .into_iter()
                .map(|(name, epoch, sequence, back)| {
                    // Mostly nothing is settled, as by embedders' clients.
                    let open_from = if back < 6 { sequence.saturating_sub(back * 8).max(1) } else { 1 };
                    (id(name, epoch, sequence), open_from)
                })
                .collect();
            let mut builder = BatchBuilder::default();
            requests.iter().for_each(|(id, open_from)| builder.push(*id, *open_from, Bytes::new()));
            let batch = builder.build();
            let slot = table.slot().next();
            let runs = batch.iter().flat_map(Batch::runs);
            let expected: Vec<_> = runs.flat_map(|run| plain.take_in(slot, run)).collect();
            let found = verdicts(&mut table, &requests);
            prop_assert_eq!(&found, &expected);
            for ((id, _), verdict) in requests.iter().zip(found) {
                prop_assert!(verdict != Verdict::Fresh || effects.insert(*id), "{} twice", id);
            }
            prop_assert_eq!(table.bytes(), plain.bytes());
            prop_assert!(table.bytes() <= bytes_max);
            let encoded = table.encode();
            prop_assert!(encoded.len() <= table.encoded_bytes_max());
            let restored = restore(&checkpoint(table.slot(), encoded), bytes_max);
            prop_assert_eq!(restored.as_ref(), Ok(&table));
        }
    }
}
