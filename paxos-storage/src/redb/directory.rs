//! Directories and files that only their owner can read, and whose names are on the disk.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io,
    path::Path,
};

use paxos_core::port::StorageError;

use super::backend::Fault;

/// Options to open a file that nobody else may read, once it is created.
pub(super) fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Creates a directory for the data of one node, with its parents, for nobody else, and makes certain that
/// its name is on the disk, and those of the parents that were missing. One that is there may have been made a
/// moment ago by somebody who did not see to that.
///
/// # Errors
///
/// What the operating system says.
pub fn create_directory(directory: impl AsRef<Path>) -> Result<(), StorageError> {
    let directory = directory.as_ref();
    let (is_there, named_in) = (directory.exists(), named_in(directory));
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory).map_err(|error| failed("create", directory, &error))?;
    for parent in named_in {
        match sync_directory(parent) {
            // Not everybody may look into the parent of what was made for them.
            Err(error) if is_there && File::open(parent).is_err() => {
                tracing::warn!(%error, "whether the name of the data directory is on the disk is not known");
            }
            synced => synced?,
        }
    }
    warn_if_open_to_others(directory);
    Ok(())
}

/// Where the names are that have to be on the disk: of the directory, and of each of its parents that is
/// missing.
fn named_in(directory: &Path) -> Vec<&Path> {
    let mut named_in = Vec::new();
    for path in directory.ancestors().filter(|path| !path.as_os_str().is_empty()) {
        if named_in.is_empty() || !path.exists() {
            named_in.extend(
                path.parent().map(|parent| {
                    if parent.as_os_str().is_empty() { Path::new(".") } else { parent }
                }),
            );
        } else {
            break;
        }
    }
    named_in
}

#[cfg(unix)]
fn warn_if_open_to_others(directory: &Path) {
    use std::os::unix::fs::PermissionsExt;
    if let Ok(metadata) = directory.metadata()
        && metadata.permissions().mode() & 0o077 != 0
    {
        tracing::warn!(
            directory = %directory.display(),
            mode = format!("{:o}", metadata.permissions().mode() & 0o777),
            "other users can look into the data directory: chmod 700 it",
        );
    }
}

#[cfg(not(unix))]
fn warn_if_open_to_others(_directory: &Path) {}

#[cfg(unix)]
pub(super) fn sync_directory(directory: &Path) -> Result<(), StorageError> {
    File::open(directory)
        .and_then(|file| file.sync_all())
        .map_err(|error| failed("sync", directory, &error))
}

/// Directories cannot be opened as files here; their entries are durable with the file.
#[cfg(not(unix))]
pub(super) fn sync_directory(_directory: &Path) -> Result<(), StorageError> {
    Ok(())
}

pub(super) fn failed(operation: &'static str, path: &Path, error: &io::Error) -> StorageError {
    Fault::new(operation, error).at(&path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_there_is_named_in_its_parent_all_the_same() {
        let parent = tempfile::tempdir().expect("a temporary directory");
        let (there, missing) = (parent.path().join("a"), parent.path().join("a/b/c"));
        std::fs::create_dir(&there).expect("a directory");
        assert_eq!(named_in(&there), [parent.path()]);
        assert_eq!(named_in(&missing), [parent.path().join("a/b"), there.clone()]);
        assert!(named_in(Path::new("/")).is_empty(), "it has no name");
        assert_eq!(named_in(Path::new("no-such-directory")), [Path::new(".")]);
        create_directory(&missing).expect("a directory");
        create_directory(&missing).expect("it is there");
        assert!(missing.is_dir());
    }
}
