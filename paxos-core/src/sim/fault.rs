//! The kinds of faults, and how to leave some of them out of a run.

use std::{collections::BTreeSet, fmt, time::Duration};

use super::occurrence::Occurrence;

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A kind of fault. Each run draws a subset.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Fault {
            $($(#[$doc])* $name,)*
        }

        impl Fault {
            /// All of them.
            pub const ALL: &'static [Fault] = &[$(Fault::$name),*];

            /// Its name, as commands and transcripts have it.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Fault::$name => $text,)*
                }
            }
        }
    };
}

faults! {
    /// Messages are lost.
    Drop = "drop",
    /// Messages arrive more than once.
    Duplicate = "duplicate",
    /// Messages overtake each other, some arrive very late.
    Delay = "delay",
    /// Very old messages arrive again.
    Resurrect = "resurrect",
    /// The cluster falls into groups.
    Partition = "partition",
    /// Single links are cut, in one or both directions.
    Cut = "cut",
    /// Links lose most messages, or hold them up for long.
    Weaken = "weaken",
    /// Links or uplinks have little bandwidth.
    Throttle = "throttle",
    /// Links let pass only what is small, or only what is urgent.
    Sieve = "sieve",
    /// Machines crash, between two steps or within one, and lose what was not durable, sector by
    /// sector.
    Crash = "crash",
    /// Writes take long.
    SlowDisk = "slow-disk",
    /// Writes are refused for want of room.
    FullDisk = "full-disk",
    /// Nothing that a disk is asked for comes to an end for a while.
    HangingDisk = "hanging-disk",
    /// A write or its sync fails, which ends the process.
    FailedWrite = "failed-write",
    /// The log cannot be read, which ends the process, or its start.
    FailedRead = "failed-read",
    /// A bit of what is durable flips: once it is read, the node ends for good.
    Rot = "rot",
    /// A whole disk is lost: the node comes back empty under its old identity, and is refused.
    LostDisk = "lost-disk",
    /// State machines stand still, while their processes go on.
    StuckMachine = "stuck-machine",
    /// Processes stand still, or machines are suspended, their clocks included.
    Pause = "pause",
    /// A leader is suspended among few, replaced by the others, and goes on when its successor is
    /// gone.
    Depose = "depose",
    /// A node misses so much that the others' logs begin behind it, and whoever sends or receives a state
    /// then may crash on the way.
    Oversleep = "oversleep",
    /// The membership changes: nodes come, are replaced and leave; who votes, how votes count, and how far
    /// proposals run ahead.
    Reconfigure = "reconfigure",
    /// Somebody asks a node to hand the leadership over, to a certain node or to any.
    Transfer = "transfer",
    /// Clocks run a little fast or slow.
    Drift = "drift",
    /// Clocks run up to twice as fast or as slow for a while.
    Warp = "warp",
    /// Clocks jump forwards.
    Jump = "jump",
    /// Nodes are told that another one is gone which is there, and are told late or never of one that is gone.
    Misreport = "misreport",
}

impl Fault {
    /// Whether it strikes at a moment, as opposed to every message or all the time.
    #[must_use]
    pub fn strikes(self) -> bool {
        match self {
            Fault::Partition
            | Fault::Cut
            | Fault::Weaken
            | Fault::Throttle
            | Fault::Sieve
            | Fault::Crash
            | Fault::SlowDisk
            | Fault::FullDisk
            | Fault::HangingDisk
            | Fault::FailedWrite
            | Fault::FailedRead
            | Fault::Rot
            | Fault::LostDisk
            | Fault::StuckMachine
            | Fault::Pause
            | Fault::Depose
            | Fault::Oversleep
            | Fault::Reconfigure
            | Fault::Transfer
            | Fault::Warp
            | Fault::Jump
            | Fault::Misreport => true,
            Fault::Drop | Fault::Duplicate | Fault::Delay | Fault::Resurrect | Fault::Drift => {
                false
            }
        }
    }
}

impl Fault {
    /// What may happen by it and by no other fault: if none of it has, it was not there.
    #[must_use]
    pub fn signs(self) -> &'static [Occurrence] {
        use Occurrence as O;
        match self {
            Fault::Drop => &[O::Dropped],
            Fault::Duplicate => &[O::Duplicated],
            Fault::Delay => &[O::Delayed],
            Fault::Resurrect => &[O::Resurrected, O::PromiseRepeated, O::VoteRepeated],
            Fault::Partition => &[O::CutIntoIslands],
            Fault::Cut => &[
                O::CutOneWay,
                O::CutToBridge,
                O::CutToChain,
                O::CutToHub,
                O::CutToRing,
                O::CutAtRandom,
            ],
            Fault::Weaken => &[O::LostOnFlakyLink, O::HeldUpOnSlowLink],
            Fault::Throttle => &[O::QueuedOnNarrowLink, O::LostOnNarrowLink],
            Fault::Sieve => &[O::LostForSize, O::LostForLane],
            Fault::Crash => &[
                O::CrashedBeforeWriting,
                O::CrashedBeforeSending,
                O::CrashedWhileSending,
                O::CrashedAfterSending,
                O::CrashedInWrite,
                O::CrashedAtStart,
            ],
            Fault::SlowDisk => &[O::SlowedDisk, O::SlowedDisks],
            Fault::FullDisk => &[O::FilledDisk],
            Fault::HangingDisk => &[O::HungDisk],
            Fault::FailedWrite => &[O::WriteFailed],
            Fault::FailedRead => &[O::ReadFailed, O::StartFailed],
            Fault::Rot => &[O::Rotted],
            Fault::LostDisk => &[O::LostDisk],
            Fault::StuckMachine => &[O::StuckMachine],
            Fault::Pause => &[O::Paused, O::Stranded],
            Fault::Depose => &[O::Deposed],
            Fault::Oversleep => &[O::Overslept, O::StateInterrupted],
            Fault::Reconfigure => &[
                O::Reconfigured,
                O::ChangeNotReady,
                O::ChangeOvertaken,
                O::ChangeRefused,
                O::Joined,
                O::Left,
            ],
            Fault::Transfer => &[O::Transferred, O::TransferRefused, O::TransferAbandoned],
            Fault::Drift => &[O::Drifted],
            Fault::Warp => &[O::Warped],
            Fault::Jump => &[O::Jumped],
            Fault::Misreport => &[O::AliveReportedLost, O::DeathReportedLate, O::DeathNotReported],
        }
    }

    /// Whether it takes a node away for good: not many seeds draw it.
    pub(super) fn is_final(self) -> bool {
        matches!(self, Fault::Rot | Fault::LostDisk)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a run leaves out of what its seed decides. The rest stays as it is: when which fault
/// strikes, and how, depends on nothing but the seed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restriction {
    /// Kinds that do not occur.
    pub without: BTreeSet<Fault>,
    /// Strikes that do not take place, by their [number](Strike::number).
    pub skipped: BTreeSet<u64>,
}

/// As the options of the example `simulate`, each with a space before it.
impl fmt::Display for Restriction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut option = |name: &str, values: Vec<String>| match values.is_empty() {
            true => Ok(()),
            false => write!(f, " --{name} {}", values.join(",")),
        };
        option("without", self.without.iter().map(Fault::to_string).collect())?;
        option("skip", self.skipped.iter().map(u64::to_string).collect())
    }
}

impl Restriction {
    /// Whether a strike takes place.
    pub(super) fn allows(&self, strike: &Strike) -> bool {
        !self.without.contains(&strike.fault) && !self.skipped.contains(&strike.number)
    }
}

/// A fault that struck at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strike {
    /// Counts the strikes of a seed from 1, those left out included.
    pub number: u64,
    /// Virtual time at which it struck.
    pub at: Duration,
    /// What struck.
    pub fault: Fault,
}
