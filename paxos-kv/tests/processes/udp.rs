//! Relays datagrams between servers, which carry QUIC.
//!
//! One socket stands for each server, its *front*: the others are told its address. What server
//! `a` sends to the front of `b` leaves from a socket that stands for `a` in front of `b` alone,
//! so `b` can tell its peers apart, and what `b` answers there goes back to `a` from `b`'s front.
//! Every datagram meets its link by itself: it may be lost, late, overtaken or doubled.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{net::UdpSocket, task::JoinSet};

use super::network::{Effects, Network, Pair, befalls, somewhere_up_to};

/// The largest datagram.
const DATAGRAM_BYTES_MAX: usize = 64 << 10;

/// Datagrams that are late at the same time; more are lost.
const LATE_MAX: usize = 10_000;

/// How far others may overtake.
const OVERTAKEN_MAX: Duration = Duration::from_millis(50);

/// Sockets of all kinds, shared by the tasks that read them.
struct Sockets {
    servers: Vec<SocketAddr>,
    /// By server.
    fronts: Vec<Arc<UdpSocket>>,
    /// By the server that is stood for and the server it stands before; no server before itself.
    stands: Vec<Vec<Option<Arc<UdpSocket>>>>,
    network: Arc<Network>,
    late: Arc<AtomicUsize>,
}

/// Relays between `servers`, the front of each being at the same place of `fronts`, as long as
/// what is returned lives. `stand` is where what stands for the first before the second comes from.
pub(crate) async fn relay(
    fronts: Vec<UdpSocket>,
    servers: Vec<SocketAddr>,
    stand: impl Fn(Pair) -> IpAddr,
    network: Arc<Network>,
) -> io::Result<JoinSet<()>> {
    let nodes = servers.len();
    let mut stands = Vec::new();
    for source in 0..nodes {
        let mut row = Vec::new();
        for target in 0..nodes {
            row.push(match source == target {
                true => None,
                false => Some(Arc::new(UdpSocket::bind((stand((source, target)), 0)).await?)),
            });
        }
        stands.push(row);
    }
    let fronts = fronts.into_iter().map(Arc::new).collect();
    let sockets = Arc::new(Sockets { servers, fronts, stands, network, late: Arc::default() });
    let mut tasks = JoinSet::new();
    for target in 0..nodes {
        tasks.spawn(sockets.clone().read_front(target));
        for source in (0..nodes).filter(|&source| source != target) {
            tasks.spawn(sockets.clone().read_stand((source, target)));
        }
    }
    Ok(tasks)
}

impl Sockets {
    fn stand(&self, (source, target): Pair) -> &Arc<UdpSocket> {
        self.stands[source][target].as_ref().expect("no server before itself")
    }

    /// What servers send to the front of `target`.
    async fn read_front(self: Arc<Self>, target: usize) {
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        loop {
            // Errors are those of datagrams sent before, to servers that were down.
            let Ok((length, from)) = self.fronts[target].recv_from(&mut buffer).await else {
                continue;
            };
            let source = self.servers.iter().position(|server| *server == from);
            let Some(source) = source.filter(|&source| source != target) else { continue };
            let pair = (source, target);
            self.pass(pair, &buffer[..length], self.stand(pair), self.servers[target]);
        }
    }

    /// What the second of the pair answers to the first.
    async fn read_stand(self: Arc<Self>, (source, target): Pair) {
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        let stand = self.stand((source, target)).clone();
        loop {
            let Ok((length, from)) = stand.recv_from(&mut buffer).await else { continue };
            if from != self.servers[target] {
                continue;
            }
            let back = (target, source);
            self.pass(back, &buffer[..length], &self.fronts[target], self.servers[source]);
        }
    }

    /// Sends a datagram on, as the link makes it.
    fn pass(&self, pair: Pair, datagram: &[u8], socket: &Arc<UdpSocket>, to: SocketAddr) {
        let (link, effects) = (self.network.link(pair), &self.network.effects);
        let condition = link.condition();
        if condition.is_cut {
            return Effects::count(&effects.stopped_by_cut);
        }
        if befalls(condition.loss) {
            return Effects::count(&effects.lost);
        }
        let Some(queueing) = link.queueing(datagram.len()) else {
            return Effects::count(&effects.lost);
        };
        if queueing > Duration::ZERO {
            Effects::count(&effects.throttled);
        }
        let twice = befalls(condition.duplication);
        if twice {
            Effects::count(&effects.duplicated);
        }
        for _ in 0..=usize::from(twice) {
            let mut late = queueing + somewhere_up_to(condition.delay_max);
            if befalls(condition.reordering) {
                Effects::count(&effects.overtaken);
                late += somewhere_up_to(OVERTAKEN_MAX);
            }
            self.send(late, datagram, socket, to);
        }
    }

    fn send(&self, late: Duration, datagram: &[u8], socket: &Arc<UdpSocket>, to: SocketAddr) {
        if late == Duration::ZERO {
            // A full buffer loses it, as in any network.
            let _ = socket.try_send_to(datagram, to);
            return;
        }
        Effects::count(&self.network.effects.delayed);
        if self.late.fetch_add(1, Ordering::Relaxed) >= LATE_MAX {
            self.late.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let (datagram, socket, count) = (datagram.to_vec(), socket.clone(), self.late.clone());
        tokio::spawn(async move {
            tokio::time::sleep(late).await;
            let _ = socket.try_send_to(&datagram, to);
            count.fetch_sub(1, Ordering::Relaxed);
        });
    }
}
