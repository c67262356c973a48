use super::*;

fn promise(round: u64) -> WriteBatch {
    let promised = Some(Ballot { round, node: NodeId(1) });
    WriteBatch { promised, ..WriteBatch::default() }
}

async fn open(disk: &MemoryStorage) -> (MemoryStorage, Recovered) {
    let handle = disk.clone();
    let recovered = handle.recover(ClusterId(1), NodeId(1)).await.expect("a sound disk");
    (handle, recovered)
}

#[tokio::test]
async fn a_crash_loses_what_is_held_back_and_shuts_out_the_old_handle() {
    let disk = MemoryStorage::new();
    let (before, _) = open(&disk).await;
    before.write(promise(1)).await.expect("durable");
    disk.hold_writes();
    let waiting = tokio::spawn(async move {
        let lost = before.write(promise(2)).await;
        (lost, before.write(promise(3)).await)
    });
    disk.wait_for_held(1).await;
    disk.crash();
    let (lost, late) = waiting.await.expect("no panic");
    assert_eq!(lost, Err(crashed("write").into()));
    assert_eq!(late, Err(crashed("write").into()));
    let (_after, recovered) = open(&disk).await;
    assert_eq!(recovered.promised.round, 1);
    assert_eq!(recovered.incarnation, 2);
}

#[tokio::test]
async fn a_crash_may_keep_a_prefix_of_what_is_held_back() {
    let disk = MemoryStorage::new();
    let (before, _) = open(&disk).await;
    disk.hold_writes();
    let mut writes = tokio::task::JoinSet::new();
    let before = Arc::new(before);
    for round in 1..=3 {
        let before = Arc::clone(&before);
        writes.spawn(async move { before.write(promise(round)).await });
        disk.wait_for_held(usize::try_from(round).expect("small")).await;
    }
    disk.crash_keeping(2);
    while let Some(result) = writes.join_next().await {
        assert_eq!(result.expect("no panic"), Err(crashed("write").into()), "not acknowledged");
    }
    let (_after, recovered) = open(&disk).await;
    assert_eq!(recovered.promised.round, 2);
}

#[tokio::test]
async fn released_writes_become_durable_and_resolve() {
    let disk = MemoryStorage::new();
    let (handle, _) = open(&disk).await;
    disk.hold_writes();
    let waiting = tokio::spawn(async move { handle.write(promise(7)).await });
    disk.wait_for_held(1).await;
    disk.release_writes();
    assert_eq!(waiting.await.expect("no panic"), Ok(()));
    let (_after, recovered) = open(&disk).await;
    assert_eq!(recovered.promised.round, 7);
}

#[tokio::test]
async fn a_handle_that_is_not_open_says_what_to_do() {
    let handle = MemoryStorage::new();
    let error = handle.write(promise(1)).await.expect_err("not recovered");
    assert!(error.to_string().contains("recover() comes first"), "{error}");
    handle.recover(ClusterId(1), NodeId(1)).await.expect("an empty disk");
    handle.close().await;
    let error = handle.read(Slot(1)..=Slot(9), 1).await.expect_err("closed");
    assert!(error.to_string().contains("clone()"), "{error}");
}
