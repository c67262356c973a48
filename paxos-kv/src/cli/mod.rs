//! The command line: `serve`, `demo`, and a client.
//!
//! Whatever goes wrong ends in one line on standard error that names the remedy, and in an exit
//! code other than 0: 1 if something failed, 2 if the command line makes no sense.

mod arguments;
mod check;
mod client;
mod commands;
mod console;
mod demo;
mod endpoint;
mod leadership;
mod lease;
mod log;
mod member;
mod output;
mod process;
mod serve;
mod snapshot;
mod supervisor;
mod txn;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use self::{
    arguments::{ClientOptions, CompactArguments, DelArguments, GetArguments, PutArguments},
    serve::ServeArguments,
};

/// A replicated key-value store on Multi-Paxos that speaks the etcd v3 API.
#[derive(Debug, Parser)]
#[command(name = "paxos-kv", version, propagate_version = true, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a member of a cluster; without flags, a cluster of one on 127.0.0.1:2379.
    Serve(ServeArguments),
    /// Runs a cluster of three in this process, to try it out.
    Demo(demo::DemoArguments),
    /// Reads keys.
    Get {
        #[command(flatten)]
        client: ClientOptions,
        #[command(flatten)]
        get: GetArguments,
    },
    /// Writes a key.
    Put {
        #[command(flatten)]
        client: ClientOptions,
        #[command(flatten)]
        put: PutArguments,
    },
    /// Deletes keys.
    Del {
        #[command(flatten)]
        client: ClientOptions,
        #[command(flatten)]
        del: DelArguments,
    },
    /// Compares, then does one of two lists of operations, all at once.
    Txn {
        #[command(flatten)]
        client: ClientOptions,
        #[command(flatten)]
        txn: txn::TxnArguments,
    },
    /// Forgets the history before a revision.
    Compact {
        #[command(flatten)]
        client: ClientOptions,
        #[command(flatten)]
        compact: CompactArguments,
    },
    /// Shows how each endpoint is doing; the same as `endpoint status`.
    Status(EndpointArguments),
    /// Shows how each endpoint is doing, or whether it is well.
    Endpoint {
        #[command(subcommand)]
        command: EndpointCommand,
    },
    /// Tries out what the cluster carries.
    Check {
        #[command(subcommand)]
        command: CheckCommand,
    },
    /// Has another member lead, without an election: no request fails by it.
    MoveLeader {
        #[command(flatten)]
        client: ClientOptions,
        /// The member that is to lead, as `member list` shows it.
        #[arg(value_name = "ID", value_parser = member::id)]
        member: u64,
    },
    /// Saves, shows and restores backups.
    Snapshot {
        #[command(subcommand)]
        command: snapshot::SnapshotCommand,
    },
    /// Makes, renews, shows and ends leases: keys that go when nobody keeps them alive.
    Lease {
        #[command(subcommand)]
        command: lease::LeaseCommand,
    },
    /// Shows the members, adds, promotes, replaces and removes them.
    Member {
        #[command(subcommand)]
        command: member::MemberCommand,
    },
}

#[derive(Debug, Subcommand)]
enum EndpointCommand {
    /// Shows version, size, role and slots of each endpoint.
    Status(EndpointArguments),
    /// Reads through each endpoint, as of now: fails if one of them is not well.
    Health(EndpointArguments),
}

#[derive(Debug, Args)]
struct EndpointArguments {
    #[command(flatten)]
    client: ClientOptions,
    /// Ask every member of the cluster, not only --endpoints.
    #[arg(long)]
    cluster: bool,
}

#[derive(Debug, Subcommand)]
enum CheckCommand {
    /// Writes at a steady rate: fails if the cluster is too slow for it.
    Perf {
        #[command(flatten)]
        client: ClientOptions,
        #[command(flatten)]
        perf: check::PerfArguments,
    },
}

/// Runs the program with the arguments of the process.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = serve::with_two_dashes(std::env::args_os());
    let result = match Arguments::parse_from(arguments).command {
        Command::Serve(arguments) => serve::run(arguments),
        Command::Demo(arguments) => demo::run(arguments),
        Command::Get { client, get } => client::run(commands::get(&client, &get)),
        Command::Put { client, put } => client::run(commands::put(&client, &put)),
        Command::Del { client, del } => client::run(commands::del(&client, &del)),
        Command::Txn { client, txn } => client::run(commands::txn(&client, &txn)),
        Command::Compact { client, compact } => client::run(commands::compact(&client, &compact)),
        Command::Status(EndpointArguments { client, cluster })
        | Command::Endpoint {
            command: EndpointCommand::Status(EndpointArguments { client, cluster }),
        } => client::run(endpoint::status(&client, cluster)),
        Command::Endpoint {
            command: EndpointCommand::Health(EndpointArguments { client, cluster }),
        } => client::run(endpoint::health(&client, cluster)),
        Command::Check { command: CheckCommand::Perf { client, perf } } => {
            client::run(check::perf(&client, &perf))
        }
        Command::MoveLeader { client, member } => {
            client::run(leadership::move_leader(&client, member))
        }
        Command::Snapshot { command } => snapshot::run(command),
        Command::Lease { command } => client::run(lease::run(command)),
        Command::Member { command } => client::run(member::run(command)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            console::complain(&format!("paxos-kv: {error}"));
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn commands_are_parsed() {
        for line in [
            "paxos-kv serve",
            "paxos-kv serve --name a --peer-auto-tls --listen-peer-urls=quic://h:1",
            "paxos-kv demo",
            "paxos-kv get k --prefix --endpoints h:1,h:2 --output json",
            "paxos-kv put -- k -v",
            "paxos-kv put k",
            "paxos-kv del a b",
            "paxos-kv txn --if 'mod(k)=0' --then 'put k v'",
            "paxos-kv status --cluster",
            "paxos-kv endpoint status --endpoints h:1 -w json",
            "paxos-kv endpoint health --cluster",
            "paxos-kv compact 7 --physical",
            "paxos-kv compact --keep 1000",
            "paxos-kv check perf --load xl --seconds 60 --prefix p",
            "paxos-kv lease grant 60 --id 7b -w json",
            "paxos-kv lease revoke 7b",
            "paxos-kv lease keep-alive 7b --once --endpoints h:1",
            "paxos-kv lease timetolive 7b --keys",
            "paxos-kv lease list",
            "paxos-kv put k v --lease 7b",
            "paxos-kv put k v --ignore-lease",
            "paxos-kv put k --ignore-value --lease 7b",
            "paxos-kv move-leader 4a256d3a --endpoints h:1",
            "paxos-kv member list",
            "paxos-kv member add n4 --peer-urls http://h4:2380 --learner",
            "paxos-kv member promote 4a256d3a",
            "paxos-kv member remove 4a256d3a --endpoints h:1",
            "paxos-kv member update 4a256d3a --peer-urls quic://h5:2380",
            "paxos-kv member replace 4a256d3a n4 --peer-urls http://h4:2380",
            "paxos-kv snapshot save f --endpoints h:1",
            "paxos-kv snapshot status f -w json",
            "paxos-kv snapshot restore f --name a --initial-cluster a=http://h:1 --data-dir d",
            "paxos-kv snapshot restore f --bump-revision 9 --mark-compacted --skip-hash-check",
        ] {
            let words = shlex::split(line).expect(line);
            Arguments::try_parse_from(words).expect(line);
        }
    }

    #[test]
    fn flags_of_serve_may_have_one_dash() {
        let line = |line: &str| {
            let words = line.split(' ').map(std::ffi::OsString::from);
            let words = serve::with_two_dashes(words).map(|word| word.into_string().expect("text"));
            words.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            line("paxos-kv serve -name a -data-dir=-x --wal-dir -w -peer-auto-tls -h"),
            "paxos-kv serve --name a --data-dir=-x --wal-dir -w --peer-auto-tls -h",
        );
        for same in ["paxos-kv put -name v", "paxos-kv serve -- -names --name -", "paxos-kv"] {
            assert_eq!(line(same), same);
        }
        let words = ["paxos-kv", "serve", "-name", "a", "-v"].map(std::ffi::OsString::from);
        Arguments::try_parse_from(serve::with_two_dashes(words)).expect("it is a command line");
    }

    #[test]
    fn nonsense_is_refused() {
        for line in [
            "paxos-kv",
            "paxos-kv serve --no-such-flag x",
            "paxos-kv get",
            "paxos-kv get k e --prefix",
            "paxos-kv get k --from-key --prefix",
            "paxos-kv put",
            "paxos-kv put k -1",
            "paxos-kv get k --output yaml",
            "paxos-kv compact",
            "paxos-kv compact 7 --keep 7",
            "paxos-kv compact --keep -1",
            "paxos-kv check perf --prefix ''",
            "paxos-kv move-leader",
            "paxos-kv move-leader n1",
            "paxos-kv member remove n1",
            "paxos-kv lease grant",
            "paxos-kv lease revoke lease",
            "paxos-kv put k v --ignore-value",
            "paxos-kv put k v --ignore-lease --lease 7b",
            "paxos-kv member add n4",
            "paxos-kv snapshot save",
            "paxos-kv snapshot restore f --mark-compacted",
            "paxos-kv snapshot restore f --bump-revision 9",
        ] {
            let words = shlex::split(line).expect(line);
            Arguments::try_parse_from(words).expect_err(line);
        }
    }
}
