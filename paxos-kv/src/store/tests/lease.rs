//! Leases as the state machine knows them: all but the time.

use super::*;
use crate::{
    proto::etcdserverpb::{LeaseGrantRequest, LeaseRevokeRequest},
    store::{
        ExpireLease, NoteLeases, RemainingTime, RenewLeases,
        lease::{Counted, Lease, TTL_MAX},
    },
};

fn grant(store: &mut Fixture, id: i64, ttl: i64) -> Result<(), KvError> {
    let request = LeaseGrantRequest { id, ttl };
    match store.apply(Command::GrantLease(request))? {
        Response::GrantLease(response) => assert_eq!((response.id, response.ttl), (id, ttl)),
        response => panic!("{response:?}"),
    }
    Ok(())
}

fn revoke(store: &mut Fixture, id: i64) -> Result<i64, KvError> {
    match store.apply(Command::RevokeLease(LeaseRevokeRequest { id }))? {
        Response::RevokeLease(response) => Ok(response.header.expect("a header").revision),
        response => panic!("{response:?}"),
    }
}

fn renew(store: &mut Fixture, ids: &[i64]) -> Vec<i64> {
    match store.apply(Command::RenewLeases(RenewLeases { ids: ids.to_vec() })) {
        Ok(Response::RenewLeases(ttls)) => ttls,
        answer => panic!("{answer:?}"),
    }
}

fn expire(store: &mut Fixture, id: i64, renewed: u64) -> bool {
    match store.apply(Command::ExpireLease(ExpireLease { id, renewed })) {
        Ok(Response::ExpireLease(is_ended)) => is_ended,
        answer => panic!("{answer:?}"),
    }
}

fn note(store: &mut Fixture, id: i64, renewed: u64, milliseconds: u64) {
    let leases = vec![RemainingTime { id, renewed, milliseconds }];
    store.apply(Command::NoteLeases(NoteLeases { leases })).expect("a note");
}

fn put_with(store: &mut Fixture, key: &str, lease: i64) -> Result<(), KvError> {
    store.apply(Command::Put(PutRequest { lease, ..put(key, "v") })).map(drop)
}

fn lease(store: &Fixture, id: i64) -> Option<Lease> {
    store.reader.lease(id, false).expect("a look-up").map(|(lease, _)| lease)
}

fn keys(store: &Fixture, id: i64) -> Vec<String> {
    let (_, keys) = store.reader.lease(id, true).expect("a look-up").expect("a lease");
    keys.iter().map(|key| String::from_utf8_lossy(key).into_owned()).collect()
}

#[test]
fn a_lease_takes_its_keys_along_at_one_revision() {
    let mut store = Fixture::new();
    grant(&mut store, 7, 60).expect("a lease");
    grant(&mut store, -3, 60).expect("a lease");
    assert_eq!(store.reader.revision(), 1, "a lease takes up no revision");
    store.put("b", "free");
    for key in ["c", "a", "d"] {
        put_with(&mut store, key, 7).expect("a put");
    }
    put_with(&mut store, "e", -3).expect("a put");
    assert_eq!(keys(&store, 7), ["a", "c", "d"]);
    assert_eq!(store.get("a").map(|found| found.lease), Some(7));
    store.store.flush();
    put_with(&mut store, "f", 7).expect("a put");
    // Moved, put without one, and deleted: no key of it any more.
    put_with(&mut store, "c", -3).expect("a put");
    store.put("d", "free");
    store.delete("f", "");
    assert_eq!(
        (keys(&store, 7), keys(&store, -3)),
        (vec!["a".to_owned()], vec!["c".into(), "e".into()])
    );
    let revision = store.reader.revision();
    assert_eq!(revoke(&mut store, -3), Ok(revision + 1));
    assert_eq!(store.all_at(0), Ok(["a=v", "b=free", "d=free"].map(str::to_owned).to_vec()));
    assert_eq!(store.all_at(revision).expect("before").len(), 5);
    assert_eq!(lease(&store, -3), None);
    assert_eq!(revoke(&mut store, -3), Err(KvError::LeaseNotFound));
    put_with(&mut store, "a", 0).expect("a put");
    let revision = store.reader.revision();
    assert_eq!(revoke(&mut store, 7), Ok(revision), "it has no key");
    assert_eq!(store.reader.leases(), Ok(Vec::new()));
}

#[test]
fn what_makes_no_sense_is_refused_in_etcds_words() {
    let mut store = Fixture::new();
    assert_eq!(grant(&mut store, 0, 60), Err(KvError::LeaseNotFound));
    assert_eq!(grant(&mut store, 1, TTL_MAX + 1), Err(KvError::LeaseTooLong));
    grant(&mut store, 1, TTL_MAX).expect("a lease");
    assert_eq!(grant(&mut store, 1, 60), Err(KvError::LeaseExists));
    assert_eq!(put_with(&mut store, "a", 2), Err(KvError::LeaseNotFound));
    let missing = PutRequest { lease: 2, ..put("b", "v") };
    let operations = vec![put_operation("a", "v"), operation(Request::RequestPut(missing))];
    assert_eq!(store.txn(always(operations)), Err(KvError::LeaseNotFound));
    assert_eq!(store.reader.revision(), 1, "nothing has been written");
    put_with(&mut store, "a", 1).expect("a put");
    let keep = PutRequest { ignore_lease: true, ..put("a", "w") };
    store.apply(Command::Put(keep)).expect("a put");
    assert_eq!(
        (store.get("a").expect("it is there").lease, keys(&store, 1)),
        (1, vec!["a".into()])
    );
}

#[test]
fn a_late_leader_ends_nothing_that_was_renewed() {
    let mut store = Fixture::new();
    grant(&mut store, 7, 60).expect("a lease");
    put_with(&mut store, "a", 7).expect("a put");
    let granted = lease(&store, 7).expect("a lease").renewed;
    assert_eq!(renew(&mut store, &[7, 8, 7]), [60, 0, 60]);
    let renewed = lease(&store, 7).expect("a lease").renewed;
    assert!(renewed > granted);
    assert!(!expire(&mut store, 7, granted), "that was before it was renewed");
    assert!(store.get("a").is_some());
    // A lease that has come anew under the same id is another one.
    revoke(&mut store, 7).expect("it is there");
    grant(&mut store, 7, 60).expect("a lease");
    assert!(!expire(&mut store, 7, renewed));
    put_with(&mut store, "a", 7).expect("a put");
    let newest = lease(&store, 7).expect("a lease").renewed;
    assert!(expire(&mut store, 7, newest));
    assert_eq!((store.get("a"), lease(&store, 7)), (None, None));
    assert!(!expire(&mut store, 7, newest));
}

#[test]
fn what_is_noted_of_the_time_never_makes_it_longer_and_a_renewal_begins_anew() {
    let mut store = Fixture::new();
    grant(&mut store, 7, 60).expect("a lease");
    let remaining = |store: &Fixture| lease(store, 7).expect("a lease").remaining_milliseconds;
    let renewed = lease(&store, 7).expect("a lease").renewed;
    assert_eq!(remaining(&store), 60_000);
    note(&mut store, 7, renewed, 30_000);
    note(&mut store, 7, renewed, 40_000);
    note(&mut store, 7, renewed + 1, 10_000);
    note(&mut store, 8, renewed, 10_000);
    assert_eq!(remaining(&store), 30_000);
    renew(&mut store, &[7]);
    note(&mut store, 7, renewed, 10_000);
    assert_eq!(remaining(&store), 60_000);
}

#[test]
fn leases_survive_and_come_along_with_the_state() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = in_file(&directory.path().join("state"));
    let mut store = Fixture::open(file.clone(), flusher::Limits::default());
    for id in [5, -5, 300] {
        grant(&mut store, id, 100 + id).expect("a lease");
        put_with(&mut store, &format!("k{id}"), id).expect("a put");
    }
    store.store.flush();
    put_with(&mut store, "more", 300).expect("a put");
    revoke(&mut store, 5).expect("it is there");
    let stream = store.stream();
    let (leases, digest) = (store.reader.leases(), store.store.digest());
    drop(store);
    let store = Fixture::open(file, flusher::Limits::default());
    let mut other = Fixture::new();
    other.restore(store.slot, stream).expect("a state");
    for store in [&store, &other] {
        assert_eq!(store.reader.leases(), leases);
        let found = store.reader.leases().expect("leases");
        assert_eq!(found.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [-5, 300]);
        assert_eq!(keys(store, 300), ["k300", "more"]);
        assert_eq!(store.store.digest(), digest);
    }
    revoke(&mut other, 300).expect("it is there");
    assert_eq!(other.all_at(0), Ok(vec!["k-5=v".to_owned()]));
}

#[test]
fn a_lease_takes_no_more_keys_than_can_go_with_it() {
    let mut store = Fixture::new();
    grant(&mut store, 7, 60).expect("a lease");
    let long = |number: usize| format!("{number:03}{}", "k".repeat(1_400_000));
    let full = (0..200).find_map(|number| put_with(&mut store, &long(number), 7).err());
    assert_eq!(full, Some(KvError::LeaseHoldsTooMuch));
    let count = keys(&store, 7).len();
    assert!((90..100).contains(&count), "{count} keys");
    store.delete(&long(0), "");
    store.delete(&long(1), "");
    put_with(&mut store, &long(0), 7).expect("there is room again");
    revoke(&mut store, 7).expect("it is there");
    assert_eq!(store.all_at(0), Ok(Vec::new()));
}

#[test]
fn whoever_counts_is_told_of_everything_since_it_asked() {
    let mut store = Fixture::new();
    grant(&mut store, 1, 60).expect("a lease");
    let changes = store.reader.lease_changes().clone();
    let first = changes.take();
    assert!(first.is_all_new && first.changes.is_empty(), "it has to look for itself");
    renew(&mut store, &[1]);
    put_with(&mut store, "a", 1).expect("a put");
    revoke(&mut store, 1).expect("it is there");
    let told = changes.take();
    let ended = Counted { id: 1, lease: None };
    assert!(!told.is_all_new && told.changes.len() == 2, "{told:?}");
    assert_eq!(told.changes.last(), Some(&ended));
    let (slot, stream) = (store.slot.next(), {
        let mut stream = store.stream();
        stream[12..20].copy_from_slice(&store.slot.next().0.to_le_bytes());
        crate::store::snapshot::reseal(&mut stream);
        stream
    });
    store.restore(slot, stream).expect("a state");
    assert!(changes.take().is_all_new, "another state has come");
}
