//! What is measured: every combination of backends, command size and commands in flight.

use crate::{StorageKind, TransportKind};

/// Command sizes, as named in a benchmark's id, in bytes.
pub const SIZES: [(&str, usize); 3] = [("16B", 16), ("256B", 256), ("4KiB", 4096)];

/// Commands in flight.
pub const IN_FLIGHT: [usize; 3] = [1, 64, 1024];

/// Every combination of a transport and a storage that were compiled in.
pub fn backends() -> impl Iterator<Item = (TransportKind, StorageKind)> {
    TransportKind::ALL
        .iter()
        .flat_map(|transport| StorageKind::ALL.iter().map(|storage| (*transport, *storage)))
}

/// Every combination of a size and a number of commands in flight: the size's name, the size in
/// bytes, the number.
pub fn loads() -> impl Iterator<Item = (&'static str, usize, usize)> {
    SIZES
        .iter()
        .flat_map(|(name, bytes)| IN_FLIGHT.iter().map(move |count| (*name, *bytes, *count)))
}
