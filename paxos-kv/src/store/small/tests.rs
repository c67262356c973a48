use std::collections::BTreeMap;

use paxos_core::types::Slot;

use super::{
    super::{Backend, Command, Rules, Store, tests::in_file},
    *,
};
use paxos_core::port::StateMachine;

fn attributes(member_id: u64, name: &str) -> MemberAttributes {
    MemberAttributes { member_id, name: name.to_owned(), ..MemberAttributes::default() }
}

/// Rows in the tables, in a layer on its way there and in the newest, some of them deleted or changed by a later
/// one: what is found is what a map would have.
#[test]
fn the_newest_of_every_row_counts_wherever_it_is() {
    let store = Store::open(Backend::Memory).expect("a store");
    let (mut view, _) = store.reader().now();
    view.frozen = Some(Layer::default());
    let mut expected = BTreeMap::new();
    let mut rng = fastrand::Rng::with_seed(7);
    let frozen = view.frozen.clone().expect("just put there");
    for (layer, rows) in [(&frozen, 1000), (&view.active, 700)] {
        for _ in 0..rows {
            let key = Bytes::from(format!("{:03}", rng.u32(..900)));
            let held = rng.bool().then(|| Bytes::from(rng.u32(..).to_string()));
            layer.insert_row(Table::Members, key.clone(), held.clone());
            match held {
                Some(held) => expected.insert(key, held),
                None => expected.remove(&key),
            };
        }
    }
    for prefix in ["", "1", "55", "899", "9"] {
        let mut rows = view.rows(Table::Members, prefix.as_bytes()).expect("rows");
        let found = std::iter::from_fn(|| rows.next().expect("a row"));
        let should = expected.iter().filter(|(key, _)| key.starts_with(prefix.as_bytes()));
        assert!(found.eq(should.map(|(key, held)| (key.clone(), held.clone()))), "{prefix}");
    }
    for key in 0..900 {
        let key = Bytes::from(format!("{key:03}"));
        assert_eq!(view.row(Table::Members, &key).expect("a look-up"), expected.get(&key).cloned());
    }
}

#[test]
fn rows_of_the_tables_are_found_beside_newer_ones() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("state");
    let mut store = Store::open(in_file(&file)).expect("a store");
    let mut slot = Slot::ZERO;
    let mut publish = |store: &mut Store, attributes: MemberAttributes| {
        slot = slot.next();
        let command = Command::MemberAttributes(attributes).under(Rules::FIRST);
        assert!(store.apply(slot, vec![command]).iter().all(Result::is_ok));
    };
    for id in [1, 3, 256, 70_000] {
        publish(&mut store, attributes(id, "old"));
    }
    store.flush();
    publish(&mut store, attributes(3, "new"));
    publish(&mut store, attributes(2, "new"));
    let expected = [(1, "old"), (2, "new"), (3, "new"), (256, "old"), (70_000, "old")];
    let expected = Ok(expected.map(|(id, name)| attributes(id, name)).to_vec());
    assert_eq!(store.reader().members(), expected);
    store.flush();
    drop(store);
    let store = Store::open(in_file(&file)).expect("a store");
    assert_eq!(store.reader().members(), expected);
}

#[test]
fn rows_that_make_no_sense_are_told_apart() {
    let value = attributes(5, "name").encode_to_vec();
    assert!(Table::Members.is_sound(&member_key(5), &value));
    assert!(!Table::Members.is_sound(&member_key(6), &value));
    assert!(!Table::Members.is_sound(&member_key(5), &value[1..]));
    assert_eq!(Table::numbered(0), None);
    for table in Table::ALL {
        assert_eq!(Table::numbered(table as u8), Some(table));
    }
}
