//! This project's replica without its node.

use bytes::Bytes;
use paxos_core::{message::Message, types::NodeId};

use crate::compare::{
    CompareError,
    protocol::{Outbox, Protocol, TICK},
};
use crate::{Solo, Tally};

impl Protocol for Solo {
    type Message = (NodeId, Message);

    fn cluster(nodes: usize) -> Result<Vec<Solo>, CompareError> {
        Ok(Solo::cluster(nodes)?)
    }

    fn is_leader(&self) -> bool {
        Solo::is_leader(self)
    }

    fn propose(&mut self, payload: Bytes) -> Result<(), CompareError> {
        Solo::propose(self, payload);
        Ok(())
    }

    fn receive(&mut self, (from, message): (NodeId, Message)) -> Result<(), CompareError> {
        Solo::receive(self, from, message);
        Ok(())
    }

    fn tick(&mut self) {
        Solo::tick(self, TICK);
    }

    fn advance(&mut self) -> Result<Tally, CompareError> {
        self.turn()?;
        Ok(self.take_applied())
    }

    fn flush(&mut self, outbox: &mut Outbox<Self::Message>) -> Result<(), CompareError> {
        self.turn()?;
        let id = self.id();
        for (to, message) in self.outgoing() {
            outbox.to[to.0 as usize - 1].push((id, message));
        }
        Ok(())
    }
}
