//! States: snapshots, states on disk, and what a restart replays.
//!
//! A node applies the same commands as every other, and so it could always get its state by applying
//! the log from its beginning. A log that is kept from its beginning fills the disk, and replaying it
//! takes longer every day. So a node makes **checkpoints**: the state as of a slot, with what belongs to
//! it. The log up to there may go, and a node that starts, or has missed too much, begins with a
//! checkpoint instead.
//!
//! What is asked of a [`StateMachine`] for that depends on where its state is.
//!
//! # A state in memory, in three lines
//!
//! A [`Snapshot`] is anything that serde can encode. Mostly it is a copy of the state:
//!
//! ```
//! # use std::{collections::BTreeMap, io};
//! # use paxos_core::{port::StateMachine, types::Slot};
//! #[derive(Default)]
//! struct Directory {
//!     numbers: BTreeMap<String, u64>,
//! }
//!
//! impl StateMachine for Directory {
//!     type Command = (String, u64);
//!     type Response = Option<u64>;
//!     type Snapshot = BTreeMap<String, u64>;                                // one
//!
//!     fn snapshot(&self) -> BTreeMap<String, u64> {
//!         self.numbers.clone()                                              // two
//!     }
//!
//!     fn restore(&mut self, _: Slot, numbers: BTreeMap<String, u64>) -> io::Result<()> {
//!         self.numbers = numbers;                                           // three
//!         Ok(())
//!     }
//!
//!     fn apply(&mut self, _: Slot, commands: Vec<(String, u64)>) -> Vec<Option<u64>> {
//!         commands.into_iter().map(|(name, number)| self.numbers.insert(name, number)).collect()
//!     }
//! }
//! ```
//!
//! The node does the rest: it writes the snapshot to its storage beside the log, piece by piece and while
//! commands go on, gives it to peers that have missed too much, and puts it in place at the next start.
//!
//! [`snapshot`](crate::port::StateMachine::snapshot) is called between two commands, so it has to be cheap. If a copy
//! of the state is not, share it: behind an [`Arc`](std::sync::Arc), of which
//! [`make_mut`](std::sync::Arc::make_mut) makes a copy only while a snapshot is being read, or in a
//! persistent map. What takes long, such as encoding, happens on a thread that may block.
//!
//! # A format of one's own, as a stream
//!
//! What serde encodes is in memory as a whole for a moment. A large state implements [`Snapshot`]
//! itself: it gives out its bytes as they are asked for, and takes them in as they come.
//!
//! ```
//! use std::{collections::BTreeMap, io::{self, Read}, sync::Arc};
//! use paxos_core::port::Snapshot;
//!
//! /// A count for each number: 16 bytes a row.
//! struct Rows(Arc<BTreeMap<u64, u64>>);
//!
//! /// What is left to be read: the rows behind a number, and what has been encoded of the next one.
//! struct Reader {
//!     rows: Arc<BTreeMap<u64, u64>>,
//!     next: Option<u64>,
//!     encoded: Vec<u8>,
//! }
//!
//! impl Read for Reader {
//!     fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
//!         if self.encoded.is_empty()
//!             && let Some((key, count)) = self.next.and_then(|next| self.rows.range(next..).next())
//!         {
//!             self.encoded = [key.to_le_bytes(), count.to_le_bytes()].concat();
//!             self.next = key.checked_add(1);
//!         }
//!         let count = self.encoded.len().min(into.len());
//!         into[..count].copy_from_slice(&self.encoded[..count]);
//!         self.encoded.drain(..count);
//!         Ok(count)
//!     }
//! }
//!
//! impl Snapshot for Rows {
//!     fn into_reader(self) -> io::Result<Box<dyn Read + Send>> {
//!         Ok(Box::new(Reader { rows: self.0, next: Some(0), encoded: Vec::new() }))
//!     }
//!
//!     fn from_reader(mut reader: Box<dyn Read + Send>) -> io::Result<Rows> {
//!         let mut rows = BTreeMap::new();
//!         let mut row = [0; 16];
//!         // Whatever ends within a row is not what was written.
//!         while reader.read(&mut row[..1])? > 0 {
//!             reader.read_exact(&mut row[1..])?;
//!             let [key, count] = [0, 8].map(|at| {
//!                 u64::from_le_bytes(row[at..at + 8].try_into().expect("eight bytes"))
//!             });
//!             rows.insert(key, count);
//!         }
//!         Ok(Rows(Arc::new(rows)))
//!     }
//! }
//!
//! # fn main() -> io::Result<()> {
//! let rows = Rows(Arc::new((0..1000).map(|key| (key, key * key)).collect()));
//! let expected = Arc::clone(&rows.0);
//! assert_eq!(Rows::from_reader(rows.into_reader()?)?.0, expected);
//! # Ok(())
//! # }
//! ```
//!
//! A state that was written by another version may come in, from an older life of this node or from a
//! peer: begin the bytes with the number of their format.
//!
//! # A state on disk
//!
//! A state machine with a disk of its own keeps itself: no copy of it is written beside the log. It says
//! how far it would survive a crash ([`durable`](crate::port::StateMachine::durable)), and a checkpoint of a slot
//! counts only once it is durable up to there. It may be as lazy as it likes about that, since what a crash
//! takes away is replayed. What it has to see to is that state and slot are of one moment, whatever a
//! crash leaves: they go into one transaction, or into one file that takes the place of another.
//!
//! ```
//! use std::{fs::{self, File}, io::{self, Write}, path::{Path, PathBuf}};
//! use paxos_core::{port::StateMachine, types::Slot};
//!
//! /// Adds up, in a file: "slot total".
//! struct Counter {
//!     path: PathBuf,
//!     applied: Slot,
//!     /// What the file has.
//!     written: Slot,
//!     total: i64,
//! }
//!
//! impl Counter {
//!     fn open(path: &Path) -> io::Result<Counter> {
//!         let text = match fs::read_to_string(path) {
//!             Err(error) if error.kind() == io::ErrorKind::NotFound => "0 0".to_owned(),
//!             text => text?,
//!         };
//!         let malformed = || io::Error::new(io::ErrorKind::InvalidData, "not a counter");
//!         let (slot, total) = text.split_once(' ').ok_or_else(malformed)?;
//!         let applied = Slot(slot.parse().map_err(|_| malformed())?);
//!         let total = total.parse().map_err(|_| malformed())?;
//!         Ok(Counter { path: path.to_owned(), applied, written: applied, total })
//!     }
//!
//!     /// A new file takes the place of the old one, whole or not at all.
//!     fn write(&mut self) -> io::Result<()> {
//!         let new = self.path.with_extension("new");
//!         let mut file = File::create(&new)?;
//!         write!(file, "{} {}", self.applied, self.total)?;
//!         file.sync_all()?;
//!         fs::rename(new, &self.path)?;
//!         File::open(self.path.parent().unwrap_or(Path::new("/")))?.sync_all()?;
//!         self.written = self.applied;
//!         Ok(())
//!     }
//! }
//!
//! impl StateMachine for Counter {
//!     type Command = i64;
//!     type Response = i64;
//!     type Snapshot = i64;
//!
//!     fn apply(&mut self, slot: Slot, commands: Vec<i64>) -> Vec<i64> {
//!         let add = |number| {
//!             self.total += number;
//!             self.total
//!         };
//!         let totals = commands.into_iter().map(add).collect();
//!         self.applied = slot;
//!         if slot.0 - self.written.0 >= 1000 {
//!             self.flush();
//!         }
//!         totals
//!     }
//!
//!     fn durable(&self) -> Option<Slot> {
//!         Some(self.written)
//!     }
//!
//!     // Before a graceful stop, so that the next start replays nothing.
//!     fn flush(&mut self) {
//!         self.write().expect("the counter's file can be written; else this node ends here");
//!     }
//!
//!     // For a peer that has missed too much.
//!     fn snapshot(&self) -> i64 {
//!         self.total
//!     }
//!
//!     // From a peer. Durable when it returns, and if it fails the old state is still there.
//!     fn restore(&mut self, slot: Slot, total: i64) -> io::Result<()> {
//!         let before = (self.applied, self.total);
//!         (self.applied, self.total) = (slot, total);
//!         self.write().inspect_err(|_| (self.applied, self.total) = before)
//!     }
//! }
//!
//! # fn main() -> io::Result<()> {
//! # let directory = std::env::temp_dir().join(format!("paxos-core-guide-{}", std::process::id()));
//! # fs::create_dir_all(&directory)?;
//! let path = directory.join("counter");
//! let mut counter = Counter::open(&path)?;
//! counter.apply(Slot(1), vec![3, 4]);
//! assert_eq!(counter.durable(), Some(Slot(0)));
//! counter.flush();
//! counter.apply(Slot(2), vec![5]);
//! // A crash. The node passes over slot 1, which is in the file, and applies slot 2 again.
//! let mut counter = Counter::open(&path)?;
//! assert_eq!(counter.durable(), Some(Slot(1)));
//! assert_eq!(counter.apply(Slot(2), vec![5]), [12]);
//! # fs::remove_dir_all(&directory)?;
//! # Ok(())
//! # }
//! ```
//!
//! Whoever waits for a disk says so,
//! with [`NodeBuilder::blocking_state_machine`](crate::node::NodeBuilder::blocking_state_machine).
//! `paxos-kv` is a state machine of this kind whose snapshots are read views of a database.
//!
//! # Asking for long
//!
//! [`Node::read`](crate::Node::read) holds up the state machine while it reads. A query that takes long
//! takes a snapshot there and works on that:
//!
//! ```
//! # use std::io;
//! # use paxos_core::{Node, port::StateMachine, types::{Membership, Slot}};
//! # use paxos_storage::MemoryStorage;
//! # use paxos_transport::MemoryNetwork;
//! # #[derive(Default)]
//! # struct Names(Vec<String>);
//! # impl StateMachine for Names {
//! #     type Command = String;
//! #     type Response = usize;
//! #     type Snapshot = Vec<String>;
//! #     fn apply(&mut self, _: Slot, commands: Vec<String>) -> Vec<usize> {
//! #         commands.into_iter().map(|name| { self.0.push(name); self.0.len() }).collect()
//! #     }
//! #     fn snapshot(&self) -> Vec<String> { self.0.clone() }
//! #     fn restore(&mut self, _: Slot, names: Vec<String>) -> io::Result<()> { self.0 = names; Ok(()) }
//! # }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let cluster = Membership::new([(1, "node-1")])?;
//! # let network = MemoryNetwork::new(1);
//! let node = Node::builder(1, cluster)
//!     .storage(MemoryStorage::new())
//!     .transport(network.join(1))
//!     .configure(|config| config.checkpoint_slots = 10_000)
//!     .start(Names::default())
//!     .await?;
//! node.propose("Ada".to_owned()).await?;
//! let names = node.read(|machine| machine.snapshot()).await?;
//! assert_eq!(names, ["Ada"]);
//! # node.shutdown().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # A state that is another one than it should be
//!
//! A state machine that iterates over a hash map, or asks the clock, gives each node a state of its own, and
//! so does memory or a disk that changes what it holds. The log does not show it. One that gives a
//! [`digest`](crate::port::StateMachine::digest) has it compared by all nodes, every
//! [`DIGEST_SLOTS`](crate::limits::DIGEST_SLOTS) slots: whoever differs from a quorum stops with
//! [`StateDiverged`](crate::replica::Halt::StateDiverged), and the others go on. Of a small state it is a hash;
//! a large one keeps a number that each command updates:
//!
//! ```
//! # use std::{collections::BTreeMap, hash::{DefaultHasher, Hash, Hasher}};
//! # use serde::{Deserialize, Serialize};
//! #[derive(Clone, Default, Serialize, Deserialize)]
//! struct Accounts {
//!     balances: BTreeMap<String, i64>,
//!     digest: u64,
//! }
//!
//! impl Accounts {
//!     fn credit(&mut self, name: String, amount: i64) -> i64 {
//!         let balance = self.balances.entry(name.clone()).or_default();
//!         *balance += amount;
//!         let mut hasher = DefaultHasher::new();
//!         (self.digest, name, *balance).hash(&mut hasher);
//!         self.digest = hasher.finish();
//!         *balance
//!     }
//! }
//! # let (mut one, mut other) = (Accounts::default(), Accounts::default());
//! # one.credit("Ada".into(), 3);
//! # other.credit("Ada".into(), 4);
//! # assert_ne!(one.digest, other.digest);
//! ```
//!
//! (`DefaultHasher` may change between versions of Rust: nodes that are built with different ones need a hash
//! that does not.) The number is part of the state: it is in the snapshot, and on the disk of a state that keeps
//! itself.
//!
//! # What is guaranteed
//!
//! - A checkpoint is whole or it is not there: the log up to it goes only after it is durable. All parts of
//!   it are as of one slot, the table of requests that have had their effect among them, so a command that is
//!   proposed again has no effect a second time, on whichever side of a checkpoint it was.
//! - A state from a peer is verified as a whole before anything of it counts, and takes the place of the
//!   own one with a single write. What is there of it survives a crash of either side.
//! - A command that was on its way while its node took over a state may have had its effect in it. Then
//!   nobody here knows the response: the answer is
//!   [`UnknownOutcome`](crate::node::ProposeError::UnknownOutcome), or
//!   [`AlreadyApplied`](crate::node::ProposeError::AlreadyApplied) if it had a name of the embedder's.
//! - Linearizable reads wait for the state to be in place.
//! - A state that cannot be read, or not be put in place, ends the node with the reason
//!   ([`Snapshot`](crate::node::NodeError::Snapshot), [`Restore`](crate::node::NodeError::Restore)). A state
//!   machine that has lost the state which its log begins with is refused at the start
//!   ([`StateMissing`](crate::replica::ReplicaError::StateMissing)).
//!
//! # What to configure
//!
//! Nothing, at first. The settings are fields of [`Config`](crate::Config), and should be the same on
//! every node:
//!
//! | setting | default | what it decides |
//! |---|---|---|
//! | `checkpoint_slots` | [`CHECKPOINT_SLOTS`](crate::limits::CHECKPOINT_SLOTS) | after how many slots a checkpoint is due: how much a restart replays |
//! | `checkpoint_bytes` | [`CHECKPOINT_BYTES`](crate::limits::CHECKPOINT_BYTES) | the same in bytes of the log, whatever comes first: how large the log gets |
//! | `piece_bytes_max` | [`PAGE_BYTES_MAX`](crate::limits::PAGE_BYTES_MAX) | how much of a state is read, written or sent at once |
//!
//! A state in memory that is larger than `checkpoint_bytes` is copied less often, only when the log has
//! grown by as much, so that copying it never takes more of the disk than the log does.
//!
//! # What a restart replays
//!
//! The slots behind the newest checkpoint: not many more than are between two of them, and up to twice as many
//! if the last one was not complete. A state on disk passes over those that it has already. The log goes back to
//! the checkpoint *before* the newest, so a peer that was away for less than that catches up slot by slot;
//! one that was away for longer takes over a state. While it does the others keep the log behind that state
//! for it, up to [`SERVING_CHECKPOINTS`](crate::limits::SERVING_CHECKPOINTS) times `checkpoint_bytes`.
//!
//! [`Snapshot`]: crate::port::Snapshot
//! [`StateMachine`]: crate::port::StateMachine
