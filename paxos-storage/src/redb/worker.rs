//! The two threads of the storage, and what a failure means for what follows.
//!
//! The writer takes one batch after the other. After a failure it writes no more, with one
//! exception: if there was no room, it opens the database again, looks whether the batch has made
//! it after all, and goes on.

use std::{
    io,
    ops::RangeInclusive,
    sync::{Arc, PoisonError, RwLock},
    thread::{Builder, JoinHandle},
    time::Duration,
};

use bytes::Bytes;
use paxos_core::{
    message::Record,
    port::{Recovered, StorageError, Write, WriteBatch, WriteError},
    types::{ClusterId, NodeId, Slot},
};
use tokio::sync::{mpsc, oneshot};

use super::{database::OpenDatabase, source::Source};

/// How long a read waits before it looks whether the database is open again.
const REOPEN_PAUSE: Duration = Duration::from_millis(1);

/// A database that ran out of room and cannot be opened again, for want of a descriptor or of memory, is tried
/// again so often and after so long, ten seconds altogether: that may pass, and a node can be without its disk for as long.
const OPEN_ATTEMPTS: u32 = 100;
const OPEN_INTERVAL: Duration = Duration::from_millis(100);

type Reply<T, E = StorageError> = oneshot::Sender<Result<T, E>>;

enum WriterJob {
    Recover { cluster: ClusterId, node: NodeId, reply: Reply<Recovered> },
    Write { batch: Box<WriteBatch>, reply: Reply<(), WriteError> },
    Close { reply: Reply<()> },
}

enum ReaderJob {
    Records { slots: RangeInclusive<Slot>, bytes_max: usize, reply: Reply<Vec<Record>> },
    State { slot: Slot, offset: u64, bytes_max: usize, reply: Reply<Bytes> },
}

/// The database, between the two threads. Only the writer replaces it.
enum Access {
    NotRecovered,
    Open(OpenDatabase),
    Failed,
    Closed,
}

type SharedAccess = Arc<RwLock<Access>>;

/// Handles on the two threads. Dropping it ends them, the reader first.
pub(super) struct Workers {
    reader: Worker<ReaderJob>,
    writer: Worker<WriterJob>,
}

impl Workers {
    pub(super) fn start(source: Source) -> Result<Workers, StorageError> {
        let path = source.path();
        let access = SharedAccess::new(RwLock::new(Access::NotRecovered));
        let failed = |error: io::Error| StorageError::Io {
            operation: "start a thread for",
            path: path.clone(),
            reason: error.to_string(),
        };
        let mut reader = Reader { access: Arc::clone(&access), path: path.clone() };
        let reader = Worker::start("paxos-log-read", move |job| reader.handle(job));
        let reader = reader.map_err(failed)?;
        let mut writer =
            Writer { access, source: Some(source), path: path.clone(), was_full: false };
        let writer = Worker::start("paxos-log-write", move |job| writer.handle(job));
        Ok(Workers { reader, writer: writer.map_err(failed)? })
    }

    pub(super) async fn recover(
        &self,
        cluster: ClusterId,
        node: NodeId,
    ) -> Result<Recovered, StorageError> {
        self.writer.ask(|reply| WriterJob::Recover { cluster, node, reply }).await
    }

    pub(super) fn write(&self, batch: WriteBatch) -> Write {
        let batch = Box::new(batch);
        Write::under_way(self.writer.ask(|reply| WriterJob::Write { batch, reply }))
    }

    pub(super) async fn read(
        &self,
        slots: RangeInclusive<Slot>,
        bytes_max: usize,
    ) -> Result<Vec<Record>, StorageError> {
        self.reader.ask(|reply| ReaderJob::Records { slots, bytes_max, reply }).await
    }

    pub(super) async fn read_state(
        &self,
        slot: Slot,
        offset: u64,
        bytes_max: usize,
    ) -> Result<Bytes, StorageError> {
        self.reader.ask(|reply| ReaderJob::State { slot, offset, bytes_max, reply }).await
    }

    pub(super) async fn close(&self) {
        if let Err(error) = self.writer.ask(|reply| WriterJob::Close { reply }).await {
            tracing::warn!(%error, "closing the log");
        }
    }
}

/// A thread that handles jobs until its handle is dropped. What waits for it is bounded by those who
/// ask: a node has one write under way, and few reads.
struct Worker<J> {
    jobs: Option<mpsc::UnboundedSender<J>>,
    thread: Option<JoinHandle<()>>,
}

impl<J: Send + 'static> Worker<J> {
    fn start(name: &str, mut handle: impl FnMut(J) + Send + 'static) -> io::Result<Worker<J>> {
        let (jobs, mut queue) = mpsc::unbounded_channel();
        let thread = Builder::new().name(name.to_owned()).spawn(move || {
            while let Some(job) = queue.blocking_recv() {
                handle(job);
            }
        })?;
        Ok(Worker { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Hands over a job, and then waits for its answer. A thread that has died answers nothing more.
    fn ask<T, E: From<StorageError>, F: FnOnce(Reply<T, E>) -> J>(
        &self,
        job: F,
    ) -> impl Future<Output = Result<T, E>> + use<J, T, E, F> {
        let (reply, answer) = oneshot::channel();
        let jobs = self.jobs.as_ref().expect("taken only by drop");
        // If it cannot be handed over, the reply is dropped with it.
        let _ = jobs.send(job(reply));
        async { answer.await.unwrap_or(Err(StorageError::Failed.into())) }
    }
}

impl<J> Drop for Worker<J> {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a thread of the log has panicked");
        }
    }
}

struct Reader {
    access: SharedAccess,
    path: String,
}

impl Reader {
    fn handle(&mut self, job: ReaderJob) {
        // Whoever asked may have been dropped.
        match job {
            ReaderJob::Records { slots, bytes_max, reply } => {
                let _ = reply.send(self.read(|open| open.read(slots.clone(), bytes_max)));
            }
            ReaderJob::State { slot, offset, bytes_max, reply } => {
                let _ = reply.send(self.read(|open| open.read_state(slot, offset, bytes_max)));
            }
        }
    }

    fn read<T>(
        &self,
        read: impl Fn(&OpenDatabase) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        loop {
            let access = self.access.read().unwrap_or_else(PoisonError::into_inner);
            let open = database(&access, "read", &self.path);
            match open.and_then(&read) {
                // A write has found no room, after which redb reads nothing either, until the
                // writer has opened it again, which it is about to do.
                Err(StorageError::Full { .. }) => {
                    drop(access);
                    std::thread::sleep(REOPEN_PAUSE);
                }
                read => return read,
            }
        }
    }
}

struct Writer {
    access: SharedAccess,
    /// `None` once it has been closed.
    source: Option<Source>,
    path: String,
    /// The last write found no room.
    was_full: bool,
}

impl Writer {
    fn handle(&mut self, job: WriterJob) {
        // Whoever asked may have been dropped; what was asked for counts all the same.
        match job {
            WriterJob::Recover { cluster, node, reply } => {
                let _ = reply.send(self.recover(cluster, node));
            }
            WriterJob::Write { batch, reply } => {
                let _ = reply.send(self.write(batch));
            }
            WriterJob::Close { reply } => {
                self.close();
                let _ = reply.send(Ok(()));
            }
        }
    }

    fn recover(&mut self, cluster: ClusterId, node: NodeId) -> Result<Recovered, StorageError> {
        let access = self.access.read().unwrap_or_else(PoisonError::into_inner);
        let (Access::NotRecovered, Some(source)) = (&*access, &mut self.source) else {
            return Err(refused("recover", &self.path, "it was recovered or closed before"));
        };
        drop(access);
        let open = OpenDatabase::open(source, cluster)?;
        let recovered = open.recover(node)?;
        source.publish()?;
        self.replace(Access::Open(open));
        Ok(recovered)
    }

    fn write(&mut self, batch: Box<WriteBatch>) -> Result<(), WriteError> {
        match self.try_write(&batch) {
            Ok(()) => Ok(()),
            Err(StorageError::Full { path }) => Err(WriteError::Full { path, batch }),
            Err(error) => Err(error.into()),
        }
    }

    fn try_write(&mut self, batch: &WriteBatch) -> Result<(), StorageError> {
        let access = self.access.read().unwrap_or_else(PoisonError::into_inner);
        let open = database(&access, "write", &self.path)?;
        let room = match &self.source {
            Some(source) if self.was_full => source.probe_room(size(batch)),
            _ => Ok(()),
        };
        // Nothing of the log has been touched.
        room?;
        let written = open.write(batch);
        drop(access);
        self.was_full = matches!(written, Err(StorageError::Full { .. }));
        match written {
            Ok(()) => Ok(()),
            Err(full @ StorageError::Full { .. }) => self.go_on_after(full, batch),
            Err(error) => {
                self.replace(Access::Failed);
                Err(error)
            }
        }
    }

    /// Opens the database again, which redb needs after every failure. What is then found in it is
    /// what the disk holds: the batch is there, or `full` is the whole truth about it.
    fn go_on_after(&mut self, full: StorageError, batch: &WriteBatch) -> Result<(), StorageError> {
        // Held until all is decided: whoever reads meanwhile waits, and does not fail.
        let mut access = self.access.write().unwrap_or_else(PoisonError::into_inner);
        let failed = std::mem::replace(&mut *access, Access::Failed);
        let (Access::Open(failed), Some(source)) = (failed, &mut self.source) else {
            return Err(StorageError::Failed);
        };
        let cluster = failed.cluster();
        let faults = failed.faults();
        drop(failed);
        if faults.sync_has_failed() {
            return Err(StorageError::Failed);
        }
        let again = open_again(source, cluster);
        let again = again.and_then(|open| Ok((open.contains(batch)?, open)));
        match again {
            Ok((contained, open)) => {
                *access = Access::Open(open);
                if contained { Ok(()) } else { Err(full) }
            }
            // To say "full" would promise that the batch is not there, which is unknown now.
            Err(StorageError::Full { path }) => Err(StorageError::Io {
                operation: "open again",
                path,
                reason: "no space left on the device".to_owned(),
            }),
            Err(error) => Err(error),
        }
    }

    fn close(&mut self) {
        let source = self.source.take();
        if let Access::Open(open) = self.replace(Access::Closed)
            && open.close()
            && let Some(source) = source
        {
            source.close();
        }
    }

    fn replace(&mut self, access: Access) -> Access {
        let mut current = self.access.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut current, access)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.close();
    }
}

/// Opens a database that was open until now.
fn open_again(source: &mut Source, cluster: ClusterId) -> Result<OpenDatabase, StorageError> {
    for _ in 1..OPEN_ATTEMPTS {
        match OpenDatabase::open(source, cluster) {
            Err(StorageError::Io { operation: "open", path, reason }) => {
                tracing::warn!(path, reason, "the log cannot be opened again yet");
                std::thread::sleep(OPEN_INTERVAL);
            }
            opened => return opened,
        }
    }
    OpenDatabase::open(source, cluster)
}

/// Bytes of a batch that need room, roughly.
fn size(batch: &WriteBatch) -> usize {
    let records: usize = batch.records.iter().map(|record| record.value.encoded_len()).sum();
    let state: usize = batch.state.iter().map(|chunk| chunk.bytes.len()).sum();
    let sessions = batch.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.sessions.len());
    records + state + sessions + batch.memberships.as_ref().map_or(0, Bytes::len)
}

fn database<'a>(
    access: &'a Access,
    operation: &'static str,
    path: &str,
) -> Result<&'a OpenDatabase, StorageError> {
    match access {
        Access::Open(open) => Ok(open),
        Access::Failed => Err(StorageError::Failed),
        Access::NotRecovered => Err(refused(operation, path, "recover() comes first")),
        Access::Closed => Err(refused(operation, path, "it has been closed")),
    }
}

fn refused(operation: &'static str, path: &str, reason: &str) -> StorageError {
    StorageError::Io { operation, path: path.to_owned(), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use paxos_core::types::Ballot;

    use super::*;

    /// Whether there is room is tried out in a file beside the log, which cannot be opened if all
    /// descriptors are in use, say. Here there is a directory in its place.
    #[test]
    fn what_keeps_it_from_looking_for_room_does_not_end_it() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let source = Source::directory(directory.path()).expect("a free directory");
        let path = source.path();
        let access = SharedAccess::new(RwLock::new(Access::NotRecovered));
        let mut writer = Writer { access, source: Some(source), path, was_full: false };
        writer.recover(ClusterId(1), NodeId(1)).expect("a new log");
        let promised = Some(Ballot { round: 1, node: NodeId(1) });
        let batch = WriteBatch { promised, ..WriteBatch::default() };
        writer.was_full = true;
        let room = directory.path().join("room");
        fs::create_dir(&room).expect("a directory");
        for _ in 0..2 {
            let refused = writer.write(Box::new(batch.clone()));
            let Err(WriteError::Full { batch: back, .. }) = refused else { panic!("{refused:?}") };
            assert_eq!(*back, batch);
        }
        fs::remove_dir(&room).expect("it is empty");
        assert!(writer.write(Box::new(batch)).is_ok(), "the log itself was never at fault");
    }
}
