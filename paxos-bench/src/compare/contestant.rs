//! Who is compared.

use std::fmt;

use clap::ValueEnum;
use serde::Serialize;

use super::Mode;

/// A library, or the limit beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Contestant {
    /// This project.
    Ours,
    /// OmniPaxos, the crate `omnipaxos`.
    Omnipaxos,
    /// raft-rs, the crate `raft`: the Raft of TiKV.
    RaftRs,
    /// The crate `openraft`.
    Openraft,
    /// A task that answers every request at once and replicates nothing: the limit for whatever
    /// is behind an awaited `propose`.
    Echo,
}

impl Contestant {
    /// Every one, compiled in or not.
    pub const ALL: [Contestant; 5] = [
        Contestant::Ours,
        Contestant::Omnipaxos,
        Contestant::RaftRs,
        Contestant::Openraft,
        Contestant::Echo,
    ];

    /// The name on the command line, which is the name of its feature, too.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Contestant::Ours => "ours",
            Contestant::Omnipaxos => "omnipaxos",
            Contestant::RaftRs => "raft-rs",
            Contestant::Openraft => "openraft",
            Contestant::Echo => "echo",
        }
    }

    /// The version in `Cargo.lock` of what is measured, for a peer.
    #[must_use]
    pub fn version(self) -> Option<&'static str> {
        match self {
            Contestant::Ours => Some(env!("CARGO_PKG_VERSION")),
            Contestant::Omnipaxos => Some("0.2.4"),
            Contestant::RaftRs => Some("0.7.0"),
            Contestant::Openraft => Some("0.9.25"),
            Contestant::Echo => None,
        }
    }

    /// Whether its feature was on when this program was built.
    #[must_use]
    pub fn is_compiled_in(self) -> bool {
        match self {
            Contestant::Ours | Contestant::Echo => true,
            Contestant::Omnipaxos => cfg!(feature = "omnipaxos"),
            Contestant::RaftRs => cfg!(feature = "raft-rs"),
            Contestant::Openraft => cfg!(feature = "openraft"),
        }
    }

    /// Whether it is somebody else's library.
    #[must_use]
    pub fn is_peer(self) -> bool {
        !matches!(self, Contestant::Ours | Contestant::Echo)
    }

    /// Whether it has this mode. The echo has no protocol, and openraft none that could be had
    /// without its tasks.
    #[must_use]
    pub fn has(self, mode: Mode) -> bool {
        mode == Mode::Tasks || !matches!(self, Contestant::Echo | Contestant::Openraft)
    }
}

impl fmt::Display for Contestant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_are_those_of_the_lock_file() {
        let lock = include_str!("../../../Cargo.lock");
        for (contestant, package) in [
            (Contestant::Omnipaxos, "omnipaxos"),
            (Contestant::RaftRs, "raft"),
            (Contestant::Openraft, "openraft"),
        ] {
            let version = contestant.version().expect("a peer has one");
            let entry = format!("name = \"{package}\"\nversion = \"{version}\"\n");
            assert!(lock.contains(&entry), "Cargo.lock has another version than {entry}");
        }
    }

    #[test]
    fn the_name_is_what_the_command_line_takes() {
        for contestant in Contestant::ALL {
            let value = contestant.to_possible_value().expect("none is hidden");
            assert_eq!(value.get_name(), contestant.name());
        }
    }
}
