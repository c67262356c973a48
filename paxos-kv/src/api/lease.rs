//! The Lease service. A lease is granted, renewed and ended through the log; its time is counted by the members
//! (`server/lessor`).

use futures::StreamExt;
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::{
    Context,
    error::{mismatch, no_space},
    renewals::Renewals,
    streams::{Answers, until_ended},
};
use crate::{
    proto::etcdserverpb::{
        LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
        LeaseLeasesRequest, LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse,
        LeaseStatus, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, lease_server::Lease,
    },
    store::{self, Command},
};

/// Renewals of one stream that are under way. The client is answered in the order in which it asked.
const STREAM_RENEWALS_MAX: usize = 1024;

/// See the module.
pub(super) struct LeaseService {
    context: Context,
    renewals: Renewals,
}

impl LeaseService {
    pub(super) fn new(context: Context) -> LeaseService {
        let renewals = Renewals::start(context.clone());
        LeaseService { context, renewals }
    }
}

#[async_trait]
impl Lease for LeaseService {
    async fn lease_grant(
        &self,
        request: Request<LeaseGrantRequest>,
    ) -> Result<Response<LeaseGrantResponse>, Status> {
        let mut request = request.into_inner();
        if self.context.lacks_room() {
            return Err(no_space());
        }
        if request.id == 0 {
            request.id = fastrand::i64(1..);
        }
        request.ttl = request.ttl.max(self.context.timing().ttl_min());
        let answer = self.context.propose(Command::GrantLease(request)).await?;
        let store::Response::GrantLease(mut response) = answer.response()? else {
            return Err(mismatch());
        };
        self.context.complete(&mut response.header);
        Ok(Response::new(response))
    }

    async fn lease_revoke(
        &self,
        request: Request<LeaseRevokeRequest>,
    ) -> Result<Response<LeaseRevokeResponse>, Status> {
        let answer = self.context.propose(Command::RevokeLease(request.into_inner())).await?;
        let store::Response::RevokeLease(mut response) = answer.response()? else {
            return Err(mismatch());
        };
        self.context.complete(&mut response.header);
        Ok(Response::new(response))
    }

    type LeaseKeepAliveStream = Answers<LeaseKeepAliveResponse>;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let (metadata, _, asked) = request.into_parts();
        let (context, renewals) = (self.context.clone(), self.renewals.clone());
        let renewed = asked.map(move |asked| {
            let (context, renewals) = (context.clone(), renewals.clone());
            async move {
                let id = asked?.id;
                let ttl = renewals.renew(id).await?;
                let header = Some(context.header(context.reader().revision()));
                Ok(LeaseKeepAliveResponse { header, id, ttl })
            }
        });
        let answers = renewed.buffered(STREAM_RENEWALS_MAX);
        Ok(Response::new(until_ended(&self.context, &metadata, answers)))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<LeaseTimeToLiveRequest>,
    ) -> Result<Response<LeaseTimeToLiveResponse>, Status> {
        let LeaseTimeToLiveRequest { id, keys } = request.into_inner();
        self.context.linearize().await?;
        let lessor = self.context.lessor().clone();
        let found = self.context.look_up(move |reader| {
            let revision = reader.revision();
            let Some((lease, keys)) = reader.lease(id, keys)? else { return Ok((revision, None)) };
            let remaining = lessor.remaining(id)?.unwrap_or_default();
            let ttl = i64::try_from(remaining.as_secs()).unwrap_or(i64::MAX);
            Ok((revision, Some((ttl, lease.ttl, keys))))
        });
        let (revision, found) = found.await?;
        let header = Some(self.context.header(revision));
        // So etcd says that there is none.
        let (ttl, granted_ttl, keys) = found.unwrap_or((-1, 0, Vec::new()));
        Ok(Response::new(LeaseTimeToLiveResponse { header, id, ttl, granted_ttl, keys }))
    }

    async fn lease_leases(
        &self,
        _: Request<LeaseLeasesRequest>,
    ) -> Result<Response<LeaseLeasesResponse>, Status> {
        self.context.linearize().await?;
        let found = self.context.look_up(|reader| Ok((reader.revision(), reader.leases()?)));
        let (revision, leases) = found.await?;
        let leases = leases.into_iter().map(|(id, _)| LeaseStatus { id }).collect();
        let header = Some(self.context.header(revision));
        Ok(Response::new(LeaseLeasesResponse { header, leases }))
    }
}
