//! Addresses of peers: `host:port`, the host a name or an IP address; or several of them, separated by commas, if it is
//! not certain at which of them the peer is.
//!
//! A name is resolved whenever it is dialled, so that a peer may start, or move, later.

use std::fmt;

use paxos_core::port::TransportError;

/// Where a peer listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    host: String,
    port: u16,
}

impl Address {
    /// Understands `text`, without looking anything up.
    pub(crate) fn parse(text: &str) -> Result<Address, TransportError> {
        let wrong = |reason: &str| TransportError::Address {
            address: text.to_owned(),
            reason: format!("{reason}; write host:port, and an IPv6 address in brackets"),
        };
        let (host, port) = text.rsplit_once(':').ok_or_else(|| wrong("it has no port"))?;
        let port = match port.parse() {
            Ok(0) | Err(_) => return Err(wrong("the port is not a number from 1 to 65535")),
            Ok(port) => port,
        };
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match bracketed {
            Some(inner) if inner.parse::<std::net::Ipv6Addr>().is_ok() => inner,
            Some(_) => return Err(wrong("no IPv6 address is in the brackets")),
            None if host.is_empty() => return Err(wrong("it has no host")),
            None if host.contains(['/', ':', '[', ']', ' ']) => {
                return Err(wrong("the host is neither a name nor an IP address"));
            }
            None => host,
        };
        Ok(Address { host: host.to_owned(), port })
    }

    /// The host: what a certificate has to name.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

/// Where a peer may be: at the first address rather than at the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Addresses(Vec<Address>);

impl Addresses {
    /// Understands `text`, without looking anything up.
    pub(crate) fn parse(text: &str) -> Result<Addresses, TransportError> {
        text.split(',').map(Address::parse).collect::<Result<_, _>>().map(Addresses)
    }

    /// Where to try it this time: at each in turn.
    pub(crate) fn of_attempt(&self, attempt: usize) -> &Address {
        &self.0[attempt % self.0.len()]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Address> {
        self.0.iter()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_both_kinds_of_ip_address_are_understood() {
        for text in ["localhost:2380", "db-1.example.com:1", "127.0.0.1:65535", "[::1]:2380"] {
            let address = Address::parse(text).expect(text);
            assert_eq!(address.to_string(), text);
        }
        assert_eq!(Address::parse("[::1]:2380").expect("an address").host(), "::1");
    }

    #[test]
    fn anything_else_is_refused_with_the_remedy() {
        for text in ["", "localhost", ":2380", "a:0", "a:70000", "http://a:1", "::1:2", "[a]:1"] {
            let error = Address::parse(text).expect_err(text).to_string();
            assert!(error.contains("write host:port"), "{error}");
        }
    }
}
