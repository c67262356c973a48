//! Links that take their time and lose some of what they carry, for hours: nobody has to be told how slow they
//! are, and they cost nobody the leadership. And links that fall silent, on which that is noticed soon.

use super::*;

/// What becomes of a message: how long it takes, or that it is lost.
type Link = Box<dyn FnMut(NodeId, NodeId) -> Option<Duration>>;

/// Three replicas with disks that do all at once, and links between them.
struct Linked {
    now: Instant,
    replicas: BTreeMap<NodeId, Replica>,
    link: Link,
    /// By when it arrives, and the order in which it was sent.
    under_way: BTreeMap<(Instant, u64), (NodeId, NodeId, Message)>,
    sent: u64,
    polls: u64,
}

impl Linked {
    fn new(seed: u64, link: Link) -> Linked {
        let replicas = Cluster::with(3, |config| config.seed += seed).replicas;
        let under_way = BTreeMap::new();
        Linked { now: Instant::ZERO, replicas, link, under_way, sent: 0, polls: 0 }
    }

    fn step(&mut self, node: NodeId, input: Input) {
        let replica = self.replicas.get_mut(&node).expect("a node");
        let mut effects = replica.step(self.now, input);
        let peers = self.replicas.keys().copied().filter(|&peer| peer != node);
        effects.address(peers.collect::<Vec<_>>().into_iter());
        for (to, message) in effects.send {
            self.polls += u64::from(matches!(message, Message::Poll(_)));
            let Some(delay) = (self.link)(node, to) else { continue };
            self.sent += 1;
            self.under_way.insert((self.now.after(delay), self.sent), (node, to, message));
        }
        if let Some((id, _)) = effects.persist {
            self.step(node, Input::Persisted(id));
        }
    }

    /// Lets time pass until `end`, or until `is_enough`.
    fn run_until(&mut self, end: Instant, is_enough: impl Fn(&Linked) -> bool) {
        while !is_enough(self) {
            let deadlines = self.replicas.iter();
            let tick = deadlines.filter_map(|(&id, replica)| Some((replica.next_deadline()?, id)));
            let tick = tick.min().filter(|(at, _)| *at <= end);
            let arrival = self.under_way.keys().next().copied().filter(|(at, _)| *at <= end);
            match (arrival, tick) {
                (Some(key), tick) if tick.is_none_or(|(deadline, _)| key.0 <= deadline) => {
                    self.now = self.now.max(key.0);
                    let (from, to, message) = self.under_way.remove(&key).expect("the first");
                    self.step(to, Input::Message { from, message });
                }
                (_, Some((deadline, node))) => {
                    self.now = self.now.max(deadline);
                    self.step(node, Input::Tick);
                }
                (_, None) => {
                    self.now = end;
                    break;
                }
            }
        }
        self.replicas.values().for_each(Replica::check_invariants);
    }

    fn run(&mut self, time: Duration) {
        self.run_until(self.now.after(time), |_| false);
    }

    fn leaders(&self) -> Vec<NodeId> {
        let leads = |replica: &Replica| replica.status(self.now).role == Role::Leading;
        self.replicas.iter().filter(|(_, replica)| leads(replica)).map(|(&id, _)| id).collect()
    }

    fn ballots(&self) -> BTreeSet<Ballot> {
        self.replicas.values().map(|replica| replica.status(self.now).ballot).collect()
    }
}

/// A link that takes `shortest` and up to `jitter` more, and loses this share of what it carries.
fn lossy(seed: u64, shortest: Duration, jitter: Duration, loss: f64) -> Link {
    let mut rng = fastrand::Rng::with_seed(seed);
    Box::new(move |_, _| (rng.f64() >= loss).then(|| shortest + jitter.mul_f64(rng.f64())))
}

/// 150 ± 100 ms, and one message in fifty lost.
#[test]
fn on_a_slow_and_flaky_link_nobody_is_polled_out_in_an_hour() {
    let millis = Duration::from_millis;
    let mut cluster = Linked::new(1, lossy(1, millis(50), millis(200), 0.02));
    cluster.run(10 * SECOND);
    let (leaders, ballots, polls) = (cluster.leaders(), cluster.ballots(), cluster.polls);
    assert_eq!(leaders.len(), 1);
    cluster.run(3600 * SECOND);
    assert_eq!((cluster.leaders(), cluster.ballots()), (leaders, ballots));
    assert!(cluster.polls - polls <= 20, "{} polls in vain in an hour", cluster.polls - polls);
}

/// One follower has a link that loses most of what it carries, both ways.
#[test]
fn a_link_that_loses_most_costs_no_leader_that_a_quorum_hears() {
    let mut rng = fastrand::Rng::with_seed(1);
    let far = NodeId(3);
    let link = move |from, to| {
        let is_lost = (from == far || to == far) && rng.f64() < 0.8;
        (!is_lost).then_some(Duration::from_millis(1))
    };
    let mut cluster = Linked::new(1, Box::new(link));
    cluster.run(10 * SECOND);
    let (leaders, ballots) = (cluster.leaders(), cluster.ballots());
    assert_eq!(leaders.len(), 1);
    cluster.run(600 * SECOND);
    assert_eq!((cluster.leaders(), cluster.ballots()), (leaders, ballots));
}

/// As of a machine that has lost its power: no connection is reset, no packet refused.
#[test]
fn a_silent_machine_on_a_fast_network_is_replaced_within_half_a_second() {
    let mut longest = Duration::ZERO;
    for seed in 0..50 {
        let (fast, jitter) = (Duration::from_micros(200), Duration::from_millis(3));
        let mut cluster = Linked::new(seed, lossy(seed, fast, jitter, 0.0));
        cluster.run(5 * SECOND + Duration::from_millis(7 * seed));
        let [leader] = cluster.leaders()[..] else { panic!("seed {seed}: no leader") };
        let mut link = lossy(seed, fast, jitter, 0.0);
        cluster.link =
            Box::new(move |from, to| link(from, to).filter(|_| from != leader && to != leader));
        let silent_from = cluster.now;
        let is_replaced = |cluster: &Linked| cluster.leaders().iter().any(|&node| node != leader);
        cluster.run_until(silent_from.after(2 * SECOND), is_replaced);
        longest = longest.max(cluster.now.since(silent_from));
    }
    assert!(longest <= SECOND / 2, "{longest:?}");
}
