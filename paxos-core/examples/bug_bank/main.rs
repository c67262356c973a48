//! Hunts for known bugs: puts each of the bug bank back in and counts the seeds that the simulator
//! needs to catch it.
//!
//! ```sh
//! RUSTFLAGS="--cfg paxos_bug_bank" cargo run --profile simulation --target-dir target/bug-bank \
//!     -p paxos-core --example bug_bank
//! ```
//!
//! Prints a row per bug, as markdown, and fails if one survives anywhere. A start is a range of
//! seeds of its own, so that the median says what may be expected of any other. A few bugs, of
//! the node, of logs that are damaged or put back, and of transfers, which the simulator does without or
//! seldom comes upon, are caught by a test each, which is run here with the bug and without.

#[cfg(paxos_bug_bank)]
mod check;
#[cfg(paxos_bug_bank)]
mod hunt;
#[cfg(paxos_bug_bank)]
mod named;
#[cfg(paxos_bug_bank)]
mod table;

#[cfg(paxos_bug_bank)]
fn main() -> std::process::ExitCode {
    hunt::main()
}

#[cfg(not(paxos_bug_bank))]
fn main() -> std::process::ExitCode {
    eprintln!("no bugs are built in: run it with RUSTFLAGS=\"--cfg paxos_bug_bank\"");
    std::process::ExitCode::FAILURE
}
