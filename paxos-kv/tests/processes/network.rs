//! The network between the servers, as faults make it: a condition for each directed pair.
//!
//! Traffic from `a` to `b` and traffic from `b` to `a` are two links that share nothing, so a
//! server can be heard without hearing. The proxies ([`tcp`](super::tcp), [`udp`](super::udp)) ask
//! the link before they pass anything on, and count here what they did to it.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use super::faults::effect;

/// The queue before a narrow link, as the time that what is in it takes to pass.
const QUEUE_MAX: Duration = Duration::from_millis(300);

/// From which server to which.
pub(crate) type Pair = (usize, usize);

/// What happens to traffic on a link.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Condition {
    /// Nothing gets through, and nobody is told.
    pub(crate) is_cut: bool,
    /// The most that a packet is late.
    pub(crate) delay_max: Duration,
    /// The part of the packets that is lost. A stream is late instead, as if the sender had sent
    /// the lost packet again.
    pub(crate) loss: f64,
    /// The part of the packets that arrives twice.
    pub(crate) duplication: f64,
    /// The part of the packets that others overtake.
    pub(crate) reordering: f64,
    /// Bytes per second; 0 for as many as there are.
    pub(crate) bandwidth: u64,
    /// Raised to break the connections that use the link.
    pub(crate) severed: u64,
}

/// What the proxies did, so that a fault without effect does not go unnoticed.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) stopped_by_cut: AtomicU64,
    pub(crate) delayed: AtomicU64,
    pub(crate) lost: AtomicU64,
    pub(crate) duplicated: AtomicU64,
    pub(crate) overtaken: AtomicU64,
    pub(crate) throttled: AtomicU64,
    pub(crate) severed: AtomicU64,
}

impl Effects {
    /// Counts one.
    pub(crate) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Each with its name.
    pub(crate) fn list(&self) -> [(&'static str, u64); 7] {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            (effect::STOPPED_BY_CUT, of(&self.stopped_by_cut)),
            (effect::DELAYED, of(&self.delayed)),
            (effect::LOST, of(&self.lost)),
            (effect::DUPLICATED, of(&self.duplicated)),
            (effect::OVERTAKEN, of(&self.overtaken)),
            (effect::THROTTLED, of(&self.throttled)),
            (effect::SEVERED, of(&self.severed)),
        ]
    }
}

/// One direction between two servers.
pub(crate) struct Link {
    condition: watch::Sender<Condition>,
    /// When what was let through so far has passed a narrow link.
    busy_until: Mutex<Instant>,
}

impl Link {
    fn new() -> Link {
        Link {
            condition: watch::Sender::new(Condition::default()),
            busy_until: Mutex::new(Instant::now()),
        }
    }

    /// As it is now.
    pub(crate) fn condition(&self) -> Condition {
        *self.condition.borrow()
    }

    /// Returns when the link is not cut. Cancel safe.
    pub(crate) async fn open(&self) {
        let mut condition = self.condition.subscribe();
        // The sender lives as long as `self`.
        let _ = condition.wait_for(|condition| !condition.is_cut).await;
    }

    /// Returns when the connections that use the link are to break, from the call on.
    pub(crate) async fn severed(&self) {
        let mut condition = self.condition.subscribe();
        let before = condition.borrow().severed;
        let _ = condition.wait_for(|condition| condition.severed > before).await;
    }

    /// How long what is sent now takes to pass a narrow link, behind what was sent before; `None`
    /// if there is no place in its queue.
    pub(crate) fn queueing(&self, bytes: usize) -> Option<Duration> {
        let bandwidth = self.condition().bandwidth;
        if bandwidth == 0 {
            return Some(Duration::ZERO);
        }
        let mut busy_until = self.busy_until.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if *busy_until > now + QUEUE_MAX {
            return None;
        }
        let passing = Duration::from_secs_f64(bytes as f64 / bandwidth as f64);
        *busy_until = (*busy_until).max(now) + passing;
        Some(*busy_until - now)
    }
}

/// All links, and what was done to them.
pub(crate) struct Network {
    nodes: usize,
    links: Vec<Link>,
    pub(crate) effects: Effects,
}

impl Network {
    pub(crate) fn new(nodes: usize) -> Network {
        let links = (0..nodes * nodes).map(|_| Link::new()).collect();
        Network { nodes, links, effects: Effects::default() }
    }

    pub(crate) fn link(&self, (from, to): Pair) -> &Link {
        &self.links[from * self.nodes + to]
    }

    /// Every directed pair of two servers.
    pub(crate) fn pairs(&self) -> Vec<Pair> {
        pairs(self.nodes)
    }

    /// Changes the condition of links; what is not changed stays.
    pub(crate) fn change(&self, pairs: &[Pair], change: impl Fn(&mut Condition)) {
        for &pair in pairs {
            self.link(pair).condition.send_modify(&change);
        }
    }

    /// Breaks the connections that use the links.
    pub(crate) fn sever(&self, pairs: &[Pair]) {
        self.change(pairs, |condition| condition.severed += 1);
    }

    /// Lets everything through again. What was held up arrives late.
    pub(crate) fn heal(&self) {
        self.change(&self.pairs(), |condition| {
            *condition = Condition { severed: condition.severed, ..Condition::default() };
        });
    }
}

/// Every directed pair of so many.
pub(crate) fn pairs(nodes: usize) -> Vec<Pair> {
    let all = (0..nodes).flat_map(|from| (0..nodes).map(move |to| (from, to)));
    all.filter(|(from, to)| from != to).collect()
}

/// Somewhere up to `max`, each equally likely.
pub(crate) fn somewhere_up_to(max: Duration) -> Duration {
    max.mul_f64(fastrand::f64())
}

/// Whether it happens to one in a part of all.
pub(crate) fn befalls(part: f64) -> bool {
    part > 0.0 && fastrand::f64() < part
}
