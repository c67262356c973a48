//! Who a member is, and whom it asks when it starts.
//!
//! A member of a new cluster computes its ids from its settings. One that joins a cluster that exists has to ask
//! for them, since the ids of a cluster whose members have been replaced follow from no setting: it asks a
//! member where that serves its clients, as whom it has been added. What it is told is kept beside its
//! data, and counts from then on, whatever the settings say.

use std::{fs, io, path::Path, time::Duration};

use paxos_core::types::{ClusterId, NodeId};
use serde::{Deserialize, Serialize};
use tonic::transport::Endpoint;

use super::{
    ServerError,
    backends::make_directory,
    config::{ConfigError, ServerConfig, StorageKind, Url},
    node::STATE_FILE,
};
use crate::{
    proto::etcdserverpb::{
        Member, MemberListRequest, MemberListResponse, cluster_client::ClusterClient,
    },
    store::Owner,
};

/// What a member that has joined was told.
const FILE: &str = "member.json";

/// The format of that file.
const VERSION: u32 = 1;

/// How long one member may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long it may take to be reached.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Who this member is, and who the others are as far as it knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    /// Whose data this is.
    pub(super) owner: Owner,
    /// The others, and this member if it is there from the beginning: ids and addresses.
    pub(super) members: Vec<(u64, String)>,
    /// Whether it came to a cluster that existed.
    pub(super) has_joined: bool,
}

/// The same as a file.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    version: u32,
    name: String,
    cluster: u64,
    member: u64,
    peers: Vec<Peer>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Peer {
    id: u64,
    address: String,
}

/// Finds out who a member is; `has_log` says whether it has been started before.
pub(super) async fn find(config: &ServerConfig, has_log: bool) -> Result<Standing, ServerError> {
    let path = config.data_dir.join(FILE);
    let is_kept = config.storage == StorageKind::Redb;
    if is_kept && let Some(kept) = Kept::read(&path, &config.name)? {
        return Ok(kept.standing());
    }
    // A state without its log is no new member.
    let has_data = has_log || is_kept && config.data_dir.join(STATE_FILE).exists();
    if !config.existing || has_data {
        return of_settings(config);
    }
    if config.join.is_empty() {
        let path = config.log_dir.display().to_string();
        return Err(ServerError::NoData { path });
    }
    let kept = ask(config).await?;
    if is_kept {
        make_directory(&config.data_dir)?;
        kept.write(&config.data_dir).map_err(|error| ServerError::DataDirectory {
            path: path.display().to_string(),
            reason: error.to_string(),
        })?;
    }
    Ok(kept.standing())
}

/// Of a member that has been there from the beginning.
fn of_settings(config: &ServerConfig) -> Result<Standing, ServerError> {
    let cluster = &config.cluster;
    let member = own(config)?.0;
    let members = cluster.members().iter();
    Ok(Standing {
        owner: Owner { cluster: cluster.id(), member },
        members: members.map(|member| (member.id.0, member.peer_url.address())).collect(),
        has_joined: false,
    })
}

/// The id that follows from the settings, and the URL.
fn own(config: &ServerConfig) -> Result<(NodeId, &Url), ConfigError> {
    let own = config.cluster.named(&config.name).ok_or_else(|| {
        let reason = format!("there is no member of the name {:?}", config.name);
        ConfigError::InitialCluster(reason)
    })?;
    Ok((own.id, &own.peer_url))
}

/// Asks one member after the other, until one answers.
async fn ask(config: &ServerConfig) -> Result<Kept, ServerError> {
    let (_, peer_url) = own(config)?;
    let mut reasons = Vec::new();
    for url in &config.join {
        match list(url).await {
            Ok(list) => return told(&config.name, peer_url, url, list),
            Err(reason) => reasons.push(format!("{url}: {reason}")),
        }
    }
    Err(ServerError::JoinUnanswered { reasons: reasons.join("; ") })
}

async fn list(url: &Url) -> Result<MemberListResponse, String> {
    let endpoint = Endpoint::from_shared(url.to_string()).map_err(|error| error.to_string())?;
    let endpoint = endpoint.connect_timeout(CONNECT_TIMEOUT).timeout(ANSWER_TIMEOUT);
    let channel = endpoint.connect().await.map_err(|_| "it cannot be reached".to_owned())?;
    let request = MemberListRequest { linearizable: true };
    let answer = ClusterClient::new(channel).member_list(request).await;
    Ok(answer.map_err(|status| status.message().to_owned())?.into_inner())
}

/// What an answer says of the member at `peer_url`.
fn told(
    name: &str,
    peer_url: &Url,
    asked: &Url,
    list: MemberListResponse,
) -> Result<Kept, ServerError> {
    let own_url = peer_url.to_string();
    let (own, others): (Vec<Member>, Vec<Member>) =
        list.members.into_iter().partition(|member| member.peer_urls.contains(&own_url));
    let (Some(own), Some(header)) = (own.first(), list.header) else {
        let (name, url, asked) = (name.to_owned(), own_url, asked.to_string());
        return Err(ServerError::NotAdded { name, url, asked });
    };
    if !own.name.is_empty() {
        let (id, url) = (format!("{:x}", own.id), own_url);
        return Err(ServerError::StartedBefore { id, url });
    }
    let peers = others.into_iter().filter_map(|member| {
        let url: Url = member.peer_urls.first()?.parse().ok()?;
        Some(Peer { id: member.id, address: url.address() })
    });
    Ok(Kept {
        version: VERSION,
        name: name.to_owned(),
        cluster: header.cluster_id,
        member: own.id,
        peers: peers.collect(),
    })
}

impl Kept {
    /// What is kept at `path`, if anything is; it has to be of the member of this name.
    fn read(path: &Path, name: &str) -> Result<Option<Kept>, ServerError> {
        let refuse = |reason: String| {
            Err(ServerError::DataDirectory { path: path.display().to_string(), reason })
        };
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return refuse(error.to_string()),
        };
        match serde_json::from_slice::<Kept>(&text) {
            Ok(kept) if kept.version == VERSION && kept.name == name => Ok(Some(kept)),
            Ok(kept) if kept.version == VERSION => refuse(format!(
                "it is of member {:?}, and this one is called {name:?}: correct --data-dir or --name",
                kept.name
            )),
            Ok(kept) => refuse(format!(
                "it has format {}, and this version reads {VERSION}: use a newer version",
                kept.version
            )),
            Err(error) => refuse(format!(
                "it cannot be understood ({error}): put it back from a backup, or replace this member \
                 as a new one"
            )),
        }
    }

    /// Writes it, whole or not at all.
    fn write(&self, directory: &Path) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        serde_json::to_writer_pretty(&mut file, self)?;
        file.as_file().sync_all()?;
        file.persist(directory.join(FILE))?;
        fs::File::open(directory)?.sync_all()
    }

    fn standing(self) -> Standing {
        Standing {
            owner: Owner { cluster: ClusterId(self.cluster), member: NodeId(self.member) },
            members: self.peers.into_iter().map(|peer| (peer.id, peer.address)).collect(),
            has_joined: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::etcdserverpb::ResponseHeader;

    fn answer(own_name: &str) -> MemberListResponse {
        let member = |id, name: &str, url: &str| Member {
            id,
            name: name.to_owned(),
            peer_urls: vec![url.to_owned()],
            ..Member::default()
        };
        let header = Some(ResponseHeader { cluster_id: 7, ..ResponseHeader::default() });
        let members = vec![member(1, "a", "http://h1:1"), member(4, own_name, "http://h4:1")];
        MemberListResponse { header, members }
    }

    fn joined(own_name: &str, own_url: &str) -> Result<Kept, ServerError> {
        let url = |text: &str| text.parse::<Url>().expect("a URL");
        told("d", &url(own_url), &url("http://h1:2"), answer(own_name))
    }

    #[test]
    fn a_member_that_joins_is_told_who_it_is_and_remembers_it() {
        let kept = joined("", "http://h4:1").expect("it has been added");
        let directory = tempfile::tempdir().expect("a directory");
        kept.write(directory.path()).expect("there is room");
        let path = directory.path().join(FILE);
        assert_eq!(Kept::read(&path, "d"), Ok(Some(kept)));
        let other = Kept::read(&path, "e").expect_err("another name").to_string();
        assert!(other.contains("correct --data-dir or --name"), "{other}");
        let standing = Kept::read(&path, "d").expect("it is there").expect("it is").standing();
        let owner = Owner { cluster: ClusterId(7), member: NodeId(4) };
        let members = vec![(1, "h1:1".to_owned())];
        assert_eq!(standing, Standing { owner, members, has_joined: true });
    }

    #[test]
    fn who_was_not_added_or_was_started_before_is_told_what_to_do() {
        let error = joined("", "http://h5:1").expect_err("nobody knows it").to_string();
        assert!(error.contains("paxos-kv member add d --peer-urls http://h5:1"), "{error}");
        let error = joined("d", "http://h4:1").expect_err("it has lost its data").to_string();
        assert!(error.contains("paxos-kv member remove 4"), "{error}");
    }

    #[test]
    fn a_file_that_cannot_be_understood_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join(FILE);
        for (text, reason) in [
            ("{", "cannot be understood"),
            (r#"{"version":2,"name":"d","cluster":1,"member":1,"peers":[]}"#, "newer version"),
        ] {
            fs::write(&path, text).expect("there is room");
            let error = Kept::read(&path, "d").expect_err(text).to_string();
            assert!(error.contains(reason), "{error}");
        }
        assert_eq!(Kept::read(&directory.path().join("none"), "d"), Ok(None));
    }
}
