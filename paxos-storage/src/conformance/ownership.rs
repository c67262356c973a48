//! Whose a storage is: guarantee 7, names and incarnations.

use paxos_core::{
    port::StorageError,
    types::{ClusterId, NodeId},
};

use super::{CLUSTER, Disk, NODE, Outcome, full_batch, holds, restart, start};

/// Every recovery has an incarnation of its own, above all before it.
pub async fn every_recovery_is_counted<D: Disk>(new_disk: impl Fn() -> D) -> Outcome {
    let disk = new_disk();
    let (mut storage, first) = start(&disk).await;
    let mut last = first.incarnation;
    for _ in 0..4 {
        let (again, recovered) = restart(&disk, storage).await;
        assert!(recovered.incarnation > last, "every recovery is a life of its own");
        assert_eq!(recovered.last_incarnation, last);
        last = recovered.incarnation;
        assert_eq!(recovered.identity, first.identity, "a storage keeps its name");
        storage = again;
    }
    Outcome::Passed
}

/// No two storages share a store id.
pub async fn stores_have_names_of_their_own<D: Disk>(new_disk: impl Fn() -> D) -> Outcome {
    let (one, other) = (new_disk(), new_disk());
    let (_one, first) = start(&one).await;
    let (_other, second) = start(&other).await;
    assert_ne!(first.identity.store, second.identity.store, "store ids are random");
    Outcome::Passed
}

/// Guarantee 7 for the data: another node or cluster is refused and leaves no trace.
pub async fn another_node_is_refused<D: Disk>(new_disk: impl Fn() -> D) -> Outcome {
    let disk = new_disk();
    let (storage, before) = start(&disk).await;
    let batch = full_batch(1, 1);
    storage.write(batch.clone()).await.expect("a write");
    storage.close().await;
    drop(storage);
    for (cluster, node) in [(ClusterId(0xdead), NODE), (CLUSTER, NodeId(2))] {
        let storage = disk.open().await.expect("nobody else has the disk open");
        let refused = storage.recover(cluster, node).await;
        let (found_cluster, found_node) = (CLUSTER, NODE);
        let expected = StorageError::WrongIdentity { cluster, node, found_cluster, found_node };
        assert_eq!(refused, Err(expected), "7 (bound to one node)");
        storage.close().await;
    }
    let (_storage, after) = start(&disk).await;
    assert!(holds(&after, &[&batch]), "7: a refused node changes nothing");
    assert!(after.incarnation > before.incarnation, "a start has an incarnation of its own");
    Outcome::Passed
}

/// Guarantee 7 for the process: one at a time, until it closes the storage or drops it.
pub async fn a_second_opening_is_refused<D: Disk>(new_disk: impl Fn() -> D) -> Outcome {
    let disk = new_disk();
    let (first, _) = start(&disk).await;
    let refused = match disk.open().await {
        Ok(second) => second.recover(CLUSTER, NODE).await.map(drop),
        Err(error) => Err(error),
    };
    assert!(matches!(refused, Err(StorageError::Locked { .. })), "7 (one at a time): {refused:?}");
    first.write(full_batch(1, 1)).await.expect("7: the first goes on undisturbed");
    first.close().await;
    let (second, _) = start(&disk).await;
    drop(first);
    let third = disk.open().await;
    let refused = match third {
        Ok(third) => third.recover(CLUSTER, NODE).await.map(drop),
        Err(error) => Err(error),
    };
    assert!(matches!(refused, Err(StorageError::Locked { .. })), "7: {refused:?}");
    drop(second);
    let (_fourth, recovered) = start(&disk).await;
    assert!(recovered.incarnation > 2, "a start has an incarnation of its own");
    Outcome::Passed
}
