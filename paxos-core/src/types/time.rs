//! Time as an argument: the replica has no clock of its own.

use std::time::Duration;

/// A point on the caller's monotonic clock, in nanoseconds since an origin of the caller's choice.
///
/// A driver counts from its start; a simulator from zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The origin.
    pub const ZERO: Instant = Instant(0);

    /// The instant `elapsed` after the origin; saturates after some 584 years.
    #[must_use]
    pub fn from_origin(elapsed: Duration) -> Instant {
        Instant::ZERO.after(elapsed)
    }

    /// Time since the origin.
    #[must_use]
    pub fn since_origin(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    /// The instant `delay` later.
    #[must_use]
    #[inline]
    pub fn after(self, delay: Duration) -> Instant {
        Instant(self.0.saturating_add(u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// Time from `earlier` to this instant; zero if it lies after.
    #[must_use]
    pub fn since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// The earliest of the deadlines there are.
pub(crate) fn earliest<const N: usize>(deadlines: [Option<Instant>; N]) -> Option<Instant> {
    deadlines.into_iter().fold(None, |earliest, deadline| match (earliest, deadline) {
        (Some(earliest), Some(deadline)) => Some(earliest.min(deadline)),
        _ => earliest.or(deadline),
    })
}
