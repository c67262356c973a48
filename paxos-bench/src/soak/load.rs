//! The clients: each puts a value under a key picked at random, waits for the answer, and does it again.

use std::{
    future::Future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use hdrhistogram::Histogram;
use paxos_kv::proto::etcdserverpb::{CompactionRequest, PutRequest, kv_client::KvClient};
use tokio::{task::JoinSet, time::timeout};
use tonic::transport::{Channel, Endpoint};

/// How long a client waits: longer than a server does.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// How long a client waits when it has been refused.
const PAUSE: Duration = Duration::from_millis(50);

/// Latencies above it count as this, in microseconds.
const LATENCY_MAX: u64 = 60_000_000;

/// How large everything is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) clients: usize,
    /// Commands per second; 0 without a bound.
    pub(crate) rate: f64,
    pub(crate) keys: u64,
    pub(crate) value_bytes: usize,
}

/// What all clients share.
struct Shared {
    channels: Vec<Channel>,
    /// Of each member, whether its clients go to the next one.
    away: Vec<AtomicBool>,
    commands: AtomicU64,
    failed: AtomicU64,
    /// Commands that have been begun, for the rate.
    begun: AtomicU64,
    revision: AtomicI64,
    latencies: Mutex<Histogram<u64>>,
    start: Instant,
    shape: Shape,
}

/// Clients at work. They end with it.
pub(crate) struct Load {
    shared: Arc<Shared>,
    clients: JoinSet<()>,
}

impl Load {
    /// Starts the clients, spread over the members.
    pub(crate) fn start(endpoints: &[String], shape: &Shape) -> Load {
        let channel = |endpoint: &String| {
            let endpoint =
                Endpoint::from_shared(endpoint.clone()).expect("it has been parsed before");
            endpoint.connect_timeout(Duration::from_secs(1)).tcp_nodelay(true).connect_lazy()
        };
        let shared = Arc::new(Shared {
            channels: endpoints.iter().map(channel).collect(),
            away: endpoints.iter().map(|_| AtomicBool::new(false)).collect(),
            commands: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            begun: AtomicU64::new(0),
            revision: AtomicI64::new(0),
            latencies: Mutex::new(histogram()),
            start: Instant::now(),
            shape: *shape,
        });
        let mut clients = JoinSet::new();
        for number in 0..shape.clients {
            clients.spawn(Arc::clone(&shared).client(number));
        }
        Load { shared, clients }
    }

    /// Commands that have been answered.
    pub(crate) fn commands(&self) -> u64 {
        self.shared.commands.load(Ordering::Relaxed)
    }

    /// The 99th percentile of the latencies since this was asked last, in milliseconds, and how many
    /// commands have failed since.
    pub(crate) fn latency(&self) -> (f64, u64) {
        let mut latencies = self.shared.latencies.lock().unwrap_or_else(PoisonError::into_inner);
        let p99 = latencies.value_at_quantile(0.99) as f64 / 1e3;
        latencies.reset();
        (p99, self.shared.failed.swap(0, Ordering::Relaxed))
    }

    /// Clients of a member go to the next one while it is away.
    pub(crate) fn set_away(&self, member: usize, is_away: bool) {
        self.shared.away[member].store(is_away, Ordering::Relaxed);
    }

    /// Compacts the history up to where it was an `interval` ago, again and again.
    pub(crate) fn compactor(&self, interval: Duration) -> impl Future<Output = ()> + use<> {
        let shared = Arc::clone(&self.shared);
        async move {
            let mut revision = 0;
            loop {
                tokio::time::sleep(interval).await;
                if revision > 0 {
                    let request = CompactionRequest { revision, physical: false };
                    let mut client = KvClient::new(shared.channel(0));
                    // One that fails is made up for by the next.
                    drop(timeout(ANSWER_MAX, client.compact(request)).await);
                }
                revision = shared.revision.load(Ordering::Relaxed);
            }
        }
    }

    /// Ends the clients.
    pub(crate) fn stop(mut self) {
        self.clients.abort_all();
    }
}

impl Shared {
    /// The channel of a member, or of the next one that is not away.
    fn channel(&self, home: usize) -> Channel {
        let count = self.channels.len();
        let there = (0..count).map(|step| (home + step) % count);
        let index = there.clone().find(|&index| !self.away[index].load(Ordering::Relaxed));
        self.channels[index.unwrap_or(home % count)].clone()
    }

    async fn client(self: Arc<Shared>, number: usize) {
        // Any sequence will do, as long as no two clients have the same.
        let mut random = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(number as u64 + 1) | 1;
        let value: Bytes = (0..=250_u8).cycle().take(self.shape.value_bytes).collect();
        loop {
            self.wait_for_turn().await;
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let key = format!("key{:09}", random % self.shape.keys);
            let request =
                PutRequest { key: key.into(), value: value.clone(), ..PutRequest::default() };
            let mut client = KvClient::new(self.channel(number));
            let began = Instant::now();
            match timeout(ANSWER_MAX, client.put(request)).await {
                Ok(Ok(response)) => self.answered(began, response.into_inner().header),
                Ok(Err(_)) | Err(_) => {
                    self.failed.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn answered(
        &self,
        began: Instant,
        header: Option<paxos_kv::proto::etcdserverpb::ResponseHeader>,
    ) {
        self.commands.fetch_add(1, Ordering::Relaxed);
        let revision = header.map_or(0, |header| header.revision);
        self.revision.fetch_max(revision, Ordering::Relaxed);
        let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let mut latencies = self.latencies.lock().unwrap_or_else(PoisonError::into_inner);
        latencies.saturating_record(micros);
    }

    /// With a bound for the rate, each command has its time.
    async fn wait_for_turn(&self) {
        if self.shape.rate <= 0.0 {
            return;
        }
        let place = self.begun.fetch_add(1, Ordering::Relaxed);
        let due = self.start + Duration::from_secs_f64(place as f64 / self.shape.rate);
        tokio::time::sleep_until(due.into()).await;
        // Time in which nobody could do anything is not made up for.
        let late = due.elapsed();
        if late > Duration::from_secs(1) {
            let missed = (late.as_secs_f64() * self.shape.rate) as u64;
            let next = place + 1 + missed;
            self.begun.fetch_max(next, Ordering::Relaxed);
        }
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(LATENCY_MAX, 3).expect("the bounds are sensible")
}
