//! Fuzz targets for the first words of a connection, from either side. `docs/PROOF.md` has the
//! commands.

use paxos_core::types::{ClusterId, StoreId};

use super::{tests::roster, *};
use crate::corpus;

const LISTENER: u64 = 2;

fn identity(node: u64) -> Identity {
    Identity { cluster: ClusterId(7), node: NodeId(node), store: StoreId(100 + node) }
}

/// What a dialler of node 1 says to node 2.
pub(crate) fn dialler_words() -> Vec<u8> {
    let hello = Hello { identity: identity(1), to: NodeId(LISTENER), lane: Lane::Bulk };
    [preamble(), encode(&hello), encode(&Verdict::Welcome(identity(1)))].concat()
}

/// What node 2 says to a dialler.
pub(crate) fn listener_words() -> Vec<u8> {
    [preamble(), encode(&Verdict::Welcome(identity(LISTENER)))].concat()
}

pub(crate) fn refusal_words() -> Vec<u8> {
    [preamble(), encode(&Verdict::Refused("the\nreason".repeat(150)))].concat()
}

/// Lets both sides hear `words`: only who is known is let in, and reasons are fit for a log.
fn check(runtime: &tokio::runtime::Runtime, words: &[u8]) {
    let stream = || tokio::io::join(words, tokio::io::sink());
    let (one, two) = (roster(7, 1, &[(2, Some(102))]), roster(7, LISTENER, &[(1, Some(101))]));
    let accepted = runtime.block_on(accept(&mut stream(), &two, None));
    let dialled = runtime.block_on(dial(&mut stream(), &one, (NodeId(LISTENER), Lane::Log), None));
    if let Ok(admitted) = &accepted {
        assert_eq!(admitted.identity.node, NodeId(1), "nobody else is in the cluster");
    }
    if dialled.is_ok() {
        assert!(words.starts_with(&listener_words()), "nobody but node 2 was called");
    }
    for error in [accepted.err(), dialled.err()].into_iter().flatten() {
        if let HandshakeError::Refused { reason, .. } = error {
            assert!(reason.len() <= REASON_BYTES_MAX && !reason.contains(char::is_control));
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().expect("a runtime")
}

#[test]
fn first_words() {
    let runtime = std::panic::AssertUnwindSafe(runtime());
    bolero::check!().for_each(|words: &[u8]| check(&runtime, words));
}

/// Real words with a few bytes replaced, and with new checksums around them.
#[test]
fn damaged_words() {
    let runtime = std::panic::AssertUnwindSafe(runtime());
    bolero::check!().with_type::<(u8, u8, Vec<(u8, u8)>)>().for_each(|(kind, lane, edits)| {
        let identity = identity(1 + u64::from(*kind / 3 % 3));
        let lane = [Lane::Control, Lane::Log, Lane::Bulk][*lane as usize % 3];
        let words = match kind % 3 {
            0 => postcard::to_stdvec(&Hello { identity, to: NodeId(LISTENER), lane }),
            1 => postcard::to_stdvec(&Verdict::Welcome(identity)),
            _ => postcard::to_stdvec(&Verdict::Refused("no\u{7}".repeat(edits.len()))),
        };
        let mut words = words.expect("plain data encodes");
        for (at, byte) in edits {
            let at = *at as usize % words.len();
            words[at] = *byte;
        }
        let verdict = encode(&Verdict::Welcome(identity));
        check(&runtime, &[preamble(), frame::framed(&words), verdict].concat());
    });
}

#[test]
fn the_corpus_is_of_the_present_format() {
    for (name, words) in
        [("dialler", dialler_words()), ("listener", listener_words()), ("refusal", refusal_words())]
    {
        corpus::check("handshake/__fuzz__/handshake__fuzz__first_words", name, &words);
    }
    check_introductions(&dialler_words(), &listener_words());
    check_refusal(&refusal_words());
}

/// Node 2 lets in who says `dialler`, and node 1 believes who says `listener`.
pub(crate) fn check_introductions(dialler: &[u8], listener: &[u8]) {
    let runtime = runtime();
    let (one, two) =
        (roster(7, 1, &[(LISTENER, Some(102))]), roster(7, LISTENER, &[(1, Some(101))]));
    let mut stream = tokio::io::join(dialler, tokio::io::sink());
    let admitted = runtime.block_on(accept(&mut stream, &two, None)).expect("let in");
    assert_eq!((admitted.identity, admitted.lane), (identity(1), Lane::Bulk));
    let mut stream = tokio::io::join(listener, tokio::io::sink());
    runtime.block_on(dial(&mut stream, &one, (NodeId(LISTENER), Lane::Log), None)).expect("let in");
}

/// Node 1 hears the reason in `refusal`.
pub(crate) fn check_refusal(refusal: &[u8]) {
    let one = roster(7, 1, &[(LISTENER, Some(102))]);
    let mut stream = tokio::io::join(refusal, tokio::io::sink());
    let error = runtime().block_on(dial(&mut stream, &one, (NodeId(LISTENER), Lane::Log), None));
    let error = error.expect_err("refused").to_string();
    assert!(error.starts_with("thereason"), "{error}");
}
