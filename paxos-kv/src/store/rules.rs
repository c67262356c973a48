//! By which rules commands change the store.
//!
//! Two versions of the program must never carry out one command differently. So each command says which rules it
//! was made under, and is carried out under those by everybody, however much later:
//!
//! - A rule that changes what a command does, and a command that there was not before, come with a new number in
//!   [`Rules`]. What a number stands for never changes again.
//! - Members say which rules they know ([`MemberAttributes::rules`](super::MemberAttributes::rules)). Once all do, the
//!   leader brings those that everybody knows into force, through the log ([`Command::RaiseRules`]); new commands are
//!   made under the rules in force, as the member has them that proposes.
//! - A member that meets rules it does not know, in the log, in a state that it is sent or in its own file, stops and
//!   says so. It never passes over anything.
//!
//! [`Command::RaiseRules`]: super::Command::RaiseRules

use std::fmt;

use super::StoreError;

/// A version of the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rules(pub u32);

impl Rules {
    /// Those that every version knows, and that a new cluster begins with.
    pub const FIRST: Rules = Rules(1);
    /// A deletion of more than 128 MiB of keys is refused.
    const BOUNDED_DELETIONS: Rules = Rules(2);
    /// The newest ones that this version knows.
    pub const KNOWN: Rules = Rules::BOUNDED_DELETIONS;

    /// Refuses what is in force where `path` comes from, if this version does not know it.
    pub(super) fn check_known(self, path: &str) -> Result<(), StoreError> {
        if self <= Rules::KNOWN {
            return Ok(());
        }
        let (path, found) = (path.to_owned(), self);
        Err(StoreError::NewerRules { path, found, known: Rules::KNOWN })
    }

    /// Whether a command may delete so much only.
    pub(super) fn bound_deletions(self) -> bool {
        self >= Rules::BOUNDED_DELETIONS
    }
}

impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests;
