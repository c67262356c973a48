//! Every bound of the protocol, with its reason.
//!
//! What must be the same on every node is a constant here or part of the
//! [`Membership`]; what a node may choose for itself is a field of
//! [`Config`](crate::Config) with its default here.

use std::time::Duration;

use crate::types::Membership;

/// Voters of a cluster. Beyond nine, every command costs more and survives hardly more.
pub const VOTERS_MAX: usize = 9;

/// How many ids of former members are remembered, so that none is used twice.
pub const REMOVED_KEPT: usize = 4096;

/// Slots undecided at once, by default: deep enough to fill a slow link with batches, small enough
/// that a new leader recovers them in one round trip.
pub const WINDOW_SLOTS_DEFAULT: u64 = 64;

/// Upper bound for the window: a promise lists at most this many undecided slots.
pub const WINDOW_SLOTS_MAX: u64 = 4096;

/// One command, in bytes: the 10 MiB to which users of etcd raise its limit of 1.5 MiB for a request, with room
/// for an envelope.
pub const COMMAND_BYTES_MAX: usize = 11 << 20;

/// The commands of one batch, in bytes, unless a single one is larger: enough to make the cost of
/// a slot vanish, small enough to pass a gigabit link in 8 ms.
pub const BATCH_BYTES_MAX: usize = 1 << 20;

/// The commands of one batch.
pub const BATCH_COMMANDS_MAX: usize = 4096;

/// How far the round of a ballot may lie above every ballot known before; beyond it the message
/// is passed over as damaged. A cluster that elects a leader every second gets that far in 136
/// years, while a flipped bit may leave no ballot above it: elections would end for good.
pub const BALLOT_ROUNDS_AHEAD_MAX: u64 = 1 << 32;

/// Election timeouts without the end of a write that is under way, after which a node takes its disk
/// to hang: it grants no polls, and its leader does not count on its votes. More than one, since
/// disks that are merely slow should not cost anybody the leadership.
pub const DISK_SILENT_TIMEOUTS: u32 = 2;

/// Election timeouts for which a candidacy goes on without a sign of progress, unless others have failed
/// before: for disks that do not hang. When a node is asked for its promise, its disk may be at work on
/// another write, and the promise is the next; one more is for the network.
pub const CANDIDACY_TIMEOUTS: u32 = 2 * DISK_SILENT_TIMEOUTS + 1;

/// How often a node doubles the time that it gives its candidacies, and that it waits between them: that is
/// for disks that take 16 election timeouts for a write.
pub const CANDIDACY_DOUBLINGS_MAX: u32 = 3;

/// Election timeouts without anything chosen after which a leader makes room for another, unless it has done
/// so in vain before: what reaches a follower becomes its vote in two writes at most, and one more is for
/// the network. Then it leaves as many to the others, who notice its silence after one or one and a half.
pub const STALL_TIMEOUTS: u32 = 2 * DISK_SILENT_TIMEOUTS + 1;

/// Election timeouts for which a leader does not get a command that a quorum of the others have, until it makes
/// room for one of them: in each of them it has been sent again, by way of another node each time.
pub const UNREACHED_TIMEOUTS: u32 = 2;

/// Commands that a leader is told of and does not get, as many as it keeps in mind: one alone moves it.
pub const OFFERS_MAX: usize = 16;

/// How often a leader doubles these times: if nobody gets anything through, leaders hardly change any more.
pub const STALL_DOUBLINGS_MAX: u32 = 5;

/// Election timeouts for which a node that has found out that it could lead may be told to: one that the finding
/// out may take, one in which everything that is proposed becomes chosen, and one for the network.
pub const SOUNDED_TIMEOUTS: u32 = 3;

/// Records and session tables on their way to the disk, in bytes. Beyond it, which is by what one more
/// message brings at most, proposals are refused as `Busy` and messages with values passed over, until
/// half of it is left. It is more than a leader may have undecided ([`WINDOW_BYTES_MAX`]), so that only
/// a disk slower than those of a quorum falls so far behind; and one that writes 100 MB a second is
/// down to half before an election could be over.
pub const BACKLOG_BYTES_MAX: usize = 64 << 20;

/// Election timeouts for which a disk may be behind before its node counts as one that cannot write: an
/// election costs clients about as much as one of waiting. A leader makes room after one more, when
/// those that have fallen behind with it have said so.
pub const DISK_BEHIND_TIMEOUTS: u32 = 1;

/// Values in one Promise, Pulled or forwarded Propose, in bytes, unless a single one is larger; and a piece
/// of a state.
pub const PAGE_BYTES_MAX: usize = 1 << 20;

/// Log records in one Promise or Pulled: bounds it when the values are small.
pub const PAGE_RECORDS_MAX: usize = 4096;

/// One message on the wire, in bytes: a page and the one value that may overshoot it, with
/// headers. Checked before anything is allocated.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// Commands of this node that wait for their result, in bytes. Beyond it, proposals are refused as
/// `Busy`.
pub const OUTSTANDING_BYTES_MAX: usize = 64 << 20;

/// Commands of this node that wait for their result. At most [`SESSION_WINDOW`].
pub const OUTSTANDING_COMMANDS_MAX: usize = 16_384;

/// Places that a client's open commands take up, those of answered ones between them included, from which on a
/// command without an answer among many that have one counts as lost. Far below what is refused, half a
/// [`SESSION_WINDOW`], and far above what is answered out of order without a loss.
pub const SPREAD_WITH_GAPS: usize = 4096;

/// Commands that wait at the leader for a slot, in bytes. What is forwarded beyond it is dropped,
/// and its origin sends it again later.
pub const QUEUE_BYTES_MAX: usize = 64 << 20;

/// Reads of this node that wait for confirmation, and reads of one peer that wait at the leader.
pub const READS_MAX: usize = 16_384;

/// How far the sequence numbers of a client may spread between the lowest unsettled one and the
/// highest. The session table remembers at most this many per client. The same on every node.
pub const SESSION_WINDOW: u64 = 65_536;

/// What the sessions of all clients but the nodes may take up, encoded: room for some thousands of
/// clients. With the nodes' own, of nine nodes at worst, it is a megabyte: that takes a driver some
/// milliseconds to encode, which it does for every checkpoint. The same on every node.
pub const SESSIONS_BYTES_MAX: usize = 432 << 10;

/// By how much the incarnation of a node grows at a start, at most. It grows by a random number, so that a data
/// directory that was put back from an older copy does not use those again that followed the copy.
pub const INCARNATION_STEP_MAX: u64 = 1 << 20;

/// Ranges of a client's requests that are kept whatever others take up: enough for one that has a few
/// requests open at a time. The same on every node.
pub const SESSION_RANGES_KEPT: usize = 8;

/// Values of chosen slots kept in memory to serve peers that lag a little, in bytes.
pub const CACHE_BYTES_MAX: usize = 16 << 20;

/// Bytes handed to the state machine and not yet applied; beyond it, delivery waits.
pub const DELIVERY_BYTES_MAX: usize = 16 << 20;

/// Hashes of the chosen prefix kept to compare with the leader's.
pub const CHAIN_HASHES_KEPT: usize = 1024;

/// Slots of the log after which a checkpoint is due: a restart replays twice as many at most, in a second
/// or two.
pub const CHECKPOINT_SLOTS: u64 = 100_000;

/// Bytes of the log after which a checkpoint is due, whatever comes first; the log takes up three times as
/// much at most, unless the state is larger.
pub const CHECKPOINT_BYTES: u64 = 64 << 20;

/// How many slots one write takes out of the log: some milliseconds of a disk's time.
pub const FLOOR_STEP_SLOTS: u64 = 4096;

/// Election timeouts after which a peer that has asked for a state and asks no more is forgotten.
pub const SERVING_TIMEOUTS: u32 = 10;

/// How many checkpoints' worth of the log stays for a peer that fetches a state, at most: whoever takes
/// longer than the log takes to grow by so much has to begin again.
pub const SERVING_CHECKPOINTS: u64 = 8;

/// Between two lines in the log about a state on its way: enough to see that it goes on.
pub const TRANSFER_TOLD_INTERVAL: Duration = Duration::from_secs(5);

/// After how many slots nodes compare the digests of their states. The same on every node, or they have
/// nothing to compare.
pub const DIGEST_SLOTS: u64 = 256;

/// How many digests of a state are kept of each node, for those that are behind it by as many.
pub const DIGESTS_KEPT: usize = 8;

/// Between two heartbeats of a leader.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(100);

/// Into how many parts a heartbeat interval is cut of which one is what those wait at most that have lost
/// their leader, at random: many round trips of a machine room, so that two seldom try at once, and nothing
/// beside what an election takes.
pub const LOSS_SPREAD: u32 = 5;

/// Heartbeat intervals for which a leader is silent at least before anybody looks for another one: none that is
/// lost, or late, and the next one with it, is a reason to.
pub const SILENCE_HEARTBEATS: u32 = 3;

/// Election timeouts for which a follower has to have heard its leader before it goes by what it has measured.
pub const SILENCE_KNOWN_TIMEOUTS: u32 = 2;

/// Election timeouts for which the longest silence is remembered, at least, and twice as many at most: what a
/// link loses once in some hundred heartbeats is not forgotten, and a hitch of its machine is.
pub const SILENCE_SPAN_TIMEOUTS: u32 = 16;

/// How long a follower waits for its leader before it asks the others, as long as it has not measured how
/// steadily that is heard, and at most: by the seed, up to a third later.
pub const ELECTION_TIMEOUT: Duration = Duration::from_millis(1000);

/// How long the leader waits for votes before it sends an Accept again.
pub const RETRANSMIT_TIMEOUT: Duration = Duration::from_millis(300);

/// How long a gap may stay before it is pulled: packets that were merely reordered close it sooner.
pub const GAP_PATIENCE: Duration = Duration::from_millis(20);

/// Sequence numbers between the lowest and the highest command without an answer, added up over all
/// clients of a node. Of one client they are at most half a [`SESSION_WINDOW`], so that none that
/// still waits is ever too old.
pub const OPEN_SPREAD_MAX: u64 = SESSION_WINDOW;

/// How long a leader waits for an Accept or heartbeat to carry the news that a slot is chosen to those
/// who do not wait for it.
pub const ANNOUNCE_DELAY: Duration = Duration::from_millis(1);

/// How far above its own chosen watermark a node accepts values, in windows: a follower that
/// learns late what is chosen keeps up, one that has fallen behind catches up first and does not
/// hoard values meanwhile.
pub const LOG_AHEAD_WINDOWS: u64 = 4;

/// How far above the chosen watermark a log reaches, at the largest window. What is further ahead,
/// in a promise or on a disk, is damage.
pub const LOG_AHEAD_SLOTS_MAX: u64 = LOG_AHEAD_WINDOWS * WINDOW_SLOTS_MAX;

/// Requests of which a leader knows that they wait or are in a slot that it has not delivered, as
/// ranges: a megabyte of them. Requests that follow those of their client take none; what does is dropped
/// beyond it, and its origin sends it again.
pub const PENDING_RANGES_MAX: usize = 65_536;

/// Values proposed and not chosen, in bytes, beside the window in slots: a leader proposes no more
/// until it is below. With the one value that overshoots it, all of it can be sent twice before a
/// transport that queues 48 MiB of a peer's log drops an Accept.
pub const WINDOW_BYTES_MAX: usize = 12 << 20;

/// Votes that wait for a disk that hangs, as ranges: one for each slot that a log may reach above the
/// chosen ones. Votes for slots that are chosen meanwhile may wait among them, so of a leader's own the
/// latest have to stay; for what is beyond it the leader asks again.
#[must_use]
pub fn votes_held_max(membership: &Membership) -> usize {
    usize::try_from(membership.ahead_max()).expect("a window is small")
}
