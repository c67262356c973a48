//! Tests of the parts: the proxies do to traffic what their links say, and the seed decides what
//! happens.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use clap::Parser;
use paxos_core::types::{ClusterId, Identity, NodeId, StoreId};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    time::timeout,
};

use super::{
    faults::{Fault, Schedule},
    network::Network,
    options::{Options, Setup, Transport},
    tcp, udp,
};

/// Long enough for what arrives to arrive.
const PATIENCE: Duration = Duration::from_secs(10);

/// Long enough to believe that nothing arrives.
const SILENCE: Duration = Duration::from_millis(100);

/// From the first server to the second, and back.
const THERE: (usize, usize) = (0, 1);
const BACK: (usize, usize) = (1, 0);

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// What a server says first when it dials.
fn hello(node: u64) -> Vec<u8> {
    let identity = Identity { cluster: ClusterId(7), node: NodeId(node), store: StoreId(u64::MAX) };
    let frame = postcard::to_allocvec(&identity).expect("it can be encoded");
    let length = u32::try_from(frame.len()).expect("short").to_le_bytes();
    [b"paxos\n\x01\x00", &length[..], &[0; 8], &frame].concat()
}

/// A connection through a proxy: the network, the side of the first server, that of the second.
async fn connection() -> io::Result<(Arc<Network>, TcpStream, TcpStream)> {
    let server = TcpListener::bind("127.0.0.1:0").await?;
    let target = tcp::Target {
        server: 1,
        address: server.local_addr()?,
        stands: vec![LOCAL; 2],
        indexes: BTreeMap::from([(NodeId(11), 0), (NodeId(22), 1)]),
    };
    let network = Arc::new(Network::new(2));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let proxy = listener.local_addr()?;
    tokio::spawn(tcp::relay(listener, target, network.clone()));
    let mut dialler = TcpStream::connect(proxy).await?;
    dialler.write_all(&hello(11)).await?;
    let (mut listening, _) = server.accept().await?;
    let mut heard = vec![0; hello(11).len()];
    listening.read_exact(&mut heard).await?;
    assert_eq!(heard, hello(11), "what the proxy reads it passes on");
    Ok((network, dialler, listening))
}

/// A cut holds one direction back and not the other; what was held back arrives after it.
pub(crate) async fn tcp_is_cut_in_one_direction() -> io::Result<()> {
    let (network, mut dialler, mut listening) = connection().await?;
    network.change(&[THERE], |link| link.is_cut = true);
    dialler.write_all(b"there").await?;
    listening.write_all(b"back").await?;
    let mut back = [0; 4];
    timeout(PATIENCE, dialler.read_exact(&mut back)).await??;
    let mut there = [0; 5];
    let arrived = timeout(SILENCE, listening.read_exact(&mut there)).await;
    assert!(arrived.is_err(), "it got through a cut");
    network.heal();
    timeout(PATIENCE, listening.read_exact(&mut there)).await??;
    assert_eq!((&there, &back), (b"there", b"back"));
    Ok(())
}

/// Both ends of a severed connection are told that it was reset.
pub(crate) async fn tcp_is_severed() -> io::Result<()> {
    let (network, mut dialler, mut listening) = connection().await?;
    network.sever(&[BACK]);
    for stream in [&mut dialler, &mut listening] {
        let end = timeout(PATIENCE, stream.read_u8()).await?;
        assert_eq!(end.expect_err("it ends").kind(), io::ErrorKind::ConnectionReset);
    }
    Ok(())
}

/// Datagrams meet the link of their direction, and come from somebody else for each sender.
pub(crate) async fn udp_is_cut_lost_and_doubled_by_direction() -> io::Result<()> {
    let bind = || UdpSocket::bind("127.0.0.1:0");
    let (servers, fronts) = (
        [bind().await?, bind().await?, bind().await?],
        vec![bind().await?, bind().await?, bind().await?],
    );
    let addresses: io::Result<Vec<_>> = servers.iter().map(UdpSocket::local_addr).collect();
    let front = fronts[1].local_addr()?;
    let network = Arc::new(Network::new(3));
    let _proxy = udp::relay(fronts, addresses?, |_| LOCAL, network.clone()).await?;
    let mut buffer = [0; 16];

    network.change(&[THERE], |link| link.duplication = 1.0);
    servers[0].send_to(b"twice", front).await?;
    let (_, first) = timeout(PATIENCE, servers[1].recv_from(&mut buffer)).await??;
    timeout(PATIENCE, servers[1].recv_from(&mut buffer)).await??;
    servers[2].send_to(b"once", front).await?;
    let (length, third) = timeout(PATIENCE, servers[1].recv_from(&mut buffer)).await??;
    assert_eq!(&buffer[..length], b"once");
    assert_ne!(first, third, "two senders look alike");

    network.heal();
    network.change(&[THERE], |link| link.is_cut = true);
    servers[0].send_to(b"there", front).await?;
    servers[1].send_to(b"back", first).await?;
    let (length, from) = timeout(PATIENCE, servers[0].recv_from(&mut buffer)).await??;
    assert_eq!((&buffer[..length], from), (&b"back"[..], front));
    assert!(timeout(SILENCE, servers[1].recv_from(&mut buffer)).await.is_err(), "it got through");

    network.heal();
    network.change(&[THERE], |link| link.loss = 1.0);
    servers[0].send_to(b"there", front).await?;
    assert!(timeout(SILENCE, servers[1].recv_from(&mut buffer)).await.is_err(), "it got through");
    Ok(())
}

/// The same seed, the same faults; every one of them, even in a short run.
pub(crate) fn the_seed_decides_about_faults() {
    for seed in 0..100 {
        let setup = everything(seed);
        let (schedule, again) = (Schedule::new(&setup), Schedule::new(&setup));
        assert_eq!(schedule.network, again.network);
        assert_eq!(schedule.processes, again.processes);
        for fault in Schedule::possible(&setup) {
            let mut steps = schedule.network.iter().chain(&schedule.processes);
            assert!(steps.any(|step| step.fault == fault), "seed {seed} has no {fault}");
        }
    }
    assert_ne!(Schedule::new(&everything(1)).network, Schedule::new(&everything(2)).network);
}

/// A short run with every fault.
fn everything(seed: u64) -> Setup {
    let setup = Setup::new(5, Transport::Quic, seed, super::SHORT, true);
    Setup { packet_filter: true, ..setup }
}

/// A run can be had again as it was, also one that was cut short at the end of a long one.
pub(crate) fn the_command_of_a_run_repeats_its_faults() {
    let duration = Duration::new(119, 987_654_321);
    let setup = Setup {
        only: vec![Fault::CutHub, Fault::KillOne],
        ..Setup::new(5, Transport::Quic, 7, duration, true)
    };
    let command = setup.command();
    let (_, arguments) = command.split_once(" -- ").expect("options for this program");
    let options = Options::try_parse_from(format!("processes {arguments}").split(' '));
    let options = options.unwrap_or_else(|error| panic!("{command}: {error}"));
    assert_eq!((options.nodes, options.seed), (Some(5), Some(7)), "{command}");
    assert_eq!((options.transport, options.faults), (Some(setup.transport), setup.only));
    assert_eq!(Duration::from_secs_f64(options.round_seconds), duration, "{command}");
    let minutes = options.minutes.expect("a long run");
    let all = Duration::from_secs_f64(60.0 * minutes);
    assert!(duration <= all && all < duration + super::SHORT, "{command}: one round, and whole");
}

/// Each kind of cut leaves the links that its name says.
pub(crate) fn cuts_are_what_they_are_called() {
    let order = [3, 1, 4, 0, 2];
    let cuts = |fault: Fault| fault.cuts(&order, 1);
    assert_eq!(cuts(Fault::CutOneWay), [(3, 1)]);
    assert_eq!(cuts(Fault::CutMute), [(3, 0), (3, 1), (3, 2), (3, 4)]);
    assert_eq!(cuts(Fault::CutDeaf), [(0, 3), (1, 3), (2, 3), (4, 3)]);
    assert_eq!(cuts(Fault::CutIsland).len(), 8);
    let halves = cuts(Fault::CutHalves);
    assert!(halves.contains(&(3, 4)) && halves.contains(&(4, 1)) && !halves.contains(&(3, 1)));
    assert_eq!(halves.len(), 12);
    let hub = cuts(Fault::CutHub);
    assert!(hub.len() == 12 && hub.iter().all(|&(from, to)| from != 3 && to != 3));
    let chain = cuts(Fault::CutChain);
    assert!(chain.len() == 12 && !chain.contains(&(1, 4)) && chain.contains(&(3, 2)));
    let ring = cuts(Fault::CutRing);
    assert!(ring.len() == 15 && !ring.contains(&(2, 3)) && ring.contains(&(3, 2)));
    assert_eq!(Fault::CutAny.cuts(&order, 0b101).len(), 2);
    assert_eq!(cuts(Fault::DropAll), cuts(Fault::CutIsland));
    let constrained = cuts(Fault::DropConstrained);
    let is_left = |(from, to)| (from == 1 || to == 1) && from != 3 && to != 3;
    assert_eq!(constrained.len(), 14);
    assert!(!constrained.iter().copied().any(is_left));
    let [from, to] = [cuts(Fault::CutMute), cuts(Fault::CutDeaf)];
    assert_eq!([0, 1].map(|mask| Fault::DropOneWay.cuts(&order, mask)), [from.clone(), to.clone()]);
    let large = [0, 1, 2].map(|mask| Fault::DropLarge.cuts(&order, mask));
    assert_eq!(large, [from, to, cuts(Fault::CutIsland)]);
}
