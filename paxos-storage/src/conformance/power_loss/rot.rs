//! What was synced and has decayed since.

use paxos_core::port::{Storage, StorageError};

use super::{
    Extent,
    known::Known,
    medium::Medium,
    session::{Failure, Session, find},
    workload,
};

const SECTOR_BYTES: usize = 512;

/// What decay was tried, and what came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct RotCounts {
    /// Images that were opened.
    pub images: usize,
    /// How many were refused.
    pub reported: usize,
    /// How many held the same state: what decayed was of no account.
    pub equal: usize,
    /// How many came up without the last batch, as if it had never been finished.
    pub dropped: usize,
}

/// Checks a storage against decay: after every write without a proper end, and after a proper end,
/// single bits flip and sectors turn to zeros, in places that hold something. Every such image is
/// an error, or the same state. Without a proper end it may also be the state without the last
/// batch, as guarantee 6 allows a storage that cannot tell an unfinished last batch from one that
/// has decayed; after a proper end it may not.
///
/// # Panics
///
/// If a decayed image is read as another state, or makes a storage die instead of report.
pub async fn rot<S: Storage>(
    open: impl Fn(Medium) -> Result<S, StorageError>,
    extent: &Extent,
) -> RotCounts {
    let mut decay =
        Decay { random: fastrand::Rng::with_seed(extent.seed), counts: RotCounts::default() };
    let medium = Medium::default();
    let mut session = Session::new(&open, medium.clone(), Known::default());
    let storage = session.start().await;
    for batch in workload::batches(extent.seed, extent.batches) {
        session.write(&storage, batch).await;
        decay.check(&open, extent, &medium, session.known(), Ended::Suddenly).await;
    }
    storage.close().await;
    drop(storage);
    decay.check(&open, extent, &medium, session.known(), Ended::Properly).await;
    decay.counts
}

/// How the storage ended on a medium before it decayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Suddenly,
    Properly,
}

struct Decay {
    random: fastrand::Rng,
    counts: RotCounts,
}

impl Decay {
    async fn check<S: Storage>(
        &mut self,
        open: &impl Fn(Medium) -> Result<S, StorageError>,
        extent: &Extent,
        medium: &Medium,
        known: &Known,
        ended: Ended,
    ) {
        let mut sound = vec![0; medium.len()];
        medium.read(0, &mut sound).expect("all of it");
        let holding: Vec<usize> = (0..sound.len())
            .step_by(SECTOR_BYTES)
            .filter(|at| sound[*at..].iter().take(SECTOR_BYTES).any(|byte| *byte != 0))
            .collect();
        let older = known.without_last_acknowledgement();
        let allowed = if ended == Ended::Properly { known } else { &older };
        for _ in 0..extent.decays {
            let (image, what) = self.decayed(&sound, &holding);
            self.counts.images += 1;
            match find(open, Medium::holding(image), allowed).await {
                Ok(found) if found.batches == known.acknowledged() => self.counts.equal += 1,
                Ok(_) => self.counts.dropped += 1,
                Err(Failure::Refused(error)) if error != StorageError::Failed => {
                    self.counts.reported += 1;
                }
                Err(failure) => panic!(
                    "rot: {failure} (seed {}, {what}, ended {ended:?} after {} batches)",
                    extent.seed,
                    known.acknowledged()
                ),
            }
        }
    }

    fn decayed(&mut self, sound: &[u8], holding: &[usize]) -> (Vec<u8>, String) {
        let mut image = sound.to_vec();
        let sector = holding[self.random.usize(..holding.len())];
        let len = SECTOR_BYTES.min(image.len() - sector);
        let what = if self.random.u8(..4) == 0 {
            image[sector..sector + len].fill(0);
            format!("zeros at {sector}")
        } else {
            let (at, bit) = (sector + self.random.usize(..len), self.random.u8(..8));
            image[at] ^= 1 << bit;
            format!("bit {bit} of byte {at} flipped")
        };
        (image, what)
    }
}
