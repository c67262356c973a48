use std::time::Instant;

use axum::{body::Bytes, routing::post};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::transport::Endpoint;
use tower::ServiceExt;

use super::*;

/// Short, so that the tests are.
const PATIENCE: Patience = Patience {
    introduction: Duration::from_millis(100),
    head: Duration::from_millis(100),
    body: Duration::from_millis(100),
    ping_interval: Duration::from_millis(50),
    ping_timeout: Duration::from_millis(50),
};

/// Much longer than all of [`PATIENCE`].
const LONG: Duration = Duration::from_secs(20);

/// Serves a router that says how many bytes it was sent.
async fn serve(connections_max: usize) -> (Acceptor, SocketAddr) {
    let router =
        Router::new().route("/", post(|body: Bytes| async move { body.len().to_string() }));
    let acceptor = Acceptor::new(router, Connections::new(connections_max), 100, PATIENCE);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("it has one");
    tokio::spawn(acceptor.clone().run(listener));
    (acceptor, address)
}

async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.expect("it listens")
}

/// Reads to the end, which comes.
async fn end_of(stream: &mut TcpStream) -> Vec<u8> {
    let mut read = Vec::new();
    match timeout(LONG, stream.read_to_end(&mut read)).await.expect("the connection ends") {
        Err(error) if error.kind() != io::ErrorKind::ConnectionReset => panic!("{error}"),
        _ => read,
    }
}

#[tokio::test]
async fn silent_connections_end_wherever_they_stopped() {
    let (_acceptor, address) = serve(100).await;
    for said in [
        "",
        "P",
        "PRI * HT",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET / HT",
        "POST / HTTP/1.1\r\nhost: x\r\n",
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nabc",
    ] {
        let mut stream = connect(address).await;
        stream.write_all(said.as_bytes()).await.expect("it is open");
        let read = end_of(&mut stream).await;
        assert!(!String::from_utf8_lossy(&read).contains("200 OK"), "{said:?}");
    }
}

#[tokio::test]
async fn a_client_that_speaks_slowly_is_served() {
    let (_acceptor, address) = serve(100).await;
    let mut stream = connect(address).await;
    let request =
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\nconnection: close\r\n\r\nabcde";
    let (head, body) = request.split_at(request.len() - 5);
    for said in head.chunks(head.len() / 4 + 1).chain(body.chunks(1)) {
        stream.write_all(said).await.expect("it is open");
        sleep(Duration::from_millis(10)).await;
    }
    let answer = String::from_utf8(end_of(&mut stream).await).expect("text");
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("\r\n5"), "{answer}");
}

#[tokio::test]
async fn an_idle_client_that_answers_stays() {
    let (acceptor, address) = serve(1).await;
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("a URL");
    let mut channel = endpoint.connect().await.expect("it listens");
    sleep(5 * (PATIENCE.introduction + PATIENCE.ping_interval + PATIENCE.ping_timeout)).await;
    assert_eq!(acceptor.connections.count(), 1, "the connection has ended");
    let request = http::Request::post(format!("http://{address}/"));
    let request = request.body(tonic::body::Body::empty()).expect("a request");
    let response = channel.ready().await.expect("it is there");
    let response = tower::Service::call(response, request).await.expect("an answer");
    assert_eq!(response.status(), 200);
}

#[tokio::test]
async fn silent_connections_make_room_for_a_client() {
    let (_acceptor, address) = serve(4).await;
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(connect(address).await);
    }
    let began = Instant::now();
    let mut stream = connect(address).await;
    let request = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.expect("it is open");
    let answer = String::from_utf8(end_of(&mut stream).await).expect("text");
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    // It had its turn behind the others, four at a time.
    assert!(began.elapsed() >= 10 * PATIENCE.introduction, "{:?}", began.elapsed());
}

#[tokio::test]
async fn all_addresses_are_those_of_both_families() {
    for url in ["http://0.0.0.0:0", "http://[::]:0"] {
        let listener = bind(&url.parse().expect("a URL")).await.expect("a port");
        let port = listener.local_addr().expect("it has one").port();
        for address in ["127.0.0.1", "::1"] {
            let address = SocketAddr::new(address.parse().expect("an address"), port);
            if address.is_ipv6() && TcpListener::bind("[::1]:0").await.is_err() {
                // There is no IPv6 here.
                continue;
            }
            let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
            client.unwrap_or_else(|error| panic!("{url} at {address}: {error}"));
            server.expect("a connection");
        }
    }
}
