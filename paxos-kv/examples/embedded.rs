//! Three members in one program, which outlive their leader: `cargo run -p paxos-kv --example embedded`

use std::net::TcpListener;

use futures::future::try_join_all;
use paxos_kv::{
    Client, Server, ServerConfig,
    proto::etcdserverpb::{
        Compare, PutRequest, RequestOp, TxnRequest,
        compare::{CompareTarget, TargetUnion},
        request_op,
    },
    server::config::{ClusterMap, StorageKind, Url},
};
use tonic::Status;

/// Writes a key that is not there yet; returns whether it was not.
async fn put_if_absent(client: &Client, key: &str, value: &str) -> Result<bool, Status> {
    let (key, value) = (key.to_owned(), value.to_owned());
    let absent = Compare {
        key: key.clone().into(),
        target: CompareTarget::Version.into(),
        target_union: Some(TargetUnion::Version(0)),
        ..Compare::default()
    };
    let put = PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() };
    let put = RequestOp { request: Some(request_op::Request::RequestPut(put)) };
    let txn = TxnRequest { compare: vec![absent], success: vec![put], failure: Vec::new() };
    Ok(client.txn(txn).await?.succeeded)
}

/// Settings of members that keep all in memory, and serve nobody but this program.
fn members(names: [&'static str; 3]) -> Result<Vec<ServerConfig>, Box<dyn std::error::Error>> {
    // Held until all are found, so that none is found twice.
    let ports = [0; 3].map(|any| TcpListener::bind(("127.0.0.1", any)));
    let mut urls = Vec::new();
    for port in &ports {
        let port = port.as_ref().map_err(ToString::to_string)?.local_addr()?.port();
        urls.push(Url::new("http", "127.0.0.1", port));
    }
    let members = names.map(str::to_owned).into_iter().zip(urls.clone());
    let cluster = ClusterMap::by_name(members, "embedded")?;
    let configs = names.into_iter().zip(urls).map(|(name, url)| ServerConfig {
        storage: StorageKind::Memory,
        listen_client_urls: Vec::new(),
        servers_in_process: names.len(),
        ..ServerConfig::member(name, cluster.clone(), "", url)
    });
    Ok(configs.collect())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let configs = members(["a", "b", "c"])?;
    let mut servers = try_join_all(configs.into_iter().map(Server::start)).await?;
    let clients: Vec<_> = servers.iter().map(Server::client).collect();

    // Any member takes any request.
    assert!(put_if_absent(&clients[0], "leader-of-the-pack", "first").await?);
    assert!(!put_if_absent(&clients[1], "leader-of-the-pack", "second").await?);
    let found = clients[2].get("leader-of-the-pack").await?.expect("it was written");
    println!("written once: {found:?}");
    assert_eq!((&found.value[..], found.version), (&b"first"[..], 1));

    let leader = servers[0].leadership().borrow().leader.expect("it has been asked already");
    let place = servers.iter().position(|server| server.node().identity().node == leader);
    let leading = servers.swap_remove(place.expect("it is one of them"));
    leading.shutdown().await?;
    println!("the leader is gone");

    // The others go on, after an election.
    let client = servers[0].client();
    client.put("leader-of-the-pack", "third").await?;
    let found = servers[1].client().get("leader-of-the-pack").await?.expect("it was written");
    println!("written again: {found:?}");
    assert_eq!((&found.value[..], found.version), (&b"third"[..], 2));
    try_join_all(servers.iter().map(Server::shutdown)).await?;
    Ok(())
}
