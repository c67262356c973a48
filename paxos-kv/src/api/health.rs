//! The health service of gRPC: a member serves as long as it knows a leader.

use tonic_health::{
    ServingStatus,
    pb::health_server::{Health, HealthServer},
    server::{HealthReporter, health_reporter},
};

use super::Context;

/// The service, and a task that keeps it up to date until the node stops.
pub(super) async fn service(context: &Context) -> HealthServer<impl Health> {
    let (reporter, service) = health_reporter();
    let mut leadership = context.node().leadership();
    report(&reporter, leadership.borrow_and_update().leader.is_some()).await;
    tokio::spawn(async move {
        while leadership.changed().await.is_ok() {
            let has_leader = leadership.borrow_and_update().leader.is_some();
            report(&reporter, has_leader).await;
        }
        report(&reporter, false).await;
    });
    service
}

/// The empty name stands for the server as a whole.
async fn report(reporter: &HealthReporter, has_leader: bool) {
    let status = match has_leader {
        true => ServingStatus::Serving,
        false => ServingStatus::NotServing,
    };
    reporter.set_service_status("", status).await;
}
