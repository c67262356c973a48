//! The same random requests, malformed ones among them, to a real etcd and to a cluster of three
//! servers: both have to give the same answers, errors word for word.
//!
//! `ETCD_BIN` names the etcd 3.5 to compare with; without it, `etcd` of the path is used.
//! `DIFFERENTIAL_SEED` chooses other requests, `DIFFERENTIAL_REQUESTS` how many.

#[path = "../common/mod.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod common;

mod answer;
mod generator;

use std::{collections::VecDeque, env, time::Instant};

use common::{
    Cluster,
    client::{connect, status},
    etcdctl::RealEtcd,
};
use paxos_kv::proto::etcdserverpb::{kv_client::KvClient, lease_client::LeaseClient};

use self::{
    answer::{Answer, Clients},
    generator::Generator,
};

/// What a run without a seed of its own begins with: the same requests each time.
const SEED: u64 = 1;
/// Requests of a run.
const REQUESTS: usize = 6000;
/// Requests shown before the one that was answered differently.
const TRANSCRIPT: usize = 12;
/// How much of a request or an answer is shown.
const SHOWN_BYTES: usize = 2000;

#[tokio::test]
#[ignore = "needs a real etcd 3.5"]
async fn answers_are_those_of_a_real_etcd() {
    let seed = number("DIFFERENTIAL_SEED").unwrap_or(SEED);
    let requests = number("DIFFERENTIAL_REQUESTS")
        .map_or(REQUESTS, |requests| usize::try_from(requests).expect("a number of requests"));
    println!("DIFFERENTIAL_SEED={seed} repeats this run");

    let etcd = RealEtcd::start().await;
    let version = status(&etcd.endpoint()).await.expect("etcd answers").version;
    assert!(version.starts_with("3.5."), "set ETCD_BIN to an etcd 3.5: this one is {version}");
    let cluster = Cluster::start("http").await;
    let mut theirs = client(&etcd.endpoint());
    let mut ours: Vec<_> = cluster.endpoints().iter().map(|server| client(server)).collect();

    let began = Instant::now();
    let mut generator = Generator::new(seed);
    let mut transcript = VecDeque::new();
    let mut last = 0;
    for index in 0..requests {
        let request = generator.request();
        // The server that answered last knows all there is, unless it refused at first sight; another
        // one may answer a serializable request with less.
        let server = if request.is_serializable() { last } else { generator.below(ours.len()) };
        let expected = Answer::get(&mut theirs, &request).await;
        let found = Answer::get(&mut ours[server], &request).await;
        if !matches!(found, Answer::Error(..)) {
            last = server;
        }
        generator.learn(&request, &expected);
        let line = format!("{index}: {}\n   {}", shown(&request), shown(&expected));
        if expected.comparable(&request) != found.comparable(&request) {
            let before = Vec::from(transcript).join("\n");
            panic!(
                "seed {seed}, request {index}, server {server}\n{before}\n{line}\n-- but ours: {}",
                shown(&found)
            );
        }
        transcript.push_back(line);
        if transcript.len() > TRANSCRIPT {
            transcript.pop_front();
        }
    }
    println!("{requests} requests in {:?}\n{}", began.elapsed(), generator.summary());
    generator.assert_variety();
}

fn client(endpoint: &str) -> Clients {
    let channel = connect(endpoint);
    let kv = KvClient::new(channel.clone()).max_decoding_message_size(usize::MAX);
    Clients { kv, lease: LeaseClient::new(channel) }
}

fn number(variable: &str) -> Option<u64> {
    let value = env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable} must be a number, not {value:?}")))
}

fn shown(value: &impl std::fmt::Debug) -> String {
    let mut text = format!("{value:?}");
    if text.len() > SHOWN_BYTES {
        let end = text.floor_char_boundary(SHOWN_BYTES);
        text.truncate(end);
        text.push('…');
    }
    text
}
