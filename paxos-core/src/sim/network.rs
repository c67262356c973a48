//! The network: which links work, how long a message takes, which are lost, repeated, overtaken
//! or come again long after.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;

use super::{
    fault::Fault,
    occurrence::{Occurrence, Occurrences},
    plan::Plan,
};
use crate::message::{Encoded, Message};

/// Old messages kept to come again.
const MEMORY_MESSAGES_MAX: usize = 128;

/// A message on its way.
#[derive(Clone, Debug)]
pub(super) struct Parcel {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) message: Message,
}

/// Which links work, by direction.
#[derive(Clone, Debug)]
pub(super) struct Links {
    nodes: usize,
    cut: Vec<bool>,
}

impl Links {
    /// Every link works.
    pub(super) fn new(nodes: usize) -> Links {
        Links { nodes, cut: vec![false; nodes * nodes] }
    }

    /// Whether messages pass from `from` to `to`.
    pub(super) fn is_up(&self, from: usize, to: usize) -> bool {
        !self.cut[from * self.nodes + to]
    }

    /// Cuts or mends one direction of a link.
    pub(super) fn set(&mut self, from: usize, to: usize, is_up: bool) {
        self.cut[from * self.nodes + to] = !is_up;
    }

    /// Keeps exactly the links, both directions apart, that `keep` names.
    pub(super) fn retain(&mut self, keep: impl Fn(usize, usize) -> bool) {
        for from in 0..self.nodes {
            for to in 0..self.nodes {
                self.set(from, to, keep(from, to));
            }
        }
    }
}

/// The network of a simulated cluster.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) links: Links,
    /// Faults of single messages stop when the liveness phase begins.
    pub(super) is_faulty: bool,
    /// When the last message of each link arrives, to keep them in order.
    last_arrival: Vec<Duration>,
    memory: VecDeque<Parcel>,
    /// Decides what becomes of the messages of each link.
    rngs: Vec<fastrand::Rng>,
}

impl Network {
    /// A network in which everything works, but for the faults of the plan.
    pub(super) fn new(nodes: usize, rng: &mut fastrand::Rng) -> Network {
        Network {
            links: Links::new(nodes),
            is_faulty: true,
            last_arrival: vec![Duration::ZERO; nodes * nodes],
            memory: VecDeque::new(),
            rngs: (0..nodes * nodes).map(|_| rng.fork()).collect(),
        }
    }

    /// Sends a message: it arrives as often and at such times as this returns.
    pub(super) fn send(
        &mut self,
        now: Duration,
        parcel: Parcel,
        plan: &Plan,
        seen: &mut Occurrences,
    ) -> Vec<(Duration, Parcel)> {
        let link = parcel.from * self.links.nodes + parcel.to;
        let rng = &mut self.rngs[link].fork();
        if !self.links.is_up(parcel.from, parcel.to) {
            seen.add(Occurrence::Severed);
            return Vec::new();
        }
        let mut arrivals = Vec::with_capacity(1);
        let struck = |rng: &mut fastrand::Rng, fault| {
            rng.f64() < plan.message_fault_rate && self.is_faulty && plan.has(fault)
        };
        if struck(rng, Fault::Resurrect)
            && let Some(old) = rng.choice(&self.memory)
        {
            seen.add(Occurrence::Resurrected);
            arrivals.push((now + plan.latency(rng), old.clone()));
        }
        if plan.has(Fault::Resurrect) && rng.u8(..) < 16 {
            if self.memory.len() == MEMORY_MESSAGES_MAX {
                self.memory.swap_remove_back(rng.usize(..MEMORY_MESSAGES_MAX));
            }
            self.memory.push_back(parcel.clone());
        }
        if struck(rng, Fault::Drop) {
            seen.add(Occurrence::Dropped);
            return arrivals;
        }
        let copies = if struck(rng, Fault::Duplicate) {
            seen.add(Occurrence::Duplicated);
            rng.usize(2..4)
        } else {
            1
        };
        for _ in 0..copies {
            let delay = if struck(rng, Fault::Delay) {
                seen.add(Occurrence::Delayed);
                plan.long_latency(rng)
            } else {
                plan.latency(rng)
            };
            let mut arrival = now + delay;
            if !plan.has(Fault::Delay) {
                arrival = arrival.max(self.last_arrival[link]);
                self.last_arrival[link] = arrival;
            }
            arrivals.push((arrival, parcel.clone()));
        }
        arrivals
    }
}

/// The message after a trip over the wire.
pub(super) fn transcode(message: &Message) -> Message {
    let decoded = Message::decode(joined(&message.encode()));
    let decoded = decoded.expect("a replica's own message decodes");
    assert_eq!(&decoded, message, "a message changes on the wire");
    decoded
}

/// A digest of the message's bytes.
pub(super) fn digest(message: &Message) -> u64 {
    let encoded = message.encode();
    encoded.parts().fold(0, |digest, part| xxhash_rust::xxh3::xxh3_64_with_seed(part, digest))
}

fn joined(encoded: &Encoded) -> Bytes {
    let mut bytes = Vec::with_capacity(encoded.len());
    for part in encoded.parts() {
        bytes.extend_from_slice(part);
    }
    bytes.into()
}
