//! Links that work in one direction, or between some nodes only: the cases of Ng, Haridi & Carbone
//! (EuroSys 2023), and one-way links. Whoever can lead does, and keeps its place.

use super::*;

impl Cluster {
    /// Cuts every link but these, which work both ways.
    pub(super) fn connect_only(&mut self, links: &[(u64, u64)]) {
        let nodes: Vec<_> = self.replicas.keys().copied().collect();
        self.cut.clear();
        for &from in &nodes {
            for &to in &nodes {
                let link = |&(a, b): &(u64, u64)| {
                    (NodeId(a), NodeId(b)) == (from, to) || (NodeId(b), NodeId(a)) == (from, to)
                };
                if !links.iter().any(link) {
                    self.cut.insert((from, to));
                }
            }
        }
    }

    /// Nodes 1 to `size`, renumbered so that the present leader comes first.
    pub(super) fn leader_first(&self) -> Vec<u64> {
        let mut nodes: Vec<_> = self.replicas.keys().map(|id| id.0).collect();
        nodes.sort_by_key(|id| !self.leaders().contains(id));
        nodes
    }

    pub(super) fn ballots(&self) -> BTreeSet<Ballot> {
        self.replicas.values().map(|replica| replica.status(self.now).ballot).collect()
    }
}

/// Within four election timeouts `node` takes a command for which it has to have a leader, and the
/// leadership then holds.
fn has_a_stable_leader(cluster: &mut Cluster, node: u64) {
    let timeout = SECOND;
    cluster.run(4 * timeout);
    let before = cluster.applied(node).len();
    cluster.propose(node, 1000 + before as u64, "probe");
    cluster.run(timeout / 2);
    assert_eq!(cluster.applied(node).len(), before + 1, "no leader for node {node}");
    let ballots = cluster.ballots();
    cluster.run(20 * timeout);
    assert_eq!(cluster.ballots(), ballots, "the leader did not last");
}

#[test]
fn quorum_loss_everyone_reaches_only_the_hub() {
    let mut cluster = Cluster::new(5);
    cluster.run(2 * SECOND);
    let [leader, hub, b, c, d] = cluster.leader_first()[..] else { panic!("five nodes") };
    cluster.connect_only(&[(hub, leader), (hub, b), (hub, c), (hub, d)]);
    has_a_stable_leader(&mut cluster, hub);
    assert_eq!(cluster.leaders(), [hub]);
}

#[test]
fn constrained_election_the_only_candidate_has_an_old_log() {
    let mut cluster = Cluster::new(5);
    cluster.run(2 * SECOND);
    let [leader, old, b, c, d] = cluster.leader_first()[..] else { panic!("five nodes") };
    cluster.cut_off(old);
    cluster.propose(leader, 1, "missed");
    cluster.run(SECOND / 2);
    cluster.connect_only(&[(old, b), (old, c), (old, d)]);
    has_a_stable_leader(&mut cluster, old);
    assert_eq!(cluster.applied(old), ["missed", "probe"]);
}

#[test]
fn chained_the_end_of_the_chain_disturbs_nobody_and_is_served() {
    let mut cluster = Cluster::new(3);
    cluster.run(2 * SECOND);
    let [leader, middle, end] = cluster.leader_first()[..] else { panic!("three nodes") };
    cluster.connect_only(&[(leader, middle), (middle, end)]);
    let ballots = cluster.ballots();
    cluster.propose(end, 1, "from the end");
    cluster.step(end, quorum_read(9));
    cluster.run(4 * SECOND);
    assert_eq!(cluster.ballots(), ballots, "the leader lost its place");
    assert_eq!(cluster.applied(leader), ["from the end"]);
    assert_eq!(cluster.applied(end), ["from the end"]);
    assert_eq!(cluster.reads_ready[&NodeId(end)], [9]);
}

#[test]
fn a_leader_that_only_sends_or_only_hears_is_replaced() {
    for hears in [true, false] {
        let mut cluster = Cluster::new(3);
        cluster.run(2 * SECOND);
        let [leader, b, c] = cluster.leader_first()[..] else { panic!("three nodes") };
        for peer in [b, c] {
            let (from, to) = if hears { (leader, peer) } else { (peer, leader) };
            cluster.cut.insert((NodeId(from), NodeId(to)));
        }
        has_a_stable_leader(&mut cluster, b);
        assert_ne!(cluster.leaders(), [leader], "hears: {hears}");
    }
}
