use std::collections::BTreeSet;

use super::{super::unsynced::EVERYTHING, *};

/// What was done to a backend of this many bytes, and whether its next sync fails.
#[derive(Clone, Debug, Default)]
struct Noting(Arc<Mutex<(Vec<String>, bool)>>, u64);

impl Noting {
    fn note(&self, what: String) {
        self.0.lock().expect("no panic while locked").0.push(what);
    }

    fn taken(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().expect("no panic while locked").0)
    }
}

impl StorageBackend for Noting {
    fn len(&self) -> io::Result<u64> {
        Ok(self.1)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.note(format!("read {} at {offset}", out.len()));
        out.fill(7);
        Ok(())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.note("sync".to_owned());
        let fails = std::mem::take(&mut self.0.lock().expect("no panic while locked").1);
        if fails { Err(io::Error::other("it fails")) } else { Ok(()) }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        assert!(data.iter().all(|byte| *byte == 7), "what was read");
        self.note(format!("write {} at {offset}", data.len()));
        Ok(())
    }
}

#[test]
fn what_is_doubtful_is_written_again_before_anything_is_read() {
    let noting = Noting(Arc::default(), CHUNK_BYTES as u64 + 10);
    let faults = Faults::default();
    let watched = Watched::new(Box::new(noting.clone()), faults.clone(), vec![EVERYTHING], None);
    noting.0.lock().expect("no panic while locked").1 = true;
    watched.len().expect_err("a failed sync");
    assert!(faults.sync_has_failed());
    let again = ["read 1048576 at 0", "write 1048576 at 0"];
    let rest = ["read 10 at 1048576", "write 10 at 1048576", "sync"];
    let all = [&again[..], &rest].concat();
    assert_eq!(noting.taken(), all, "nothing but that");
    watched.read(3, &mut [0; 5]).expect("a sound backend");
    assert_eq!(noting.taken(), [&all[..], &["read 5 at 3"]].concat(), "once more, and as a whole");
    watched.read(3, &mut [0; 5]).expect("a sound backend");
    assert_eq!(watched.len().expect("a sound backend"), noting.1);
    assert_eq!(noting.taken(), ["read 5 at 3"], "never again");
    let closed = Watched::new(Box::new(noting.clone()), Faults::default(), Vec::new(), None);
    closed.read(3, &mut [0; 5]).expect("a sound backend");
    assert_eq!(noting.taken(), ["read 5 at 3"]);
}

/// A page cache, the disk under it, and which pages they differ in as far as the system knows. Cloned, it is
/// the same one.
#[derive(Clone, Debug)]
struct Cached(Arc<Mutex<Pages>>);

#[derive(Debug)]
struct Pages {
    cache: Vec<u8>,
    disk: Vec<u8>,
    dirty: BTreeSet<usize>,
}

const PAGE: usize = 16;

impl Cached {
    fn new(pages: usize) -> Cached {
        let (cache, disk) = (vec![0; pages * PAGE], vec![0; pages * PAGE]);
        Cached(Arc::new(Mutex::new(Pages { cache, disk, dirty: BTreeSet::new() })))
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().expect("no panic while locked")
    }

    /// Calls pages clean, some of which no disk has, and tells nobody.
    fn sync_fails(&self, rng: &mut fastrand::Rng) {
        let dirty = std::mem::take(&mut self.pages().dirty);
        for page in dirty {
            if rng.bool() {
                self.pages().write_back(page);
            }
        }
    }
}

impl Pages {
    fn is_on_disk(&self) -> bool {
        self.disk == self.cache
    }

    fn write_back(&mut self, page: usize) {
        let bytes = page * PAGE..(page + 1) * PAGE;
        self.disk[bytes.clone()].copy_from_slice(&self.cache[bytes]);
    }
}

impl StorageBackend for Cached {
    fn len(&self) -> io::Result<u64> {
        Ok(self.pages().cache.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let at = usize::try_from(offset).expect("a small file");
        out.copy_from_slice(&self.pages().cache[at..at + out.len()]);
        Ok(())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let dirty = std::mem::take(&mut self.pages().dirty);
        dirty.into_iter().for_each(|page| self.pages().write_back(page));
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let at = usize::try_from(offset).expect("a small file");
        let mut pages = self.pages();
        pages.cache[at..at + data.len()].copy_from_slice(data);
        pages.dirty.extend(at / PAGE..(at + data.len()).div_ceil(PAGE));
        Ok(())
    }
}

#[test]
fn what_a_process_leaves_unsynced_is_on_the_disk_before_the_next_one_reads() {
    let (mut rng, mut lost, mut written) = (fastrand::Rng::with_seed(7), 0, 0);
    for _ in 0..50 {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let cached = Cached::new(200);
        for process in 0..4 {
            let unsynced = Unsynced::open(directory.path()).expect("a directory of ours");
            let doubtful = unsynced.parts();
            written += doubtful.iter().filter(|part| **part != EVERYTHING).count();
            let inner = Box::new(cached.clone());
            let watched = Watched::new(inner, Faults::default(), doubtful, Some(unsynced));
            watched.len().expect("a sound backend");
            assert!(cached.pages().is_on_disk(), "before process {process} reads");
            for _ in 0..rng.usize(..30) {
                let at = rng.usize(..200 * PAGE);
                let length = rng.usize(1..=(3 * PAGE).min(200 * PAGE - at));
                watched.write(at as u64, &vec![rng.u8(..); length]).expect("a sound backend");
                if rng.u8(..4) == 0 {
                    watched.sync_data().expect("a sound backend");
                }
            }
            // It is killed in the midst of a sync that fails.
            cached.sync_fails(&mut rng);
            lost += usize::from(!cached.pages().is_on_disk());
        }
    }
    assert!(lost > 50 && written > 100, "{lost} processes lost something, {written} parts");
}

/// A full disk is survivable, and a sync that fails after it is not.
#[test]
fn the_first_failure_is_told_and_a_failed_sync_is_never_overlooked() {
    let faults = Faults::default();
    faults.note("write", &io::ErrorKind::StorageFull.into());
    assert!(!faults.sync_has_failed());
    faults.note("sync", &io::ErrorKind::StorageFull.into());
    assert_eq!(faults.first("it"), Some(StorageError::Full { path: "it".to_owned() }));
    assert!(faults.sync_has_failed());
}
