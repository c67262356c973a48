//! Places for connections that have not said yet who they are.
//!
//! There is a bounded number of them, and whoever says nothing keeps nobody out: when all are taken, the
//! one that has had its place for longest makes room for the next, once it has had it for as long as a
//! handshake takes. So whoever waits gets in, as fast as they can be told apart, beside any number of
//! strangers.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

#[derive(Debug)]
pub(crate) struct Places {
    free: Arc<Semaphore>,
    /// How long nobody has to make room.
    grace: Duration,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    count: u64,
    /// By how many were taken before.
    places: BTreeMap<u64, Held>,
}

#[derive(Debug)]
struct Held {
    since: Instant,
    needed: CancellationToken,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    number: u64,
    needed: CancellationToken,
    taken: Arc<Mutex<Taken>>,
    _permit: OwnedSemaphorePermit,
}

impl Places {
    pub(crate) fn new(count: usize, grace: Duration) -> Places {
        Places { free: Arc::new(Semaphore::new(count)), grace, taken: Arc::default() }
    }

    /// Waits for a place, for as long at most as the oldest need not make room. Takes `&mut self` because
    /// those who wait stand in line elsewhere: two at once would ask two to make room for one.
    pub(crate) async fn take(&mut self) -> Place {
        let free = self.free.clone().acquire_owned();
        tokio::pin!(free);
        let permit = tokio::select! {
            biased;
            permit = &mut free => permit,
            () = self.ask_the_oldest() => free.await,
        };
        let permit = permit.expect("the semaphore is never closed");
        let needed = CancellationToken::new();
        let mut taken = lock(&self.taken);
        taken.count += 1;
        let number = taken.count;
        taken.places.insert(number, Held { since: Instant::now(), needed: needed.clone() });
        drop(taken);
        Place { number, needed, taken: self.taken.clone(), _permit: permit }
    }

    /// Asks for the place of whoever has had one for longest, when the time has come.
    async fn ask_the_oldest(&self) {
        let oldest = || {
            let taken = lock(&self.taken);
            taken.places.values().next().map(|held| (held.since, held.needed.clone()))
        };
        while let Some((since, needed)) = oldest() {
            let due = since + self.grace;
            if due <= Instant::now() {
                return needed.cancel();
            }
            tokio::time::sleep_until(due).await;
        }
    }
}

impl Place {
    /// Resolves when somebody else needs the place more.
    pub(crate) async fn needed(&self) {
        self.needed.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.taken).places.remove(&self.number);
    }
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinHandle;

    use super::*;

    const GRACE: Duration = Duration::from_millis(500);

    /// Holds a place until it is needed.
    fn hold(place: Place) -> JoinHandle<()> {
        tokio::spawn(async move { place.needed().await })
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_hold_on_make_room_in_order_and_not_before_their_time() {
        let mut places = Places::new(2, GRACE);
        let begun = Instant::now();
        let older = hold(places.take().await);
        tokio::time::sleep(GRACE / 2).await;
        let newer = hold(places.take().await);
        let third = places.take().await;
        assert_eq!(begun.elapsed(), GRACE, "the older one was granted its time");
        older.await.expect("it has made room");
        assert!(!newer.is_finished());
        let fourth = places.take().await;
        assert_eq!(begun.elapsed(), GRACE + GRACE / 2);
        newer.await.expect("it has made room");
        drop(third);
        drop(places.take().await);
        assert_eq!(begun.elapsed(), GRACE + GRACE / 2, "one was free");
        drop(fourth);
        assert!(lock(&places.taken).places.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowd_is_told_apart_as_fast_as_its_members_may_take() {
        let mut places = Places::new(10, GRACE);
        let begun = Instant::now();
        for _ in 0..100 {
            hold(places.take().await);
        }
        let place = places.take().await;
        assert_eq!(begun.elapsed(), 10 * GRACE);
        assert!(!place.needed.is_cancelled());
    }
}
