//! When two states are one.
//!
//! A replica is told apart from another by its `Debug` output, which has a fixed order, without what
//! decides nothing here: instants, since no step depends on how much time has passed (see
//! [`node`](super::node)), the random numbers, which only jitter timeouts, the settings, how much
//! waits for a disk, which is never too much here, and how much time a candidacy is given.

use std::fmt::{self, Write};

use xxhash_rust::xxh3::Xxh3;

/// Types of which only the name counts.
const MASKED: &[&str] =
    &["Instant", "Rng", "Config", "Membership", "LogReadId", "Backlog", "Candidacies", "Patience"];

/// Hashes what is written to it, without the contents of masked types.
struct Digest {
    hasher: Xxh3,
    also_masked: &'static [&'static str],
    is_masked: bool,
    depth: usize,
}

impl Write for Digest {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if !self.is_masked {
            self.hasher.update(text.as_bytes());
            self.is_masked = MASKED.contains(&text) || self.also_masked.contains(&text);
            return Ok(());
        }
        let opening = text.matches(['(', '{', '[']).count();
        let closing = text.matches([')', '}', ']']).count();
        self.depth = self.depth + opening - closing;
        self.is_masked = self.depth > 0;
        Ok(())
    }
}

/// A digest of a value's `Debug` output; of the types in `also_masked` only the name counts.
pub(crate) fn digest(value: &impl fmt::Debug, also_masked: &'static [&'static str]) -> u64 {
    let hasher = Xxh3::new();
    let mut digest = Digest { hasher, also_masked, is_masked: false, depth: 0 };
    write!(digest, "{value:?}").expect("hashing does not fail");
    digest.hasher.digest()
}

#[test]
fn what_is_masked_does_not_count() {
    use std::time::Duration;

    use paxos_core::types::{Ballot, Instant, NodeId, Slot};

    let at = |seconds| Instant::from_origin(Duration::from_secs(seconds));
    let ballot = |round| Ballot { round, node: NodeId(1) };
    let of = |seconds, round, slot| {
        digest(&(ballot(round), (at(seconds), Some(at(seconds)), Slot(slot))), &[])
    };
    assert_eq!(of(1, 1, 1), of(22, 1, 1));
    assert_ne!(of(1, 1, 1), of(1, 2, 1));
    assert_ne!(of(1, 1, 1), of(1, 1, 2));
    let masked = |slot| digest(&(Slot(slot), ballot(1)), &["Slot"]);
    assert_eq!(masked(1), masked(2));
}
