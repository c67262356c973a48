//! The record of a chosen slot stays as it is: whoever proposes for the slot again gets a vote, for
//! which nothing is written.

use super::{
    alone::{Alone, ballot, sent_to, value},
    *,
};

/// Hears node 2 propose for slot 3 at round 5, and writes whatever there is to write.
fn proposed_again(recovered_as: Ballot, chosen: u64) -> (Vec<Record>, Vec<Message>) {
    let mut alone = Alone::new(|_, recovered| {
        recovered.incarnation = 2;
        recovered.promised = ballot(4);
        recovered.chosen = Watermark { slot: Slot(chosen), hash: 7 };
        recovered.checkpoint.at.slot = Slot(chosen);
        if chosen < 3 {
            let record = Record { slot: Slot(3), ballot: recovered_as, value: value(1, 10) };
            recovered.records = vec![record];
        }
    });
    let chosen = Watermark::default();
    let accept = Accept { ballot: ballot(5), slot: Slot(3), value: value(1, 10), chosen };
    let effects = alone.hear(2, Message::Accept(accept));
    let written = effects.persist.map(|(_, batch)| batch.records).unwrap_or_default();
    (written, sent_to(&alone.persist(), 2))
}

#[test]
fn a_chosen_record_is_not_written_again() {
    let vote = [super::alone::accepted(ballot(5), 3)];
    let (written, sent) = proposed_again(Ballot::CHOSEN, 1);
    assert_eq!((written, &sent[..]), (vec![], &vote[..]), "learned, above the watermark");
    let (written, sent) = proposed_again(ballot(4), 3);
    assert_eq!((written, &sent[..]), (vec![], &vote[..]), "below the watermark");
    let (written, sent) = proposed_again(ballot(4), 1);
    assert_eq!((written.len(), &sent[..]), (1, &vote[..]), "a vote like any other");
}
