//! Whether a directory's disk does what figures of durable writes rest on.

use std::{
    fmt,
    path::Path,
    time::{Duration, Instant},
};

use rustix::fs::FsWord;
use serde::Serialize;

use crate::{HarnessError, limit::Fdatasync};

/// How often the disk is tried.
const SYNCS: usize = 21;

/// What is written each time, in bytes: a page.
const BYTES: usize = 4096;

/// No disk answers faster that has made anything durable; a mere system call does.
const PLAUSIBLE_MIN: Duration = Duration::from_micros(8);

/// The magic numbers of file systems in memory (statfs(2)).
const IN_MEMORY: [(FsWord, &str); 2] = [(0x0102_1994, "tmpfs"), (0x8584_58f6, "ramfs")];

/// What a directory is on.
#[derive(Clone, Debug, Serialize)]
pub struct Disk {
    /// The file system, if it is one in memory.
    pub in_memory: Option<&'static str>,
    /// The median time of appending a page to a file and syncing it, in microseconds.
    pub fdatasync_us: f64,
}

impl Disk {
    /// Looks at the file system of a directory, which is created if it is missing, and tries how
    /// long a sync takes.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn look(directory: &Path) -> Result<Disk, HarnessError> {
        let mut file = Fdatasync::new(directory)?;
        let mut times = Vec::new();
        for _ in 0..SYNCS {
            let begun = Instant::now();
            file.drive(BYTES, 1)?;
            times.push(begun.elapsed());
        }
        times.sort();
        let stat = rustix::fs::statfs(directory);
        let stat =
            stat.map_err(|error| HarnessError::io("look at the file system")(error.into()))?;
        let in_memory =
            IN_MEMORY.into_iter().find_map(|(magic, name)| (magic == stat.f_type).then_some(name));
        Ok(Disk { in_memory, fdatasync_us: times[SYNCS / 2].as_secs_f64() * 1e6 })
    }

    /// Why figures of durable writes mean nothing here, if so.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        if let Some(name) = self.in_memory {
            return Some(format!(
                "the directory is on {name}: nothing is durable; give --directory one on a disk"
            ));
        }
        (self.fdatasync_us < PLAUSIBLE_MIN.as_secs_f64() * 1e6).then(|| {
            format!(
                "fdatasync takes {:.1} us, which no disk does: it does not really sync",
                self.fdatasync_us
            )
        })
    }
}

impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<12} fdatasync of a page {:.0} us", "disk", self.fdatasync_us)?;
        if let Some(warning) = self.warning() {
            writeln!(f, "{:<12} {warning}", "warning")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_sync_is_named() {
        let warning = |in_memory, fdatasync_us| Disk { in_memory, fdatasync_us }.warning();
        assert_eq!(warning(None, 900.0), None);
        assert!(warning(Some("tmpfs"), 900.0).is_some_and(|warning| warning.contains("tmpfs")));
        assert!(warning(None, 1.0).is_some_and(|warning| warning.contains("does not really sync")));
        let memory = Path::new("/dev/shm");
        if memory.is_dir()
            && let Ok(disk) = Disk::look(memory)
        {
            assert_eq!(disk.in_memory, Some("tmpfs"), "{disk:?}");
        }
    }
}
