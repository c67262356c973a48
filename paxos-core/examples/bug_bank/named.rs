//! Bugs of what the simulator does without, the node and logs that are damaged or put back unnoticed, and
//! one of which little more is left to see than that it is slower, and those of transfers that it comes upon in one of thousands of seeds: each is caught by a test of its own.

use std::{env, path::PathBuf, process::Command};

use paxos_core::bug_bank::{Bug, VARIABLE};

const DIVERGED: &str = "replica::tests::divergence::whoever_agrees_with_a_quorum_goes_on_and_whoever_differs_from_one_stops";

const READ_BACK: &str = "replica::tests::fetching::what_is_read_back_and_is_not_of_the_peers_state_is_found_out_in_the_end";

const OUTRUN: &str =
    "replica::tests::serving::a_peer_that_knows_more_than_the_snapshot_gets_a_new_one";

const RENAMED: &str =
    "replica::tests::older_copy::what_it_has_proposed_goes_again_under_a_name_that_nobody_has_used";

const LOST: &str = "replica::tests::lost::a_leader_is_lost_until_it_is_heard_again";

/// The test that catches a bug, and cargo's arguments for the program with it; `None` if the simulator has
/// to catch it.
pub(super) fn test_of(bug: Bug) -> Option<(&'static [&'static str], &'static str)> {
    let node: &[_] = &["--test", "node"];
    Some(match bug {
        Bug::DoubleApply => {
            (node, "faults::a_durable_state_machine_is_not_given_twice_what_it_has_applied")
        }
        Bug::FailedSyncRetried => (node, "faults::a_failed_write_ends_the_node_and_says_so"),
        Bug::StateDivergedIgnored => {
            (node, "digests::the_one_that_does_something_else_stops_and_the_others_go_on")
        }
        Bug::StateUnverified => (&["--lib"], READ_BACK),
        Bug::UselessStateSent => (&["--lib"], OUTRUN),
        Bug::OlderCopyUnnoticed => (&["--lib"], RENAMED),
        Bug::VoterToBeWaits => (
            &["--lib"],
            "replica::tests::changing::a_new_voter_that_is_elected_before_it_votes_leads",
        ),
        Bug::TransferBeforeCaughtUp | Bug::TransferWithoutEnd => (
            &["--lib"],
            "replica::tests::handover::the_leader_waits_until_all_is_chosen_and_the_other_one_knows_it",
        ),
        Bug::TransferDoneByAnother => (
            &["--lib"],
            "replica::tests::handover::one_that_comes_first_is_not_the_one_that_was_to_lead",
        ),
        Bug::RemovedNodeHeard => {
            (&["--lib"], "replica::tests::changing::a_node_that_has_been_removed_has_no_say")
        }
        Bug::WindowOfAnotherSlot => (
            &["--lib"],
            "replica::tests::changing::a_new_leader_keeps_within_a_window_that_becomes_smaller",
        ),
        Bug::LossUnbelieved => (&["--lib"], LOST),
        Bug::WhoeverHearsStops => (&["--lib"], DIVERGED),
        _ => return None,
    })
}

/// Whether the bug's test fails with it and passes without.
pub(super) fn catches(bug: Bug) -> bool {
    let (program, test) = test_of(bug).expect("only called for those that have one");
    let run = |planted: Option<Bug>| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["test", "--quiet", "--profile", "simulation", "--package", "paxos-core"]);
        cargo.args(program).arg("--target-dir").arg(target_dir());
        cargo.args(["--", "--exact", test]);
        cargo.env_remove(VARIABLE).envs(planted.map(|bug| (VARIABLE, bug.name())));
        let output = cargo.output().expect("cargo has started this program too");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    run(None).contains("1 passed; 0 failed") && run(Some(bug)).contains("0 passed; 1 failed")
}

/// Where this program was built.
fn target_dir() -> PathBuf {
    let program = env::current_exe().expect("the system knows it");
    program.ancestors().nth(3).expect("target/profile/examples/program").to_owned()
}
