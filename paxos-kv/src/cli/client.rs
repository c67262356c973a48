//! The connection to a cluster: the first endpoint that answers.

use std::{future::Future, time::Duration};

use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint},
};

use super::{arguments::ClientOptions, txn::TxnError};
use crate::{
    proto::etcdserverpb::{
        cluster_client::ClusterClient, kv_client::KvClient, maintenance_client::MaintenanceClient,
    },
    server::{BackupError, RestoreError, ServerError, config::ConfigError},
};

/// How long one endpoint has to take the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a command failed, in one line.
#[derive(Debug, thiserror::Error)]
pub(super) enum CommandError {
    /// The text is no endpoint.
    #[error("{0:?} is no endpoint: write host:port or http://host:port")]
    Endpoint(String),
    /// No endpoint takes connections.
    #[error("no endpoint answers ({0}): start a server, or name others with --endpoints")]
    Unreachable(String),
    /// The server refused the request.
    #[error("{endpoint}: {}", describe(.status))]
    Status {
        /// Who refused.
        endpoint: String,
        /// What it said.
        status: Box<Status>,
    },
    /// Some endpoints did not answer; those that did have been shown.
    #[error("{failed} of {all} endpoints failed")]
    Partial {
        /// How many failed.
        failed: usize,
        /// How many were asked.
        all: usize,
    },
    /// A transaction that cannot be understood.
    #[error(transparent)]
    Txn(#[from] TxnError),
    /// The settings make no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The server cannot start, or failed.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// What has come of a snapshot does not fit its checksum.
    #[error("the snapshot is not whole after {bytes} bytes: try again, or ask another endpoint")]
    SnapshotCutShort {
        /// How much there was.
        bytes: u64,
    },
    /// A snapshot that cannot be read.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// A snapshot that cannot be restored.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The operating system refused.
    #[error("cannot {0}: {1}")]
    Io(String, std::io::Error),
}

/// One line for the answer of a server.
pub(super) fn describe(status: &Status) -> String {
    let message = status.message().lines().next().unwrap_or_default();
    match status.code() {
        // What tonic makes of the deadline of the client itself.
        Code::DeadlineExceeded | Code::Cancelled => {
            "no answer in time: a write may or may not have happened; see `paxos-kv status`"
                .to_owned()
        }
        code if message.is_empty() => format!("the server answered {code:?}"),
        _ => message.to_owned(),
    }
}

/// Runs a client command to its end.
pub(super) fn run(
    command: impl Future<Output = Result<(), CommandError>>,
) -> Result<(), CommandError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CommandError::Io("start".to_owned(), error))?
        .block_on(command)
}

/// A connection to one server.
pub(super) struct Client {
    endpoint: String,
    channel: Channel,
    timeout: Duration,
}

impl Client {
    /// Connects to the first of the endpoints that takes it. Nothing has been sent to the others,
    /// so nothing happens twice.
    pub(super) async fn connect(options: &ClientOptions) -> Result<Client, CommandError> {
        let mut reasons = Vec::new();
        for endpoint in &options.endpoints {
            match Client::connect_to(endpoint, options.timeout()).await {
                Err(CommandError::Unreachable(reason)) => reasons.push(reason),
                result => return result,
            }
        }
        Err(CommandError::Unreachable(reasons.join("; ")))
    }

    /// Connects to one endpoint.
    pub(super) async fn connect_to(
        endpoint: &str,
        timeout: Duration,
    ) -> Result<Client, CommandError> {
        let endpoint = endpoint.trim();
        let url = match endpoint.split_once("://") {
            Some(("http", _)) => endpoint.to_owned(),
            Some(_) => return Err(CommandError::Endpoint(endpoint.to_owned())),
            None => format!("http://{endpoint}"),
        };
        let channel = Endpoint::from_shared(url)
            .map_err(|_| CommandError::Endpoint(endpoint.to_owned()))?
            .connect_timeout(CONNECT_TIMEOUT.min(timeout))
            .connect()
            .await
            .map_err(|error| {
                let reason = root_cause(&error);
                CommandError::Unreachable(format!("{endpoint}: {reason}"))
            })?;
        Ok(Client { endpoint: endpoint.to_owned(), channel, timeout })
    }

    /// A request with the deadline.
    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.timeout);
        request
    }

    /// What the server said, as the error of the command.
    pub(super) fn failure(&self, status: Status) -> CommandError {
        CommandError::Status { endpoint: self.endpoint.clone(), status: Box::new(status) }
    }

    /// The service for keys.
    pub(super) fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel.clone())
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(usize::MAX)
    }

    /// The service for members.
    pub(super) fn cluster(&self) -> ClusterClient<Channel> {
        ClusterClient::new(self.channel.clone())
    }

    /// The service for the state of the server.
    pub(super) fn maintenance(&self) -> MaintenanceClient<Channel> {
        MaintenanceClient::new(self.channel.clone())
    }

    /// The same, for pieces of any length.
    pub(super) fn snapshots(&self) -> MaintenanceClient<Channel> {
        self.maintenance().max_decoding_message_size(usize::MAX)
    }
}

/// The innermost reason, which is what helps.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
