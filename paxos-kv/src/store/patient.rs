//! A file that waits for room, and whose first failed read ends the store.
//!
//! redb is of no use after any failure until it is opened again, which its readers stand in the way
//! of. So a write that finds the disk full is not reported to it: it is tried again until there is
//! room. Only the thread that moves changes into the tables writes, so nobody waits but that
//! thread, and those who need its progress ask [`Room`] why there is none. A sync that fails is
//! reported as it is: what it has lost is unknown.

use std::{
    io,
    ops::Bound,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use redb::{BackendError, StorageBackend};

use super::{StoreError, failure::Failure};

/// How long a full disk is left alone before it is tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// Whether there is room, and whether it is worth waiting for.
#[derive(Debug, Default)]
pub(super) struct Room {
    is_awaited: Mutex<bool>,
    no_longer: Condvar,
    is_lacking: AtomicBool,
}

impl Room {
    /// From now on writes wait; before, and after [`give_up`](Room::give_up), they fail.
    pub(super) fn wait(&self) {
        *self.is_awaited.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }

    /// A write that waits fails at once.
    pub(super) fn give_up(&self) {
        *self.is_awaited.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.no_longer.notify_all();
    }

    /// Whether a write waits.
    pub(super) fn is_lacking(&self) -> bool {
        self.is_lacking.load(Ordering::Relaxed)
    }

    /// Returns after a while whether to try again.
    fn pause(&self) -> bool {
        let is_awaited = self.is_awaited.lock().unwrap_or_else(PoisonError::into_inner);
        let waited =
            self.no_longer.wait_timeout_while(is_awaited, RETRY_INTERVAL, |awaited| *awaited);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// A file whose writes wait for room.
#[derive(Debug)]
pub(super) struct Patient {
    pub(super) inner: Box<dyn StorageBackend>,
    pub(super) path: String,
    pub(super) room: Arc<Room>,
    /// Told of reads that fail, by whoever they were for: nobody is to go on with what is damaged.
    pub(super) failure: Failure,
}

impl Patient {
    fn patiently(&self, write: impl Fn() -> io::Result<()>) -> io::Result<()> {
        loop {
            match write() {
                Err(error) if is_full(&error) => {
                    let is_news = !self.room.is_lacking.swap(true, Ordering::Relaxed);
                    if !self.room.pause() {
                        self.room.is_lacking.store(false, Ordering::Relaxed);
                        return Err(error);
                    }
                    if is_news {
                        let path = &self.path;
                        tracing::error!(path, "no space left: changes wait in memory and the log");
                    }
                }
                written => {
                    if self.room.is_lacking.swap(false, Ordering::Relaxed) {
                        tracing::info!(path = self.path, "there is space again");
                    }
                    return written;
                }
            }
        }
    }
}

/// Whether the file system, or the share of it that this user may have, is full.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl StorageBackend for Patient {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out).map_err(|error| {
            let error = StoreError::of(&self.path, redb::Error::Io(error));
            self.failure.note(error.clone());
            error.into()
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.patiently(|| self.inner.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.inner.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.patiently(|| self.inner.write(offset, data))
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.inner.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.query_lock_range(start, end)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::{thread, time::Instant};

    use redb::backends::InMemoryBackend;

    use super::*;

    /// A disk that can be full. Clones are the same disk.
    #[derive(Clone, Debug, Default)]
    pub(in crate::store) struct Small {
        inner: Arc<InMemoryBackend>,
        pub(in crate::store) is_full: Arc<AtomicBool>,
        pub(in crate::store) is_broken: Arc<AtomicBool>,
    }

    impl Small {
        fn check(&self) -> io::Result<()> {
            if self.is_broken.load(Ordering::SeqCst) {
                return Err(io::Error::other("it is broken"));
            }
            match self.is_full.load(Ordering::SeqCst) {
                true => Err(io::ErrorKind::StorageFull.into()),
                false => Ok(()),
            }
        }
    }

    impl StorageBackend for Small {
        fn len(&self) -> io::Result<u64> {
            self.inner.len()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.inner.read(offset, out)
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            self.check()?;
            self.inner.set_len(len)
        }

        fn sync_data(&self) -> io::Result<()> {
            self.check()
        }

        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            self.check()?;
            self.inner.write(offset, data)
        }
    }

    fn full_disk() -> (Arc<Patient>, Arc<AtomicBool>) {
        let (small, room) = (Small::default(), Arc::new(Room::default()));
        small.set_len(8).expect("there is room in memory");
        small.is_full.store(true, Ordering::SeqCst);
        let is_full = small.is_full.clone();
        let patient = Patient {
            inner: Box::new(small),
            path: "here".to_owned(),
            room,
            failure: Failure::none(),
        };
        (Arc::new(patient), is_full)
    }

    /// A write by another thread that has begun to wait.
    fn waiting_write(patient: &Arc<Patient>) -> thread::JoinHandle<io::Result<()>> {
        patient.room.wait();
        let writer = patient.clone();
        let write = thread::spawn(move || writer.write(0, b"01234567"));
        let deadline = Instant::now() + Duration::from_secs(10);
        while !patient.room.is_lacking() {
            assert!(Instant::now() < deadline, "it does not wait");
            thread::yield_now();
        }
        write
    }

    #[test]
    fn a_write_waits_until_there_is_room() {
        let (patient, is_full) = full_disk();
        let write = waiting_write(&patient);
        is_full.store(false, Ordering::SeqCst);
        write.join().expect("it does not panic").expect("there is room");
        assert!(!patient.room.is_lacking());
        let mut found = [0; 8];
        patient.read(0, &mut found).expect("it is there");
        assert_eq!(&found, b"01234567");
    }

    #[test]
    fn a_write_fails_when_nobody_waits_for_room_any_more() {
        let (patient, _is_full) = full_disk();
        let write = waiting_write(&patient);
        patient.room.give_up();
        let error = write.join().expect("it does not panic").expect_err("there is no room");
        assert!(is_full(&error) && !patient.room.is_lacking());
        assert!(patient.write(0, b"0").is_err(), "nor does the next one wait");
    }

    #[test]
    fn a_failed_sync_is_never_tried_again() {
        let (patient, _is_full) = full_disk();
        patient.room.wait();
        patient.sync_data().expect_err("it failed");
    }
}
