//! Addresses of peers: `host:port`, the host a name or an IP address.
//!
//! A name is resolved whenever it is dialled, so that a peer may start, or move, later.

use std::{fmt, io, net::SocketAddr, time::Duration};

use paxos_core::port::TransportError;

/// How long a connection attempt to one address may take.
const CONNECT_MAX: Duration = Duration::from_secs(2);

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

    /// What comes of the first success of `connect` on what the name stands for at this moment, one
    /// after the other, each for [`CONNECT_MAX`]; or how the last one failed.
    pub(crate) async fn dial<T, F: Future<Output = io::Result<T>>>(
        &self,
        connect: impl Fn(SocketAddr) -> F,
    ) -> io::Result<T> {
        let reason = format!("{} has no address", self.host);
        let mut failure = io::Error::new(io::ErrorKind::NotFound, reason);
        for candidate in tokio::net::lookup_host((&*self.host, self.port)).await? {
            match tokio::time::timeout(CONNECT_MAX, connect(candidate)).await {
                Ok(Ok(connected)) => return Ok(connected),
                Ok(Err(error)) => failure = error,
                Err(_) => failure = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(failure)
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

    #[tokio::test(start_paused = true)]
    async fn an_address_that_refuses_or_says_nothing_fails_in_time() {
        let address = Address::parse("127.0.0.1:2380").expect("an address");
        let refused = address.dial(|_| async { Err::<(), _>(io::ErrorKind::Other.into()) }).await;
        assert_eq!(refused.map_err(|error| error.kind()), Err(io::ErrorKind::Other));
        let silent = address.dial(|_| std::future::pending::<io::Result<()>>()).await;
        assert_eq!(silent.map_err(|error| error.kind()), Err(io::ErrorKind::TimedOut));
        let connected = address.dial(|candidate| async move { Ok(candidate) }).await;
        assert_eq!(connected.expect("it succeeds").to_string(), address.to_string());
    }
}
