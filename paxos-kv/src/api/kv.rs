//! The KV service: what changes the store goes through the log, what reads it does not.
//!
//! A read is linearizable on every member unless its client asks for a serializable one: it waits
//! until this member has applied everything that was acknowledged before, then reads the local
//! store.

use tonic::{Request, Response, Status, async_trait};

use super::{
    Context,
    error::{mismatch, no_space},
    reads::{Charge, Length},
};
use crate::{
    proto::etcdserverpb::{
        CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest,
        PutResponse, RangeRequest, RangeResponse, TxnRequest, TxnResponse, kv_server::Kv,
    },
    store::{self, Command, allowance::Allowance, validate},
};

/// See the module.
pub(super) struct KvService {
    context: Context,
}

impl KvService {
    pub(super) fn new(context: Context) -> KvService {
        KvService { context }
    }

    /// Replicates a command, waits for what it did and reads what is only answered. A member whose disk is full
    /// takes none: its tables could not follow.
    async fn propose(
        &self,
        length: Length,
        command: Command,
    ) -> Result<(store::Response, Option<Charge>), Status> {
        command.validate(self.context.limits())?;
        if self.context.lacks_room() {
            return Err(no_space());
        }
        let answer = self.context.propose(command).await?;
        if !answer.reads() {
            return Ok((answer.response()?, None));
        }
        let read = move |allowance: &mut Allowance| answer.response_within(allowance);
        let (response, charge) =
            self.context.reads().run(length, read).await.map_err(|status| unread(&status))?;
        Ok((response, Some(charge)))
    }

    /// Reads a range.
    async fn read_range(&self, request: RangeRequest) -> Result<(RangeResponse, Charge), Status> {
        let context = self.context.clone();
        let is_one = request.range_end.is_empty();
        let is_in_memory = is_one && context.reader().is_in_memory(&request);
        let read =
            move |allowance: &mut Allowance| context.reader().range_within(&request, allowance);
        // What is in memory is found sooner than another thread would start to look.
        if is_in_memory {
            return self.context.reads().run_here(read);
        }
        let length = if is_one { Length::LookUp } else { Length::Long };
        self.context.reads().run(length, read).await
    }
}

/// A response that takes up memory until it has been sent.
fn charged<T>(response: T, charge: Option<Charge>) -> Response<T> {
    let mut response = Response::new(response);
    if let Some(charge) = charge {
        response.extensions_mut().insert(charge);
    }
    response
}

/// The status for a command that has had its effect, but has no answer.
fn unread(status: &Status) -> Status {
    let reason = status.message();
    Status::unknown(format!(
        "etcdserver: the request has had its effect, but has no answer: {reason}"
    ))
}

#[async_trait]
impl Kv for KvService {
    async fn range(
        &self,
        request: Request<RangeRequest>,
    ) -> Result<Response<RangeResponse>, Status> {
        let request = request.into_inner();
        validate::range(&request)?;
        if !request.serializable {
            self.context.linearize().await?;
        }
        let (mut response, charge) = self.read_range(request).await?;
        self.context.complete(&mut response.header);
        Ok(charged(response, Some(charge)))
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        let command = Command::Put(request.into_inner());
        let (store::Response::Put(mut response), charge) =
            self.propose(Length::LookUp, command).await?
        else {
            return Err(mismatch());
        };
        self.context.complete(&mut response.header);
        Ok(charged(response, charge))
    }

    async fn delete_range(
        &self,
        request: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        let command = Command::DeleteRange(request.into_inner());
        let (store::Response::DeleteRange(mut response), charge) =
            self.propose(Length::Long, command).await?
        else {
            return Err(mismatch());
        };
        self.context.complete(&mut response.header);
        Ok(charged(response, charge))
    }

    async fn txn(&self, request: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        let request = request.into_inner();
        validate::txn(&request, self.context.limits())?;
        let (mut response, charge) = if validate::is_read_only(&request) {
            if !validate::is_serializable(&request) {
                self.context.linearize().await?;
            }
            let context = self.context.clone();
            let read =
                move |allowance: &mut Allowance| context.reader().txn_within(&request, allowance);
            let (response, charge) = self.context.reads().run(Length::Long, read).await?;
            (response, Some(charge))
        } else {
            let command = Command::Txn(request);
            let (store::Response::Txn(response), charge) =
                self.propose(Length::Long, command).await?
            else {
                return Err(mismatch());
            };
            (response, charge)
        };
        self.context.complete(&mut response.header);
        Ok(charged(response, charge))
    }

    async fn compact(
        &self,
        request: Request<CompactionRequest>,
    ) -> Result<Response<CompactionResponse>, Status> {
        let command = Command::Compact(request.into_inner());
        let (store::Response::Compact(mut response), _) =
            self.propose(Length::LookUp, command).await?
        else {
            return Err(mismatch());
        };
        self.context.complete(&mut response.header);
        Ok(Response::new(response))
    }
}
