//! Every storage that can be opened on a medium, after every power cut, every failed sync, and after
//! decay; and storages with flaws, each of which has to be caught.
//!
//! The long form, ten seeds of a minute or two each, or one of them by `POWER_LOSS_SEED=7`:
//!
//! ```sh
//! cargo test --release -p paxos-storage --test power_loss -- --ignored --nocapture
//! ```
#![cfg(feature = "redb")]

mod backend;
mod journal;

use std::time::{Duration, Instant};

use backend::{Sync, redb_on};
use journal::{Flaw, Journal};
use paxos_storage::conformance::{Counts, Extent, RotCounts, power_loss, rot, sync_failure};

/// A run that never lost or kept an unfinished write, or never failed in a recovery, shows little.
fn assert_all_happened(counts: &Counts) {
    let Counts { recoveries, kept, lost, unborn, .. } = *counts;
    assert!(recoveries > 0 && kept > 0 && lost > 0 && unborn < counts.images / 10, "{counts:?}");
}

fn assert_all_decayed(counts: &RotCounts) {
    let RotCounts { reported, equal, dropped, .. } = *counts;
    assert!(reported > 0 && equal > 0 && dropped > 0, "{counts:?}");
}

#[tokio::test]
async fn redb_loses_nothing_whenever_the_power_fails() {
    let open = |medium| redb_on(medium, Sync::Honest);
    let counts = power_loss(open, &Extent::short(1), |_| {}).await;
    assert_all_happened(&counts);
    assert!(counts.images > 2000, "{counts:?}");
}

/// What a process that starts again finds is not only in the page cache.
#[tokio::test]
async fn redb_loses_nothing_whenever_a_sync_fails() {
    let open = |medium| redb_on(medium, Sync::Honest);
    let counts = sync_failure(open, &Extent::short(1), |_| {}).await;
    assert!(counts.recoveries > 30 && counts.images > 1000, "{counts:?}");
}

#[tokio::test]
async fn redb_reports_decay() {
    let counts = rot(|medium| redb_on(medium, Sync::Honest), &Extent::short(1)).await;
    assert_all_decayed(&counts);
}

#[tokio::test]
async fn a_sound_journal_passes() {
    let open = |medium| Journal::open(medium, Flaw::None);
    let extent = Extent { nested_every: 10, ..Extent::short(1) };
    assert_all_happened(&power_loss(open, &extent, |_| {}).await);
    assert_all_decayed(&rot(open, &extent).await);
    let counts = sync_failure(open, &extent, |_| {}).await;
    assert!(counts.recoveries > 30 && counts.images > 1000, "{counts:?}");
}

#[tokio::test]
#[should_panic(expected = "1 (durable)")]
async fn a_disk_that_ignores_syncs_is_caught() {
    let open = |medium| redb_on(medium, Sync::Ignored);
    let _ = power_loss(open, &Extent::short(1), |_| {}).await;
}

#[tokio::test]
#[should_panic(expected = "1 (durable): 0 of 1 acknowledged batches")]
async fn an_acknowledgement_before_the_sync_is_caught() {
    let open = |medium| Journal::open(medium, Flaw::AcknowledgesBeforeSync);
    let _ = power_loss(open, &Extent::short(1), |_| {}).await;
}

#[tokio::test]
#[should_panic(expected = "1 (durable): incarnation")]
async fn an_incarnation_that_is_counted_in_memory_is_caught() {
    let open = |medium| Journal::open(medium, Flaw::CountsInMemory);
    let _ = power_loss(open, &Extent::short(1), |_| {}).await;
}

#[tokio::test]
#[should_panic(expected = "2 (atomic)")]
async fn a_torn_record_that_is_accepted_is_caught() {
    let open = |medium| Journal::open(medium, Flaw::AcceptsTornEntries);
    let _ = power_loss(open, &Extent::short(1), |_| {}).await;
}

#[tokio::test]
#[should_panic(expected = "1 (durable)")]
async fn a_cache_that_is_trusted_after_a_failed_sync_is_caught() {
    let open = |medium| Journal::open(medium, Flaw::TrustsTheCache);
    let _ = sync_failure(open, &Extent::short(1), |_| {}).await;
}

#[tokio::test]
#[should_panic(expected = "rot: 1 (durable)")]
async fn damage_that_is_read_as_the_end_is_caught() {
    let _ = rot(|medium| Journal::open(medium, Flaw::ReadsDamageAsTheEnd), &Extent::short(1)).await;
}

#[tokio::test]
#[ignore = "a quarter of an hour; the command stands at the top of the file"]
async fn redb_at_length() {
    let seed = std::env::var("POWER_LOSS_SEED").map(|seed| seed.parse().expect("a number"));
    for seed in seed.map_or(1..=10, |seed| seed..=seed) {
        at_length(&Extent::long(seed)).await;
    }
}

async fn at_length(extent: &Extent) {
    let (seed, started, mut shown) = (extent.seed, Instant::now(), Instant::now());
    let open = |medium| redb_on(medium, Sync::Honest);
    let counts = power_loss(open, extent, |counts| {
        if shown.elapsed() > Duration::from_secs(1) {
            shown = Instant::now();
            eprintln!("seed {seed}, {:.0?}: {counts:?}", started.elapsed());
        }
    })
    .await;
    println!("seed {seed}, {:.0?}: {counts:?}", started.elapsed());
    assert_all_happened(&counts);
    let counts = sync_failure(open, extent, |_| {}).await;
    println!("seed {seed}, {:.0?}: failed syncs: {counts:?}", started.elapsed());
    let counts = rot(open, extent).await;
    println!("seed {seed}, {:.0?}: {counts:?}", started.elapsed());
    assert_all_decayed(&counts);
}
