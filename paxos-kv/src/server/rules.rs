//! Brings the rules into force that all members of the cluster know.
//!
//! That is the leader's task, until the newest rules that it knows are in force. A member that has not said yet
//! what it knows holds all others up, and so does one of an older version: it is upgraded, or removed.

use std::time::Duration;

use paxos_core::types::NodeId;

use crate::{
    api::Context,
    store::{Command, MemberAttributes, Rules},
};

/// Between two looks at what the members know.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Runs until nothing is left to do for this version.
pub(super) async fn run(context: Context) {
    while context.rules() < Rules::KNOWN {
        if context.leader() == Some(context.node().identity().node)
            && let Err(reason) = raise(&context).await
        {
            tracing::debug!(reason, "the rules are not raised yet");
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    tracing::debug!(rules = %context.rules(), "all rules that this version knows are in force");
}

async fn raise(context: &Context) -> Result<(), String> {
    let published = context.look_up(|reader| reader.members()).await;
    let published = published.map_err(|status| status.message().to_owned())?;
    let membership = context.node().status().membership;
    let common = known_to_all(membership.members().map(|(id, _)| id), &published);
    if common <= context.rules() {
        return Ok(());
    }
    let raised = context.propose(Command::RaiseRules(common.0)).await;
    raised.map_err(|status| status.message().to_owned())?;
    tracing::info!(rules = %common, "all members know newer rules, which are in force from now on");
    Ok(())
}

/// The newest rules that every member has said it knows, and this one knows.
fn known_to_all(members: impl Iterator<Item = NodeId>, published: &[MemberAttributes]) -> Rules {
    let known = members.map(|id| {
        let said = published.iter().find(|published| published.member_id == id.0);
        said.map_or(Rules::FIRST, |said| Rules(said.rules).max(Rules::FIRST))
    });
    known.chain([Rules::KNOWN]).min().expect("this one's")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_known_to_all_when_the_last_member_has_said_so() {
        let newest = Rules::KNOWN.0;
        let said = |member_id, rules| MemberAttributes { member_id, rules, ..Default::default() };
        let members = || [1, 2, 3].map(NodeId).into_iter();
        let cases = [
            (vec![said(1, newest), said(2, newest), said(3, newest)], Rules::KNOWN),
            (vec![said(1, newest + 7), said(2, newest + 7), said(3, newest + 7)], Rules::KNOWN),
            (vec![said(1, newest), said(2, newest)], Rules::FIRST),
            // Of a version before rules had numbers.
            (vec![said(1, newest), said(2, 0), said(3, newest)], Rules::FIRST),
            // Who is no member does not count.
            (vec![said(1, newest), said(2, newest), said(3, newest), said(4, 1)], Rules::KNOWN),
        ];
        for (published, expected) in cases {
            assert_eq!(known_to_all(members(), &published), expected, "{published:?}");
        }
    }
}
