//! Moves what has gathered in memory into the tables, on a thread of its own, and takes out of them
//! what compaction made superfluous.
//!
//! A layer is frozen between two slots, never within one, so that the tables always hold whole
//! slots. At most one layer is frozen at a time; when the active one has grown to twice its measure
//! meanwhile, applying waits.
//!
//! A full disk makes the thread wait for room, and what is applied meanwhile stays in memory and the log.
//! There is place for what was under way when the disk was found full, so that reads are not held up by
//! it; beyond that applying waits, for as long as it takes, or until the store is about to end.
//!
//! When nothing more comes for a moment, what has gathered goes into the tables before the layer is full, if it
//! is enough to be worth it: the disk has time, and a restart has less to replay.
//!
//! To clean up can wait: after each step the thread rests for several times as long as that took, so that its
//! commits leave the disk to the log and to flushes.
//!
//! A state that is put in place of another is written by whoever brings it, while the thread rests.

mod restore;

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use paxos_core::{limits::OUTSTANDING_BYTES_MAX, types::Slot};

use super::{
    Backend, Head, Monitor, Reader, StoreError,
    disk::{Disk, Extent, Snapshot},
    layer::Layer,
    lease::{Counted, LeaseChanges},
    version::Position,
    view::View,
};

/// How often those who wait for the thread look whether it lacks room, or is no more.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Memory of the active layer for what is under way when the disk is found full: what a member's clients may
/// have proposed without an answer.
const UNDER_WAY_BYTES: usize = OUTSTANDING_BYTES_MAX;

/// Between two steps of cleaning up: so many times as long as the last one took, and no longer than that.
const REST_FACTOR: u32 = 3;
const REST_MAX: Duration = Duration::from_secs(1);

/// A layer is not waited for to become full if nothing has come for so long, and it has this part of its measure.
const QUIET: Duration = Duration::from_millis(200);
const WORTH_PART: usize = 16;

/// When a layer is full.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Memory of the active layer. Twice as much makes applying wait.
    pub(super) layer_bytes: usize,
    /// Slots since the last flush: what a restart replays.
    pub(super) layer_slots: u64,
}

impl Default for Limits {
    /// Enough that a transaction's overhead vanishes; little enough that replaying it takes a
    /// second at most.
    fn default() -> Limits {
        Limits { layer_bytes: 16 << 20, layer_slots: 16_384 }
    }
}

/// What the store, its readers and the thread share.
pub(super) struct Inner {
    pub(super) disk: Disk,
    pub(super) published: RwLock<Published>,
    /// Held while a slot is applied, and while a layer is frozen.
    applying: Mutex<()>,
    progress: Mutex<Progress>,
    /// The thread has something to do.
    work: Condvar,
    /// The thread has got on.
    progressed: Condvar,
    limits: Limits,
    /// For whoever counts the time of leases.
    pub(super) lease_changes: Arc<LeaseChanges>,
}

/// What readers see.
pub(super) struct Published {
    pub(super) view: View,
    pub(super) head: Head,
}

struct Progress {
    /// A flush is wanted.
    wanted: bool,
    /// The store is being dropped.
    stopping: bool,
    /// How far the tables go.
    extent: Extent,
    /// How far they will go after the flush under way, if there is one.
    begun: Slot,
    /// The compacted revision that is being cleaned up for, and where to go on.
    clean: Option<(i64, Position)>,
    /// No cleaning up before.
    rests_until: Instant,
    /// The thread is writing.
    busy: bool,
    /// Somebody else writes: the thread leaves the tables alone.
    paused: bool,
    /// The end is near: nobody waits for room.
    ending: bool,
    /// When something came last, if what has gathered is worth a flush.
    came: Option<Instant>,
}

impl Progress {
    fn take_work(&mut self, now: Instant) -> Option<Work> {
        if std::mem::take(&mut self.wanted) || self.came.is_some_and(|came| came + QUIET <= now) {
            self.came = None;
            return Some(Work::Flush);
        }
        if now < self.rests_until {
            return None;
        }
        let compacted = self.extent.head.compacted;
        let start = self.clean.filter(|(target, _)| *target == compacted);
        let start = start.map_or(Position::default(), |(_, position)| position);
        (self.extent.cleaned < compacted).then_some(Work::Clean(self.extent, start))
    }

    /// When there may be work without anybody's saying so.
    fn next_look(&self, now: Instant) -> Option<Instant> {
        let rested = Some(self.rests_until).filter(|until| *until > now);
        rested.into_iter().chain(self.came.map(|came| came + QUIET)).min()
    }
}

/// The store's end of it: stops the thread when it is dropped.
pub(super) struct Shared {
    inner: Arc<Inner>,
    thread: Option<JoinHandle<()>>,
}

impl Shared {
    pub(super) fn open(backend: Backend, limits: Limits) -> Result<Shared, StoreError> {
        Shared::on(Disk::open(backend)?, limits)
    }

    pub(super) fn on(disk: Disk, limits: Limits) -> Result<Shared, StoreError> {
        let snapshot = Arc::new(disk.snapshot()?);
        let extent = snapshot.extent;
        let view = View { active: Layer::default(), frozen: None, disk: snapshot };
        let progress = Progress {
            wanted: false,
            stopping: false,
            extent,
            begun: extent.head.applied,
            clean: None,
            rests_until: Instant::now(),
            busy: false,
            paused: false,
            ending: false,
            came: None,
        };
        let inner = Arc::new(Inner {
            disk,
            published: RwLock::new(Published { view, head: extent.head }),
            applying: Mutex::new(()),
            progress: Mutex::new(progress),
            work: Condvar::new(),
            progressed: Condvar::new(),
            limits,
            lease_changes: Arc::default(),
        });
        let flusher = Flusher { inner: inner.clone() };
        let thread = thread::Builder::new()
            .name("paxos-kv-store".to_owned())
            .spawn(move || flusher.run())
            .map_err(|error| StoreError::Io {
                path: "the store's thread".to_owned(),
                reason: error.to_string(),
            })?;
        Ok(Shared { inner, thread: Some(thread) })
    }

    pub(super) fn reader(&self) -> Reader {
        Reader { inner: self.inner.clone() }
    }

    pub(super) fn monitor(&self) -> Monitor {
        Monitor { inner: self.inner.clone() }
    }

    /// Why nothing more will be applied.
    pub(super) fn failure(&self) -> Option<StoreError> {
        self.inner.disk.failure.get()
    }

    /// Runs the commands of a slot on the newest view and publishes the head they leave.
    pub(super) fn apply<R>(
        &self,
        slot: Slot,
        commands: impl FnOnce(&View, &mut Head) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        let inner = &*self.inner;
        inner.wait_for_place()?;
        let applying = inner.applying.lock().unwrap_or_else(PoisonError::into_inner);
        let (view, before) = {
            let published = inner.published.read().unwrap_or_else(PoisonError::into_inner);
            (published.view.clone(), published.head)
        };
        assert!(slot > before.applied, "slot {slot} comes after slot {}", before.applied);
        let mut head = before;
        let answers = commands(&view, &mut head).inspect_err(|error| inner.fail(error.clone()))?;
        head.applied = slot;
        inner.published.write().unwrap_or_else(PoisonError::into_inner).head = head;
        drop(applying);
        let bytes = view.active.bytes();
        let full = bytes >= inner.limits.layer_bytes;
        let compacted = head.compacted > before.compacted;
        inner.want_flush_if(|begun| {
            slot > begun && (full || compacted || slot.0 - begun.0 >= inner.limits.layer_slots)
        });
        if bytes >= inner.limits.layer_bytes / WORTH_PART {
            inner.want_flush_when_quiet();
        }
        Ok(answers)
    }

    /// Tells whoever counts the time of leases what has become of some.
    pub(super) fn tell(&self, counted: Vec<Counted>) {
        self.inner.lease_changes.push(counted);
    }

    /// Tells the same that all leases may be other ones.
    pub(super) fn renew_all_leases(&self) {
        self.inner.lease_changes.renew_all();
    }

    /// A digest of the state as of the last slot applied.
    pub(super) fn digest(&self) -> Option<u64> {
        self.inner.published.read().unwrap_or_else(PoisonError::into_inner).head.digest()
    }

    /// The last slot in the tables.
    pub(super) fn durable(&self) -> Slot {
        self.inner.lock_progress().extent.head.applied
    }

    /// Brings everything applied into the tables. Writes nothing if it is there.
    ///
    /// # Errors
    ///
    /// If there is no room, or the store has failed.
    pub(super) fn flush(&self) -> Result<(), StoreError> {
        let target = {
            let published = self.inner.published.read().unwrap_or_else(PoisonError::into_inner);
            published.head.applied
        };
        let disk = &self.inner.disk;
        let mut progress = self.inner.lock_progress();
        while progress.extent.head.applied < target || disk.lacks_owner(target) {
            progress.wanted = true;
            self.inner.work.notify_one();
            self.inner.disk.failure.check()?;
            if disk.room.is_lacking() {
                return Err(disk.full());
            }
            progress = self.inner.wait_for_progress(progress);
        }
        Ok(())
    }

    /// The tables with everything applied in them, as they stay whatever is applied later.
    ///
    /// # Errors
    ///
    /// As [`flush`](Shared::flush).
    pub(super) fn snapshot(&self) -> Result<Arc<Snapshot>, StoreError> {
        self.flush()?;
        let published = self.inner.published.read().unwrap_or_else(PoisonError::into_inner);
        let (disk, head) = (published.view.disk.clone(), published.head);
        assert_eq!(disk.extent.head, head, "nothing is applied while a snapshot is taken");
        Ok(disk)
    }

    /// Waits until nothing superfluous is left in the tables.
    #[cfg(test)]
    pub(super) fn wait_until_clean(&self) {
        let compacted = self.reader().compacted_revision();
        let progress = self.inner.lock_progress();
        let waited = self.inner.progressed.wait_while(progress, |progress| {
            self.failure().is_none() && progress.extent.cleaned < compacted
        });
        drop(waited.expect("the thread does not panic"));
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.inner.lock_progress().stopping = true;
        self.inner.work.notify_one();
        self.inner.disk.room.give_up();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that writes the tables panicked");
        }
    }
}

impl Inner {
    fn lock_progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is place in memory for another slot.
    fn wait_for_place(&self) -> Result<(), StoreError> {
        let mut progress = self.lock_progress();
        loop {
            self.disk.failure.check()?;
            // What is left to do at the end has its own bound.
            if progress.ending || self.has_place() {
                return Ok(());
            }
            progress = self.wait_for_progress(progress);
        }
    }

    fn has_place(&self) -> bool {
        let published = self.published.read().unwrap_or_else(PoisonError::into_inner);
        let under_way = if self.disk.room.is_lacking() { UNDER_WAY_BYTES } else { 0 };
        // Whether or not the thread has begun: it may be slow to.
        published.view.active.bytes() < 2 * self.limits.layer_bytes + under_way
    }

    /// Returns when the thread may have got on, or may never again.
    fn wait_for_progress<'a>(
        &self,
        progress: MutexGuard<'a, Progress>,
    ) -> MutexGuard<'a, Progress> {
        let waited = self.progressed.wait_timeout(progress, LOOK_INTERVAL);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// From now on nobody waits for room.
    pub(super) fn stop_waiting(&self) {
        let mut progress = self.lock_progress();
        progress.ending = true;
        // The thread's own writes may wait on: nobody waits for them. A failed one would fail the store.
        if progress.paused {
            self.disk.room.give_up();
        }
        self.progressed.notify_all();
    }

    fn want_flush_if(&self, due: impl FnOnce(Slot) -> bool) {
        let mut progress = self.lock_progress();
        if !progress.wanted && due(progress.begun) {
            progress.wanted = true;
            self.work.notify_one();
        }
    }

    fn want_flush_when_quiet(&self) {
        let before = self.lock_progress().came.replace(Instant::now());
        // Otherwise the thread looks by itself.
        if before.is_none() {
            self.work.notify_one();
        }
    }

    /// Shows readers the tables as they are now.
    fn publish(&self, change: impl FnOnce(&mut Published)) -> Result<(), StoreError> {
        let snapshot = Arc::new(self.disk.snapshot()?);
        let extent = snapshot.extent;
        {
            let mut published = self.published.write().unwrap_or_else(PoisonError::into_inner);
            published.view.disk = snapshot;
            change(&mut published);
        }
        self.lock_progress().extent = extent;
        self.progressed.notify_all();
        Ok(())
    }

    /// Changes what a key holds behind the store's back, once that is in the tables.
    #[cfg(test)]
    pub(super) fn damage(&self, key: &[u8], change: impl Fn(&mut [u8])) {
        loop {
            let published = self.published.read().unwrap_or_else(PoisonError::into_inner);
            let extent = published.view.disk.extent;
            if published.head == extent.head {
                drop(published);
                break;
            }
            drop(published);
            self.want_flush_if(|_| true);
            thread::yield_now();
        }
        self.disk.damage(key, change);
        self.publish(|_| ()).expect("sound tables");
    }

    /// Lets everybody know that the store is of no more use.
    fn fail(&self, error: StoreError) {
        self.disk.failure.note(error);
        self.progressed.notify_all();
    }
}

/// The thread.
struct Flusher {
    inner: Arc<Inner>,
}

/// What there is to do.
enum Work {
    Flush,
    /// From this position on.
    Clean(Extent, Position),
    Stop,
}

impl Flusher {
    fn run(self) {
        let _guard = FailOnPanic(self.inner.clone());
        loop {
            let done = match self.next_work() {
                Work::Flush => self.flush(),
                Work::Clean(extent, start) => self.clean(extent, start),
                Work::Stop => return,
            };
            if let Err(error) = done {
                self.inner.fail(error);
                return;
            }
            self.inner.lock_progress().busy = false;
            self.inner.progressed.notify_all();
        }
    }

    /// Waits for work. A flush goes before cleaning up.
    fn next_work(&self) -> Work {
        let mut progress = self.inner.lock_progress();
        loop {
            if progress.stopping || self.inner.disk.failure.get().is_some() {
                return Work::Stop;
            }
            let now = Instant::now();
            if !progress.paused
                && let Some(work) = progress.take_work(now)
            {
                progress.busy = true;
                return work;
            }
            let work = &self.inner.work;
            progress = match progress.next_look(now).filter(|_| !progress.paused) {
                None => work.wait(progress).unwrap_or_else(PoisonError::into_inner),
                Some(look) => {
                    let rest = look.saturating_duration_since(now);
                    work.wait_timeout(progress, rest).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    fn flush(&self) -> Result<(), StoreError> {
        let between_slots = self.inner.applying.lock().unwrap_or_else(PoisonError::into_inner);
        let (layer, head, before) = {
            let mut published =
                self.inner.published.write().unwrap_or_else(PoisonError::into_inner);
            let head = published.head;
            let view = &mut published.view;
            if head == view.disk.extent.head && !self.inner.disk.lacks_owner(head.applied) {
                return Ok(());
            }
            let layer = std::mem::take(&mut view.active);
            view.frozen = Some(layer.clone());
            (layer, head, view.disk.extent)
        };
        self.inner.lock_progress().begun = head.applied;
        drop(between_slots);
        layer.with(|changes| self.inner.disk.flush(changes, head, before))?;
        self.inner.publish(|published| published.view.frozen = None)
    }

    fn clean(&self, extent: Extent, start: Position) -> Result<(), StoreError> {
        let began = Instant::now();
        let next = self.inner.disk.clean(start, extent)?;
        let compacted = extent.head.compacted;
        let mut progress = self.inner.lock_progress();
        progress.clean = next.map(|position| (compacted, position));
        let rest = (began.elapsed() * REST_FACTOR).min(REST_MAX);
        progress.rests_until = Instant::now() + rest;
        drop(progress);
        self.inner.publish(|_| ())
    }
}

/// Nobody waits for a thread that is no more.
struct FailOnPanic(Arc<Inner>);

impl Drop for FailOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.fail(StoreError::Io {
                path: "the store".to_owned(),
                reason: "the thread that writes the tables panicked".to_owned(),
            });
        }
    }
}
