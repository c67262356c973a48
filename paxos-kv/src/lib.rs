//! A replicated key-value store on Multi-Paxos that every etcd v3 client can use unchanged.
//!
//! Three servers keep the same keys on their disks. Any one of them may crash, freeze or lose its
//! network, and clients of the others notice a pause of two seconds at most; nothing that was
//! acknowledged is lost, and no read is stale unless its client has asked for one that may be.
//!
//! ```sh
//! paxos-kv demo           # three members in one process, to try it out
//! paxos-kv serve --help   # a member of a real cluster, with the flags of etcd
//! paxos-kv put greeting hello && paxos-kv get greeting
//! ```
//!
//! # As a library
//!
//! A server is a value that your program starts and stops:
//!
//! ```
//! use paxos_kv::proto::etcdserverpb::{PutRequest, RangeRequest, kv_client::KvClient};
//! use paxos_kv::server::{Server, config::ServerConfig};
//!
//! # #[tokio::main(flavor = "multi_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let directory = tempfile::tempdir()?;
//! let server = Server::start(ServerConfig::single(directory.path())).await?;
//!
//! let mut client = KvClient::connect(server.client_urls()[0].to_string()).await?;
//! let put = PutRequest { key: "greeting".into(), value: "hello".into(), ..Default::default() };
//! client.put(put).await?;
//! let get = RangeRequest { key: "greeting".into(), ..Default::default() };
//! let found = client.range(get).await?.into_inner();
//! assert_eq!(found.kvs[0].value, "hello");
//!
//! server.shutdown().await?;
//! # Ok(())
//! # }
//! ```
//!
//! For a cluster, give every member the same [`ClusterMap`](server::config::ClusterMap) and start
//! each with [`ServerConfig::member`](server::config::ServerConfig::member).
//!
//! # The map
//!
//! | module     | what it is                                                                    |
//! |------------|-------------------------------------------------------------------------------|
//! | [`store`]  | the state machine: keys with all their revisions, over files or memory          |
//! | `api`      | one file per service of etcd's API: what a request asks of the store and the log |
//! | `backup`   | the store as a file that etcd can go on from, and back; `bbolt` is its format   |
//! | [`server`] | a member: its settings, its node, its listeners                                |
//! | [`cli`]    | the program: `serve`, `demo` and the client commands                           |
//! | [`guide`]  | for operators: backups, restoring, what to watch                               |
//! | [`proto`]  | the messages and services, wire-compatible with etcd                            |
//!
//! A write travels from `api` through the log of [`paxos_core`] to the [`store`] of every member,
//! and its answer comes from the store of the member that took the request. A read asks the log
//! only how far the store has to be, then reads the store; both work on every member.

// `println!` and its like panic when nobody reads: what is said goes through `cli::console` or the log.
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

pub(crate) mod api;
pub(crate) mod backup;
pub(crate) mod bbolt;
pub mod cli;
pub mod guide;
pub mod proto;
pub mod server;
pub mod store;
