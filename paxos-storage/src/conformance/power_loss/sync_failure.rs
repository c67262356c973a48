//! Syncs that fail, with pages that look clean afterwards.
//!
//! An operating system that fails to write a page may call it clean all the same, and goes on
//! reading it as it was written; a later sync has nothing to do and succeeds. So a process that
//! starts again finds what is on no disk, and the next power cut takes it away, whatever stands on
//! it by then.

use paxos_core::port::{Storage, StorageError};

use super::{
    Check, Counts, Depth, Extent, Images, known::Known, medium::Medium, session::Session, workload,
};

/// More syncs than a workload may take.
const SYNCS_MAX: usize = 10_000;

/// Checks a storage against every failed sync during a workload, those of starts and ends among
/// them but for the first start, at times with another one shortly after. The process starts again,
/// finds all it has written, and goes on to the end; but
/// [some of it](super::Operation::FailedSync) is on no medium. Then the power fails, at any point of
/// time after the failure: whatever was acknowledged, or found by a start, is there.
///
/// [`Counts::recoveries`] are the runs, with a failure in each.
///
/// # Panics
///
/// If the storage breaks its contract, with the number of the guarantee, which syncs failed, and
/// the operation after which the power failed.
pub async fn sync_failure<S: Storage>(
    open: impl Fn(Medium) -> Result<S, StorageError> + Sync,
    extent: &Extent,
    progress: impl FnMut(&Counts) + Send,
) -> Counts {
    let batches = workload::batches(extent.seed, extent.batches);
    let mut check = Check { open: &open, extent, counts: Counts::default(), progress };
    for first in 0..SYNCS_MAX {
        // The second one meets the start after the first, or what that start goes on with.
        for second in [None, Some(first + 1), Some(first + 2), Some(first + 3)] {
            let medium = Medium::default();
            let failing = [Some(first), second].into_iter().flatten();
            let mut session = Session::new(&open, medium.clone(), Known::default());
            session.run_in_spite_of_failures(&batches, failing).await;
            if !medium.has_failed() {
                return check.counts;
            }
            check.counts.recoveries += 1;
            let recording = session.recording();
            for lost_every in (0..extent.losses).map(|share| 1 << share) {
                let images = Images::new(extent.coarse(lost_every), Vec::new(), extent.seed);
                let depth = Depth::Failure { first, second };
                check.enumerate(images, &recording, Known::default(), depth).await;
            }
        }
    }
    panic!("a workload takes more than {SYNCS_MAX} syncs");
}
