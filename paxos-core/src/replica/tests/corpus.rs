//! The seeds of the fuzz targets: what a cluster of three says and writes when a node leads, is cut
//! off and catches up again. They are committed; after a change of a format they are made anew by
//!
//! ```sh
//! UPDATE_CORPUS=1 cargo test -p paxos-core --lib corpus
//! ```

use std::{fs, path::Path};

use super::*;
use crate::{
    message::Prepare,
    replica::sessions::SessionTable,
    types::{BatchBuilder, ClientId},
};

/// Longer ones are left out: what is small is mutated well.
const SEED_BYTES_MAX: usize = 300;

fn corpus(target: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(target).join("corpus")
}

const MESSAGES: &str = "fuzz/__fuzz__/fuzz__decoders__messages";
const VALUES: &str = "fuzz/__fuzz__/fuzz__decoders__values";
const SESSIONS: &str = "replica/__fuzz__/replica__fuzz__sessions";

fn joined(message: &Message) -> Vec<u8> {
    message.encode().parts().flat_map(|part| part.to_vec()).collect()
}

/// Of every kind of message that a cluster sends, the longest of those that are short enough.
fn messages() -> BTreeMap<String, Vec<u8>> {
    let mut cluster = Cluster::new(3);
    cluster.run(2 * SECOND);
    let old = cluster.leaders()[0];
    for (round, command) in (1..).zip(["a", "bb", "ccc"]) {
        for node in 1..=3 {
            cluster.propose(node, round, command);
            cluster.step(node, quorum_read(round));
        }
        cluster.run(SECOND / 10);
    }
    cluster.cut_off(old);
    cluster.propose(old, 4, "kept");
    cluster.run(4 * SECOND);
    let new = cluster.leaders()[0];
    cluster.propose(new, 4, "new");
    cluster.run(SECOND);
    cluster.cut.clear();
    cluster.run(4 * SECOND);
    let outdated = Prepare { ballot: Ballot { round: 1, node: NodeId(old) }, from: Slot(1) };
    let message = Message::Prepare(outdated);
    cluster.step(new, Input::Message { from: NodeId(old), message });
    let (to, deadline) = (None, cluster.now.after(SECOND));
    cluster.step(new, Input::Transfer { number: 1, to, deadline });
    cluster.settle();
    let mut longest: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for message in &cluster.sent {
        let text = format!("{message:?}");
        let kind = text.split('(').next().expect("a name").to_lowercase();
        let bytes = joined(message);
        let known = longest.entry(kind).or_default();
        if bytes.len() <= SEED_BYTES_MAX && bytes.len() > known.len() {
            *known = bytes;
        }
    }
    longest
}

/// Values, and the session table behind all of them.
fn values_and_sessions() -> (BTreeMap<String, Vec<u8>>, Vec<u8>) {
    let mut values = BTreeMap::from([("noop".to_owned(), Value::Noop.encoded().to_vec())]);
    let membership = Membership::new([(1, ""), (2, ""), (3, "")]).expect("three");
    let mut table =
        SessionTable::restore(&Checkpoint::default(), &membership, limits::SESSIONS_BYTES_MAX)
            .expect("empty");
    for (count, names) in [vec![1], vec![1, 1, 2], vec![100, 2, 100, 3]].into_iter().enumerate() {
        let mut builder = BatchBuilder::default();
        for (sequence, name) in (1 + 10 * count as u64..).zip(names) {
            let client = ClientId { name, epoch: 1 };
            let id = RequestId { client, sequence };
            builder.push(id, 1 + 5 * count as u64, Bytes::from(format!("command {sequence}")));
        }
        let batch = builder.build().expect("commands");
        table.take_in(table.slot().next(), Some(&batch));
        values.insert(format!("batch-{count}"), Value::Batch(batch).encoded().to_vec());
    }
    (values, table.encode().to_vec())
}

#[test]
fn the_corpus_is_of_the_present_format() {
    if std::env::var_os("UPDATE_CORPUS").is_some() {
        let (values, sessions) = values_and_sessions();
        let sessions = BTreeMap::from([("table".to_owned(), sessions)]);
        for (target, seeds) in [(MESSAGES, messages()), (VALUES, values), (SESSIONS, sessions)] {
            fs::create_dir_all(corpus(target)).expect("a directory");
            for (name, bytes) in seeds {
                fs::write(corpus(target).join(name), bytes).expect("a file");
            }
        }
    }
    let read = |target, name: &str| {
        let path = corpus(target).join(name);
        Bytes::from(fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    };
    let kinds: BTreeSet<String> = messages().into_keys().collect();
    assert_eq!(kinds.len(), 18, "a cluster says everything there is to say: {kinds:?}");
    for kind in kinds {
        let message = Message::decode(read(MESSAGES, &kind)).expect("a message of this format");
        assert!(format!("{message:?}").to_lowercase().starts_with(&kind));
    }
    for name in ["noop", "batch-0", "batch-1", "batch-2"] {
        Value::decode(read(VALUES, name)).expect("a value of this format");
    }
    let (_, sessions) = values_and_sessions();
    assert_eq!(read(SESSIONS, "table"), sessions);
}
