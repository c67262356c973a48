//! Renewals of leases, gathered: what this member's clients ask for while one command is on its way is the next.

use tokio::sync::{mpsc, oneshot};
use tonic::Status;

use super::{Context, error::stopped};
use crate::store::{Command, RenewLeases, Response};

/// Renewals of one command.
const GATHERED_MAX: usize = 10_000;
/// Requests that wait to be gathered; who comes then waits before that.
const WAITING_MAX: usize = 10_000;

type Answer = Result<i64, Status>;

/// Takes renewals. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Renewals(mpsc::Sender<(i64, oneshot::Sender<Answer>)>);

impl Renewals {
    /// Runs until the server ends.
    pub(super) fn start(context: Context) -> Renewals {
        let (renewals, asked) = mpsc::channel(WAITING_MAX);
        let ending = context.ending().clone();
        tokio::spawn(ending.run_until_cancelled_owned(gather(context, asked)));
        Renewals(renewals)
    }

    /// Renews a lease; returns how many seconds it has from now on, 0 if there is none.
    pub(super) async fn renew(&self, id: i64) -> Answer {
        let (answer, answered) = oneshot::channel();
        self.0.send((id, answer)).await.map_err(|_| stopped())?;
        answered.await.unwrap_or_else(|_| Err(stopped()))
    }
}

async fn gather(context: Context, mut asked: mpsc::Receiver<(i64, oneshot::Sender<Answer>)>) {
    let mut gathered = Vec::new();
    while asked.recv_many(&mut gathered, GATHERED_MAX).await > 0 {
        // Who has gone needs nothing renewed.
        gathered.retain(|(_, answer)| !answer.is_closed());
        let ids: Vec<_> = gathered.iter().map(|(id, _)| *id).collect();
        let renewed = renew(&context, ids).await;
        for (number, (_, answer)) in gathered.drain(..).enumerate() {
            // It may have gone meanwhile.
            let _ = answer.send(renewed.as_ref().map(|ttls| ttls[number]).map_err(Clone::clone));
        }
    }
}

/// How long each lasts from now on.
async fn renew(context: &Context, ids: Vec<i64>) -> Result<Vec<i64>, Status> {
    let count = ids.len();
    if count == 0 {
        return Ok(Vec::new());
    }
    let answer = context.propose(Command::RenewLeases(RenewLeases { ids })).await?;
    match answer.response()? {
        Response::RenewLeases(ttls) if ttls.len() == count => Ok(ttls),
        _ => Err(super::error::mismatch()),
    }
}
