//! Leases of three servers: on every member, and through a change of the leader.

use std::time::{Duration, Instant};

use paxos_kv::{
    proto::etcdserverpb::{
        LeaseGrantRequest, LeaseKeepAliveRequest, LeaseLeasesRequest, LeaseTimeToLiveRequest,
        PutRequest, lease_client::LeaseClient,
    },
    server::Server,
};
use tonic::transport::Channel;

use super::{Cluster, put, range};

fn lease(cluster: &Cluster, server: usize) -> LeaseClient<Channel> {
    LeaseClient::new(cluster.channels[server].clone())
}

async fn grant(cluster: &Cluster, server: usize, ttl: i64) -> i64 {
    let request = LeaseGrantRequest { ttl, id: 0 };
    lease(cluster, server).lease_grant(request).await.expect("it is granted").into_inner().id
}

/// How long a lease has, in seconds, and its keys.
async fn left(cluster: &Cluster, server: usize, id: i64) -> (i64, Vec<bytes::Bytes>) {
    let request = LeaseTimeToLiveRequest { id, keys: true };
    let answer = lease(cluster, server).lease_time_to_live(request).await;
    let answer = answer.expect("it answers").into_inner();
    (answer.ttl, answer.keys)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_leader_goes_on_counting() {
    let cluster = Cluster::start().await;
    let led_by = cluster.servers[0].leadership().borrow().leader.expect("there is a leader");
    let is_leader = |server: &&Server| server.node().identity().node == led_by;
    let leader = cluster.servers.iter().position(|server| is_leader(&server)).expect("one of them");
    let others = [(leader + 1) % 3, (leader + 2) % 3];
    let began = Instant::now();
    let id = grant(&cluster, others[0], 4).await;
    let request = PutRequest { lease: id, ..put("leased", "v") };
    cluster.kv(others[1]).put(request).await.expect("it is put");
    assert_eq!(left(&cluster, others[0], id).await.1, ["leased"]);
    tokio::time::sleep_until((began + Duration::from_millis(2100)).into()).await;
    cluster.servers[leader].shutdown().await.expect("it stops");
    // One that began anew would have nearly four.
    let (ttl, keys) = left(&cluster, others[1], id).await;
    assert!(ttl < 2 && (ttl < 0) == keys.is_empty(), "{ttl}: {keys:?}");
    let gone = async {
        while !cluster
            .kv(others[0])
            .range(range("leased"))
            .await
            .expect("a read")
            .into_inner()
            .kvs
            .is_empty()
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.expect("it goes");
    assert!(began.elapsed() >= Duration::from_secs(4), "after {:?}", began.elapsed());
    assert_eq!(left(&cluster, others[1], id).await.0, -1);
}

/// On any member, for any number of leases; what is answered holds.
#[tokio::test(flavor = "multi_thread")]
async fn leases_are_kept_alive_on_every_member_until_the_stream_ends() {
    let cluster = Cluster::start().await;
    let mut ids = Vec::new();
    for number in 0..60 {
        ids.push(grant(&cluster, number % 3, 2).await);
    }
    let mut streams = Vec::new();
    for server in 0..3 {
        let (requests, sent) = tokio::sync::mpsc::channel(100);
        let sent = tokio_stream::wrappers::ReceiverStream::new(sent);
        let answers = lease(&cluster, server).lease_keep_alive(sent).await.expect("it begins");
        streams.push((requests, answers.into_inner()));
    }
    let until = Instant::now() + Duration::from_millis(4500);
    while Instant::now() < until {
        for (number, (requests, answers)) in streams.iter_mut().enumerate() {
            let own: Vec<_> = ids.iter().skip(number).step_by(3).copied().chain([77]).collect();
            for &id in &own {
                requests.send(LeaseKeepAliveRequest { id }).await.expect("it takes it");
            }
            for id in own {
                let answer = answers.message().await.expect("it answers").expect("an answer");
                let ttl = if id == 77 { 0 } else { 2 };
                assert_eq!((answer.id, answer.ttl), (id, ttl), "in the order of the requests");
            }
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let listed = lease(&cluster, 0).lease_leases(LeaseLeasesRequest {}).await.expect("a list");
    assert_eq!(listed.into_inner().leases.len(), 60);
    // A stream does not hold up the end of its server, and says why it ends.
    let began = Instant::now();
    cluster.servers[2].shutdown().await.expect("it stops");
    assert!(began.elapsed() < Duration::from_secs(2), "after {:?}", began.elapsed());
    let ended = streams[2].1.message().await.expect_err("it ends");
    assert_eq!(ended.message(), "etcdserver: server stopped");
    // The client has enough of the other ones.
    let (requests, mut answers) = streams.swap_remove(0);
    drop(requests);
    assert_eq!(answers.message().await.expect("it ends well"), None);
}
