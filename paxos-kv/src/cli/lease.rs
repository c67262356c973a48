//! `lease`: keys that go when nobody keeps them alive.

use std::time::Duration;

use clap::Subcommand;
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::sleep};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Streaming};

use super::{
    arguments::{ClientOptions, Output, hexadecimal},
    client::{Client, CommandError},
    console::print,
    output::{self, flat},
};
use crate::proto::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest,
    LeaseRevokeRequest, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};

type Done = Result<(), CommandError>;

/// A lease is renewed so many times while it lasts.
const RENEWALS_PER_TTL: u32 = 3;
/// Between two attempts to find a server that renews it.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

#[derive(Debug, Subcommand)]
pub(super) enum LeaseCommand {
    /// Makes a lease, to be given to `put --lease`.
    Grant {
        #[command(flatten)]
        client: ClientOptions,
        /// Seconds that it lasts without being renewed.
        ttl: i64,
        /// Its id; the server chooses one if it is left out.
        #[arg(long, value_name = "ID", value_parser = id)]
        id: Option<i64>,
    },
    /// Ends a lease, and deletes its keys.
    Revoke {
        #[command(flatten)]
        client: ClientOptions,
        /// The lease, as `lease list` shows it.
        #[arg(value_name = "ID", value_parser = id)]
        lease: i64,
    },
    /// Renews a lease, again and again until it is told to stop.
    KeepAlive {
        #[command(flatten)]
        client: ClientOptions,
        /// The lease, as `lease list` shows it.
        #[arg(value_name = "ID", value_parser = id)]
        lease: i64,
        /// Renew it once.
        #[arg(long)]
        once: bool,
    },
    /// Shows how long a lease has.
    #[command(name = "timetolive", alias = "time-to-live")]
    TimeToLive {
        #[command(flatten)]
        client: ClientOptions,
        /// The lease, as `lease list` shows it.
        #[arg(value_name = "ID", value_parser = id)]
        lease: i64,
        /// Show its keys too.
        #[arg(long)]
        keys: bool,
    },
    /// Lists the leases.
    List {
        #[command(flatten)]
        client: ClientOptions,
    },
}

/// An id as it is shown.
pub(super) fn id(text: &str) -> Result<i64, String> {
    let shown = || "an id is hexadecimal, as `paxos-kv lease list` shows it".to_owned();
    hexadecimal(text).map(u64::cast_signed).ok_or_else(shown)
}

/// Runs a command to its end.
pub(super) async fn run(command: LeaseCommand) -> Done {
    match command {
        LeaseCommand::Grant { client, ttl, id } => grant(&client, ttl, id).await,
        LeaseCommand::Revoke { client, lease } => revoke(&client, lease).await,
        LeaseCommand::KeepAlive { client, lease, once } => keep_alive(&client, lease, once).await,
        LeaseCommand::TimeToLive { client, lease, keys } => {
            time_to_live(&client, lease, keys).await
        }
        LeaseCommand::List { client } => list(&client).await,
    }
}

/// JSON for programs, a line for people.
fn show(options: &ClientOptions, json: &Value, line: &str) -> Done {
    match options.output {
        Output::Json => print(&json.to_string()),
        Output::Table => print(line),
    }
}

async fn grant(options: &ClientOptions, ttl: i64, id: Option<i64>) -> Done {
    let client = Client::connect(options).await?;
    let request = client.request(LeaseGrantRequest { ttl, id: id.unwrap_or(0) });
    let answer = client.lease().lease_grant(request).await;
    let answer = answer.map_err(|status| client.write_failure(status))?.into_inner();
    let (id, ttl) = (answer.id, answer.ttl);
    let json = flat(
        answer.header.as_ref(),
        [("ID", json!(id)), ("TTL", json!(ttl)), ("Error", json!(""))],
    );
    show(options, &json, &format!("lease {id:x} granted, it lasts {ttl} seconds"))
}

async fn revoke(options: &ClientOptions, id: i64) -> Done {
    let client = Client::connect(options).await?;
    let request = client.request(LeaseRevokeRequest { id });
    let answer = client.lease().lease_revoke(request).await;
    let answer = answer.map_err(|status| client.write_failure(status))?.into_inner();
    show(
        options,
        &output::header_only_json(answer.header.as_ref()),
        &format!("lease {id:x} revoked"),
    )
}

async fn time_to_live(options: &ClientOptions, id: i64, keys: bool) -> Done {
    let client = Client::connect(options).await?;
    let request = client.request(LeaseTimeToLiveRequest { id, keys });
    let answer = client.lease().lease_time_to_live(request).await;
    let answer = answer.map_err(|status| client.failure(status))?.into_inner();
    if answer.ttl < 0 && options.output == Output::Table {
        return Err(CommandError::NoLease(id));
    }
    let LeaseTimeToLiveResponse { header, ttl, granted_ttl, keys, .. } = answer;
    let encoded: Vec<_> = keys.iter().map(|key| output::base64(key)).collect();
    let json = flat(
        header.as_ref(),
        [
            ("id", json!(id)),
            ("ttl", json!(ttl)),
            ("granted-ttl", json!(granted_ttl)),
            ("keys", if keys.is_empty() { Value::Null } else { json!(encoded) }),
        ],
    );
    let mut text = format!("lease {id:x} lasts {granted_ttl} seconds, {ttl} of them are left");
    for key in &keys {
        text.push('\n');
        text.push_str(&output::printable(key));
    }
    show(options, &json, &text)
}

async fn list(options: &ClientOptions) -> Done {
    let client = Client::connect(options).await?;
    let answer = client.lease().lease_leases(client.request(LeaseLeasesRequest {})).await;
    let answer = answer.map_err(|status| client.failure(status))?.into_inner();
    let leases: Vec<_> = answer.leases.iter().map(|lease| json!({ "id": lease.id })).collect();
    let lines: Vec<_> = answer.leases.iter().map(|lease| format!("{:x}", lease.id)).collect();
    let text = if lines.is_empty() { "no lease".to_owned() } else { lines.join("\n") };
    show(options, &flat(answer.header.as_ref(), [("leases", json!(leases))]), &text)
}

/// A stream of renewals of one lease, one answer to each request.
struct Renewing {
    client: Client,
    requests: mpsc::Sender<LeaseKeepAliveRequest>,
    answers: Streaming<LeaseKeepAliveResponse>,
}

impl Renewing {
    async fn begin(options: &ClientOptions) -> Result<Renewing, CommandError> {
        let client = Client::connect(options).await?;
        let (requests, sent) = mpsc::channel(1);
        // It lasts as long as it is wanted.
        let answers =
            client.lease().lease_keep_alive(Request::new(ReceiverStream::new(sent))).await;
        let answers = answers.map_err(|status| client.failure(status))?.into_inner();
        Ok(Renewing { client, requests, answers })
    }

    /// Renews it; returns how long it has.
    async fn renew(&mut self, id: i64) -> Result<LeaseKeepAliveResponse, CommandError> {
        let ended = || tonic::Status::unavailable("the server has ended the stream");
        let sent = self.requests.send(LeaseKeepAliveRequest { id }).await;
        let answer = match sent {
            Ok(()) => tokio::time::timeout(self.client.timeout(), self.answers.next()).await,
            Err(_) => Ok(None),
        };
        let late = || tonic::Status::deadline_exceeded("no answer");
        let answer = answer.map_err(|_| self.client.failure(late()))?;
        let answer = answer.unwrap_or_else(|| Err(ended()));
        let answer = answer.map_err(|status| self.client.failure(status))?;
        if answer.ttl <= 0 { Err(CommandError::NoLease(id)) } else { Ok(answer) }
    }
}

/// Goes on with another server if one fails, for as long as the lease may be there.
async fn keep_alive(options: &ClientOptions, id: i64, once: bool) -> Done {
    let mut renewing: Option<Renewing> = None;
    let mut lasts_until = None;
    loop {
        let renewed = async {
            if renewing.is_none() {
                renewing = Some(Renewing::begin(options).await?);
            }
            renewing.as_mut().expect("just begun").renew(id).await
        };
        match renewed.await {
            Ok(answer) => {
                let ttl = Duration::from_secs(answer.ttl.unsigned_abs());
                let fields = [("ID", json!(id)), ("TTL", json!(answer.ttl))];
                let text = format!("lease {id:x} renewed, it lasts {} seconds", answer.ttl);
                show(options, &flat(answer.header.as_ref(), fields), &text)?;
                if once {
                    return Ok(());
                }
                lasts_until = Some(tokio::time::Instant::now() + ttl);
                sleep(ttl / RENEWALS_PER_TTL).await;
            }
            Err(error) => {
                let may_last = lasts_until.is_some_and(|end| tokio::time::Instant::now() < end);
                if matches!(error, CommandError::NoLease(_)) || !may_last {
                    return Err(error);
                }
                renewing = None;
                sleep(RETRY_INTERVAL).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_hexadecimal_and_may_be_negative() {
        assert_eq!((id("ff"), id("0x7f")), (Ok(255), Ok(127)));
        assert_eq!(id("ffffffffffffffff"), Ok(-1));
        assert!(id("").is_err() && id("n1").is_err() && id("-1").is_err());
    }
}
