//! A fuzz target for what clients say over HTTP/2. `docs/PROOF.md` has the commands.

use super::{
    block::{Kept, mend},
    tests::frame,
    *,
};
use crate::server::connection::PREFACE;

/// What comes out of bytes that come in pieces, as they do over a socket.
fn passed(bytes: &[u8], piece_bytes: usize) -> Vec<u8> {
    let (mut frames, mut passed) = (Frames::new(), BytesMut::new());
    for piece in bytes.chunks(piece_bytes) {
        let begin = match frames.held() {
            Some(_) => 0,
            None => frames.pass(piece),
        };
        passed.extend_from_slice(&piece[..begin]);
        frames.hold(&piece[begin..], &mut passed);
    }
    frames.end(&mut passed);
    passed.to_vec()
}

/// How bytes are cut into pieces makes no difference; what has been mended needs nothing more; and bytes with
/// nothing in them to mend pass as they are.
#[test]
fn frames() {
    bolero::check!().for_each(|bytes: &[u8]| {
        let said = [PREFACE, bytes].concat();
        let whole = passed(&said, said.len());
        for piece_bytes in [1, 7, 100] {
            assert_eq!(passed(&said, piece_bytes), whole);
        }
        assert_eq!(passed(&whole, whole.len()), whole);
        let in_a_frame = [PREFACE, &frame(0, 0, 1, bytes)].concat();
        assert_eq!(passed(&in_a_frame, 7), in_a_frame);
    });
}

/// A block is refused or mended, once and for all, and what is kept of it is the same.
#[test]
fn blocks() {
    bolero::check!().for_each(|block: &[u8]| {
        let (mut kept, mut kept_again) = (Kept::default(), Kept::default());
        if let Ok(Some(mended)) = mend(block, &mut kept) {
            assert_eq!(mend(&mended, &mut kept_again), Ok(None));
            assert_eq!(kept, kept_again);
        }
    });
}
