//! When a leader goes.
//!
//! Nobody has to be told that a leader is gone, and no setting has to fit the network. A follower looks for
//! another leader
//!
//! | when | after |
//! |---|---|
//! | the leader's process has ended, and its machine says so | some milliseconds over TCP, a heartbeat interval over QUIC |
//! | the leader is silent: its machine, or what leads there, has gone | twice the longest silence of late, at least three heartbeat intervals, at most [`election_timeout`] |
//! | it has not heard this leader for long enough to know | [`election_timeout`] |
//!
//! and up to a third later, by chance, so that not all do at once. An election takes two round trips and two writes
//! more. Commands and reads that wait meanwhile are done under the next leader, and nobody who waits for them
//! notices anything but time.
//!
//! # That a process has ended
//!
//! is known by what the operating system of its machine says: its connections end, and a new one is refused. Over
//! UDP, where no connection ends by itself, another socket asks for the port whenever a peer has said nothing for a
//! moment, and is answered by *port unreachable*. A [transport](crate::port::Transport) reports that and nothing
//! else as [`Lost`](crate::port::Event::Lost). A machine that has lost its power says nothing, nor does one that is
//! cut off, or is behind a packet filter that drops what it does not know: then it is the silence that counts.
//!
//! # A report may be wrong
//!
//! and costs nothing then. Before a node begins to lead it polls the others, which writes nothing and binds nobody,
//! and each refuses that still hears the leader. A link that is slow or loses messages makes its node poll in vain,
//! wait for longer from then on, and never deposes a leader that a quorum hears.
//!
//! # What to set
//!
//! [`heartbeat_interval`] to something above the usual round trip, if that is more than 100 ms, and
//! [`election_timeout`] to ten times as much: so long a leader goes on that has lost its quorum, and so long the
//! others wait for it at most. It is safe to set them differently on different nodes, and of no use. Neither decides
//! what is true: no answer depends on a clock, but for what an acceptor has promised for a fixed time.
//!
//! [`heartbeat_interval`]: crate::Config::heartbeat_interval
//! [`election_timeout`]: crate::Config::election_timeout
