//! The Maintenance service: how this member is doing, and what it holds as a file.

use paxos_core::types::NodeId;
use tonic::{Request, Response, Status, async_trait};

use super::{
    API_VERSION, Context,
    error::transfer_status,
    snapshot::{Backups, Pieces},
};
use crate::proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, AlarmType, DefragmentRequest, DefragmentResponse,
    MoveLeaderRequest, MoveLeaderResponse, SnapshotRequest, StatusRequest, StatusResponse,
    alarm_request::AlarmAction, maintenance_server::Maintenance,
};

/// See the module.
pub(super) struct MaintenanceService {
    context: Context,
    backups: Backups,
}

impl MaintenanceService {
    pub(super) fn new(context: Context) -> MaintenanceService {
        MaintenanceService { context, backups: Backups::new() }
    }

    /// What is wrong with this member and needs an operator.
    fn alarms(&self) -> Vec<AlarmMember> {
        let member_id = self.context.node().identity().node.0;
        let no_space = AlarmMember { member_id, alarm: AlarmType::Nospace.into() };
        self.context.lacks_room().then_some(no_space).into_iter().collect()
    }
}

#[async_trait]
impl Maintenance for MaintenanceService {
    type SnapshotStream = Pieces;

    async fn alarm(
        &self,
        request: Request<AlarmRequest>,
    ) -> Result<Response<AlarmResponse>, Status> {
        let AlarmRequest { action, alarm, .. } = request.into_inner();
        let answer = |alarms| {
            let header = Some(self.context.header(self.context.reader().revision()));
            Ok(Response::new(AlarmResponse { header, alarms }))
        };
        match AlarmAction::try_from(action) {
            Ok(AlarmAction::Get) => {
                let mut alarms = self.alarms();
                alarms.retain(|raised| alarm == AlarmType::None as i32 || alarm == raised.alarm);
                answer(alarms)
            }
            // An alarm lasts as long as its reason: it clears itself, and nobody else can. So none is listed as
            // cleared.
            Ok(AlarmAction::Deactivate) => answer(Vec::new()),
            Ok(AlarmAction::Activate) => {
                Err(Status::unimplemented("etcdserver: alarms cannot be raised by clients"))
            }
            Err(_) => Err(Status::invalid_argument("etcdserver: unknown alarm action")),
        }
    }

    async fn status(
        &self,
        _request: Request<StatusRequest>,
    ) -> Result<Response<StatusResponse>, Status> {
        let reader = self.context.reader();
        let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let status = self.context.node().status();
        let mut errors = match status.leader {
            Some(_) => Vec::new(),
            None => vec!["etcdserver: no leader".to_owned()],
        };
        errors.extend(self.alarms().iter().map(|alarm| {
            // In etcd's words, blank included.
            format!("memberID:{} alarm:{} ", alarm.member_id, alarm.alarm().as_str_name())
        }));
        Ok(Response::new(StatusResponse {
            header: Some(self.context.header(reader.revision())),
            version: API_VERSION.to_owned(),
            db_size: bytes(reader.size_bytes()),
            db_size_in_use: bytes(reader.size_in_use()),
            leader: status.leader.map_or(0, |leader| leader.0),
            raft_index: status.chosen.0,
            raft_term: status.ballot.round,
            raft_applied_index: status.applied.0,
            errors,
            is_learner: !status.membership.is_voter(self.context.node().identity().node),
            ..StatusResponse::default()
        }))
    }

    /// Answers that it is done, at once. What compaction makes superfluous leaves the tables in the
    /// background, and its room is used again, without holding anybody up: nothing is left to be done
    /// on request. An error would only stop the programs that defragment every member each night.
    async fn defragment(
        &self,
        _request: Request<DefragmentRequest>,
    ) -> Result<Response<DefragmentResponse>, Status> {
        let header = Some(self.context.header(self.context.reader().revision()));
        Ok(Response::new(DefragmentResponse { header }))
    }

    /// To be asked of the leader, as with etcd.
    async fn move_leader(
        &self,
        request: Request<MoveLeaderRequest>,
    ) -> Result<Response<MoveLeaderResponse>, Status> {
        let target = NodeId(request.into_inner().target_id);
        let moved = self.context.node().transfer_leadership(target).await;
        moved.map_err(|error| transfer_status(&error))?;
        Ok(Response::new(MoveLeaderResponse { header: None }))
    }

    async fn snapshot(
        &self,
        _request: Request<SnapshotRequest>,
    ) -> Result<Response<Pieces>, Status> {
        Ok(Response::new(self.backups.begin(&self.context)?))
    }
}
