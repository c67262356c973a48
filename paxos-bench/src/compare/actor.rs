//! A peer without a runtime of its own, in tasks: one for each node, which owns it.
//!
//! A task takes all that has gathered in its one mailbox, up to a bound, lets the node work on it in
//! one pass, answers the clients, and sends each other node one parcel. What wakes it for time is a
//! tick from a task that does nothing else, so that no pass looks at a clock.

use std::{collections::VecDeque, marker::PhantomData, sync::Arc};

use bytes::Bytes;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use super::{
    CompareError,
    alone::Alone,
    applied::{self, Applied},
    protocol::{Outbox, Protocol, TICK},
    tasks::{Client, Service},
};
use crate::Tally;

/// Letters taken in by one pass.
const PASS_MAX: usize = 4096;

/// What a node's task is sent.
enum Letter<M> {
    Request(Bytes, oneshot::Sender<()>),
    Message(M),
    Parcel(Vec<M>),
    Tick,
}

type Mailbox<M> = mpsc::UnboundedSender<Letter<M>>;

/// The nodes of a peer, each in a task.
pub(super) struct Actors<P: Protocol> {
    leader: Mailbox<P::Message>,
    applied: Vec<Arc<Applied>>,
    tasks: JoinSet<Result<(), CompareError>>,
    protocol: PhantomData<P>,
}

impl<P: Protocol> Service for Actors<P> {
    type Client = ActorClient<P::Message>;

    async fn start(nodes: usize) -> Result<Actors<P>, CompareError> {
        let Alone { nodes, leader, .. } = Alone::<P>::elected(nodes)?;
        let (mailboxes, arriving): (Vec<_>, Vec<_>) =
            nodes.iter().map(|_| mpsc::unbounded_channel()).unzip();
        let mut tasks = JoinSet::new();
        let mut applied = Vec::new();
        for (node, arriving) in nodes.into_iter().zip(arriving) {
            let ledger = Arc::<Applied>::default();
            applied.push(Arc::clone(&ledger));
            tasks.spawn(run(node, arriving, mailboxes.clone(), ledger));
        }
        let leader = mailboxes[leader].clone();
        tasks.spawn(tick(mailboxes));
        Ok(Actors { leader, applied, tasks, protocol: PhantomData })
    }

    fn client(&self) -> ActorClient<P::Message> {
        ActorClient { leader: self.leader.clone() }
    }

    async fn stop(mut self, commands: u64) -> Result<Vec<Tally>, CompareError> {
        let tallies = applied::settle(&self.applied, commands).await;
        // A task that has ended by itself says why.
        if let Some(ended) = self.tasks.try_join_next() {
            ended.map_err(crate::HarnessError::from)??;
        }
        self.tasks.shutdown().await;
        Ok(tallies)
    }
}

/// Tells all nodes the time.
async fn tick<M: Send>(mailboxes: Vec<Mailbox<M>>) -> Result<(), CompareError> {
    let mut interval = interval(TICK);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        for mailbox in &mailboxes {
            drop(mailbox.send(Letter::Tick));
        }
    }
}

async fn run<P: Protocol>(
    mut node: P,
    mut arriving: mpsc::UnboundedReceiver<Letter<P::Message>>,
    mailboxes: Vec<Mailbox<P::Message>>,
    applied: Arc<Applied>,
) -> Result<(), CompareError> {
    let mut arrived = Vec::with_capacity(PASS_MAX);
    let mut outbox = Outbox::new(mailboxes.len());
    // Commands are applied in the order in which the leader took them.
    let mut waiting = VecDeque::new();
    while arriving.recv_many(&mut arrived, PASS_MAX).await > 0 {
        for letter in arrived.drain(..) {
            match letter {
                Letter::Request(payload, answer) => {
                    waiting.push_back(answer);
                    node.propose(payload)?;
                }
                Letter::Message(message) => node.receive(message)?,
                Letter::Parcel(messages) => {
                    for message in messages {
                        node.receive(message)?;
                    }
                }
                Letter::Tick => node.tick(),
            }
        }
        let tally = node.advance()?;
        if tally.commands > 0 {
            applied.add(tally);
            // None waits at a follower.
            let answered = waiting.len().min(usize::try_from(tally.commands).unwrap_or(usize::MAX));
            for answer in waiting.drain(..answered) {
                let _gone = answer.send(());
            }
        }
        node.flush(&mut outbox)?;
        for (mailbox, messages) in mailboxes.iter().zip(&mut outbox.to) {
            let letter = match messages.len() {
                0 => continue,
                1 => Letter::Message(messages.remove(0)),
                _ => Letter::Parcel(std::mem::take(messages)),
            };
            drop(mailbox.send(letter));
        }
    }
    Ok(())
}

pub(super) struct ActorClient<M> {
    leader: Mailbox<M>,
}

impl<M> Clone for ActorClient<M> {
    fn clone(&self) -> Self {
        ActorClient { leader: self.leader.clone() }
    }
}

impl<M: Send + 'static> Client for ActorClient<M> {
    async fn propose(&self, payload: Bytes) -> Result<(), CompareError> {
        let (answer, answered) = oneshot::channel();
        drop(self.leader.send(Letter::Request(payload, answer)));
        let gone = |_| CompareError::Peer {
            contestant: "the leader",
            problem: "its task has ended".to_owned(),
        };
        answered.await.map_err(gone)
    }
}
