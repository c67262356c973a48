//! Known bugs of consensus implementations, to be put back in one at a time and caught.
//!
//! A simulator that has never failed may be a good one or a blind one. So the mistakes that
//! implementations of Paxos and Raft are known for stand here, each at the place where the code
//! gets it right, behind one compile-time switch:
//!
//! - `RUSTFLAGS="--cfg paxos_bug_bank"` builds them in. It is a `cfg` and no feature of cargo,
//!   because features add up over a whole build and this one must never come along unasked. With
//!   optimised code it takes the profile `simulation`: a build without debug assertions, as a release
//!   is, refuses to compile.
//! - [`plant`] then puts one bug in, for the thread that calls it, until the guard is dropped.
//!
//! The example `bug_bank` hunts for all of them; what it found stands in `docs/BUGS.md`.

use std::{cell::Cell, env, fmt, marker::PhantomData, sync::OnceLock};

#[cfg(not(debug_assertions))]
compile_error!(
    "paxos_bug_bank plants bugs and must not reach a release: build with `--profile simulation`"
);

/// Names a bug for the whole process: for tests, which run on threads of their own.
pub const VARIABLE: &str = "PAXOS_BUG";

macro_rules! bugs {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A known bug.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Bug {
            $($(#[$doc])* $name,)*
        }

        impl Bug {
            /// All of them.
            pub const ALL: &'static [Bug] = &[$(Bug::$name),*];

            /// Its name, as in the code.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Bug::$name => stringify!($name),)*
                }
            }

            /// What is wrong, in a line.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self {
                    $(Bug::$name => $text,)*
                }
            }
        }
    };
}

bugs! {
    // The disk.

    /// An acceptor says that it has accepted while its vote may still be lost with the power.
    ///
    /// Lamport 2001, section 2.5: "An acceptor records its intended response in stable storage before
    /// actually sending the response."
    VoteBeforeSync = "a vote is acknowledged before it is synced",
    /// The leader counts itself at once, beside its disk write.
    ///
    /// etcd issue 14370: a cluster of one node could lose what it had acknowledged.
    OwnVoteBeforeSync = "the leader counts its own vote before it is synced",
    /// An acceptor promises, crashes, and does not know it.
    ///
    /// Lamport 2001, section 2.5.
    PromiseBeforeSync = "a promise leaves before it is synced",
    /// A candidate asks for promises to a ballot that it may use a second time after a crash.
    ///
    /// Lamport 2001, section 2.5: "each proposer remembers, in stable storage, the
    /// highest-numbered proposal it has tried to issue".
    PrepareBeforeSync = "Prepare leaves before the candidate's own promise is synced",
    /// A restart recovers the votes and not the promise.
    ///
    /// Chandra, Griesemer & Redstone 2007, section 5.1.
    PromiseForgotten = "the promise is forgotten on restart",
    /// After a restart ballots are numbered from what the others say, not from the own promise.
    ///
    /// Lamport 2001, section 2.5.
    BallotReused = "a ballot is used again after a restart",
    /// Values leave memory while only memory has them.
    EvictedBeforeSync = "a record is evicted from memory before it is on disk",
    /// A slow disk has what comes in pile up until memory is full.
    BacklogUnbounded = "what waits for a slow disk has no bound",
    /// Whoever leads a slow disk collects a vote for every slot that it has ever been asked for.
    VotesHeldUnbounded = "the votes that wait for a disk that hangs have no bound",

    // Quorums.

    /// Half of an even number, or rounding down: two quorums that miss each other.
    PhaseOneQuorumMinusOne = "a phase-1 quorum of one too few",
    /// As above, for votes.
    PhaseTwoQuorumMinusOne = "a phase-2 quorum of one too few",
    /// Flexible quorums whose sizes add up to n, which need not intersect, are taken for sound.
    ///
    /// Howard, Malkhi & Spiegelman 2016: |Q1| + |Q2| > n.
    QuorumsDisjoint = "flexible quorums of which two need not intersect",
    /// Messages are counted instead of nodes, and the network repeats some.
    VoteCountedTwice = "a vote that arrives twice counts twice",
    /// A late vote for an earlier leadership of the same node counts, for another value at times.
    VoteOfAnotherBallot = "a vote is matched by its slot, whatever its ballot",
    /// A late promise to an earlier candidacy of the same node counts: the completion is matched by
    /// its index alone.
    PromiseOfAnotherBallot = "a promise is matched by its first slot, whatever its ballot",

    // The acceptor.

    /// An acceptor follows whoever speaks.
    ///
    /// Lamport 2001, section 2.2, P1a.
    BallotBelowPromise = "a ballot below the promise is accepted",
    /// The acceptor leaves out what *it* knows chosen, which the candidate may not know.
    PromiseFromOwnWatermark = "a promise reports from the acceptor's own watermark on",
    /// What is on disk only, or has been compacted, counts as never accepted.
    EvictedAsEmpty = "slots that are not in memory are reported as empty",
    /// A promise that takes several messages ends after the first.
    PromisePagesLost = "a promise of several pages is sent as one",
    /// A record that a leader with an old ballot writes over what is known to be chosen.
    ChosenOverwritten = "a chosen record is overwritten by a vote",

    // Phase 1 and the choice of values.

    /// Of two reported values the one that comes last is proposed.
    ///
    /// Lamport 2001, section 2.2, P2c.
    LowerBallotProposed = "a reported value of a lower ballot is proposed again",
    /// The first message of a promise is taken for all of it.
    FirstPageIsAll = "a promise counts at its first page",
    /// A candidate that has missed much gathers all of it in memory, beside what it writes.
    ReportedUnbounded = "a candidate keeps the chosen values that it has adopted",
    /// A new leader begins at the first slot that has a value.
    ///
    /// Lamport 2001, section 3: the gap must be filled with no-ops.
    HoleNotFilled = "a hole in the log is not filled",
    /// A new leader fills every slot up to the last reported one with a no-op.
    ReportedValueAsHole = "a reported value is replaced by a no-op",

    // Phase 2.

    /// A slot whose votes are overdue is closed with a no-op, at the same ballot.
    SlotProposedTwice = "a leader proposes two values in one slot",
    /// Off by one in Lamport's α, on which a change of membership relies.
    ///
    /// Lamport 2001, section 3.
    BeyondWindow = "a leader proposes one slot beyond its window",
    /// The window counts slots alone, and slots full of large commands overrun the queue of a peer.
    WindowBytesIgnored = "a leader proposes beyond the bytes of its window",
    /// A leader that hears of a higher ballot goes on.
    HigherBallotIgnored = "a leader does not step down for a higher ballot",
    /// A leader suspended and replaced learns what its successor chose, and tells its followers a
    /// watermark over slots in which they hold its own values.
    StaleLeaderVouches = "an outdated leader vouches for what its successor chose",

    // Learning.

    /// A follower takes whatever it has accepted for chosen up to the leader's watermark.
    ///
    /// In Raft: advancing the commit index over entries that do not match the leader's.
    WatermarkOfAnotherBallot = "the watermark is trusted for a slot accepted at another ballot",
    /// A node whose leader has damaged its log stops, and so do all others that hear that leader.
    WhoeverHearsStops = "whoever hears of another log stops, although a quorum has its own",
    /// Nodes compare their states while some of them are a slot further than others.
    DigestOfAnotherSlot = "the digest of a state is that before the slot instead of after it",
    /// A state machine that is not deterministic gives every node a state of its own, unnoticed.
    StateDivergedIgnored = "a node whose state differs from that of a quorum goes on",
    /// Catching up is served from the log, chosen or not.
    UnchosenTaught = "a value that is not chosen is taught as chosen",

    // At most once.

    /// The session table is not restored from its checkpoint.
    ///
    /// Ongaro 2014, section 6.3: sessions are part of the snapshot.
    SessionsMissing = "the session table is missing after recovery",
    /// The table is saved before the state that it belongs to is durable.
    ///
    /// Chandra, Griesemer & Redstone 2007, section 5.5: snapshot and log must fit each other.
    SessionsAheadOfState = "the session table is saved ahead of the state machine",
    /// A node counts its requests from one in every life, and the table does not tell lives apart.
    EpochIgnored = "requests of a node's earlier life pass for those of this one",
    /// What a node proposes under a name that a later life of it has used is taken for what that has proposed.
    OlderCopyUnnoticed = "a node whose directory was put back goes on under a name that a later life has used",
    /// A command that is sent again is another command.
    RetryUnderNewId = "a retry gets a request id of its own",
    /// What lies below the newest request counts as settled, although some still wait.
    OpenRequestsExpired = "requests that still wait are taken for settled",
    /// Refused, and yet it has effect: the client proposes it again under another name.
    RefusedYetTaken = "a command is refused after it has been taken",
    /// A leader whose state machine stands still remembers every request that it has given a slot.
    PendingUnbounded = "what is remembered of requests in slots not delivered has no bound",
    /// A client that leaves a hole behind each of its requests fills the memory of every node, and every
    /// checkpoint.
    SessionsUnbounded = "what is remembered of requests that have had their effect has no bound",
    /// Commands are counted, and large ones fill the memory.
    OpenBytesUnbounded = "the commands without an answer are bounded in number alone",
    /// Whoever waits for a command that is chosen waits for the state machine, however long it takes.
    DeadlineEndsAtDelivery = "a deadline does not hold while the state machine works",

    // Memberships.

    /// Votes are counted by the membership that the leader knows last, whatever the slot.
    MembershipOfAnotherSlot = "the newest membership decides every slot",
    /// A membership governs from the next slot on, at which others may be proposing by the old one.
    ///
    /// Lamport 2001, section 3: α.
    WindowShortened = "a membership governs from the next slot on",
    /// A leader that proposes at several slots looks at the window of the first one alone.
    WindowOfAnotherSlot = "a leader goes beyond a window that has become smaller",
    /// Changes that two leaders began have effect both.
    TwoChangesOnTheirWay = "a change has effect although one before it does not govern yet",
    /// A leader goes on with the promises of those who voted before.
    PromisesOfOldQuorumAlone = "a leader proposes by a membership of which no quorum has promised",
    /// A node that is going to vote, and is elected before, proposes nothing by the membership without it, and
    /// runs for election again.
    VoterToBeWaits = "a new voter that is elected early runs for election without end",
    /// A leader that has been removed goes on.
    RemovedLeaderGoesOn = "a leader goes on at slots at which it does not vote",
    /// Whoever has been removed goes on polling, and is listened to.
    RemovedNodeHeard = "a node that has been removed is listened to",
    /// It is not remembered who has been a member: such a node is not told, and its id is used again.
    RemovedIdForgotten = "who has been removed is forgotten",
    /// A node that joins goes by the members that it was told to ask, as if they were those who vote.
    ToldMembershipTrusted = "a node that joins counts votes by what it has been told at its start",
    /// A restart goes on with the members that the node was started with first.
    MembershipForgotten = "the membership is forgotten on restart",
    /// A member that gets everything and counts for nothing is counted.
    LearnerCounted = "a learner's vote is counted",

    // Leadership that is handed over.

    /// The one that is to lead is told to while it lacks something, and everything waits until it has that.
    TransferBeforeCaughtUp = "a node is told to lead before it has everything",
    /// Whoever leads after a transfer, it has been a success.
    TransferDoneByAnother = "a transfer is reported done when another node leads",
    /// A leader that has told another to lead waits for that, whatever becomes of it.
    TransferWithoutEnd = "a leader proposes nothing until the other one leads",

    // Checkpoints.

    /// A checkpoint is the state of the application, and no more.
    ///
    /// Ongaro 2014, section 6.3: sessions are part of the snapshot.
    CheckpointWithoutSessions = "a checkpoint has no session table",
    /// The state is frozen on its way, and the parts of a checkpoint are as of two slots.
    ///
    /// Chandra, Griesemer & Redstone 2007, section 5.5.
    FrozenTooEarly = "a state is frozen before the slot that its sessions are as of",
    /// The log goes before what takes its place is there.
    CompactedAboveCheckpoint = "the log is compacted up to a checkpoint that is not durable",
    /// A restart takes the log for one that has never been compacted.
    FloorForgotten = "the floor is forgotten on restart",
    /// An acceptor that has compacted its log says that it has accepted nothing.
    CompactedAsEmpty = "slots that are compacted are reported as empty",
    /// A restart goes on behind the checkpoint with the state machine as it began.
    StateNotRestored = "a start goes on behind a checkpoint without its state",
    /// A state counts for applied before it is in place.
    ReadBeforeRestored = "a read is served before a state is in place",
    /// A transfer that took long ends when the log has got further.
    OlderStateInstalled = "an older state takes the place of a newer one",
    /// A transfer goes on with whoever answers, and what was fetched before and after a restart or from
    /// two peers is taken for one state.
    StateUnverified = "a state is completed with the tail of another one, and installed",
    /// Whoever has begun to send a state has to end it.
    OnePeerFetchedFrom = "a state is fetched from one and the same peer",
    /// A state that was frozen for a peer is sent to it for ever, although it has got further.
    UselessStateSent = "a state is sent to whom it is of no use",

    // Reads.

    /// A leader answers from its own state, deposed or not.
    ///
    /// Kingsbury 2014, "Jepsen: etcd and Consul".
    ReadUnconfirmed = "a read without a round of confirmation",
    /// A read joins the round that is under way when it arrives.
    ///
    /// Ongaro 2014, section 6.4.
    RoundReused = "a read is confirmed by a round that began before it",
    /// Off by one: the leader itself counts twice.
    ReadQuorumMinusOne = "a read is confirmed by one node too few",
    /// A new leader answers before it knows what its predecessor had chosen.
    ///
    /// Ongaro 2014, section 6.4, step 1.
    ReadBeforeRecovered = "the index of a read is fixed before what phase 1 recovered",
    /// A follower takes the late answer to an earlier read.
    AnswerToAnotherRead = "the answer to an earlier read serves a later one",
    /// Ongaro 2014, section 6.4, step 4.
    ReadBeforeApplied = "a read is served before its index is applied",

    // Liveness.

    /// Whoever asks may try to lead: a node that hears nobody deposes one leader after another.
    ///
    /// Ongaro 2014, section 9.6; Cloudflare's outage of 2020.
    PollAlwaysGranted = "a poll is granted although there is a leader",
    /// While one candidate waits for disks, others are let try, at higher ballots.
    RivalsGranted = "polls are granted while a promise to a candidate is being written",
    /// A candidacy is given as long as a fast disk needs.
    CandidacyImpatient = "a candidacy ends while promises are being written",
    /// However often a candidacy has failed, the next one is given as much time.
    PatienceFixed = "a candidate waits and backs off for as long as before",
    /// A leader that reaches nobody stays, and those who hear it do not look for another.
    ///
    /// Howard & Abraham 2020, "Raft does not guarantee liveness in the face of network faults".
    QuorumLossIgnored = "a leader without a quorum does not step down",
    /// Followers whose disks hang answer their leader: it stays, and those who could write hear it
    /// and do not look for another.
    UselessFollowersCount = "a leader whose followers cannot write does not step down",
    /// A leader whose disk is too far behind to take any work still hears all its followers, who could.
    OverloadedLeaderStays = "a leader whose disk is behind refuses all work and does not step down",
    /// A leader whose heartbeats pass while its Accepts do not is followed for ever.
    StalledLeaderStays = "a leader that is heard and gets nothing through does not step down",
    /// Whatever the transport knows, only silence counts.
    LossIgnored = "a follower that has lost its leader waits until that has been silent for long",
    /// A follower polls when it has lost its leader, and those who have lost it too go by its silence.
    LossUnbelieved = "a poll is refused for a leader that is lost",
    /// A report that was wrong is never taken back.
    LossNeverOver = "a leader that was lost counts as lost although it is heard again",
    /// Whoever is gone cannot object.
    LostCounted = "a leader that is lost counts as one that has granted the poll",
    /// However steadily a leader is heard, it is given as long as the slowest link would need.
    SilenceNotMeasured = "a leader is given an election timeout, however steadily it is heard",
    /// Where a leader is heard many times between two heartbeats, the first moment without is taken for its end.
    SilenceTooShort = "a leader counts as silent after less than three heartbeats",
    /// A follower that was cut off for long waits for as long the next time.
    SilenceUnbounded = "a leader is given more than an election timeout because it was silent for long before",
    /// A leader that is heard, and that the commands of others do not reach, is followed for ever.
    UnreachedLeaderStays = "a leader that does not get what a quorum of the others have does not step down",
    /// One node whose commands are lost wherever it sends them has one leader after another step down.
    OfferOfOneSuffices = "a leader steps down for a command that one node alone has",
    /// What the network has lost stays lost.
    NothingSentAgain = "an Accept is sent only once",
    /// A node waits for the answer to its first request for ever.
    PullGivenUp = "catching up waits for ever for a lost answer",
    /// Always the first peer that is known to have the slots.
    OnePeerAsked = "catching up asks one and the same peer",
    /// Who is not connected to the leader looks for another one, in vain.
    ///
    /// Ng, Haridi & Carbone 2023: the chained case.
    RouteIgnored = "a leader that only a peer is connected to is not made use of",
    /// A follower that the leader reaches, and that does not reach the leader, sends its requests in
    /// vain.
    NoIndirectWay = "requests take no way but the direct one",

    // Identity.

    /// A node that has lost its disk is let in again under its old id, without its promises.
    ///
    /// Chandra, Griesemer & Redstone 2007, section 5.1: a replica without its disk must not vote.
    EmptyNodeWelcome = "peers do not check the data directory of a node that comes back empty",

    // The node.

    /// The state machine's own durable position is passed over.
    DoubleApply = "slots applied before a restart are applied again",
    /// A write whose sync has failed is written again, and the kernel calls it clean.
    ///
    /// PostgreSQL's "fsyncgate" of 2018; Rebello et al. 2020.
    FailedSyncRetried = "a failed sync is tried again",
}

impl fmt::Display for Bug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Bug {
    /// The bug of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Bug> {
        Bug::ALL.iter().copied().find(|bug| bug.name() == name)
    }
}

thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Keeps a bug planted, on the thread that planted it.
#[derive(Debug)]
#[must_use = "the bug is gone with the guard"]
pub struct Planted(PhantomData<*const ()>);

/// Plants a bug on this thread, instead of any other.
pub fn plant(bug: Bug) -> Planted {
    PLANTED.set(Some(bug));
    Planted(PhantomData)
}

impl Drop for Planted {
    fn drop(&mut self) {
        PLANTED.set(None);
    }
}

pub(crate) fn is_planted(bug: Bug) -> bool {
    PLANTED.get().or_else(of_the_process) == Some(bug)
}

/// The bug that [`VARIABLE`] names.
fn of_the_process() -> Option<Bug> {
    static BUG: OnceLock<Option<Bug>> = OnceLock::new();
    *BUG.get_or_init(|| {
        let name = env::var(VARIABLE).ok()?;
        Some(Bug::named(&name).unwrap_or_else(|| panic!("{VARIABLE} names no bug: {name}")))
    })
}
