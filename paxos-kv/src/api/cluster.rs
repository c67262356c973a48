//! The Cluster service: who the members are, and changes of that.

use paxos_core::types::{Change, MemberRole, Membership, NodeId};
use tonic::{Request, Response, Status, async_trait};

use super::{
    Context,
    error::{member_exists, member_not_found, member_urls_invalid, not_a_learner},
};
use crate::{
    proto::etcdserverpb::{
        Member, MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse,
        MemberPromoteRequest, MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse,
        MemberUpdateRequest, MemberUpdateResponse, cluster_server::Cluster,
    },
    server::config::Url,
};

/// See the module.
pub(super) struct ClusterService {
    context: Context,
}

impl ClusterService {
    pub(super) fn new(context: Context) -> ClusterService {
        ClusterService { context }
    }

    /// The members of `membership`, with what they say of themselves when they start; before, they have neither
    /// name nor URLs.
    async fn members(&self, membership: &Membership) -> Result<Vec<Member>, Status> {
        let published = self.context.look_up(|reader| reader.members()).await?;
        let scheme = self.context.cluster().peer_scheme();
        let members = membership.members().map(|(id, member)| {
            let published = published.iter().find(|published| published.member_id == id.0);
            let (name, client_urls) = published
                .map(|published| (published.name.clone(), published.client_urls.clone()))
                .unwrap_or_default();
            let peer_urls = vec![format!("{scheme}://{}", member.address)];
            let is_learner = member.role == MemberRole::Learner;
            Member { id: id.0, name, peer_urls, client_urls, is_learner }
        });
        Ok(members.collect())
    }

    /// Makes a change and returns the members that it leaves.
    async fn change(
        &self,
        make: impl Fn(&Membership) -> Result<Change, Status>,
    ) -> Result<Vec<Member>, Status> {
        let membership = self.context.change_members(make).await?;
        self.members(&membership).await
    }

    /// Where a member is reached, if its URLs say so: one, of the kind that this cluster speaks.
    fn address(&self, peer_urls: &[String]) -> Result<String, Status> {
        let [url] = peer_urls else { return Err(member_urls_invalid()) };
        let url: Url = url.parse().map_err(|_| member_urls_invalid())?;
        let is_fit = url.scheme() == self.context.cluster().peer_scheme()
            && !url.is_unspecified()
            && url.port() != 0;
        if is_fit { Ok(url.address()) } else { Err(member_urls_invalid()) }
    }
}

/// Nobody is reached there yet, but for `but`.
fn check_is_free(
    membership: &Membership,
    address: &str,
    but: Option<NodeId>,
) -> Result<(), Status> {
    let mut others = membership.members().filter(|(id, _)| Some(*id) != but);
    match others.any(|(_, member)| member.address == address) {
        true => Err(member_exists()),
        false => Ok(()),
    }
}

#[async_trait]
impl Cluster for ClusterService {
    async fn member_list(
        &self,
        request: Request<MemberListRequest>,
    ) -> Result<Response<MemberListResponse>, Status> {
        if request.into_inner().linearizable {
            self.context.linearize().await?;
        }
        let members = self.members(&self.context.node().status().membership).await?;
        let header = Some(self.context.header(0));
        Ok(Response::new(MemberListResponse { header, members }))
    }

    /// Whoever comes is a learner first, so that nothing ever depends on a member that has nothing yet; one that
    /// is to vote is promoted by this server as soon as it has caught up.
    async fn member_add(
        &self,
        request: Request<MemberAddRequest>,
    ) -> Result<Response<MemberAddResponse>, Status> {
        let MemberAddRequest { peer_urls, is_learner } = request.into_inner();
        let address = self.address(&peer_urls)?;
        // Of 64 random bits, none comes twice.
        let node = NodeId(fastrand::u64(1..));
        let members = self.change(|membership| {
            check_is_free(membership, &address, None)?;
            Ok(Change::Add { node, address: address.clone(), role: MemberRole::Learner })
        });
        let mut members = members.await?;
        if !is_learner {
            self.context.promote_when_ready(node);
        }
        for member in members.iter_mut().filter(|member| member.id == node.0) {
            member.is_learner = is_learner;
        }
        let member = members.iter().find(|member| member.id == node.0).cloned();
        let header = Some(self.context.header(0));
        Ok(Response::new(MemberAddResponse { header, member, members }))
    }

    async fn member_remove(
        &self,
        request: Request<MemberRemoveRequest>,
    ) -> Result<Response<MemberRemoveResponse>, Status> {
        let node = NodeId(request.into_inner().id);
        let members = self.change(|_| Ok(Change::Remove { node })).await?;
        let header = Some(self.context.header(0));
        Ok(Response::new(MemberRemoveResponse { header, members }))
    }

    async fn member_update(
        &self,
        request: Request<MemberUpdateRequest>,
    ) -> Result<Response<MemberUpdateResponse>, Status> {
        let MemberUpdateRequest { id, peer_urls } = request.into_inner();
        let (node, address) = (NodeId(id), self.address(&peer_urls)?);
        let members = self.change(|membership| {
            check_is_free(membership, &address, Some(node))?;
            Ok(Change::Address { node, address: address.clone() })
        });
        let members = members.await?;
        let header = Some(self.context.header(0));
        Ok(Response::new(MemberUpdateResponse { header, members }))
    }

    async fn member_promote(
        &self,
        request: Request<MemberPromoteRequest>,
    ) -> Result<Response<MemberPromoteResponse>, Status> {
        let node = NodeId(request.into_inner().id);
        let members = self.change(|membership| match membership.is_voter(node) {
            true => Err(not_a_learner()),
            false if !membership.is_member(node) => Err(member_not_found()),
            false => Ok(Change::Role { node, role: MemberRole::Voter }),
        });
        let members = members.await?;
        let header = Some(self.context.header(0));
        Ok(Response::new(MemberPromoteResponse { header, members }))
    }
}
