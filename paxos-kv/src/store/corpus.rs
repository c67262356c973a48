//! The seeds of the fuzz targets. They are committed; after a change of a format they are made anew
//! by
//!
//! ```sh
//! UPDATE_CORPUS=1 cargo test -p paxos-kv --lib corpus
//! ```

use std::{env, fs, path::Path};

/// What is committed as the seed `name` of a target, whose directory is given from that of the store
/// on; with `UPDATE_CORPUS` set, that is `encoded` from now on.
pub(super) fn committed(target: &str, name: &str, encoded: &[u8]) -> Vec<u8> {
    let store = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store");
    let directory = store.join(target).join("corpus");
    if env::var_os("UPDATE_CORPUS").is_some() {
        fs::create_dir_all(&directory).expect("a directory");
        fs::write(directory.join(name), encoded).expect("a file");
    }
    fs::read(directory.join(name)).expect("the seed")
}
