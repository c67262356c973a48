//! Files in the format of [bbolt](https://github.com/etcd-io/bbolt), the database that etcd keeps its
//! keys in and that its snapshots are: written from front to back, and read.
//!
//! What it guarantees:
//!
//! - **A file is written in one go and in bounded memory**: one page of each level of the tree, and
//!   one row. Its length is known before the first byte ([`Layout`]).
//! - **What is read is checked**: a damaged file ends in an error that says where, never in a panic,
//!   an endless loop, or more memory than the file is long.
//! - Rows come out in ascending order of keys, each key once.
//!
//! The file is an array of pages of one size. The first two say where the tree begins (`meta.rs`), the
//! others are branches, leaves and the list of free pages (`page.rs`). A row that does not fit into a
//! page makes its page longer by whole pages. A bucket is a tree of its own; the tree of all buckets
//! holds the root of each, or the bucket itself if it is small.
//!
//! Neither transactions nor changes in place are here: nothing needs them. That is also why no crate
//! does this: those that there are port the database as a whole, over a mapped file, for which a
//! damaged page is undefined behaviour, or read all of it into memory.

#[cfg(test)]
mod fuzz;
mod meta;
mod page;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub(crate) use read::{Bucket, Database};
pub(crate) use write::{FileWriter, Layout};

/// The size of the pages that are written: that of almost every machine, and whoever reads a file goes
/// by what it says of itself.
pub(crate) const PAGE_BYTES: usize = 4096;

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BboltError {
    /// The operating system refused.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Neither of the first pages is one of a database.
    #[error("it is no database of etcd: {0}")]
    NotADatabase(&'static str),
    /// It ends too early.
    #[error("it is cut short: {length} of {expected} bytes are there")]
    CutShort {
        /// What there is.
        length: u64,
        /// What there should be.
        expected: u64,
    },
    /// A page makes no sense.
    #[error("it is damaged: page {page} {reason}")]
    Damaged {
        /// Which one.
        page: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
}
