use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const PATIENCE: Duration = Duration::from_millis(10);

fn at(millis: u64) -> Instant {
    Instant::from_origin(Duration::from_millis(millis))
}

fn entry(deadline: u64) -> OpenCommand<u64> {
    let command = Bytes::from_static(b"command");
    OpenCommand { command, waiter: deadline, deadline: at(deadline), is_delivered: false }
}

/// A window with these commands open, in the order in which they came.
fn window(sequences: &[u64]) -> Window<u64> {
    let mut window = Window::new(ClientId { name: 1, epoch: 1 }, 1);
    for &sequence in sequences {
        window.insert(sequence, entry(1000));
    }
    window
}

fn answer(window: &mut Window<u64>, sequence: u64) {
    assert!(window.take_if(sequence, |_| true).is_some(), "{sequence} is open");
    window.trim();
}

fn deliver(window: &mut Window<u64>, sequence: u64) {
    window.get_mut(sequence).expect("open").is_delivered = true;
}

fn undelivered(window: &Window<u64>, range: Range<u64>) -> Vec<u64> {
    window.undelivered(range).map(|(sequence, _)| sequence).collect()
}

/// All that is due at this time, each with whether it has gone before.
fn all_due(window: &mut Window<u64>, millis: u64) -> Vec<(Range<u64>, bool)> {
    std::iter::from_fn(|| window.next_due(at(millis), PATIENCE)).collect()
}

#[test]
fn a_window_reaches_from_the_first_open_command_to_the_last() {
    for (sequences, reach) in
        [(&[1, 2, 3][..], 1..4), (&[5], 5..6), (&[5, 8], 5..9), (&[5, 8, 3], 3..9), (&[2, 1], 1..3)]
    {
        let window = window(sequences);
        assert_eq!(window.first()..window.end(), reach, "{sequences:?}");
        assert_eq!(window.spread() as u64, reach.end - reach.start, "{sequences:?}");
        for sequence in 0..10 {
            assert_eq!(window.contains(sequence), sequences.contains(&sequence), "{sequence}");
        }
    }
}

#[test]
fn the_spread_is_known_before_a_command_is_taken() {
    assert_eq!(window(&[]).spread_with(700), 1);
    for (sequence, spread) in [(5, 3), (6, 3), (9, 5), (2, 6)] {
        assert_eq!(window(&[5, 7]).spread_with(sequence), spread, "{sequence}");
    }
}

#[test]
fn answered_commands_keep_their_places_until_those_below_are_answered() {
    let mut window = window(&[4, 5, 6, 9]);
    answer(&mut window, 5);
    assert_eq!((window.first(), window.spread()), (4, 6));
    answer(&mut window, 4);
    assert_eq!((window.first(), window.spread()), (6, 4));
    answer(&mut window, 9);
    assert_eq!((window.first(), window.end()), (6, 10), "numbers are not given twice");
    answer(&mut window, 6);
    assert_eq!((window.first(), window.end(), window.spread()), (10, 10, 0));
}

#[test]
fn what_is_not_delivered_is_found_within_any_range() {
    let mut window = window(&[4, 5, 7, 8]);
    deliver(&mut window, 5);
    for (range, found) in [
        (0..99, &[4, 7, 8][..]),
        (5..8, &[7]),
        (0..4, &[]),
        (9..99, &[]),
        (4..5, &[4]),
        (6..6, &[]),
    ] {
        assert_eq!(undelivered(&window, range.clone()), found, "{range:?}");
    }
}

#[test]
fn commands_go_once_then_the_new_ones_and_again_after_a_while() {
    let mut window = window(&[1, 2]);
    assert_eq!(all_due(&mut window, 0), [(1..3, false)]);
    window.insert(3, entry(1000));
    assert_eq!(all_due(&mut window, 4), [(3..4, false)]);
    assert_eq!(window.first_sent_at(), Some(at(0)));
    assert_eq!(all_due(&mut window, 9), []);
    window.insert(4, entry(1000));
    assert_eq!(all_due(&mut window, 10), [(1..3, true), (4..5, false)], "the oldest first");
    assert_eq!(all_due(&mut window, 14), [(3..4, true)]);
    deliver(&mut window, 1);
    deliver(&mut window, 2);
    assert_eq!(window.first_sent_at(), Some(at(10)), "nobody has looked yet");
    assert_eq!(all_due(&mut window, 20), [(1..3, true), (4..5, true)]);
    assert_eq!(window.first_sent_at(), Some(at(14)), "what is delivered does not go again");
}

#[test]
fn a_command_below_those_that_have_gone_takes_them_along() {
    let mut window = window(&[5, 6]);
    assert_eq!(all_due(&mut window, 0), [(5..7, false)]);
    window.insert(3, entry(1000));
    assert_eq!(all_due(&mut window, 1), [(3..7, false)]);
}

#[test]
fn everything_goes_again_to_another_leader() {
    let mut window = window(&[1, 2, 3]);
    assert_eq!(all_due(&mut window, 0), [(1..4, false)]);
    answer(&mut window, 1);
    window.forget_sent();
    assert_eq!(window.first_sent_at(), None);
    assert_eq!(all_due(&mut window, 1), [(2..4, false)]);
}

/// The state machine may be stuck: who waits for a delivered command waits no longer either.
#[test]
fn deadlines_end_delivered_or_not() {
    let mut window = window(&[]);
    for (sequence, deadline) in [(1, 30), (2, 10), (3, 20), (4, 20)] {
        window.insert(sequence, entry(deadline));
    }
    deliver(&mut window, 3);
    let mut expired = Vec::new();
    let mut expire = |millis| window.expire(at(millis), |entry| expired.push(entry.waiter));
    assert_eq!(expire(9), Some(at(10)));
    assert_eq!(expire(20), Some(at(30)));
    assert_eq!(expire(30), None);
    assert_eq!(expired, [10, 20, 20, 30]);
}

#[derive(Clone, Debug)]
enum Action {
    Insert { sequence: u64, lasts: u64 },
    Deliver(u64),
    Answer(u64),
    Send,
    NewLeader,
    Pass(u64),
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let sequence = || 1..24_u64;
    let action = prop_oneof![
        4 => (sequence(), 1..60_u64).prop_map(|(sequence, lasts)| Action::Insert { sequence, lasts }),
        2 => sequence().prop_map(Action::Deliver),
        2 => sequence().prop_map(Action::Answer),
        2 => Just(Action::Send),
        1 => Just(Action::NewLeader),
        2 => (1..8_u64).prop_map(Action::Pass),
    ];
    prop::collection::vec(action, 1..80)
}

/// An open command, as a plain map keeps it.
#[derive(Debug)]
struct Plain {
    deadline: u64,
    is_delivered: bool,
    /// When it went to the present leader last.
    sent: Option<u64>,
}

/// Sends what is due: everything that has to go goes.
fn send(window: &mut Window<u64>, plain: &mut BTreeMap<u64, Plain>, now: u64) {
    let has_to_go = |command: &Plain| {
        let is_due = command.sent.is_none_or(|sent| at(sent).after(PATIENCE) <= at(now));
        !command.is_delivered && is_due
    };
    let due = plain.iter().filter(|(_, command)| has_to_go(command));
    let due: Vec<_> = due.map(|(&sequence, _)| sequence).collect();
    let mut gone = Vec::new();
    for (range, _) in all_due(window, now) {
        gone.extend(undelivered(window, range));
    }
    assert!(due.iter().all(|sequence| gone.contains(sequence)), "{due:?} in {gone:?}");
    for sequence in &gone {
        plain.get_mut(sequence).expect("open").sent = Some(now);
    }
}

fn perform(window: &mut Window<u64>, plain: &mut BTreeMap<u64, Plain>, now: u64, action: &Action) {
    match *action {
        Action::Insert { sequence, lasts } if !plain.contains_key(&sequence) => {
            let spread = window.spread_with(sequence);
            let deadline = now + lasts;
            window.insert(sequence, entry(deadline));
            assert_eq!(window.spread() as u64, spread);
            plain.insert(sequence, Plain { deadline, is_delivered: false, sent: None });
        }
        Action::Deliver(sequence) => {
            if let Some(command) = plain.get_mut(&sequence) {
                command.is_delivered = true;
                deliver(window, sequence);
            }
        }
        Action::Answer(sequence) => {
            let taken = window.take_if(sequence, |_| true).map(|entry| entry.waiter);
            assert_eq!(taken, plain.remove(&sequence).map(|command| command.deadline));
            window.trim();
        }
        Action::Send => send(window, plain, now),
        Action::NewLeader => {
            window.forget_sent();
            plain.values_mut().for_each(|command| command.sent = None);
        }
        Action::Insert { .. } | Action::Pass(_) => {}
    }
    let mut expired = Vec::new();
    let earliest = window.expire(at(now), |entry| expired.push(entry.waiter));
    window.trim();
    let late = plain.extract_if(.., |_, command| command.deadline <= now);
    assert_eq!(expired, late.map(|(_, command)| command.deadline).collect::<Vec<_>>());
    assert_eq!(earliest, plain.values().map(|command| at(command.deadline)).min());
}

proptest! {
    #[test]
    fn a_window_is_a_map_of_open_commands(actions in actions()) {
        let (mut window, mut plain, mut now) = (window(&[]), BTreeMap::new(), 0);
        for action in &actions {
            if let Action::Pass(millis) = action {
                now += millis;
            }
            perform(&mut window, &mut plain, now, action);
            let reach = plain.keys().next().copied().unwrap_or(window.end());
            prop_assert_eq!(window.first(), reach, "no place is kept below the first open one");
            prop_assert!(plain.keys().all(|&sequence| sequence < window.end()));
            for sequence in 0..30 {
                prop_assert_eq!(window.contains(sequence), plain.contains_key(&sequence));
            }
            let open = plain.iter().filter(|(_, command)| !command.is_delivered);
            let open: Vec<_> = open.map(|(&sequence, _)| sequence).collect();
            prop_assert_eq!(undelivered(&window, 0..99), open.clone());
            let waits_since = open.iter().filter_map(|sequence| plain[sequence].sent).min();
            let looks_at = window.first_sent_at();
            prop_assert!(waits_since.is_none_or(|sent| looks_at.is_some_and(|look| look <= at(sent))));
        }
    }
}
