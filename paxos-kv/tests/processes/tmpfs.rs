//! A file system in memory that can be made full, and have room again.
//!
//! Needs the right to mount, which root has on most machines.

use std::{
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nix::sys::statvfs::statvfs;

/// What it may hold while it is not full.
const ROOM: &str = "2G";

/// How often filling is tried while somebody else goes on writing.
const ATTEMPTS: usize = 20;

/// A mounted file system. Dropping it unmounts it.
pub(crate) struct Tmpfs {
    path: PathBuf,
    pub(crate) is_full: bool,
}

impl Tmpfs {
    /// Mounts an empty one on `path`, a directory.
    pub(crate) fn mount(path: &Path) -> io::Result<Tmpfs> {
        mount(path, &format!("size={ROOM},mode=0700"))?;
        Ok(Tmpfs { path: path.to_owned(), is_full: false })
    }

    /// Leaves no room beyond what is in use.
    pub(crate) fn fill(&mut self) -> io::Result<()> {
        let mut last = Ok(());
        for _ in 0..ATTEMPTS {
            let found = statvfs(&self.path)?;
            let blocks = u128::from(found.blocks() - found.blocks_free());
            let used = blocks * u128::from(found.fragment_size());
            // Refused if more is in use meanwhile.
            last = mount(&self.path, &format!("remount,size={used}"));
            if last.is_ok() {
                self.is_full = true;
                break;
            }
        }
        last
    }

    /// Makes room.
    pub(crate) fn make_room(&mut self) -> io::Result<()> {
        mount(&self.path, &format!("remount,size={ROOM}"))?;
        self.is_full = false;
        Ok(())
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: whoever still looks into it does not keep it there.
        let unmounted = Command::new("umount").arg("--lazy").arg(&self.path).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} is still mounted: umount it", self.path.display());
        }
    }
}

fn mount(path: &Path, options: &str) -> io::Result<()> {
    let mut command = Command::new("mount");
    command.args(["-t", "tmpfs", "-o", options, "paxos-kv-test"]).arg(path);
    let output = command.stdin(Stdio::null()).output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
    }
}
