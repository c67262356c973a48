//! What the cluster replicates, and what comes of it.
//!
//! A command stands in the log in an envelope:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | [`FORMAT`] |
//! | 1 to 5 | the rules that it was made under, as a varint |
//! | | the command, and on whose behalf it is carried out (`proto/command.proto`) |
//!
//! The rules come first, so that whoever does not know them has to understand nothing of the rest. Before there were
//! envelopes, commands stood in the log by themselves; they were made under the first rules.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use paxos_core::port::{Codec, CodecError};
use prost::{
    Message,
    encoding::{decode_varint, encode_varint, encoded_len_varint},
};

use super::{KvError, RequestLimits, Rules, validate};
use crate::proto::{
    etcdserverpb::{
        CompactionResponse, DeleteRangeResponse, LeaseGrantResponse, LeaseRevokeResponse,
        PutResponse, TxnResponse,
    },
    paxoskv,
};

/// A request that may change the store: what is proposed, in an [`Envelope`].
pub use crate::proto::paxoskv::envelope::Command;

/// A user, as the member knew it that let the request in.
pub use crate::proto::paxoskv::Author;

/// What is replicated of the time that leases have.
pub use crate::proto::paxoskv::{ExpireLease, NoteLeases, RemainingTime, RenewLeases};

/// What a member says of itself when it starts.
pub use crate::proto::paxoskv::MemberAttributes;

/// What an envelope begins with. No command without one does: it has the number of a field there.
const FORMAT: u8 = 1;

/// A command as it stands in the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    /// By which it is carried out.
    pub rules: Rules,
    /// On whose behalf, if the cluster asks who its clients are.
    pub author: Option<Author>,
    /// The command.
    pub command: Command,
}

/// What a command did. Headers carry the revision only: who answers is known to the server.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    /// Of [`Command::Put`].
    Put(PutResponse),
    /// Of [`Command::DeleteRange`].
    DeleteRange(DeleteRangeResponse),
    /// Of [`Command::Txn`].
    Txn(TxnResponse),
    /// Of [`Command::Compact`].
    Compact(CompactionResponse),
    /// Of [`Command::MemberAttributes`].
    MemberAttributes,
    /// Of [`Command::RaiseRules`].
    RaiseRules,
    /// Of [`Command::GrantLease`].
    GrantLease(LeaseGrantResponse),
    /// Of [`Command::RevokeLease`].
    RevokeLease(LeaseRevokeResponse),
    /// Of [`Command::RenewLeases`]: how long each lasts from now on, in seconds; 0 if there is none.
    RenewLeases(Vec<i64>),
    /// Of [`Command::ExpireLease`]: whether that was its end.
    ExpireLease(bool),
    /// Of [`Command::NoteLeases`].
    NoteLeases,
}

impl Command {
    /// Checks what can be checked without the store, its size included: to be called before it is
    /// proposed, so that nonsense does not take up a place in the log. The limits are the server's
    /// own; the store accepts everything up to [`RequestLimits::MAX`].
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, in etcd's order.
    pub fn validate(&self, limits: RequestLimits) -> Result<(), KvError> {
        match self {
            Command::Put(request) => validate::put(request)?,
            Command::DeleteRange(request) => validate::delete_range(request)?,
            Command::Txn(request) => validate::txn(request, limits)?,
            _ => (),
        }
        if self.encoded_len() > limits.request_bytes_max {
            return Err(KvError::RequestTooLarge);
        }
        Ok(())
    }

    /// In an envelope, on nobody's behalf. The rules are those in force where it is proposed
    /// ([`Reader::rules`](super::Reader::rules)).
    #[must_use]
    pub fn under(self, rules: Rules) -> Envelope {
        Envelope { rules, author: None, command: self }
    }
}

impl Codec for Envelope {
    fn encode(&self) -> Result<Bytes, CodecError> {
        self.clone().into_bytes()
    }

    fn into_bytes(self) -> Result<Bytes, CodecError> {
        let rules = u64::from(self.rules.0);
        let message = paxoskv::Envelope { command: Some(self.command), author: self.author };
        let length = 1 + encoded_len_varint(rules) + message.encoded_len();
        let mut buffer = BytesMut::with_capacity(length);
        buffer.put_u8(FORMAT);
        encode_varint(rules, &mut buffer);
        message.encode_raw(&mut buffer);
        Ok(buffer.freeze())
    }

    fn decode(mut bytes: &[u8]) -> Result<Envelope, CodecError> {
        let malformed = |reason: &str| CodecError::Malformed(reason.to_owned());
        let rules = match bytes.first() {
            Some(&FORMAT) => {
                bytes.advance(1);
                let rules = decode_varint(&mut bytes).ok().and_then(|it| u32::try_from(it).ok());
                Rules(rules.ok_or_else(|| malformed("no rules"))?)
            }
            _ => Rules::FIRST,
        };
        if rules > Rules::KNOWN {
            return Err(CodecError::Newer { found: rules.0, known: Rules::KNOWN.0 });
        }
        let message = paxoskv::Envelope::decode(bytes);
        let message = message.map_err(|error| malformed(&error.to_string()))?;
        let command = message.command.ok_or_else(|| malformed("of no kind that is known"))?;
        Ok(Envelope { rules, author: message.author, command })
    }
}
