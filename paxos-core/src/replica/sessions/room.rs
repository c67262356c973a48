//! Who gives way when the table is full. The rule stands at the top of [`sessions`](super).

use super::{SessionTable, session};
use crate::{limits, planted::planted};

/// One part in so many of the bound is freed at a time.
const FREED_PARTS: usize = 16;

impl SessionTable {
    /// Forgets ranges and clients, if there are more than the bound has room for.
    pub(super) fn make_room(&mut self) {
        let max = self.clients.bytes_max;
        if self.bytes <= max || planted!(SessionsUnbounded) {
            return;
        }
        let target = max - max / FREED_PARTS;
        self.level(target);
        if self.bytes > target {
            self.forget_clients(target);
        }
        assert!(self.bytes <= max, "{} bytes of sessions, at most {max}", self.bytes);
    }

    /// Takes from those with most ranges, down to the highest level at which all together take up no more
    /// than `target`, or to the lowest level that there is.
    fn level(&mut self, target: usize) {
        let ranges: Vec<_> = self.others().map(|(_, session)| session.ranges()).collect();
        let bytes_at = |level: usize| -> usize {
            ranges.iter().map(|&ranges| session::bytes(ranges.min(level))).sum()
        };
        let (mut fits, mut exceeds) =
            (limits::SESSION_RANGES_KEPT, ranges.iter().copied().max().unwrap_or(0));
        while exceeds > fits + 1 {
            let level = usize::midpoint(fits, exceeds);
            if bytes_at(level) <= target { fits = level } else { exceeds = level }
        }
        self.bytes = bytes_at(fits);
        let (sessions, nodes) = (&mut self.clients.sessions, &self.nodes);
        let others = sessions.iter_mut().filter(|(name, _)| !nodes.contains(*name));
        others.for_each(|(_, session)| session.keep_highest(fits));
    }

    /// Forgets the clients unused for longest.
    fn forget_clients(&mut self, target: usize) {
        let mut by_use: Vec<_> =
            self.others().map(|(name, session)| (session.last_used, name)).collect();
        by_use.sort_unstable();
        for (_, name) in by_use {
            if self.bytes <= target {
                return;
            }
            let session = self.clients.sessions.remove(&name).expect("it was there just now");
            self.bytes -= session.bytes();
            self.clients.forgotten_epoch = self.clients.forgotten_epoch.max(session.epoch);
        }
    }
}
