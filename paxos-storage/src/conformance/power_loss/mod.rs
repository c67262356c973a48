//! Every crash of a real disk backend: a workload is recorded operation by operation, and what a
//! power cut after each of them may have left on the medium is opened again.
//!
//! What is synced is there. Of what is not, any subset of the pages may be, and of a page any subset
//! of the sectors. All subsets are tried where they are few ([`Extent::pages_exhaustive`]); else
//! none, all, each alone, all but each, and random ones; and the pages of the last operation torn
//! at every sector. Some recoveries are recorded in their turn, and the power fails again.
//!
//! Whatever is found must be the state after some number of whole batches, no fewer than were
//! acknowledged. Syncs that fail are another check, [`sync_failure`], and damage to what was synced is
//! a third, [`rot`].

mod image;
mod known;
mod medium;
mod rot;
mod session;
mod sync_failure;
mod workload;

use paxos_core::port::{Storage, StorageError};

use self::{
    image::{Image, Images, Tried},
    known::Known,
    session::{Failure, Recording, Session},
};
pub use self::{
    medium::{Medium, Operation},
    rot::{RotCounts, rot},
    sync_failure::sync_failure,
};
use super::full_batch;

/// The seed of the batch that is written after a crash; no workload has that many.
const AFTERWARDS: u64 = 1_000_000;

/// How much of what may happen is tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Decides about the workload and all random choices.
    pub seed: u64,
    /// Batches that are written. Half-way, the storage is closed properly and opened again.
    pub batches: usize,
    /// Up to so many unsynced pages, every subset of them is tried: 2 to this power at most.
    pub pages_exhaustive: u32,
    /// Random subsets of more pages, and as many of sectors, at every point of time.
    pub samples: usize,
    /// Of so many images, in one the power fails again during the recovery.
    pub nested_every: usize,
    /// So many shares of what a failed sync was to write are lost in turn, in [`sync_failure`]: all
    /// pages, one of two, one of four, and so on.
    pub losses: u32,
    /// Places of every image that decay, in [`rot`].
    pub decays: usize,
}

impl Extent {
    /// Some seconds.
    #[must_use]
    pub fn short(seed: u64) -> Extent {
        Extent {
            seed,
            batches: 6,
            pages_exhaustive: 6,
            samples: 4,
            nested_every: 300,
            losses: 2,
            decays: 150,
        }
    }

    /// A minute or two in a release build.
    #[must_use]
    pub fn long(seed: u64) -> Extent {
        Extent {
            seed,
            batches: 20,
            pages_exhaustive: 10,
            samples: 100,
            nested_every: 100,
            losses: 4,
            decays: 500,
        }
    }

    fn thorough(&self) -> Tried {
        let Extent { pages_exhaustive, samples, .. } = *self;
        Tried { pages_exhaustive, samples, page_by_page: true, cut_every: 1, lost_every: 1 }
    }

    /// For the recoveries, of which there are many.
    fn sketchy(&self) -> Tried {
        let pages_exhaustive = self.pages_exhaustive.min(2);
        Tried { pages_exhaustive, samples: 1, page_by_page: true, cut_every: 4, lost_every: 1 }
    }

    /// After a failed sync, where what matters is what it has lost.
    fn coarse(&self, lost_every: usize) -> Tried {
        Tried { pages_exhaustive: 1, samples: 0, page_by_page: false, cut_every: 1, lost_every }
    }
}

/// What was tried, and what came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Counts {
    /// Operations after each of which the power failed, of recoveries too.
    pub operations: usize,
    /// Recoveries that were recorded, for the power to fail during them.
    pub recoveries: usize,
    /// Different images that were opened.
    pub images: usize,
    /// Of those with a write under way, how many have it.
    pub kept: usize,
    /// And how many do not.
    pub lost: usize,
    /// Images from before the first recovery was acknowledged: nobody's state yet.
    pub unborn: usize,
}

/// Checks a storage against every power cut during a workload. `open` opens it on a medium, where
/// all of its changes and syncs have to go. `progress` is called after every image.
///
/// # Panics
///
/// If the storage breaks its contract, with the number of the guarantee, the operation after which
/// the power failed, and what had reached the medium.
pub async fn power_loss<S: Storage>(
    open: impl Fn(Medium) -> Result<S, StorageError> + Sync,
    extent: &Extent,
    progress: impl FnMut(&Counts) + Send,
) -> Counts {
    let mut session = Session::new(&open, Medium::default(), Known::default());
    session.run(workload::batches(extent.seed, extent.batches)).await;
    let mut check = Check { open: &open, extent, counts: Counts::default(), progress };
    let images = Images::new(extent.thorough(), Vec::new(), extent.seed);
    check.enumerate(images, &session.recording(), Known::default(), Depth::Workload).await;
    check.counts
}

/// What is being enumerated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Depth {
    Workload,
    Recovery,
    /// After the first of these syncs has failed.
    Failure {
        first: usize,
        second: Option<usize>,
    },
}

struct Check<'a, F, P> {
    open: &'a F,
    extent: &'a Extent,
    counts: Counts,
    progress: P,
}

impl<S, F, P> Check<'_, F, P>
where
    S: Storage,
    F: Fn(Medium) -> Result<S, StorageError> + Sync,
    P: FnMut(&Counts) + Send,
{
    /// Cuts the power after every operation of `recording`, which began when `known` was known.
    async fn enumerate(
        &mut self,
        mut images: Images,
        recording: &Recording,
        mut known: Known,
        depth: Depth,
    ) {
        let mut notes = recording.notes.iter().peekable();
        let (mut situation, mut images_opened) = (0, 0usize);
        let failure = recording.operations.iter().position(|it| *it == Operation::FailedSync);
        let after = if matches!(depth, Depth::Failure { .. }) { failure.unwrap_or(0) } else { 0 };
        for count in 0..=recording.operations.len() {
            if let Some(operation) = count.checked_sub(1).map(|last| &recording.operations[last]) {
                images.advance(operation);
            }
            while let Some((_, note)) = notes.next_if(|(position, _)| *position <= count) {
                known.learn(note);
                situation += 1;
            }
            if count < after {
                continue;
            }
            self.counts.operations += 1;
            for image in images.now(situation) {
                let place = || {
                    let all = recording.operations.len();
                    let survivors = &image.survivors;
                    format!(
                        "seed {}, {depth:?}, after operation {count} of {all}: {survivors}",
                        self.extent.seed
                    )
                };
                self.check(&image, &known, place).await;
                images_opened += 1;
                if depth == Depth::Workload
                    && images_opened.is_multiple_of(self.extent.nested_every)
                {
                    Box::pin(self.crash_again(image, known.clone())).await;
                }
            }
        }
    }

    /// Opens an image and judges what is found.
    async fn check(&mut self, image: &Image, known: &Known, place: impl Fn() -> String) {
        self.counts.images += 1;
        let medium = Medium::holding(image.bytes.clone());
        match session::find(self.open, medium, known).await {
            Ok(found) if known.is_writing() && found.batches > known.acknowledged() => {
                self.counts.kept += 1
            }
            Ok(_) if known.is_writing() => self.counts.lost += 1,
            Ok(_) => {}
            Err(Failure::Refused(_)) if !known.is_born() => self.counts.unborn += 1,
            Err(failure) => panic!("power loss: {failure} ({})", place()),
        }
        (self.progress)(&self.counts);
    }

    /// Records the recovery from an image, and what is written after it, and cuts the power again.
    async fn crash_again(&mut self, image: Image, known: Known) {
        if !known.is_born() {
            return;
        }
        self.counts.recoveries += 1;
        let medium = Medium::holding(image.bytes.clone());
        let mut session = Session::new(self.open, medium, known.clone());
        // What the first cut has left must not be in the way of what is written after it, far behind.
        session.run(vec![full_batch(10_001, AFTERWARDS)]).await;
        let images = Images::new(self.extent.sketchy(), image.bytes, self.extent.seed);
        self.enumerate(images, &session.recording(), known, Depth::Recovery).await;
    }
}
