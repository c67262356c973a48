//! What left memory is read back from the disk: once for whoever wants it, and whole.

use super::{Config, Input, Instant, NodeId, Replica, Slot, Value, recovered};
use crate::{
    message::{Message, Pull, Record, Watermark},
    port::Recovered,
    replica::{Effects, Halt, LogReadId},
    types::{Ballot, Membership},
};

/// Knows three slots to be chosen and has none of them in memory.
fn restarted() -> (Replica, Effects) {
    let membership = Membership::new([(1, ""), (2, ""), (3, "")]).expect("three");
    let config = Config::new(NodeId(1), membership);
    let chosen = Watermark { slot: Slot(3), hash: 7 };
    let recovered = Recovered { chosen, incarnation: 2, ..recovered(NodeId(1)) };
    let mut replica = Replica::new(config, recovered, None, Instant::ZERO).expect("sound");
    let effects = replica.step(Instant::ZERO, Input::Tick);
    (replica, effects)
}

fn record(slot: u64) -> Record {
    Record { slot: Slot(slot), ballot: Ballot::CHOSEN, value: Value::Noop }
}

#[test]
fn a_record_that_is_missing_halts_the_node() {
    for (slots, lost) in [(vec![], 1), (vec![2, 3], 1), (vec![1, 3], 2)] {
        let (mut replica, effects) = restarted();
        let id = effects.log_reads.first().expect("it reads what it has to deliver").id;
        let records = slots.iter().copied().map(record).collect();
        let effects = replica.step(Instant::ZERO, Input::LogRead { id, records });
        assert_eq!(effects.halt, Some(Halt::Lost { slot: Slot(lost) }), "from {slots:?}");
        assert_eq!(effects.tasks, []);
    }
}

#[test]
fn a_piece_of_the_log_is_read_once_for_each_who_wants_it() {
    let (mut replica, effects) = restarted();
    assert_eq!(effects.log_reads.len(), 1, "to deliver");
    let mut pull = |peer, number| {
        let message = Message::Pull(Pull { number, from: Slot(1), to: Slot(3) });
        let from = NodeId(peer);
        let effects = replica.step(Instant::ZERO, Input::Message { from, message });
        effects.log_reads.iter().map(|read| read.id).collect::<Vec<LogReadId>>()
    };
    let first = pull(2, 1);
    assert_eq!(first.len(), 1);
    assert_eq!(pull(2, 2), [], "the same peer again");
    assert_eq!(pull(3, 1).len(), 1);
    let records = || (1..=3).map(record).collect();
    let effects = replica.step(Instant::ZERO, Input::LogRead { id: first[0], records: records() });
    assert!(matches!(effects.send[..], [(NodeId(2), Message::Pulled(_))]), "{effects:?}");
    let effects = replica.step(Instant::ZERO, Input::LogRead { id: first[0], records: records() });
    assert_eq!(effects.send, [], "an answer counts once");
}

#[test]
fn a_peer_gets_no_more_than_it_asked_for() {
    let (mut replica, _) = restarted();
    let message = Message::Pull(Pull { number: 1, from: Slot(1), to: Slot(2) });
    let effects = replica.step(Instant::ZERO, Input::Message { from: NodeId(2), message });
    let id = effects.log_reads.first().expect("it is on disk").id;
    let records = (1..=3).map(record).collect();
    let effects = replica.step(Instant::ZERO, Input::LogRead { id, records });
    let [(_, Message::Pulled(pulled))] = &effects.send[..] else { panic!("{effects:?}") };
    assert_eq!(pulled.values, [(Slot(1), Value::Noop), (Slot(2), Value::Noop)]);
}
