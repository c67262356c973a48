use paxos_core::{
    port::{Codec, CodecError, StateMachine},
    types::Slot,
};
use redb::TableDefinition;

use super::{
    super::{
        Author, Backend, Command, Envelope, MemberAttributes, Store, StoreError,
        blocks::tests::open_tables, tests::in_file,
    },
    *,
};
use crate::proto::etcdserverpb::PutRequest;

const META: TableDefinition<'_, &str, i64> = TableDefinition::new("meta");

fn put() -> Command {
    let (key, value) = ("key".into(), "value".into());
    Command::Put(PutRequest { key, value, ..PutRequest::default() })
}

#[test]
fn an_envelope_begins_with_its_rules_and_comes_back_whole() {
    let author = Author { user: "root".to_owned(), auth_revision: 7 };
    for author in [None, Some(author)] {
        for command in
            [put(), Command::RaiseRules(2), Command::MemberAttributes(Default::default())]
        {
            let envelope = Envelope { rules: Rules(2), author: author.clone(), command };
            let bytes = envelope.encode().expect("infallible");
            assert_eq!(bytes[..2], [1, 2]);
            assert_eq!(Envelope::decode(&bytes), Ok(envelope));
        }
    }
}

/// In logs from before there were envelopes.
#[test]
fn a_command_by_itself_was_made_under_the_first_rules() {
    // Field 1, 12 bytes: fields 1 and 2 of a put.
    let alone = b"\x0a\x0c\x0a\x03key\x12\x05value";
    assert_eq!(Envelope::decode(alone), Ok(put().under(Rules::FIRST)));
}

#[test]
fn a_command_under_unknown_rules_is_never_passed_over() {
    let newer = Rules(Rules::KNOWN.0 + 1);
    let bytes = put().under(newer).encode().expect("infallible");
    let error = CodecError::Newer { found: newer.0, known: Rules::KNOWN.0 };
    assert_eq!(Envelope::decode(&bytes), Err(error.clone()));
    // Whatever else is in it.
    let [format, rules] = bytes[..2] else { panic!("two bytes") };
    assert_eq!(Envelope::decode(&[format, rules, 0xff, 0xff]), Err(error));
    assert_eq!(Envelope::decode(&[format, rules]), Envelope::decode(&bytes));
}

fn store() -> Store {
    Store::open(Backend::Memory).expect("a store")
}

#[test]
fn rules_are_raised_and_never_lowered_and_come_along_with_the_state() {
    let mut one = store();
    assert_eq!(one.reader().rules(), Rules::FIRST);
    one.apply(Slot(1), vec![Command::RaiseRules(Rules::KNOWN.0).under(Rules::FIRST)]);
    one.apply(Slot(2), vec![Command::RaiseRules(1).under(Rules::FIRST)]);
    assert_eq!(one.reader().rules(), Rules::KNOWN);
    let mut other = store();
    other.restore(Slot(2), one.snapshot()).expect("a state");
    assert_eq!(other.reader().rules(), Rules::KNOWN);
}

#[test]
fn who_is_told_of_rules_it_does_not_know_stops() {
    let mut store = store();
    let newer = Rules(Rules::KNOWN.0 + 1);
    let answers = store.apply(
        Slot(1),
        vec![put().under(Rules::FIRST), Command::RaiseRules(newer.0).under(Rules::FIRST)],
    );
    assert!(answers.is_empty());
    let reason = store.failure().expect("it cannot go on");
    assert!(
        reason.contains(&format!("by rules {newer}")) && reason.contains("newer version"),
        "{reason}"
    );
}

#[test]
fn a_file_of_newer_rules_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("state");
    let backend = || in_file(&file);
    let mut store = Store::open(backend()).expect("a store");
    let attributes = MemberAttributes { member_id: 1, ..MemberAttributes::default() };
    store.apply(Slot(1), vec![Command::MemberAttributes(attributes).under(Rules::FIRST)]);
    store.flush();
    drop(store);
    let tables = open_tables(&file);
    let writing = tables.begin_write().expect("a write");
    let newer = i64::from(Rules::KNOWN.0) + 1;
    let mut meta = writing.open_table(META).expect("the table");
    meta.insert("rules", newer).expect("a row");
    drop(meta);
    writing.commit().expect("a commit");
    drop(tables);
    let error = Store::open(backend()).map(|_| ()).expect_err("refused");
    assert!(matches!(error, StoreError::NewerRules { .. }), "{error}");
    let shown = error.to_string();
    assert!(shown.contains("state is of a cluster"), "{shown}");
}
