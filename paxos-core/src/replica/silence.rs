//! How long a leader may be silent before this node looks for another one.
//!
//! All that follow a leader hear from it once in a heartbeat interval, through networks and machines that are
//! fast or slow, steady or not. So a follower measures how long it has heard nothing at most, lately, and takes
//! twice as much for silence. It is never less than three heartbeat intervals, so that no two heartbeats in a row
//! that are lost, or late, are taken for it, and never more than the election timeout, which is what it takes
//! as long as little has been heard of this leader. One that was suspected for nothing has been silent for longer
//! than ever by then, and is given more time from now on: a link that is slow or flaky teaches by itself how much
//! it takes (Chandra & Toueg 1996, section 6.1).
//!
//! Nothing but polls follows from it, which bind nobody and are refused by those that hear the leader. What an
//! acceptor has promised not to do for some time, a lease for instance, is counted by itself, from fixed times.

use std::time::Duration;

use super::context::Context;
use crate::{
    config::Config,
    limits,
    planted::planted,
    types::{Ballot, Instant},
};

/// What is known of the leader that was heard last.
#[derive(Clone, Debug, Default)]
pub(super) struct Silence {
    heard: Option<Heard>,
}

#[derive(Clone, Debug)]
struct Heard {
    ballot: Ballot,
    since: Instant,
    last_at: Instant,
    /// When the present span began.
    span_from: Instant,
    /// The longest time without a message, in the span before and in the present one.
    longest: [Duration; 2],
}

impl Heard {
    /// How long nothing has come at most, lately; `None` while it is too early to say.
    fn longest(&self, config: &Config) -> Option<Duration> {
        let is_known = self.last_at.since(self.since)
            >= limits::SILENCE_KNOWN_TIMEOUTS * config.election_timeout;
        self.longest.into_iter().max().filter(|_| is_known)
    }
}

impl Silence {
    /// Something has come from a leader. That it did not lead for a while, at another ballot, was no silence.
    #[inline]
    pub(super) fn on_heard(&mut self, ballot: Ballot, now: Instant, config: &Config) {
        let heard = match &mut self.heard {
            Some(heard) if heard.ballot.node == ballot.node => heard,
            _ => {
                let longest = [Duration::ZERO; 2];
                let (since, last_at, span_from) = (now, now, now);
                self.heard = Some(Heard { ballot, since, last_at, span_from, longest });
                return;
            }
        };
        if now.since(heard.span_from) >= limits::SILENCE_SPAN_TIMEOUTS * config.election_timeout {
            heard.longest = [heard.longest[1], Duration::ZERO];
            heard.span_from = now;
        }
        if heard.ballot == ballot {
            heard.longest[1] = heard.longest[1].max(now.since(heard.last_at));
        }
        (heard.ballot, heard.last_at) = (ballot, now);
    }

    /// How long the leader heard last may be silent, at least.
    #[inline]
    pub(super) fn patience(&self, config: &Config) -> Duration {
        let most = config.election_timeout;
        let longest = self.heard.as_ref().and_then(|heard| heard.longest(config));
        let Some(longest) = longest.filter(|_| !planted!(SilenceNotMeasured)) else { return most };
        let least = limits::SILENCE_HEARTBEATS * config.heartbeat_interval;
        let least = if planted!(SilenceTooShort) { Duration::ZERO } else { least };
        let most = if planted!(SilenceUnbounded) { Duration::MAX } else { most };
        (2 * longest).max(least).min(most)
    }

    /// When the leader, of which something has come just now, will have been silent for too long: up to a third
    /// later at random, so that those that follow it do not all poll at once.
    #[inline]
    pub(super) fn ends_at(&self, cx: &mut Context<'_>) -> Instant {
        let patience = self.patience(cx.config);
        cx.now.after(patience + (patience / 3).mul_f64(cx.rng.f64()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Membership, NodeId};

    const HEARTBEAT: Duration = limits::HEARTBEAT_INTERVAL;
    const TIMEOUT: Duration = limits::ELECTION_TIMEOUT;

    struct Follower {
        silence: Silence,
        now: Instant,
        config: Config,
        round: u64,
    }

    impl Follower {
        fn new() -> Follower {
            let membership = Membership::new([(1, ""), (2, ""), (3, "")]).expect("three");
            let config = Config::new(NodeId(1), membership);
            Follower { silence: Silence::default(), now: Instant::ZERO, config, round: 1 }
        }

        /// Hears `leader` after these silences.
        fn hear(&mut self, leader: u64, silences: impl IntoIterator<Item = Duration>) {
            for silence in silences {
                self.now = self.now.after(silence);
                let ballot = Ballot { round: self.round, node: NodeId(leader) };
                self.silence.on_heard(ballot, self.now, &self.config);
            }
        }

        fn patience(&self) -> Duration {
            self.silence.patience(&self.config)
        }
    }

    fn steady(count: usize) -> impl Iterator<Item = Duration> {
        std::iter::repeat_n(HEARTBEAT, count)
    }

    #[test]
    fn it_is_the_election_timeout_until_enough_is_known_of_this_leader() {
        let mut follower = Follower::new();
        assert_eq!(follower.patience(), TIMEOUT);
        for leader in [2, 3, 2] {
            follower.hear(leader, steady(20));
            assert_eq!(follower.patience(), TIMEOUT, "of leader {leader}");
            follower.hear(leader, steady(1));
            assert_eq!(follower.patience(), 3 * HEARTBEAT, "of leader {leader}");
        }
    }

    #[test]
    fn it_is_never_below_three_heartbeats_however_much_is_heard() {
        let mut follower = Follower::new();
        follower.hear(2, std::iter::repeat_n(HEARTBEAT / 50, 5000));
        assert_eq!(follower.patience(), 3 * HEARTBEAT);
    }

    #[test]
    fn it_is_twice_the_longest_silence_of_late_up_to_the_election_timeout() {
        let mut follower = Follower::new();
        follower.hear(2, steady(30));
        follower.hear(2, [HEARTBEAT * 4]);
        assert_eq!(follower.patience(), HEARTBEAT * 8);
        follower.hear(2, [HEARTBEAT * 3]);
        assert_eq!(follower.patience(), HEARTBEAT * 8);
        follower.hear(2, [TIMEOUT * 100]);
        assert_eq!(follower.patience(), TIMEOUT);
    }

    #[test]
    fn that_it_did_not_lead_meanwhile_is_no_silence() {
        let mut follower = Follower::new();
        follower.hear(2, steady(30));
        follower.round = 3;
        follower.hear(2, [TIMEOUT * 5]);
        follower.hear(2, steady(5));
        assert_eq!(follower.patience(), 3 * HEARTBEAT);
    }

    #[test]
    fn what_was_long_ago_is_forgotten() {
        let span = limits::SILENCE_SPAN_TIMEOUTS * 10;
        let mut follower = Follower::new();
        follower.hear(2, steady(30));
        follower.hear(2, [HEARTBEAT * 4]);
        follower.hear(2, steady(span as usize));
        assert_eq!(follower.patience(), HEARTBEAT * 8);
        follower.hear(2, steady(span as usize));
        assert_eq!(follower.patience(), HEARTBEAT * 3);
    }
}
