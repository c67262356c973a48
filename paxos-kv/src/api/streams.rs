//! Streams that last as long as their client likes: what ends them otherwise.

use std::{future::Future, pin::Pin, task::Poll};

use futures::{Stream, StreamExt, stream};
use tonic::{Status, metadata::MetadataMap};

use super::{
    Context,
    error::{no_leader, stopped},
};

/// After so many election timeouts without a leader the streams of clients end that want to be told, as etcd's do.
const LEADERLESS_MAX: u32 = 3;

/// What a client hears.
pub(super) type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Passes on answers until the server ends, or, if the client wants to be told, there is no leader for a while: then
/// that is the last one.
pub(super) fn until_ended<T: Send + 'static>(
    context: &Context,
    metadata: &MetadataMap,
    answers: impl Stream<Item = Result<T, Status>> + Send + 'static,
) -> Answers<T> {
    let wants_leader = super::wants_leader(metadata);
    let context = context.clone();
    let ended = async move {
        let leaderless = async {
            if wants_leader { leaderless(&context).await } else { std::future::pending().await }
        };
        tokio::select! {
            () = context.ending().cancelled() => stopped(),
            () = leaderless => no_leader(),
        }
    };
    Box::pin(until(answers, ended))
}

async fn leaderless(context: &Context) {
    let mut leadership = context.node().leadership();
    let patience = context.timing().election_timeout * LEADERLESS_MAX;
    loop {
        if leadership.wait_for(|leadership| leadership.leader.is_none()).await.is_err() {
            return;
        }
        let led = leadership.wait_for(|leadership| leadership.leader.is_some());
        if tokio::time::timeout(patience, led).await.is_err() {
            return;
        }
    }
}

fn until<T>(
    answers: impl Stream<Item = Result<T, Status>> + Send,
    ended: impl Future<Output = Status> + Send,
) -> impl Stream<Item = Result<T, Status>> + Send {
    let (mut answers, mut ended) = (Box::pin(answers), Some(Box::pin(ended)));
    stream::poll_fn(move |cx| {
        let Some(ending) = &mut ended else { return Poll::Ready(None) };
        if let Poll::Ready(status) = ending.as_mut().poll(cx) {
            ended = None;
            return Poll::Ready(Some(Err(status)));
        }
        answers.poll_next_unpin(cx)
    })
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn answers_come_until_something_ends_them() {
        let (end, ended) = tokio::sync::oneshot::channel();
        let numbers = stream::iter(0..).map(Ok);
        let mut answers = Box::pin(until(numbers, ended.map(|_| stopped())));
        assert_eq!(answers.next().await.expect("one").expect("a number"), 0);
        assert_eq!(answers.next().await.expect("one").expect("a number"), 1);
        end.send(()).expect("it is waited for");
        let status = answers.next().await.expect("the reason").expect_err("no number");
        assert_eq!(status.message(), "etcdserver: server stopped");
        assert!(answers.next().await.is_none());
        let mut answers =
            Box::pin(until(stream::empty::<Result<(), Status>>(), std::future::pending()));
        assert!(answers.next().await.is_none(), "the client has closed it");
    }
}
