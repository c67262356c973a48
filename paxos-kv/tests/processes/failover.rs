//! How long writes stand still when the process of the leader dies, and when it stands still without dying.
//!
//! Three servers with default settings, connected to each other directly, and a client at each that writes one
//! value after the other. What counts is the longest time without an answer that the clients of the others saw,
//! from shortly before to well after.

use std::{
    fmt::Write,
    time::{Duration, Instant},
};

use paxos_kv::proto::etcdserverpb::{PutRequest, kv_client::KvClient};
use tokio::{sync::mpsc, task::JoinSet};
use tonic::transport::Channel;

use super::{
    cluster::Cluster,
    options::{Setup, Transport},
    wire::{connect, status},
};

const SERVERS: usize = 3;

/// How often the leader goes: unless the variable says otherwise.
const ROUNDS: usize = 50;

/// How long a server may take to be there again.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a leader is heard before it goes: until the others know how steadily, and its host says again that
/// nobody listens, of which it says no more than six things in as many seconds.
const QUIET: Duration = Duration::from_secs(7);

/// How long writes have to go on after it has gone.
const AFTER: Duration = Duration::from_millis(1500);

/// How long one write may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// Bounds of the histogram, in milliseconds.
const BOUNDS: [u64; 10] = [25, 50, 75, 100, 150, 200, 300, 500, 1000, 2000];

/// What happens to the leader.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum End {
    /// SIGKILL.
    Killed,
    /// SIGSTOP: no connection breaks, and nothing is answered.
    Frozen,
}

impl End {
    /// What half of the pauses have to stay below.
    fn median_max(self) -> Duration {
        match self {
            End::Killed => Duration::from_millis(200),
            End::Frozen => Duration::from_millis(500),
        }
    }
}

/// Ends leader after leader, and checks how long that takes in the median.
///
/// On hosts of their own, the servers know of each other's end what they would on machines of their own.
pub(crate) async fn leaders_go(
    transport: Transport,
    end: End,
    packet_filter: bool,
) -> Result<(), String> {
    let given = std::env::var("PAXOS_FAILOVER_ROUNDS").ok();
    let rounds = given.map_or(Ok(ROUNDS), |text| text.parse());
    let rounds = rounds.map_err(|_| "PAXOS_FAILOVER_ROUNDS must be a number".to_owned())?;
    let setup = Setup {
        is_direct: true,
        packet_filter,
        election_timeout: Duration::from_millis(1000),
        ..Setup::new(SERVERS, transport, 1, Duration::ZERO, false)
    };
    let place = if packet_filter { "hosts of their own" } else { "one host" };
    println!("{setup}, on {place}; leaders are {end:?}");
    let directory = tempfile::Builder::new().prefix("paxos-kv-failover-").tempdir();
    let directory = directory.map_err(|error| format!("a temporary directory: {error}"))?;
    let cluster = Cluster::start(setup, directory.path()).await;
    let mut cluster = cluster.map_err(|error| format!("the servers do not start: {error}"))?;
    let channels: Vec<_> = cluster.endpoints().iter().map(|to| connect(to)).collect();
    let mut pauses = Vec::new();
    for _ in 0..rounds {
        let leader = leader_of_all(&channels).await?;
        tokio::time::sleep(QUIET + Duration::from_millis(fastrand::u64(..200))).await;
        pauses.push(longest_pause(&mut cluster, &channels, leader, end).await?);
        cluster.thaw_all().and_then(|()| cluster.restart_all()).map_err(|e| e.to_string())?;
    }
    pauses.sort_unstable();
    println!("{}", histogram(&pauses));
    let median = pauses[pauses.len() / 2];
    match median <= end.median_max() {
        true => Ok(()),
        false => Err(format!("writes stand still for {median:?} in the median")),
    }
}

/// Waits until all servers answer and follow one of them; says which.
async fn leader_of_all(channels: &[Channel]) -> Result<usize, String> {
    let since = Instant::now();
    while since.elapsed() < PATIENCE {
        let mut answers = Vec::new();
        for channel in channels {
            answers.extend(status(channel, Duration::from_secs(1)).await);
        }
        let leaders: Vec<_> = answers.iter().map(|answer| answer.leader).collect();
        let member = |answer: &paxos_kv::proto::etcdserverpb::StatusResponse| {
            answer.header.as_ref().map_or(0, |header| header.member_id)
        };
        let leads = answers.iter().position(|answer| member(answer) == leaders[0]);
        if answers.len() == channels.len()
            && leaders.iter().all(|leader| *leader == leaders[0])
            && let Some(leads) = leads
        {
            return Ok(leads);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(format!("no leader of all within {PATIENCE:?}"))
}

/// Lets clients write to the others, and the leader go; returns the longest time for which one of them had no
/// answer.
async fn longest_pause(
    cluster: &mut Cluster,
    channels: &[Channel],
    leader: usize,
    end: End,
) -> Result<Duration, String> {
    let (sender, mut answered) = mpsc::unbounded_channel();
    let mut writers = JoinSet::new();
    for (server, channel) in channels.iter().enumerate().filter(|(server, _)| *server != leader) {
        writers.spawn(write(server, channel.clone(), sender.clone()));
    }
    drop(sender);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let gone_at = Instant::now();
    let gone = match end {
        End::Killed => cluster.kill(leader),
        End::Frozen => cluster.freeze(leader),
    };
    gone.map_err(|error| error.to_string())?;
    let (mut last, mut longest) = (vec![None; channels.len()], Duration::ZERO);
    let enough = gone_at + AFTER;
    while last.iter().flatten().filter(|at| **at > enough).count() < channels.len() - 1 {
        let answer: Result<(usize, Instant), String> =
            answered.recv().await.ok_or("the clients have ended")?;
        let (server, at) = answer?;
        if let Some(before) = last[server].replace(at) {
            longest = longest.max(at - before);
        }
    }
    writers.shutdown().await;
    Ok(longest)
}

/// Writes one value after the other, and says when each was acknowledged.
async fn write(
    server: usize,
    channel: Channel,
    answered: mpsc::UnboundedSender<Result<(usize, Instant), String>>,
) {
    let mut client = KvClient::new(channel);
    for number in 0u64.. {
        let (key, value) = (format!("client-{server}").into(), number.to_string().into());
        let put = PutRequest { key, value, ..PutRequest::default() };
        let answer = match tokio::time::timeout(DEADLINE, client.put(put)).await {
            Ok(Ok(_)) => Ok((server, Instant::now())),
            Ok(Err(status)) => Err(format!("a write failed: {status}")),
            Err(_) => Err(format!("a write had no answer within {DEADLINE:?}")),
        };
        let has_failed = answer.is_err();
        if answered.send(answer).is_err() || has_failed {
            return;
        }
    }
}

/// How many pauses were how long; they are sorted.
fn histogram(pauses: &[Duration]) -> String {
    let mut text = String::new();
    let mut from = 0;
    for to in BOUNDS.into_iter().chain([u64::MAX]) {
        let is_between =
            |pause: &&Duration| (u128::from(from)..u128::from(to)).contains(&pause.as_millis());
        let count = pauses.iter().filter(is_between).count();
        let bound =
            if to == u64::MAX { format!("above {from}") } else { format!("{from} to {to}") };
        writeln!(text, "{bound:>14} ms  {count:>3}  {}", "#".repeat(count)).expect("a string");
        from = to;
    }
    let at = |part: usize| pauses[(pauses.len() - 1) * part / 100].as_millis();
    write!(text, "median {} ms, 90 % below {} ms, longest {} ms", at(50), at(90), at(100))
        .expect("a string");
    text
}
