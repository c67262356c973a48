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
//! A server is a value that your program starts and stops, with a client that needs no socket:
//!
//! ```
//! use paxos_kv::{Keys, Server, ServerConfig};
//!
//! # #[tokio::main(flavor = "multi_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let directory = tempfile::tempdir()?;
//! let server = Server::start(ServerConfig::single(directory.path())).await?;
//!
//! let client = server.client();
//! client.put("services/a", "10.0.0.1:80").await?;
//! client.put("services/b", "10.0.0.2:80").await?;
//! let found = client.get("services/a").await?.expect("it was written");
//! assert_eq!(found.value, "10.0.0.1:80");
//! assert_eq!(client.range(Keys::prefix("services/")).await?.count, 2);
//! assert_eq!(client.delete("services/b").await?, 1);
//!
//! server.shutdown().await?;
//! # Ok(())
//! # }
//! ```
//!
//! Clients of etcd's API elsewhere connect to [`Server::client_urls`]; for none, make
//! [`ServerConfig::listen_client_urls`](server::config::ServerConfig::listen_client_urls) empty. The example
//! `embedded.rs` has three members in one
//! program, a transaction, and the loss of the leader. With `default-features = false` choose the backends that are
//! built in: `tcp` or `quic`, `redb` or `memory`.
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
//! | [`client`] | a client in the process of its member                                            |
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
pub mod client;
pub mod guide;
pub mod proto;
pub mod server;
pub mod store;

pub use client::{Client, Keys};
pub use server::{Server, config::ServerConfig};
