//! Reaches one of the addresses that a name stands for: side by side, as RFC 8305 has it, and over again.
//!
//! An address that says nothing must not keep the next one waiting, nor must an attempt whose packets
//! were lost wait for the kernel to send them again: it does so later and later. So attempts begin at a
//! steady pace, at one address after the other, and the first that succeeds ends all others.

use std::{io, net::SocketAddr, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};

/// How long after one attempt the next begins, at another address.
const STAGGER: Duration = Duration::from_millis(250);

/// How often the same address is tried.
const AGAIN: Duration = Duration::from_millis(500);

/// How long an attempt may take: there are newer ones by then.
const ATTEMPT_MAX: Duration = Duration::from_secs(2);

/// How long all of them may take: every address gets its turn.
pub(crate) const DIAL_MAX: Duration = Duration::from_secs(5);

/// Addresses of one name that are tried: as many as get their turn in time.
const CANDIDATES_MAX: usize = 16;

/// What comes of the first success of `connect` at one of `candidates`; or how one failed: with
/// `ConnectionRefused`, if nobody listens at any that is reached.
pub(crate) async fn dial<T, F: Future<Output = io::Result<T>>>(
    candidates: &[SocketAddr],
    connect: impl Fn(SocketAddr) -> F,
) -> io::Result<T> {
    let candidates = in_turn(candidates);
    let silence = |_| Err(io::ErrorKind::TimedOut.into());
    tokio::time::timeout(DIAL_MAX, race(&candidates, connect)).await.unwrap_or_else(silence)
}

/// The two families alternate, so that one that leads nowhere costs a turn or two.
fn in_turn(candidates: &[SocketAddr]) -> Vec<SocketAddr> {
    let Some(first) = candidates.first() else { return Vec::new() };
    let (one, other): (Vec<_>, Vec<_>) =
        candidates.iter().copied().partition(|other| other.is_ipv4() == first.is_ipv4());
    let (mut one, mut other) = (one.into_iter(), other.into_iter());
    let mut mixed = Vec::new();
    while mixed.len() < candidates.len() {
        mixed.extend(one.next());
        mixed.extend(other.next());
    }
    mixed.truncate(CANDIDATES_MAX);
    mixed
}

async fn race<T, F: Future<Output = io::Result<T>>>(
    candidates: &[SocketAddr],
    connect: impl Fn(SocketAddr) -> F,
) -> io::Result<T> {
    let turns = u32::try_from(candidates.len()).expect("a few");
    if turns == 0 {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    }
    let mut failure = None;
    let pace = STAGGER.max(AGAIN / turns);
    let mut attempts = FuturesUnordered::new();
    for (turn, candidate) in candidates.iter().cycle().enumerate() {
        attempts.push(tokio::time::timeout(ATTEMPT_MAX, connect(*candidate)));
        let is_first_round = turn + 1 < candidates.len();
        let next = tokio::time::sleep(pace);
        tokio::pin!(next);
        loop {
            let ended = tokio::select! {
                biased;
                Some(ended) = attempts.next() => ended,
                () = &mut next => break,
            };
            match ended {
                Ok(Ok(connected)) => return Ok(connected),
                Ok(Err(error)) => note(&mut failure, error),
                Err(_) => note(&mut failure, io::ErrorKind::TimedOut.into()),
            }
            if is_first_round {
                break;
            }
            if attempts.is_empty() {
                return Err(failure.expect("all have failed"));
            }
        }
    }
    unreachable!("the addresses are tried over and over")
}

/// Keeps the failure that says most: at an address that says nothing, the peer may be there; one to which no
/// way leads says nothing of it.
fn note(failure: &mut Option<io::Error>, error: io::Error) {
    use io::ErrorKind::{AddrNotAvailable, ConnectionRefused, NetworkUnreachable};

    let weight = |error: &io::Error| match error.kind() {
        NetworkUnreachable | AddrNotAvailable => 0,
        ConnectionRefused => 1,
        _ => 2,
    };
    if failure.as_ref().is_none_or(|before| weight(before) <= weight(&error)) {
        *failure = Some(error);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::time::Instant;

    use super::*;

    fn candidates(ports: impl IntoIterator<Item = u16>) -> Vec<SocketAddr> {
        ports.into_iter().map(|port| ([127, 0, 0, 1], port).into()).collect()
    }

    /// One that never answers.
    async fn silent() -> io::Result<u16> {
        std::future::pending().await
    }

    #[tokio::test(start_paused = true)]
    async fn three_addresses_that_say_nothing_do_not_hold_the_fourth_up() {
        let begun = Instant::now();
        let connect = async |candidate: SocketAddr| match candidate.port() {
            4 => Ok(4),
            _ => silent().await,
        };
        assert_eq!(dial(&candidates(1..=4), connect).await.expect("one is there"), 4);
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_refuses_makes_room_for_the_next_at_once() {
        let begun = Instant::now();
        let connect = async |candidate: SocketAddr| match candidate.port() {
            1..=8 => Err(io::ErrorKind::ConnectionRefused.into()),
            port => Ok(port),
        };
        assert_eq!(dial(&candidates(1..=9), connect).await.expect("one is there"), 9);
        assert_eq!(begun.elapsed(), Duration::ZERO);
        let refused = dial(&candidates(1..=8), connect).await.expect_err("all refuse");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_listens_if_all_that_are_reached_say_so() {
        use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};

        for (kinds, told) in [
            ([ConnectionRefused, NetworkUnreachable], ConnectionRefused),
            ([NetworkUnreachable, ConnectionRefused], ConnectionRefused),
            ([ConnectionRefused, HostUnreachable], HostUnreachable),
            ([HostUnreachable, ConnectionRefused], HostUnreachable),
        ] {
            let connect = async |candidate: SocketAddr| {
                Err::<(), _>(kinds[usize::from(candidate.port())].into())
            };
            let error = dial(&candidates(0..2), connect).await.expect_err("all fail");
            assert_eq!(error.kind(), told, "{kinds:?}");
        }
    }

    /// What went out before the network was whole again is not waited for.
    #[tokio::test(start_paused = true)]
    async fn an_address_is_tried_anew_while_an_attempt_gets_no_answer() {
        let (begun, tries) = (Instant::now(), Cell::new(0));
        let healed = Duration::from_millis(1_700);
        let connect = async |_| {
            tries.set(tries.get() + 1);
            if begun.elapsed() < healed { silent().await } else { Ok(1) }
        };
        assert_eq!(dial(&candidates([1]), connect).await.expect("it is there at last"), 1);
        assert!(begun.elapsed() <= healed + AGAIN, "{:?}", begun.elapsed());
        assert_eq!(tries.get(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_in_time() {
        let begun = Instant::now();
        for ports in [1..2, 1..40] {
            let error = dial(&candidates(ports), |_| silent()).await.expect_err("nobody is there");
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        }
        assert_eq!(begun.elapsed(), 2 * DIAL_MAX);
        let error = dial(&[], |_| silent()).await.expect_err("no address");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn the_families_take_turns() {
        let of = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let given = ["[::1]:1", "[::1]:2", "[::1]:3", "1.1.1.1:1", "1.1.1.1:2"].map(of);
        let expected = ["[::1]:1", "1.1.1.1:1", "[::1]:2", "1.1.1.1:2", "[::1]:3"].map(of);
        assert_eq!(in_turn(&given), expected);
    }
}
