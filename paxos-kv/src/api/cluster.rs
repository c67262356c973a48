//! The Cluster service: who the members are.

use tonic::{Request, Response, Status, async_trait};

use super::Context;
use crate::proto::etcdserverpb::{
    Member, MemberListRequest, MemberListResponse, cluster_server::Cluster,
};

/// See the module.
pub(super) struct ClusterService {
    context: Context,
}

impl ClusterService {
    pub(super) fn new(context: Context) -> ClusterService {
        ClusterService { context }
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
        let published = self.context.look_up(|reader| reader.members()).await?;
        let members = self.context.cluster().members().iter().map(|member| {
            // What a member says of itself when it starts; before, it has neither name nor URLs.
            let published = published.iter().find(|published| published.member_id == member.id.0);
            let (name, client_urls) = published
                .map(|published| (published.name.clone(), published.client_urls.clone()))
                .unwrap_or_default();
            Member {
                id: member.id.0,
                name,
                peer_urls: vec![member.peer_url.to_string()],
                client_urls,
                is_learner: false,
            }
        });
        let header = Some(self.context.header(0));
        Ok(Response::new(MemberListResponse { header, members: members.collect() }))
    }
}
