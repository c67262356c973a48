//! A node whose data directory was put back from an older copy finds commands of its own in the log that it
//! knows nothing of.

use super::{
    alone::{self, Alone, heartbeat, sent_to},
    installing::{install_with, sessions},
    *,
};
use crate::types::{BatchBuilder, ClientId};

/// A request of this node in a life that it knows nothing of.
const LATER: u64 = 9;

fn own(epoch: u64, sequence: u64) -> RequestId {
    RequestId { client: ClientId { name: 1, epoch }, sequence }
}

/// The leader has had slots chosen, from the first on, each with one command; returns what comes of it.
fn choose(alone: &mut Alone, requests: &[RequestId]) -> Effects {
    let (mut chosen, mut last) = (Watermark::default(), Effects::default());
    for (slot, id) in (1..).map(Slot).zip(requests) {
        let mut builder = BatchBuilder::default();
        builder.push(*id, 1, Bytes::from_static(b"x"));
        let value = Value::Batch(builder.build().expect("a command"));
        let hash = crate::replica::learner::chain(chosen.hash, slot, &value);
        chosen = Watermark { slot, hash };
        last = alone
            .hear(2, Message::Accept(Accept { ballot: alone::ballot(1), slot, value, chosen }));
    }
    last
}

/// What has gone to the leader: under which name, and which numbers.
fn proposed(effects: &Effects) -> Vec<(ClientId, Vec<u64>)> {
    let sent = sent_to(effects, 2).into_iter();
    sent.filter_map(|message| match message {
        Message::Propose(propose) => {
            Some((propose.client, propose.commands.iter().map(|(sequence, _)| *sequence).collect()))
        }
        _ => None,
    })
    .collect()
}

fn is_older_copy(alone: &Alone) -> bool {
    alone.replica.status(alone.now).is_older_copy
}

/// Under the name they had nothing comes of them any more, and nobody waits in vain.
#[test]
fn what_it_has_proposed_goes_again_under_a_name_that_nobody_has_used() {
    let mut alone = Alone::following(|_| {});
    alone.propose(own(1, 1), 1);
    alone.propose(own(1, 2), 1);
    assert!(!is_older_copy(&alone));
    let effects = choose(&mut alone, &[own(LATER, 5)]);
    let client = alone.replica.client();
    assert!(client.epoch > LATER && client.epoch <= LATER + limits::INCARNATION_STEP_MAX);
    assert_eq!(proposed(&effects), [(client, vec![1, 2])]);
    assert!(is_older_copy(&alone));
    assert_eq!(alone.answers(), []);
    choose(&mut alone, &[own(LATER, 5), RequestId { client, sequence: 1 }]);
    alone.step(Input::Applied { slot: Slot(2), durable: None });
    assert_eq!(alone.answers(), [(own(1, 1), Outcome::Applied { slot: Slot(2), index: 0 })]);
    assert_eq!(alone.replica.client(), client, "it is its own life that it has seen");
}

#[test]
fn what_was_delivered_before_it_noticed_is_answered() {
    let mut alone = Alone::following(|_| {});
    alone.propose(own(1, 1), 1);
    alone.propose(own(1, 2), 1);
    choose(&mut alone, &[own(1, 1), own(LATER, 1)]);
    alone.step(Input::Applied { slot: Slot(2), durable: None });
    assert_eq!(alone.answers(), [(own(1, 1), Outcome::Applied { slot: Slot(1), index: 0 })]);
    let client = alone.replica.client();
    choose(&mut alone, &[own(1, 1), own(LATER, 1), RequestId { client, sequence: 1 }]);
    alone.step(Input::Applied { slot: Slot(3), durable: None });
    assert_eq!(alone.answers(), [(own(1, 2), Outcome::Applied { slot: Slot(3), index: 0 })]);
}

#[test]
fn it_notices_in_a_checkpoint_too_its_own_or_one_of_a_peer() {
    let table = sessions(&[own(LATER, 1)]);
    let alone = Alone::new(|_, recovered| {
        recovered.checkpoint.at = Watermark { slot: Slot(5), hash: 0 };
        recovered.checkpoint.sessions = table.encode();
        (recovered.chosen, recovered.floor) = (recovered.checkpoint.at, Slot(5));
    });
    assert!(is_older_copy(&alone) && alone.replica.client().epoch > LATER);

    let mut alone = Alone::new(|_, _| {});
    install_with(&mut alone, &table);
    assert!(is_older_copy(&alone) && alone.replica.client().epoch > LATER);
    alone.hear(2, heartbeat(5));
}

/// Incarnations grow by chance, so this life's may be above that of the one that followed the copy.
#[test]
fn a_life_that_the_directory_knows_nothing_of_is_noticed_whatever_its_number() {
    for (epoch, is_noticed) in [(6, false), (7, true), (11, true), (12, false)] {
        let mut alone = Alone::new(|_, recovered| {
            (recovered.last_incarnation, recovered.incarnation) = (6, 12);
        });
        alone.hear(2, heartbeat(0));
        choose(&mut alone, &[own(epoch, 1)]);
        assert_eq!(is_older_copy(&alone), is_noticed, "{epoch}");
        assert_eq!(alone.replica.client(), ClientId { name: 1, epoch: 12 });
    }
}
