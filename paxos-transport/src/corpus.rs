//! The seeds of the fuzz targets. They are committed; after a change of a format they are made anew
//! by
//!
//! ```sh
//! UPDATE_CORPUS=1 cargo test -p paxos-transport --lib corpus
//! ```

use std::{env, fs, path::Path};

/// Checks that the seed `name` of a target, whose directory is given from `src` on, is committed as
/// `encoded`; with `UPDATE_CORPUS` set, it is from now on.
pub(crate) fn check(target: &str, name: &str, encoded: &[u8]) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(target).join("corpus");
    if env::var_os("UPDATE_CORPUS").is_some() {
        fs::create_dir_all(&directory).expect("a directory");
        fs::write(directory.join(name), encoded).expect("a file");
    }
    let committed = fs::read(directory.join(name)).expect("the seed");
    assert_eq!(committed, encoded, "{target}/{name} is of another format: see corpus.rs");
}
