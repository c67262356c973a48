//! Outputs that cannot be written: nobody reads them, or their disk is full.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    os::fd::OwnedFd,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{PATIENCE, Single, program, stdout};

/// A program that runs, and is ended with the test.
struct Process(Child);

impl Process {
    fn start(command: &mut Command) -> Process {
        Process(command.spawn().expect("it runs"))
    }

    /// Waits until it has ended by itself.
    fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.0.try_wait().expect("it can be waited for") {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Asks it to end, and expects that it does so without an error.
    fn end(mut self) {
        let id = i32::try_from(self.0.id()).expect("a process id fits");
        kill(Pid::from_raw(id), Signal::SIGTERM).expect("it runs");
        assert_eq!(self.ended().code(), Some(0));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn full() -> Stdio {
    File::options().write(true).open("/dev/full").expect("the device is there").into()
}

/// Writes and reads a key, as soon as it is served.
fn is_served(single: &Single) {
    let endpoint = single.endpoint();
    let deadline = Instant::now() + PATIENCE;
    let put = ["put", "k", "v", "--endpoints", &endpoint];
    while !program(&put).output().expect("it runs").status.success() {
        assert!(Instant::now() < deadline, "nobody serves");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(stdout(&["get", "k", "--print-value-only", "--endpoints", &endpoint]), "v\n");
}

#[test]
fn a_log_that_cannot_be_written_ends_no_server() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let single = Single::new(directory.path());
    let arguments = single.arguments(&["--quota-backend-bytes=1"]);
    let server = Process::start(program(&arguments).stdout(full()).stderr(full()));
    is_served(&single);
    server.end();
}

#[test]
fn a_reader_of_the_log_that_goes_away_ends_no_server() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let single = Single::new(directory.path());
    let arguments = single.arguments(&["--log-level", "debug"]);
    let mut server =
        Process::start(program(&arguments).stdout(Stdio::null()).stderr(Stdio::piped()));
    let mut log = BufReader::new(server.0.stderr.take().expect("it is piped"));
    log.read_line(&mut String::new()).expect("a line");
    drop(log);
    is_served(&single);
    server.end();
}

/// The pipe holds 64 KiB, and the reader takes none of it.
#[test]
fn a_reader_of_the_log_that_stands_still_holds_nobody_up() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let single = Single::new(directory.path());
    let arguments = single.arguments(&["--log-level", "trace"]);
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let log = Stdio::from(OwnedFd::from(writer));
    let server = Process::start(program(&arguments).stdout(Stdio::null()).stderr(log));
    for _ in 0..10 {
        is_served(&single);
    }
    server.end();
    let mut log = Vec::new();
    reader.read_to_end(&mut log).expect("what has come through");
    // But for the line that did not fit any more.
    assert!(log.len() >= 60 << 10, "the log of {} bytes did not fill the pipe", log.len());
}

/// As by `demo | head -1`.
#[test]
fn the_demo_ends_when_nobody_listens_any_more() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let data = directory.path().display().to_string();
    let arguments = ["demo", "--data-dir", &data];
    let mut demo = Process::start(program(&arguments).stdout(Stdio::piped()).stderr(full()));
    let mut shown = BufReader::new(demo.0.stdout.take().expect("it is piped"));
    shown.read_line(&mut String::new()).expect("a line");
    drop(shown);
    assert_eq!(demo.ended().code(), Some(0));
}

#[test]
fn an_error_that_cannot_be_shown_is_still_one() {
    let nobody = format!("127.0.0.1:{}", super::ports::free_port());
    for arguments in [["get", "k", "--endpoints", &nobody], ["txn", "--if", "x", "--then=del k"]] {
        let mut client = Process::start(program(&arguments).stdout(full()).stderr(full()));
        assert_eq!(client.ended().code(), Some(1), "{arguments:?}");
    }
    let mut usage = Process::start(program(&["serve", "--no-such-flag"]).stderr(full()));
    assert_eq!(usage.ended().code(), Some(2));
    let mut help = Process::start(program(&["serve", "--help"]).stdout(full()).stderr(full()));
    help.ended();
}

/// A result that is not there is an error, unless its reader has seen enough.
#[test]
fn a_result_that_cannot_be_written_is_an_error() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let single = Single::new(directory.path());
    let server = Process::start(program(&single.arguments(&[])).stderr(Stdio::null()));
    is_served(&single);
    let endpoint = single.endpoint();
    let arguments = ["get", "k", "--endpoints", &endpoint];
    let failed = program(&arguments).stdout(full()).output().expect("it runs");
    let stderr = String::from_utf8_lossy(&failed.stderr);
    assert_eq!(failed.status.code(), Some(1));
    assert!(stderr.starts_with("paxos-kv: cannot write the result"), "{stderr}");
    let mut client = Process::start(program(&arguments).stdout(Stdio::piped()));
    drop(client.0.stdout.take());
    assert_eq!(client.ended().code(), Some(0));
    server.end();
}
