//! Open files and sockets: how many this process may have, and how many of them clients get.
//!
//! What peers, log and state need is never given to clients: a member that cannot reach its peers any
//! more is of no use to its clients either.

use rustix::process::{Resource, getrlimit, setrlimit};

use super::ServerError;

/// What a server keeps for itself, as etcd does: up to 64 peers that introduce themselves, three lanes each
/// way to every member, its files, and a probe or two.
const RESERVE: usize = 150;

/// Connections at once of those who look after the server. They come out of what it keeps for itself.
pub(super) const PROBES_MAX: usize = 16;

/// Fewer connections of clients than this are not worth a server.
const CLIENTS_MIN: usize = 50;

/// Connections of clients at once, however many the system would allow.
const CLIENTS_MAX: usize = 10_000;

/// Raises what this process may open to the most that it may allow itself: the lower limit is there for
/// programs that count descriptors in sets of a fixed size.
pub(crate) fn raise_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        // If it is refused the limit stays what it was, and clients get what that leaves.
        let _ = setrlimit(Resource::Nofile, limit);
    }
}

/// How many connections of clients each of so many servers in this process may have.
///
/// # Errors
///
/// If the limit of this process is too low for so many servers.
pub(super) fn for_clients(servers: usize) -> Result<usize, ServerError> {
    let limit = getrlimit(Resource::Nofile).current;
    shared(limit.and_then(|limit| usize::try_from(limit).ok()), servers)
}

/// The same with this limit; `None` for no limit.
fn shared(limit: Option<usize>, servers: usize) -> Result<usize, ServerError> {
    let limit = limit.unwrap_or(usize::MAX);
    let share = limit / servers.max(1);
    match share.checked_sub(RESERVE) {
        Some(clients) if clients >= CLIENTS_MIN => Ok(clients.min(CLIENTS_MAX)),
        _ => Err(ServerError::Descriptors { limit, needed: servers * (RESERVE + CLIENTS_MIN) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_what_the_limit_leaves() {
        assert_eq!(shared(Some(256), 1), Ok(106));
        assert_eq!(shared(Some(1024), 3), Ok(191));
        assert_eq!(shared(Some(1 << 20), 1), Ok(CLIENTS_MAX));
        assert_eq!(shared(None, 1), Ok(CLIENTS_MAX));
    }

    #[test]
    fn a_limit_that_leaves_too_little_is_refused() {
        for (limit, servers, needed) in [(199, 1, 200), (0, 1, 200), (599, 3, 600)] {
            let error = shared(Some(limit), servers).expect_err("it is too low");
            assert_eq!(error, ServerError::Descriptors { limit, needed });
        }
    }
}
