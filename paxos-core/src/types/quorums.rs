//! How many votes make a quorum.
//!
//! Majority quorums intersect each other. Flexible ones (Howard, Malkhi & Spiegelman 2016) need
//! only that every phase-1 quorum intersects every phase-2 quorum: |Q1| + |Q2| > n.

use serde::{Deserialize, Serialize};

use crate::planted::planted;

/// The two phases of the protocol, each with a quorum of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Phase {
    /// Promises: what a new leader needs.
    One,
    /// Votes: what makes a value chosen; also what confirms a read.
    Two,
}

impl Phase {
    /// Who cannot reach a quorum of either cannot lead.
    pub(crate) const BOTH: [Phase; 2] = [Phase::One, Phase::Two];
}

/// The quorum system of a membership.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Quorums {
    /// More than half, in both phases.
    #[default]
    Majority,
    /// A size for each phase, with `phase_one + phase_two > n`.
    Flexible {
        /// Promises a new leader needs.
        phase_one: usize,
        /// Votes a value needs.
        phase_two: usize,
    },
}

/// A quorum system that does not fit the cluster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuorumsError {
    /// Two quorums may miss each other, and two values be chosen for one slot.
    #[error(
        "quorums of {phase_one} and {phase_two} among {voters} voters need not intersect: \
         choose sizes whose sum is above {voters}"
    )]
    Disjoint {
        /// Size of a phase-1 quorum.
        phase_one: usize,
        /// Size of a phase-2 quorum.
        phase_two: usize,
        /// Voters there are.
        voters: usize,
    },
    /// A quorum larger than the cluster, or of nobody.
    #[error("a quorum of {size} among {voters} voters is impossible")]
    Impossible {
        /// Size of the quorum.
        size: usize,
        /// Voters there are.
        voters: usize,
    },
}

impl Quorums {
    /// How many of `voters` make a quorum of `phase`. The one place that counts.
    #[must_use]
    pub fn size(self, phase: Phase, voters: usize) -> usize {
        match (self, phase) {
            (Quorums::Majority, _) => voters / 2 + 1,
            (Quorums::Flexible { phase_one, .. }, Phase::One) => phase_one,
            (Quorums::Flexible { phase_two, .. }, Phase::Two) => phase_two,
        }
    }

    /// Checks that quorums of the two phases intersect among `voters`.
    ///
    /// # Errors
    ///
    /// If they need not, or if one is larger than the cluster or empty.
    pub fn check(self, voters: usize) -> Result<(), QuorumsError> {
        let phase_one = self.size(Phase::One, voters);
        let phase_two = self.size(Phase::Two, voters);
        for size in [phase_one, phase_two] {
            if size == 0 || size > voters {
                return Err(QuorumsError::Impossible { size, voters });
            }
        }
        if phase_one + phase_two + usize::from(planted!(QuorumsDisjoint)) <= voters {
            return Err(QuorumsError::Disjoint { phase_one, phase_two, voters });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every subset of `voters` nodes with `size` members, as bit sets.
    fn subsets(voters: usize, size: usize) -> Vec<u32> {
        (0..1u32 << voters).filter(|set| set.count_ones() as usize == size).collect()
    }

    proptest! {
        /// The rule by counting agrees with trying every pair of quorums.
        #[test]
        fn accepted_exactly_if_every_pair_of_quorums_intersects(
            voters in 1..8usize, phase_one in 0..9usize, phase_two in 0..9usize,
        ) {
            let quorums = Quorums::Flexible { phase_one, phase_two };
            let possible = |size| size >= 1 && size <= voters;
            let intersect = possible(phase_one)
                && possible(phase_two)
                && subsets(voters, phase_one)
                    .iter()
                    .all(|one| subsets(voters, phase_two).iter().all(|two| one & two != 0));
            prop_assert_eq!(quorums.check(voters).is_ok(), intersect);
        }

        #[test]
        fn majorities_always_intersect(voters in 1..50usize) {
            prop_assert_eq!(Quorums::Majority.check(voters), Ok(()));
        }
    }
}
