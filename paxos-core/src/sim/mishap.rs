//! What is about to go wrong at a machine: in the midst of a step, or of an operation of its disk.

use super::occurrence::{Occurrence, Occurrences};
use crate::replica::Effects;

/// A crash in the midst of what a step asks for.
#[derive(Clone, Debug)]
pub(super) struct CrashPoint {
    /// Steps that still go well, of those that ask for something to be written or sent.
    pub(super) steps: u32,
    /// Decides where in the step.
    pub(super) rng: fastrand::Rng,
}

impl CrashPoint {
    /// Leaves of `effects` what is carried out before the crash: the write is handed over or not,
    /// and any number of messages has left.
    pub(super) fn cut(&mut self, effects: &mut Effects, seen: &mut Occurrences) {
        let sends = effects.send.len();
        if self.rng.bool() && effects.persist.take().is_some() {
            seen.add(Occurrence::CrashedBeforeWriting);
        }
        effects.send.truncate(self.rng.usize(..=sends));
        seen.add(match effects.send.len() {
            0 => Occurrence::CrashedBeforeSending,
            left if left < sends => Occurrence::CrashedWhileSending,
            _ => Occurrence::CrashedAfterSending,
        });
    }
}

/// An operation of a disk that is about to fail.
#[derive(Clone, Debug)]
pub(super) struct FailingOperation {
    /// Operations that still go well.
    after: u32,
    /// Decides what the failure leaves behind.
    rng: fastrand::Rng,
}

impl FailingOperation {
    /// One of the next operations.
    pub(super) fn draw(rng: &mut fastrand::Rng) -> FailingOperation {
        FailingOperation { after: rng.u32(..6), rng: rng.fork() }
    }

    /// Another operation comes to its end: if it is the one that fails, decides what that leaves
    /// behind.
    pub(super) fn strike(waiting: &mut Option<FailingOperation>) -> Option<fastrand::Rng> {
        let operation = waiting.as_mut()?;
        if operation.after == 0 {
            return waiting.take().map(|operation| operation.rng);
        }
        operation.after -= 1;
        None
    }
}

/// Which writes of sectors that were not synced a crash keeps: all, the first ones, all but one, or
/// any.
pub(super) fn sectors_kept(writes: usize, rng: &mut fastrand::Rng) -> Vec<bool> {
    let mut kept = vec![true; writes];
    match rng.u8(..4) {
        0 => {}
        1 => kept[rng.usize(..=writes)..].fill(false),
        2 if writes > 0 => kept[rng.usize(..writes)] = false,
        _ => {
            let share = rng.f64();
            kept.fill_with(|| rng.f64() < share);
        }
    }
    kept
}
