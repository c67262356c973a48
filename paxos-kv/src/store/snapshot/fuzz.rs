//! Fuzz targets for states that come from others: any bytes, and real states with bytes replaced,
//! whose checksum is right again. `docs/PROOF.md` has the commands.

use std::{io::Cursor, ops::Range};

use paxos_core::{port::StateMachine, types::Slot};

use super::{rows::Rows, *};
use crate::{
    proto::etcdserverpb::{
        CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest,
    },
    store::{Backend, Command, Envelope, MemberAttributes, Rules, Store, corpus},
};

/// Where a stream has its sums: behind magic, format, slot and revisions.
const SUMS: Range<usize> = 44..61;

/// Commands that leave rows in every table.
fn commands() -> Vec<Envelope> {
    let put = |key: &'static str, value: &'static str| {
        Command::Put(PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() })
    };
    let delete = DeleteRangeRequest { key: "b".into(), ..DeleteRangeRequest::default() };
    let member = MemberAttributes {
        member_id: 3,
        name: "n".into(),
        client_urls: vec!["u".into()],
        rules: 2,
    };
    let commands = [
        put("a", "1"),
        put("b", "2"),
        Command::DeleteRange(delete),
        put("a", "3"),
        put("c", ""),
        Command::MemberAttributes(member),
        Command::Compact(CompactionRequest { revision: 2, physical: false }),
        Command::RaiseRules(Rules::KNOWN.0),
        Command::GrantLease(LeaseGrantRequest { id: 5, ttl: 60 }),
        Command::Put(PutRequest { key: "d".into(), lease: 5, ..PutRequest::default() }),
    ];
    commands.map(|command| command.under(Rules::KNOWN)).to_vec()
}

fn store(commands: Vec<Envelope>) -> Store {
    let mut store = Store::open(Backend::Memory).expect("a store in memory");
    if !commands.is_empty() {
        store.apply(Slot(1), commands);
        store.flush();
        store.shared.wait_until_clean();
    }
    store
}

fn written(store: &Store) -> Vec<u8> {
    let mut bytes = Vec::new();
    let reader = store.snapshot().into_reader();
    reader.and_then(|mut reader| reader.read_to_end(&mut bytes)).expect("a state");
    bytes
}

fn seeds() -> [(&'static str, Vec<u8>); 2] {
    [("fresh", written(&store(vec![]))), ("tables", written(&store(commands())))]
}

/// A store that is sent this has exactly this state afterwards, or the one before; and works.
fn restored(bytes: &[u8]) {
    let mut store = store(vec![commands().swap_remove(0)]);
    let before = written(&store);
    let named = bytes.get(12..20).and_then(|slot| slot.try_into().ok()).map(u64::from_le_bytes);
    let slot = Slot(named.filter(|slot| *slot > 1 && *slot < u64::MAX).unwrap_or(2));
    let is_of_slot = named == Some(slot.0);
    let snapshot = StoreSnapshot::from_reader(Box::new(Cursor::new(bytes.to_vec())));
    match snapshot.and_then(|snapshot| store.restore(slot, snapshot)) {
        Ok(()) if is_of_slot && bytes[28..36] == bytes[36..44] => {
            assert_eq!(written(&store), bytes)
        }
        Ok(()) => store.shared.wait_until_clean(),
        Err(error) => {
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
            assert_eq!(written(&store), before);
            return;
        }
    }
    let all = RangeRequest { key: "\0".into(), range_end: "\0".into(), ..RangeRequest::default() };
    let reader = store.reader();
    reader.range(&all).expect("what it holds now");
    reader.members().expect("what the members say");
    store.apply(slot.next(), commands());
}

#[test]
fn streams() {
    bolero::check!().for_each(|bytes: &[u8]| {
        let mut refused = None;
        let allocated = allocation_counter::measure(|| {
            refused = Rows::begin(bytes)
                .and_then(|mut rows| {
                    while rows.next()?.is_some() {}
                    Ok(())
                })
                .err();
        });
        // The reader's buffer, and what really came, once for the key and once for its place.
        let bound = 2 * stream::PAGE_BYTES + 8 * bytes.len();
        assert!(allocated.bytes_max <= bound as u64, "{} bytes", allocated.bytes_max);
        let Some(error) = refused else { return restored(bytes) };
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
    });
}

#[test]
fn damaged_streams() {
    let seeds = seeds().map(|(_, bytes)| bytes);
    type Damage = (bool, Vec<(u16, u8)>, Option<(u16, u8)>);
    bolero::check!().with_type::<Damage>().for_each(|(tables, edits, cut)| {
        let mut bytes = seeds[usize::from(*tables)].clone();
        for (at, byte) in edits.iter().take(4) {
            let at = usize::from(*at) % bytes.len();
            bytes[at] = *byte;
        }
        if let Some((at, length)) = cut {
            let at = usize::from(*at) % bytes.len();
            bytes.drain(at..(at + usize::from(*length)).min(bytes.len()));
        }
        restored(&bytes);
        reseal(&mut bytes);
        restored(&bytes);
        // Rows that nothing else says are wrong.
        if let Some(sums) = bytes.get_mut(SUMS) {
            sums.fill(0);
            reseal(&mut bytes);
            restored(&bytes);
        }
    });
}

#[test]
fn the_corpus_is_of_the_present_format() {
    let target = "snapshot/__fuzz__/store__snapshot__fuzz__streams";
    for (name, bytes) in seeds() {
        assert_eq!(corpus::committed(target, name, &bytes), bytes);
    }
}
