//! The Maintenance service: how this member is doing.

use tonic::{Request, Response, Status, async_trait};

use super::{API_VERSION, Context};
use crate::proto::etcdserverpb::{
    AlarmRequest, AlarmResponse, StatusRequest, StatusResponse, alarm_request::AlarmAction,
    maintenance_server::Maintenance,
};

/// See the module.
pub(super) struct MaintenanceService {
    context: Context,
}

impl MaintenanceService {
    pub(super) fn new(context: Context) -> MaintenanceService {
        MaintenanceService { context }
    }
}

#[async_trait]
impl Maintenance for MaintenanceService {
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
}
