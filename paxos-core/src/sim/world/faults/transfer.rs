//! The leadership is to go to another node, at any moment.

use crate::{
    message::TakeOver,
    replica::{TransferOutcome, TransferRefusal},
    sim::{
        check::{Check, ensure},
        host::Input,
        occurrence::Occurrence,
        world::{Checked, World, id_of},
    },
    types::NodeId,
};

/// The check that fails here.
const CHECK: Check = Check::Conduct;

/// Election timeouts for which a transfer is tried.
const TIMEOUTS_TO_TRANSFER: u32 = 4;

/// Election timeouts that a transfer takes at most if nothing is in its way; it is a matter of some round trips
/// and writes.
const TIMEOUTS_UNDISTURBED: u32 = 2;

impl World<'_> {
    /// Somebody asks a node to hand over.
    pub(super) fn transfer(&mut self, node: usize, rng: &mut fastrand::Rng) -> Checked {
        if !self.is_running(node) {
            return Ok(());
        }
        let to = (rng.u8(..4) > 0).then(|| id_of(rng.usize(..self.plan.nodes)));
        self.ask_for_transfer(node, to)
    }

    fn ask_for_transfer(&mut self, node: usize, to: Option<NodeId>) -> Checked {
        self.transfers.push(to);
        let number = self.transfers.len() as u64;
        self.trace.note(self.now, [30, node as u64, number], || {
            format!("{} is asked to hand over to {to:?}, transfer {number}", id_of(node))
        });
        let patience = self.plan.election_timeout() * TIMEOUTS_TO_TRANSFER;
        let deadline = self.stations[node].local(self.now).after(patience);
        self.give(node, Input::Transfer { number, to, deadline })
    }

    /// What has become of a transfer. It is done only if the node that was to lead has.
    pub(in crate::sim::world) fn transfer_ended(
        &mut self,
        node: usize,
        number: u64,
        outcome: TransferOutcome,
    ) -> Checked {
        self.seen.add(match outcome {
            Ok(_) => Occurrence::Transferred,
            Err(TransferRefusal::NotTakenOver(_)) => Occurrence::TransferAbandoned,
            Err(_) => Occurrence::TransferRefused,
        });
        self.trace.note(self.now, [31, node as u64, number], || match outcome {
            Ok(ballot) => format!("transfer {number}: {ballot} leads"),
            Err(refusal) => format!("transfer {number}: {refusal}"),
        });
        let index = usize::try_from(number - 1).expect("transfers are few");
        if let Ok(ballot) = outcome {
            let to = self.transfers[index].unwrap_or(ballot.node);
            ensure!(
                self.led.contains(&ballot) && ballot.node == to,
                "node {} says that {ballot} leads after a transfer to node {to}",
                id_of(node)
            );
        }
        self.transfer_outcome = Some((number, outcome));
        Ok(())
    }

    /// Whoever is told to lead has everything, and the leader has proposed nothing above it.
    pub(in crate::sim::world) fn check_take_over(
        &self,
        node: usize,
        to: usize,
        told: &TakeOver,
    ) -> Checked {
        let (from, to_id, known) = (id_of(node), id_of(to), self.stations[to].chosen_max);
        ensure!(
            known >= told.chosen,
            "node {from} tells node {to_id} to lead, which knows slots up to {known} of {} to be chosen",
            told.chosen
        );
        let highest = self.status_of(node).map(|status| status.highest_accepted);
        ensure!(
            highest <= Some(told.chosen),
            "node {from} tells node {to_id} to lead while slot {highest:?} is undecided"
        );
        Ok(())
    }

    /// Everything works, all nodes have something to do, and the leader hands over: that takes a moment.
    pub(in crate::sim::world) fn hand_over(&mut self, leader: usize, to: usize) -> Checked {
        for node in self.voters() {
            self.wish(node)?;
        }
        self.ask_for_transfer(leader, Some(id_of(to)))?;
        let number = self.transfers.len() as u64;
        let end = self.now + self.plan.election_timeout() * TIMEOUTS_UNDISTURBED;
        let ended = |world: &Self| world.transfer_outcome.filter(|(ended, _)| *ended == number);
        while ended(self).is_none() && self.now < end {
            self.run_until(self.now + self.plan.election_timeout() / 20)?;
        }
        let outcome = ended(self).map(|(_, outcome)| outcome);
        ensure!(
            matches!(outcome, Some(Ok(ballot)) if ballot.node == id_of(to)),
            "the transfer from {} to {}, which nothing hinders, has not been made: {outcome:?}",
            id_of(leader),
            id_of(to)
        );
        Ok(())
    }
}
