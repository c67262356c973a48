//! What the machine itself allows: the floor below every figure of a cluster on it.

use std::{
    fs::File,
    io::{self, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::Path,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::HarnessError;

/// The answer of the other side in [`Loopback`], in bytes: a vote carries about as much.
const ANSWER_BYTES: usize = 32;

/// Appends to one file and syncs it: what a durable log costs without any of its structure.
#[derive(Debug)]
pub struct Fdatasync {
    file: File,
    _directory: tempfile::TempDir,
}

impl Fdatasync {
    /// An empty file in a new directory below `directory`, which should be on the file system
    /// where the nodes of the same run have theirs.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn new(directory: &Path) -> Result<Fdatasync, HarnessError> {
        let create = || -> io::Result<Fdatasync> {
            std::fs::create_dir_all(directory)?;
            let directory = tempfile::TempDir::with_prefix_in("fdatasync-", directory)?;
            let file = File::create(directory.path().join("log"))?;
            Ok(Fdatasync { file, _directory: directory })
        };
        create().map_err(HarnessError::io("create a file to sync"))
    }

    /// Appends `bytes` bytes and waits until they are on the disk, `rounds` times.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn drive(&mut self, bytes: usize, rounds: u64) -> Result<Duration, HarnessError> {
        let data = vec![0x5a; bytes];
        let mut rounds_of = || -> io::Result<Duration> {
            let start = Instant::now();
            for _ in 0..rounds {
                self.file.write_all(&data)?;
                self.file.sync_data()?;
            }
            Ok(start.elapsed())
        };
        rounds_of().map_err(HarnessError::io("append and fdatasync"))
    }
}

/// A TCP connection over loopback whose other side, a thread, answers each message of a fixed size
/// with a few bytes: what reaching a peer costs without encryption, framing or a runtime.
#[derive(Debug)]
pub struct Loopback {
    stream: TcpStream,
    message: Vec<u8>,
    answering: JoinHandle<io::Result<()>>,
}

impl Loopback {
    /// Connects, for messages of `bytes` bytes.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn new(bytes: usize) -> Result<Loopback, HarnessError> {
        let connect = || -> io::Result<Loopback> {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            let stream = TcpStream::connect(listener.local_addr()?)?;
            stream.set_nodelay(true)?;
            let (other, _) = listener.accept()?;
            other.set_nodelay(true)?;
            let answering = std::thread::Builder::new()
                .name("loopback".to_owned())
                .spawn(move || answer(other, bytes))?;
            Ok(Loopback { stream, message: vec![0x5a; bytes], answering })
        };
        connect().map_err(HarnessError::io("connect over loopback"))
    }

    /// Sends a message and waits for the answer, `rounds` times.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn drive(&mut self, rounds: u64) -> Result<Duration, HarnessError> {
        let mut answer = [0; ANSWER_BYTES];
        let mut rounds_of = || -> io::Result<Duration> {
            let start = Instant::now();
            for _ in 0..rounds {
                self.stream.write_all(&self.message)?;
                self.stream.read_exact(&mut answer)?;
            }
            Ok(start.elapsed())
        };
        rounds_of().map_err(HarnessError::io("a round trip over loopback"))
    }

    /// Closes the connection and waits for the end of the other side.
    ///
    /// # Errors
    ///
    /// What the operating system told the other side.
    ///
    /// # Panics
    ///
    /// If the other side has panicked.
    pub fn close(self) -> Result<(), HarnessError> {
        drop(self.stream);
        let answered = self.answering.join().expect("the other side only reads and writes");
        answered.map_err(HarnessError::io("answer over loopback"))
    }
}

/// Answers messages of `bytes` bytes until the connection is closed.
fn answer(mut stream: TcpStream, bytes: usize) -> io::Result<()> {
    let mut message = vec![0; bytes];
    loop {
        match stream.read_exact(&mut message) {
            Ok(()) => stream.write_all(&[0x5a; ANSWER_BYTES])?,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_does_what_it_says_as_often_as_it_is_told() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut fdatasync = Fdatasync::new(directory.path()).expect("a file");
        fdatasync.drive(100, 3).expect("written");
        assert_eq!(fdatasync.file.metadata().expect("there").len(), 300);

        let mut loopback = Loopback::new(100_000).expect("connected");
        loopback.drive(3).expect("answered");
        loopback.close().expect("a clean end");
    }
}
