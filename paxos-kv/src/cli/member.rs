//! `member`: who belongs to the cluster, and changes of that.

use std::time::Duration;

use clap::{Args, Subcommand};
use tokio::time::{Instant, sleep};

use super::{
    arguments::{ClientOptions, Output, hexadecimal},
    client::{Client, CommandError},
    console::print,
    output,
};
use crate::{
    proto::etcdserverpb::{
        Member, MemberAddRequest, MemberListRequest, MemberListResponse, MemberPromoteRequest,
        MemberRemoveRequest, MemberUpdateRequest,
    },
    server::config::Url,
};

type Done = Result<(), CommandError>;

/// Between two looks whether a new member votes.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

#[derive(Debug, Subcommand)]
pub(super) enum MemberCommand {
    /// Lists the members of the cluster.
    List {
        #[command(flatten)]
        client: ClientOptions,
    },
    /// Adds a member, and shows how to start it.
    ///
    /// It is a learner first: it gets everything and counts for nothing, until it has caught up.
    Add {
        #[command(flatten)]
        client: ClientOptions,
        #[command(flatten)]
        added: Added,
        /// Keep it a learner until `member promote`; otherwise it votes as soon as it has caught up.
        #[arg(long)]
        learner: bool,
    },
    /// Makes a learner a voter, once it has caught up.
    Promote {
        #[command(flatten)]
        client: ClientOptions,
        /// The member, as `member list` shows it.
        #[arg(value_name = "ID", value_parser = id)]
        member: u64,
    },
    /// Removes a member, for good: its server ends, and its data is of no use any more.
    Remove {
        #[command(flatten)]
        client: ClientOptions,
        /// The member, as `member list` shows it.
        #[arg(value_name = "ID", value_parser = id)]
        member: u64,
    },
    /// Tells the others where a member is reached that moves.
    Update {
        #[command(flatten)]
        client: ClientOptions,
        /// The member, as `member list` shows it.
        #[arg(value_name = "ID", value_parser = id)]
        member: u64,
        /// Its new peer URL.
        #[arg(long, value_name = "URL")]
        peer_urls: Url,
    },
    /// Puts a new member in the place of another: adds it, waits until it votes, and removes the other.
    Replace {
        #[command(flatten)]
        client: ClientOptions,
        /// The member that goes, as `member list` shows it.
        #[arg(value_name = "ID", value_parser = id)]
        member: u64,
        #[command(flatten)]
        added: Added,
        /// Seconds to wait until the new member has been started and has caught up.
        #[arg(long, default_value_t = 3600, value_name = "SECONDS",
            value_parser = clap::value_parser!(u64).range(1..=86_400))]
        wait: u64,
    },
}

/// A member to be.
#[derive(Clone, Debug, Args)]
pub(super) struct Added {
    /// Its name, unique in the cluster.
    name: String,
    /// Where the other members reach it.
    #[arg(long, value_name = "URL")]
    peer_urls: Url,
}

/// An id as it is shown.
pub(super) fn id(text: &str) -> Result<u64, String> {
    let shown = || "an id is hexadecimal, as `paxos-kv member list` shows it".to_owned();
    hexadecimal(text).ok_or_else(shown)
}

/// Runs a command to its end.
pub(super) async fn run(command: MemberCommand) -> Done {
    match command {
        MemberCommand::List { client } => {
            let list = list(&Client::connect(&client).await?).await?;
            match client.output {
                Output::Json => print(&output::members_json(&list).to_string()),
                Output::Table => print(&output::members_table(&list)),
            }
        }
        MemberCommand::Add { client, added, learner } => {
            add(&client, &added, learner).await.map(drop)
        }
        MemberCommand::Promote { client, member } => {
            let connection = Client::connect(&client).await?;
            let request = connection.request(MemberPromoteRequest { id: member });
            let answer = connection.cluster().member_promote(request).await;
            let answer = answer.map_err(|status| connection.write_failure(status))?.into_inner();
            let list = MemberListResponse { header: answer.header, members: answer.members };
            show(&client, &list, &format!("Member {member:x} votes now"))
        }
        MemberCommand::Remove { client, member } => remove(&client, member).await,
        MemberCommand::Update { client, member, peer_urls } => {
            let connection = Client::connect(&client).await?;
            let peer_urls = vec![peer_urls.to_string()];
            let request = connection.request(MemberUpdateRequest { id: member, peer_urls });
            let answer = connection.cluster().member_update(request).await;
            let answer = answer.map_err(|status| connection.write_failure(status))?.into_inner();
            let list = MemberListResponse { header: answer.header, members: answer.members };
            let line =
                "start it with the new URL in --listen-peer-urls and its other flags as before";
            show(&client, &list, &format!("Member {member:x} is reached elsewhere: {line}"))
        }
        MemberCommand::Replace { client, member, added, wait } => {
            replace(&client, member, &added, Duration::from_secs(wait)).await
        }
    }
}

/// The members for programs, a line for people.
fn show(options: &ClientOptions, list: &MemberListResponse, line: &str) -> Done {
    match options.output {
        Output::Json => print(&output::members_json(list).to_string()),
        Output::Table => print(line),
    }
}

async fn list(client: &Client) -> Result<MemberListResponse, CommandError> {
    let request = client.request(MemberListRequest { linearizable: true });
    let answer = client.cluster().member_list(request).await;
    Ok(answer.map_err(|status| client.failure(status))?.into_inner())
}

/// Adds a member, says how to start it, and returns its id.
async fn add(
    options: &ClientOptions,
    added: &Added,
    is_learner: bool,
) -> Result<u64, CommandError> {
    let client = Client::connect(options).await?;
    let peer_urls = vec![added.peer_urls.to_string()];
    let request = client.request(MemberAddRequest { peer_urls, is_learner });
    let answer = client.cluster().member_add(request).await;
    let answer = answer.map_err(|status| client.write_failure(status))?.into_inner();
    let id = answer.member.as_ref().map_or(0, |member| member.id);
    let cluster = answer.header.as_ref().map_or(0, |header| header.cluster_id);
    let then = match is_learner {
        true => format!(
            "It is a learner. Make it a voter when it has caught up:\n\n  paxos-kv member promote {id:x}"
        ),
        false => {
            "It is a learner, and votes as soon as it has caught up:\n\n  paxos-kv member list"
                .to_owned()
        }
    };
    let line = format!(
        "Member {id:x} added to cluster {cluster:x}. Start it, with an empty data directory:\n\n{}\n\n{then}",
        start_command(added, id, &answer.members)
    );
    show(options, &MemberListResponse { header: answer.header, members: answer.members }, &line)?;
    Ok(id)
}

/// The command line that starts a member which has been added.
fn start_command(added: &Added, id: u64, members: &[Member]) -> String {
    let name_of = |member: &Member| match () {
        () if member.id == id => added.name.clone(),
        () if member.name.is_empty() => format!("{:x}", member.id),
        () => member.name.clone(),
    };
    let urls = |member: &Member| member.peer_urls.first().cloned().unwrap_or_default();
    let cluster = members.iter().map(|member| format!("{}={}", name_of(member), urls(member)));
    let join = members.iter().flat_map(|member| &member.client_urls).cloned();
    let address = added.peer_urls.address();
    let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
    format!(
        "  paxos-kv serve --name {name} --data-dir {name}.paxos \\\n    \
         --initial-cluster {cluster} \\\n    \
         --initial-cluster-state existing --join {join} \\\n    \
         --listen-peer-urls {url} --listen-client-urls http://{host}:2379",
        name = added.name,
        cluster = cluster.collect::<Vec<_>>().join(","),
        join = join.collect::<Vec<_>>().join(","),
        url = added.peer_urls,
    )
}

async fn remove(options: &ClientOptions, id: u64) -> Done {
    let client = Client::connect(options).await?;
    let request = client.request(MemberRemoveRequest { id });
    let answer = client.cluster().member_remove(request).await;
    let answer = answer.map_err(|status| client.write_failure(status))?.into_inner();
    let list = MemberListResponse { header: answer.header, members: answer.members };
    show(options, &list, &format!("Member {id:x} is removed: its server ends, delete its data"))
}

async fn replace(options: &ClientOptions, old: u64, added: &Added, wait: Duration) -> Done {
    let client = Client::connect(options).await?;
    if !list(&client).await?.members.iter().any(|member| member.id == old) {
        return Err(CommandError::NoMember(old));
    }
    let new = add(options, added, false).await?;
    let deadline = Instant::now() + wait;
    // A member that votes is shown as no learner.
    let is_voter = |member: &Member| member.id == new && !member.is_learner;
    while !list(&client).await?.members.iter().any(is_voter) {
        if deadline <= Instant::now() {
            return Err(CommandError::NotReplaced { old, new });
        }
        sleep(LOOK_INTERVAL).await;
    }
    remove(options, old).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_hexadecimal() {
        assert_eq!((id("ff"), id("0xff")), (Ok(255), Ok(255)));
        assert!(id("").is_err() && id("n1").is_err() && id("-1").is_err());
    }

    #[test]
    fn a_new_member_is_started_by_a_command_that_can_be_typed() {
        let member = |id, name: &str| Member {
            id,
            name: name.to_owned(),
            peer_urls: vec![format!("http://h{id}:2380")],
            client_urls: vec![format!("http://h{id}:2379"); usize::from(!name.is_empty())],
            is_learner: false,
        };
        let peer_urls = "http://h4:2380".parse().expect("a URL");
        let added = Added { name: "d".to_owned(), peer_urls };
        let members = [member(1, "a"), member(11, ""), member(4, "")];
        let command = start_command(&added, 4, &members);
        let words = shlex::split(&command.replace("\\\n", "")).expect("it is a command line");
        let expected = "paxos-kv serve --name d --data-dir d.paxos --initial-cluster \
            a=http://h1:2380,b=http://h11:2380,d=http://h4:2380 --initial-cluster-state existing \
            --join http://h1:2379 --listen-peer-urls http://h4:2380 --listen-client-urls http://h4:2379";
        assert_eq!(words.join(" "), expected);
    }
}
