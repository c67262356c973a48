//! Files of earlier versions, which were redb's own and had no checksums that anybody checked: they are
//! written again with some.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use redb::{Database, StorageBackend, backends::FileBackend};

use super::{super::StoreError, BLOCK_BYTES, Blocks};

/// What redb's files begin with.
const MAGIC: [u8; 9] = *b"redb\x1a\x0a\xa9\x0d\x0a";
/// Copied at a time.
const CHUNK_BYTES: usize = 256 * BLOCK_BYTES;

/// Puts a file with checksums in place of one without, if that is what is there. A crash leaves the one or
/// the other.
///
/// # Errors
///
/// If the old one is damaged as far as redb can tell, or there is no room for another one beside it.
pub(in crate::store) fn replace(file: &Path) -> Result<(), StoreError> {
    let path = file.display().to_string();
    let fail = |error: io::Error| StoreError::of(&path, redb::Error::Io(error));
    if !is_plain(file).map_err(fail)? {
        return Ok(());
    }
    tracing::info!(path, "the state has no checksums yet: writing it again with them");
    check(file, &path)?;
    let mut new = file.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let copied = copy(file, &new).and_then(|()| fs::rename(&new, file));
    if let Err(error) = copied {
        // What is left of it is written over by the next attempt.
        let _ = fs::remove_file(&new);
        return Err(StoreError::of(&new.display().to_string(), redb::Error::Io(error)));
    }
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new("."))).and_then(|it| it.sync_all()).map_err(fail)
}

fn is_plain(file: &Path) -> io::Result<bool> {
    let opened = match File::open(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        opened => opened?,
    };
    let mut start = Vec::new();
    opened.take(MAGIC.len() as u64).read_to_end(&mut start)?;
    Ok(start == MAGIC)
}

/// Lets redb go through all of it, and close it.
fn check(file: &Path, path: &str) -> Result<(), StoreError> {
    let mut database =
        Database::builder().open(file).map_err(|error| StoreError::of(path, error))?;
    match database.check_integrity() {
        Ok(true) => Ok(()),
        Ok(false) => {
            let reason = "its pages are not as they were written".to_owned();
            Err(StoreError::Damaged { path: path.to_owned(), reason })
        }
        Err(error) => Err(StoreError::of(path, error)),
    }
}

fn copy(file: &Path, new: &Path) -> io::Result<()> {
    let old = File::open(file)?;
    let length = old.metadata()?.len();
    let written = super::super::disk::open_private(new)?;
    written.set_len(0)?;
    let inner = FileBackend::new(written).map_err(io::Error::other)?;
    let blocks = Blocks::on(Box::new(inner), new.display().to_string());
    blocks.set_len(length)?;
    let mut chunk = vec![0; CHUNK_BYTES];
    let head = &mut chunk[..BLOCK_BYTES];
    old.read_exact_at(head, 0)?;
    blocks.write(0, head)?;
    for offset in (BLOCK_BYTES as u64..length).step_by(CHUNK_BYTES) {
        let rest = usize::try_from(length - offset).unwrap_or(usize::MAX);
        let chunk = &mut chunk[..rest.min(CHUNK_BYTES)];
        old.read_exact_at(chunk, offset)?;
        blocks.write(offset, chunk)?;
    }
    blocks.sync_data()?;
    blocks.close()
}
