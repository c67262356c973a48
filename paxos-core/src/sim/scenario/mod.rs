//! Scenarios: a cluster driven by hand, as a transcript that people read.
//!
//! A script is text. Lines that begin with `> ` are commands, what follows a command is what came
//! of it, `#` and empty lines are for the reader. [`run`] carries the commands out and returns the
//! same text with the outcomes as they are now: a test compares, an update writes it back.
//!
//! The stage keeps to the same rules as the simulation and is watched by the same onlooker: a broken
//! invariant ends the script with an error.
//!
//! | command | effect |
//! |---|---|
//! | `cluster 3`, `cluster 4 quorums 3 2`, `cluster 3 window 2` | starts that many nodes; comes first |
//! | `cluster 3 checkpoint 2 piece 40` | with checkpoints every two slots, and states in pieces of 40 bytes |
//! | `elect 1` | lets only this node's time run out, and everything happen, until it leads |
//! | `propose 2 "a" "b"` | proposes at a node, together |
//! | `propose 2 as 9#1 "a"` | the same as client 9, which may go to several nodes |
//! | `read 3` | begins a linearizable read at a node |
//! | `transfer 1 -> 2` | asks a node to hand the leadership over to another |
//! | `deliver 1 -> 2`, `deliver * -> 2 [Accept Chosen]` | delivers messages on their way, some kinds only |
//! | `drop 1 -> 3 [Accept]` | loses messages on their way |
//! | `repeat 1 -> 3 [Accept]` | doubles messages on their way |
//! | `flight` | shows the messages on their way |
//! | `hold 2`, `release 2` | a disk that finishes nothing, or again does |
//! | `persist 2` | finishes what the disk was given |
//! | `settle` | delivers, writes and applies until nothing is left; no time passes |
//! | `advance 1s`, `advance 20ms` | lets time pass, and everything happen |
//! | `tick 1` | lets time run out at this node alone, once |
//! | `crash 2`, `crash 2 keeping 1` | crashes a node; its first unfinished writes may survive |
//! | `restart 2` | starts it again |
//! | `lost 1 at 2 3` | 2 and 3 are told that 1 is gone, whether it is or not |
//! | `suspend 2`, `resume 2` | a machine that stands still, its clock too; messages wait for it |
//! | `partition 1 \| 2 3` | messages pass within a group only |
//! | `cut 1 -> 2`, `cut 1 - 2` | cuts a link, in one or both directions |
//! | `link 1 - 2 3` | only these links are left: from the first to each of the others |
//! | `heal` | every link works again |
//! | `log 2` | shows a disk |
//! | `state 2` | shows a state machine |
//! | `status`, `status 2` | shows what replicas say of themselves |
//! | `show heartbeats`, `hide heartbeats` | as said; hidden at first |

mod command;
mod stage;

use self::stage::Stage;

/// A script that cannot be carried out, or that breaks an invariant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, {command:?}: {problem}")]
pub struct ScriptError {
    /// The line of the command, from 1.
    pub line: usize,
    /// The command.
    pub command: String,
    /// What is wrong.
    pub problem: String,
}

/// Carries out the commands of `script` and returns it with their outcomes in place of the old
/// ones.
///
/// # Errors
///
/// The first command that makes no sense, or that breaks an invariant.
pub fn run(script: &str) -> Result<String, ScriptError> {
    let mut stage = None;
    let mut text = String::new();
    let mut in_outcome = false;
    for (index, line) in script.lines().enumerate() {
        if let Some(command) = line.strip_prefix("> ") {
            let error =
                |problem| ScriptError { line: index + 1, command: command.to_owned(), problem };
            let outcome = perform(&mut stage, command).map_err(error)?;
            text.extend(["> ", command, "\n"]);
            text.extend(outcome.iter().flat_map(|line| [line, "\n"]));
            in_outcome = true;
        } else if line.is_empty() || line.starts_with('#') {
            text.extend([line, "\n"]);
            in_outcome = false;
        } else if !in_outcome {
            return Err(ScriptError {
                line: index + 1,
                command: line.to_owned(),
                problem: "neither a command, nor an outcome, nor a comment".to_owned(),
            });
        }
    }
    Ok(text)
}

fn perform(stage: &mut Option<Stage>, command: &str) -> Result<Vec<String>, String> {
    let command = command::parse(command)?;
    if let command::Command::Cluster(cluster) = command {
        let (begun, outcome) = Stage::begin(&cluster)?;
        *stage = Some(begun);
        return Ok(outcome);
    }
    let stage = stage.as_mut().ok_or("there is no cluster yet: begin with `cluster 3`")?;
    stage.perform(command)
}
