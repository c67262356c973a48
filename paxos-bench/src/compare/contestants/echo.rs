//! The limit: a task that answers every request at once and replicates nothing.

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::Tally;
use crate::compare::{
    CompareError,
    tasks::{Client, Service},
};

/// Requests taken in by one pass.
const PASS_MAX: usize = 4096;

struct Request {
    payload: Bytes,
    answer: oneshot::Sender<()>,
}

/// One task that counts.
pub(in crate::compare) struct Echo {
    requests: mpsc::UnboundedSender<Request>,
    task: tokio::task::JoinHandle<Tally>,
}

#[derive(Clone)]
pub(in crate::compare) struct EchoClient(mpsc::UnboundedSender<Request>);

impl Service for Echo {
    type Client = EchoClient;

    async fn start(_nodes: usize) -> Result<Echo, CompareError> {
        let (requests, mut arriving) = mpsc::unbounded_channel::<Request>();
        let task = tokio::spawn(async move {
            let mut tally = Tally::default();
            let mut arrived = Vec::with_capacity(PASS_MAX);
            while arriving.recv_many(&mut arrived, PASS_MAX).await > 0 {
                for Request { payload, answer } in arrived.drain(..) {
                    tally.count(payload.len());
                    let _gone = answer.send(());
                }
            }
            tally
        });
        Ok(Echo { requests, task })
    }

    fn client(&self) -> EchoClient {
        EchoClient(self.requests.clone())
    }

    async fn stop(self, _commands: u64) -> Result<Vec<Tally>, CompareError> {
        drop(self.requests);
        Ok(vec![self.task.await.map_err(crate::HarnessError::from)?])
    }
}

impl Client for EchoClient {
    async fn propose(&self, payload: Bytes) -> Result<(), CompareError> {
        let (answer, answered) = oneshot::channel();
        let gone =
            |_| CompareError::Peer { contestant: "echo", problem: "the task has ended".to_owned() };
        drop(self.0.send(Request { payload, answer }));
        answered.await.map_err(gone)
    }
}
