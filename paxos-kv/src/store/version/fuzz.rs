//! A fuzz target for what the tables hold of a key. `docs/PROOF.md` has the commands.

use super::*;
use crate::store::corpus;

/// Versions of each kind.
fn seeds() -> [(&'static str, Version); 3] {
    let position = Position { revision: 7, index: 1 };
    let live = |value: &'static str| Live {
        create_revision: 5,
        version: 2,
        lease: 0,
        value: Bytes::from(value),
    };
    [
        ("deleted", Version { position, live: None }),
        ("empty", Version { position, live: Some(live("")) }),
        ("live", Version { position, live: Some(live("value")) }),
    ]
}

/// Bytes are refused, or are exactly what is written for the version that they hold.
#[test]
fn versions() {
    bolero::check!().for_each(|bytes: &[u8]| match Version::decode("file", bytes) {
        Ok(version) => {
            assert_eq!(version.encode(), bytes);
            assert_eq!(position(bytes), Some(version.position));
            assert_eq!(is_deleted(bytes), version.live.is_none());
            let live = version.live.as_ref();
            assert_eq!(age(bytes), live.map(|live| (live.create_revision, live.version)));
        }
        Err(error) => assert!(matches!(error, StoreError::Damaged { .. }), "{error}"),
    });
}

/// Rows of the feed come apart into what they were made of, and nothing else is one.
#[test]
fn rows_of_the_feed() {
    bolero::check!().for_each(|bytes: &[u8]| {
        if let Some((key, encoded)) = split_feed_row(bytes) {
            assert_eq!(feed_row(key, encoded), bytes);
            assert!(is_version(encoded));
        }
        for (_, version) in seeds() {
            let row = feed_row(bytes, &version.encode());
            assert_eq!(split_feed_row(&row), Some((bytes, &version.encode()[..])));
        }
    });
}

#[test]
fn the_corpus_is_of_the_present_format() {
    let target = "version/__fuzz__/store__version__fuzz__versions";
    for (name, version) in seeds() {
        let bytes = corpus::committed(target, name, &version.encode());
        assert_eq!(Version::decode("file", &bytes), Ok(version));
    }
}
