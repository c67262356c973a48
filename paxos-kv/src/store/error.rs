//! Why a request is refused, in the words that etcd's clients match on, and why a store cannot work.

use std::io;

use tonic::Code;

use super::{Rules, disk::Owner, patient::is_full};

/// Why a request is refused. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KvError {
    /// The key is empty.
    #[error("etcdserver: key is not provided")]
    EmptyKey,
    /// The key has to exist and does not, or an operation of a transaction says nothing.
    #[error("etcdserver: key not found")]
    KeyNotFound,
    /// `ignore_value` and a value.
    #[error("etcdserver: value is provided")]
    ValueProvided,
    /// `ignore_lease` and a lease.
    #[error("etcdserver: lease is provided")]
    LeaseProvided,
    /// A transaction with too many operations or too deeply nested.
    #[error("etcdserver: too many operations in txn request")]
    TooManyOperations,
    /// A transaction that writes one key twice.
    #[error("etcdserver: duplicate key given in txn request")]
    DuplicateKey,
    /// A sort order or target that does not exist.
    #[error("etcdserver: invalid sort option")]
    InvalidSortOption,
    /// Too many bytes.
    #[error("etcdserver: request is too large")]
    RequestTooLarge,
    /// The revision has been compacted away.
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted,
    /// The revision is not there yet.
    #[error("etcdserver: mvcc: required revision is a future revision")]
    FutureRevision,
    /// There is no such lease.
    #[error("etcdserver: requested lease not found")]
    LeaseNotFound,
    /// A lease that is granted with the id of another one.
    #[error("etcdserver: lease already exists")]
    LeaseExists,
    /// A lease for more than 9,000,000,000 seconds.
    #[error("etcdserver: too large lease TTL")]
    LeaseTooLong,
    /// A lease with more keys than one command can delete.
    #[error("etcdserver: the lease has too many keys: spread them over several leases")]
    LeaseHoldsTooMuch,
    /// A deletion of more keys than one command can carry out.
    #[error(
        "etcdserver: the deletion selects too many keys for one request: delete a part of the range \
         at a time"
    )]
    DeletesTooMuch,
    /// A read that would take up more memory than one may.
    #[error(
        "etcdserver: the answer would be larger than {} MiB: ask for less at once, with a limit or a \
         smaller range", bytes_max >> 20
    )]
    AnswerTooLarge {
        /// What one read may take up, in bytes.
        bytes_max: usize,
    },
    /// Other reads leave this one no memory.
    #[error("etcdserver: too many requests")]
    TooManyRequests,
    /// Nobody waits for the answer any more, so nobody is told.
    #[error("etcdserver: the client has gone")]
    Abandoned,
    /// The store cannot be read.
    #[error("etcdserver: the store of this member failed: {0}")]
    Store(#[from] StoreError),
}

impl KvError {
    /// The status code that goes with the text.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            KvError::EmptyKey
            | KvError::KeyNotFound
            | KvError::ValueProvided
            | KvError::LeaseProvided
            | KvError::TooManyOperations
            | KvError::DuplicateKey
            | KvError::InvalidSortOption
            | KvError::DeletesTooMuch
            | KvError::RequestTooLarge => Code::InvalidArgument,
            KvError::Compacted | KvError::FutureRevision | KvError::LeaseTooLong => {
                Code::OutOfRange
            }
            KvError::LeaseExists | KvError::LeaseHoldsTooMuch => Code::FailedPrecondition,
            KvError::LeaseNotFound => Code::NotFound,
            KvError::AnswerTooLarge { .. } => Code::ResourceExhausted,
            KvError::TooManyRequests => Code::Unknown,
            KvError::Abandoned => Code::Cancelled,
            KvError::Store(_) => Code::Unavailable,
        }
    }

    /// The text that clients match on.
    #[must_use]
    pub fn message(&self) -> String {
        self.to_string()
    }
}

/// Why a store cannot be opened, read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another process has it open.
    #[error("{path} is in use by another process: stop it, or choose another data directory")]
    Locked {
        /// The file.
        path: String,
    },
    /// Written by a newer version.
    #[error("{path} has format {found}, this version knows up to {known}: use a newer version")]
    NewerFormat {
        /// The file.
        path: String,
        /// Its format.
        found: u64,
        /// The newest format this version knows.
        known: u64,
    },
    /// The members of its cluster have all come to know more than this version.
    #[error(
        "{path} is of a cluster that works by rules {found}, and this version knows those up to {known}: \
         start a newer version, it goes on from here"
    )]
    NewerRules {
        /// The file, or where else it was said.
        path: String,
        /// The rules in force.
        found: Rules,
        /// The newest rules this version knows.
        known: Rules,
    },
    /// The state of another member, or of another cluster.
    #[error(
        "{path} belongs to {found}, not to {owner}: correct --data-dir, or what names this member \
         (--name, --initial-cluster, --initial-cluster-token); no member starts on the state of \
         another one"
    )]
    OtherOwner {
        /// The file.
        path: String,
        /// Whose state is in it.
        found: Owner,
        /// Who opens it.
        owner: Owner,
    },
    /// What was written cannot be read back.
    #[error(
        "{path} is damaged ({reason}): replace this node as a new member of the cluster, or \
         restore its disk"
    )]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No room.
    #[error("no space left for {path}: free some and start the node again")]
    Full {
        /// The file.
        path: String,
    },
    /// The operating system refused.
    #[error("{path}: {reason}: start the node again once its disk works")]
    Io {
        /// The file.
        path: String,
        /// What it says.
        reason: String,
    },
}

impl StoreError {
    /// Tells apart what the database reports for the file at `path`.
    pub(super) fn of(path: &str, error: impl Into<redb::Error>) -> StoreError {
        let path = path.to_owned();
        let error = error.into();
        // What redb reads from has said it already.
        if let redb::Error::Io(error) = &error
            && let Some(said) = error.get_ref().and_then(|error| error.downcast_ref::<StoreError>())
        {
            return said.clone();
        }
        match error {
            redb::Error::DatabaseAlreadyOpen => StoreError::Locked { path },
            redb::Error::Io(error) if is_full(&error) => StoreError::Full { path },
            redb::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
                StoreError::Damaged { path, reason: error.to_string() }
            }
            error @ (redb::Error::Corrupted(_)
            | redb::Error::UpgradeRequired(_)
            | redb::Error::TableTypeMismatch { .. }
            | redb::Error::TableIsMultimap(_)
            | redb::Error::TableDoesNotExist(_)) => {
                StoreError::Damaged { path, reason: error.to_string() }
            }
            error => StoreError::Io { path, reason: error.to_string() },
        }
    }
}

impl From<StoreError> for io::Error {
    fn from(error: StoreError) -> io::Error {
        let kind = match error {
            StoreError::Full { .. } => io::ErrorKind::StorageFull,
            StoreError::Damaged { .. } | StoreError::NewerRules { .. } => {
                io::ErrorKind::InvalidData
            }
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}
