//! Once all is done and somebody leads, that stays so: whatever one node is told of its leader, and although that
//! stands still now and then for less time than it takes to be suspected.

use std::time::Duration;

use super::{Checked, World, id_of};
use crate::{
    sim::{
        check::{Check, ensure},
        ending::Ending,
        occurrence::Occurrence,
    },
    types::NodeId,
};

/// The check that fails here.
const CHECK: Check = Check::Liveness;

/// Election timeouts for which the leader must stay once everything is done.
const TIMEOUTS_CALM: u32 = 6;

impl World<'_> {
    /// Waits, and sees that the leader stays, unless it is one with a fault.
    pub(super) fn stay_calm(&mut self) -> Checked {
        let working = self.plan.ending.working(&self.voters());
        let working: Vec<_> = working.into_iter().map(id_of).collect();
        let step: Duration = self.plan.election_timeout() / 2;
        let leaders = self.leaders();
        let ballot = self.ballot_of(&leaders);
        for _ in 0..2 * TIMEOUTS_CALM {
            if let [leader] = leaders[..]
                && self.do_all_hear(leader)
            {
                self.falter(leader);
                self.lie_to_one_about(leader);
            }
            self.run_until(self.now + step)?;
            let now = self.leaders();
            let has_reason = leaders.iter().any(|leader| !working.contains(leader));
            ensure!(
                has_reason || (now == leaders && self.ballot_of(&now) == ballot),
                "the leader changes without need, from {leaders:?} to {now:?} ({:?})",
                self.plan.ending
            );
        }
        Ok(())
    }

    /// Whether all that run and are not cut off from everybody hear this leader.
    fn do_all_hear(&self, leader: NodeId) -> bool {
        let working = self.plan.ending.working(&self.voters());
        let has_no_fault = working.iter().any(|&node| id_of(node) == leader);
        let ending = &self.plan.ending;
        has_no_fault
            && matches!(
                ending,
                Ending::Healed
                    | Ending::Transfer
                    | Ending::Core(_)
                    | Ending::Survivors(_)
                    | Ending::LeaderDead
            )
    }

    /// The leader stands still for a moment.
    fn falter(&mut self, leader: NodeId) {
        let until = self.now + self.plan.falter();
        if let Some(node) = (0..self.plan.nodes).find(|&node| id_of(node) == leader)
            && until > self.now
        {
            self.seen.add(Occurrence::LeaderFaltered);
            self.stations[node].pause(self.now, until, false);
        }
    }

    /// Tells one node that its leader is lost. All others know better.
    fn lie_to_one_about(&mut self, leader: NodeId) {
        let mut told = self.plan.ending.working(&self.voters());
        told.retain(|&node| id_of(node) != leader && self.is_running(node));
        if let Some(&node) = self.ending_rng.choice(&told) {
            let peer = (0..self.plan.nodes).find(|&peer| id_of(peer) == leader);
            self.report_falsely(node, peer.expect("one of the nodes leads"));
        }
    }
}
