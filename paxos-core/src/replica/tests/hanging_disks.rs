//! Disks that bring no write to its end, while their nodes go on answering: who leads then.

use super::*;

/// Five nodes that follow the first of those returned, and the others in order.
fn led_by_one_of_five() -> (Cluster, u64, [u64; 4]) {
    let mut cluster = Cluster::new(5);
    cluster.run(2 * SECOND);
    let [leader] = cluster.leaders()[..] else { panic!("one leads") };
    let others: Vec<_> = (1..=5).filter(|&node| node != leader).collect();
    (cluster, leader, others.try_into().expect("four"))
}

#[test]
fn a_leader_whose_followers_cannot_write_makes_room_for_one_whose_can() {
    let (mut cluster, leader, [hanging, between, far, farther]) = led_by_one_of_five();
    // Three answer the leader, itself included, and two of them can write. Three others can write
    // and reach each other, but one of them hears the leader.
    cluster.hanging.insert(NodeId(hanging));
    cluster.cut_link(leader, far);
    cluster.cut_link(leader, farther);
    cluster.propose(between, 1, "kept");
    cluster.run(8 * SECOND);
    assert_eq!(cluster.applied(between), ["kept"]);
    let [new] = cluster.leaders()[..] else { panic!("one leads") };
    assert!([between, far, farther].contains(&new));
    cluster.run(8 * SECOND);
    assert_eq!(cluster.leaders(), [new], "who cannot be elected disturbs nobody");
}

#[test]
fn where_no_quorum_can_write_the_leader_stays_and_reads_go_on() {
    let (mut cluster, leader, [one, two, three, _]) = led_by_one_of_five();
    cluster.hanging.extend([one, two, three].map(NodeId));
    cluster.propose(leader, 1, "waits");
    cluster.run(8 * SECOND);
    assert_eq!(cluster.leaders(), [leader]);
    assert!(cluster.applied(leader).is_empty());
    cluster.step(leader, quorum_read(1));
    cluster.run(SECOND / 2);
    assert_eq!(cluster.reads_ready[&NodeId(leader)], [1]);
}

#[test]
fn a_leader_whose_own_disk_hangs_stays_while_the_others_can_write() {
    let (mut cluster, leader, _) = led_by_one_of_five();
    cluster.hanging.insert(NodeId(leader));
    cluster.propose(leader, 1, "done");
    cluster.run(8 * SECOND);
    assert_eq!(cluster.leaders(), [leader]);
    assert_eq!(cluster.applied(leader), ["done"]);
}
