//! Sockets to listen on.
//!
//! All addresses of a machine (`0.0.0.0` or `[::]`) are those of both families, whichever of the two names
//! them: peers know a node by one of either.

use std::{
    io,
    net::{Ipv6Addr, SocketAddr},
};

use socket2::{Domain, Socket, Type};

/// A socket on the first of `candidates` that is free.
///
/// # Errors
///
/// That of the last one, if none is.
pub(crate) fn bind(candidates: &[SocketAddr], kind: Type) -> io::Result<Socket> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for &candidate in candidates {
        match bind_one(candidate, kind) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn bind_one(address: SocketAddr, kind: Type) -> io::Result<Socket> {
    let both = address.ip().is_unspecified().then(|| Socket::new(Domain::IPV6, kind, None));
    let (socket, address) = match both {
        Some(Ok(socket)) => {
            socket.set_only_v6(false)?;
            (socket, SocketAddr::from((Ipv6Addr::UNSPECIFIED, address.port())))
        }
        // One address, or there is no IPv6 here.
        _ => (Socket::new(Domain::for_address(address), kind, None)?, address),
    };
    socket.set_nonblocking(true)?;
    if kind == Type::STREAM {
        // A node that is started again takes the port that it had.
        socket.set_reuse_address(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, UdpSocket};

    use super::*;

    #[test]
    fn all_addresses_are_those_of_both_families() {
        let loopback = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)];
        let here = loopback.into_iter().filter(|&ip| UdpSocket::bind((ip, 0)).is_ok());
        let here: Vec<_> = here.collect();
        for unspecified in ["0.0.0.0:0", "[::]:0"] {
            let address = unspecified.parse().expect("an address");
            let socket = bind(&[address], Type::DGRAM).expect("a port");
            socket.set_nonblocking(false).expect("it can wait");
            let socket = UdpSocket::from(socket);
            let port = socket.local_addr().expect("it has one").port();
            for &ip in &here {
                let sender = UdpSocket::bind((ip, 0)).expect("a port");
                sender.send_to(b"x", (ip, port)).expect("it is sent");
                let (length, _) = socket.recv_from(&mut [0; 8]).expect("it arrives");
                assert_eq!(length, 1, "{unspecified} from {ip}");
            }
        }
    }

    #[test]
    fn the_next_candidate_is_tried_and_the_last_reason_told() {
        let taken =
            bind(&["127.0.0.1:0".parse().expect("an address")], Type::STREAM).expect("a port");
        taken.listen(1).expect("it can");
        let taken = taken.local_addr().expect("it has one").as_socket().expect("of IP");
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        assert!(bind(&[taken, free], Type::STREAM).is_ok());
        let error = bind(&[taken], Type::STREAM).expect_err("it is taken");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
