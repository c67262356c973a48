//! Many commands, and how long each took: clients that put, and now and then delete, as fast as a rate
//! allows, over those servers that are not away.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use fastrand::Rng;
use paxos_kv::proto::etcdserverpb::{DeleteRangeRequest, PutRequest, kv_client::KvClient};
use tokio::{task::JoinSet, time::timeout};
use tonic::transport::Channel;

use super::wire::connect;

/// Clients at once.
const CLIENTS: usize = 32;

/// How long a client waits for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// How long it waits after a failure.
const FAILURE_PAUSE: Duration = Duration::from_millis(50);

/// Of so many commands one deletes its key.
const DELETION_EACH: u64 = 20;

struct Shared {
    channels: Vec<Channel>,
    away: Vec<AtomicBool>,
    keys: u64,
    value_bytes: usize,
    stop: AtomicBool,
    /// Between two commands of a client, at least, in nanoseconds.
    interval: AtomicU64,
    done: AtomicU64,
    latencies: Mutex<Vec<Duration>>,
}

/// Clients at work.
pub(crate) struct Stream {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

impl Stream {
    /// Starts them; they write so many keys, with values of so many bytes.
    pub(crate) fn start(endpoints: &[String], keys: u64, value_bytes: usize) -> Stream {
        let shared = Arc::new(Shared {
            channels: endpoints.iter().map(|endpoint| connect(endpoint)).collect(),
            away: endpoints.iter().map(|_| AtomicBool::new(false)).collect(),
            keys,
            value_bytes,
            stop: AtomicBool::new(false),
            interval: AtomicU64::new(0),
            done: AtomicU64::new(0),
            latencies: Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        for client in 0..CLIENTS {
            tasks.spawn(Arc::clone(&shared).client(client));
        }
        Stream { shared, tasks }
    }

    /// So many commands per second from now on, at most.
    pub(crate) fn set_rate(&self, rate: f64) {
        let interval = Duration::from_secs_f64(CLIENTS as f64 / rate);
        let interval = u64::try_from(interval.as_nanos()).expect("below centuries");
        self.shared.interval.store(interval, Ordering::Relaxed);
    }

    /// Commands that have been answered.
    pub(crate) fn done(&self) -> u64 {
        self.shared.done.load(Ordering::Relaxed)
    }

    /// Clients use the other servers meanwhile.
    pub(crate) fn set_away(&self, server: usize, is_away: bool) {
        self.shared.away[server].store(is_away, Ordering::Relaxed);
    }

    /// The 99th percentile of the latencies since this was asked last.
    pub(crate) fn p99(&self) -> Duration {
        let latencies = &self.shared.latencies;
        let mut latencies =
            std::mem::take(&mut *latencies.lock().unwrap_or_else(PoisonError::into_inner));
        latencies.sort_unstable();
        latencies.get(latencies.len() * 99 / 100).copied().unwrap_or_default()
    }

    /// Ends them, once each has its answer.
    pub(crate) async fn stop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("no client panics");
        }
    }
}

impl Shared {
    async fn client(self: Arc<Shared>, number: usize) {
        let mut rng = Rng::with_seed(number as u64);
        while !self.stop.load(Ordering::Relaxed) {
            let began = Instant::now();
            match timeout(ANSWER_MAX, self.command(number, &mut rng)).await {
                Ok(true) => {
                    self.done.fetch_add(1, Ordering::Relaxed);
                    let mut latencies =
                        self.latencies.lock().unwrap_or_else(PoisonError::into_inner);
                    latencies.push(began.elapsed());
                }
                Ok(false) | Err(_) => tokio::time::sleep(FAILURE_PAUSE).await,
            }
            let interval = Duration::from_nanos(self.interval.load(Ordering::Relaxed));
            tokio::time::sleep(interval.saturating_sub(began.elapsed())).await;
        }
    }

    async fn command(&self, number: usize, rng: &mut Rng) -> bool {
        let there = |server: &usize| !self.away[*server].load(Ordering::Relaxed);
        let servers: Vec<_> = (0..self.channels.len()).filter(there).collect();
        let mut client = KvClient::new(self.channels[servers[number % servers.len()]].clone());
        let key = format!("key{:09}", rng.u64(..self.keys)).into();
        if rng.u64(..DELETION_EACH) == 0 {
            let request = DeleteRangeRequest { key, ..DeleteRangeRequest::default() };
            return client.delete_range(request).await.is_ok();
        }
        let length = self.value_bytes;
        let value = format!("{:x<length$}", rng.u64(..)).into();
        client.put(PutRequest { key, value, ..PutRequest::default() }).await.is_ok()
    }
}
