//! What is said on standard output and standard error.
//!
//! An output that cannot be written ends nobody: whoever reads may have seen enough, as `head` has, or
//! its disk may be full. A command whose result cannot be written says so; everything else is dropped.

use std::{
    future::pending,
    io::{self, ErrorKind, Write},
    os::fd::AsFd,
};

use tokio::{io::Interest, net::unix::pipe};

use super::client::CommandError;

/// Writes the result of a command, as a line.
pub(super) fn print(text: &str) -> Result<(), CommandError> {
    print_bytes(format!("{text}\n").as_bytes())
}

/// Writes the result of a command as it is.
pub(super) fn print_bytes(bytes: &[u8]) -> Result<(), CommandError> {
    let mut output = io::stdout().lock();
    match output.write_all(bytes).and_then(|()| output.flush()) {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(|error| CommandError::Io("write the result".to_owned(), error)),
    }
}

/// Tells whoever looks on, as a line on standard output.
pub(super) fn say(text: &str) {
    // If nobody can read it there is nobody to be told that either.
    let _ = io::stdout().lock().write_all(format!("{text}\n").as_bytes());
}

/// A remark or a complaint, as a line on standard error.
pub(super) fn complain(text: &str) {
    // As above.
    let _ = io::stderr().lock().write_all(format!("{text}\n").as_bytes());
}

/// Returns once nobody can read standard output any more: its pipe has been closed at the other end. Never
/// for a file or a terminal.
pub(super) async fn nobody_listens() {
    let output = io::stdout().as_fd().try_clone_to_owned();
    // What cannot be watched cannot be closed by a reader either.
    let Ok(watched) = output.and_then(pipe::Sender::from_owned_fd_unchecked) else {
        return pending().await;
    };
    while let Ok(found) = watched.ready(Interest::ERROR).await {
        if found.is_error() {
            return;
        }
    }
}
