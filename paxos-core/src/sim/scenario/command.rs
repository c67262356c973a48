//! The commands of a script.

use std::time::Duration;

/// A command. Nodes are counted from zero here, from one in the script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Cluster(Cluster),
    Elect(usize),
    Propose { node: usize, client: Option<(u64, u64)>, commands: Vec<String> },
    Read(usize),
    Transfer { node: usize, to: usize },
    Deliver(Selection),
    Drop(Selection),
    Repeat(Selection),
    Flight,
    Hold(usize),
    Release(usize),
    Persist(usize),
    Settle,
    Advance(Duration),
    Tick(usize),
    Crash { node: usize, keeping: usize },
    Restart(usize),
    Lost { peer: usize, told: Vec<usize> },
    Suspend(usize),
    Resume(usize),
    Partition(Vec<Vec<usize>>),
    Cut { from: usize, to: usize, both: bool },
    Link { center: usize, others: Vec<usize> },
    Heal,
    Log(usize),
    State(usize),
    Status(Option<usize>),
    Heartbeats(bool),
}

/// The cluster that a script is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cluster {
    pub(super) nodes: usize,
    pub(super) quorums: Option<(usize, usize)>,
    pub(super) window: Option<u64>,
    /// Slots of the log after which a checkpoint is due.
    pub(super) checkpoint: Option<u64>,
    /// Bytes of a state in one piece.
    pub(super) piece: Option<usize>,
}

/// Messages on their way; nothing given stands for any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Selection {
    pub(super) from: Option<usize>,
    pub(super) to: Option<usize>,
    pub(super) kinds: Vec<String>,
}

/// Understands one line.
pub(super) fn parse(line: &str) -> Result<Command, String> {
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    let words: Vec<&str> = rest.split_whitespace().collect();
    let command = match (verb, &words[..]) {
        ("cluster", [nodes, options @ ..]) => cluster(nodes, options)?,
        ("elect", [id]) => Command::Elect(node(id)?),
        ("propose", _) => propose(rest)?,
        ("read", [id]) => Command::Read(node(id)?),
        ("transfer", [id, "->", to]) => Command::Transfer { node: node(id)?, to: node(to)? },
        ("deliver", _) => Command::Deliver(selection(rest)?),
        ("drop", _) => Command::Drop(selection(rest)?),
        ("repeat", _) => Command::Repeat(selection(rest)?),
        ("flight", []) => Command::Flight,
        ("hold", [id]) => Command::Hold(node(id)?),
        ("release", [id]) => Command::Release(node(id)?),
        ("persist", [id]) => Command::Persist(node(id)?),
        ("settle", []) => Command::Settle,
        ("advance", [time]) => Command::Advance(duration(time)?),
        ("tick", [id]) => Command::Tick(node(id)?),
        ("crash", [id]) => Command::Crash { node: node(id)?, keeping: 0 },
        ("crash", [id, "keeping", count]) => {
            Command::Crash { node: node(id)?, keeping: number(count)? }
        }
        ("lost", [peer, "at", told @ ..]) => Command::Lost {
            peer: node(peer)?,
            told: told.iter().map(|id| node(id)).collect::<Result<_, _>>()?,
        },
        ("suspend", [id]) => Command::Suspend(node(id)?),
        ("resume", [id]) => Command::Resume(node(id)?),
        ("restart", [id]) => Command::Restart(node(id)?),
        ("partition", _) => Command::Partition(
            rest.split('|')
                .map(|group| group.split_whitespace().map(node).collect())
                .collect::<Result<_, _>>()?,
        ),
        ("cut", [from, arrow @ ("->" | "-"), to]) => {
            Command::Cut { from: node(from)?, to: node(to)?, both: *arrow == "-" }
        }
        ("link", [center, "-", others @ ..]) => Command::Link {
            center: node(center)?,
            others: others.iter().map(|id| node(id)).collect::<Result<_, _>>()?,
        },
        ("heal", []) => Command::Heal,
        ("log", [id]) => Command::Log(node(id)?),
        ("state", [id]) => Command::State(node(id)?),
        ("status", []) => Command::Status(None),
        ("status", [id]) => Command::Status(Some(node(id)?)),
        ("show", ["heartbeats"]) => Command::Heartbeats(true),
        ("hide", ["heartbeats"]) => Command::Heartbeats(false),
        _ => return Err("no such command; they are listed in sim/scenario/mod.rs".to_owned()),
    };
    Ok(command)
}

fn number<N: std::str::FromStr>(word: &str) -> Result<N, String> {
    word.parse().map_err(|_| format!("{word:?} is no number"))
}

fn node(word: &str) -> Result<usize, String> {
    let id: usize = number(word)?;
    id.checked_sub(1).ok_or_else(|| "nodes count from 1".to_owned())
}

fn duration(word: &str) -> Result<Duration, String> {
    if let Some(millis) = word.strip_suffix("ms") {
        return Ok(Duration::from_millis(number(millis)?));
    }
    let seconds = word.strip_suffix('s').ok_or_else(|| format!("{word:?} is neither s nor ms"))?;
    Ok(Duration::from_secs(number(seconds)?))
}

fn cluster(nodes: &str, mut options: &[&str]) -> Result<Command, String> {
    let mut cluster = Cluster { nodes: number(nodes)?, ..Cluster::default() };
    loop {
        options = match options {
            [] => return Ok(Command::Cluster(cluster)),
            ["quorums", one, two, rest @ ..] => {
                cluster.quorums = Some((number(one)?, number(two)?));
                rest
            }
            ["window", slots, rest @ ..] => {
                cluster.window = Some(number(slots)?);
                rest
            }
            ["checkpoint", slots, rest @ ..] => {
                cluster.checkpoint = Some(number(slots)?);
                rest
            }
            ["piece", bytes, rest @ ..] => {
                cluster.piece = Some(number(bytes)?);
                rest
            }
            [other, ..] => {
                let settings = "quorums, a window, a checkpoint and a piece";
                return Err(format!("a cluster has {settings}, no {other:?}"));
            }
        };
    }
}

fn propose(rest: &str) -> Result<Command, String> {
    let (head, quoted) = rest.split_once('"').ok_or("propose what? \"text\" in quotes")?;
    let words: Vec<&str> = head.split_whitespace().collect();
    let (at, client) = match words[..] {
        [at] => (at, None),
        [at, "as", client] => {
            let (name, sequence) =
                client.split_once('#').ok_or("a client and its request are written 9#1")?;
            (at, Some((number(name)?, number(sequence)?)))
        }
        _ => return Err("propose at which node?".to_owned()),
    };
    let mut pieces: Vec<&str> = quoted.split('"').collect();
    let last = pieces.pop();
    if pieces.len().is_multiple_of(2) || last.is_none_or(|last| !last.trim().is_empty()) {
        return Err("a quote is open".to_owned());
    }
    let commands = pieces.into_iter().step_by(2).map(str::to_owned).collect();
    Ok(Command::Propose { node: node(at)?, client, commands })
}

fn selection(rest: &str) -> Result<Selection, String> {
    let (links, kinds) = match rest.split_once('[') {
        Some((links, kinds)) => {
            let kinds = kinds.strip_suffix(']').ok_or("a bracket is open")?;
            (links, kinds.split_whitespace().map(str::to_owned).collect())
        }
        None => (rest, Vec::new()),
    };
    let (from, to) = links.split_once("->").ok_or("from -> to; * stands for any")?;
    let end = |word: &str| match word.trim() {
        "*" => Ok(None),
        id => node(id).map(Some),
    };
    Ok(Selection { from: end(from)?, to: end(to)?, kinds })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_understood() {
        let text = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        let expected = [
            ("cluster 3", Command::Cluster(Cluster { nodes: 3, ..Cluster::default() })),
            (
                "cluster 4 quorums 3 2 window 8 checkpoint 3 piece 16",
                Command::Cluster(Cluster {
                    nodes: 4,
                    quorums: Some((3, 2)),
                    window: Some(8),
                    checkpoint: Some(3),
                    piece: Some(16),
                }),
            ),
            (
                "propose 2 \"a\" \"b c\"",
                Command::Propose { node: 1, client: None, commands: text(&["a", "b c"]) },
            ),
            (
                "propose 1 as 9#2 \"a\"",
                Command::Propose { node: 0, client: Some((9, 2)), commands: text(&["a"]) },
            ),
            (
                "deliver * -> 2 [Accept Chosen]",
                Command::Deliver(Selection {
                    from: None,
                    to: Some(1),
                    kinds: text(&["Accept", "Chosen"]),
                }),
            ),
            ("partition 1 | 2 3", Command::Partition(vec![vec![0], vec![1, 2]])),
            ("cut 1 -> 2", Command::Cut { from: 0, to: 1, both: false }),
            ("link 2 - 1 3", Command::Link { center: 1, others: vec![0, 2] }),
            ("advance 20ms", Command::Advance(Duration::from_millis(20))),
            ("crash 2 keeping 1", Command::Crash { node: 1, keeping: 1 }),
        ];
        for (line, command) in expected {
            assert_eq!(parse(line), Ok(command), "{line}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for line in ["", "fly 1", "elect 0", "propose 1 \"a", "deliver 1 2", "advance 3", "read x"]
        {
            parse(line).expect_err(line);
        }
    }
}
