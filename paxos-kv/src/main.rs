//! The program: see `paxos-kv --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    paxos_kv::cli::main()
}
