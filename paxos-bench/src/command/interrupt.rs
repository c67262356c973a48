//! Ctrl-C: the first ends the run with a report of what has been measured, the second ends it.

use std::{
    process::{self, ExitCode},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// What a shell expects of a program that Ctrl-C has ended.
const EXIT_CODE: u8 = 130;

/// A flag that Ctrl-C sets.
pub(super) fn flag() -> Result<Arc<AtomicBool>, ctrlc::Error> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let on_interrupt = Arc::clone(&interrupted);
    ctrlc::set_handler(move || {
        if on_interrupt.swap(true, Ordering::Relaxed) {
            process::exit(EXIT_CODE.into());
        }
    })?;
    Ok(interrupted)
}

/// How a run ends that has left its report.
pub(super) fn exit_code(interrupted: bool) -> ExitCode {
    if interrupted { ExitCode::from(EXIT_CODE) } else { ExitCode::SUCCESS }
}
