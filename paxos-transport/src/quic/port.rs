//! Whether anybody listens at a port.
//!
//! A process that is killed says no goodbye over UDP, and QUIC's own timers take seconds to notice. But the
//! machine that it ran on answers whatever still comes for its port: *port unreachable* (ICMP). The system
//! reports that on a socket that is connected to the port, which the endpoint's is not. So another socket
//! asks there, with a byte that is no packet of QUIC's and is passed over by whoever listens: at once when a
//! connection is made, and whenever one falls silent for a moment.
//!
//! No answer says nothing: machines and networks that are gone give none, and a packet filter may drop it. Nor does
//! a machine give many: Linux six at once to one that asks, and then one in a second. Those to the packets that
//! are under way when a process ends count, so the first question comes soon.

use std::{
    future, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use quinn::Connection;
use tokio::{net::UdpSocket, time::sleep};

/// How long the other side may be silent before its port is asked. One that has something to acknowledge does
/// so within a few milliseconds more.
const BRIEF: Duration = Duration::from_millis(20);

/// How often it is asked at first, a brief while after the other.
const SOON: u32 = 2;

/// How often it is asked from then on, as long as it says nothing: of one that has nothing to say, that is
/// twenty bytes a second.
const INTERVAL: Duration = Duration::from_millis(50);

/// No packet of QUIC's: those have a bit set here (RFC 9000, section 17).
const QUESTION: [u8; 1] = [0];

/// Resolves once the machine of `remote` says that nobody listens there.
pub(super) async fn refused(remote: SocketAddr) -> io::Error {
    let Some(question) = Question::about(remote).await else { return future::pending().await };
    loop {
        if let Some(refused) = question.ask(INTERVAL).await {
            return refused;
        }
    }
}

/// Resolves once the other side of a connection says nothing, and its machine says that nobody listens there
/// any more.
pub(super) async fn vanished(connection: Connection) -> io::Error {
    let remote = connection.remote_address();
    let Some(question) = Question::about(remote).await else { return future::pending().await };
    let (mut heard, mut asked) = (0, 0_u32);
    loop {
        let before = std::mem::replace(&mut heard, datagrams(&connection));
        if heard > before {
            asked = 0;
            sleep(BRIEF).await;
            continue;
        }
        asked += 1;
        let patience = if asked <= SOON { BRIEF } else { INTERVAL };
        if let Some(refused) = question.ask(patience).await {
            return refused;
        }
    }
}

/// How many have come in on a connection.
fn datagrams(connection: &Connection) -> u64 {
    connection.stats().udp_rx.datagrams
}

/// A socket that is connected to a port.
struct Question(UdpSocket);

impl Question {
    async fn about(remote: SocketAddr) -> Option<Question> {
        let any: SocketAddr = match remote {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let connect = async {
            let socket = UdpSocket::bind(any).await?;
            socket.connect(remote).await?;
            io::Result::Ok(Question(socket))
        };
        let question = connect.await;
        if let Err(error) = &question {
            tracing::debug!(%remote, %error, "cannot ask whether anybody listens there");
        }
        question.ok()
    }

    /// Asks, and waits for so long; the error with which the system reports that nobody listens.
    async fn ask(&self, patience: Duration) -> Option<io::Error> {
        let is_refusal = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
        let answer = async {
            self.0.send(&QUESTION).await?;
            loop {
                // Whoever listens does not answer; somebody else may say what he likes.
                self.0.recv(&mut [0]).await?;
            }
        };
        let answer: Result<io::Result<()>, _> = tokio::time::timeout(patience, answer).await;
        match answer {
            Ok(Err(error)) if is_refusal(&error) => Some(error),
            Ok(_) => {
                // Of no meaning, and it may come again at once.
                sleep(patience).await;
                None
            }
            Err(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn is_refused(remote: SocketAddr) -> bool {
        let refused = tokio::time::timeout(INTERVAL * 5, refused(remote)).await;
        refused.is_ok_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    }

    #[tokio::test]
    async fn a_port_that_nobody_listens_at_refuses_and_another_says_nothing() {
        for local in [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), (Ipv6Addr::LOCALHOST, 0).into()] {
            let listener = UdpSocket::bind(local).await.expect("a free port");
            let port = listener.local_addr().expect("bound");
            assert!(!is_refused(port).await, "somebody listens at {port}");
            let waits = tokio::spawn(refused(port));
            drop(listener);
            assert!(is_refused(port).await, "nobody listens at {port}");
            let error = waits.await.expect("no panic");
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        }
    }
}
