//! What the subcommands leave behind.

use std::{fs, io, path::Path};

/// Writes a file below a directory, which is created if it is missing.
pub(super) fn write(directory: &Path, name: &str, content: &str) -> io::Result<()> {
    let path = directory.join(name);
    let named = |error| io::Error::other(format!("write {}: {error}", path.display()));
    fs::create_dir_all(directory).map_err(named)?;
    fs::write(&path, content).map_err(named)
}

/// What was typed, without the program's path.
pub(super) fn command_line() -> String {
    ["paxos-bench".to_owned()]
        .into_iter()
        .chain(std::env::args().skip(1))
        .collect::<Vec<_>>()
        .join(" ")
}
