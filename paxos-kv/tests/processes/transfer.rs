//! A member comes back that has missed more than the others' logs still have: it gets a state, and the log
//! behind it, while the others go on.
//!
//! It serves what all serve, revisions included, although the connection was cut ten times on the way,
//! although it and the sender were killed in the midst of it, and although its disk was full for a while.
//! The others' logs and everybody's memory stay within bounds.
//!
//! `PAXOS_TRANSFER_COMMANDS` says how many commands pass in all.

mod agreement;
mod run;

use std::time::{Duration, Instant};

use self::run::{FETCHED, Run, SENDS, SERVERS, TAKEN_OVER};
use super::options::Transport;

/// How often a transfer is cut, and for how long.
const CUTS: usize = 10;
const CUT: Duration = Duration::from_millis(400);

/// How often each side is killed.
const KILLS: usize = 2;

/// The transfer as it is, cut, and with either side killed.
pub(crate) async fn cuts_and_kills(transport: Transport) -> Result<(), String> {
    let mut run = Run::start(transport, false).await?;
    let ended = cut_and_kill(&mut run, transport).await;
    run.finish(ended).await
}

async fn cut_and_kill(run: &mut Run, transport: Transport) -> Result<(), String> {
    let victim = SERVERS - 1;
    run.pass(run.shape.commands / 4).await?;
    let memory_before = run.memory_max.clone();

    let before = run.miss(victim).await?;
    let (ready, during) = run.come_back(victim).await?;
    println!(
        "  {transport}: a member is back after {:.1} s; p99 of the others {before:.1?} before and \
         {during:.1?} during",
        ready.as_secs_f64()
    );
    if during > before * 4 + Duration::from_millis(250) {
        return Err(format!("p99 rose from {before:?} to {during:?} while a state was sent"));
    }

    run.miss(victim).await?;
    run.narrow(victim);
    run.begin_to_fetch(victim).await?;
    let cuts = run.cut(victim).await?;
    run.widen();
    let (ready, _) = run.ready(victim, Instant::now()).await?;
    println!("  {transport}: cut {cuts} times on the way; back {:.1} s later", ready.as_secs_f64());

    run.miss(victim).await?;
    run.narrow(victim);
    let kills = run.kill_both(victim).await?;
    run.widen();
    let (ready, _) = run.ready(victim, Instant::now()).await?;
    let [receiver, sender] = kills;
    println!(
        "  {transport}: receiver killed {receiver} times on the way, sender {sender} times; back \
         {:.1} s later",
        ready.as_secs_f64()
    );
    run.check(&memory_before).await
}

/// The disk of the one that receives is full for a while.
pub(crate) async fn full_disk() -> Result<(), String> {
    let mut run = Run::start(Transport::Tcp, true).await?;
    let ended = fill_disk(&mut run).await;
    run.finish(ended).await
}

async fn fill_disk(run: &mut Run) -> Result<(), String> {
    let victim = 0;
    run.pass(run.shape.commands / 4).await?;
    let memory_before = run.memory_max.clone();
    run.miss(victim).await?;
    run.narrow(victim);
    run.begin_to_fetch(victim).await?;
    run.cluster.fill_disk(victim).map_err(|error| error.to_string())?;
    run.widen();
    tokio::time::sleep(Duration::from_secs(5)).await;
    // The log may have room within its file for what comes; the tables have none for another state.
    if run.count(victim, TAKEN_OVER)? > 0 {
        return Err("the state has got onto a full disk".to_owned());
    }
    run.cluster.check_processes()?;
    if run.cluster.process(victim).is_none() {
        return Err("the member has ended, instead of waiting for room".to_owned());
    }
    run.cluster.make_room().map_err(|error| error.to_string())?;
    let (ready, _) = run.ready(victim, Instant::now()).await?;
    println!("  full disk: back {:.1} s after there was room", ready.as_secs_f64());
    run.check(&memory_before).await
}

impl Run {
    /// Cuts the connections of a member in the midst of a transfer; returns how often.
    async fn cut(&mut self, victim: usize) -> Result<usize, String> {
        let links: Vec<_> = (0..SERVERS)
            .filter(|other| *other != victim)
            .flat_map(|other| [(other, victim), (victim, other)])
            .collect();
        let fetched = self.count(victim, FETCHED)?;
        let mut cuts = 0;
        for _ in 0..CUTS {
            if self.count(victim, FETCHED)? > fetched {
                break;
            }
            self.cluster.network.change(&links, |link| link.is_cut = true);
            self.cluster.network.sever(&links);
            self.wait(CUT).await?;
            self.cluster.network.change(&links, |link| link.is_cut = false);
            cuts += 1;
            self.wait(CUT).await?;
        }
        match cuts {
            CUTS => Ok(cuts),
            _ => Err(format!("the state had passed after {cuts} cuts of {CUTS}")),
        }
    }

    /// Kills the receiver in the midst of a transfer, then the sender; returns how often each.
    async fn kill_both(&mut self, victim: usize) -> Result<[usize; 2], String> {
        let failed = |error: std::io::Error| error.to_string();
        let fetched = self.count(victim, FETCHED)?;
        self.begin_to_fetch(victim).await?;
        let mut kills = [0, 0];
        for _ in 0..KILLS {
            self.wait(CUT).await?;
            if self.count(victim, FETCHED)? > fetched {
                break;
            }
            self.cluster.kill(victim).map_err(failed)?;
            kills[0] += 1;
            self.begin_to_fetch(victim).await?;
        }
        for _ in 0..KILLS {
            self.wait(CUT).await?;
            if self.count(victim, FETCHED)? > fetched {
                break;
            }
            let sender = self.sender(victim)?;
            self.stream.set_away(sender, true);
            self.cluster.kill(sender).map_err(failed)?;
            kills[1] += 1;
            self.begin_to_fetch(victim).await?;
            self.stream.set_away(sender, false);
        }
        match kills {
            [KILLS, KILLS] => Ok(kills),
            [receiver, sender] => Err(format!(
                "the state had passed when the receiver was killed {receiver} times and the sender \
                 {sender} times"
            )),
        }
    }

    /// Who has begun last to send a state.
    fn sender(&self, victim: usize) -> Result<usize, String> {
        let mut last = None;
        for server in (0..SERVERS).filter(|server| *server != victim) {
            let log = self.cluster.log(server).map_err(|error| error.to_string())?;
            // Lines begin with the time.
            let line = log.lines().rfind(|line| line.contains(SENDS)).map(str::to_owned);
            last = last.max(line.map(|line| (line, server)));
        }
        last.map(|(_, server)| server).ok_or_else(|| "nobody sends a state".to_owned())
    }
}
