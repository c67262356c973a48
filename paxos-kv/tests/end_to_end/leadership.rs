//! Another server leads: asked to, or because the leader ends.

use std::time::{Duration, Instant};

use super::{
    SOME,
    common::{Cluster, client, workload::Workload},
};

/// How often each way for another server to lead is timed.
const ROUNDS: usize = 20;

/// What a server says that misses its leader.
const NO_LEADER: &str = "there is no leader: requests wait";

fn paxos_kv(arguments: &[&str], endpoints: &str) -> Result<String, String> {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_paxos-kv"))
        .env_clear()
        .args(arguments)
        .args(["--endpoints", endpoints])
        .output()
        .expect("the command can be started");
    let text = |bytes| String::from_utf8(bytes).expect("it writes text");
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// The id of a server.
async fn id_of(cluster: &Cluster, index: usize) -> String {
    let status = client::status(&cluster.servers[index].endpoint()).await.expect("it answers");
    format!("{:x}", status.header.expect("every answer has one").member_id)
}

/// How often servers have known no leader for an election timeout.
fn missed(cluster: &Cluster) -> usize {
    (0..3).map(|index| cluster.lines(index, NO_LEADER)).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leadership_moves_without_an_election_timeout_over_tcp() {
    the_leadership_moves_without_an_election_timeout("http").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leadership_moves_without_an_election_timeout_over_quic() {
    the_leadership_moves_without_an_election_timeout("quic").await;
}

async fn the_leadership_moves_without_an_election_timeout(scheme: &'static str) {
    let mut cluster = Cluster::start(scheme).await;
    cluster.settled().await;
    let workload = Workload::start(&cluster.endpoints());
    workload.progress(SOME).await;
    let endpoints = cluster.endpoints();
    let refused = paxos_kv(&["move-leader", "7"], &endpoints[0]);
    assert!(refused.is_err_and(|reason| reason.contains("bad leader transferee")));
    for to in 0..3 {
        let leader = cluster.leader().await;
        let before = missed(&cluster);
        let (from, target) = (id_of(&cluster, leader).await, id_of(&cluster, to).await);
        let began = Instant::now();
        // Whichever server is asked.
        let said = paxos_kv(&["move-leader", &target], &endpoints[(to + 1) % 3]);
        assert_eq!(said, Ok(format!("Leadership transferred from {from} to {target}\n")));
        assert_eq!(cluster.leader().await, to);
        workload.progress(SOME).await;
        assert_eq!(missed(&cluster), before, "a server has missed its leader");
        println!("{scheme}: moved, with a gap of {:?}", workload.longest_gap(began));
    }

    // One after the other is started again, the leader among them.
    for index in [2, 0, 1] {
        let (before, began) = (missed(&cluster), Instant::now());
        assert!(cluster.terminate(index), "it ends well");
        workload.progress(SOME).await;
        assert_eq!(missed(&cluster), before, "a server has missed its leader");
        println!("{scheme}: ended, with a gap of {:?}", workload.longest_gap(began));
        cluster.restart(index);
        cluster.settled().await;
    }
    workload.finish(&cluster.endpoints()).await;
}

/// The longest time without an acknowledged write after another server has begun to lead.
async fn gap(workload: &Workload, began: Instant) -> Duration {
    workload.outage(Instant::now()).await;
    workload.progress(SOME).await;
    workload.longest_gap(began)
}

fn shown(name: &str, mut gaps: Vec<Duration>) {
    gaps.sort_unstable();
    let (median, longest) = (gaps[gaps.len() / 2], gaps[gaps.len() - 1]);
    println!("{name}: median {median:?}, shortest {:?}, longest {longest:?}", gaps[0]);
}

/// `docs/FAULTS.md` says what they were.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: `cargo test -p paxos-kv --test end_to_end -- --ignored --nocapture gaps`"]
async fn gaps_when_another_server_leads() {
    for scheme in ["http", "quic"] {
        let mut cluster = Cluster::start(scheme).await;
        cluster.settled().await;
        let workload = Workload::start(&cluster.endpoints());
        let (mut moved, mut ended, mut killed) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let leader = cluster.leader().await;
            let to = id_of(&cluster, (leader + 1) % 3).await;
            workload.progress(SOME).await;
            let began = Instant::now();
            paxos_kv(&["move-leader", &to], &cluster.endpoints()[0]).expect("it is moved");
            moved.push(gap(&workload, began).await);

            let leader = cluster.leader().await;
            workload.progress(SOME).await;
            let began = Instant::now();
            assert!(cluster.terminate(leader), "it ends well");
            ended.push(gap(&workload, began).await);
            cluster.restart(leader);
            cluster.settled().await;

            let leader = cluster.leader().await;
            workload.progress(SOME).await;
            let began = Instant::now();
            cluster.kill(leader);
            killed.push(gap(&workload, began).await);
            cluster.restart(leader);
            cluster.settled().await;
        }
        shown(&format!("{scheme}, moved"), moved);
        shown(&format!("{scheme}, SIGTERM"), ended);
        shown(&format!("{scheme}, SIGKILL"), killed);
        workload.finish(&cluster.endpoints()).await;
    }
}
