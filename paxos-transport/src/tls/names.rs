//! Which nodes a certificate is for.
//!
//! It has to name the host of the node's address, as whoever dials it expects anyhow. Nodes that share a
//! host, or a certificate, are told apart by names of nodes, which a certificate may hold beside those of
//! hosts: as a URI, `urn:paxos:node:` with the node's id, or `urn:paxos:name:` with its name. If there are
//! any, it is for these nodes alone.

use rustls_pki_types::{CertificateDer, ServerName};
use webpki::EndEntityCert;

use crate::refusals::Who;

const NODE_PREFIX: &str = "urn:paxos:node:";
const NAME_PREFIX: &str = "urn:paxos:name:";

/// Whether `certificate` is for a node that is dialled at `host`; if not, what is wrong with it.
pub(crate) fn check_names(
    certificate: &CertificateDer<'_>,
    host: Option<&str>,
    who: &Who,
) -> Result<(), String> {
    let certificate = EndEntityCert::try_from(certificate)
        .map_err(|error| format!("cannot be understood ({error})"))?;
    if let Some(host) = host {
        let name = ServerName::try_from(host);
        let name = name.map_err(|_| format!("cannot name {host}, which is no name of a host"))?;
        let is_named = certificate.verify_is_valid_for_subject_name(&name).is_ok();
        is_named.then_some(()).ok_or_else(|| format!("does not name {host}"))?;
    }
    let is_of_nodes = |uri: &&str| uri.starts_with(NODE_PREFIX) || uri.starts_with(NAME_PREFIX);
    let nodes: Vec<&str> = certificate.valid_uri_names().filter(is_of_nodes).collect();
    if nodes.is_empty() || nodes.iter().any(|uri| is_of(uri, who)) {
        return Ok(());
    }
    let nodes: Vec<String> = nodes.iter().map(|uri| uri.escape_default().to_string()).collect();
    Err(format!("is that of {}", nodes.join(", ")))
}

fn is_of(uri: &str, who: &Who) -> bool {
    match (uri.strip_prefix(NODE_PREFIX), uri.strip_prefix(NAME_PREFIX)) {
        (Some(id), _) => id.parse() == Ok(who.id.0),
        (_, Some(name)) => Some(name) == who.name.as_deref(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use paxos_core::types::NodeId;
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn certificate(hosts: &[&str], uris: &[&str]) -> CertificateDer<'static> {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut parameters = CertificateParams::new(hosts).expect("names of hosts");
        let uri = |uri: &&str| SanType::URI((*uri).try_into().expect("plain"));
        parameters.subject_alt_names.extend(uris.iter().map(uri));
        let key = KeyPair::generate().expect("a key");
        parameters.self_signed(&key).expect("signs").der().clone()
    }

    fn check(
        certificate: &CertificateDer<'_>,
        host: &str,
        id: u64,
        name: &str,
    ) -> Result<(), String> {
        let who = Who { id: NodeId(id), name: Some(name.to_owned()) };
        check_names(certificate, Some(host), &who)
    }

    #[test]
    fn a_certificate_is_for_the_hosts_it_names() {
        let of_hosts = certificate(&["db-1.example.com", "10.0.0.1"], &[]);
        for host in ["db-1.example.com", "10.0.0.1"] {
            assert_eq!(check(&of_hosts, host, 1, "a"), Ok(()));
        }
        for host in ["db-2.example.com", "10.0.0.2", "::1"] {
            assert_eq!(check(&of_hosts, host, 1, "a"), Err(format!("does not name {host}")));
        }
        let error = check(&of_hosts, "not a host", 1, "a").expect_err("no name");
        assert!(error.contains("no name of a host"), "{error}");
        check_names(&b"nonsense"[..].into(), None, &Who { id: NodeId(1), name: None })
            .expect_err("none");
    }

    #[test]
    fn a_certificate_that_names_nodes_is_for_these_alone() {
        let of_node = certificate(&["h"], &["urn:paxos:node:7", "https://example.com"]);
        assert_eq!(check(&of_node, "h", 7, "a"), Ok(()));
        assert_eq!(check(&of_node, "h", 8, "7"), Err("is that of urn:paxos:node:7".to_owned()));
        check(&of_node, "other", 7, "a").expect_err("the host is wrong");
        let of_names = certificate(&["h"], &["urn:paxos:name:a", "urn:paxos:name:b"]);
        assert_eq!(check(&of_names, "h", 7, "b"), Ok(()));
        let error = check(&of_names, "h", 7, "c").expect_err("neither");
        assert_eq!(error, "is that of urn:paxos:name:a, urn:paxos:name:b");
        let other = certificate(&["h"], &["https://example.com"]);
        assert_eq!(check(&other, "h", 7, "a"), Ok(()), "that is no name of a node");
    }
}
