//! Benchmarks of the consensus path: what a cluster of three nodes does in one process, and what each
//! part of that costs.
//!
//! ```text
//! cargo bench -p paxos-bench                                    # everything, about twelve minutes
//! cargo bench -p paxos-bench --bench costs                      # the parts, about two minutes
//! cargo bench -p paxos-bench -- throughput/tcp/redb             # what begins like this
//! cargo bench -p paxos-bench --bench latency -- '/256B/1$'      # a regular expression
//! cargo bench -p paxos-bench --no-default-features --features tcp   # without QUIC and redb
//! cargo test -p paxos-bench --benches                           # every benchmark once: do they run?
//! ```
//!
//! The report with its plots is `target/criterion/report/index.html`.
//!
//! A benchmark is named after what it measures, `throughput/tcp/redb/256B/64`: the group, the
//! transport, the storage, the size of a command, the commands in flight. [`matrix`] has all
//! values; the features `tcp`, `quic` and `redb` decide which of them are compiled in.
//!
//! # What is measured
//!
//! Benches `throughput` and `latency` have whole clusters and the limits of the machine:
//!
//! | group | figure |
//! |---|---|
//! | `throughput` | Commands per second (criterion's elements), proposed at the leader by as many clients as there are commands in flight. |
//! | `forwarding` | The same with the clients spread over all three nodes, so that two of three commands are forwarded to the leader. |
//! | `latency` | The time from `propose` to its result at the leader, for one client, while the other clients in flight do the same in the background. |
//! | `limit` | What the machine allows: `fdatasync` appends the bytes of all commands in flight to a file in one write and syncs it; `loopback` sends them over one TCP connection and waits for 32 bytes of answer. |
//!
//! All clients of the benchmarks are a **closed loop**: each waits for its result before it
//! proposes again. That answers "how long does one of K clients wait", not "how long does a request wait at N requests
//! per second": a cluster that stalls gets fewer requests here, and its figures look better than
//! what users with a will of their own would see. The command [`paxos-bench latency`](latency)
//! has an **open loop**: requests come at a steady rate, each timed from when it should have begun.
//!
//! The state machine is a [`Tally`], which does nothing but count. Time goes from the first
//! proposal to the last result; starting the cluster, electing a leader and starting the clients is
//! not in it. The measurements of one pair of backends share one cluster, replaced by an empty
//! one when its log has become long. At its end all three nodes are compared: a figure of a cluster
//! that lost a command is not printed.
//!
//! Clients and all three nodes share the cores of one machine, so a figure is a lower bound of what
//! three machines reach; with `redb` the three logs share one disk, too. Files are in
//! `target/tmp`, deleted at the end.
//!
//! # What each part costs
//!
//! Bench `costs` has one thread, no network and no disk. A change that makes one of these slower has
//! made every command slower, whether or not that shows between the syncs and the system calls of a
//! whole cluster. Figures are per batch, and per command or message as criterion's elements.
//!
//! | benchmark | what is timed |
//! |---|---|
//! | `step/leader/256B/64` | All that a leader's replica does for a batch of so many commands: takes them in, cuts the batch, proposes and accepts it, counts the votes, delivers it and answers. 1, 64, 1024 commands. |
//! | `step/follower/256B/64` | What a follower's does: accepts the batch, and delivers the one before. |
//! | `sessions/fresh/64` | A follower takes in, as chosen, 1,024 requests in consecutive runs of so many clients: the more clients, the more it is the session table that works. 1, 64, 1024 clients. |
//! | `sessions/duplicate/64` | The same when they have all had their effect before. |
//! | `checkpoint/full` | A follower takes in a noop and begins a checkpoint, for which the session table is encoded: it is empty, or as large as it gets. |
//! | `codec/encode-value/256B/64`, `decode-value` | A batch of so many commands to bytes, which copies each command once, and back, which copies none. |
//! | `codec/encode-accept/256B/64`, `decode-accept` | The `Accept` that carries it to bytes, and back. |
//! | `transport/memory/send-to-2/256B/64` | One call that sends so many Accepts to one or two receivers. 1, 64 messages. |
//! | `transport/memory/receive/256B/64` | One call that takes them in. |
//! | `storage/memory/write/256B/64` | A write of so many records. |
//!
//! A `step` is timed by two or three looks at the clock for each batch, some 0.1 µs in all.
//!
//! How often the allocator is asked is no benchmark but a test, since it is exact: a slot costs at most
//! so many calls and a command none, or `cargo test -p paxos-bench --test allocations` fails. The test
//! lists which they are; when it fails it leaves a profile, `allocations-….json` in `target/tmp`, for
//! the [viewer of dhat](https://nnethercote.github.io/dh_view/dh_view.html).
//!
//! # Beside others
//!
//! The command `paxos-bench compare` measures this project, other libraries, and a task that
//! replicates nothing, side by side in one run: see [`compare`].
//!
//! # As a library
//!
//! The harness is public, for benchmarks of one's own:
//!
//! ```
//! # fn main() -> Result<(), paxos_bench::HarnessError> {
//! # tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads").block_on(async {
//! use paxos_bench::{Cluster, Entry, Payload, StorageKind, TransportKind, drive};
//!
//! let directory = std::env::temp_dir();
//! let cluster = Cluster::start(3, TransportKind::Memory, StorageKind::Memory, &directory).await?;
//! let time = drive(&cluster.entry(Entry::Leader), &Payload::of_size(256), 64, 1000).await?;
//! println!("{:.0} commands per second", 1000.0 / time.as_secs_f64());
//! assert!(cluster.shutdown().await?.commands >= 1000);
//! # Ok(()) }) }
//! ```

mod backend;
mod child;
mod cluster;
pub mod compare;
mod disk;
mod environment;
mod error;
mod fixture;
pub mod latency;
pub mod level;
pub mod limit;
mod load;
pub mod matrix;
mod number;
mod open_loop;
mod page;
pub mod process;
#[cfg(feature = "kv")]
pub mod soak;
mod solo;
#[cfg(feature = "kv")]
pub mod starts;
mod tally;
mod trio;

pub use backend::{StorageKind, TransportKind};
pub use child::serve;
pub use cluster::{Cluster, Entry};
pub use disk::Disk;
pub use environment::Environment;
pub use error::HarnessError;
pub use fixture::Fixture;
pub use load::{Background, Pipeline, drive, pipeline};
pub use open_loop::{OpenLoop, Operation, open_loop};
pub use solo::Solo;
pub use tally::{Payload, Tally};
pub use trio::{Laps, Trio};

/// The README's example is run as a test: this is the crate that depends on all backends.
#[cfg(all(doctest, feature = "quic", feature = "redb"))]
#[doc = include_str!("../../README.md")]
pub struct Readme;
