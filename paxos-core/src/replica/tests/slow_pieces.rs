//! How a state is asked for, a piece at a time, when pieces are slow, late or sent twice.

use super::{
    alone::Alone,
    fetching::{Asked, TIMEOUT, asked, fetching, number, piece, stored},
    *,
};

/// Has asked node 2 for a state, with this number.
fn begun() -> (Alone, u64) {
    let mut alone = Alone::new(|_, _| {});
    let request = fetching(&mut alone);
    (alone, request)
}

#[test]
fn a_piece_that_comes_twice_does_not_undo_what_is_there() {
    let (mut alone, first) = begun();
    assert_eq!(stored(alone.hear(2, piece(first, 0..5))), Some((5, 0, 5)));
    let effects = alone.persist();
    assert_eq!(asked(&effects), Asked::State(2, 5, 5), "the next piece");
    let second = number(&effects);
    let effects = alone.wait(TIMEOUT);
    assert_eq!(asked(&effects), Asked::State(2, 5, 5), "asked again");
    let again = number(&effects);
    assert_eq!(stored(alone.hear(2, piece(second, 5..10))), Some((5, 5, 5)), "late, and as good");
    alone.persist();
    let effects = alone.hear(2, piece(again, 5..10));
    assert_eq!(asked(&effects), Asked::State(2, 5, 10), "it goes on where it was");
    assert_eq!(stored(effects), None, "it is here already");
}

#[test]
fn the_first_piece_counts_however_late() {
    let (mut alone, first) = begun();
    assert_eq!(asked(&alone.wait(TIMEOUT)), Asked::State(2, 0, 0), "asked again");
    assert_eq!(stored(alone.hear(2, piece(first, 0..5))), Some((5, 0, 5)));
}

/// Each piece is sent as often as it is asked for.
#[test]
fn who_is_slow_is_given_twice_the_time_of_the_last_piece() {
    let (mut alone, first) = begun();
    assert_eq!(asked(&alone.wait(TIMEOUT)), Asked::State(2, 0, 0), "asked again");
    alone.wait(TIMEOUT / 2);
    alone.hear(2, piece(first, 0..5));
    alone.persist();
    assert_eq!(asked(&alone.wait(TIMEOUT / 2)), Asked::State(2, 5, 5), "the next piece");
    let nearly = 3 * TIMEOUT - Duration::from_millis(1);
    assert_eq!(asked(&alone.wait(nearly)), Asked::Nothing, "the last piece took one and a half");
    assert_eq!(asked(&alone.wait(Duration::from_millis(1))), Asked::State(2, 5, 5));
}
