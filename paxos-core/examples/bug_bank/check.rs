//! Which check a bug ran into; of an assertion, also where it stands.

use std::{cell::RefCell, panic, path::Path, thread};

use paxos_core::sim::{Check, Failure};

/// The name of a thread whose panics are results, and no news.
pub(super) const HUNTER: &str = "hunter";

thread_local! {
    static PANICKED_IN: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Lets hunters panic in silence, but remembers where.
pub(super) fn note_assertions() {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if thread::current().name() != Some(HUNTER) {
            return print(panic);
        }
        let file = panic.location().map_or(Path::new(""), |at| Path::new(at.file()));
        PANICKED_IN.set(file.file_name().unwrap_or_default().to_string_lossy().into_owned());
    }));
}

/// The check that failed.
pub(super) fn of(failure: &Failure) -> String {
    match failure.check {
        Check::Assertion => format!("assertion in `{}`", PANICKED_IN.take()),
        check => check.to_string(),
    }
}
