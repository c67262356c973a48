//! The KV service: what changes the store goes through the log, what reads it does not.
//!
//! A read is linearizable on every member unless its client asks for a serializable one: it waits
//! until this member has applied everything that was acknowledged before, then reads the local
//! store.

use tonic::{Request, Response, Status, async_trait};

use super::{
    Context,
    error::{no_space, propose_status},
};
use crate::{
    proto::etcdserverpb::{
        CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest,
        PutResponse, RangeRequest, RangeResponse, ResponseHeader, TxnRequest, TxnResponse,
        kv_server::Kv,
    },
    store::{self, Command, validate},
};

/// See the module.
pub(super) struct KvService {
    context: Context,
}

impl KvService {
    pub(super) fn new(context: Context) -> KvService {
        KvService { context }
    }

    /// Replicates a command and waits for what it did. A member whose disk is full takes none: its tables
    /// could not follow.
    async fn propose(&self, command: Command) -> Result<store::Response, Status> {
        command.validate(self.context.limits())?;
        if self.context.lacks_room() {
            return Err(no_space());
        }
        let result = self.context.node().propose(command).await;
        Ok(result.map_err(|error| propose_status(&error))??)
    }

    /// Completes the header of an answer, which has the revision already.
    fn complete(&self, header: &mut Option<ResponseHeader>) {
        let revision = header.as_ref().map_or(0, |header| header.revision);
        *header = Some(self.context.header(revision));
    }
}

/// A command's answer of another kind than the command.
fn mismatch() -> Status {
    Status::internal("etcdserver: the answer does not fit the request")
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
        let mut response = match request.range_end.is_empty() {
            // One key is found sooner than another thread would start to look.
            true => self.context.reader().range(&request)?,
            false => self.context.read(move |reader| reader.range(&request)).await?,
        };
        self.complete(&mut response.header);
        Ok(Response::new(response))
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        let store::Response::Put(mut response) =
            self.propose(Command::Put(request.into_inner())).await?
        else {
            return Err(mismatch());
        };
        self.complete(&mut response.header);
        Ok(Response::new(response))
    }

    async fn delete_range(
        &self,
        request: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        let store::Response::DeleteRange(mut response) =
            self.propose(Command::DeleteRange(request.into_inner())).await?
        else {
            return Err(mismatch());
        };
        self.complete(&mut response.header);
        Ok(Response::new(response))
    }

    async fn txn(&self, request: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        let request = request.into_inner();
        validate::txn(&request, self.context.limits())?;
        let mut response = if validate::is_read_only(&request) {
            if !validate::is_serializable(&request) {
                self.context.linearize().await?;
            }
            self.context.read(move |reader| reader.txn(&request)).await?
        } else {
            let store::Response::Txn(response) = self.propose(Command::Txn(request)).await? else {
                return Err(mismatch());
            };
            response
        };
        self.complete(&mut response.header);
        Ok(Response::new(response))
    }

    async fn compact(
        &self,
        request: Request<CompactionRequest>,
    ) -> Result<Response<CompactionResponse>, Status> {
        let store::Response::Compact(mut response) =
            self.propose(Command::Compact(request.into_inner())).await?
        else {
            return Err(mismatch());
        };
        self.complete(&mut response.header);
        Ok(Response::new(response))
    }
}
