//! Errors in the codes and the words that etcd's clients match on.

use axum::response::Response;
use paxos_core::{
    message::NotReady,
    node::{ChangeMembersError, ProposeError, ReadError, TransferError},
    replica::{ChangeRefusal, TransferRefusal},
    types::{Change, ChangeError},
};
use tonic::{Code, Status};

use crate::store::KvError;

impl From<KvError> for Status {
    fn from(error: KvError) -> Status {
        Status::new(error.code(), error.message())
    }
}

/// [`Code::OutOfRange`] as a header has it.
const OUT_OF_RANGE: &str = "11";

/// A message beyond gRPC's limit is refused by the library that reads it, as out of range; clients know that as
/// exhausted resources, and try no more.
pub(super) async fn in_grpcs_words(response: Response) -> Response {
    if response.headers().get(Status::GRPC_STATUS).is_none_or(|code| *code != OUT_OF_RANGE) {
        return response;
    }
    let status = Status::from_header_map(response.headers());
    let numbers = status.as_ref().and_then(|status| {
        let text =
            status.message().strip_prefix("Error, decoded message length too large: found ")?;
        let mut words = text.split(|character: char| !character.is_ascii_digit());
        let mut number = || words.by_ref().find(|word| !word.is_empty());
        Some((number()?.to_owned(), number()?.to_owned()))
    });
    match numbers {
        Some((found, max)) => Status::resource_exhausted(format!(
            "grpc: received message larger than max ({found} vs. {max})"
        ))
        .into_http(),
        None => response,
    }
}

pub(super) fn no_leader() -> Status {
    Status::unavailable("etcdserver: no leader")
}

pub(super) fn request_too_large() -> Status {
    Status::invalid_argument("etcdserver: request is too large")
}

fn timed_out() -> Status {
    Status::unavailable("etcdserver: request timed out")
}

pub(super) fn too_many_requests() -> Status {
    Status::new(Code::Unknown, "etcdserver: too many requests")
}

pub(super) fn no_space() -> Status {
    Status::resource_exhausted("etcdserver: mvcc: database space exceeded")
}

/// A command's answer of another kind than the command.
pub(super) fn mismatch() -> Status {
    Status::internal("etcdserver: the answer does not fit the request")
}

pub(super) fn stopped() -> Status {
    Status::unavailable("etcdserver: server stopped")
}

pub(super) fn member_not_found() -> Status {
    Status::not_found("etcdserver: member not found")
}

pub(super) fn member_exists() -> Status {
    Status::failed_precondition("etcdserver: Peer URLs already exists")
}

pub(super) fn member_urls_invalid() -> Status {
    Status::invalid_argument("etcdserver: given member URLs are invalid")
}

pub(super) fn not_a_learner() -> Status {
    Status::failed_precondition("etcdserver: can only promote a learner member")
}

/// The status for a change of the membership that was not made, or of which that is not known.
pub(super) fn change_status(error: &ChangeMembersError, change: &Change) -> Status {
    let refusal = match error {
        ChangeMembersError::Refused(refusal) => refusal,
        ChangeMembersError::Stopped(_) => return stopped(),
    };
    match refusal {
        ChangeRefusal::Change(ChangeError::NoMember(_)) => member_not_found(),
        ChangeRefusal::Change(ChangeError::AMember(_)) => {
            Status::failed_precondition("etcdserver: member ID already exist")
        }
        ChangeRefusal::Change(error) => Status::failed_precondition(format!("etcdserver: {error}")),
        ChangeRefusal::NotReady(NotReady::Behind(_)) => Status::failed_precondition(
            "etcdserver: can only promote a learner member which is in sync with leader",
        ),
        ChangeRefusal::NotReady(NotReady::NoQuorum) => match change {
            Change::Remove { .. } => Status::unknown(
                "etcdserver: re-configuration failed due to not enough started members",
            ),
            _ => Status::unavailable("etcdserver: unhealthy cluster"),
        },
        ChangeRefusal::Busy | ChangeRefusal::Overtaken | ChangeRefusal::Unknown => timed_out(),
    }
}

/// The status for a leadership that was not handed over. Where etcd would wait until its patience ends, the
/// reason is known here, and said at once.
pub(super) fn transfer_status(error: &TransferError) -> Status {
    let refusal = match error {
        TransferError::Refused(refusal) => refusal,
        TransferError::Stopped(_) => return stopped(),
    };
    let bad =
        |reason| Status::failed_precondition(format!("etcdserver: bad leader transferee{reason}"));
    match refusal {
        TransferRefusal::NotLeading { .. } => Status::failed_precondition("etcdserver: not leader"),
        TransferRefusal::NotAMember(_) | TransferRefusal::NotAVoter(_) => bad(""),
        TransferRefusal::NoSuccessor | TransferRefusal::Silent(_) => bad(": it does not answer"),
        TransferRefusal::CannotWrite(_) => bad(": its disk takes no writes"),
        TransferRefusal::Behind(_) => bad(": it has not caught up"),
        TransferRefusal::Busy
        | TransferRefusal::NotTakenOver(_)
        | TransferRefusal::Overtaken(_)
        | TransferRefusal::Unknown => {
            Status::unknown("etcdserver: request timed out, leader transfer took too long")
        }
    }
}

/// The status for a write that has no response.
pub(super) fn propose_status(error: &ProposeError) -> Status {
    match error {
        ProposeError::Busy => too_many_requests(),
        ProposeError::TooLarge => request_too_large(),
        ProposeError::DiskFull => no_space(),
        // The node names its requests itself, so an id that is refused is one whose session was
        // forgotten while the request was under way: its outcome is unknown, as after a timeout.
        ProposeError::UnknownOutcome
        | ProposeError::Refused { .. }
        | ProposeError::AlreadyApplied
        | ProposeError::Expired
        | ProposeError::IdUsed
        | ProposeError::InvalidId => timed_out(),
        ProposeError::Unencodable(_)
        | ProposeError::Malformed
        | ProposeError::WithinStateMachine => Status::internal(format!("etcdserver: {error}")),
        ProposeError::Stopped(_) => stopped(),
    }
}

/// The status for a read that was not confirmed.
pub(super) fn read_status(error: &ReadError) -> Status {
    match error {
        ReadError::Timeout | ReadError::Refused { .. } => timed_out(),
        ReadError::Busy => too_many_requests(),
        ReadError::WithinStateMachine => Status::internal(format!("etcdserver: {error}")),
        ReadError::Stopped(_) => stopped(),
    }
}

#[cfg(test)]
mod tests {
    use paxos_core::{node::NodeError, types::NodeId};

    use super::*;

    #[test]
    fn codes_and_texts_are_etcds() {
        let of = |status: Status| (status.code(), status.message().to_owned());
        let text = |text: &str| format!("etcdserver: {text}");
        for (error, code, message) in [
            (ProposeError::Busy, Code::Unknown, "too many requests"),
            (ProposeError::TooLarge, Code::InvalidArgument, "request is too large"),
            (ProposeError::DiskFull, Code::ResourceExhausted, "mvcc: database space exceeded"),
            (ProposeError::UnknownOutcome, Code::Unavailable, "request timed out"),
            (ProposeError::Stopped(NodeError::ShutDown), Code::Unavailable, "server stopped"),
        ] {
            assert_eq!(of(propose_status(&error)), (code, text(message)));
        }
        for (error, code, message) in [
            (ReadError::Timeout, Code::Unavailable, "request timed out"),
            (ReadError::Busy, Code::Unknown, "too many requests"),
            (ReadError::Stopped(NodeError::ShutDown), Code::Unavailable, "server stopped"),
        ] {
            assert_eq!(of(read_status(&error)), (code, text(message)));
        }
        let remove = Change::Remove { node: NodeId(7) };
        let not_ready = "re-configuration failed due to not enough started members";
        for (refusal, code, message) in [
            (ChangeError::NoMember(NodeId(7)).into(), Code::NotFound, "member not found"),
            (NotReady::NoQuorum.into(), Code::Unknown, not_ready),
            (ChangeRefusal::Unknown, Code::Unavailable, "request timed out"),
        ] {
            let error = ChangeMembersError::Refused(refusal);
            assert_eq!(of(change_status(&error, &remove)), (code, text(message)));
        }
        let too_long = "request timed out, leader transfer took too long";
        for (refusal, code, message) in [
            (TransferRefusal::NotLeading { leader: None }, Code::FailedPrecondition, "not leader"),
            (
                TransferRefusal::NotAVoter(NodeId(7)),
                Code::FailedPrecondition,
                "bad leader transferee",
            ),
            (TransferRefusal::NotTakenOver(NodeId(7)), Code::Unknown, too_long),
        ] {
            let error = TransferError::Refused(refusal);
            assert_eq!(of(transfer_status(&error)), (code, text(message)));
        }
        let compacted = "mvcc: required revision has been compacted";
        assert_eq!(of(KvError::Compacted.into()), (Code::OutOfRange, text(compacted)));
        assert_eq!(of(no_leader()), (Code::Unavailable, text("no leader")));
    }
}
