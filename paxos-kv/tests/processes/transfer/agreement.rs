//! What must hold in the end: all hold the same, and neither logs nor memory have grown without end.

use paxos_kv::proto::etcdserverpb::{CompactionRequest, kv_client::KvClient};
use tonic::transport::Channel;

use super::{super::wire::everything, run::Run};

/// What a member's memory may grow by after the first quarter of the commands: as much as the pages that
/// log and tables keep in memory (32 and 128 MiB), which fill up meanwhile.
const MEMORY_MORE_MAX: u64 = 160 << 20;

/// Revisions that are still there after a compaction.
pub(super) const KEPT_REVISIONS: i64 = 200;

impl Run {
    /// All hold the same, the log has not grown without end, nor has memory.
    pub(super) async fn check(&mut self, memory_before: &[u64]) -> Result<(), String> {
        self.cluster.network.heal();
        self.look()?;
        let commands = self.stream.done();
        self.stream.stop().await;
        all_hold_the_same(&self.channels).await?;
        let shown = |bytes: &[u64]| {
            let shown: Vec<_> = bytes.iter().map(|bytes| (bytes >> 20).to_string()).collect();
            shown.join(", ")
        };
        let log_max = self.log_bytes.iter().copied().max().unwrap_or(0);
        println!(
            "  {commands} commands; memory {} MiB before, {} MiB at most; log {} MiB at most, {} MiB \
             in the end, a checkpoint each {} KiB",
            shown(memory_before),
            shown(&self.memory_max),
            log_max >> 20,
            self.log_bytes.last().copied().unwrap_or(0) >> 20,
            self.checkpoint_bytes >> 10,
        );
        // Three checkpoints' worth, eight for whoever fetches a state, and what the tables lag behind.
        let log_bound = 11 * self.checkpoint_bytes + (64 << 20);
        if log_max > log_bound {
            return Err(format!("the log took up {log_max} bytes, more than {log_bound}"));
        }
        let before = memory_before.iter().copied().max().unwrap_or(0);
        let most = self.memory_max.iter().copied().max().unwrap_or(0);
        if most > before + MEMORY_MORE_MAX {
            return Err(format!("memory grew from {before} to {most} bytes"));
        }
        let ended = self.cluster.terminate_all().await.map_err(|error| error.to_string())?;
        match ended.iter().find(|(_, status)| !status.success()) {
            Some((name, status)) => Err(format!("{name} did not end cleanly: {status}")),
            None => Ok(()),
        }
    }
}

/// Compares all keys with their revisions, now and as of earlier revisions, before a compaction and after.
async fn all_hold_the_same(channels: &[Channel]) -> Result<(), String> {
    let (now, _) = everything(&channels[0], 0).await.map_err(|status| status.to_string())?;
    for back in [KEPT_REVISIONS / 2, KEPT_REVISIONS / 4, KEPT_REVISIONS / 8, 0] {
        let revision = now - back;
        if back == KEPT_REVISIONS / 8 {
            compact(&channels[0], revision).await?;
        }
        let mut first = None;
        for (server, channel) in channels.iter().enumerate() {
            let answer = everything(channel, revision).await;
            let (_, found) = answer.map_err(|status| format!("server {server}: {status}"))?;
            match &first {
                None => first = Some(found),
                Some(expected) if *expected == found => {}
                Some(expected) => {
                    return Err(format!(
                        "server {server} holds something else at revision {revision}: {} keys \
                         instead of {}",
                        found.len(),
                        expected.len(),
                    ));
                }
            }
        }
        println!("  {} keys as of revision {revision} alike", first.map_or(0, |it| it.len()));
    }
    Ok(())
}

pub(super) async fn compact(channel: &Channel, revision: i64) -> Result<(), String> {
    let request = CompactionRequest { revision, physical: true };
    let compacted = KvClient::new(channel.clone()).compact(request).await;
    compacted.map(drop).map_err(|status| format!("compaction: {status}"))
}
