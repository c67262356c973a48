//! A server whose data were put back from an older copy, all of them or its log or its state alone.
//!
//! It notices that its log is one that it has gone beyond, takes writes all the same, and nothing that anybody was
//! told is lost or done twice. A state that its log begins behind is refused, with the remedy.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use super::{
    ending::they_work,
    options::{Setup, Transport},
    run::{Stage, go_through},
};

const VICTIM: usize = 2;

/// Writes until the log has gone on behind what a copy has.
const MANY_WRITES: usize = 100;
const FEW_WRITES: usize = 5;

/// A server's data, or a part of them.
const ALL: &str = "";
const LOG: &str = "log";
const STATE: &str = "state.redb";

/// What a server says of a log that is not its newest.
const NOTICED: &str = "the data directory was put back from an older copy";

/// What a server says at its end if it has too little to go on.
const LOST: [&str; 2] = ["the state has been lost or belongs to another node", "replace this node"];

const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn put_back() -> Result<(), String> {
    let setup = Setup {
        election_timeout: Duration::from_millis(500),
        checkpoint_slots: 16,
        ..Setup::new(3, Transport::Tcp, 1, Duration::ZERO, false)
    };
    go_through(setup, async |stage| {
        let oldest = copied(stage, "oldest").await?;
        start(stage)?;
        they_work(&[VICTIM; MANY_WRITES], 0, stage).await?;
        let older = copied(stage, "older").await?;
        start(stage)?;
        they_work(&[VICTIM; FEW_WRITES], 0, stage).await?;
        let newest = copied(stage, "newest").await?;

        replaced(stage, STATE, &oldest).await?;
        is_refused(stage).await?;
        replaced(stage, ALL, &newest).await?;
        for (part, copy, is_noticed) in
            [(STATE, &older, false), (LOG, &older, true), (ALL, &oldest, true)]
        {
            replaced(stage, part, copy).await?;
            let before = noticed(stage)?;
            they_work(&[VICTIM; FEW_WRITES], 0, stage).await?;
            if (noticed(stage)? > before) != is_noticed {
                return Err(format!("{part} from {}: noticed is not {is_noticed}", copy.display()));
            }
        }
        Ok(())
    })
    .await
    .map(|report| report.print())
}

/// How often the server has noticed.
fn noticed(stage: &Stage<'_>) -> Result<usize, String> {
    let log = stage.cluster.log(VICTIM).map_err(|error| error.to_string())?;
    Ok(log.matches(NOTICED).count())
}

/// A copy of the server's data. It does not run then.
async fn copied(stage: &mut Stage<'_>, name: &str) -> Result<PathBuf, String> {
    stop(stage).await?;
    let data = stage.cluster.data(VICTIM);
    let copy = data.with_file_name(name);
    copy_all(&data, &copy)?;
    Ok(copy)
}

/// Starts the server again on its data, a part of which is from a copy.
async fn replaced(stage: &mut Stage<'_>, part: &str, copy: &Path) -> Result<(), String> {
    stop(stage).await?;
    let data = stage.cluster.data(VICTIM);
    let failed = |error: io::Error| format!("{}: {error}", data.display());
    let there = data.join(part);
    match there.is_dir() {
        true => fs::remove_dir_all(&there).map_err(failed)?,
        false => fs::remove_file(&there).map_err(failed)?,
    }
    copy_all(&copy.join(part), &there)?;
    start(stage)
}

fn start(stage: &mut Stage<'_>) -> Result<(), String> {
    stage.cluster.restart_all().map_err(|error| error.to_string())
}

/// Ends the server, unless it has ended.
async fn stop(stage: &mut Stage<'_>) -> Result<(), String> {
    stage.cluster.terminate(&[VICTIM]).await.map(drop).map_err(|error| error.to_string())
}

fn copy_all(from: &Path, to: &Path) -> Result<(), String> {
    let copied = Command::new("cp").args(["-a", "--no-target-directory"]).args([from, to]).status();
    match copied {
        Ok(status) if status.success() => Ok(()),
        other => Err(format!("{} cannot be copied: {other:?}", from.display())),
    }
}

/// The server ends, and says why.
async fn is_refused(stage: &mut Stage<'_>) -> Result<(), String> {
    let since = Instant::now();
    let failed = |error: io::Error| error.to_string();
    let status = loop {
        match stage.cluster.has_ended(VICTIM).map_err(failed)? {
            Some(status) => break status,
            None if since.elapsed() > PATIENCE => {
                return Err(
                    "a server goes on without the state that its log begins with".to_owned()
                );
            }
            None => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    let log = stage.cluster.log(VICTIM).map_err(failed)?;
    let last = log.lines().next_back().unwrap_or_default();
    match status.code() == Some(1) && LOST.iter().all(|text| last.contains(text)) {
        true => Ok(()),
        false => Err(format!("it has ended with {status} and said {last:?}")),
    }
}
