//! Data directories out of backups.

use paxos_core::{
    port::{Recovered, StateMachine},
    types::ClusterId,
};
use tempfile::TempDir;

use super::*;
use crate::{
    backup::Backup,
    proto::etcdserverpb::PutRequest,
    store::{Backend, Command, Rules, Store},
};

/// A directory with a backup of some puts.
fn with_backup() -> (TempDir, Restore) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut store = Store::open(Backend::Memory).expect("memory");
    let put = |key: &str| {
        let (key, value) = (key.to_owned().into(), "v".into());
        Command::Put(PutRequest { key, value, ..PutRequest::default() }).under(Rules::KNOWN)
    };
    store.apply(Slot(1), vec![put("a"), put("b"), put("a")]);
    let frozen = store.reader().freeze(|| true).expect("it can be read").expect("it is wanted");
    let backup = Backup::prepare(frozen, 1, io::sink()).expect("it can be read");
    let mut file = Vec::new();
    let checksum = backup.write(&mut file).expect("memory");
    file.extend(checksum);
    let snapshot = directory.path().join("backup.db");
    fs::write(&snapshot, file).expect("there is room");
    let cluster = ClusterMap::parse("n=http://127.0.0.1:1", "new").expect("a cluster");
    let data_dir = directory.path().join("n");
    let restore = Restore {
        snapshot,
        name: "n".to_owned(),
        cluster,
        log_dir: data_dir.join("log"),
        data_dir,
        bump_revision: 0,
        mark_compacted: false,
        skip_hash_check: false,
    };
    (directory, restore)
}

async fn log(restore: &Restore) -> Recovered {
    let member = restore.cluster.named("n").expect("it is one").id;
    let storage = open_log(&restore.log_dir).expect("it is there");
    let recovered = storage.recover(restore.cluster.id(), member).await.expect("it is whole");
    storage.close().await;
    recovered
}

fn names(directory: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(directory.path()).expect("it is there");
    let names = entries.map(|entry| entry.expect("it is there").file_name());
    let mut names: Vec<_> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn log_and_state_begin_at_the_same_slot() {
    let (directory, restore) = with_backup();
    let restored = restore.run().await.expect("there is room");
    let expected =
        Restored { revision: 4, compacted: -1, changes: 3, without_lease: 0, users_and_roles: 0 };
    assert_eq!(restored, expected);
    let recovered = log(&restore).await;
    assert_eq!((recovered.chosen.slot, recovered.floor), (SLOT, SLOT));
    assert_eq!(recovered.checkpoint.at, recovered.chosen);
    assert_eq!(recovered.identity.cluster, restore.cluster.id());
    assert_ne!(recovered.identity.cluster, ClusterId(0));
    let member = restore.cluster.named("n").expect("it is one").id;
    let owner = Owner { cluster: restore.cluster.id(), member };
    let file = restore.data_dir.join(STATE_FILE);
    let store = Store::open(Backend::Redb { file, owner }).expect("it is whole and its own");
    assert_eq!((store.durable(), store.reader().revision()), (Some(SLOT), 4));
    assert_eq!(names(&directory), ["backup.db", "n"]);
    let mode = fs::metadata(&restore.data_dir).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[tokio::test]
async fn what_makes_another_store_makes_another_hash() {
    let mut hashes = Vec::new();
    for (bump_revision, mark_compacted) in [(0, false), (0, true), (1, true), (2, true)] {
        let (_directory, restore) = with_backup();
        let restore = Restore { bump_revision, mark_compacted, ..restore };
        let restored = restore.run().await.expect("there is room");
        assert_eq!(restored.revision, 4 + i64::try_from(bump_revision).expect("it is small"));
        assert_eq!(restored.compacted, if mark_compacted { restored.revision } else { -1 });
        hashes.push(log(&restore).await.chosen.hash);
    }
    let (_directory, same) = with_backup();
    same.run().await.expect("there is room");
    assert_eq!(log(&same).await.chosen.hash, hashes[0], "the same file, the same hash");
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), 4);
}

#[tokio::test]
async fn a_log_may_be_elsewhere() {
    let (directory, restore) = with_backup();
    let restore = Restore { log_dir: directory.path().join("fast").join("log"), ..restore };
    restore.run().await.expect("there is room");
    assert_eq!(log(&restore).await.floor, SLOT);
    assert_eq!(names(&directory), ["backup.db", "fast", "n"]);
    assert!(!restore.data_dir.join("log").exists());
}

#[tokio::test]
async fn nothing_is_overwritten_and_what_fails_leaves_nothing() {
    let (directory, restore) = with_backup();
    fs::create_dir(&restore.data_dir).expect("there is room");
    let own = restore.data_dir.join("own");
    fs::write(&own, "mine").expect("there is room");
    let error = restore.run().await.expect_err("it is occupied");
    assert!(matches!(error, RestoreError::Occupied { .. }), "{error}");
    assert_eq!(fs::read(&own).expect("it is there"), b"mine");
    fs::remove_file(&own).expect("it is there");

    // An empty directory is as good as none.
    let whole = fs::read(&restore.snapshot).expect("it is there");
    let mut damaged = whole.clone();
    damaged[3 * 4096 + 100] ^= 1;
    let no_checksum = &whole[..whole.len() - 32];
    for (file, reason) in [(&damaged[..], "checksum is wrong"), (no_checksum, "no checksum")] {
        fs::write(&restore.snapshot, file).expect("there is room");
        let error = restore.run().await.expect_err("it is no good").to_string();
        assert!(error.contains(reason), "{error}");
    }
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&restore.data_dir, &link).expect("there is room");
    let elsewhere = Restore { data_dir: link.clone(), ..restore.clone() };
    let error = elsewhere.run().await.expect_err("it is a link");
    assert!(matches!(error, RestoreError::NoPlace { .. }), "{error}");
    fs::remove_file(link).expect("it is there");
    let too_much = Restore {
        bump_revision: u64::MAX,
        mark_compacted: true,
        skip_hash_check: true,
        ..restore.clone()
    };
    let error = too_much.run().await.expect_err("it is too much");
    assert!(matches!(error, RestoreError::Bump(_)), "{error}");
    assert_eq!(names(&directory), ["backup.db", "n"]);
    fs::remove_dir(&restore.data_dir).expect("it is empty");
    let unchecked = Restore { skip_hash_check: true, ..restore };
    unchecked.run().await.expect("it is a database without a checksum");
}

#[tokio::test]
async fn what_is_no_backup_is_refused_in_words() {
    let (_directory, restore) = with_backup();
    let restore = Restore { skip_hash_check: true, ..restore };
    for (file, reason) in [(vec![], "too short"), (vec![7; 9000], "no database of etcd")] {
        fs::write(&restore.snapshot, file).expect("there is room");
        let error = restore.run().await.expect_err("it is none").to_string();
        assert!(error.contains(reason) && error.contains("backup.db"), "{error}");
    }
    fs::remove_file(&restore.snapshot).expect("it is there");
    let error = restore.run().await.expect_err("it is gone").to_string();
    assert!(error.contains("backup.db"), "{error}");
    let nobody = Restore { name: "x".to_owned(), ..restore };
    let error = nobody.run().await.expect_err("nobody").to_string();
    assert!(error.contains("no member"), "{error}");
}
