//! The table, as it stands in the documents.

use std::{cmp::Reverse, collections::BTreeMap};

use paxos_core::bug_bank::Bug;

use super::named;

pub(super) const HEAD: &str = "\
| bug | what is wrong | seeds, median | at most | caught by |
|---|---|---:|---:|---|";

const SURVIVES: &str = "**survives**";

/// What came of one bug from one start: a row is made of several.
#[derive(Clone, Debug)]
pub(super) struct Hunt {
    /// Seeds that it took, the last one included; `None` if the bug survived.
    pub(super) seeds: Option<u64>,
    /// Which check caught it.
    pub(super) check: String,
}

/// The row of a bug that the simulator was to catch.
pub(super) fn row(bug: Bug, hunts: &[Hunt]) -> String {
    let mut seeds: Vec<_> = hunts.iter().map(|hunt| hunt.seeds).collect();
    seeds.sort_unstable_by_key(|seeds| seeds.unwrap_or(u64::MAX));
    let text = |seeds: Option<u64>| seeds.map_or(SURVIVES.to_owned(), |seeds| seeds.to_string());
    let [below, above] = [seeds[(seeds.len() - 1) / 2], seeds[seeds.len() / 2]];
    let median = text(below.zip(above).map(|(below, above)| below.midpoint(above)));
    let most = text(seeds[seeds.len() - 1]);
    format!("| `{bug}` | {} | {median} | {most} | {} |", bug.text(), checks(hunts))
}

/// The row of a bug that a test was to catch.
pub(super) fn named_row(bug: Bug, is_caught: bool) -> String {
    let path = named::test_of(bug).map_or("", |(_, path)| path);
    let test = path.rsplit("::").next().unwrap_or_default();
    let by = if is_caught { format!("test `{test}`") } else { SURVIVES.to_owned() };
    format!("| `{bug}` | {} | | | {by} |", bug.text())
}

/// The checks that caught it, the one that did so most often first.
fn checks(hunts: &[Hunt]) -> String {
    let mut counts = BTreeMap::new();
    for hunt in hunts.iter().filter(|hunt| hunt.seeds.is_some()) {
        *counts.entry(hunt.check.as_str()).or_insert(0) += 1;
    }
    let mut counts: Vec<(&str, usize)> = counts.into_iter().collect();
    counts.sort_by_key(|&(_, count)| Reverse(count));
    let counts: Vec<_> = counts.iter().map(|(check, count)| format!("{check} ({count})")).collect();
    counts.join(", ")
}
