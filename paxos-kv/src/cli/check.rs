//! `check perf`: whether a cluster carries a load, at the pace at which it comes.
//!
//! Each write has its time, whether those before have been answered or not, and counts from then: a cluster that
//! falls behind cannot hide it. What was written is deleted at the end.

use std::time::Duration;

use bytes::Bytes;
use clap::{Args, ValueEnum};
use futures::{StreamExt, stream::FuturesUnordered};
use serde_json::json;
use tokio::time::{Instant, interval_at};
use tonic::Status;

use super::{
    arguments::{ClientOptions, Output},
    client::{Client, CommandError},
    console::print,
};
use crate::{
    Keys,
    proto::etcdserverpb::{DeleteRangeRequest, PutRequest},
};

/// The sizes that etcdctl writes.
const KEY_BYTES: usize = 256;
const VALUE_BYTES: usize = 1024;

/// What etcdctl demands: nine tenths of the writes in the time, none slower than this.
const SLOWEST_MAX: Duration = Duration::from_millis(500);
const SHARE_MIN: f64 = 0.9;

/// Writes that come together.
const TICK: Duration = Duration::from_millis(2);

#[derive(Clone, Debug, Args)]
pub(super) struct PerfArguments {
    /// How many writes per second: 150, 1000, 8000 or 15000.
    #[arg(long, value_enum, default_value_t = Load::S)]
    load: Load,
    /// For how long.
    #[arg(long, default_value_t = 10, value_name = "SECONDS",
        value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// What the keys begin with; all that begin so are deleted at the end.
    #[arg(long, default_value = "/paxos-kv-check-perf/",
        value_parser = clap::builder::NonEmptyStringValueParser::new())]
    prefix: String,
}

/// As with etcdctl.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Load {
    /// 150 writes per second.
    S,
    /// 1000.
    M,
    /// 8000.
    L,
    /// 15000.
    Xl,
}

impl Load {
    fn per_second(self) -> u32 {
        match self {
            Load::S => 150,
            Load::M => 1000,
            Load::L => 8000,
            Load::Xl => 15_000,
        }
    }
}

/// What has come of it.
struct Report {
    demanded: f64,
    seconds: f64,
    /// How long each took, in ascending order.
    times: Vec<Duration>,
    failed: usize,
    reason: Option<Status>,
}

impl Report {
    fn per_second(&self) -> f64 {
        self.times.len() as f64 / self.seconds
    }

    /// So many of a thousand took no longer.
    fn quantile(&self, per_mille: usize) -> Duration {
        let place = (self.times.len() * per_mille / 1000).min(self.times.len().saturating_sub(1));
        self.times.get(place).copied().unwrap_or_default()
    }

    /// What is not as it should be.
    fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        let least = SHARE_MIN * self.demanded;
        if self.per_second() < least {
            complaints.push(format!("fewer than {least:.0} writes per second"));
        }
        if self.quantile(1000) > SLOWEST_MAX {
            complaints.push(format!("a write took more than {SLOWEST_MAX:?}"));
        }
        if let Some(reason) = &self.reason {
            complaints.push(format!("{} writes failed: {}", self.failed, reason.message()));
        }
        complaints
    }

    fn text(&self) -> String {
        let times = [("half", 500), ("99 %", 990), ("99.9 %", 999), ("all", 1000)];
        let times = times.map(|(name, per_mille)| {
            format!("{name} within {:.1} ms", milliseconds(self.quantile(per_mille)))
        });
        format!(
            "{:.0} writes per second of {:.0}, {}",
            self.per_second(),
            self.demanded,
            times.join(", ")
        )
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

pub(super) async fn perf(
    options: &ClientOptions,
    arguments: &PerfArguments,
) -> Result<(), CommandError> {
    let client = Client::connect(options).await?;
    let report = write(&client, arguments).await;
    let deleted = delete(&client, &arguments.prefix).await;
    let complaints = report.complaints();
    match options.output {
        Output::Table => print(&report.text())?,
        Output::Json => print(
            &json!({
                "demanded": report.demanded,
                "writes_per_second": report.per_second(),
                "p50_ms": milliseconds(report.quantile(500)),
                "p99_ms": milliseconds(report.quantile(990)),
                "p999_ms": milliseconds(report.quantile(999)),
                "max_ms": milliseconds(report.quantile(1000)),
                "failed": report.failed,
                "passed": complaints.is_empty(),
            })
            .to_string(),
        )?,
    }
    deleted?;
    match complaints.is_empty() {
        true => Ok(()),
        false => Err(CommandError::TooSlow(complaints.join(", "))),
    }
}

/// Writes as many as are due at every moment, and waits for all of them.
async fn write(client: &Client, arguments: &PerfArguments) -> Report {
    let per_second = arguments.load.per_second();
    let count = u64::from(per_second) * arguments.seconds;
    let begin = Instant::now();
    let due = |number: u64| begin + Duration::from_secs_f64(number as f64 / f64::from(per_second));
    let mut ticks = interval_at(begin, TICK);
    let mut under_way = FuturesUnordered::new();
    let mut report = Report {
        demanded: per_second.into(),
        seconds: 0.0,
        times: Vec::with_capacity(usize::try_from(count).expect("an hour of writes fits")),
        failed: 0,
        reason: None,
    };
    let mut begun = 0;
    while begun < count || !under_way.is_empty() {
        tokio::select! {
            now = ticks.tick(), if begun < count => {
                while begun < count && due(begun) <= now {
                    under_way.push(put(client, &arguments.prefix, due(begun)));
                    begun += 1;
                }
            }
            Some(ended) = under_way.next() => match ended {
                Ok(time) => report.times.push(time),
                Err(status) => {
                    report.failed += 1;
                    report.reason = Some(status);
                }
            },
        }
    }
    report.seconds = begin.elapsed().as_secs_f64();
    report.times.sort_unstable();
    report
}

/// Writes some key; returns how long after `due` it was done.
async fn put(client: &Client, prefix: &str, due: Instant) -> Result<Duration, Status> {
    let mut key = prefix.as_bytes().to_vec();
    key.resize_with(prefix.len() + KEY_BYTES, || fastrand::alphanumeric() as u8);
    let value = Bytes::from(vec![b'v'; VALUE_BYTES]);
    let put = PutRequest { key: key.into(), value, ..PutRequest::default() };
    client.kv().put(client.request(put)).await?;
    Ok(due.elapsed())
}

async fn delete(client: &Client, prefix: &str) -> Result<(), CommandError> {
    let Keys { first, end } = Keys::prefix(prefix.to_owned());
    let delete = DeleteRangeRequest { key: first, range_end: end, prev_kv: false };
    let deleted = client.kv().delete_range(client.request(delete)).await;
    deleted.map(drop).map_err(|status| client.write_failure(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_is_carried_or_the_report_says_what_is_wrong() {
        let report = |times: Vec<u64>, reason: Option<&str>| Report {
            demanded: 10.0,
            seconds: 1.0,
            times: times.into_iter().map(Duration::from_millis).collect(),
            failed: usize::from(reason.is_some()),
            reason: reason.map(Status::unavailable),
        };
        let good = report((1..=10).collect(), None);
        assert_eq!(good.complaints(), Vec::<String>::new());
        assert_eq!(
            good.text(),
            "10 writes per second of 10, half within 6.0 ms, 99 % within 10.0 ms, 99.9 % within 10.0 ms, all \
             within 10.0 ms"
        );
        let bad = report(vec![1, 2, 501], Some("no leader")).complaints();
        assert_eq!(bad.len(), 3, "{bad:?}");
        assert!(bad[2].contains("1 writes failed: no leader"), "{bad:?}");
        assert_eq!(report(Vec::new(), None).complaints(), ["fewer than 9 writes per second"]);
    }
}
