use std::{
    future::poll_fn,
    ops::RangeInclusive,
    pin::pin,
    sync::{Mutex, mpsc},
    thread,
};

use async_trait::async_trait;
use futures::FutureExt;

use super::*;
use crate::{
    message::Record,
    port::{Recovered, StorageError, Write, WriteBatch},
    types::{ClusterId, NodeId},
};

/// A state that gives out these bytes, after what the test wants first.
struct Scripted {
    bytes: &'static [u8],
    act: Act,
    /// Lives as long as the state or its reader does.
    _life: Arc<()>,
}

enum Act {
    Nothing,
    FailAtOnce,
    /// Once all bytes are read.
    Fail,
    Panic,
    /// Until the other end is dropped.
    Block(mpsc::Receiver<()>),
}

struct Reader(Scripted);

impl Snapshot for Scripted {
    fn into_reader(self) -> io::Result<Box<dyn Read + Send>> {
        match self.act {
            Act::FailAtOnce => Err(io::Error::other("the table is gone")),
            _ => Ok(Box::new(Reader(self))),
        }
    }

    fn from_reader(_: Box<dyn Read + Send>) -> io::Result<Scripted> {
        unreachable!("nothing is restored here")
    }
}

impl Read for Reader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Scripted { bytes, act, .. } = &mut self.0;
        match act {
            Act::Panic => panic!("this page makes no sense"),
            Act::Fail if bytes.is_empty() => return Err(io::Error::other("a bad sector")),
            Act::Block(until) => drop(until.recv()),
            _ => {}
        }
        // A byte at a time: a piece is made of as many reads as it takes.
        let count = usize::from(!bytes.is_empty() && !into.is_empty());
        into[..count].copy_from_slice(&bytes[..count]);
        *bytes = &bytes[count..];
        Ok(count)
    }
}

/// A storage with one state, of slot 5.
struct Disk {
    state: Vec<u8>,
    fails: bool,
    /// What has been asked of it: from where, and how much at most.
    asked: Mutex<Vec<(u64, usize)>>,
}

impl Disk {
    fn new(state: Vec<u8>, fails: bool) -> Arc<Disk> {
        Arc::new(Disk { state, fails, asked: Mutex::default() })
    }
}

#[async_trait]
impl Storage for Disk {
    async fn recover(&self, _: ClusterId, _: NodeId) -> Result<Recovered, StorageError> {
        unreachable!("only states are read here")
    }

    fn write(&self, _: WriteBatch) -> Write {
        unreachable!("only states are read here")
    }

    async fn read(&self, _: RangeInclusive<Slot>, _: usize) -> Result<Vec<Record>, StorageError> {
        unreachable!("only states are read here")
    }

    async fn read_state(
        &self,
        slot: Slot,
        offset: u64,
        bytes_max: usize,
    ) -> Result<Bytes, StorageError> {
        self.asked.lock().expect("no panic").push((offset, bytes_max));
        if self.fails {
            return Err(StorageError::Failed);
        }
        assert_eq!(slot, Slot(5));
        let rest = &self.state[usize::try_from(offset).expect("small")..];
        Ok(Bytes::copy_from_slice(&rest[..bytes_max.min(rest.len())]))
    }

    async fn close(&self) {}
}

struct Bench {
    reader: StateReader<Scripted>,
    asked: u64,
    /// Held by every state that is left.
    life: Arc<()>,
}

impl Bench {
    fn new() -> Bench {
        let disk = Disk::new(b"of the storage".to_vec(), false);
        Bench { reader: StateReader::new(disk), asked: 0, life: Arc::new(()) }
    }

    fn add(&mut self, id: u64, bytes: &'static [u8], act: Act) {
        let life = Arc::clone(&self.life);
        self.reader.add(SnapshotId(id), Scripted { bytes, act, _life: life });
    }

    /// Asks for the next three bytes of a snapshot.
    fn ask(&mut self, snapshot: u64) -> StateReadId {
        self.ask_for(StateSource::Snapshot(SnapshotId(snapshot)))
    }

    fn ask_for(&mut self, source: StateSource) -> StateReadId {
        self.asked += 1;
        let id = StateReadId(self.asked);
        self.reader.push(StateRead { id, source, bytes_max: 3 });
        id
    }

    async fn next(&mut self) -> Result<(StateReadId, Bytes), NodeError> {
        poll_fn(|cx| self.reader.poll_next(cx)).await
    }

    /// The next three bytes of a snapshot.
    async fn piece(&mut self, snapshot: u64) -> Result<Bytes, NodeError> {
        let asked = self.ask(snapshot);
        let (id, bytes) = self.next().await?;
        assert_eq!(id, asked);
        Ok(bytes)
    }

    fn is_pending(&mut self) -> bool {
        let next = pin!(self.next());
        next.now_or_never().is_none()
    }

    /// Neither a state nor a note of one.
    fn assert_empty(&self) {
        let StateReader { snapshots, waiting, let_go, under_way, .. } = &self.reader;
        assert_eq!(Arc::strong_count(&self.life), 1, "a state is left");
        assert!(snapshots.is_empty() && waiting.is_empty() && let_go.is_empty());
        assert!(under_way.is_empty());
    }
}

#[tokio::test]
async fn pieces_of_a_snapshot_come_in_order_and_nothing_at_its_end() {
    let mut bench = Bench::new();
    bench.add(1, b"abcdefgh", Act::Nothing);
    bench.add(2, b"other", Act::Nothing);
    for (snapshot, expected) in
        [(1, "abc"), (2, "oth"), (1, "def"), (1, "gh"), (2, "er"), (1, ""), (1, "")]
    {
        assert_eq!(bench.piece(snapshot).await, Ok(Bytes::from(expected)));
    }
    bench.reader.let_go(SnapshotId(1));
    bench.reader.let_go(SnapshotId(2));
    bench.assert_empty();
}

#[tokio::test]
async fn a_read_waits_for_a_snapshot_that_is_yet_to_be_taken() {
    let mut bench = Bench::new();
    let asked = bench.ask(1);
    assert!(bench.is_pending());
    bench.add(2, b"other", Act::Nothing);
    assert!(bench.is_pending(), "that is another one");
    bench.add(1, b"abc", Act::Nothing);
    assert_eq!(bench.next().await, Ok((asked, Bytes::from("abc"))));
}

#[tokio::test]
async fn a_snapshot_that_is_let_go_leaves_nothing_behind_whenever_that_is() {
    let mut bench = Bench::new();
    bench.add(1, b"abc", Act::Nothing);
    bench.reader.let_go(SnapshotId(1));
    bench.assert_empty();

    // Before it is taken.
    bench.reader.let_go(SnapshotId(2));
    bench.add(2, b"abc", Act::Nothing);
    bench.assert_empty();

    // While somebody waits for it to be taken.
    bench.ask(3);
    bench.reader.let_go(SnapshotId(3));
    bench.add(3, b"abc", Act::Nothing);
    assert!(bench.is_pending());
    bench.assert_empty();

    // Between two pieces.
    bench.add(4, b"abcdef", Act::Nothing);
    assert_eq!(bench.piece(4).await, Ok(Bytes::from("abc")));
    bench.reader.let_go(SnapshotId(4));
    bench.assert_empty();

    // While it is being read.
    bench.add(5, b"abcdef", Act::Nothing);
    let asked = bench.ask(5);
    bench.reader.let_go(SnapshotId(5));
    assert_eq!(bench.next().await, Ok((asked, Bytes::from("abc"))));
    bench.assert_empty();
}

#[tokio::test]
async fn a_snapshot_that_blocks_holds_up_nobody_else() {
    let mut bench = Bench::new();
    let (until, blocked) = mpsc::channel();
    bench.add(1, b"late", Act::Block(blocked));
    bench.add(2, b"abc", Act::Nothing);
    let late = bench.ask(1);
    assert_eq!(bench.piece(2).await, Ok(Bytes::from("abc")));
    drop(until);
    assert_eq!(bench.next().await, Ok((late, Bytes::from("lat"))));
}

#[tokio::test]
async fn a_snapshot_is_read_on_a_thread_that_may_block() {
    struct Thread;

    impl Snapshot for Thread {
        fn into_reader(self) -> io::Result<Box<dyn Read + Send>> {
            let id = format!("{:?}", thread::current().id());
            Ok(Box::new(io::Cursor::new(id)))
        }

        fn from_reader(_: Box<dyn Read + Send>) -> io::Result<Thread> {
            Ok(Thread)
        }
    }

    let mut reader = StateReader::new(Disk::new(Vec::new(), false));
    reader.add(SnapshotId(1), Thread);
    let source = StateSource::Snapshot(SnapshotId(1));
    reader.push(StateRead { id: StateReadId(1), source, bytes_max: 100 });
    let (_, there) = poll_fn(|cx| reader.poll_next(cx)).await.expect("a piece");
    assert_ne!(there, format!("{:?}", thread::current().id()));
}

#[tokio::test]
async fn a_state_that_cannot_be_read_is_an_error_that_says_why() {
    let failed = |reason: &str| Err(NodeError::Snapshot(reason.to_owned()));
    let panicked = NodeError::Panicked {
        task: "state machine",
        message: "this page makes no sense".to_owned(),
    };
    for (act, expected) in [
        (Act::FailAtOnce, failed("the table is gone")),
        (Act::Fail, failed("a bad sector")),
        (Act::Panic, Err(panicked)),
    ] {
        let mut bench = Bench::new();
        bench.add(1, b"ab", act);
        assert_eq!(bench.piece(1).await, expected);
    }
    let mut bench = Bench::new();
    bench.add(1, b"abc", Act::Fail);
    assert_eq!(bench.piece(1).await, Ok(Bytes::from("abc")), "so far it is sound");
    assert_eq!(bench.piece(1).await, failed("a bad sector"));
}

#[tokio::test]
async fn a_piece_of_a_stored_state_comes_from_the_storage() {
    let mut bench = Bench::new();
    for (offset, expected) in [(3, "the"), (0, "of "), (14, "")] {
        let asked = bench.ask_for(StateSource::Stored { slot: Slot(5), offset });
        assert_eq!(bench.next().await, Ok((asked, Bytes::from(expected))));
    }
    bench.reader = StateReader::new(Disk::new(Vec::new(), true));
    bench.ask_for(StateSource::Stored { slot: Slot(5), offset: 0 });
    assert_eq!(bench.next().await, Err(NodeError::Storage(StorageError::Failed)));
}

async fn read_all(disk: &Arc<Disk>) -> io::Result<Vec<u8>> {
    let storage: Arc<dyn Storage> = Arc::<Disk>::clone(disk);
    let mut stored = StoredState::new(storage, Handle::current(), Slot(5));
    let read = move || {
        let mut bytes = Vec::new();
        stored.read_to_end(&mut bytes).map(|_| bytes)
    };
    spawn_blocking(read).await.expect("no panic")
}

#[tokio::test]
async fn a_stored_state_of_many_pieces_is_read_in_one_go() {
    let page = PAGE_BYTES_MAX as u64;
    for (length, asked) in [
        (0, vec![0]),
        (1, vec![0, 1]),
        (page, vec![0, page]),
        (2 * page + 7, vec![0, page, 2 * page, 2 * page + 7]),
    ] {
        let state: Vec<u8> = (0..length).map(|place| (place % 251) as u8).collect();
        let disk = Disk::new(state, false);
        assert!(read_all(&disk).await.expect("it is readable") == disk.state, "{length} bytes");
        let mut expected: Vec<_> = asked.into_iter().map(|at| (at, PAGE_BYTES_MAX)).collect();
        let mut seen = disk.asked.lock().expect("no panic").clone();
        // Whoever reads to the end may ask twice whether it is there.
        seen.dedup();
        expected.dedup();
        assert_eq!(seen, expected, "{length} bytes");
    }
}

#[tokio::test]
async fn a_stored_state_that_cannot_be_read_is_an_error_that_says_why() {
    let error = read_all(&Disk::new(vec![1], true)).await.expect_err("it fails");
    assert_eq!(error.to_string(), StorageError::Failed.to_string());
}
