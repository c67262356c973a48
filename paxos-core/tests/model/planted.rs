//! Known bugs, put back into the protocol: the checker finds them, so it can fail.

use paxos_core::bug_bank::Bug;
use stateright::{Checker, HasDiscoveries, Model};

use super::{THREADS, failure_of, worlds};

/// Those that a world is large enough for, and the world.
const FOUND: &[(Bug, &str)] = &[
    (Bug::VoteBeforeSync, "a leader crashes"),
    (Bug::OwnVoteBeforeSync, "a leader crashes"),
    (Bug::PromiseBeforeSync, "a crash"),
    (Bug::PromiseForgotten, "a leader crashes"),
    (Bug::BallotReused, "a leader crashes"),
    (Bug::PhaseTwoQuorumMinusOne, "a leader crashes"),
    (Bug::VoteCountedTwice, "a leader crashes"),
    (Bug::VoteOfAnotherBallot, "a leader crashes"),
    (Bug::BallotBelowPromise, "a leader crashes"),
    (Bug::ReportedValueAsHole, "a leader crashes"),
    (Bug::HigherBallotIgnored, "three ballots"),
];

#[test]
fn planted_bugs_are_found() {
    for &(bug, name) in FOUND {
        let mut world = worlds::small().into_iter().find(|world| world.name == name).unwrap();
        world.bug = Some(bug);
        let first = HasDiscoveries::AnyFailures;
        let checker = world.checker().threads(THREADS).finish_when(first).spawn_bfs().join();
        assert!(failure_of(&checker).is_some(), "{bug} is not found in the world of {name}");
    }
}
