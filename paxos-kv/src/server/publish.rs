//! Tells the cluster this member's name, where its clients connect, and which rules it knows.
//!
//! A member does so through the log when it starts, so that every member can list all of them; if
//! nothing has changed since the last time, nothing is written.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::config::Url;
use crate::{
    api::Context,
    store::{Command, MemberAttributes, Rules},
};

/// Between two attempts.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Publishes: tries until it has worked once, and says so, or the node is gone.
pub(super) async fn run(
    context: Context,
    name: String,
    client_urls: Vec<Url>,
    joined: CancellationToken,
) {
    let member_id = context.node().identity().node.0;
    let client_urls = client_urls.iter().map(ToString::to_string).collect();
    let attributes = MemberAttributes { member_id, name, client_urls, rules: Rules::KNOWN.0 };
    let mut leadership = context.node().leadership();
    loop {
        if leadership.wait_for(|leadership| leadership.leader.is_some()).await.is_err() {
            return;
        }
        match publish(&context, &attributes).await {
            Ok(()) => return joined.cancel(),
            Err(reason) => tracing::debug!(reason, "this member is not published yet"),
        }
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
}

async fn publish(context: &Context, attributes: &MemberAttributes) -> Result<(), String> {
    // What this member said last time may still be in the part of the log that is not applied yet.
    context.linearize().await.map_err(|status| status.message().to_owned())?;
    let published = context.look_up(|reader| reader.members()).await;
    let published = published.map_err(|status| status.message().to_owned())?;
    if published.contains(attributes) {
        return Ok(());
    }
    let proposed = context.propose(Command::MemberAttributes(attributes.clone())).await;
    proposed.map(|_| ()).map_err(|status| status.message().to_owned())
}
