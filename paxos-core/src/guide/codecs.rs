//! Codecs: how commands and states become bytes.
//!
//! # By default
//!
//! Whatever serde can encode is a command, and a snapshot. The encoding has the name of every field and every variant
//! in it, so all of serde's data model works: tagged and untagged enums, flattened structs, fields that are skipped at
//! times, a `serde_json::Value`.
//!
//! ```
//! use paxos_core::port::Codec;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Debug, PartialEq, Serialize, Deserialize)]
//! #[serde(tag = "kind")]
//! enum Command {
//!     Open { account: u64 },
//!     Pay {
//!         payer: u64,
//!         #[serde(default, skip_serializing_if = "Option::is_none")]
//!         note: Option<String>,
//!         payee: u64,
//!         amount: u64,
//!     },
//! }
//!
//! let pay = Command::Pay { payer: 1, note: None, payee: 2, amount: 3 };
//! assert_eq!(Command::decode(&pay.encode()?)?, pay);
//! # Ok::<(), paxos_core::port::CodecError>(())
//! ```
//!
//! Every command is read back before it is proposed. What comes back as something else
//! ([`Unencodable`](crate::node::ProposeError::Unencodable)) takes no slot and has no effect: a field that is written
//! and not read, a time that is cut to seconds, a 128-bit integer inside a tagged enum, which serde does not support.
//! What serde itself cannot tell apart is not noticed: two variants of an untagged enum that look the same.
//!
//! # Fewer bytes
//!
//! [`Compact`](crate::port::Compact) leaves the names out, for types whose encoding always has the same shape. It is
//! chosen for each type by itself: `type Command = Compact<Payment>`, `node.propose(Compact(payment))`,
//! `type Snapshot = Compact<State>`. Commands that it cannot carry are refused in the same way; snapshots are not read
//! back, so wrap none that skips, flattens, or has enums that are tagged or untagged.
//!
//! Who counts every nanosecond implements [`Codec`](crate::port::Codec): it is trusted, and nothing is read back.
//!
//! # What is in the bytes
//!
//! The first byte says which encoding follows. Of what is self-describing (`0xD1`) a value is a tag and what belongs to
//! it: numbers below 128 by themselves, others as LEB128; texts and bytes with their length; sequences and maps up to
//! an end mark; a struct is a map with the names of its fields, a variant its name, or a map from its name to what is
//! in it. `Some` has a tag of its own, so that `Some(None)` is not `None`. A compact one (`0xC1`) is
//! [postcard](https://docs.rs/postcard).
//!
//! # Changing a command
//!
//! Logs are read by later versions, and by nodes that are not upgraded yet. With names, a field may be added if it has a
//! `#[serde(default)]`, and a variant if nobody proposes it before all nodes know it: who does not know a variant
//! passes over it ([`Malformed`](crate::node::ProposeError::Malformed)) while others apply it. Compact commands can
//! get variants at the end of an enum, and nothing else.
//!
//! A command in another encoding than the state machine's ends the node
//! ([`OtherFormat`](crate::node::NodeError::OtherFormat)): it would otherwise go on without what it stands for. To
//! change the encoding of a log that there is, read both by a codec of one's own that looks at the first byte.
//!
//! So does a command whose codec says that it is of a version that this program does not know
//! ([`Newer`](crate::port::CodecError::Newer)). A codec of one's own that puts the version in front of the command
//! makes it impossible that two versions of a program go on from one log with two states: `paxos-kv` does that, and
//! has its members say which versions they know before the first command of a new one is proposed.
