//! Disks that take as long as an election timeout, or longer, for every write: somebody leads all the same, after
//! a few writes, and stays.

use super::*;

const MILLISECOND: Duration = Duration::from_millis(1);

/// Of which the longest is just below what counts as a disk that hangs.
const SYNCS: [u32; 6] = [5, 300, 450, 500, 1000, 1900];

/// How many writes it takes in a cluster of so many until somebody leads: those of candidates that meet come
/// after each other in part.
const WRITES: [(u64, u32); 2] = [(3, 2), (5, 3)];

/// Every write takes `sync`.
fn with_disks(size: u64, sync: Duration, seed: u64) -> Cluster {
    let mut cluster = Cluster::with(size, |config| config.seed = seed * 100 + config.id.0);
    cluster.sync = sync;
    cluster
}

/// How long it takes until one leads.
fn until_led(cluster: &mut Cluster) -> Duration {
    let began = cluster.now;
    while cluster.leaders().len() != 1 {
        assert!(cluster.now.since(began) < 60 * SECOND, "nobody leads");
        cluster.run(10 * MILLISECOND);
    }
    cluster.now.since(began)
}

#[test]
fn the_first_leader_takes_a_few_writes() {
    for (size, writes) in WRITES {
        for (sync, seed) in SYNCS.into_iter().flat_map(|sync| (1..=5).map(move |seed| (sync, seed)))
        {
            let mut cluster = with_disks(size, sync * MILLISECOND, seed);
            let most = 200 * MILLISECOND + writes * sync * MILLISECOND;
            let took = until_led(&mut cluster);
            assert!(took <= most, "{size} nodes, {sync} ms, seed {seed}: {took:?}");
            let rounds = cluster.ballots().last().expect("nodes").round;
            assert!(
                rounds <= writes.into(),
                "{size} nodes, {sync} ms, seed {seed}: {rounds} ballots"
            );
        }
    }
}

#[test]
fn the_next_leader_takes_no_more_once_the_silence_of_the_last_is_noticed() {
    for (size, writes) in WRITES {
        for (sync, seed) in SYNCS.into_iter().flat_map(|sync| (1..=5).map(move |seed| (sync, seed)))
        {
            let mut cluster = with_disks(size, sync * MILLISECOND, seed);
            until_led(&mut cluster);
            cluster.run(5 * SECOND);
            let [leader] = cluster.leaders()[..] else { panic!("one leads") };
            cluster.cut_off(leader);
            cluster.replicas.remove(&NodeId(leader));
            cluster.writing.remove(&NodeId(leader));
            let most = 3 * SECOND / 2 + writes * sync * MILLISECOND;
            let took = until_led(&mut cluster);
            assert!(took <= most, "{size} nodes, {sync} ms, seed {seed}: {took:?}");
        }
    }
}

#[test]
fn a_leader_stays_and_gets_on_however_slow_all_disks_are() {
    let mut cluster = with_disks(3, 1900 * MILLISECOND, 1);
    until_led(&mut cluster);
    let [leader] = cluster.leaders()[..] else { panic!("one leads") };
    let ballots = cluster.ballots();
    for sequence in 1..=60 {
        cluster.propose(leader, sequence, "slow");
        cluster.run(SECOND);
    }
    cluster.run(8 * SECOND);
    assert_eq!(cluster.applied(leader).len(), 60);
    assert_eq!(cluster.ballots(), ballots);
}

/// The only node that can lead has missed much, and for each page that it is told writes for long.
#[test]
fn a_candidate_that_pages_for_longer_than_an_election_timeout_is_elected() {
    let mut cluster = Cluster::with(5, |config| {
        config.page_bytes_max = 150;
        config.batch_commands_max = 1;
        // What it misses it is told by promises alone.
        config.gap_patience = 600 * SECOND;
    });
    cluster.run(2 * SECOND);
    let [leader, old, b, c, d] = cluster.leader_first()[..] else { panic!("five nodes") };
    cluster.cut_off(old);
    for sequence in 1..=60 {
        cluster.propose(leader, sequence, "a command of which one page holds three");
        cluster.run(10 * MILLISECOND);
    }
    cluster.run(SECOND);
    cluster.connect_only(&[(old, b), (old, c), (old, d)]);
    cluster.sync = 300 * MILLISECOND;
    let before = cluster.ballots().last().expect("nodes").round;
    cluster.run(4 * SECOND);
    assert_eq!(cluster.leaders(), [0; 0], "it takes longer than that");
    cluster.run(8 * SECOND);
    assert_eq!(cluster.leaders(), [old]);
    assert_eq!(
        cluster.ballots().last().expect("nodes").round,
        before + 1,
        "nobody has interrupted it"
    );
}
