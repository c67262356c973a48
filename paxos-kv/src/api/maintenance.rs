//! The Maintenance service: how this member is doing, and what it holds as a file.

use tonic::{Request, Response, Status, async_trait};

use super::{
    API_VERSION, Context,
    snapshot::{Backups, Pieces},
};
use crate::proto::etcdserverpb::{
    AlarmRequest, AlarmResponse, DefragmentRequest, DefragmentResponse, SnapshotRequest,
    StatusRequest, StatusResponse, alarm_request::AlarmAction, maintenance_server::Maintenance,
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
}

#[async_trait]
impl Maintenance for MaintenanceService {
    type SnapshotStream = Pieces;

    async fn alarm(
        &self,
        request: Request<AlarmRequest>,
    ) -> Result<Response<AlarmResponse>, Status> {
        match AlarmAction::try_from(request.into_inner().action) {
            // No alarm is ever raised, so there is none to list or to clear.
            Ok(AlarmAction::Get | AlarmAction::Deactivate) => {
                let header = Some(self.context.header(self.context.reader().revision()));
                Ok(Response::new(AlarmResponse { header, alarms: Vec::new() }))
            }
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
        let errors = match status.leader {
            Some(_) => Vec::new(),
            None => vec!["etcdserver: no leader".to_owned()],
        };
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

    async fn snapshot(
        &self,
        _request: Request<SnapshotRequest>,
    ) -> Result<Response<Pieces>, Status> {
        Ok(Response::new(self.backups.begin(&self.context)?))
    }
}
