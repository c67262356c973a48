//! The scenarios in `testdata/`: each script plays again and has to come out as it stands there.
//!
//! ```text
//! cargo test -p paxos-core --test scenarios
//! UPDATE_GOLDEN=1 cargo test -p paxos-core --test scenarios    # writes down what comes out now
//! ```

use std::{fs, path::Path};

use paxos_core::sim::scenario;

/// Lines shown around the first difference.
const CONTEXT_LINES: usize = 6;

/// The first place where two texts differ, with what stands before it.
fn difference(expected: &str, actual: &str) -> String {
    let expected: Vec<_> = expected.lines().collect();
    let actual: Vec<_> = actual.lines().collect();
    let same = expected.iter().zip(&actual).take_while(|(one, other)| one == other).count();
    let mut lines = Vec::new();
    for line in &expected[same.saturating_sub(CONTEXT_LINES)..same] {
        lines.push(format!("      {line}"));
    }
    for line in expected.iter().skip(same).take(CONTEXT_LINES) {
        lines.push(format!("    - {line}"));
    }
    for line in actual.iter().skip(same).take(CONTEXT_LINES) {
        lines.push(format!("    + {line}"));
    }
    format!("line {}:\n{}", same + 1, lines.join("\n"))
}

/// What is wrong with a script, if anything.
fn play(path: &Path, update: bool) -> Result<(), String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let expected = fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
    let actual = scenario::run(&expected).map_err(|error| format!("{name}: {error}"))?;
    if actual == expected {
        return Ok(());
    }
    if update {
        return fs::write(path, actual).map_err(|error| format!("{name}: {error}"));
    }
    Err(format!("{name}, {}", difference(&expected, &actual)))
}

#[test]
fn scenarios() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut paths: Vec<_> = fs::read_dir(&directory)
        .expect("the directory of the scenarios")
        .map(|entry| entry.expect("an entry of it").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "no scenarios in {}", directory.display());
    let problems: Vec<_> = paths.iter().filter_map(|path| play(path, update).err()).collect();
    assert!(
        problems.is_empty(),
        "{}\nif that is right: UPDATE_GOLDEN=1 cargo test -p paxos-core --test scenarios",
        problems.join("\n\n")
    );
}
