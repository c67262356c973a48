//! The invariants that tie the roles of one replica together, checked after every step in tests
//! and simulation. Those that one role can check by itself are assertions where they hold.

use super::{Proposing, Replica};
use crate::{limits, types::Slot};

impl<W> Replica<W> {
    /// Checks what must hold between steps.
    ///
    /// # Panics
    ///
    /// If an invariant is broken; the message says which.
    pub fn check_invariants(&self) {
        let chosen = self.learner.chosen().slot;
        let promised = self.acceptor.promised();
        for (slot, ballot) in self.acceptor.log().ballots_from(Slot::ZERO) {
            assert!(
                ballot <= promised || !ballot.is_proposable(),
                "invariant 1: slot {slot} accepted at {ballot}, above the promise {promised}"
            );
        }
        let floor = self.acceptor.log().floor();
        let (applied, delivered) = (self.learner.applied(), self.learner.delivered());
        let checkpoint = self.checkpoints.slot();
        assert!(
            floor <= checkpoint
                && checkpoint <= delivered
                && applied <= delivered
                && delivered <= chosen,
            "invariant 6: floor {floor} checkpoint {checkpoint} applied {applied} delivered {delivered} \
             chosen {chosen}"
        );
        let on_disk = self.acceptor.log().on_disk();
        assert!(on_disk <= chosen, "slots up to {on_disk} left memory, chosen only up to {chosen}");
        let present = self.acceptor.log().ballots_from(on_disk.next());
        let prefix = present.take_while(|(slot, _)| *slot <= chosen).count() as u64;
        assert_eq!(prefix, chosen.0 - on_disk.0, "a chosen slot is missing from the log");
        if let Proposing::Leading(leading, _) = &self.proposing {
            assert_eq!(leading.ballot(), promised, "a leader's own promise is its ballot");
            let window = self.memberships.window_max();
            assert!(
                leading.next() <= chosen.plus(window + 1) && leading.in_flight() as u64 <= window,
                "invariant 10: proposed up to {} with {chosen} chosen and a window of {window}",
                leading.next().previous()
            );
            assert!(
                leading.offers() <= limits::OFFERS_MAX,
                "invariant 11: more offers are kept in mind than move a leader"
            );
            assert!(
                leading.bytes_in_flight_before_last() < self.config.window_bytes_max,
                "invariant 11: a value was proposed beyond the bytes of the window"
            );
        }
        let mut reported = ("values reported and not adopted", 0, 0);
        if let Proposing::Preparing(preparing) = &self.proposing {
            assert!(
                preparing.keeps_undecided_alone(),
                "invariant 11: a candidate keeps values that it has adopted"
            );
            (reported.1, reported.2) = preparing.kept();
        }
        for (what, used, max) in self.bounds().into_iter().chain([reported]) {
            assert!(used <= max, "invariant 11: {used} {what}, at most {max}");
        }
    }

    /// What could grow, how much there is of it, and how much there may be.
    fn bounds(&self) -> [(&'static str, usize, usize); 13] {
        let Replica { config, origin, queue, reader, learner, .. } = self;
        let usize = |number: u64| usize::try_from(number).expect("a bound in memory");
        let queue_bytes = if queue.len() == 1 { 0 } else { queue.weight() };
        let (backlog, backlog_max) = self.out.backlog().bound();
        let (votes, votes_max) = self.out.votes_held();
        [
            ("bytes of open commands", origin.bytes(), config.outstanding_bytes_max),
            ("open commands", origin.open(), config.outstanding_commands_max),
            ("numbers between open commands", origin.spread(), usize(limits::OPEN_SPREAD_MAX)),
            ("bytes in the queue", queue_bytes, config.queue_bytes_max),
            ("ranges of pending requests", queue.pending(), config.pending_ranges_max),
            ("bytes of sessions", learner.sessions().bytes(), config.sessions_bytes_max),
            ("reads", reader.len(), limits::READS_MAX),
            ("places of reads", reader.listed(), 4 * limits::READS_MAX),
            (
                "bytes in delivery",
                learner.bytes_in_delivery(),
                config.delivery_bytes_max + limits::MESSAGE_BYTES_MAX,
            ),
            ("bytes on their way to the disk", backlog, backlog_max),
            ("votes that wait for the disk", votes, votes_max),
            ("digests", self.digests.len(), limits::VOTERS_MAX * limits::DIGESTS_KEPT),
            ("reads of states", self.state_reads.len(), 2 * limits::VOTERS_MAX),
        ]
    }
}
