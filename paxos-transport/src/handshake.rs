//! The first words on every connection: who is there, who is wanted, and whether they may talk.
//!
//! ```text
//! dialler   magic | version | frame: Hello { identity, to, lane }
//! listener  magic | version | frame: Verdict
//! dialler                     frame: Verdict
//! ```
//!
//! Magic and version have a place of their own in front, so that any version can read them of any
//! other. The group is that of the frames. Each side gives its verdict on the other, so that both
//! know why they part.

use std::{io, time::Duration};

use paxos_core::{
    message::Lane,
    types::{Identity, NodeId},
};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::{
    address::{Address, Addresses},
    frame::{self, Frame, FrameError, ONLY_GROUP},
    refusals::Refusal,
    roster::{Admission, Evidence, Roster},
    tls,
};

/// What every connection begins with.
pub(crate) const MAGIC: [u8; 6] = *b"paxos\n";

/// Of handshake, frames and messages.
pub(crate) const VERSION: u16 = 3;

/// A frame of the handshake: an identity, or a reason in words.
const FRAME_BYTES_MAX: usize = 2048;

/// How long the other side may take to hear that it is refused.
const HEARING_MAX: Duration = Duration::from_secs(1);

/// A reason in words, as far as it is passed on.
const REASON_BYTES_MAX: usize = 1024;

/// The first frame of the dialler.
#[derive(Debug, Serialize, Deserialize)]
struct Hello {
    identity: Identity,
    to: NodeId,
    lane: Lane,
}

/// What one side says of the other.
#[derive(Debug, Serialize, Deserialize)]
enum Verdict {
    Welcome(Identity),
    Refused(String),
}

/// A peer that has been let in.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) identity: Identity,
    pub(crate) admission: Admission,
    /// What it is going to send.
    pub(crate) lane: Lane,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    /// One side refuses the other, and both know why.
    #[error("{reason}")]
    Refused {
        /// The other side, as far as it has said who it is.
        other: Option<NodeId>,
        reason: String,
    },
    /// The other side is something else.
    #[error(
        "whoever is there does not speak this protocol: check the address, and that both sides \
         use the same transport, with TLS or without"
    )]
    Foreign,
    #[error("the handshake is malformed: {0}")]
    Malformed(&'static str),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Introduces this node on a connection it has made, on which the other side has shown `certificate`, if
/// it had to.
pub(crate) async fn dial(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    roster: &Roster,
    (to, lane): (NodeId, Lane),
    certificate: Option<&CertificateDer<'_>>,
) -> Result<(), HandshakeError> {
    let me = roster.me();
    let hello = [preamble(), encode(&Hello { identity: me, to, lane })].concat();
    stream.write_all(&hello).await?;
    stream.flush().await?;
    match read_version(stream).await? {
        VERSION => {}
        theirs => {
            let reason = Refusal::Version { ours: VERSION, theirs }.to_string();
            return Err(HandshakeError::Refused { other: Some(to), reason });
        }
    }
    let (theirs, group) = match read(stream, "no verdict").await? {
        (Verdict::Welcome(theirs), group) => (theirs, group),
        (Verdict::Refused(reason), _) => {
            return Err(HandshakeError::Refused { other: Some(to), reason: readable(&reason) });
        }
    };
    let admit = || {
        check_group(group)?;
        // An address where somebody else listens, who lies about it.
        if theirs.node != to {
            let [from, wanted, here] = [me.node, to, theirs.node].map(|node| roster.who(node));
            return Err(Refusal::Destination { from, wanted, here });
        }
        check_certificate(roster, theirs.node, certificate)?;
        roster.admit(theirs, me.node, Evidence::Enough)
    };
    match admit() {
        Ok(_) => {
            stream.write_all(&encode(&Verdict::Welcome(me))).await?;
            stream.flush().await?;
            Ok(())
        }
        Err(refusal) => Err(refuse(stream, Some(to), &refusal, Vec::new()).await),
    }
}

/// Hears who has connected, and lets them in or not. They have shown `certificate`, if they had to.
pub(crate) async fn accept(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    roster: &Roster,
    certificate: Option<&CertificateDer<'_>>,
) -> Result<Admitted, HandshakeError> {
    let me = roster.me();
    match read_version(stream).await? {
        VERSION => {}
        theirs => {
            let refusal = Refusal::Version { ours: VERSION, theirs };
            return Err(refuse(stream, None, &refusal, preamble()).await);
        }
    }
    let (Hello { identity, to, lane }, group) = read(stream, "no hello").await?;
    let other = Some(identity.node);
    let admit = || {
        check_group(group)?;
        let evidence = check_certificate(roster, identity.node, certificate)?;
        roster.admit(identity, to, evidence)
    };
    let admission = match admit() {
        Ok(admission) => admission,
        Err(refusal) => return Err(refuse(stream, other, &refusal, preamble()).await),
    };
    stream.write_all(&[preamble(), encode(&Verdict::Welcome(me))].concat()).await?;
    stream.flush().await?;
    match read(stream, "no verdict").await? {
        (Verdict::Welcome(_), _) => Ok(Admitted { identity, admission, lane }),
        (Verdict::Refused(reason), _) => {
            Err(HandshakeError::Refused { other, reason: readable(&reason) })
        }
    }
}

fn check_group(theirs: u32) -> Result<(), Refusal> {
    if theirs == ONLY_GROUP { Ok(()) } else { Err(Refusal::Group { ours: ONLY_GROUP, theirs }) }
}

/// What a certificate is worth to a node that calls itself `node`.
fn check_certificate(
    roster: &Roster,
    node: NodeId,
    certificate: Option<&CertificateDer<'_>>,
) -> Result<Evidence, Refusal> {
    let Some(certificate) = certificate else { return Ok(Evidence::Claim) };
    let who = roster.who(node);
    // Nobody's address is a stranger's, who is refused for that.
    let addresses = roster.address_of(node).and_then(|address| Addresses::parse(&address).ok());
    let hosts: Vec<_> = addresses.iter().flat_map(Addresses::iter).map(Address::host).collect();
    // One that may be at several places has a certificate for one of them.
    let mut checked = tls::check_names(certificate, hosts.first().copied(), &who);
    for host in hosts.into_iter().skip(1) {
        checked = checked.or_else(|_| tls::check_names(certificate, Some(host), &who));
    }
    match checked {
        Ok(()) => Ok(Evidence::Enough),
        Err(fault) => Err(Refusal::Certificate { node: who, fault }),
    }
}

/// Says no and waits until the other side has heard it, that is, has hung up.
async fn refuse(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    other: Option<NodeId>,
    refusal: &Refusal,
    mut words: Vec<u8>,
) -> HandshakeError {
    let reason = refusal.to_string();
    words.extend(encode(&Verdict::Refused(refusal.told())));
    let told = async {
        stream.write_all(&words).await?;
        stream.shutdown().await?;
        let mut rest = [0; 256];
        while stream.read(&mut rest).await? > 0 {}
        Ok::<_, io::Error>(())
    };
    // Heard or not, the answer stays no.
    let _ = tokio::time::timeout(HEARING_MAX, told).await;
    HandshakeError::Refused { other, reason }
}

fn preamble() -> Vec<u8> {
    [&MAGIC[..], &VERSION.to_le_bytes()].concat()
}

async fn read_version(stream: &mut (impl AsyncRead + Unpin)) -> Result<u16, HandshakeError> {
    let mut magic = [0; MAGIC.len()];
    stream.read_exact(&mut magic).await?;
    if magic != MAGIC {
        return Err(HandshakeError::Foreign);
    }
    Ok(stream.read_u16_le().await?)
}

fn encode(words: &impl Serialize) -> Vec<u8> {
    frame::framed(&postcard::to_stdvec(words).expect("plain data encodes"))
}

/// The words of a frame, and its group.
async fn read<T: DeserializeOwned>(
    stream: &mut (impl AsyncRead + Unpin),
    otherwise: &'static str,
) -> Result<(T, u32), HandshakeError> {
    let Frame { group, body } = frame::read_one(stream, FRAME_BYTES_MAX).await?;
    let words = postcard::from_bytes(&body).map_err(|_| HandshakeError::Malformed(otherwise))?;
    Ok((words, group))
}

/// Somebody else's words, fit for a log.
fn readable(reason: &str) -> String {
    let clean = reason.chars().filter(|c| !c.is_control());
    let mut bytes = 0;
    clean
        .take_while(|c| {
            bytes += c.len_utf8();
            bytes <= REASON_BYTES_MAX
        })
        .collect()
}

#[cfg(test)]
pub(crate) mod fuzz;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use paxos_core::types::{ClusterId, Peer, StoreId};

    use super::*;

    pub(super) fn roster(cluster: u64, node: u64, peers: &[(u64, Option<u64>)]) -> Roster {
        let identity = Identity {
            cluster: ClusterId(cluster),
            node: NodeId(node),
            store: StoreId(100 + node),
        };
        let peers: Vec<_> = peers
            .iter()
            .map(|(id, store)| Peer {
                id: NodeId(*id),
                address: String::new(),
                store: store.map(StoreId),
            })
            .collect();
        Roster::new(identity, Default::default(), &peers, Arc::default())
    }

    async fn shake(
        dialler: &Roster,
        to: u64,
        listener: &Roster,
    ) -> (Result<(), HandshakeError>, Result<Admitted, HandshakeError>) {
        let (mut near, mut far) = tokio::io::duplex(4096);
        let dial = async move { dial(&mut near, dialler, (NodeId(to), Lane::Log), None).await };
        let accept = async move { accept(&mut far, listener, None).await };
        tokio::join!(dial, accept)
    }

    #[tokio::test]
    async fn two_members_meet() {
        let (one, two) = (roster(7, 1, &[(2, None)]), roster(7, 2, &[(1, None)]));
        let (dialled, accepted) = shake(&one, 2, &two).await;
        dialled.expect("let in");
        let accepted = accepted.expect("let in");
        assert_eq!((accepted.identity, accepted.lane), (one.me(), Lane::Log));
        assert_eq!(accepted.admission, Admission::Unmet, "it has said so itself");
        shake(&two, 1, &one).await.0.expect("let in");
        let again = shake(&one, 2, &two).await.1.expect("let in");
        assert_eq!(again.admission, Admission::Met, "it was found where it has to be");
    }

    /// Both sides are told the same remedy, whichever of them refuses, and nobody an id that he need not know.
    #[tokio::test(start_paused = true)]
    async fn both_sides_know_why_they_part() {
        let cases = [
            (roster(8, 1, &[(2, None)]), 2, roster(7, 2, &[(1, None)]), "check the cluster id"),
            (roster(7, 1, &[(2, None)]), 2, roster(7, 3, &[(1, None)]), "correct the addresses"),
            (roster(7, 9, &[(2, None)]), 2, roster(7, 2, &[(1, None)]), "knows no member 9"),
            (roster(7, 1, &[(2, None)]), 2, roster(7, 2, &[(1, Some(5))]), "node 1 has lost"),
            (roster(7, 1, &[(2, Some(5))]), 2, roster(7, 2, &[(1, None)]), "node 2 has lost"),
        ];
        for (dialler, to, listener, text) in cases {
            let (dialled, accepted) = shake(&dialler, to, &listener).await;
            let dialled = dialled.expect_err(text).to_string();
            assert!(dialled.contains(text), "{dialled}");
            let accepted = accepted.expect_err(text).to_string();
            assert!(accepted.contains(text), "{accepted}");
            let ids = ["8 and 7", "7 and 8", "it was"];
            let tells = |words: &str| ids.iter().any(|id| words.contains(id));
            assert!(!tells(&accepted) || !tells(&dialled), "{accepted} / {dialled}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn another_version_is_refused_in_words_it_can_read() {
        let (mut near, mut far) = tokio::io::duplex(4096);
        let two = roster(7, 2, &[(1, None)]);
        let newer = async move {
            near.write_all(&[&MAGIC[..], &9u16.to_le_bytes(), b"anything"].concat()).await?;
            let version = read_version(&mut near).await.expect("a preamble");
            assert_eq!(version, VERSION);
            let (verdict, _) = read(&mut near, "no verdict").await.expect("a verdict");
            assert!(matches!(verdict, Verdict::Refused(reason) if reason.contains("version 9")));
            Ok::<_, io::Error>(())
        };
        let (newer, refused) = tokio::join!(newer, accept(&mut far, &two, None));
        newer.expect("the stream holds");
        assert!(refused.expect_err("refused").to_string().contains("version 9 meets version 3"));
    }

    #[tokio::test(start_paused = true)]
    async fn another_group_is_refused_on_both_sides() {
        let text = "group 5 meets group 0";
        let (one, two) = (roster(7, 1, &[(2, None)]), roster(7, 2, &[(1, None)]));
        let of_group = |words: &[u8]| [preamble(), frame::framed_for(5, words)].concat();

        let (mut near, mut far) = tokio::io::duplex(4096);
        let hello = Hello { identity: one.me(), to: NodeId(2), lane: Lane::Log };
        let hello = of_group(&postcard::to_stdvec(&hello).expect("plain data encodes"));
        let dialler = async move {
            near.write_all(&hello).await.expect("room");
            read_version(&mut near).await.expect("a preamble");
            read(&mut near, "no verdict").await.expect("a verdict")
        };
        let (heard, refused) = tokio::join!(dialler, accept(&mut far, &two, None));
        assert!(matches!(heard, (Verdict::Refused(reason), 0) if reason.contains(text)));
        assert!(refused.expect_err("refused").to_string().contains(text));

        let (mut near, mut far) = tokio::io::duplex(4096);
        let welcome = postcard::to_stdvec(&Verdict::Welcome(two.me())).expect("plain data encodes");
        let listener = async move {
            read_version(&mut far).await.expect("a preamble");
            read::<Hello>(&mut far, "no hello").await.expect("a hello");
            far.write_all(&of_group(&welcome)).await.expect("room");
            read(&mut far, "no verdict").await.expect("a verdict")
        };
        let dialled = dial(&mut near, &one, (NodeId(2), Lane::Log), None);
        let (heard, refused) = tokio::join!(listener, dialled);
        assert!(matches!(heard, (Verdict::Refused(reason), 0) if reason.contains(text)));
        assert!(refused.expect_err("refused").to_string().contains(text));
    }

    #[tokio::test]
    async fn something_else_is_recognised() {
        let (mut near, mut far) = tokio::io::duplex(4096);
        near.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("room");
        let error = accept(&mut far, &roster(7, 2, &[]), None).await.expect_err("not a node");
        assert!(matches!(error, HandshakeError::Foreign), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn any_first_words_are_a_handshake_or_refused(
            preamble in proptest::bool::ANY,
            words in proptest::collection::vec(proptest::num::u8::ANY, 0..100),
        ) {
            let words = match preamble {
                true => [self::preamble(), frame::framed(&words)].concat(),
                false => words,
            };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
            let (mut near, mut far) = tokio::io::duplex(4096);
            runtime.block_on(near.write_all(&words)).expect("room");
            drop(near);
            let listener = roster(7, 2, &[(1, None)]);
            runtime.block_on(accept(&mut far, &listener, None)).expect_err("no answer was heard");
        }
    }
}
