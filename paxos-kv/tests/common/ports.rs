//! Ports for servers under test.

use std::{
    net::{TcpListener, UdpSocket},
    sync::atomic::{AtomicU16, Ordering},
};

/// Below the range from which systems take the ports of outgoing connections: a port stays free
/// while its server is down.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A port of 127.0.0.1 that nobody uses, not handed out before by this process.
pub(crate) fn free_port() -> u16 {
    // Processes that run at the same time begin at different places.
    let start = u16::try_from(std::process::id() % 97).expect("it is below 97") * 123;
    for _ in 0..COUNT {
        let port = FIRST + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let address = ("127.0.0.1", port);
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return port;
        }
    }
    panic!("no free port on 127.0.0.1 from {FIRST} on");
}
