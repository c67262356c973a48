//! Changes of the membership at any moment: who votes, how votes count, and how far proposals run ahead.

use std::sync::Arc;

use crate::{
    replica::{ChangeOutcome, ChangeRefusal},
    sim::{
        check::{Check, ensure},
        host::Input,
        occurrence::Occurrence,
        world::{Checked, World, id_of},
    },
    types::{Change, MemberRole, Membership, NodeId, Quorums},
};

/// The check that fails here.
const CHECK: Check = Check::Liveness;

/// Election timeouts for which a change is tried.
const TIMEOUTS_TO_CHANGE: u32 = 4;

/// Election timeouts that a change may take once the faults have ended, however often it has to be asked for.
const TIMEOUTS_TO_RESTORE: u32 = 24;

impl World<'_> {
    /// Somebody asks a node for a change.
    pub(super) fn reconfigure(&mut self, node: usize, rng: &mut fastrand::Rng) -> Checked {
        let Some(status) = self.status_of(node) else { return Ok(()) };
        let change = draw(&status.membership, self.plan.nodes, rng);
        self.ask_for_change(node, change)
    }

    fn ask_for_change(&mut self, node: usize, change: Change) -> Checked {
        self.changes_asked += 1;
        let number = self.changes_asked;
        self.trace.note(self.now, [28, node as u64, number], || {
            format!("{} is asked for change {number}: {change:?}", id_of(node))
        });
        let patience = self.plan.election_timeout() * TIMEOUTS_TO_CHANGE;
        let deadline = self.stations[node].local(self.now).after(patience);
        self.give(node, Input::Change { number, change, deadline })
    }

    /// What has become of a change.
    pub(in crate::sim::world) fn change_ended(
        &mut self,
        node: usize,
        number: u64,
        outcome: ChangeOutcome,
    ) -> Checked {
        self.seen.add(match &outcome {
            Ok(_) => Occurrence::Reconfigured,
            Err(ChangeRefusal::NotReady(_)) => Occurrence::ChangeNotReady,
            Err(ChangeRefusal::Overtaken) => Occurrence::ChangeOvertaken,
            Err(_) => Occurrence::ChangeRefused,
        });
        self.trace.note(self.now, [29, node as u64, number], || match &outcome {
            Ok(membership) => {
                format!("change {number}: membership {} is in force", membership.version())
            }
            Err(refusal) => format!("change {number}: {refusal}"),
        });
        if let Ok(membership) = &outcome {
            let truth = self.ledger.membership(membership.version());
            ensure!(
                truth == Some(membership),
                "node {} says that membership {} is in force: {membership:?}, it is {truth:?}",
                id_of(node),
                membership.version()
            );
        }
        self.change_outcome = Some((number, outcome));
        Ok(())
    }

    /// Every node works: the cluster gets the membership back that it began with, change by change.
    pub(in crate::sim::world) fn restore_membership(&mut self) -> Checked {
        // What was asked for before may still be made.
        let patience = self.plan.election_timeout() * (TIMEOUTS_TO_CHANGE + 1);
        self.run_until(self.now + self.plan.latency_max() + patience)?;
        let mut timeouts = 0;
        while let Some(change) = self.missing_change() {
            ensure!(
                timeouts < TIMEOUTS_TO_RESTORE,
                "the change {change:?} has not been made after {timeouts} election timeouts: {:?}",
                self.change_outcome
            );
            let version = self.ledger.newest_membership().version();
            let node = self.ending_rng.usize(..self.plan.nodes);
            self.ask_for_change(node, change)?;
            // Whoever has been asked may crash once more.
            for _ in 0..=TIMEOUTS_TO_CHANGE {
                self.run_until(self.now + self.plan.election_timeout())?;
                timeouts += 1;
                let ended = self.change_outcome.as_ref().map(|(ended, _)| *ended);
                if ended == Some(self.changes_asked) {
                    break;
                }
            }
            if self.ledger.newest_membership().version() > version {
                timeouts = 0;
            }
        }
        Ok(())
    }

    /// The next change on the way to the planned membership.
    fn missing_change(&self) -> Option<Change> {
        let (now, planned) = (self.ledger.newest_membership(), &self.plan.membership);
        let id = |node| NodeId(node as u64 + 1);
        let learner = (0..self.plan.nodes).map(id).find(|node| !now.is_voter(*node));
        let is_like_planned = now.quorums() == planned.quorums();
        if let Some(node) = learner {
            let is_majority = now.quorums() == Quorums::Majority;
            return Some(match is_majority {
                true => Change::Role { node, role: MemberRole::Voter },
                false => Change::Quorums(Quorums::Majority),
            });
        }
        if !is_like_planned {
            return Some(Change::Quorums(planned.quorums()));
        }
        (now.window() != planned.window()).then(|| Change::Window(planned.window()))
    }
}

/// Any change that makes sense, and some that do not.
fn draw(membership: &Arc<Membership>, nodes: usize, rng: &mut fastrand::Rng) -> Change {
    let node = NodeId(rng.u64(1..=nodes as u64));
    match rng.u8(..10) {
        0 => Change::Window(*rng.choice(&[1, 2, 5, 16, 64]).expect("some")),
        1 => Change::Quorums(Quorums::Majority),
        2 => {
            let sizes = 1..=membership.voters().count();
            let (phase_one, phase_two) = (rng.usize(sizes.clone()), rng.usize(sizes));
            Change::Quorums(Quorums::Flexible { phase_one, phase_two })
        }
        _ if membership.is_voter(node) => Change::Role { node, role: MemberRole::Learner },
        _ => Change::Role { node, role: MemberRole::Voter },
    }
}
