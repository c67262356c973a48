//! Fuzz targets for the records of the log. `docs/PROOF.md` has the commands.

use paxos_core::types::{BatchBuilder, ClientId, ClusterId, RequestId};

use super::*;

const LOG: LogId = LogId { cluster: ClusterId(7), group: 0 };
const SLOT: Slot = Slot(3);

fn encoded(record: &Record) -> Vec<u8> {
    let value = record.value.encoded();
    let mut bytes = vec![0; encoded_len(&value)];
    encode(LOG, record.slot, record.ballot, &value, &mut bytes);
    bytes
}

fn record(round: u64, node: u64, command: &[u8]) -> Record {
    let mut builder = BatchBuilder::default();
    if !command.is_empty() {
        let client = ClientId { name: node, epoch: round };
        let id = RequestId { client, sequence: 1 + round / 2 };
        builder.push(id, 1, Bytes::copy_from_slice(command));
    }
    let value = builder.build().map_or(Value::Noop, Value::Batch);
    Record { slot: SLOT, ballot: Ballot { round, node: NodeId(node) }, value }
}

/// Bytes are refused, or are exactly what is written for the record that they hold.
#[test]
fn records() {
    bolero::check!().for_each(|bytes: &[u8]| {
        if let Ok(record) = decode(LOG, SLOT, bytes) {
            assert_eq!(encoded(&record), bytes);
        }
    });
}

/// A record reads back as it was written, and not at all once a bit of it has flipped.
#[test]
fn damaged_records() {
    bolero::check!().with_type::<(u64, u64, Vec<u8>, u32)>().for_each(
        |(round, node, command, flip)| {
            let record = record(*round, *node, command);
            let mut bytes = encoded(&record);
            assert_eq!(decode(LOG, SLOT, &bytes), Ok(record));
            let at = *flip as usize % (bytes.len() * 8);
            bytes[at / 8] ^= 1 << (at % 8);
            assert!(decode(LOG, SLOT, &bytes).is_err(), "bit {at}");
        },
    );
}

/// The seeds of the corpus; `UPDATE_CORPUS=1` writes them.
#[test]
fn the_corpus_is_of_the_present_format() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/redb/record/__fuzz__/redb__record__fuzz__records/corpus");
    for (name, record) in [("noop", record(5, 2, b"")), ("batch", record(5, 2, b"a command"))] {
        if std::env::var_os("UPDATE_CORPUS").is_some() {
            std::fs::create_dir_all(&directory).expect("a directory");
            std::fs::write(directory.join(name), encoded(&record)).expect("a file");
        }
        let bytes = std::fs::read(directory.join(name)).expect("the seed");
        assert_eq!(decode(LOG, SLOT, &bytes), Ok(record));
    }
}
