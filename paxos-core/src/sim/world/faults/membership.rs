//! Changes of the membership at any moment: who is a member and who votes, how votes count, and how far proposals
//! run ahead. Nodes come with nothing, before they are made members or after, take the places of others, those whose
//! disks are lost above all, and are removed, whether they are there to hear of it or not.

use std::time::Duration;

use crate::{
    replica::{ChangeOutcome, ChangeRefusal},
    sim::{
        agenda::Happening,
        check::{Check, ensure},
        ending,
        host::Input,
        occurrence::Occurrence,
        world::{Checked, World, company::address_of, id_of, index_of},
    },
    types::{Change, ChangeError, MemberRole, Membership, MembershipError, NodeId, Quorums},
};

/// The check that fails here.
const CHECK: Check = Check::Liveness;

/// Election timeouts for which a change is tried.
const TIMEOUTS_TO_CHANGE: u32 = 4;

/// Election timeouts that a change may take once the faults have ended, however often it has to be asked for.
const TIMEOUTS_TO_SETTLE: u32 = 24;

/// Election timeouts within which a node that has been removed is told and ends.
const TIMEOUTS_TO_LEAVE: u32 = 6;

impl World<'_> {
    /// Somebody asks a node for a change.
    pub(super) fn reconfigure(&mut self, node: usize, rng: &mut fastrand::Rng) -> Checked {
        let Some(status) = self.status_of(node).filter(|_| self.now >= self.changes_begin) else {
            return Ok(());
        };
        let Some(change) = self.draw_change(&status.membership, rng) else { return Ok(()) };
        if !self.leaves_sound_quorum(&status.membership, &change) {
            return Ok(());
        }
        if let Some(newcomer) = newcomer_of(&change) {
            let at = if rng.bool() { self.now } else { self.now + self.while_lasting(rng) };
            self.agenda.plan(at, Happening::Join { node: index_of(newcomer), rng: rng.fork() });
        }
        self.ask_for_change(node, change)
    }

    /// Any change that makes sense, and some that do not.
    fn draw_change(&self, membership: &Membership, rng: &mut fastrand::Rng) -> Option<Change> {
        let node = rng.choice(membership.members().map(|(id, _)| id).collect::<Vec<_>>())?;
        let newcomer = || self.newcomers().first().map(|&newcomer| id_of(newcomer));
        Some(match rng.u8(..16) {
            0 => Change::Window(rng.choice([1, 2, 5, 16, 64])?),
            1 => Change::Quorums(Quorums::Majority),
            2 => {
                let sizes = 1..=membership.voters().count();
                let (phase_one, phase_two) = (rng.usize(sizes.clone()), rng.usize(sizes));
                Change::Quorums(Quorums::Flexible { phase_one, phase_two })
            }
            3..=6 => Change::Role {
                node,
                role: match membership.is_voter(node) {
                    true => MemberRole::Learner,
                    false => MemberRole::Voter,
                },
            },
            7..=9 => {
                let roles = [MemberRole::Voter, MemberRole::Learner, MemberRole::Newcomer];
                let role = rng.choice(roles)?;
                let node = newcomer()?;
                Change::Add { node, address: address_of(node), role }
            }
            10 | 11 => Change::Remove { node },
            12..=14 => replacement(self.lost_member(membership).unwrap_or(node), newcomer()?),
            _ => {
                let removed = (0..self.plan.nodes).map(id_of);
                let removed = removed.filter(|&id| membership.has_removed(id));
                let node = rng.choice(removed.collect::<Vec<_>>())?;
                Change::Add { node, address: address_of(node), role: MemberRole::Voter }
            }
        })
    }

    /// A member whose disk is lost.
    fn lost_member(&self, membership: &Membership) -> Option<NodeId> {
        let is_lost = |id: &NodeId| self.stations[index_of(*id)].has_lost_disk;
        membership.members().map(|(id, _)| id).find(is_lost)
    }

    /// Whether enough voters can go on after a change, if it makes sense: no operator would make another one.
    fn leaves_sound_quorum(&self, membership: &Membership, change: &Change) -> bool {
        membership.changed(change).map_or(true, |next| {
            let sound = next.voters().filter(|&voter| self.is_sound(index_of(voter)));
            sound.count() >= ending::quorum(&next)
        })
    }

    fn ask_for_change(&mut self, node: usize, change: Change) -> Checked {
        self.changes_asked += 1;
        let number = self.changes_asked;
        self.trace.note(self.now, [28, node as u64, number], || {
            format!("{} is asked for change {number}: {change:?}", id_of(node))
        });
        let patience = self.plan.election_timeout() * TIMEOUTS_TO_CHANGE;
        self.changes_end = self.now + self.time_to_change();
        let deadline = self.stations[node].local(self.now).after(patience);
        self.give(node, Input::Change { number, change, deadline })
    }

    /// After so long nothing is left of a change that was asked for, whatever has become of it.
    fn time_to_change(&self) -> Duration {
        self.plan.election_timeout() * (TIMEOUTS_TO_CHANGE + 1) + self.plan.latency_max()
    }

    /// What has become of a change.
    pub(in crate::sim::world) fn change_ended(
        &mut self,
        node: usize,
        number: u64,
        outcome: ChangeOutcome,
    ) -> Checked {
        let removed = |error: &ChangeError| {
            matches!(error, ChangeError::Membership(MembershipError::Removed(_)))
        };
        self.seen.add(match &outcome {
            Ok(_) => Occurrence::Reconfigured,
            Err(ChangeRefusal::Change(error)) if removed(error) => Occurrence::IdUsedTwice,
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

    /// Every node works that can. The members whose disks are lost are replaced, or removed; the rest votes, unless
    /// learners stay; quorums and window are those that were planned, if they fit.
    pub(in crate::sim::world) fn settle_membership(&mut self, keeps_learners: bool) -> Checked {
        // What was asked for before may still be made.
        self.run_until(self.now + self.time_to_change())?;
        for member in [self.voters(), self.learners()].concat() {
            let rng = &mut self.ending_rng.fork();
            self.join(member, rng)?;
        }
        let mut timeouts = 0;
        while let Some(change) = self.missing_change(keeps_learners) {
            ensure!(
                timeouts < TIMEOUTS_TO_SETTLE,
                "the change {change:?} has not been made after {timeouts} election timeouts: {:?}",
                self.change_outcome
            );
            self.find_the_lost()?;
            let version = self.ledger.newest_membership().version();
            if let Some(newcomer) = newcomer_of(&change) {
                let rng = &mut self.ending_rng.fork();
                self.join(index_of(newcomer), rng)?;
            }
            let members: Vec<_> = [self.voters(), self.learners()].concat();
            let able =
                members.into_iter().filter(|&node| self.is_running(node) && self.is_sound(node));
            let node = self.ending_rng.choice(able.collect::<Vec<_>>()).expect("a quorum is sound");
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
        self.see_removed_end()
    }

    /// The next change on the way to where everybody votes who can.
    fn missing_change(&self, keeps_learners: bool) -> Option<Change> {
        let (now, planned) = (self.ledger.newest_membership(), &self.plan.membership);
        let is_majority = now.quorums() == Quorums::Majority;
        let learner = self.learners().first().map(|&node| id_of(node)).filter(|_| !keeps_learners);
        let lost = self.lost_member(now);
        if (learner.is_some() || lost.is_some()) && !is_majority {
            return Some(Change::Quorums(Quorums::Majority));
        }
        if let Some(node) = lost {
            let newcomer = self.newcomers().first().map(|&newcomer| id_of(newcomer));
            return Some(match newcomer {
                Some(newcomer) => replacement(node, newcomer),
                None => Change::Remove { node },
            });
        }
        if let Some(node) = learner {
            return Some(Change::Role { node, role: MemberRole::Voter });
        }
        let quorums = match now.voters().count() == self.plan.founders() {
            true => planned.quorums(),
            false => Quorums::Majority,
        };
        if now.quorums() != quorums {
            return Some(Change::Quorums(quorums));
        }
        (now.window() != planned.window()).then(|| Change::Window(planned.window()))
    }

    /// Whoever has been removed is told, even if it was away then, and ends; but for those that nobody lets in.
    fn see_removed_end(&mut self) -> Checked {
        self.find_the_lost()?;
        let end = self.now + self.plan.election_timeout() * TIMEOUTS_TO_LEAVE;
        while let Some(node) = self.removed_and_running() {
            ensure!(self.now < end, "node {} has been removed and goes on", id_of(node));
            self.find_the_lost()?;
            self.run_until(self.now + self.plan.election_timeout() / 4)?;
        }
        Ok(())
    }

    fn removed_and_running(&self) -> Option<usize> {
        let newest = self.ledger.newest_membership();
        self.present().into_iter().find(|&node| {
            newest.has_removed(id_of(node)) && self.is_running(node) && self.is_sound(node)
        })
    }
}

fn replacement(node: NodeId, by: NodeId) -> Change {
    Change::Replace { node, by, address: address_of(by) }
}

/// Whom a change makes a member.
fn newcomer_of(change: &Change) -> Option<NodeId> {
    match *change {
        Change::Add { node, .. } | Change::Replace { by: node, .. } => Some(node),
        _ => None,
    }
}
