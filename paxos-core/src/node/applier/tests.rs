use std::{
    io,
    sync::{Arc, mpsc},
};

use bytes::Bytes;

use super::*;
use crate::{
    node::{error::ReadError, request::PendingRead},
    port::Compact,
    types::{BatchBuilder, ClientId, Instant, RequestId},
};

/// Adds up what it is given, and remembers in which slots.
#[derive(Default)]
struct Sum {
    total: u64,
    slots: Vec<u64>,
    recovered: Slot,
    forgets_responses: bool,
    has_failed: bool,
}

impl StateMachine for Sum {
    type Command = u64;
    type Response = u64;
    type Snapshot = (u64, Vec<u64>);

    fn apply(&mut self, slot: Slot, commands: Vec<u64>) -> Vec<u64> {
        self.slots.push(slot.0);
        let responses = commands.into_iter().map(|command| {
            assert_ne!(command, 666, "a command that it does not like");
            self.total += command;
            self.total
        });
        let responses: Vec<_> = responses.collect();
        if self.forgets_responses || self.has_failed { Vec::new() } else { responses }
    }

    fn failure(&self) -> Option<String> {
        self.has_failed.then(|| "its disk is broken".to_owned())
    }

    fn durable(&self) -> Option<Slot> {
        Some(self.recovered)
    }

    fn snapshot(&self) -> (u64, Vec<u64>) {
        (self.total, self.slots.clone())
    }

    fn restore(&mut self, _: Slot, state: (u64, Vec<u64>)) -> io::Result<()> {
        (self.total, self.slots) = state;
        Ok(())
    }
}

fn delivery(slot: u64, commands: &[Bytes], verdicts: &[Verdict]) -> Delivery {
    let mut builder = BatchBuilder::default();
    for (sequence, command) in (1..).zip(commands) {
        let client = ClientId { name: 1, epoch: 1 };
        builder.push(RequestId { client, sequence }, 1, command.clone());
    }
    let value = Value::Batch(builder.build().expect("some commands"));
    let verdicts =
        verdicts.iter().enumerate().map(|(index, verdict)| (index..index + 1, *verdict)).collect();
    Delivery { slot: Slot(slot), value, verdicts }
}

fn encoded(command: &u64) -> Bytes {
    command.encode().expect("a number")
}

fn fresh(slot: u64, commands: &[u64]) -> Delivery {
    let commands: Vec<_> = commands.iter().map(encoded).collect();
    delivery(slot, &commands, &vec![Verdict::Fresh; commands.len()])
}

type Done = (Result<Option<Position>, NodeError>, VecDeque<Responses<u64>>);

/// The storage has a state as of every slot: the number of the slot, three times.
fn applier_of(state_machine: Sum) -> Applier<Sum> {
    let open_state = |Slot(slot): Slot| (slot * 3, vec![slot]).into_reader().expect("in memory");
    Applier::new(NodeKey::new(), state_machine, Box::new(open_state))
}

/// A read that nobody waits for.
struct Reading<F>(F);

impl<F: Fn(&Sum) + Send + Sync> PendingRead<Sum> for Reading<F> {
    fn run(&self, state: &Sum) {
        self.0(state);
    }

    fn is_awaited(&self) -> bool {
        false
    }

    fn refuse(&self, _: ReadError) {}

    fn abandon(&self) {}
}

fn read(read: impl Fn(&Sum) + Send + Sync + 'static) -> Read<Sum> {
    Read { deadline: Instant::ZERO, task: Arc::new(Reading(read)) }
}

fn work(applier: &mut Applier<Sum>, deliveries: Vec<Delivery>, reads: Vec<Read<Sum>>) -> Done {
    let tasks = deliveries.into_iter().map(Task::Apply).collect();
    let mut results = Results::default();
    let done = applier.work(&mut Work { tasks, reads }, &mut results);
    (done, results.responses)
}

fn position(applied: u64, durable: u64) -> Result<Option<Position>, NodeError> {
    Ok(Some(Position { applied: Slot(applied), durable: Some(Slot(durable)) }))
}

#[test]
fn commands_are_applied_before_the_reads_behind_them() {
    let (reply, seen) = mpsc::channel();
    let read = read(move |state| reply.send(state.total).expect("the test waits"));
    let mut applier = applier_of(Sum::default());
    let noop = Delivery { slot: Slot(2), value: Value::Noop, verdicts: Default::default() };
    let (done, mut responses) =
        work(&mut applier, vec![fresh(1, &[3, 4]), noop, fresh(3, &[5])], vec![read]);
    assert_eq!((done, seen.try_recv()), (position(3, 0), Ok(12)));
    let mut first = responses.pop_front().expect("of slot 1");
    assert_eq!((first.take(0, false), first.take(1, false)), (Ok(Ok(3)), Ok(Ok(7))));
    let mut last = responses.pop_front().expect("of slot 3: a noop has none");
    assert_eq!((last.slot(), last.take(0, false)), (Slot(3), Ok(Ok(12))));
    assert_eq!(applier.state_machine.slots, [1, 3]);
}

/// Whoever waits for the second command and the last gets their responses and no other's.
#[test]
fn responses_are_given_by_the_place_of_the_command_in_the_batch() {
    // In the right format, and not a number.
    let garbage = "x".to_owned().encode().expect("a text");
    let commands = [encoded(&1), encoded(&2), garbage, encoded(&4), encoded(&8)];
    let verdicts =
        [Verdict::Duplicate, Verdict::Fresh, Verdict::Fresh, Verdict::Expired, Verdict::Fresh];
    let mut applier = applier_of(Sum::default());
    let (done, mut responses) =
        work(&mut applier, vec![delivery(1, &commands, &verdicts)], Vec::new());
    assert_eq!(done, position(1, 0));
    let mut responses = responses.pop_front().expect("of slot 1");
    assert_eq!(responses.take(1, false), Ok(Ok(2)));
    assert_eq!(responses.take(2, false), Ok(Err(ProposeError::Malformed)));
    assert_eq!(responses.take(4, false), Ok(Ok(10)), "what does not decode has no effect");
}

/// What others have applied, or this node before it was built anew, would be missing.
#[test]
fn a_command_in_another_encoding_stops_the_node() {
    let plain = Bytes::from(postcard::to_stdvec(&2u64).expect("a number"));
    for other in [plain, Compact(2u64).encode().expect("a number")] {
        let mut applier = applier_of(Sum::default());
        let chosen = delivery(1, &[encoded(&1), other], &[Verdict::Fresh; 2]);
        let (done, _) = work(&mut applier, vec![chosen], Vec::new());
        let NodeError::OtherFormat { slot, index, reason } =
            done.expect_err("no number is left out")
        else {
            panic!("another reason");
        };
        assert_eq!((slot, index), (Slot(1), 1));
        assert!(matches!(reason, CodecError::OtherFormat { .. }), "{reason}");
        assert_eq!(applier.state_machine.total, 0);
    }
}

/// Its command is a number, behind the version that it is of: 1, so far.
#[derive(Default)]
struct Versioned {
    total: u64,
}

struct VersionedNumber(u32, u64);

impl Codec for VersionedNumber {
    fn encode(&self) -> Result<Bytes, CodecError> {
        Ok([&self.0.to_le_bytes()[..], &self.1.to_le_bytes()].concat().into())
    }

    fn decode(bytes: &[u8]) -> Result<VersionedNumber, CodecError> {
        let (version, number) = bytes.split_at(4);
        match u32::from_le_bytes(version.try_into().expect("four bytes")) {
            1 => Ok(VersionedNumber(1, number.iter().map(|byte| u64::from(*byte)).sum())),
            found => Err(CodecError::Newer { found, known: 1 }),
        }
    }
}

impl StateMachine for Versioned {
    type Command = VersionedNumber;
    type Response = u64;
    type Snapshot = ();

    fn apply(&mut self, _: Slot, commands: Vec<VersionedNumber>) -> Vec<u64> {
        let add = |command: VersionedNumber| {
            self.total += command.1;
            self.total
        };
        commands.into_iter().map(add).collect()
    }

    fn snapshot(&self) {}

    fn restore(&mut self, _: Slot, (): ()) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_command_of_a_newer_version_stops_the_node() {
    let open = Box::new(|_| Box::new(io::empty()) as Box<dyn io::Read + Send>);
    let mut applier = Applier::new(NodeKey::new(), Versioned::default(), open);
    let bytes = |version, number| VersionedNumber(version, number).encode().expect("infallible");
    let mut apply = |slot, commands: &[Bytes]| {
        let chosen = delivery(slot, commands, &vec![Verdict::Fresh; commands.len()]);
        let mut work = Work { tasks: vec![Task::Apply(chosen)], reads: Vec::new() };
        applier.work(&mut work, &mut Results::default())
    };
    apply(1, &[bytes(1, 5)]).expect("it is known");
    let error = apply(2, &[bytes(1, 1), bytes(2, 7)]).expect_err("it is not known");
    let NodeError::OtherFormat { slot, index, reason } = &error else { panic!("{error}") };
    assert_eq!((*slot, *index), (Slot(2), 1));
    assert_eq!(*reason, CodecError::Newer { found: 2, known: 1 });
    assert!(error.to_string().contains("start a newer version"), "{error}");
    assert_eq!(applier.state_machine.total, 5, "nothing of the slot is applied");
}

#[test]
fn what_a_durable_state_machine_has_applied_is_not_applied_again() {
    let mut applier = applier_of(Sum { total: 10, recovered: Slot(2), ..Sum::default() });
    let replayed = (1..=3).map(|slot| fresh(slot, &[1])).collect();
    let (done, mut responses) = work(&mut applier, replayed, Vec::new());
    assert_eq!((done, applier.state_machine.total), (position(3, 2), 11));
    // An embedder's client proposes again what was applied before the start.
    assert_eq!(responses[0].take(0, true), Ok(Err(ProposeError::AlreadyApplied)));
    // What this node has numbered since cannot be in such a slot.
    let ahead = Err(NodeError::StateMachineAhead { slot: Slot(2) });
    assert_eq!(responses[1].take(0, false), ahead);
    assert_eq!(responses[2].take(0, false), Ok(Ok(11)));
}

#[test]
fn a_state_machine_that_breaks_its_contract_or_panics_is_told_on() {
    let mut applier = applier_of(Sum { forgets_responses: true, ..Sum::default() });
    let (done, _) = work(&mut applier, vec![fresh(1, &[1, 2])], Vec::new());
    assert_eq!(done, Err(NodeError::Responses { slot: Slot(1), commands: 2, responses: 0 }));
    let (done, _) = work(&mut applier_of(Sum::default()), vec![fresh(1, &[666])], Vec::new());
    let Err(NodeError::Panicked { task: "state machine", message }) = done else {
        panic!("{done:?}");
    };
    assert!(message.contains("does not like"), "{message}");
}

#[test]
fn a_state_machine_that_fails_ends_the_work_in_its_own_words() {
    let mut applier = applier_of(Sum { has_failed: true, ..Sum::default() });
    let failed = NodeError::StateMachine("its disk is broken".to_owned());
    let read = read(|_| panic!("nobody reads what is broken"));
    let (done, responses) = work(&mut applier, vec![fresh(1, &[1])], vec![read]);
    assert_eq!((done, responses.len()), (Err(failed.clone()), 0));
    assert_eq!(applier.flush(), Err(failed));
}

/// A snapshot is as of the slot behind which it is taken, and a state takes the place of what was there;
/// unless that is as new.
#[test]
fn a_state_is_frozen_and_put_in_place_where_the_tasks_say() {
    for recovered in [0, 4, 5] {
        let mut applier = applier_of(Sum { recovered: Slot(recovered), ..Sum::default() });
        let tasks = vec![
            Task::Apply(fresh(1, &[1])),
            Task::Freeze(SnapshotId(7)),
            Task::Apply(fresh(2, &[1])),
            Task::Restore(Slot(5)),
            Task::Freeze(SnapshotId(8)),
            Task::Apply(fresh(6, &[1])),
        ];
        let mut results = Results::default();
        let done = applier.work(&mut Work { tasks, reads: Vec::new() }, &mut results);
        assert_eq!(done, position(6, recovered));
        let expected = match recovered {
            0 => [(SnapshotId(7), (1, vec![1])), (SnapshotId(8), (15, vec![5]))],
            4 => [(SnapshotId(7), (0, vec![])), (SnapshotId(8), (15, vec![5]))],
            _ => [(SnapshotId(7), (0, vec![])), (SnapshotId(8), (0, vec![]))],
        };
        assert_eq!(results.snapshots, expected, "durable up to {recovered}");
    }
}

#[test]
fn a_state_that_makes_no_sense_is_an_error_and_changes_nothing() {
    let open_state = |_| Box::new(io::Cursor::new([0xff_u8; 3])) as Box<dyn io::Read + Send>;
    let mut applier =
        Applier::new(NodeKey::new(), Sum { total: 3, ..Sum::default() }, Box::new(open_state));
    let work = &mut Work { tasks: vec![Task::Restore(Slot(5))], reads: Vec::new() };
    let done = applier.work(work, &mut Results::default());
    assert!(matches!(done, Err(NodeError::Restore { slot: Slot(5), .. })), "{done:?}");
    assert_eq!(applier.state_machine.total, 3);
}
