//! The command `paxos-bench`.

mod command;

use std::process::ExitCode;

use clap::Parser;

/// Measures this project beside its peers and the limits of the machine.
#[derive(Parser)]
#[command(name = "paxos-bench", version)]
enum Command {
    /// Commands per second, side by side with other libraries in one run.
    ///
    /// All replicas share one process, with transport and storage in memory. The peers take part
    /// in a program built with `--features compare-peers`.
    Compare(command::compare::Arguments),
    /// How long a request takes at a steady rate, for this project alone.
    ///
    /// Each request is timed from when it should have begun, whether or not earlier ones have been
    /// answered.
    Latency(command::latency::Arguments),
    /// Whether memory stays level at full speed.
    ///
    /// All replicas share one process, with transport and storage in memory, as with `compare`.
    Level(command::level::Arguments),
    /// Hours of load on three servers of paxos-kv, with samples of their logs, states and memory.
    #[cfg(feature = "kv")]
    Soak(command::soak::Arguments),
    /// How long a server of paxos-kv takes to start after many commands, beside etcd.
    #[cfg(feature = "kv")]
    Starts(command::starts::Arguments),
    /// A node of `latency --processes`.
    #[command(hide = true)]
    Node(command::node::Arguments),
}

fn main() -> ExitCode {
    let ended = match Command::parse() {
        Command::Compare(arguments) => command::compare::run(&arguments),
        Command::Latency(arguments) => command::latency::run(&arguments),
        Command::Level(arguments) => command::level::run(&arguments),
        #[cfg(feature = "kv")]
        Command::Soak(arguments) => command::soak::run(&arguments),
        #[cfg(feature = "kv")]
        Command::Starts(arguments) => command::starts::run(&arguments),
        Command::Node(arguments) => command::node::run(&arguments),
    };
    match ended {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
