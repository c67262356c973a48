use std::time::Duration;

use super::*;
use crate::{
    config::Config,
    message::Watermark,
    replica::{membership::Memberships, outbox::Outbox},
    types::{Membership, Value},
};

/// A page is passed over if a correct acceptor cannot have sent it: the log has no room for what
/// a peer invents.
#[test]
fn a_page_that_nobody_sends_is_passed_over() {
    let ballot = Ballot { round: 5, node: NodeId(1) };
    let preparing = Preparing {
        ballot,
        from: Slot(3),
        pages: BTreeMap::new(),
        promisers: Promisers::default(),
        memberships: Vec::new(),
        adopted: Slot(2),
        reported: BTreeMap::new(),
        resend_at: Instant::ZERO,
        patience: Patience(Duration::ZERO),
        expires_at: Instant::ZERO,
    };
    let is_sound = |from, slots: &[u64], next: Option<u64>, chosen| {
        let record = |&slot| Record { slot: Slot(slot), ballot, value: Value::Noop };
        preparing.is_sound(&Promise {
            ballot,
            from: Slot(from),
            records: slots.iter().map(record).collect(),
            next: next.map(Slot),
            chosen: Slot(chosen),
            floor: Slot::ZERO,
        })
    };
    let ahead = limits::LOG_AHEAD_SLOTS_MAX;
    for (from, slots, next, chosen, expected) in [
        (3, &[][..], None, 0, true),
        (3, &[4, 7], Some(9), 0, true),
        (3, &[4, 4], None, 0, false),
        (3, &[7, 4], None, 0, false),
        (3, &[2, 4], None, 0, false),
        (3, &[], Some(3), 0, false),
        (3, &[3, 4, 6], None, 4, true),
        (3, &[4, 6], None, 4, false),
        (3, &[3, 5], None, 5, false),
        (3, &[3], Some(4), 5, true),
        (3, &[3], Some(5), 5, false),
        (3, &[3], Some(6), 5, false),
        (3, &[3], None, 5, false),
        (3, &[3, 4, 5], Some(7), 5, true),
        (3, &[3, 4, 7], None, 5, false),
        (3, &[], None, 3, false),
        (3, &[], None, 2, true),
        (3, &[], Some(4), 5, false),
        (3, &[3, 4, 4 + ahead], None, 4, true),
        (3, &[3, 4, 5 + ahead], None, 4, false),
        (3, &[3, 4], Some(4 + ahead), 4, true),
        (3, &[3, 4], Some(5 + ahead), 4, false),
        (u64::MAX, &[u64::MAX], None, u64::MAX, true),
    ] {
        let found = is_sound(from, slots, next, chosen);
        assert_eq!(found, expected, "{slots:?} from {from}, next {next:?}, chosen {chosen}");
    }
}

/// A candidate of three, with what it has adopted.
struct Candidate {
    preparing: Preparing,
    config: Config,
    memberships: Memberships,
    out: Outbox,
    adopted: Vec<u64>,
}

const BALLOT: Ballot = Ballot { round: 5, node: NodeId(1) };

/// A page with votes in these slots, or with what is chosen there.
fn page(
    from: u64,
    slots: std::ops::RangeInclusive<u64>,
    next: Option<u64>,
    chosen: u64,
) -> Promise {
    let ballot = Ballot { round: 1, node: NodeId(2) };
    let record = |slot| Record { slot: Slot(slot), ballot, value: Value::Noop };
    Promise {
        ballot: BALLOT,
        from: Slot(from),
        records: slots.map(record).collect(),
        next: next.map(Slot),
        chosen: Slot(chosen),
        floor: Slot::ZERO,
    }
}

impl Candidate {
    fn new() -> Candidate {
        let membership = Membership::new((1..=3).map(|id| (id, ""))).expect("three voters");
        let membership = membership.with_window(2).expect("a window");
        let config = Config::new(NodeId(1), membership.clone());
        let memberships = Memberships::new(NodeId(1), membership);
        let mut out = Outbox::new(&config, Watermark::default());
        let cx = &mut Context {
            now: Instant::ZERO,
            config: &config,
            memberships: &memberships,
            out: &mut out,
            rng: &mut fastrand::Rng::with_seed(1),
        };
        let preparing = Preparing::begin(BALLOT, Slot(1), Patience(limits::ELECTION_TIMEOUT), cx);
        Candidate { preparing, config, memberships, out, adopted: Vec::new() }
    }

    fn hear(&mut self, from: u64, page: Promise) -> PhaseOne {
        let cx = &mut Context {
            now: Instant::ZERO,
            config: &self.config,
            memberships: &self.memberships,
            out: &mut self.out,
            rng: &mut fastrand::Rng::with_seed(1),
        };
        let adopted = &mut self.adopted;
        let adopt = |slot: Slot, _, _: &mut Context<'_>| adopted.push(slot.0);
        let came_of_it = self.preparing.on_promise(NodeId(from), page, adopt, cx);
        assert!(self.preparing.keeps_undecided_alone());
        let (kept, kept_max) = self.preparing.kept();
        assert!(kept <= kept_max);
        came_of_it
    }

    /// As above, of a page that does not end it.
    fn waits(&mut self, from: u64, page: Promise) {
        let came_of_it = self.hear(from, page);
        assert!(matches!(came_of_it, PhaseOne::Waiting), "{came_of_it:?}");
    }

    /// Where the next page of an acceptor is to start.
    fn next(&self, acceptor: u64) -> Option<u64> {
        self.preparing.pages.get(&NodeId(acceptor)).map(|slot| slot.0)
    }

    /// What a quorum reports, when this page is the last one of it.
    fn elected(&mut self, from: u64, page: Promise) -> (u64, Vec<u64>) {
        let came_of_it = self.hear(from, page);
        let PhaseOne::Elected(reported) = came_of_it else { panic!("{came_of_it:?}") };
        (reported.chosen.0, reported.values.keys().map(|slot| slot.0).collect())
    }
}

/// Between two pages an acceptor may learn that what it reported as a vote is chosen.
#[test]
fn a_watermark_that_rises_between_two_pages_hides_nothing() {
    let mut candidate = Candidate::new();
    candidate.waits(2, page(1, 1..=1, Some(2), 0));
    candidate.waits(2, page(2, 2..=2, None, 2));
    let own = Promise { records: Vec::new(), ..page(1, 1..=1, None, 0) };
    assert_eq!(candidate.elected(1, own), (0, vec![1, 2]), "slot 1 was not adopted");
    assert_eq!(candidate.adopted, [0; 0], "slot 1 would have been left out");
}

/// However much a candidate has missed, it keeps what is undecided.
#[test]
fn what_is_adopted_is_not_kept() {
    let mut candidate = Candidate::new();
    for slot in 1..=1000 {
        candidate.waits(2, page(slot, slot..=slot, Some(slot + 1), 1000));
        assert_eq!(candidate.preparing.reported.len(), 0, "slot {slot} is adopted");
    }
    candidate.waits(3, page(1, 1..=3, Some(4), 9));
    assert_eq!(candidate.preparing.reported.len(), 0, "another has reported it");
    candidate.waits(2, page(1001, 1002..=1003, None, 1000));
    assert_eq!(candidate.adopted, (1..=1000).collect::<Vec<_>>(), "each once, without a hole");
    let own = page(1, 1..=2, None, 0);
    assert_eq!(candidate.elected(1, own), (1000, vec![1002, 1003]));
}

/// As long as none of an acceptor's pages has had a vote, what it has learned since is adopted too.
#[test]
fn a_watermark_that_rises_before_the_first_vote_counts() {
    let mut candidate = Candidate::new();
    candidate.waits(2, page(1, 1..=2, Some(3), 2));
    candidate.waits(2, page(3, 3..=5, None, 4));
    assert_eq!(candidate.adopted, [1, 2, 3, 4]);
    assert_eq!(candidate.elected(1, page(1, 1..=1, None, 0)), (4, vec![5]));
}

/// Then what it has learned would have to be kept, however much it is.
#[test]
fn an_acceptor_that_learns_much_between_two_pages_is_asked_again() {
    let ahead = Candidate::new().preparing.ahead_max();
    for (learned, expected) in [(1 + ahead, 4), (2 + ahead, 2)] {
        let mut candidate = Candidate::new();
        candidate.waits(2, page(1, 1..=2, Some(3), 1));
        candidate.waits(2, page(3, 3..=3, Some(4), learned));
        assert_eq!(candidate.next(2), Some(expected), "{learned} are chosen");
        candidate.waits(2, page(expected, expected..=learned + 1, None, learned));
        let own = Promise { records: Vec::new(), ..page(1, 1..=1, None, 0) };
        let adopted = if expected == 2 { learned } else { 1 };
        let rest = adopted + 1..=learned + 1;
        assert_eq!(candidate.elected(1, own), (adopted, rest.collect::<Vec<_>>()));
        assert_eq!(candidate.adopted, (1..=adopted).collect::<Vec<_>>());
    }
}
