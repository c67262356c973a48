//! Who belongs to the cluster, and the ids that follow from it.
//!
//! Every member computes the same ids from the same `--initial-cluster` and
//! `--initial-cluster-token`, so nobody has to hand them out. The token is part of each: two
//! clusters on one network that differ in it refuse each other's members.

use paxos_core::types::{ClusterId, NodeId};
use xxhash_rust::xxh3::Xxh3;

use super::{ConfigError, url::Url};

/// A member as the others are told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Where the others reach it.
    pub peer_url: Url,
}

/// The members of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterMap {
    id: ClusterId,
    members: Vec<Member>,
}

impl ClusterMap {
    /// The cluster that `--initial-cluster` describes: `name=url,name=url,…`. A member's id follows from its
    /// URL and the token.
    ///
    /// # Errors
    ///
    /// If the text has another form, or a name or a URL is given twice.
    pub fn parse(initial_cluster: &str, token: &str) -> Result<ClusterMap, ConfigError> {
        let mut members = Vec::new();
        for entry in initial_cluster.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let (name, url) = entry.split_once('=').ok_or_else(|| {
                ConfigError::InitialCluster(format!("{entry:?} is not of the form name=url"))
            })?;
            if name.is_empty() {
                let reason = format!("{entry:?} has no name before the '='");
                return Err(ConfigError::InitialCluster(reason));
            }
            let url = url.parse::<Url>().map_err(|error| {
                ConfigError::InitialCluster(format!("the URL of member {name}: {error}"))
            })?;
            members.push((name.to_owned(), url));
        }
        ClusterMap::of(members, token, |_, url| url.to_string())
    }

    /// A cluster whose members keep their ids when their URLs change, because the ids follow from
    /// their names and the token.
    ///
    /// # Errors
    ///
    /// If a name or a URL is given twice.
    pub fn by_name(
        members: impl IntoIterator<Item = (String, Url)>,
        token: &str,
    ) -> Result<ClusterMap, ConfigError> {
        ClusterMap::of(members, token, |name, _| name.to_owned())
    }

    fn of(
        members: impl IntoIterator<Item = (String, Url)>,
        token: &str,
        identified_by: impl Fn(&str, &Url) -> String,
    ) -> Result<ClusterMap, ConfigError> {
        let mut result: Vec<Member> = Vec::new();
        for (name, url) in members {
            let refuse = |reason| Err(ConfigError::InitialCluster(reason));
            if let Some(other) = result.iter().find(|other| other.peer_url == url) {
                return refuse(format!(
                    "{url} is given twice, to {} and to {name}: give each member a URL of its own",
                    other.name
                ));
            }
            if let Some(other) = result.iter().find(|other| other.name == name) {
                return refuse(format!(
                    "the name {name} is given twice, with {} and with {url}: give each member a name of \
                     its own, and one URL",
                    other.peer_url
                ));
            }
            let id = NodeId(hash(&[identified_by(&name, &url)], token));
            result.push(Member { id, name, peer_url: url });
        }
        result.sort_by_key(|member| member.id);
        if let Some(pair) = result.windows(2).find(|pair| pair[0].id == pair[1].id) {
            let reason = format!(
                "{} and {} happen to get the same id: use another --initial-cluster-token",
                pair[0].name, pair[1].name
            );
            return Err(ConfigError::InitialCluster(reason));
        }
        let ids: Vec<_> = result.iter().map(|member| member.id.to_string()).collect();
        Ok(ClusterMap { id: ClusterId(hash(&ids, token)), members: result })
    }

    /// The cluster's id.
    #[must_use]
    pub fn id(&self) -> ClusterId {
        self.id
    }

    /// Its members, by id.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The member of a name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.name == name)
    }

    /// The name of a member, for messages; its id if it came later.
    #[must_use]
    pub fn name_of(&self, id: NodeId) -> String {
        let member = self.members.iter().find(|member| member.id == id);
        member.map_or_else(|| format!("{:x}", id.0), |member| member.name.clone())
    }

    /// The scheme of all peer URLs.
    pub(crate) fn peer_scheme(&self) -> &str {
        self.members.first().map_or("http", |member| member.peer_url.scheme())
    }
}

/// A number that is not zero, the same on every machine and in every version.
fn hash(parts: &[String], token: &str) -> u64 {
    let mut hasher = Xxh3::new();
    for part in parts.iter().map(String::as_str).chain([token]) {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.digest().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE: &str = "a=http://h1:1,b=http://h2:1,c=http://h3:1";

    fn parse(text: &str) -> ClusterMap {
        ClusterMap::parse(text, "token").expect(text)
    }

    #[test]
    fn ids_do_not_depend_on_the_order_but_on_urls_and_token() {
        let cluster = parse(THREE);
        assert_eq!(cluster, parse("c=http://h3:1, b=http://h2:1, a=http://h1:1"));
        assert_eq!(cluster.members().len(), 3);
        assert!(cluster.members().iter().all(|member| member.id != NodeId(0)));
        assert_ne!(cluster.id(), ClusterMap::parse(THREE, "other").expect("fine").id());
        let moved = parse("a=http://h1:2,b=http://h2:1,c=http://h3:1");
        assert_ne!(moved.id(), cluster.id());
        assert_eq!(moved.named("b"), cluster.named("b"));
    }

    /// The ids stand in every data directory: a change of the hash would lock everybody out.
    #[test]
    fn ids_never_change_between_versions() {
        let cluster = parse("default=http://localhost:2380");
        let member = &cluster.members()[0];
        assert_eq!((cluster.id().0, member.id.0), (PINNED_CLUSTER, PINNED_MEMBER));
    }

    const PINNED_CLUSTER: u64 = 4_663_510_204_722_972_359;
    const PINNED_MEMBER: u64 = 15_195_349_105_860_882_893;

    #[test]
    fn ids_by_name_survive_a_change_of_urls() {
        let members = |port| {
            let url = move |host: &str| Url::new("http", host, port);
            [("a".to_owned(), url("h1")), ("b".to_owned(), url("h2"))]
        };
        let before = ClusterMap::by_name(members(1), "token").expect("fine");
        let after = ClusterMap::by_name(members(2), "token").expect("fine");
        assert_eq!(before.id(), after.id());
        assert_eq!(before.named("a").map(|m| m.id), after.named("a").map(|m| m.id));
    }

    #[test]
    fn another_form_is_refused_with_the_reason() {
        for (text, reason) in [
            ("http://h:1", "form name=url"),
            ("=http://h:1", "no name"),
            ("a=h:1", "URL of member a"),
            ("a=http://h:1,b=http://h:1", "http://h:1 is given twice, to a and to b"),
            ("a=http://h:1,b=http://H:1", "http://h:1 is given twice"),
            ("a=http://[::1]:1,b=http://[0:0:0:0:0:0:0:1]:1", "http://[::1]:1 is given twice"),
            (
                "a=http://h:1,a=http://h:2,b=http://h:3",
                "the name a is given twice, with http://h:1",
            ),
            ("n1=http://h:1,n1=http://h:2,n1=http://h:3", "the name n1 is given twice"),
        ] {
            let error = ClusterMap::parse(text, "token").expect_err(text).to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
