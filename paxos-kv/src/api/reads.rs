//! Reads of the store for clients: on threads that may block, a bounded number of them, within a budget of bytes.
//!
//! - **A look-up never waits behind long reads**: both kinds have threads and memory of their own. Those that serve
//!   connections wait for no disk.
//! - **A read ends when its client has gone**: the future that waits for it is dropped then.
//! - **Answers have a budget**, which they take up until the last byte has left for the client. An answer that would
//!   be too large by itself is refused and says what to do; one that finds too little left, as a server that is too
//!   busy.

use std::sync::Arc;

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::sync::Semaphore;
use tonic::Status;

use super::error::stopped;
use crate::store::{
    KvError,
    allowance::{Allowance, Budget},
};

/// Look-ups at a time; more wait.
const LOOK_UPS_MAX: usize = 32;
/// Reads of unknown length at a time.
const LONG_READS_MAX: usize = 16;
/// Memory of all answers of long reads that are being gathered or sent. While one is encoded, it is there twice.
const BYTES_MAX: usize = 512 << 20;
/// Of one of them.
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// The same of look-ups: answers that clients are slow to take leave room for those of others to these.
const LOOK_UP_BYTES_MAX: usize = 256 << 20;

/// How long a read may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    /// A few rows.
    LookUp,
    /// As many as there are.
    Long,
}

/// See the module.
pub(super) struct Reads {
    look_ups: Means,
    long: Means,
}

/// What reads of a kind have together.
struct Means {
    threads: Arc<Semaphore>,
    budget: Arc<Budget>,
}

impl Means {
    fn new(threads_max: usize, bytes_max: usize) -> Means {
        let budget = Budget::new(bytes_max, ANSWER_BYTES_MAX);
        Means { threads: Arc::new(Semaphore::new(threads_max)), budget }
    }
}

/// What an answer takes of the budget, until it has been sent. To be put into the extensions of a response, for
/// [`hold`].
#[derive(Clone, Debug)]
pub(super) struct Charge(#[expect(dead_code, reason = "it is held")] Arc<Allowance>);

impl Reads {
    pub(super) fn new() -> Reads {
        Reads {
            look_ups: Means::new(LOOK_UPS_MAX, LOOK_UP_BYTES_MAX),
            long: Means::new(LONG_READS_MAX, BYTES_MAX),
        }
    }

    /// Reads on a thread that may block.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        length: Length,
        read: impl FnOnce(&mut Allowance) -> Result<T, KvError> + Send + 'static,
    ) -> Result<(T, Charge), Status> {
        let Means { threads, budget } = match length {
            Length::LookUp => &self.look_ups,
            Length::Long => &self.long,
        };
        let thread = threads.clone().acquire_owned().await.map_err(|_| stopped())?;
        let (mut allowance, waiting) = Allowance::of(budget);
        let reading = tokio::task::spawn_blocking(move || {
            let _thread = thread;
            let found = read(&mut allowance)?;
            Ok::<_, KvError>((found, Charge(Arc::new(allowance))))
        });
        // The runtime is shutting down.
        let read = reading.await.map_err(|_| stopped())?;
        drop(waiting);
        Ok(read?)
    }

    /// Looks up at once what is in memory.
    pub(super) fn run_here<T>(
        &self,
        read: impl FnOnce(&mut Allowance) -> Result<T, KvError>,
    ) -> Result<(T, Charge), Status> {
        let (mut allowance, _waiting) = Allowance::of(&self.look_ups.budget);
        let found = read(&mut allowance)?;
        Ok((found, Charge(Arc::new(allowance))))
    }
}

/// Sees to it that a response takes up its part of the budget until it has been sent, or given up.
pub(super) async fn hold(mut response: Response) -> Response {
    let Some(charge) = response.extensions_mut().remove::<Charge>() else { return response };
    let held = move |bytes| Bytes::from_owner(Held { bytes, _charge: charge.clone() });
    response.map(|body| Body::new(body.map_frame(move |frame| frame.map_data(&held))))
}

/// Bytes that hold on to their charge, wherever they wait for the client.
struct Held {
    bytes: Bytes,
    _charge: Charge,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    };

    use futures::{FutureExt, future::join_all};

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_bounded_number_of_threads_reads_and_look_ups_wait_for_none_of_the_others() {
        let reads = Reads::new();
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (begin, begun) = mpsc::channel::<()>();
        let begun = Arc::new(std::sync::Mutex::new(begun));
        let mut all = Box::pin(join_all((0..3 * LONG_READS_MAX).map(|_| {
            let (now, most, begun) = (now.clone(), most.clone(), begun.clone());
            reads.run(Length::Long, move |_| {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                // Nothing is sent: it waits until the other end is dropped.
                let _ = begun.lock().expect("no panic").recv();
                now.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            })
        })));
        while most.load(Ordering::SeqCst) < LONG_READS_MAX {
            assert!((&mut all).now_or_never().is_none());
            tokio::task::yield_now().await;
        }
        let (found, _) = reads.run(Length::LookUp, |_| Ok(7)).await.expect("it is read");
        assert_eq!(found, 7);
        drop(begin);
        assert!(all.await.iter().all(Result::is_ok));
        assert_eq!(most.load(Ordering::SeqCst), LONG_READS_MAX);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_read_ends_when_its_client_has_gone() {
        let reads = Reads::new();
        let (send, received) = mpsc::channel();
        let mut read = Box::pin(reads.run(Length::Long, move |allowance| {
            send.send(Ok(())).expect("the test waits");
            let error = std::iter::repeat_with(|| allowance.take(0)).find_map(Result::err);
            send.send(Err(error)).expect("the test waits");
            Ok(())
        }));
        while received.try_recv().is_err() {
            assert!((&mut read).now_or_never().is_none());
            tokio::task::yield_now().await;
        }
        drop(read);
        let ended = received.recv().expect("it ends");
        assert_eq!(ended, Err(Some(KvError::Abandoned)));
    }

    #[tokio::test]
    async fn an_answer_takes_up_its_bytes_until_they_are_sent() {
        let reads = Reads::new();
        let answer =
            async |bytes| reads.run(Length::Long, move |allowance| allowance.take(bytes)).await;
        let ((), charge) = answer(ANSWER_BYTES_MAX).await.expect("there is room");
        let mut response = Response::new(Body::from("what was found"));
        response.extensions_mut().insert(charge);
        let mut body = hold(response).await.into_body();
        let sent = body.frame().await.expect("a frame").expect("no error");
        drop(body);
        let status = answer(ANSWER_BYTES_MAX + 1).await.expect_err("more than one may take");
        assert_eq!(status.code(), tonic::Code::ResourceExhausted);
        assert!(status.message().contains("larger than 256 MiB"), "{status}");
        let ((), other) = answer(ANSWER_BYTES_MAX).await.expect("there is room");
        let status = answer(1).await.expect_err("all is in use");
        assert_eq!(status.message(), "etcdserver: too many requests");
        // Whoever looks up a key does not notice.
        let look_up = |allowance: &mut Allowance| allowance.take(1 << 20);
        reads.run(Length::LookUp, look_up).await.expect("it has room of its own");
        reads.run_here(look_up).expect("it has room of its own");
        // On its way to a client, whoever has it by then.
        let bytes = sent.into_data().expect("data");
        let taken = || reads.long.budget.taken();
        assert_eq!((&bytes[..], taken()), (&b"what was found"[..], BYTES_MAX));
        drop(bytes.slice(3..));
        drop((bytes, other));
        assert_eq!((taken(), reads.look_ups.budget.taken()), (0, 0));
    }
}
