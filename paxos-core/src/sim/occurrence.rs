//! What happened how often: a fault that never struck or a rule that never applied was not
//! tested, so the runs are counted and a count of zero is a failure.

use std::fmt;

macro_rules! occurrences {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Something that may happen in a run.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Occurrence {
            $($(#[$doc])* $name,)*
        }

        impl Occurrence {
            /// All of them.
            pub const ALL: &'static [Occurrence] = &[$(Occurrence::$name),*];
        }

        impl fmt::Display for Occurrence {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Occurrence::$name => $text,)*
                })
            }
        }
    };
}

occurrences! {
    /// The network lost a message at random.
    Dropped = "messages dropped",
    /// The network delivered a message twice.
    Duplicated = "messages duplicated",
    /// A message overtook another, or was held up for long.
    Delayed = "messages delayed",
    /// A message came once more, long after.
    Resurrected = "very old messages repeated",
    /// A promise to an earlier candidacy arrived in the next one of the same node.
    PromiseRepeated = "promises repeated to a later candidacy",
    /// A vote for an earlier leadership arrived in the next one of the same node, which proposed
    /// something in the same slot.
    VoteRepeated = "votes repeated to a later leadership",
    /// A message met a cut link.
    Severed = "messages lost to a cut",
    /// The cluster was split into groups.
    CutIntoIslands = "partitions into islands",
    /// A node was cut off in one direction, from some or all.
    CutOneWay = "cuts in one direction",
    /// Two groups had one node in common.
    CutToBridge = "cuts to a bridge",
    /// The nodes formed a chain.
    CutToChain = "cuts to a chain",
    /// All nodes reached but one.
    CutToHub = "cuts to a hub",
    /// The nodes formed a ring.
    CutToRing = "cuts to a ring",
    /// Links were cut at random.
    CutAtRandom = "cuts at random",
    /// Another membership was in force.
    Reconfigured = "changes of the membership",
    /// The leader refused a change because too few were able to go on with it.
    ChangeNotReady = "changes that were not made for want of a quorum",
    /// Another change was chosen first.
    ChangeOvertaken = "changes overtaken by others",
    /// A change made no sense, came while another was under way, or was not made in time.
    ChangeRefused = "changes not made",
    /// A node came that nobody had asked to begin the cluster.
    Joined = "nodes that came to join",
    /// A node that knew none of the members was started again with some that were there.
    ToldAgain = "nodes that had to be told of other members",
    /// A node learned that it had been removed, and ended.
    Left = "nodes that were removed and ended",
    /// A node that was removed while it was down or cut off was told when it came back.
    RemovedWasTold = "nodes that came back after they were removed",
    /// Somebody who was no peer was not let in.
    StrangerRefused = "messages of strangers refused",
    /// A change would have used the id of a node again that had been removed.
    IdUsedTwice = "ids of removed nodes refused to new ones",
    /// A leader was asked to hand over, and another node led.
    Transferred = "transfers of the leadership",
    /// A node refused to hand over at once.
    TransferRefused = "transfers refused",
    /// A leader went on because the other node did not take over in time, or became unable to.
    TransferAbandoned = "transfers abandoned",
    /// Some links lost many messages for a while.
    MadeFlaky = "flaky links",
    /// A flaky link lost a message.
    LostOnFlakyLink = "messages lost on flaky links",
    /// Some links took long for a while.
    MadeSlow = "slow links",
    /// A slow link held a message up.
    HeldUpOnSlowLink = "messages held up on slow links",
    /// Some links, or a node's uplink, had little bandwidth for a while.
    MadeNarrow = "narrow links",
    /// A message waited until others had passed.
    QueuedOnNarrowLink = "messages queued on narrow links",
    /// Too many messages waited to pass.
    LostOnNarrowLink = "messages lost on narrow links",
    /// Some links let only small messages pass for a while.
    MadeSmall = "links that lose what is large",
    /// Some links let only one lane pass for a while.
    MadeUrgent = "links that lose what is not urgent",
    /// A message was too large for its link.
    LostForSize = "messages lost for their size",
    /// A message was not urgent enough for its link.
    LostForLane = "messages lost for their lane",
    /// A node crashed.
    Crashed = "crashes",
    /// A node crashed before the write that a step asked for was handed to its disk.
    CrashedBeforeWriting = "crashes before a write was handed over",
    /// A node crashed within a step, before it sent anything.
    CrashedBeforeSending = "crashes before a step's messages",
    /// A node crashed when some of the messages of a step had left.
    CrashedWhileSending = "crashes between a step's messages",
    /// A node crashed when all messages of a step had left, before anything else of it.
    CrashedAfterSending = "crashes after a step's messages",
    /// A node crashed in the midst of a write.
    CrashedInWrite = "crashes during a write",
    /// A node crashed while it recovered.
    CrashedAtStart = "crashes while starting",
    /// A crash lost writes.
    LostWrites = "crashes that lost writes",
    /// A crash kept writes that had not been reported durable.
    KeptWrites = "crashes that kept unreported writes",
    /// A crash lost a sector in front of one that it kept.
    LostSectorsInTheMiddle = "crashes that lost sectors out of the middle",
    /// A crash kept a part of a write.
    TornWrite = "crashes that tore a write",
    /// A crash kept a whole write behind one that it lost.
    CutOffWrite = "crashes that cut a write off",
    /// A node started again.
    Restarted = "restarts",
    /// A disk was slow for a while.
    SlowedDisk = "slow disks",
    /// All disks were slow for a while, some needing longer for a write than an election timeout.
    SlowedDisks = "clusters of slow disks",
    /// A disk was full for a while.
    FilledDisk = "full disks",
    /// A disk did nothing for a while.
    HungDisk = "hanging disks",
    /// A state machine did nothing for a while.
    StuckMachine = "stuck state machines",
    /// A write was done, or the log read, only when the disk went on.
    HeldUpByDisk = "writes and reads held up by a hanging disk",
    /// A write failed, and its process ended.
    WriteFailed = "failed writes",
    /// A read of the log failed, and its process ended.
    ReadFailed = "failed reads",
    /// A node could not start because its disk could not be read.
    StartFailed = "starts that failed to read the disk",
    /// A bit of what was durable flipped.
    Rotted = "bits flipped at rest",
    /// A read of the log met damage, and its node was gone for good.
    DamageRead = "damage met by a read of the log",
    /// A start met damage, and its node was gone for good.
    DamageAtStart = "damage met by a start",
    /// A whole disk was lost, and an empty one took its place.
    LostDisk = "disks lost",
    /// A node that had come back empty was not let in by one that knew it, or let in none.
    EmptyNodeRefused = "messages refused between an empty node and one that knew it",
    /// A process stood still for a while.
    Paused = "pauses",
    /// A machine was suspended for a while, its clock too.
    Suspended = "suspensions",
    /// A machine was suspended, and links that had been cut meanwhile came back after it went on.
    Stranded = "suspensions while links were cut",
    /// A leader was suspended among few, and its successor crashed.
    Deposed = "leaders replaced while suspended",
    /// A node was away for long.
    Overslept = "nodes that overslept",
    /// A node crashed while it fetched a state or others fetched one from it.
    StateInterrupted = "crashes that interrupted the transfer of a state",
    /// A clock ran a little fast or slow.
    Drifted = "drifting clocks",
    /// A clock ran up to twice as fast or as slow for a while.
    Warped = "clocks far off their speed",
    /// A clock jumped forwards.
    Jumped = "clocks that jumped",
    /// A node was told that the process of another one had ended.
    DeathReported = "deaths reported",
    /// As above, when the other might be back.
    DeathReportedLate = "deaths reported late",
    /// A node was not told.
    DeathNotReported = "deaths not reported",
    /// A node was told that another one was gone, which was there.
    AliveReportedLost = "nodes reported lost that were alive",
    /// The liveness phase began with everything healed.
    EndedHealed = "endings healed",
    /// It began with some nodes cut off.
    EndedWithCore = "endings with a core",
    /// It began with some nodes down.
    EndedWithSurvivors = "endings with survivors",
    /// It began with faults of all kinds at some nodes.
    EndedWithFringe = "endings with a core and a fringe",
    /// It began with one node in the middle.
    EndedAsStar = "endings as a star",
    /// It began with a leader without a quorum.
    EndedInQuorumLoss = "endings in quorum loss",
    /// It began with one candidate, whose log was old.
    EndedInConstrainedElection = "endings in a constrained election",
    /// It began with a chain.
    EndedChained = "endings chained",
    /// It began with a leader that was deaf or mute.
    EndedOneWay = "endings one-way",
    /// It was left without one direction of one link.
    EndedWithHalfLink = "endings with half a link",
    /// It began with a leader too few of whose followers could write.
    EndedWithHungDisks = "endings with hung disks",
    /// It began with a leader whose disk was behind and did nothing.
    EndedOverloaded = "endings with an overloaded leader",
    /// It began with disks that took up to two election timeouts for every write, and no leader.
    EndedWithSlowDisks = "endings with slow disks",
    /// As above, with disks that took longer.
    EndedWithSlowestDisks = "endings with the slowest disks",
    /// It began with a leader that was asked to hand over.
    EndedWithTransfer = "endings with a transfer of the leadership",
    /// It began with a leader from which only what is small passed.
    EndedWithSmallPaths = "endings with a leader whose paths lose what is large",
    /// It began with a leader from which only what is urgent passed.
    EndedHeardInVain = "endings with a leader that is heard in vain",
    /// It began with a leader whose process had ended, which was reported.
    EndedWithLeaderDead = "endings with a dead leader",
    /// It began with a leader that was cut off, and had been heard without a fault for long.
    EndedWithLeaderSilent = "endings with a silent leader",
    /// A leader stood still for less time than it takes to be suspected.
    LeaderFaltered = "leaders that faltered",
    /// It began with a leader that commands of others did not reach.
    EndedUnreached = "endings with a leader that is not reached",
    /// It began with a node whose commands reached nobody.
    EndedMuffled = "endings with a node whose commands reach nobody",
    /// A fault outside the core stayed to the end.
    LeftBroken = "faults left for good",
    /// A node polled the others before a ballot.
    Polled = "polls",
    /// A poll was refused.
    PollRefused = "polls refused",
    /// A node became leader.
    Elected = "elections won",
    /// A leader gave up leadership without crashing.
    SteppedDown = "leaders that stepped down",
    /// A leader gave up leadership while its disk was behind.
    SteppedDownBehind = "leaders that stepped down with their disk behind",
    /// An acceptor refused a ballot.
    Rejected = "ballots rejected",
    /// A promise took several messages.
    PromisePaged = "promises in pages",
    /// A new leader proposed again what an earlier ballot had proposed.
    ValueRecovered = "values recovered",
    /// A new leader filled a hole below a value of an earlier ballot.
    HoleFilled = "holes filled with a noop",
    /// A slot was chosen before the one below it.
    ChosenOutOfOrder = "slots chosen out of order",
    /// An Accept was sent again.
    AcceptRepeated = "accepts sent again",
    /// A node asked for slots it missed.
    PullAsked = "slots pulled",
    /// A node answered with the slots asked for.
    PullAnswered = "pulls answered",
    /// The replica read its log back from the storage.
    LogRead = "log reads",
    /// The replica read a piece of a state.
    StateRead = "pieces of states read",
    /// A checkpoint with its state became durable.
    CheckpointWritten = "checkpoints with their states",
    /// A checkpoint became durable whose state its machine keeps.
    CheckpointOfDisk = "checkpoints without states",
    /// Records left a log for good.
    FloorRaised = "floors raised",
    /// A node asked a peer for a state.
    StateAsked = "pieces of states asked for",
    /// A node sent the last piece of a state.
    StateSent = "states sent",
    /// A checkpoint of a peer took the place of the log.
    CheckpointInstalled = "checkpoints of peers installed",
    /// A state machine took over a state, a peer's or that of its own checkpoint.
    StateTakenOver = "states taken over",
    /// A node started with part of a state that it was fetching or making.
    StateUnfinished = "starts with part of a state",
    /// A proposal was sent to another node.
    ProposalForwarded = "proposals forwarded",
    /// A proposal was passed on a second time.
    ProposalPassedOn = "proposals passed on",
    /// A read was sent to another node.
    ReadForwarded = "reads forwarded",
    /// A linearizable read was served.
    ReadServed = "reads served",
    /// A read at a known slot was served.
    ReadServedAtSlot = "reads at a known slot served",
    /// A local read was served.
    ReadServedLocally = "local reads served",
    /// A read that promises no more showed a state older than what clients knew.
    ReadStale = "reads that were stale",
    /// A command was applied and acknowledged.
    Acknowledged = "commands acknowledged",
    /// A command was chosen twice, and applied once.
    DuplicateSuppressed = "duplicate commands suppressed",
    /// A command was chosen after nobody wanted it any more.
    ExpiredSuppressed = "expired commands suppressed",
    /// Requests of clients that leave holes were forgotten, because the session table was full.
    RangesForgotten = "session tables that forgot ranges",
    /// A client was forgotten, because the session table was full.
    ClientForgotten = "session tables that forgot clients",
    /// A proposal was refused because too many waited.
    RefusedBusy = "proposals refused as busy",
    /// A proposal was refused because too much waited for the disk.
    RefusedBehind = "proposals refused for the disk's backlog",
    /// A proposal was refused because the disk was full.
    RefusedDiskFull = "proposals refused for a full disk",
    /// A request id was used twice at one node, and refused.
    RefusedIdUsed = "request ids refused as used",
    /// A proposal was refused because another node had had it applied.
    RefusedApplied = "proposals refused as applied already",
    /// A client gave up.
    GaveUp = "requests given up",
    /// A replica went on from a state machine that was ahead of its own log.
    MachineAheadOfLog = "state machines ahead of the log at start",
}

/// How often each [`Occurrence`] was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occurrences(Vec<u64>);

impl Default for Occurrences {
    fn default() -> Self {
        Occurrences(vec![0; Occurrence::ALL.len()])
    }
}

impl Occurrences {
    pub(super) fn add(&mut self, occurrence: Occurrence) {
        self.0[occurrence as usize] += 1;
    }

    /// How often `occurrence` was seen.
    #[must_use]
    pub fn count(&self, occurrence: Occurrence) -> u64 {
        self.0[occurrence as usize]
    }

    /// Adds those of another run.
    pub fn merge(&mut self, other: &Occurrences) {
        for (count, more) in self.0.iter_mut().zip(&other.0) {
            *count += more;
        }
    }

    /// What was never seen.
    pub fn never(&self) -> impl Iterator<Item = Occurrence> + '_ {
        Occurrence::ALL.iter().copied().filter(|&occurrence| self.count(occurrence) == 0)
    }
}

impl fmt::Display for Occurrences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for &occurrence in Occurrence::ALL {
            writeln!(f, "{:>12}  {occurrence}", self.count(occurrence))?;
        }
        Ok(())
    }
}
