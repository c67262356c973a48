//! Proposals that nobody waits for yet.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::future::BoxFuture;

use super::{
    error::{NodeError, ProposeError},
    handle::{Answer, Node, Unsent},
};
use crate::port::StateMachine;

impl<S: StateMachine> Node<S> {
    /// Proposes a command now and waits for its response later: the command is on its way when this
    /// returns, and what it returns is a future of what [`propose`](Node::propose) would.
    ///
    /// So one task keeps as many commands in flight as it likes, without spawning a task for each.
    /// They are taken in the order in which they were submitted, as long as the leader stays.
    ///
    /// With 64 in flight that is three times as fast as a task for each, over memory on two cores
    /// (`cargo bench -p paxos-bench --bench throughput -- pipeline`).
    ///
    /// ```
    /// # use paxos_core::{Node, port::StateMachine, types::{Membership, Slot}};
    /// # use paxos_storage::MemoryStorage;
    /// # use paxos_transport::MemoryNetwork;
    /// # struct Sum(u64);
    /// # impl StateMachine for Sum {
    /// #     type Command = u64;
    /// #     type Response = u64;
    /// #     type Snapshot = u64;
    /// #     fn apply(&mut self, _: Slot, commands: Vec<u64>) -> Vec<u64> {
    /// #         commands.into_iter().map(|command| { self.0 += command; self.0 }).collect()
    /// #     }
    /// #
    /// #     fn snapshot(&self) -> u64 {
    /// #         self.0
    /// #     }
    /// #
    /// #     fn restore(&mut self, _: Slot, sum: u64) -> std::io::Result<()> {
    /// #         self.0 = sum;
    /// #         Ok(())
    /// #     }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let node = Node::builder(1, Membership::new([(1, "node-1")])?)
    /// #     .storage(MemoryStorage::new())
    /// #     .transport(MemoryNetwork::new(1).join(1))
    /// #     .start(Sum(0))
    /// #     .await?;
    /// let submitted: Vec<_> = (1..=100).map(|number| node.submit(number)).collect();
    /// let mut sum = 0;
    /// for response in submitted {
    ///     sum = response.await?;
    /// }
    /// assert_eq!(sum, 5050);
    /// # node.shutdown().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn submit(&self, command: S::Command) -> Submitted<S> {
        let timeout = self.shared.limits.request_timeout;
        let wait = match self.begin(None, command, timeout) {
            Ok(answer) => Wait::Answer(answer),
            Err(Unsent::Refused(error)) => Wait::Refusal(Some(error)),
            Err(Unsent::Stopped) => self.stopping(),
        };
        Submitted { node: self.clone(), wait }
    }

    fn stopping(&self) -> Wait<S> {
        let node = self.clone();
        Wait::Reason(Box::pin(async move { node.end_reason().await }))
    }
}

/// A proposal on its way: a future of its response. See [`Node::submit`].
///
/// A command whose future is dropped may have effect all the same.
#[must_use = "whether the command had effect is known only to who waits for it"]
pub struct Submitted<S: StateMachine> {
    node: Node<S>,
    wait: Wait<S>,
}

/// What is still to come.
enum Wait<S: StateMachine> {
    Answer(Answer<S>),
    /// It was not taken; `None` once that has been told.
    Refusal(Option<ProposeError>),
    /// The node has ended, and is asked why.
    Reason(BoxFuture<'static, NodeError>),
}

impl<S: StateMachine> Future for Submitted<S> {
    type Output = Result<S::Response, ProposeError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.node.check_thread()?;
        loop {
            match &mut self.wait {
                Wait::Answer(answer) => match ready!(Pin::new(answer).poll(cx)) {
                    Ok(result) => return Poll::Ready(result.map(|applied| applied.response)),
                    Err(_) => self.wait = self.node.stopping(),
                },
                Wait::Refusal(error) => {
                    let error = error.take().expect("a future that has ended is not polled again");
                    return Poll::Ready(Err(error));
                }
                Wait::Reason(reason) => {
                    let reason = ready!(reason.as_mut().poll(cx));
                    return Poll::Ready(Err(ProposeError::Stopped(reason)));
                }
            }
        }
    }
}

impl<S: StateMachine> fmt::Debug for Submitted<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Submitted").field("node", &self.node).finish_non_exhaustive()
    }
}
