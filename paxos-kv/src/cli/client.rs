//! The connection to a cluster: the first endpoint that answers.

use std::{future::Future, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use tokio::time::sleep;
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::{arguments::ClientOptions, txn::TxnError};
use crate::{
    proto::etcdserverpb::{
        cluster_client::ClusterClient, kv_client::KvClient, lease_client::LeaseClient,
        maintenance_client::MaintenanceClient,
    },
    server::{BackupError, RestoreError, ServerError, config::ConfigError},
};

/// How long one endpoint has to take the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long one endpoint has to answer before the next one is asked as well.
const ANSWER_PATIENCE: Duration = Duration::from_millis(500);

/// Why a command failed, in one line.
#[derive(Debug, thiserror::Error)]
pub(super) enum CommandError {
    /// The text is no endpoint.
    #[error("{0:?} is no endpoint: write host:port or http://host:port")]
    Endpoint(String),
    /// No endpoint takes connections.
    #[error("no endpoint answers ({0}): start a server, or name others with --endpoints")]
    Unreachable(String),
    /// The server refused the request, or did not answer it.
    #[error("{endpoint}: {}", describe(.status))]
    Status {
        /// Who refused.
        endpoint: String,
        /// What it said.
        status: Box<Status>,
    },
    /// The same of a write of which nobody knows whether it happened.
    #[error("{endpoint}: {}: the write may or may not have happened", describe(.status))]
    UnknownOutcome {
        /// Who was asked.
        endpoint: String,
        /// What it said, if anything.
        status: Box<Status>,
    },
    /// No member leads, or the one that does was not reached.
    #[error("no member that answers leads: see `paxos-kv status --cluster`, and try again")]
    NoLeader,
    /// Some endpoints did not answer; those that did have been shown.
    #[error("{failed} of {all} endpoints failed")]
    Partial {
        /// How many failed.
        failed: usize,
        /// How many were asked.
        all: usize,
    },
    /// The cluster does not carry the load.
    #[error("the cluster does not carry this load: {0}")]
    TooSlow(String),
    /// There is no such member.
    #[error("there is no member {0:x}: `paxos-kv member list` shows them")]
    NoMember(u64),
    /// There is no such lease.
    #[error(
        "there is no lease {0:x}: it was revoked, or nobody has kept it alive; `paxos-kv lease list` \
         shows them"
    )]
    NoLease(i64),
    /// A new member does not vote in time.
    #[error(
        "member {new:x} does not vote yet, so {old:x} is not removed: see with `paxos-kv member list` that it \
         runs, and when it is no learner any more, `paxos-kv member remove {old:x}`"
    )]
    NotReplaced {
        /// The member that was to go.
        old: u64,
        /// The one in its place.
        new: u64,
    },
    /// A put without a value.
    #[error(
        "there is no value, neither behind the key nor on standard input: for an empty one write ''"
    )]
    NoValue,
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
            "no answer in time; see `paxos-kv status`".to_owned()
        }
        code if message.is_empty() => format!("the server answered {code:?}"),
        _ => message.to_owned(),
    }
}

/// Whether the server has said this, and not the connection to it.
fn is_of_server(status: &Status) -> bool {
    let is_own = matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled);
    std::error::Error::source(status).is_none() && !is_own
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
    /// Connects to the first of the endpoints that answers, or to one that has no leader if all others are
    /// silent. No request has been sent to any, so nothing happens twice.
    pub(super) async fn connect(options: &ClientOptions) -> Result<Client, CommandError> {
        if let [only] = &options.endpoints[..] {
            return Client::connect_to(only, options.timeout()).await;
        }
        let mut endpoints = options.endpoints.iter();
        let mut attempts = FuturesUnordered::new();
        let mut reasons = Vec::new();
        let mut without_leader = None;
        loop {
            let next = endpoints.next();
            attempts.extend(next.map(|endpoint| Client::answering(endpoint, options.timeout())));
            let is_last = endpoints.len() == 0;
            let patience = async {
                match is_last && without_leader.is_none() {
                    true => std::future::pending().await,
                    false => sleep(ANSWER_PATIENCE).await,
                }
            };
            tokio::select! {
                Some(answered) = attempts.next() => match answered {
                    Ok((client, true)) => return Ok(client),
                    Ok((client, false)) => without_leader = without_leader.or(Some(client)),
                    Err(CommandError::Unreachable(reason)) => reasons.push(reason),
                    Err(error) => return Err(error),
                },
                () = patience => if is_last { break },
            }
            if is_last && attempts.is_empty() {
                break;
            }
        }
        without_leader.ok_or_else(|| CommandError::Unreachable(reasons.join("; ")))
    }

    /// Connects to one endpoint and waits until it answers: a process that stands still takes connections
    /// all the same. Says whether it knows a leader.
    async fn answering(endpoint: &str, timeout: Duration) -> Result<(Client, bool), CommandError> {
        let client = Client::connect_to(endpoint, timeout).await?;
        let request = client.request(HealthCheckRequest::default());
        let serves = match HealthClient::new(client.channel.clone()).check(request).await {
            Ok(response) => response.into_inner().status() != ServingStatus::NotServing,
            // It is there, though it has no such service or does not tell everybody.
            Err(status) if is_of_server(&status) => true,
            Err(status) => {
                let reason = format!("{endpoint}: {}", describe(&status));
                return Err(CommandError::Unreachable(reason));
            }
        };
        Ok((client, serves))
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

    /// The same for a write.
    pub(super) fn write_failure(&self, status: Status) -> CommandError {
        let has_timed_out =
            status.code() == Code::Unavailable && status.message().contains("timed out");
        let is_unknown = !is_of_server(&status) || has_timed_out;
        match is_unknown {
            true => CommandError::UnknownOutcome {
                endpoint: self.endpoint.clone(),
                status: Box::new(status),
            },
            false => self.failure(status),
        }
    }

    /// The service for keys.
    pub(super) fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel.clone())
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(usize::MAX)
    }

    /// How long a request may take.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The service for leases.
    pub(super) fn lease(&self) -> LeaseClient<Channel> {
        LeaseClient::new(self.channel.clone())
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
