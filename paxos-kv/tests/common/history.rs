//! What clients asked for, when, and what they were told: the evidence.

use serde::{Deserialize, Serialize};

/// What a client asked for. No value is written twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    /// Writes a key.
    Put { key: String, value: String },
    /// Reads a key; serializable, the answer may be stale.
    Get { key: String, serializable: bool },
    /// Writes a key if it has a value, or is absent if none is given; reads it otherwise.
    CompareAndSwap { key: String, expected: Option<String>, value: String },
    /// Deletes a key.
    Delete { key: String },
    /// If `from` is there, deletes it and writes `to`; writes `from` otherwise.
    Move { from: String, to: String, value: String },
    /// Reads all keys of a group.
    Range { group: u64 },
    /// Forgets what was replaced by this revision, so that the servers write their tables.
    Compact { revision: i64 },
}

impl Request {
    /// Whether no key is another one afterwards, whatever happens.
    pub(crate) fn changes_nothing(&self) -> bool {
        matches!(self, Request::Get { .. } | Request::Range { .. } | Request::Compact { .. })
    }

    /// Whether a stale answer is a right one.
    pub(crate) fn is_serializable(&self) -> bool {
        matches!(self, Request::Get { serializable: true, .. })
    }
}

/// What all keys of a group begin with.
pub(crate) fn prefix(group: u64) -> String {
    format!("g{group:06}/")
}

/// A key of a group.
pub(crate) fn key(group: u64, number: u64) -> String {
    format!("{}{number}", prefix(group))
}

/// A key as an answer has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Found {
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) create_revision: i64,
    pub(crate) mod_revision: i64,
    pub(crate) version: i64,
}

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// Of the store that the answer reflects; of the change, if there was one.
    pub(crate) revision: i64,
    /// Whether the condition held, if there was one.
    pub(crate) succeeded: bool,
    /// How many keys were deleted.
    pub(crate) deleted: i64,
    /// What was read.
    pub(crate) found: Vec<Found>,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// With this answer.
    Answered(Answer),
    /// It had no effect and never will.
    Failed(String),
    /// It had an effect, will have one yet, or will never have one.
    Unknown(String),
}

/// One request and its outcome. Times are nanoseconds of one clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Operation {
    pub(crate) client: usize,
    pub(crate) server: usize,
    pub(crate) began: u64,
    pub(crate) ended: u64,
    pub(crate) request: Request,
    pub(crate) outcome: Outcome,
}

impl Operation {
    /// The answer, if there was one.
    pub(crate) fn answer(&self) -> Option<&Answer> {
        match &self.outcome {
            Outcome::Answered(answer) => Some(answer),
            Outcome::Failed(_) | Outcome::Unknown(_) => None,
        }
    }
}
