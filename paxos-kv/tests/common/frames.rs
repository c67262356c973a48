//! HTTP/2 frame by frame: what no client library would send.

use std::io;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

const INITIAL_WINDOW_SIZE: u16 = 4;
const CANCEL: u32 = 8;

/// What every server takes in one frame.
const FRAME_BYTES_MAX: usize = 16 << 10;

/// A frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame is small").to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// What a client begins with; it takes whatever comes.
pub(crate) fn greeting() -> Vec<u8> {
    let window = i32::MAX.to_be_bytes();
    let settings = [&INITIAL_WINDOW_SIZE.to_be_bytes()[..], &window].concat();
    let mut greeting = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    greeting.extend(frame(SETTINGS, 0, 0, &settings));
    // Beside the 64 KiB that there are.
    greeting.extend(frame(WINDOW_UPDATE, 0, 0, &(i32::MAX - (1 << 16)).to_be_bytes()));
    greeting
}

/// The head of a gRPC request, with more metadata.
pub(crate) fn call(stream: u32, path: &str, metadata: &[(&str, &str)]) -> Vec<u8> {
    call_to("localhost", stream, path, metadata)
}

/// The same, to whatever authority.
pub(crate) fn call_to(
    authority: &str,
    stream: u32,
    path: &str,
    metadata: &[(&str, &str)],
) -> Vec<u8> {
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", authority),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    ];
    let mut block = Vec::new();
    for (name, value) in fields.iter().chain(metadata) {
        // As it is, not to be remembered.
        block.push(0);
        for text in [name, value] {
            length(text.len(), &mut block);
            block.extend_from_slice(text.as_bytes());
        }
    }
    let count = block.chunks(FRAME_BYTES_MAX).count();
    let pieces = block.chunks(FRAME_BYTES_MAX).enumerate().flat_map(|(number, piece)| {
        let kind = if number == 0 { HEADERS } else { CONTINUATION };
        frame(kind, if number + 1 == count { END_HEADERS } else { 0 }, stream, piece)
    });
    pieces.collect()
}

/// The only message of a gRPC request.
pub(crate) fn message(stream: u32, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("a message is small").to_be_bytes();
    frame(DATA, END_STREAM, stream, &[&[0], &length[..], message].concat())
}

/// The end of a request that nobody wants any more.
pub(crate) fn cancel(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())
}

/// A length without Huffman's code, as in RFC 7541, 5.1.
fn length(length: usize, block: &mut Vec<u8>) {
    const PREFIX_MAX: usize = 0x7f;
    if length < PREFIX_MAX {
        block.push(length as u8);
        return;
    }
    block.push(PREFIX_MAX as u8);
    let mut rest = length - PREFIX_MAX;
    while rest >= 0x80 {
        block.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    block.push(rest as u8);
}

/// Reads until a stream has ended, answering pings; returns the bytes of data on it.
///
/// # Errors
///
/// If the connection ends first, or the server says that it will.
pub(crate) async fn answer(connection: &mut TcpStream, stream: u32) -> io::Result<usize> {
    let mut bytes = 0;
    loop {
        let mut head = [0; 9];
        connection.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let (kind, flags) = (head[3], head[4]);
        let of = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let mut payload = vec![0; length];
        connection.read_exact(&mut payload).await?;
        match kind {
            GOAWAY => {
                let reason = String::from_utf8_lossy(&payload[8..]).into_owned();
                let code = payload[7];
                return Err(io::Error::other(format!("the server leaves: {code} {reason}")));
            }
            PING if flags & ACK == 0 => {
                connection.write_all(&frame(PING, ACK, 0, &payload)).await?;
            }
            SETTINGS if flags & ACK == 0 => {
                connection.write_all(&frame(SETTINGS, ACK, 0, &[])).await?;
            }
            RST_STREAM if of == stream => return Err(io::Error::other("the stream was reset")),
            DATA if of == stream => bytes += length,
            _ => {}
        }
        if of == stream && matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
            return Ok(bytes);
        }
    }
}
