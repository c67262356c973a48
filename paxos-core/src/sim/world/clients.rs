//! When clients come to a node, and what they ask of it.

use super::{Checked, World};
use crate::{
    replica::Proposal,
    sim::{
        agenda::Happening, history::History, host::Input, occurrence::Occurrence, workload::Action,
    },
    types::ReadMode,
};

impl World<'_> {
    pub(super) fn plan_client(&mut self) {
        let wait = self.plan.client_interval.mul_f64(2.0 * self.client_rng.f64());
        self.agenda.plan(self.now + wait, Happening::Client);
    }

    /// A client acts.
    pub(super) fn client(&mut self) -> Checked {
        self.plan_client();
        let present = self.present();
        let node = present[self.client_rng.usize(..present.len())];
        let Some(life) = self.life(node) else { return Ok(()) };
        if self.now < self.stations[node].shunned_until {
            return Ok(());
        }
        let actions = self.workload.act(life, &self.plan, &mut self.client_rng);
        self.act(node, actions)
    }

    /// A client reads at a node.
    pub(super) fn read(&mut self, node: usize) -> Checked {
        let Some(life) = self.life(node) else { return Ok(()) };
        let read = self.workload.read(life, ReadMode::Quorum);
        self.act(node, vec![read])
    }

    /// Carries out what clients want.
    pub(super) fn act(&mut self, node: usize, actions: Vec<Action>) -> Checked {
        let Some((id, incarnation)) = self.life(node) else { return Ok(()) };
        for action in actions {
            let station = &mut self.stations[node];
            match action {
                Action::Propose(requests) => {
                    for (id, command, patience) in requests {
                        self.calls.proposed(self.now, id, &command);
                        let deadline = station.local(self.now).after(patience);
                        let proposal = Proposal { id: Some(id), command, deadline, waiter: id };
                        station.push(Input::Propose(proposal));
                    }
                }
                Action::Reuse(id, command) => {
                    let deadline = station.local(self.now);
                    let proposal = Proposal { id: Some(id), command, deadline, waiter: id };
                    station.push(Input::Propose(proposal));
                }
                Action::Read(number, mode) => {
                    self.history.read_began((id, incarnation, number), mode);
                    if History::is_linearizable(mode) {
                        self.calls.read(self.now, (id, incarnation, number));
                    }
                    station.push(Input::Read { number, mode });
                }
                Action::GiveUpRead(number) => {
                    self.seen.add(Occurrence::GaveUp);
                    self.history.read_ended((id, incarnation, number));
                    station.push(Input::GiveUpRead { number });
                }
            }
        }
        self.call(node)
    }
}
