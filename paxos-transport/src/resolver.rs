//! What names stand for, by the system's resolver.
//!
//! That resolver blocks, for most of a minute if its nameserver says nothing. So every look-up has a
//! thread of its own, which nobody waits for at the end: tokio's threads for blocking work would hold
//! the runtime's end up, and with it the process's. A name is looked up once at a time, whoever asks.

use std::{
    collections::BTreeMap,
    fmt, io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use tokio::sync::watch;

type Lookup = fn(&str, u16) -> io::Result<Vec<SocketAddr>>;

/// What a look-up has found, once it has ended. Errors go to everybody who waits, as words.
type Answer = watch::Receiver<Option<Result<Vec<SocketAddr>, String>>>;

/// Looks names up. Cheap to clone; clones are the same resolver.
#[derive(Clone)]
pub(crate) struct Resolver {
    lookup: Lookup,
    running: Arc<Mutex<BTreeMap<(String, u16), Answer>>>,
}

impl Default for Resolver {
    fn default() -> Self {
        Resolver::by(|host, port| Ok((host, port).to_socket_addrs()?.collect()))
    }
}

impl Resolver {
    fn by(lookup: Lookup) -> Resolver {
        Resolver { lookup, running: Arc::default() }
    }

    /// What `host` stands for at this moment, with `port`. Cancel safe: the look-up goes on, for the next to ask.
    pub(crate) async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![(ip, port).into()]);
        }
        let mut answer = self.ask(host, port)?;
        let answered = answer.wait_for(Option::is_some).await;
        let answered = answered.map_err(|_| io::Error::other("the look-up has panicked"))?;
        let found = answered.as_ref().expect("waited for it");
        found.clone().map_err(|error| io::Error::other(format!("cannot resolve {host}: {error}")))
    }

    /// What `text`, `host:port`, stands for, to listen there; any port.
    pub(crate) async fn resolve_own(&self, text: &str) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = text.parse() {
            return Ok(vec![address]);
        }
        let wrong = || io::Error::new(io::ErrorKind::InvalidInput, "write host:port");
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        self.resolve(host, port.parse().map_err(|_| wrong())?).await
    }

    /// The look-up that is running, or a new one.
    fn ask(&self, host: &str, port: u16) -> io::Result<Answer> {
        let name = (host.to_owned(), port);
        let mut running = self.running();
        if let Some(answer) = running.get(&name) {
            return Ok(answer.clone());
        }
        let (sender, answer) = watch::channel(None);
        let (lookup, all) = (self.lookup, self.clone());
        let key = name.clone();
        thread::Builder::new().name("paxos-resolver".to_owned()).spawn(move || {
            let found = lookup(&name.0, name.1).map_err(|error| error.to_string());
            all.running().remove(&name);
            sender.send_replace(Some(found));
        })?;
        running.insert(key, answer.clone());
        Ok(answer)
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<(String, u16), Answer>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("running", &self.running().len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::{Duration, Instant},
    };

    use super::*;

    #[tokio::test]
    async fn names_are_looked_up_and_ip_addresses_are_not() {
        let found = Resolver::default().resolve("localhost", 7).await.expect("everywhere");
        assert!(
            found.iter().all(|found| found.ip().is_loopback() && found.port() == 7),
            "{found:?}"
        );
        let nothing = Resolver::by(|_, _| panic!("no look-up"));
        for (ip, text) in [("127.0.0.1", "127.0.0.1:7"), ("::1", "[::1]:7")] {
            let expected = [text.parse().expect("a socket address")];
            assert_eq!(nothing.resolve(ip, 7).await.expect("an IP address"), expected);
            assert_eq!(nothing.resolve_own(text).await.expect("an IP address"), expected);
        }
        let own = Resolver::default().resolve_own("localhost:0").await.expect("everywhere");
        assert!(own.iter().all(|own| own.ip().is_loopback()), "{own:?}");
        for nonsense in ["localhost", "localhost:x", ""] {
            let error = nothing.resolve_own(nonsense).await.expect_err("no address");
            assert_eq!(error.to_string(), "write host:port");
        }
    }

    #[tokio::test]
    async fn a_failure_names_the_host_and_the_next_to_ask_looks_again() {
        static LOOKUPS: AtomicUsize = AtomicUsize::new(0);
        let resolver = Resolver::by(|_, _| match LOOKUPS.fetch_add(1, Ordering::SeqCst) {
            0 => Err(io::Error::other("no such name")),
            _ => Ok(vec![([127, 0, 0, 1], 7).into()]),
        });
        let error = resolver.resolve("nowhere", 7).await.expect_err("the first time");
        assert_eq!(error.to_string(), "cannot resolve nowhere: no such name");
        assert_eq!(resolver.resolve("nowhere", 7).await.expect("the second").len(), 1);
    }

    /// Many ask, one looks up, and neither those who have asked nor the runtime's end wait for it.
    #[test]
    fn a_nameserver_that_never_answers_holds_nobody_up() {
        static LOOKUPS: AtomicUsize = AtomicUsize::new(0);
        let resolver = Resolver::by(|_, _| {
            LOOKUPS.fetch_add(1, Ordering::SeqCst);
            loop {
                thread::park();
            }
        });
        let begun = Instant::now();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        runtime.block_on(async {
            for _ in 0..10 {
                let answer = resolver.resolve("silent", 7);
                tokio::time::timeout(Duration::from_millis(1), answer)
                    .await
                    .expect_err("no answer");
            }
        });
        drop(runtime);
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        assert_eq!(LOOKUPS.load(Ordering::SeqCst), 1);
    }
}
