//! The network: which links work and how fast, how long a message takes, which are lost, repeated,
//! overtaken or come again long after.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;

use super::{
    fault::Fault,
    occurrence::{Occurrence, Occurrences},
    plan::Plan,
    topology::Links,
};
use crate::{
    message::{Encoded, Lane, Message},
    types::StoreId,
};

/// Old messages kept to come again.
const MEMORY_MESSAGES_MAX: usize = 128;

/// What is large in a simulated cluster, in bytes: most commands, but no heartbeat.
pub(super) const LARGE_BYTES: usize = 40;

/// A message on its way.
#[derive(Clone, Debug)]
pub(super) struct Parcel {
    pub(super) from: usize,
    pub(super) to: usize,
    /// The disks of the two, when their processes connected.
    pub(super) stores: [StoreId; 2],
    pub(super) message: Message,
}

/// What is wrong with a link.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Trouble {
    /// Nothing passes.
    Cut,
    /// Messages are lost at this rate.
    Flaky(f64),
    /// Messages take this much longer.
    Slow(Duration),
    /// So many bytes pass in a second, one message behind the other; if it is the sender's uplink
    /// that is narrow, its other links wait for it too.
    Narrow { bytes_per_second: f64, is_uplink: bool },
    /// Messages larger than so many bytes are lost, as on a path that has come to carry smaller packets
    /// and does not say so.
    LosesLarge(usize),
    /// Nothing passes but the lane of what is urgent.
    ControlOnly,
}

/// A link that does not work as it should.
#[derive(Clone, Copy, Debug)]
struct Impairment {
    trouble: Trouble,
    until: Duration,
}

/// One direction between two nodes.
#[derive(Debug)]
struct Link {
    impairments: Vec<Impairment>,
    /// Decides what becomes of its messages.
    rng: fastrand::Rng,
    /// When its last message arrives, to keep them in order.
    last_arrival: Duration,
    /// When the last message has passed, if it is narrow.
    busy_until: Duration,
    /// The last promise sent on it.
    promise: Option<Parcel>,
    /// The last vote sent on it.
    vote: Option<Parcel>,
}

impl Link {
    /// What is wrong with it now.
    fn troubles(&mut self, now: Duration) -> impl Iterator<Item = Trouble> + '_ {
        self.impairments.retain(|impairment| impairment.until > now);
        self.impairments.iter().map(|impairment| impairment.trouble)
    }
}

/// The network of a simulated cluster.
#[derive(Debug)]
pub(super) struct Network {
    nodes: usize,
    links: Vec<Link>,
    /// When the last message has passed a node's uplink, if that is narrow.
    uplinks_busy_until: Vec<Duration>,
    /// Faults of single messages stop when the liveness phase begins.
    pub(super) is_faulty: bool,
    memory: VecDeque<Parcel>,
}

impl Network {
    /// A network in which everything works, but for the faults of the plan.
    pub(super) fn new(nodes: usize, rng: &mut fastrand::Rng) -> Network {
        let link = |_| Link {
            impairments: Vec::new(),
            rng: rng.fork(),
            last_arrival: Duration::ZERO,
            busy_until: Duration::ZERO,
            promise: None,
            vote: None,
        };
        let links: Vec<_> = (0..nodes * nodes).map(link).collect();
        let uplinks_busy_until = vec![Duration::ZERO; nodes];
        let memory = VecDeque::new();
        Network { nodes, links, uplinks_busy_until, is_faulty: true, memory }
    }

    fn link(&mut self, from: usize, to: usize) -> &mut Link {
        &mut self.links[from * self.nodes + to]
    }

    /// These links are in trouble, each until the time that `until` says.
    pub(super) fn trouble(
        &mut self,
        links: &Links,
        trouble: Trouble,
        mut until: impl FnMut() -> Duration,
    ) {
        for (from, to) in links.iter() {
            let impairment = Impairment { trouble, until: until() };
            self.link(from, to).impairments.push(impairment);
        }
    }

    /// Every link works again.
    pub(super) fn mend(&mut self) {
        for link in &mut self.links {
            link.impairments.clear();
            link.busy_until = Duration::ZERO;
            // What still queues on a narrow link must not hold up what comes after it.
            link.last_arrival = Duration::ZERO;
        }
        self.uplinks_busy_until.fill(Duration::ZERO);
    }

    /// Whether messages pass from `from` to `to`.
    pub(super) fn is_up(&mut self, now: Duration, from: usize, to: usize) -> bool {
        self.link(from, to).troubles(now).all(|trouble| trouble != Trouble::Cut)
    }

    /// Sends a message: it arrives as often and at such times as this returns.
    pub(super) fn send(
        &mut self,
        now: Duration,
        parcel: Parcel,
        plan: &Plan,
        seen: &mut Occurrences,
    ) -> Vec<(Duration, Parcel)> {
        let is_faulty = self.is_faulty;
        let mut arrivals = Vec::with_capacity(1);
        let rng = &mut self.link(parcel.from, parcel.to).rng.fork();
        let struck = |rng: &mut fastrand::Rng, fault| {
            rng.f64() < plan.message_fault_rate && is_faulty && plan.has(fault)
        };
        if struck(rng, Fault::Resurrect)
            && let Some(old) = rng.choice(&self.memory)
        {
            seen.add(Occurrence::Resurrected);
            arrivals.push((now + plan.latency(rng), old.clone()));
        }
        if is_faulty && plan.has(Fault::Resurrect) {
            if let Some((old, occurrence)) = self.earlier_answer(&parcel)
                && rng.bool()
            {
                seen.add(occurrence);
                arrivals.push((now + plan.latency(rng), old.clone()));
            }
            match parcel.message {
                Message::Promise(_) => {
                    self.link(parcel.from, parcel.to).promise = Some(parcel.clone());
                }
                Message::Accepted(_) => {
                    self.link(parcel.from, parcel.to).vote = Some(parcel.clone());
                }
                _ => {}
            }
        }
        let queue_max = plan.election_timeout();
        let Some(left) = self.leave(now, &parcel, queue_max, rng, seen) else { return arrivals };
        if plan.has(Fault::Resurrect) && rng.u8(..) < 16 {
            self.remember(parcel.clone(), rng);
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
            let mut arrival = left + delay;
            if !plan.has(Fault::Delay) {
                let link = self.link(parcel.from, parcel.to);
                arrival = arrival.max(link.last_arrival);
                link.last_arrival = arrival;
            }
            arrivals.push((arrival, parcel.clone()));
        }
        arrivals
    }

    /// When a message has left its sender by its link as that is now; `None` if it is lost there.
    fn leave(
        &mut self,
        now: Duration,
        parcel: &Parcel,
        queue_max: Duration,
        rng: &mut fastrand::Rng,
        seen: &mut Occurrences,
    ) -> Option<Duration> {
        let link = self.link(parcel.from, parcel.to);
        let troubles: Vec<_> = link.troubles(now).collect();
        let mut left = now;
        for trouble in troubles {
            match trouble {
                Trouble::Cut => {
                    seen.add(Occurrence::Severed);
                    return None;
                }
                Trouble::Flaky(rate) if rng.f64() < rate => {
                    seen.add(Occurrence::LostOnFlakyLink);
                    return None;
                }
                Trouble::Flaky(_) => {}
                Trouble::LosesLarge(bytes_max) => {
                    if parcel.message.encode().len() > bytes_max {
                        seen.add(Occurrence::LostForSize);
                        return None;
                    }
                }
                Trouble::ControlOnly => {
                    if parcel.message.lane() != Lane::Control {
                        seen.add(Occurrence::LostForLane);
                        return None;
                    }
                }
                Trouble::Slow(longer) => {
                    seen.add(Occurrence::HeldUpOnSlowLink);
                    left += longer.mul_f64(rng.f64());
                }
                Trouble::Narrow { bytes_per_second, is_uplink } => {
                    let busy_until = if is_uplink {
                        &mut self.uplinks_busy_until[parcel.from]
                    } else {
                        &mut self.links[parcel.from * self.nodes + parcel.to].busy_until
                    };
                    if *busy_until > now + queue_max {
                        seen.add(Occurrence::LostOnNarrowLink);
                        return None;
                    }
                    if *busy_until > left {
                        seen.add(Occurrence::QueuedOnNarrowLink);
                    }
                    let bytes = u32::try_from(parcel.message.encode().len()).unwrap_or(u32::MAX);
                    let takes = Duration::from_secs_f64(f64::from(bytes) / bytes_per_second);
                    *busy_until = left.max(*busy_until) + takes;
                    left = *busy_until;
                }
            }
        }
        Some(left)
    }

    /// What its receiver answered to the like of it at an earlier ballot of its sender: the promise
    /// to an earlier candidacy if this is a Prepare, the vote for the same slot if it is an Accept. By
    /// chance alone an old answer hardly ever arrives while it can be mistaken for a new one.
    fn earlier_answer(&mut self, parcel: &Parcel) -> Option<(&Parcel, Occurrence)> {
        let back = self.link(parcel.to, parcel.from);
        match &parcel.message {
            Message::Prepare(prepare) => {
                let last = back.promise.as_ref()?;
                let Message::Promise(promise) = &last.message else { return None };
                let is_earlier = promise.ballot < prepare.ballot;
                is_earlier.then_some((last, Occurrence::PromiseRepeated))
            }
            Message::Accept(accept) => {
                let last = back.vote.as_ref()?;
                let Message::Accepted(accepted) = &last.message else { return None };
                let is_earlier = accepted.ballot < accept.ballot
                    && (accepted.first..=accepted.last).contains(&accept.slot);
                is_earlier.then_some((last, Occurrence::VoteRepeated))
            }
            _ => None,
        }
    }

    fn remember(&mut self, parcel: Parcel, rng: &mut fastrand::Rng) {
        if self.memory.len() == MEMORY_MESSAGES_MAX {
            self.memory.swap_remove_back(rng.usize(..MEMORY_MESSAGES_MAX));
        }
        self.memory.push_back(parcel);
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
