//! The clock and the log of a [`Lessor`].

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use paxos_core::types::NodeId;

use super::{Counts, Due};
use crate::{
    api::Context,
    store::{
        Command, KvError, NoteLeases, Reader,
        lease::{Counted, LeaseChanges, Pending},
    },
};

/// How long a member leads before it has leases end: those who have waited for a leader are renewed first.
const GRACE: Duration = Duration::from_secs(1);

/// The time of every lease, as this member counts it. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Lessor {
    reader: Reader,
    changes: Arc<LeaseChanges>,
    counts: Arc<Mutex<Counts>>,
    began: Instant,
}

impl Lessor {
    pub(crate) fn new(reader: Reader) -> Lessor {
        let changes = reader.lease_changes().clone();
        Lessor { reader, changes, counts: Arc::default(), began: Instant::now() }
    }

    /// What a lease has left, if there is one: nothing is left of one that is about to end. May read a disk.
    pub(crate) fn remaining(&self, id: i64) -> Result<Option<Duration>, KvError> {
        self.with(|counts, now| counts.remaining(id, now))
    }

    /// Looks at the time of all leases, as of what this member has applied by now. May read a disk.
    fn with<R>(&self, look: impl FnOnce(&mut Counts, Duration) -> R) -> Result<R, KvError> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let Pending { is_all_new, changes } = self.changes.take();
        let leases = if is_all_new { self.reader.leases() } else { Ok(Vec::new()) };
        // Whoever fails to read it has no use for it.
        let leases = leases.inspect_err(|_| self.changes.renew_all())?;
        let now = self.began.elapsed();
        if is_all_new {
            counts.keep_only(&leases.iter().map(|(id, _)| *id).collect());
        }
        let leases = leases.into_iter().map(|(id, lease)| Counted { id, lease: Some(lease) });
        for counted in leases.chain(changes) {
            counts.take_in(counted, now);
        }
        Ok(look(&mut counts, now))
    }
}

/// Counts, and does what is due as long as this member leads.
pub(crate) async fn run(context: Context) {
    let lessor = context.lessor().clone();
    let mut leadership = context.node().leadership();
    let mut leads_since = None;
    loop {
        let leads = leadership.borrow_and_update().leader == Some(me(&context));
        leads_since = leads.then(|| leads_since.unwrap_or_else(|| lessor.began.elapsed()));
        let may_end = leads_since.map(|since| since + GRACE);
        let counting = lessor.clone();
        let looked = context.look_up(move |_| {
            counting.with(|counts, now| match may_end {
                Some(may_end) => (counts.due(now, may_end), counts.next_due()),
                None => (Due::default(), None),
            })
        });
        let (due, next) = match looked.await {
            Ok(found) => found,
            Err(status) => {
                tracing::debug!(reason = status.message(), "the time of leases is not counted");
                (Due::default(), Some(lessor.began.elapsed() + GRACE))
            }
        };
        carry_out(&context, due).await;
        let next_due = async {
            match next {
                Some(next) => tokio::time::sleep_until((lessor.began + next).into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = leadership.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            () = lessor.changes.comes() => {}
            () = next_due => {}
        }
    }
}

fn me(context: &Context) -> NodeId {
    context.node().identity().node
}

/// Proposes what is due, all at once.
async fn carry_out(context: &Context, due: Due) {
    let Due { ended, notes } = due;
    let notes = (!notes.is_empty()).then(|| Command::NoteLeases(NoteLeases { leases: notes }));
    let commands = ended.into_iter().map(Command::ExpireLease).chain(notes);
    let proposed = commands.map(|command| context.propose(command));
    for status in futures::future::join_all(proposed).await.into_iter().filter_map(Result::err) {
        // It stays due, for whoever leads.
        tracing::debug!(reason = status.message(), "what is due for a lease has not been done");
    }
}
