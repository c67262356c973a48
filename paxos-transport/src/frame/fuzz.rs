//! Fuzz targets for frames. `docs/PROOF.md` has the commands.

use super::{reader::CHUNK_BYTES, *};
use crate::corpus;

const BYTES_MAX: usize = 1000;

/// The frames at the beginning of a stream, and whether it ends in an error.
fn frames_of(bytes: &[u8]) -> (Vec<Bytes>, bool) {
    let mut frames = Frames::new(BYTES_MAX);
    frames.take_in(bytes);
    let mut found = Vec::new();
    loop {
        match frames.next() {
            Ok(Some(frame)) => found.push(frame),
            end => {
                let room = bytes.len() + CHUNK_BYTES + PREFIX_BYTES + BYTES_MAX;
                assert!(frames.buffer.capacity() <= room, "no more than a frame may need");
                return (found, end.is_err());
            }
        }
    }
}

/// Whatever the bytes, the frames in them are exactly those that a writer would have made.
#[test]
fn streams() {
    bolero::check!().for_each(|bytes: &[u8]| {
        let (frames, _) = frames_of(bytes);
        let written: Vec<u8> = frames.iter().flat_map(|frame| framed(frame)).collect();
        assert!(bytes.starts_with(&written));
        for frame in frames {
            assert!(frame.len() <= BYTES_MAX);
            if let Ok(message) = Message::decode(frame) {
                let mut batch = super::tests::batch(std::slice::from_ref(&message));
                let bytes = batch.copy_to_bytes(batch.remaining());
                let (again, _) = frames_of(&bytes);
                assert_eq!(Message::decode(again[0].clone()).as_ref(), Ok(&message));
            }
        }
    });
}

/// Frames come out as they went in, up to the one in which a bit has flipped.
#[test]
fn damaged_streams() {
    bolero::check!().with_type::<(Vec<Vec<u8>>, u32)>().for_each(|(bodies, flip)| {
        let written: Vec<Vec<u8>> = bodies.iter().map(|body| framed(body)).collect();
        let mut stream = written.concat();
        let (frames, failed) = frames_of(&stream);
        assert!(frames.iter().eq(bodies.iter()) && !failed);
        if stream.is_empty() {
            return;
        }
        let at = *flip as usize % (stream.len() * 8);
        stream[at / 8] ^= 1 << (at % 8);
        let (frames, _) = frames_of(&stream);
        let mut end = 0;
        let ends = written.iter().map(|frame| {
            end += frame.len();
            end
        });
        let sound = ends.take_while(|end| *end <= at / 8).count();
        assert!(frames.iter().eq(bodies[..sound].iter()), "the flipped bit is noticed");
    });
}

#[test]
fn the_corpus_is_of_the_present_format() {
    let messages = [super::tests::poll(7), super::tests::accept(20)];
    let framed = |message| framed(&super::tests::body_of(message));
    let stream: Vec<u8> = messages.iter().flat_map(framed).collect();
    corpus::check("frame/__fuzz__/frame__fuzz__streams", "poll-accept", &stream);
    assert_eq!(frames_of(&stream).0.len(), 2);
}
