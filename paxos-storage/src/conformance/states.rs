//! States and their checkpoints: in pieces, across crashes, on a full disk, one beside the other.

use std::sync::Arc;

use bytes::Bytes;
use paxos_core::{
    message::Watermark,
    port::{
        Checkpoint, Image, Recovered, StateChunk, StateSummary, Storage, WriteBatch, WriteError,
    },
    types::Slot,
};

use super::{
    Disk, Fault, OPERATIONS_MAX, Outcome, checkpoint, chunk, expect_state, is_found, read_state,
    records, restart, start, value,
};

/// Guarantees 1, 4 and 5, for states.
pub async fn states_are_read_as_written<D: Disk>(new_disk: impl Fn() -> D) -> Outcome {
    let disk = new_disk();
    let (storage, _) = start(&disk).await;
    let pieces = [chunk(7, 0, 1, 100), chunk(7, 100, 2, 1), chunk(7, 101, 3, 300_000)];
    let whole = pieces.iter().flat_map(|piece| piece.bytes.to_vec()).collect::<Vec<u8>>();
    let mut batches = Vec::new();
    for piece in pieces {
        let batch = WriteBatch { state: vec![piece], ..WriteBatch::default() };
        batches.push(batch.clone());
        storage.write(batch).await.expect("a piece of a state");
    }
    for bytes_max in [100_000, 1 << 20] {
        assert_eq!(read_state(&*storage, Slot(7), bytes_max).await, whole, "5: a state");
    }
    let middle = storage.read_state(Slot(7), 99, 2).await.expect("a read of a state");
    assert!(!middle.is_empty() && whole[99..].starts_with(&middle), "5: from within a piece");
    assert_eq!(read_state(&*storage, Slot(6), 9).await, [], "there is no such state");
    let (storage, recovered) = restart(&disk, storage).await;
    expect_state(&recovered, &batches.iter().collect::<Vec<_>>(), "1: a state that is unfinished");
    let state = Some(StateSummary { bytes: whole.len() as u64, hash: 1 });
    let batch = WriteBatch {
        checkpoint: Some(Checkpoint { state, ..checkpoint(7, 1, 10) }),
        ..WriteBatch::default()
    };
    batches.push(batch.clone());
    storage.write(batch).await.expect("a checkpoint");
    let (storage, recovered) = restart(&disk, storage).await;
    expect_state(&recovered, &batches.iter().collect::<Vec<_>>(), "1: a checkpoint and its state");
    assert_eq!(read_state(&*storage, Slot(7), 1 << 20).await, whole, "1: a state");
    Outcome::Passed
}

/// Guarantee 10, for states.
pub async fn states_that_nobody_needs_are_gone<D: Disk>(new_disk: impl Fn() -> D) -> Outcome {
    let disk = new_disk();
    let (mut storage, _) = start(&disk).await;
    let state =
        |slot| WriteBatch { state: vec![chunk(slot, 0, slot, 50)], ..WriteBatch::default() };
    let marked = |slot| {
        let state = Some(StateSummary { bytes: 50, hash: slot });
        let checkpoint = Some(Checkpoint { state, ..checkpoint(slot, slot, 10) });
        WriteBatch { checkpoint, ..WriteBatch::default() }
    };
    let mut batches: Vec<WriteBatch> = Vec::new();
    for (batch, there) in [
        (state(3), &[3][..]),
        (state(5), &[5]),
        (marked(5), &[5]),
        (state(9), &[5, 9]),
        (state(8), &[5, 8]),
        (marked(8), &[8]),
    ] {
        batches.push(batch.clone());
        storage.write(batch).await.expect("a write");
        for slot in 1..10 {
            let found = read_state(&*storage, Slot(slot), 100).await.len();
            let expected = if there.contains(&slot) { 50 } else { 0 };
            assert_eq!(found, expected, "10: of the state as of {slot}, with {there:?} there");
        }
        let (again, recovered) = restart(&disk, storage).await;
        storage = again;
        expect_state(&recovered, &batches.iter().collect::<Vec<_>>(), "10, across a restart");
    }
    Outcome::Passed
}

/// The checkpoint that is there, the one that takes its place, and the one after it.
const OLD: Slot = Slot(5);
const NEW: Slot = Slot(9);
const NEXT: Slot = Slot(12);
/// What a state has, in bytes, and how many of them go into a piece.
const STATE_BYTES: usize = 40_000;
const PIECE_BYTES: usize = 15_000;

fn state_as_of(slot: Slot) -> Bytes {
    value(slot.0, STATE_BYTES).encoded().slice(..STATE_BYTES)
}

fn checkpoint_of(slot: Slot) -> Checkpoint {
    let state = Some(StateSummary { bytes: STATE_BYTES as u64, hash: slot.0 });
    Checkpoint { state, ..checkpoint(slot.0, slot.0, 100) }
}

fn piece(slot: Slot, offset: u64, bytes: usize) -> StateChunk {
    let start = usize::try_from(offset).expect("a small state");
    let end = STATE_BYTES.min(start + bytes);
    StateChunk { slot, offset, bytes: state_as_of(slot).slice(start..end) }
}

/// A log with a checkpoint that has a state.
fn groundwork() -> WriteBatch {
    WriteBatch {
        chosen: Some(Watermark { slot: Slot(15), hash: 15 }),
        records: records(1..=20, 1),
        state: vec![piece(OLD, 0, STATE_BYTES)],
        checkpoint: Some(checkpoint_of(OLD)),
        ..WriteBatch::default()
    }
}

/// What a node writes next that has found `image`: the new state from where it ends, in pieces of
/// `bytes`; then everything that makes it the checkpoint, with the beginning of the next.
fn step_after(image: &Image, bytes: usize) -> Option<WriteBatch> {
    let unfinished = image.states.unfinished(&image.checkpoint);
    let (slot, goal) =
        if image.checkpoint.at.slot < NEW { (NEW, STATE_BYTES) } else { (NEXT, 2 * PIECE_BYTES) };
    let offset = unfinished.filter(|(found, _)| *found == slot).map_or(0, |(_, end)| end);
    if offset < goal as u64 {
        let state = vec![piece(slot, offset, bytes)];
        return Some(WriteBatch { state, ..WriteBatch::default() });
    }
    (slot == NEW).then(|| WriteBatch {
        state: vec![piece(NEXT, 0, bytes)],
        checkpoint: Some(checkpoint_of(NEW)),
        floor: Some(Slot(7)),
        ..WriteBatch::default()
    })
}

fn after(image: &Image, batch: &WriteBatch) -> Image {
    let mut image = image.clone();
    image.apply(batch);
    image
}

/// Starts a storage and gives it the groundwork.
async fn prepared<D: Disk>(disk: &D) -> (Arc<dyn Storage>, Image) {
    let (storage, _) = start(disk).await;
    storage.write(groundwork()).await.expect("a write");
    (storage, after(&Image::default(), &groundwork()))
}

/// Whatever there is of a state is as it was written.
async fn expect_states(storage: &dyn Storage, image: &Image, when: &str) {
    for slot in [OLD, NEW, NEXT] {
        let found = read_state(storage, slot, 9_999).await;
        let expected = image.states.read(slot, 0, usize::MAX);
        assert!(found == expected, "{when}: {} bytes of the state as of {slot}", found.len());
    }
}

/// Writes what is left to write, in pieces of another size.
async fn finish(storage: &dyn Storage, mut image: Image) {
    while let Some(batch) = step_after(&image, PIECE_BYTES - 1_111) {
        storage.write(batch.clone()).await.expect("writing goes on after a crash");
        image.apply(&batch);
    }
    let state = read_state(storage, NEW, STATE_BYTES).await;
    assert!(state == state_as_of(NEW), "5: {} bytes of a state that was resumed", state.len());
}

/// Guarantee 1, between any two steps of a new state: what is there of it is there after a start,
/// which says where to go on.
pub async fn a_state_is_resumed_where_it_ends<D: Disk>(new_disk: impl Fn() -> D) -> Outcome {
    let disk = new_disk();
    let (mut storage, mut image) = prepared(&disk).await;
    while let Some(batch) = step_after(&image, PIECE_BYTES) {
        storage.write(batch.clone()).await.expect("a step");
        image.apply(&batch);
        let recovered: Recovered;
        (storage, recovered) = if disk.inject(Fault::PowerCut) {
            drop(storage);
            start(&disk).await
        } else {
            restart(&disk, storage).await
        };
        assert!(is_found(&image, &recovered), "1 (durable), between two steps: {recovered:?}");
        expect_states(&*storage, &image, "1 (durable), between two steps").await;
    }
    assert_eq!(image.checkpoint.at.slot, NEW);
    Outcome::Passed
}

/// Guarantee 2: the power fails after every operation of every step of a new state. What was there
/// of it is there, the step is there or not, and the old checkpoint has its state until the new one
/// has.
pub async fn a_state_is_installed_whole_or_not_at_all<D: Disk>(
    new_disk: impl Fn() -> D,
) -> Outcome {
    let mut steps: Vec<WriteBatch> = Vec::new();
    let mut before = after(&Image::default(), &groundwork());
    while let Some(step) = step_after(&before, PIECE_BYTES) {
        let with_it = after(&before, &step);
        for operations in 0..=OPERATIONS_MAX {
            assert!(operations < OPERATIONS_MAX, "a write takes more than that");
            let disk = new_disk();
            let (storage, _) = prepared(&disk).await;
            for step in &steps {
                storage.write(step.clone()).await.expect("a step");
            }
            if !disk.inject(Fault::PowerCutDuringWrite { operations }) {
                return Outcome::Skipped;
            }
            let acknowledged = storage.write(step.clone()).await.is_ok();
            assert!(
                disk.inject(Fault::PowerCut),
                "a disk that fails during a write also does after it"
            );
            drop(storage);
            let (storage, recovered) = start(&disk).await;
            let is_there = is_found(&with_it, &recovered);
            assert!(is_there || !acknowledged, "1 (durable): a step is lost: {recovered:?}");
            let image = if is_there { &with_it } else { &before };
            assert!(is_found(image, &recovered), "2 (atomic): half a step: {recovered:?}");
            expect_states(&*storage, image, "2 (atomic)").await;
            finish(&*storage, image.clone()).await;
            if acknowledged {
                break;
            }
        }
        steps.push(step);
        before = with_it;
    }
    Outcome::Passed
}

/// Guarantee 9: the disk is full at every step of a new state.
pub async fn a_state_waits_until_there_is_room<D: Disk>(new_disk: impl Fn() -> D) -> Outcome {
    let disk = new_disk();
    let (storage, mut image) = prepared(&disk).await;
    while let Some(batch) = step_after(&image, PIECE_BYTES) {
        if !disk.inject(Fault::Full(true)) {
            return Outcome::Skipped;
        }
        match storage.write(batch.clone()).await {
            Err(WriteError::Full { batch: back, .. }) => {
                assert_eq!(*back, batch, "9 (full): the batch comes back unchanged");
            }
            other => panic!("9 (full): {other:?}"),
        }
        expect_states(&*storage, &image, "9 (full): a refused write changes nothing").await;
        disk.inject(Fault::Full(false));
        storage.write(batch.clone()).await.expect("9 (full): writing goes on when there is room");
        image.apply(&batch);
        expect_states(&*storage, &image, "9 (full): what was refused once is there").await;
    }
    let (storage, recovered) = restart(&disk, storage).await;
    assert!(is_found(&image, &recovered), "9 (full): {recovered:?}");
    expect_states(&*storage, &image, "9 (full), across a restart").await;
    Outcome::Passed
}

/// Guarantee 5: a peer reads the old state, piece by piece, while the new one is written and takes
/// its place. It gets the old one as far as it comes, and then nothing, but never a byte of another.
pub async fn a_state_is_read_while_another_takes_its_place<D: Disk>(
    new_disk: impl Fn() -> D,
) -> Outcome {
    let disk = new_disk();
    let (storage, mut image) = prepared(&disk).await;
    let old = state_as_of(OLD);
    let mut read = Vec::new();
    while let Some(batch) = step_after(&image, PIECE_BYTES) {
        let write = storage.write(batch.clone());
        // With the write under way, and after its end.
        let meanwhile = storage.read_state(OLD, read.len() as u64, 1_000).await;
        let meanwhile = meanwhile.expect("6: every piece is sound");
        write.await.expect("a step");
        let (was_there, _) = (image.checkpoint.at.slot == OLD, image.apply(&batch));
        let is_there = image.checkpoint.at.slot == OLD;
        assert!(was_there || meanwhile.is_empty(), "10: a state that is gone is read");
        assert!(!is_there || !meanwhile.is_empty(), "5: a state that is there is not read");
        read.extend_from_slice(&meanwhile);
        assert!(old.starts_with(&read), "5: a state is mixed up with the one that replaces it");
        expect_states(&*storage, &image, "5, while a state takes the place of another").await;
    }
    assert!(read.len() > 2_000, "it was read while the other one was written");
    Outcome::Passed
}
