//! Clients at work while servers fail, and what must hold afterwards.
//!
//! A *writer* puts each key once and never tries again, so a key of version 2 was applied twice,
//! and an acknowledged key that is missing was lost. The *ticker* puts one key over and over;
//! *readers* note the revision it was last acknowledged at before each linearizable read, so an
//! answer of a lower one is stale.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::task::JoinHandle;
use tonic::transport::Channel;

use super::client::{Failed, connect, get, get_prefix, put};

/// Clients that write at the same time.
const WRITERS: usize = 4;

/// Reads that wait for a frozen server.
const READS_FROM_FROZEN: usize = 20;

/// The key of the ticker.
const TICKER: &str = "ticker";

/// How long a client waits after a failure: so as not to fill the log of a server that is down.
const PAUSE: Duration = Duration::from_millis(20);

/// An acknowledged write.
struct Acknowledged {
    began: Instant,
    ended: Instant,
    revision: i64,
}

/// What the clients have seen.
#[derive(Default)]
struct Seen {
    stop: AtomicBool,
    acknowledged: Mutex<BTreeMap<String, Acknowledged>>,
    ticked: AtomicI64,
    reads: AtomicU64,
    stale: Mutex<Vec<String>>,
}

/// Clients at work.
pub(crate) struct Workload {
    seen: Arc<Seen>,
    tasks: Vec<JoinHandle<()>>,
}

impl Workload {
    /// Starts writers, the ticker and a reader per server.
    pub(crate) fn start(endpoints: &[String]) -> Workload {
        let seen = Arc::new(Seen::default());
        let channels: Vec<_> = endpoints.iter().map(|endpoint| connect(endpoint)).collect();
        let mut tasks = Vec::new();
        for writer in 0..WRITERS {
            tasks.push(tokio::spawn(write(writer, channels.clone(), Arc::clone(&seen))));
        }
        tasks.push(tokio::spawn(tick(channels.clone(), Arc::clone(&seen))));
        for channel in channels {
            tasks.push(tokio::spawn(read(channel, Arc::clone(&seen))));
        }
        Workload { seen, tasks }
    }

    /// How many writes have been acknowledged.
    pub(crate) fn acknowledged(&self) -> usize {
        self.seen.acknowledged.lock().expect("no client panics").len()
    }

    /// Waits until so many more writes have been acknowledged.
    pub(crate) async fn progress(&self, writes: usize) {
        let goal = self.acknowledged() + writes;
        let deadline = Instant::now() + super::PATIENCE;
        while self.acknowledged() < goal {
            assert!(Instant::now() < deadline, "the writers do not come forward");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// How long after `failure` the first write that began after it was acknowledged.
    pub(crate) async fn outage(&self, failure: Instant) -> Duration {
        let deadline = Instant::now() + super::PATIENCE;
        loop {
            let first = {
                let acknowledged = self.seen.acknowledged.lock().expect("no client panics");
                let after = acknowledged.values().filter(|write| write.began >= failure);
                after.map(|write| write.ended - failure).min()
            };
            if let Some(first) = first {
                return first;
            }
            assert!(Instant::now() < deadline, "service does not come back");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The longest time since `began` in which no write was acknowledged, as far as it has ended.
    pub(crate) fn longest_gap(&self, began: Instant) -> Duration {
        let acknowledged = self.seen.acknowledged.lock().expect("no client panics");
        let ends = acknowledged.values().map(|write| write.ended).filter(|ended| *ended > began);
        let mut ends: Vec<_> = [began].into_iter().chain(ends).collect();
        ends.sort_unstable();
        let gaps = ends.windows(2).map(|pair| pair[1] - pair[0]);
        gaps.max().expect("something has been acknowledged since")
    }

    /// Sends reads to a server that is frozen. They wait in its sockets, and are the first that it
    /// sees when it wakes up: if it still takes itself for the leader, its answers are stale.
    pub(crate) fn read_from_frozen(&self, endpoint: &str) -> Vec<JoinHandle<()>> {
        let reads = (0..READS_FROM_FROZEN).map(|_| {
            let (channel, seen) = (connect(endpoint), Arc::clone(&self.seen));
            tokio::spawn(async move { read_once(&channel, &seen).await.expect("it is answered") })
        });
        reads.collect()
    }

    /// Ends the clients and checks every server: nothing lost, nothing twice, nothing stale, and
    /// all servers hold the same.
    pub(crate) async fn finish(self, endpoints: &[String]) {
        self.seen.stop.store(true, Ordering::SeqCst);
        for task in self.tasks {
            task.await.expect("no client panics");
        }
        let seen = Arc::into_inner(self.seen).expect("the clients have ended");
        let nobody_panicked = "no client panics";
        let stale = seen.stale.into_inner().expect(nobody_panicked);
        assert!(stale.is_empty(), "stale reads: {stale:?}");
        assert!(seen.reads.into_inner() > 0, "nobody has read");
        let acknowledged = seen.acknowledged.into_inner().expect(nobody_panicked);
        assert!(!acknowledged.is_empty(), "nothing was acknowledged");
        let mut first: Option<(i64, Vec<_>)> = None;
        for endpoint in endpoints {
            let channel = connect(endpoint);
            let at = first.as_ref().map_or(0, |(revision, _)| *revision);
            let response = get_prefix(&channel, "w", at).await.expect("the server answers");
            let kvs = response.kvs;
            check(&acknowledged, &kvs, endpoint);
            match &first {
                None => {
                    let revision = response.header.expect("every answer has one").revision;
                    first = Some((revision, kvs));
                }
                Some((_, expected)) => assert!(*expected == kvs, "{endpoint} holds something else"),
            }
        }
    }
}

fn check(
    acknowledged: &BTreeMap<String, Acknowledged>,
    kvs: &[paxos_kv::proto::mvccpb::KeyValue],
    endpoint: &str,
) {
    let found: BTreeMap<_, _> = kvs.iter().map(|kv| (&kv.key[..], kv)).collect();
    for (key, write) in acknowledged {
        let kv = found.get(key.as_bytes());
        let kv = kv.unwrap_or_else(|| panic!("{endpoint} lost {key}, which was acknowledged"));
        assert_eq!(kv.mod_revision, write.revision, "{key} was acknowledged at another revision");
    }
    for kv in kvs {
        assert_eq!(kv.version, 1, "{:?} was applied more than once", kv.key);
    }
}

/// Writes one key after the other, at another server after each failure.
async fn write(writer: usize, channels: Vec<Channel>, seen: Arc<Seen>) {
    let mut server = writer;
    for number in 0u64.. {
        if seen.stop.load(Ordering::SeqCst) {
            return;
        }
        let key = format!("w{writer}/{number:08}");
        let began = Instant::now();
        match put(&channels[server % channels.len()], &key, &key).await {
            Ok(revision) => {
                let write = Acknowledged { began, ended: Instant::now(), revision };
                seen.acknowledged.lock().expect("no client panics").insert(key, write);
            }
            Err(Failed(_)) => {
                server += 1;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Puts the one key over and over.
async fn tick(channels: Vec<Channel>, seen: Arc<Seen>) {
    let mut server = 0;
    while !seen.stop.load(Ordering::SeqCst) {
        match put(&channels[server % channels.len()], TICKER, "tick").await {
            Ok(revision) => seen.ticked.store(revision, Ordering::SeqCst),
            Err(Failed(_)) => {
                server += 1;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Reads the one key from one server.
async fn read(channel: Channel, seen: Arc<Seen>) {
    while !seen.stop.load(Ordering::SeqCst) {
        if read_once(&channel, &seen).await.is_err() {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn read_once(channel: &Channel, seen: &Seen) -> Result<(), Failed> {
    let acknowledged = seen.ticked.load(Ordering::SeqCst);
    let revision = get(channel, TICKER).await?.map_or(0, |kv| kv.mod_revision);
    seen.reads.fetch_add(1, Ordering::SeqCst);
    if revision < acknowledged {
        let stale = format!("{revision} was read, {acknowledged} was acknowledged");
        seen.stale.lock().expect("no client panics").push(stale);
    }
    Ok(())
}
