//! `serve`: a flag for every setting of the table, and a server that runs until it is told to stop.

use std::{collections::BTreeMap, ffi::OsString};

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use super::{
    client::CommandError,
    log::{self, Log},
    process::{self, Ending, Signals},
    supervisor,
};
use crate::server::{
    Server,
    config::{self, ConfigError, Given, SETTINGS, ServerConfig, Setting},
};

/// What holds for all flags.
const AFTER_HELP: &str = "\
Every flag can be given as an environment variable, --data-dir as ETCD_DATA_DIR, or as a key of the \
file, data-dir. A flag wins over the environment, the environment over the file.

A cluster of three on one machine; for b and c likewise:

  paxos-kv serve --name a --listen-client-urls http://127.0.0.1:2379 \\
    --listen-peer-urls http://127.0.0.1:2380 \\
    --initial-cluster a=http://127.0.0.1:2380,b=http://127.0.0.1:3380,c=http://127.0.0.1:4380";

/// The flags that were given.
#[derive(Clone, Debug)]
pub(super) struct ServeArguments {
    flags: BTreeMap<&'static str, String>,
}

/// Runs a server until a signal ends it.
pub(super) fn run(arguments: ServeArguments) -> Result<(), CommandError> {
    let given = Given::gather(arguments.flags, environment())?;
    let _log = start_log(&given)?;
    for line in given.without_effect() {
        tracing::warn!("{line}");
    }
    let config = ServerConfig::from_given(&given)?;
    process::run(serve(config))
}

/// The environment, without what is no text: none of it can be a setting.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

async fn serve(config: ServerConfig) -> Result<Ending, CommandError> {
    let mut signals = Signals::new()?;
    let server = tokio::select! {
        server = Server::start(config) => server?,
        _ = signals.next() => return Ok(Ending::Orderly),
    };
    tokio::select! {
        stopped = server.stopped() => return Ok(stopped.map(|()| Ending::Orderly)?),
        name = signals.next() => tracing::info!(signal = name, "stopping"),
        never = supervisor::attend(&server) => match never {},
    }
    supervisor::stopping();
    tokio::select! {
        stopped = server.shutdown() => Ok(stopped.map(|()| Ending::Orderly)?),
        // Whoever asks twice does not want to wait.
        _ = signals.next() => Ok(Ending::AtOnce),
    }
}

fn start_log(given: &Given) -> Result<Log, CommandError> {
    let level = given.text("log-level").unwrap_or("info");
    let directives = match level {
        // The server says itself who leads, by name.
        "info" => "info,paxos_core::node::board=warn",
        // etcd's levels above its errors.
        "panic" | "fatal" | "dpanic" => "error",
        level => level,
    };
    let filter = log::filter(directives).ok_or_else(|| ConfigError::Value {
        setting: given.named("log-level").to_string(),
        value: level.to_owned(),
        expected: "debug, info, warn, error or a filter like info,paxos_core=debug".to_owned(),
    })?;
    log::start(filter)
}

/// The command line with two dashes before every flag of `serve`: etcd's may have one.
pub(super) fn with_two_dashes(
    arguments: impl IntoIterator<Item = OsString>,
) -> impl Iterator<Item = OsString> {
    let mut is_serve = false;
    arguments.into_iter().enumerate().map(move |(place, argument)| {
        is_serve |= place == 1 && argument == "serve";
        let flag = argument.to_str().and_then(|text| text.strip_prefix('-'));
        let name = flag.map(|flag| flag.split_once('=').map_or(flag, |(name, _)| name));
        match name.and_then(config::find) {
            Some(_) if is_serve => {
                let mut longer = OsString::from("-");
                longer.push(argument);
                longer
            }
            _ => argument,
        }
    })
}

fn argument(setting: &'static Setting) -> Arg {
    let default = match setting.default {
        "" => String::new(),
        default => format!(" [default: {default}]"),
    };
    let argument = Arg::new(setting.name)
        .long(setting.name)
        .help(format!("{}{default}", setting.help))
        .help_heading(setting.section.title())
        .action(ArgAction::Set);
    match setting.is_switch() {
        // `--switch` alone means true; `--switch=false` is possible, as with etcd.
        true => argument
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_name("BOOL"),
        false => argument.value_name(setting.value_name),
    }
}

impl Args for ServeArguments {
    fn augment_args(command: Command) -> Command {
        command.args(SETTINGS.iter().map(argument)).after_help(AFTER_HELP)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ServeArguments {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |setting: &'static Setting| {
            Some((setting.name, matches.get_one::<String>(setting.name)?.clone()))
        };
        Ok(ServeArguments { flags: SETTINGS.iter().filter_map(given).collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
