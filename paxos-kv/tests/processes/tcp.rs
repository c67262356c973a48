//! Relays TCP connections between servers.
//!
//! One listener stands for each server; the others are told its address. Who has dialled is in the
//! first frame of a connection, which travels in the clear: the identity of the dialling server.
//! So both directions of a connection find their link, and each is held up, delayed and narrowed
//! by itself. Bytes keep their order and none is lost within a connection; a cut holds them back,
//! the end of the connection included, until it is healed, and a severed connection is reset.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use paxos_core::types::{Identity, NodeId};
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpSocket, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::network::{Effects, Network, Pair, befalls, somewhere_up_to};

/// What stands before the first frame: magic and version.
const PREAMBLE_BYTES: usize = 8;

/// Before each frame: its length, its group and a checksum.
const PREFIX_BYTES: usize = 12;

/// The longest first frame.
const HELLO_BYTES_MAX: usize = 2048;

/// How long a dialler may take to say who it is.
const HELLO_MAX: Duration = Duration::from_secs(5);

/// What is passed on at once.
const CHUNK_BYTES: usize = 16 << 10;

/// Chunks under way in one direction of a connection.
const CHUNKS_MAX: usize = 64;

/// How late a stream is when a packet was lost: what a sender waits before it sends again.
const RETRANSMISSION: Duration = Duration::from_millis(200);

/// How often to look for a place in the queue of a narrow link.
const PLACE_INTERVAL: Duration = Duration::from_millis(10);

/// The server that a relay stands for.
pub(crate) struct Target {
    pub(crate) server: usize,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Where what stands before it for each of the servers comes from.
    pub(crate) stands: Vec<IpAddr>,
    /// The index of each server.
    pub(crate) indexes: BTreeMap<NodeId, usize>,
}

/// Relays what is dialled at `listener` to its target, until it is dropped.
pub(crate) async fn relay(listener: TcpListener, target: Target, network: Arc<Network>) {
    let target = Arc::new(target);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // A dialler that is gone again, or no more descriptors: it will dial again.
                let Ok((stream, _)) = accepted else { continue };
                let connection = connection(stream, target.clone(), network.clone());
                connections.spawn(connection);
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Relays one connection until it ends. That it ended with an error is what the two servers see
/// too, and nothing to report.
async fn connection(
    mut dialler: TcpStream,
    target: Arc<Target>,
    network: Arc<Network>,
) -> io::Result<()> {
    dialler.set_nodelay(true)?;
    let hello = timeout(HELLO_MAX, hello(&mut dialler)).await??;
    let source = source(&hello).and_then(|node| target.indexes.get(&node));
    let &source = source.ok_or(io::ErrorKind::InvalidData)?;
    let (there, back) = ((source, target.server), (target.server, source));
    // A connection takes a packet in each direction.
    network.link(there).open().await;
    network.link(back).open().await;
    let socket = TcpSocket::new_v4()?;
    socket.bind((target.stands[source], 0).into())?;
    let mut listening = socket.connect(target.address).await?;
    listening.set_nodelay(true)?;
    let ended = {
        let (from_dialler, to_dialler) = dialler.split();
        let (from_listening, to_listening) = listening.split();
        let relayed = async {
            tokio::try_join!(
                pump(hello, from_dialler, to_listening, there, &network),
                pump(Vec::new(), from_listening, to_dialler, back, &network),
            )
        };
        let severed = async {
            tokio::select! {
                () = network.link(there).severed() => {}
                () = network.link(back).severed() => {}
            }
            Effects::count(&network.effects.severed);
        };
        tokio::select! {
            relayed = relayed => relayed.map(drop),
            () = severed => Err(io::ErrorKind::ConnectionReset.into()),
        }
    };
    if ended.is_err() {
        // A reset on one side is a reset on the other.
        for stream in [&dialler, &listening] {
            SockRef::from(stream).set_linger(Some(Duration::ZERO))?;
        }
    }
    ended
}

/// Reads up to the end of the first frame, and returns all of that.
async fn hello(dialler: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; PREAMBLE_BYTES + PREFIX_BYTES];
    dialler.read_exact(&mut bytes).await?;
    let length = bytes[PREAMBLE_BYTES..][..4].try_into().expect("four bytes");
    let length = u32::from_le_bytes(length) as usize;
    if length > HELLO_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    bytes.resize(bytes.len() + length, 0);
    dialler.read_exact(&mut bytes[PREAMBLE_BYTES + PREFIX_BYTES..]).await?;
    Ok(bytes)
}

/// Who says so.
fn source(hello: &[u8]) -> Option<NodeId> {
    let frame = &hello[PREAMBLE_BYTES + PREFIX_BYTES..];
    let (identity, _) = postcard::take_from_bytes::<Identity>(frame).ok()?;
    Some(identity.node)
}

/// Passes on what comes `from` one side, as the link makes it, until the end of the stream.
async fn pump(
    first: Vec<u8>,
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    pair: Pair,
    network: &Network,
) -> io::Result<()> {
    let (sender, mut receiver) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS_MAX);
    let read = async move {
        let mut chunk = first;
        loop {
            if !chunk.is_empty() {
                let due = Instant::now() + lateness(chunk.len(), pair, network).await;
                if sender.send((due, chunk)).await.is_err() {
                    return Ok(());
                }
            }
            chunk = vec![0; CHUNK_BYTES];
            let length = from.read(&mut chunk).await?;
            if length == 0 {
                return Ok(());
            }
            chunk.truncate(length);
        }
    };
    let write = async {
        while let Some((due, chunk)) = receiver.recv().await {
            sleep_until(due).await;
            if network.link(pair).condition().is_cut {
                Effects::count(&network.effects.stopped_by_cut);
            }
            network.link(pair).open().await;
            to.write_all(&chunk).await?;
        }
        network.link(pair).open().await;
        to.shutdown().await
    };
    tokio::try_join!(read, write).map(drop)
}

/// How late a chunk arrives. Waits for a place in the queue of a narrow link, so that the sender
/// notices.
async fn lateness(bytes: usize, pair: Pair, network: &Network) -> Duration {
    let link = network.link(pair);
    let condition = link.condition();
    let mut late = somewhere_up_to(condition.delay_max);
    if late > Duration::ZERO {
        Effects::count(&network.effects.delayed);
    }
    if befalls(condition.loss) {
        Effects::count(&network.effects.lost);
        late += RETRANSMISSION;
    }
    let queueing = loop {
        match link.queueing(bytes) {
            Some(queueing) => break queueing,
            None => sleep(PLACE_INTERVAL).await,
        }
    };
    if queueing > Duration::ZERO {
        Effects::count(&network.effects.throttled);
    }
    late + queueing
}
