//! The stream of `Maintenance.Snapshot`: the store of one moment as a file, in pieces.
//!
//! - Like etcd's it needs no quorum: it is the store of the member that is asked, as of the last slot
//!   applied there. A backup can be taken of whatever is left of a cluster.
//! - Writes go on meanwhile, and do not get into it.
//! - A few pieces are in memory. A thread reads the store as fast as the client takes them, and ends
//!   when the client goes, or takes none for a while: a backup under way keeps the file of the store
//!   from using again the room of what has changed.
//!
//! Every piece but the last says how much of the file is left; the last one is the checksum.

use std::{
    io::{self, Write},
    sync::Arc,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{Context, error::too_many_requests};
use crate::{
    backup::{Backup, WriteError},
    proto::etcdserverpb::SnapshotResponse,
    store::KvError,
};

/// Backups under way at a time: each goes through all of the store.
const BACKUPS_MAX: usize = 2;
/// A piece; etcd's are as long.
const PIECE_BYTES: usize = 32 << 10;
/// Pieces that wait for the client.
const PIECES_WAITING_MAX: usize = 8;
/// How long a client may take none.
const STALL_MAX: Duration = Duration::from_secs(60);

/// What a client reads.
pub(super) type Pieces = ReceiverStream<Result<SnapshotResponse, Status>>;

/// Who may take a backup now.
pub(super) struct Backups {
    permits: Arc<Semaphore>,
    stall_max: Duration,
}

impl Backups {
    pub(super) fn new() -> Backups {
        Backups { permits: Arc::new(Semaphore::new(BACKUPS_MAX)), stall_max: STALL_MAX }
    }

    /// Begins to send one.
    pub(super) fn begin(&self, context: &Context) -> Result<Pieces, Status> {
        let permits = self.permits.clone();
        let permit = permits.try_acquire_owned().map_err(|_| too_many_requests())?;
        let (thread, from_thread) = mpsc::channel(1);
        let (client, pieces) = mpsc::channel(PIECES_WAITING_MAX);
        let context = context.clone();
        tokio::task::spawn_blocking(move || read(&context, &thread, permit));
        tokio::spawn(pass_on(from_thread, client, self.stall_max));
        Ok(ReceiverStream::new(pieces))
    }
}

type Piece = Result<SnapshotResponse, Status>;

/// Hands over what the thread has read, until the client is gone or takes nothing. Either way the
/// thread notices.
async fn pass_on(
    mut from_thread: mpsc::Receiver<Piece>,
    client: mpsc::Sender<Piece>,
    stall_max: Duration,
) {
    loop {
        let piece = tokio::select! {
            piece = from_thread.recv() => piece,
            () = client.closed() => return,
        };
        let Some(piece) = piece else { return };
        if client.send_timeout(piece, stall_max).await.is_err() {
            tracing::warn!("a client has given up a snapshot, or takes nothing of it");
            return;
        }
    }
}

/// Reads the store, on a thread that may block.
fn read(context: &Context, pieces: &mpsc::Sender<Piece>, _permit: OwnedSemaphorePermit) {
    match send(context, pieces) {
        Ok(bytes) => tracing::info!(bytes, "a snapshot has been sent"),
        // The client is gone.
        Err(WriteError::Io(_)) if pieces.is_closed() => {}
        Err(WriteError::Io(error)) => {
            tracing::error!(%error, "a snapshot was not sent");
            let status = Status::internal(format!("etcdserver: the snapshot failed: {error}"));
            let _ = pieces.blocking_send(Err(status));
        }
        Err(WriteError::Store(error)) => {
            tracing::error!(%error, "a snapshot was not sent");
            let _ = pieces.blocking_send(Err(KvError::from(error).into()));
        }
    }
}

fn send(context: &Context, pieces: &mpsc::Sender<Piece>) -> Result<u64, WriteError> {
    let frozen = context.reader().freeze(|| !pieces.is_closed())?;
    let frozen = frozen.ok_or_else(|| gone(()))?;
    let backup = Backup::prepare(frozen, context.header(0).raft_term, Pulse(pieces))?;
    let bytes = backup.bytes();
    let mut sender = Sender { pieces, gathered: BytesMut::new(), remaining: bytes };
    let checksum = backup.write(&mut sender)?;
    sender.flush()?;
    sender.send(0, Bytes::copy_from_slice(&checksum))?;
    Ok(bytes)
}

fn gone<E>(_: E) -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "nobody reads it any more")
}

/// Fails once the client is gone.
struct Pulse<'s>(&'s mpsc::Sender<Piece>);

impl Write for Pulse<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.is_closed() {
            true => Err(gone(())),
            false => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Makes pieces of a file.
struct Sender<'s> {
    pieces: &'s mpsc::Sender<Piece>,
    gathered: BytesMut,
    /// Not sent yet.
    remaining: u64,
}

impl Sender<'_> {
    fn send(&self, remaining_bytes: u64, blob: Bytes) -> io::Result<()> {
        let piece = SnapshotResponse { header: None, remaining_bytes, blob };
        self.pieces.blocking_send(Ok(piece)).map_err(gone)
    }
}

impl Write for Sender<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE_BYTES - self.gathered.len());
        self.gathered.extend_from_slice(&bytes[..taken]);
        if self.gathered.len() == PIECE_BYTES {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let blob = self.gathered.split().freeze();
        self.remaining -= blob.len() as u64;
        self.send(self.remaining, blob)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_or_goes_is_given_up() {
        for stays in [true, false] {
            let (thread, from_thread) = mpsc::channel(1);
            let (client, pieces) = mpsc::channel(1);
            let passing = tokio::spawn(pass_on(from_thread, client, STALL_MAX));
            let kept = stays.then_some(pieces);
            while thread.send(Ok(SnapshotResponse::default())).await.is_ok() {}
            passing.await.expect("it ends");
            drop(kept);
        }
    }

    #[tokio::test]
    async fn pieces_are_as_long_as_etcds_and_say_what_is_left() {
        let (sender, mut receiver) = mpsc::channel(100);
        let bytes = vec![7; 5 * 4096 + 2 * PIECE_BYTES];
        let length = bytes.len() as u64;
        tokio::task::spawn_blocking(move || {
            let mut out = Sender { pieces: &sender, gathered: BytesMut::new(), remaining: length };
            bytes.chunks(4096).for_each(|page| out.write_all(page).expect("it is read"));
            out.flush().expect("it is read");
        });
        let mut left = Vec::new();
        while let Some(piece) = receiver.recv().await {
            let piece = piece.expect("a piece");
            left.push((piece.blob.len(), piece.remaining_bytes));
        }
        let rest = length - PIECE_BYTES as u64;
        let last = 5 * 4096;
        assert_eq!(left, [(PIECE_BYTES, rest), (PIECE_BYTES, last), (5 * 4096, 0)]);
    }
}
