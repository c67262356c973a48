//! `move-leader`: another member is to lead.

use super::{
    arguments::{ClientOptions, Output},
    client::{Client, CommandError},
    console::print,
    endpoint,
};
use crate::proto::etcdserverpb::{MoveLeaderRequest, StatusResponse};

/// Asks the leader, wherever it is, to hand over.
pub(super) async fn move_leader(options: &ClientOptions, member: u64) -> Result<(), CommandError> {
    let answers = endpoint::ask(options, true, endpoint::status_of).await?;
    let leads = |status: &StatusResponse| {
        status.header.as_ref().is_some_and(|header| header.member_id == status.leader)
    };
    let mut statuses =
        answers.into_iter().filter_map(|(endpoint, status)| Some((endpoint, status.ok()?)));
    let (endpoint, status) =
        statuses.find(|(_, status)| leads(status)).ok_or(CommandError::NoLeader)?;
    let client = Client::connect_to(&endpoint, options.timeout()).await?;
    let request = client.request(MoveLeaderRequest { target_id: member });
    let result = client.maintenance().move_leader(request).await;
    result.map_err(|status| client.failure(status))?;
    match options.output {
        Output::Json => print("{}"),
        Output::Table => {
            print(&format!("Leadership transferred from {:x} to {member:x}", status.leader))
        }
    }
}
