//! The log of a server: lines on standard error, written by a thread of its own.
//!
//! Guarantees: a log that cannot be written, or whose reader stands still, neither ends the server nor
//! holds it up. Lines wait within a bound, what has no room is dropped, and once lines get through again
//! one of them says how many are missing.

use std::{
    collections::VecDeque,
    io::{self, IsTerminal, Write},
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

use super::client::CommandError;

/// What may wait for its reader, in bytes.
const QUEUE_BYTES_MAX: usize = 1 << 20;

/// How long the end of the program waits for the last lines.
const LAST_LINES_MAX: Duration = Duration::from_secs(1);

/// The levels that a filter may name.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// The filter that a text stands for: levels, each alone or behind a target and `=`.
///
/// A word by itself that is no level would be a target to [`EnvFilter`], which would then pass nothing
/// else: a mistyped level must not silence the server.
pub(super) fn filter(text: &str) -> Option<EnvFilter> {
    let is_level = |word: &str| LEVELS.iter().any(|level| word.eq_ignore_ascii_case(level));
    let mut directives = text.split(',').map(str::trim).filter(|directive| !directive.is_empty());
    let named = directives.all(|directive| {
        let (_, level) = directive.rsplit_once('=').unwrap_or(("", directive));
        is_level(level.trim())
    });
    named.then(|| EnvFilter::try_new(text).ok()).flatten()
}

/// Logs what passes the filter to standard error until the value returned is dropped; coloured if somebody
/// looks on.
pub(super) fn start(filter: EnvFilter) -> Result<Log, CommandError> {
    let queue = Arc::new(Queue::default());
    let lines = Arc::clone(&queue);
    thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || write(&lines, io::stderr()))
        .map_err(|error| CommandError::Io("start the log".to_owned(), error))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(Lines(Arc::clone(&queue)))
        .with_ansi(io::stderr().is_terminal())
        .log_internal_errors(false)
        .init();
    Ok(Log(queue))
}

/// The log, as long as it lasts. Dropped, it waits a moment for the last lines.
pub(super) struct Log(Arc<Queue>);

impl Drop for Log {
    fn drop(&mut self) {
        let mut waiting = self.0.lock();
        waiting.ends = true;
        self.0.changed.notify_all();
        // Whoever reads so slowly has to do without the rest.
        let _ =
            self.0.changed.wait_timeout_while(waiting, LAST_LINES_MAX, |waiting| !waiting.ended);
    }
}

/// Lines on their way to the thread that writes them.
#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Lines that found no room since the thread last looked.
    lost: u64,
    /// The thread is to end when all is written.
    ends: bool,
    /// It has.
    ended: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing is half done when a thread panics here.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: &[u8]) {
        let mut waiting = self.lock();
        if waiting.bytes + line.len() > QUEUE_BYTES_MAX {
            waiting.lost += 1;
            return;
        }
        waiting.bytes += line.len();
        waiting.lines.push_back(line.to_vec());
        self.changed.notify_all();
    }

    /// The lines that wait, and how many are lost before the first of them; `None` at the end.
    fn pop(&self) -> Option<(VecDeque<Vec<u8>>, u64)> {
        let is_idle = |waiting: &mut Waiting| waiting.lines.is_empty() && !waiting.ends;
        let waiting = self.changed.wait_while(self.lock(), is_idle);
        let mut waiting = waiting.unwrap_or_else(PoisonError::into_inner);
        if waiting.lines.is_empty() {
            waiting.ended = true;
            self.changed.notify_all();
            return None;
        }
        waiting.bytes = 0;
        Some((mem::take(&mut waiting.lines), mem::take(&mut waiting.lost)))
    }
}

/// Takes the lines of the subscriber.
struct Lines(Arc<Queue>);

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Lines;

    fn make_writer(&'a self) -> &'a Lines {
        self
    }
}

impl Write for &Lines {
    /// The subscriber writes a line in one go.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The work of the thread.
fn write(queue: &Queue, to: impl Write) {
    let mut output = Output { to, lost: 0, is_cut: false };
    while let Some((lines, lost)) = queue.pop() {
        // What found no room came after what waits.
        lines.into_iter().for_each(|line| output.line(&line));
        output.lost += lost;
    }
}

/// Where the lines end up, if that is possible.
struct Output<W> {
    to: W,
    /// Lines that are missing.
    lost: u64,
    /// The last line is there in part.
    is_cut: bool,
}

impl<W: Write> Output<W> {
    fn line(&mut self, line: &[u8]) {
        if self.lost > 0 {
            let lost = self.lost;
            let remark = format!("paxos-kv: {lost} lines of the log could not be written\n");
            if self.all(remark.as_bytes()) {
                self.lost = 0;
            }
        }
        if self.lost > 0 || !self.all(line) {
            self.lost += 1;
        }
    }

    /// Writes a line, as one of its own; whether all of it is there now.
    fn all(&mut self, line: &[u8]) -> bool {
        if self.is_cut {
            self.is_cut = self.to.write_all(b"\n").is_err();
        }
        if self.is_cut {
            return false;
        }
        let mut left = line;
        while !left.is_empty() {
            match self.to.write(left) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(written) if written > 0 => left = &left[written..],
                _ => {
                    self.is_cut = left.len() < line.len();
                    return false;
                }
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk with so much room.
    struct Disk {
        holds: Vec<u8>,
        room: usize,
    }

    impl Write for &mut Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.room);
            self.room -= taken;
            self.holds.extend_from_slice(&bytes[..taken]);
            match taken {
                0 => Err(io::ErrorKind::StorageFull.into()),
                _ => Ok(taken),
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_cannot_be_written_are_dropped_and_counted_once_there_is_room() {
        let mut disk = Disk { holds: Vec::new(), room: 9 };
        let mut output = Output { to: &mut disk, lost: 0, is_cut: false };
        for line in ["first\n", "second\n", "third\n"] {
            output.line(line.as_bytes());
        }
        output.to.room = 1000;
        output.line(b"fourth\n");
        output.line(b"fifth\n");
        let holds = String::from_utf8(disk.holds).expect("text");
        let remark = "paxos-kv: 2 lines of the log could not be written";
        assert_eq!(holds, format!("first\nsec\n{remark}\nfourth\nfifth\n"));
    }

    #[test]
    fn what_waits_for_a_reader_is_bounded() {
        let queue = Queue::default();
        let line = vec![b'x'; 1000];
        for _ in 0..2 * QUEUE_BYTES_MAX / line.len() {
            queue.push(&line);
        }
        let (lines, lost) = queue.pop().expect("lines wait");
        assert_eq!(lines.len(), QUEUE_BYTES_MAX / line.len());
        assert_eq!(lines.len() + usize::try_from(lost).expect("few"), 2 * QUEUE_BYTES_MAX / 1000);
        queue.push(&line);
        let (lines, lost) = queue.pop().expect("there is room again");
        assert_eq!((lines.len(), lost), (1, 0));
    }

    #[test]
    fn a_mistyped_level_is_no_filter() {
        for text in ["inof", "info,paxos_core", "paxos_core=inof", "=", "info,verbose", "1"] {
            assert!(filter(text).is_none(), "{text}");
        }
        for text in ["info", "OFF", "info,paxos_core=debug", "warn,h2=trace", "h2[span]=error"] {
            assert!(filter(text).is_some(), "{text}");
        }
    }
}
