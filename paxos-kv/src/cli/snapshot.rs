//! `snapshot`: saves the store of a running server to a file, says what is in one, and makes the data
//! directory of a new cluster's member of it.
//!
//! The flags are those of etcdctl and etcdutl.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::{Args, Subcommand};
use ring::digest::{Context, SHA256};
use tokio_stream::StreamExt;
use tonic::{Status, Streaming};

use super::{
    arguments::{ClientOptions, Output},
    client::{Client, CommandError},
    console::{complain, print},
    output,
};
use crate::{
    backup::{BackupFile, CHECKSUM_BYTES, HashCheck},
    proto::etcdserverpb::{SnapshotRequest, SnapshotResponse},
    server::{
        Restore,
        config::{Given, ServerConfig},
    },
};

/// How often whoever waits is told how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);
/// How long the server may send nothing. Before the first piece it goes through all of its store.
const STALL_MAX: Duration = Duration::from_secs(300);

const AFTER_HELP_RESTORE: &str = "\
Run it for every member of the new cluster, on the same file, with the member's own --name and \
--data-dir and the same --initial-cluster and --initial-cluster-token, which `serve` is then given \
again. The file may be one of etcd's; its keys are taken over with all their revisions, its leases, \
users and roles are not.

Give the new cluster a token of its own if members of the old one may still run. If clients have \
watched the old one, say --bump-revision 1000000000 --mark-compacted: then no revision that they \
have seen comes again, and they are told to read everything anew.";

#[derive(Debug, Subcommand)]
pub(super) enum SnapshotCommand {
    /// Saves the store of one server to a file, which is replaced once the new one is whole.
    Save {
        #[command(flatten)]
        client: ClientOptions,
        /// The file.
        file: PathBuf,
    },
    /// Shows what is in a file, which may be one of etcd's.
    Status {
        /// The file.
        file: PathBuf,
        /// How the result is shown.
        #[arg(long, short = 'w', value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Makes the data directory of a member of a new cluster.
    #[command(after_help = AFTER_HELP_RESTORE)]
    Restore(RestoreArguments),
}

/// Arguments of `snapshot restore`.
#[derive(Clone, Debug, Args)]
pub(super) struct RestoreArguments {
    /// The file.
    file: PathBuf,
    /// The member's name.
    #[arg(long, default_value = "default")]
    name: String,
    /// Where its data is to be. [default: NAME.paxos]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Where its log is to be. [default: DATA_DIR/log]
    #[arg(long, value_name = "DIR")]
    wal_dir: Option<String>,
    /// The members of the new cluster. [default: this one alone]
    #[arg(long, value_name = "NAME=URL,…")]
    initial_cluster: Option<String>,
    /// What tells the new cluster from others.
    #[arg(long, value_name = "TOKEN", default_value = "etcd-cluster")]
    initial_cluster_token: String,
    /// Where the others reach this member. [default: as in --initial-cluster, else
    /// http://localhost:2380]
    #[arg(long, value_name = "URL,…")]
    initial_advertise_peer_urls: Option<String>,
    /// Raise the revision by so much.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "mark_compacted")]
    bump_revision: u64,
    /// Let all revisions up to the raised one count as compacted.
    #[arg(long, requires = "bump_revision")]
    mark_compacted: bool,
    /// Do without the checksum, as for a database that was copied out of etcd's data directory.
    #[arg(long)]
    skip_hash_check: bool,
}

type Done = Result<(), CommandError>;

pub(super) fn run(command: SnapshotCommand) -> Done {
    match command {
        SnapshotCommand::Save { client, file } => super::client::run(save(&client, &file)),
        SnapshotCommand::Status { file, output } => status(&file, output),
        SnapshotCommand::Restore(arguments) => super::client::run(restore(arguments)),
    }
}

async fn save(options: &ClientOptions, path: &Path) -> Done {
    let client = Client::connect(options).await?;
    let partial = Partial::create(path)?;
    let mut service = client.snapshots();
    let begun = tokio::time::timeout(options.timeout(), service.snapshot(SnapshotRequest {}));
    let pieces = begun.await.unwrap_or_else(|_| Err(Status::deadline_exceeded("")));
    let mut pieces = pieces.map_err(|status| client.failure(status))?.into_inner();
    let bytes = receive(&client, &mut pieces, &partial).await?;
    partial.put_in_place(path)?;
    let result = match options.output {
        Output::Json => output::saved_json(path, bytes).to_string(),
        Output::Table => format!("Snapshot saved at {}", path.display()),
    };
    print(&result)
}

/// Writes what comes, and checks it; returns how many bytes the file has.
async fn receive(
    client: &Client,
    pieces: &mut Streaming<SnapshotResponse>,
    partial: &Partial,
) -> Result<u64, CommandError> {
    let mut hash = Context::new(&SHA256);
    // What has come last may be the checksum, of which nothing is hashed.
    let mut held: Vec<u8> = Vec::new();
    let mut bytes = 0;
    let mut told = Instant::now();
    while let Some(piece) = next_piece(pieces).await {
        let SnapshotResponse { blob, remaining_bytes, .. } =
            piece.map_err(|status| client.failure(status))?;
        (&partial.file).write_all(&blob).map_err(partial.fail())?;
        bytes += blob.len() as u64;
        held.extend_from_slice(&blob);
        let known = held.len().saturating_sub(CHECKSUM_BYTES);
        hash.update(&held[..known]);
        held.drain(..known);
        if told.elapsed() >= PROGRESS_INTERVAL {
            let all = output::size_of(bytes.saturating_add(remaining_bytes));
            complain(&format!("{} of {all} are here", output::size_of(bytes)));
            told = Instant::now();
        }
    }
    match hash.finish().as_ref() == held {
        true => Ok(bytes),
        false => Err(CommandError::SnapshotCutShort { bytes }),
    }
}

async fn next_piece(
    pieces: &mut Streaming<SnapshotResponse>,
) -> Option<Result<SnapshotResponse, Status>> {
    let stalled = |_| Some(Err(Status::unavailable("the server sends nothing any more")));
    tokio::time::timeout(STALL_MAX, pieces.next()).await.unwrap_or_else(stalled)
}

/// A file under another name, which is gone again unless it is put in place.
struct Partial {
    path: PathBuf,
    file: File,
}

impl Partial {
    fn create(path: &Path) -> Result<Partial, CommandError> {
        let mut name = path.as_os_str().to_owned();
        name.push(".part");
        let path = PathBuf::from(name);
        let mut options = OpenOptions::new();
        let opened = options.write(true).create(true).truncate(true).mode(0o600).open(&path);
        let what = format!("write {}", path.display());
        Ok(Partial { file: opened.map_err(|error| CommandError::Io(what, error))?, path })
    }

    fn fail(&self) -> impl Fn(io::Error) -> CommandError {
        let what = format!("write {}", self.path.display());
        move |error| CommandError::Io(what.clone(), error)
    }

    fn put_in_place(self, path: &Path) -> Done {
        self.file.sync_all().map_err(self.fail())?;
        fs::rename(&self.path, path).map_err(self.fail())?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = File::open(parent.unwrap_or(Path::new(".")));
        parent.and_then(|parent| parent.sync_all()).map_err(self.fail())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // It is not there any more if all went well.
        let _ = fs::remove_file(&self.path);
    }
}

fn status(path: &Path, output: Output) -> Done {
    let status = BackupFile::open(path, HashCheck::IfThere)?.status()?;
    print(&match output {
        Output::Json => output::snapshot_json(&status).to_string(),
        Output::Table => output::snapshot_table(&status),
    })
}

async fn restore(arguments: RestoreArguments) -> Done {
    let mut flags = BTreeMap::from([
        ("name", arguments.name),
        ("initial-cluster-token", arguments.initial_cluster_token),
    ]);
    for (name, value) in [
        ("data-dir", arguments.data_dir),
        ("wal-dir", arguments.wal_dir),
        ("initial-cluster", arguments.initial_cluster),
        ("initial-advertise-peer-urls", arguments.initial_advertise_peer_urls),
    ] {
        flags.extend(value.map(|value| (name, value)));
    }
    let given = Given::gather(flags, [])?;
    let (name, cluster, data_dir, log_dir) = ServerConfig::identity_from_given(&given)?;
    let restore = Restore {
        snapshot: arguments.file,
        name,
        cluster,
        data_dir,
        log_dir,
        bump_revision: arguments.bump_revision,
        mark_compacted: arguments.mark_compacted,
        skip_hash_check: arguments.skip_hash_check,
    };
    let restored = restore.run().await?;
    if restored.without_lease > 0 {
        let count = restored.without_lease;
        complain(&format!(
            "{count} values had a lease, which is not taken over: they stay until deleted"
        ));
    }
    if restored.users_and_roles > 0 {
        let count = restored.users_and_roles;
        complain(&format!("{count} users and roles are not taken over: the new cluster has none"));
    }
    let Restore { name, data_dir, cluster, .. } = restore;
    let (shown, revision) = (data_dir.display(), restored.revision);
    print(&format!(
        "Member {name} of cluster {} at revision {revision} is in {shown}",
        cluster.id()
    ))
}
