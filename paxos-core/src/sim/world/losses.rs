//! Who is told that a process has ended, or that one has which has not.
//!
//! As with a real transport, whoever is connected to a process is told of its end, and behind what that had
//! sent, unless a message has been held up for long. Where the plan has misreports, some are told late, when
//! the node may be back, or never; and some are told of a node that is there.

use super::{Checked, World, id_of};
use crate::sim::{agenda::Happening, fault::Fault, host::Input, occurrence::Occurrence};

impl World<'_> {
    /// The process of a node has ended: those that it is connected to are told.
    pub(super) fn report_death(&mut self, dead: usize) {
        let mut rng = self.stations[dead].rng.fork();
        let lies = self.has_faults && self.plan.has(Fault::Misreport);
        for node in (0..self.plan.nodes).filter(|&node| node != dead) {
            let Some(life) = self.stations[node].host.incarnation() else { continue };
            let are_connected = self.network.is_up(self.now, dead, node)
                && self.network.is_up(self.now, node, dead);
            if !are_connected {
                continue;
            }
            let mut at = self.now + self.plan.report_latency(&mut rng);
            let (report, is_made) = match rng.u8(..4) {
                0 if lies => (Occurrence::DeathNotReported, false),
                1 if lies => {
                    at += self.while_lasting(&mut rng);
                    (Occurrence::DeathReportedLate, true)
                }
                _ => (Occurrence::DeathReported, true),
            };
            self.seen.add(report);
            if is_made {
                self.agenda.plan(at, Happening::Lost { node, life, peer: dead });
            }
        }
    }

    /// Some nodes are told that this one is lost, which is there or not.
    pub(super) fn misreport(&mut self, node: usize, rng: &mut fastrand::Rng) {
        for told in (0..self.plan.nodes).filter(|&told| told != node) {
            if rng.bool() {
                self.report_falsely(told, node);
            }
        }
    }

    /// A node is told that another one is lost.
    pub(super) fn report_falsely(&mut self, told: usize, peer: usize) {
        let Some(life) = self.stations[told].host.incarnation() else { return };
        if self.is_running(peer) {
            self.seen.add(Occurrence::AliveReportedLost);
        }
        self.agenda.plan(self.now, Happening::Lost { node: told, life, peer });
    }

    /// A node takes notice.
    pub(super) fn lose(&mut self, node: usize, peer: usize) -> Checked {
        self.give(node, Input::Lost(id_of(peer)))
    }
}
