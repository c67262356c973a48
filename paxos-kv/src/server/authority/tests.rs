//! Clients that say what they like of the authority, before the library that reads them.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use fastrand::Rng;
use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, join, split},
    sync::mpsc,
    time::timeout,
};

use super::{block::mend, *};
use crate::server::connection::PREFACE;

const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame is small").to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [&head, payload].concat()
}

fn integer(prefix_bits: u32, first: u8, value: usize, block: &mut Vec<u8>) {
    let mask = (1 << prefix_bits) - 1;
    if value < mask {
        return block.push(first | value as u8);
    }
    block.push(first | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        block.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    block.push(rest as u8);
}

fn text(text: &str, block: &mut Vec<u8>) {
    integer(7, 0, text.len(), block);
    block.extend_from_slice(text.as_bytes());
}

/// What a client remembers of what it said, and how it says the next.
struct Encoder {
    table: VecDeque<(String, String)>,
    bytes_max: usize,
}

impl Encoder {
    fn new() -> Encoder {
        Encoder { table: VecDeque::new(), bytes_max: 4096 }
    }

    fn number(&self, is_it: impl Fn(&(String, String)) -> bool) -> Option<usize> {
        self.table.iter().position(is_it).map(|place| 62 + place)
    }

    /// One header, in one of the ways that there are.
    fn header(&mut self, name: &str, value: &str, rng: &mut Rng, block: &mut Vec<u8>) {
        let known = self.number(|(n, v)| n == name && v == value);
        if let Some(number) = known.filter(|_| rng.bool()) {
            return integer(7, 0x80, number, block);
        }
        let is_kept = rng.bool();
        let (prefix_bits, first) = match is_kept {
            true => (6, 0x40),
            false => (4, if rng.bool() { 0 } else { 0x10 }),
        };
        let first_of_all = [":authority", ":method", "", ":path", "", ":scheme"];
        let fixed = first_of_all.iter().position(|n| *n == name).map(|place| 1 + place);
        let numbers = [fixed, self.number(|(n, _)| n == name)];
        match numbers[rng.usize(..2)].filter(|_| rng.bool()) {
            Some(number) => integer(prefix_bits, first, number, block),
            None => {
                block.push(first);
                text(name, block);
            }
        }
        text(value, block);
        if is_kept {
            self.table.push_front((name.to_owned(), value.to_owned()));
            self.shrink();
        }
    }

    fn shrink(&mut self) {
        let bytes = |table: &VecDeque<(String, String)>| -> usize {
            table.iter().map(|(name, value)| name.len() + value.len() + 32).sum()
        };
        while bytes(&self.table) > self.bytes_max {
            self.table.pop_back();
        }
    }

    fn resize(&mut self, bytes_max: usize, block: &mut Vec<u8>) {
        integer(5, 0x20, bytes_max, block);
        self.bytes_max = bytes_max;
        self.shrink();
    }
}

/// Headers in frames of whatever size, with whatever else there may be in them.
fn frames(stream: u32, block: &[u8], rng: &mut Rng) -> Vec<u8> {
    let cut = if rng.bool() { block.len() } else { rng.usize(..=block.len()) };
    let (mut flags, mut first) = (END_STREAM, Vec::new());
    let padding = rng.bool().then(|| rng.u8(..));
    if let Some(padding) = padding {
        flags |= PADDED;
        first.push(padding);
    }
    if rng.bool() {
        flags |= PRIORITY;
        first.extend_from_slice(&[0, 0, 0, 0, 15]);
    }
    first.extend_from_slice(&block[..cut]);
    first.extend(std::iter::repeat_n(0, padding.unwrap_or(0).into()));
    if cut == block.len() {
        return frame(HEADERS, flags | END_HEADERS, stream, &first);
    }
    let begin = frame(HEADERS, flags, stream, &first);
    let middle = cut + rng.usize(..=block.len() - cut);
    let next = frame(CONTINUATION, 0, stream, &block[cut..middle]);
    [begin, next, frame(CONTINUATION, END_HEADERS, stream, &block[middle..])].concat()
}

/// Serves a client, and tells what it asks.
fn serve(stream: DuplexStream) -> mpsc::UnboundedReceiver<Request<()>> {
    let (told, requests) = mpsc::unbounded_channel();
    let service = service_fn(move |request: Request<Incoming>| {
        let _ = told.send(request.map(drop));
        async { Ok::<_, Infallible>(Response::new(Body::empty())) }
    });
    let (reader, writer) = split(stream);
    let stream = TokioIo::new(join(Mended::new(reader, true), writer));
    tokio::spawn(http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service));
    requests
}

/// What the next request is.
async fn next(requests: &mut mpsc::UnboundedReceiver<Request<()>>) -> Request<()> {
    let request = timeout(Duration::from_secs(20), requests.recv()).await;
    request.expect("a request is understood").expect("the connection stays")
}

/// A client that is served, and has introduced itself.
async fn client() -> (DuplexStream, mpsc::UnboundedReceiver<Request<()>>) {
    let (mut client, server) = duplex(1 << 20);
    let greeting = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    client.write_all(&greeting).await.expect("it is open");
    (client, serve(server))
}

/// Ones that are none.
const UNUSABLE: [&str; 6] = [
    "#initially=[http://127.0.0.1:2379]",
    "http://127.0.0.1:2379",
    "/var/run/etcd.sock",
    "unix:///tmp/etcd",
    "a b",
    "b\u{fc}cher.example",
];

const USABLE: [&str; 4] = ["127.0.0.1:2379", "[::1]:2379", "localhost", "user@etcd.example:1"];

/// Any order of headers that are remembered, or forgotten, or called by their numbers, is understood by the reader
/// as by the client, whatever has been replaced on the way.
#[tokio::test]
async fn what_is_remembered_stays_in_step() {
    for seed in 0..20 {
        let mut rng = Rng::with_seed(seed);
        let (mut client, mut requests) = client().await;
        let mut encoder = Encoder::new();
        for number in 0..100 {
            let mut block = Vec::new();
            if rng.u8(..) < 20 {
                encoder.resize(rng.usize(..=4096), &mut block);
            }
            let authorities = if rng.bool() { &UNUSABLE[..] } else { &USABLE };
            let authority = authorities[rng.usize(..authorities.len())];
            let path = format!("/{}", rng.u8(..4));
            let mut headers = vec![
                (":method", "GET"),
                (":scheme", "http"),
                (":path", &path),
                (":authority", authority),
            ];
            rng.shuffle(&mut headers);
            let values: Vec<_> = (0..rng.usize(..6))
                .map(|_| (format!("x-{}", rng.u8(..5)), "v".repeat(rng.usize(..300))))
                .collect();
            headers.extend(values.iter().map(|(name, value)| (&name[..], &value[..])));
            for (name, value) in &headers {
                encoder.header(name, value, &mut rng, &mut block);
            }
            let mut bytes = &frames(2 * number + 1, &block, &mut rng)[..];
            while !bytes.is_empty() {
                let piece;
                (piece, bytes) = bytes.split_at(1 + rng.usize(..bytes.len()));
                client.write_all(piece).await.expect("it is open");
                tokio::task::yield_now().await;
            }
            let request = next(&mut requests).await;
            let context = format!("seed {seed}, request {number}");
            assert_eq!(request.uri().path(), path, "{context}");
            let understood = request.uri().authority().expect("there is one").as_str();
            match USABLE.contains(&authority) {
                true => assert_eq!(understood, authority, "{context}"),
                false => assert_eq!(understood.len(), authority.len(), "{context}"),
            }
            for name in ["x-0", "x-1", "x-2", "x-3", "x-4"] {
                let found = request.headers().get_all(name).iter().map(|value| value.as_bytes());
                let said = values.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_bytes());
                assert!(found.eq(said), "{context}: {name}");
            }
        }
    }
}

/// As etcd's client of Go writes it: in Huffman's code, to be remembered, and by its number from then on.
#[tokio::test]
async fn an_authority_in_code_is_replaced_and_remembered() {
    const INITIALLY: [u8; 27] = [
        0xff, 0xa3, 0x54, 0x64, 0x98, 0x74, 0x51, 0xea, 0x0f, 0xfd, 0xce, 0x94, 0xd7, 0x71, 0x86,
        0x02, 0x27, 0x57, 0x02, 0xe0, 0x5c, 0x37, 0x04, 0xcb, 0xaf, 0xff, 0xf3,
    ];
    let (mut client, mut requests) = client().await;
    let mut block = vec![0x83, 0x86, 0x84, 0x41, 0x80 | INITIALLY.len() as u8];
    block.extend_from_slice(&INITIALLY);
    for (stream, block) in [(1, &block[..]), (3, &[0x83, 0x86, 0x84, 0xbe])] {
        let request = frame(HEADERS, END_HEADERS | END_STREAM, stream, block);
        client.write_all(&request).await.expect("it is open");
        let request = next(&mut requests).await;
        let understood = request.uri().authority().expect("there is one").as_str();
        assert_eq!(understood, "-initially--http---127.0.0.1-2379-");
    }
}

#[test]
fn an_empty_authority_is_left_out_and_others_stay_as_they_are() {
    let kept = &mut Default::default();
    assert_eq!(mend(&[0x83, 0x81, 0x84], kept), Ok(Some(vec![0x83, 0x84])));
    assert_eq!(mend(&[0x83, 0x01, 0x00], kept), Ok(Some(vec![0x83])));
    for usable in USABLE {
        let mut block = vec![0x83, 0x41];
        text(usable, &mut block);
        assert_eq!(mend(&block, kept), Ok(None), "{usable}");
    }
    let name = |number: u8| [&[0x83, number, 1], &b"/"[..]].concat();
    assert_eq!(mend(&name(0x04), kept), Ok(None), "a path is none");
}

/// A client that does not speak HTTP/2, and one that speaks it wrongly.
#[tokio::test]
async fn everything_else_passes_as_it_is() {
    let headers = |block: &[u8]| frame(HEADERS, END_HEADERS, 1, block);
    let bad = {
        let mut block = vec![0x41];
        text(UNUSABLE[0], &mut block);
        block
    };
    let cases = [
        (false, [PREFACE, &headers(&bad)].concat()),
        (false, b"GET / HTTP/1.1\r\nhost: #x\r\n\r\n".to_vec()),
        (true, PREFACE[..10].to_vec()),
        (true, [PREFACE, &headers(&[0x41, 0x7f]), &headers(&bad)].concat()),
        (
            true,
            [PREFACE, &frame(HEADERS, END_HEADERS | PADDED, 1, &[9, 0]), &headers(&bad)].concat(),
        ),
        (true, [PREFACE, &frame(HEADERS, 0, 1, &[0x83]), &headers(&bad)].concat()),
        (true, [PREFACE, &frame(HEADERS, END_HEADERS, 1, &vec![0; 17 << 10])].concat()),
        (true, [PREFACE, &headers(&bad)[..20]].concat()),
        (true, [PREFACE, &frame(0, 1, 1, &headers(&bad))].concat()),
    ];
    for (is_http2, bytes) in cases {
        let mut passed = Vec::new();
        let mut mended = Mended::new(&bytes[..], is_http2);
        mended.read_to_end(&mut passed).await.expect("bytes can be read");
        assert_eq!(passed, bytes);
    }
}

/// Headers that do not end are not held for ever, nor is what comes of them looked at again and again.
#[test]
fn what_is_held_of_endless_headers_is_bounded() {
    let mut frames = Frames::new();
    let mut ready = BytesMut::new();
    assert_eq!(frames.pass(PREFACE), PREFACE.len());
    frames.hold(&frame(HEADERS, 0, 1, &[0x83]), &mut ready);
    let piece = Bytes::from(frame(CONTINUATION, 0, 1, &[]).repeat(1000));
    let mut held = 0;
    while ready.is_empty() {
        frames.hold(&piece, &mut ready);
        held += piece.len();
        assert!(held < 5 << 20, "{held} bytes are held");
    }
    assert!(ready.len() > held && frames.held().is_none());
}
