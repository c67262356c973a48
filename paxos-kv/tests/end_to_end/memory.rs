//! What stays in the memory of servers is what they are told to keep, not the requests that it came in.

use std::env;

use bytes::Bytes;
use futures::{StreamExt, stream};
use paxos_kv::proto::etcdserverpb::{
    Compare, PutRequest, RequestOp, TxnRequest,
    compare::{CompareResult, CompareTarget, TargetUnion},
    kv_client::KvClient,
    request_op::Request,
};

use super::common::{Cluster, client};

/// How many large transactions there are, unless this variable says otherwise.
const COUNT: &str = "PAXOS_LARGE_TRANSACTIONS";
const COUNT_DEFAULT: usize = 120;

/// What each compares with. Together they are more than what members may differ by.
const COMPARED_BYTES: usize = 1_400_000;

/// How many are under way at once.
const AT_ONCE: usize = 4;

/// By so much more memory may they leave a server than what they have put: the pages of the log that its
/// database keeps, the end of the log that followers are sent, and what a disk is written with.
const MORE_MAX: u64 = 96 << 20;

/// The memory of each member, the largest first, after so many transactions that put one byte each.
async fn memory_after(count: usize, compared_bytes: usize) -> Vec<u64> {
    let cluster = Cluster::start("http").await;
    let leader = cluster.leader().await;
    let channel = client::connect(&cluster.servers[leader].endpoint());
    client::put(&channel, "k", "another value").await.expect("it is served");
    let compared = Bytes::from(vec![b'x'; compared_bytes]);
    let transactions = (0..count).map(|number| {
        let put = PutRequest {
            key: format!("{:04}", number % 1000).into(),
            value: Bytes::from_static(b"v"),
            ..PutRequest::default()
        };
        let compare = Compare {
            result: CompareResult::NotEqual.into(),
            target: CompareTarget::Value.into(),
            key: "k".into(),
            target_union: Some(TargetUnion::Value(compared.clone())),
            ..Compare::default()
        };
        let put = RequestOp { request: Some(Request::RequestPut(put)) };
        let request =
            TxnRequest { compare: vec![compare], success: vec![put], failure: Vec::new() };
        let mut client = KvClient::new(channel.clone());
        async move { client.txn(request).await }
    });
    let mut answers = stream::iter(transactions).buffer_unordered(AT_ONCE);
    let mut revision = 0;
    while let Some(answer) = answers.next().await {
        let answer = answer.expect("it is carried out").into_inner();
        assert!(answer.succeeded);
        revision = revision.max(answer.header.expect("every answer has a header").revision);
    }
    assert_eq!(usize::try_from(revision).expect("few revisions"), 2 + count);
    cluster.settled().await;
    let mut memory: Vec<_> = cluster.servers.iter().map(|server| server.memory()).collect();
    memory.sort_unstable_by(|a, b| b.cmp(a));
    memory
}

#[tokio::test(flavor = "multi_thread")]
async fn large_conditions_leave_as_much_in_memory_as_small_ones() {
    let count = env::var(COUNT).ok().map(|text| text.parse().expect("a number of transactions"));
    let count = count.unwrap_or(COUNT_DEFAULT);
    let small = memory_after(count, 1).await;
    let large = memory_after(count, COMPARED_BYTES).await;
    println!(
        "after {count} transactions: {:?} MiB if each compares with a byte, {:?} MiB if with {COMPARED_BYTES}",
        small.iter().map(|bytes| bytes >> 20).collect::<Vec<_>>(),
        large.iter().map(|bytes| bytes >> 20).collect::<Vec<_>>(),
    );
    assert!(COMPARED_BYTES * count > MORE_MAX as usize, "it would not be noticed");
    assert!(large[0] < small[0] + MORE_MAX);
}
