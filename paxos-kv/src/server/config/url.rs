//! URLs of members: a scheme, a host and a port, nothing else.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

/// Where a member is reached or listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Url {
    scheme: String,
    host: String,
    port: u16,
}

/// A text that is no such URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Not of the form at all.
    #[error("{0:?} is not of the form scheme://host:port")]
    Form(String),
    /// There is no port.
    #[error("{0:?} names no port: write scheme://host:port")]
    Port(String),
    /// There is something behind the port.
    #[error("{0:?} has a path: write scheme://host:port and nothing behind it")]
    Path(String),
}

impl Url {
    /// The URL of its parts. An IPv6 address as a host stands in brackets.
    ///
    /// Scheme and host are in small letters, and an address is in its shortest form: what is the same is
    /// equal.
    #[must_use]
    pub fn new(scheme: &str, host: &str, port: u16) -> Url {
        let address = inside_brackets(host).and_then(|address| address.parse::<Ipv6Addr>().ok());
        let host = match address {
            Some(address) => format!("[{address}]"),
            None => host.to_ascii_lowercase(),
        };
        Url { scheme: scheme.to_ascii_lowercase(), host, port }
    }

    /// What stands before `://`, in small letters.
    #[must_use]
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// Host and port, as a socket wants them.
    #[must_use]
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Whether the host stands for all addresses of this machine: one can listen there, but
    /// nobody can connect to it from elsewhere.
    #[must_use]
    pub fn is_unspecified(&self) -> bool {
        self.ip().is_some_and(|address| address.is_unspecified())
    }

    /// The host, if it is an address.
    fn ip(&self) -> Option<IpAddr> {
        inside_brackets(&self.host).unwrap_or(&self.host).parse().ok()
    }

    /// Whether who listens on the one cannot listen on the other: the same port of the same host, or of all
    /// addresses.
    #[must_use]
    pub fn clashes_with(&self, other: &Url) -> bool {
        let is_same = self.host == other.host || self.is_unspecified() || other.is_unspecified();
        self.port != 0 && self.port == other.port && is_same
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The same with another port.
    #[must_use]
    pub fn with_port(mut self, port: u16) -> Url {
        self.port = port;
        self
    }

    /// A list separated by commas; blanks around them and empty places do not count.
    ///
    /// # Errors
    ///
    /// If one of them is no URL.
    pub fn parse_list(text: &str) -> Result<Vec<Url>, UrlError> {
        text.split(',').map(str::trim).filter(|url| !url.is_empty()).map(str::parse).collect()
    }
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Url, UrlError> {
        let form = || UrlError::Form(text.to_owned());
        let uri: http::Uri = text.parse().map_err(|_| form())?;
        let scheme = uri.scheme_str().ok_or_else(form)?;
        let authority = uri.authority().ok_or_else(form)?;
        let host = authority.host();
        // `Uri` lets brackets pass that are not around an address.
        let has_stray_brackets = match inside_brackets(host) {
            Some(address) => address.parse::<Ipv6Addr>().is_err(),
            None => host.contains(['[', ']']),
        };
        if host.is_empty() || has_stray_brackets || authority.as_str().contains('@') {
            return Err(form());
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(UrlError::Path(text.to_owned()));
        }
        let port = authority.port_u16().ok_or_else(|| UrlError::Port(text.to_owned()))?;
        Ok(Url::new(scheme, host, port))
    }
}

/// The address of a host that is one of IPv6.
fn inside_brackets(host: &str) -> Option<&str> {
    host.strip_prefix('[')?.strip_suffix(']')
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.scheme, self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_scheme_host_and_port() {
        for text in ["http://127.0.0.1:2379", "quic://[::1]:2380", "https://a.example:1"] {
            let url: Url = text.parse().expect(text);
            assert_eq!(url.to_string(), text);
        }
        let url: Url = "http://localhost:2379/".parse().expect("a path of one slash is none");
        assert_eq!(url.address(), "localhost:2379");
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "localhost:2379", "http://", "http://u@h:1", "unix:///tmp/x", "a b"] {
            assert!(matches!(text.parse::<Url>(), Err(UrlError::Form(_))), "{text}");
        }
        assert!(matches!("http://host".parse::<Url>(), Err(UrlError::Port(_))));
        assert!("http://h:99999".parse::<Url>().is_err());
        assert!(matches!("http://h:1/path".parse::<Url>(), Err(UrlError::Path(_))));
        assert!(matches!("http://h:1/?q".parse::<Url>(), Err(UrlError::Path(_))));
    }

    #[test]
    fn what_is_the_same_is_equal() {
        let url = |text: &str| text.parse::<Url>().expect(text);
        assert_eq!(url("http://[0:0:0:0:0:0:0:1]:1"), url("http://[::1]:1"));
        assert_eq!(url("HTTP://Host.Example:1"), url("http://host.example:1"));
        assert_eq!(Url::new("http", "[0::1]", 1), url("http://[::1]:1"));
        assert_ne!(url("http://a:1"), url("http://a:2"));
    }

    #[test]
    fn listeners_clash_on_one_port_of_one_host_or_of_all() {
        let clash = |one: &str, other: &str| {
            let [one, other] = [one, other].map(|text| text.parse::<Url>().expect(text));
            assert_eq!(one.clashes_with(&other), other.clashes_with(&one));
            one.clashes_with(&other)
        };
        assert!(clash("http://a:1", "http://A:1") && clash("http://0.0.0.0:1", "http://a:1"));
        assert!(clash("http://[::]:1", "http://127.0.0.1:1"));
        assert!(!clash("http://a:1", "http://a:2") && !clash("http://a:1", "http://b:1"));
        assert!(!clash("http://a:0", "http://a:0"));
    }

    #[test]
    fn brackets_stand_around_an_address_only() {
        for text in
            ["http://a[:1", "http://a[b:1", "http://[::1]a[:1", "http://a[[::1]:1", "http://[a]:1"]
        {
            assert!(text.parse::<Url>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_unspecified_host_is_known_as_such() {
        let is_unspecified = |text: &str| text.parse::<Url>().expect("a URL").is_unspecified();
        assert!(is_unspecified("http://0.0.0.0:1") && is_unspecified("http://[::]:1"));
        assert!(!is_unspecified("http://127.0.0.1:1") && !is_unspecified("http://name:1"));
    }

    #[test]
    fn a_list_is_separated_by_commas() {
        let urls = Url::parse_list("http://a:1, http://b:2,").expect("two");
        assert_eq!(urls, [Url::new("http", "a", 1), Url::new("http", "b", 2)]);
        assert!(Url::parse_list("http://a:1,b").is_err());
    }
}
