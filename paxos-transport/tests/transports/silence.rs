//! A network that drops every packet and says nothing, for a while: no error, no reset, as when a
//! switch fails. In a network namespace of its own, by a packet filter; so root alone can run these.

use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use paxos_core::{
    message::{Message, Poll},
    port::{Event, Transport},
    types::{ClusterId, Identity, NodeId, Peer, Slot, StoreId},
};
use paxos_transport::Tls;
use tokio::task::JoinSet;

use crate::{
    bound::{self, Any, any},
    packet_filter::{self, PacketFilter},
};

/// What is dropped counts under this name.
const DROPPED: &str = "dropped";

/// How long after the network is whole again the nodes may take to hear each other: an election timeout
/// at its default.
const RECOVERY_MAX: Duration = Duration::from_secs(1);

/// How often a node says something, as a leader does.
const HEARTBEAT: Duration = Duration::from_millis(100);

#[test]
fn nodes_hear_each_other_soon_after_ten_seconds_of_silence() {
    in_namespace("nodes_hear_each_other_soon_after_ten_seconds_of_silence", || {
        silent_for(Duration::from_secs(10));
    });
}

#[test]
#[ignore = "takes a minute"]
fn nodes_hear_each_other_soon_after_a_minute_of_silence() {
    in_namespace("nodes_hear_each_other_soon_after_a_minute_of_silence", || {
        silent_for(Duration::from_secs(60));
    });
}

/// Runs `inside` in a network namespace of its own.
fn in_namespace(name: &str, inside: impl FnOnce() + Send) {
    // In a thread of its own: what it enters, the others stay out of.
    let entered = std::thread::scope(|scope| {
        let thread = scope.spawn(|| packet_filter::enter_namespace().map(|()| inside()));
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    if let Err(error) = entered {
        writeln!(std::io::stderr(), "{name}: NOT RUN, no packets can be dropped here: {error}")
            .expect("writes");
    }
}

/// Two nodes that are peers.
struct Pair {
    what: &'static str,
    nodes: [Arc<dyn Transport>; 2],
    /// Whether they say something all the time.
    talks: bool,
}

fn silent_for(silence: Duration) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let tls = || Some(Tls::self_signed().expect("a certificate"));
        let pairs = [
            Pair::start("TCP, talking", [tcp(None).await, tcp(None).await], true).await,
            Pair::start("TLS, talking", [tcp(tls()).await, tcp(tls()).await], true).await,
            Pair::start("QUIC, talking", [quic().await, quic().await], true).await,
            Pair::start("TCP, idle", [tcp(None).await, tcp(None).await], false).await,
            Pair::start("QUIC, idle", [quic().await, quic().await], false).await,
        ];
        for pair in &pairs {
            pair.hear_each_other(Duration::from_secs(10)).await;
        }
        let heartbeats: Vec<_> = pairs.iter().filter_map(Pair::talk).collect();
        let filter = PacketFilter::new(None, &[DROPPED]).expect("a filter");
        filter.lose("", DROPPED).expect("it drops");
        tokio::time::sleep(silence).await;
        filter.lose_nothing().expect("it drops no more");
        assert!(filter.lost(DROPPED).expect("it counts") > 0, "nothing was dropped");
        let heard = pairs.iter().map(|pair| pair.hear_each_other(RECOVERY_MAX));
        futures::future::join_all(heard).await;
        drop(heartbeats);
    });
}

async fn tcp(tls: Option<Tls>) -> Any {
    any(bound::tcp(None, tls).await)
}

async fn quic() -> Any {
    any(bound::quic(None, None).await)
}

impl Pair {
    async fn start(what: &'static str, [one, two]: [Any; 2], talks: bool) -> Pair {
        let peer =
            |id, (_, address): &Any| Peer { id: NodeId(id), address: address.clone(), store: None };
        for (id, (transport, _), other) in [(1, &one, peer(2, &two)), (2, &two, peer(1, &one))] {
            let (node, store) = (NodeId(id), StoreId(id));
            let identity = Identity { cluster: ClusterId(7), node, store };
            transport.start(identity, vec![other]).await.expect("starts");
        }
        Pair { what, nodes: [one.0, two.0], talks }
    }

    /// Both say something all the time, until what is returned is dropped.
    fn talk(&self) -> Option<JoinSet<()>> {
        self.talks.then(|| {
            let speakers = self.nodes.iter().cloned().zip([2, 1]);
            speakers.map(|(speaker, to)| say(speaker, to, 0)).collect()
        })
    }

    /// Waits until each has heard something that the other says from now on.
    async fn hear_each_other(&self, within: Duration) {
        let since = Instant::now();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut speakers = JoinSet::new();
        for (speaker, to) in self.nodes.iter().cloned().zip([2, 1]) {
            speakers.spawn(say(speaker, to, number));
        }
        let heard = self.nodes.iter().map(async |node| {
            let expected = poll(number);
            while !matches!(
                node.recv().await,
                Some(Event::Message { message, .. }) if message == expected
            ) {}
            since.elapsed()
        });
        let heard = tokio::time::timeout(within, futures::future::join_all(heard)).await;
        let heard = heard.unwrap_or_else(|_| panic!("{}: not within {within:?}", self.what));
        writeln!(std::io::stderr(), "{}: heard after {heard:?}", self.what).expect("writes");
    }
}

/// Sayings that are waited for have numbers of their own.
static NEXT: AtomicU64 = AtomicU64::new(1);

fn poll(number: u64) -> Message {
    Message::Poll(Poll { number, chosen: Slot::ZERO, leave: None })
}

async fn say(speaker: Arc<dyn Transport>, to: u64, number: u64) {
    loop {
        speaker.send(&[NodeId(to)], &mut vec![poll(number)]);
        tokio::time::sleep(HEARTBEAT).await;
    }
}
