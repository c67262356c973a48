//! `endpoint status` and `endpoint health`: all endpoints side by side, those that do not answer among them.

use std::time::{Duration, Instant};

use futures::future::join_all;
use tonic::{Code, Status};

use super::{
    arguments::{ClientOptions, Output},
    client::{Client, CommandError, describe},
    console::print,
    output,
};
use crate::proto::etcdserverpb::{
    AlarmRequest, AlarmResponse, MemberListRequest, RangeRequest, StatusRequest, StatusResponse,
};

/// Shows what each endpoint says of itself.
pub(super) async fn status(options: &ClientOptions, cluster: bool) -> Result<(), CommandError> {
    let answers = ask(options, cluster, status_of).await?;
    match options.output {
        Output::Json => print(&output::statuses_json(&answers).to_string())?,
        Output::Table => print(&output::statuses_table(&answers))?,
    }
    all_well(&answers)
}

/// Shows whether each endpoint is well, and how long it took to say so.
pub(super) async fn health(options: &ClientOptions, cluster: bool) -> Result<(), CommandError> {
    let answers = ask(options, cluster, health_of).await?;
    match options.output {
        Output::Json => print(&output::healths_json(&answers).to_string())?,
        Output::Table => print(&output::healths_table(&answers))?,
    }
    all_well(&answers)
}

/// The answer of an endpoint, or why there is none.
pub(super) type Answer<T> = (String, Result<T, String>);

/// Asks all endpoints, or all members, at once.
pub(super) async fn ask<T>(
    options: &ClientOptions,
    cluster: bool,
    question: impl AsyncFn(Client) -> Result<T, CommandError>,
) -> Result<Vec<Answer<T>>, CommandError> {
    let endpoints = match cluster {
        true => endpoints_of_cluster(options).await?,
        false => options.endpoints.clone(),
    };
    let answers = endpoints.into_iter().map(async |endpoint| {
        let answer = async {
            question(Client::connect_to(&endpoint, options.timeout_of_each()).await?).await
        };
        let answer = answer.await.map_err(|error| match error {
            CommandError::Status { status, .. } => describe(&status),
            CommandError::Unreachable(reason) => reason,
            error => error.to_string(),
        });
        (endpoint, answer)
    });
    Ok(join_all(answers).await)
}

fn all_well<T>(answers: &[Answer<T>]) -> Result<(), CommandError> {
    match answers.iter().filter(|(_, answer)| answer.is_err()).count() {
        0 => Ok(()),
        failed => Err(CommandError::Partial { failed, all: answers.len() }),
    }
}

pub(super) async fn status_of(client: Client) -> Result<StatusResponse, CommandError> {
    let result = client.maintenance().status(client.request(StatusRequest {})).await;
    Ok(result.map_err(|status| client.failure(status))?.into_inner())
}

/// Well is who has a quorum behind it and no alarm.
async fn health_of(client: Client) -> Result<Duration, CommandError> {
    let began = Instant::now();
    let read = RangeRequest { key: "health".into(), ..RangeRequest::default() };
    match client.kv().range(client.request(read)).await {
        Ok(_) => {}
        // Whoever may not read it has been told so by a cluster that works.
        Err(status) if status.code() == Code::PermissionDenied => {}
        Err(status) => return Err(client.failure(status)),
    }
    let took = began.elapsed();
    let result = client.maintenance().alarm(client.request(AlarmRequest::default())).await;
    let alarms = result.map_err(|status| client.failure(status))?.into_inner();
    match alarms_text(&alarms) {
        None => Ok(took),
        Some(text) => Err(client.failure(Status::unavailable(text))),
    }
}

fn alarms_text(AlarmResponse { alarms, .. }: &AlarmResponse) -> Option<String> {
    let names: Vec<_> = alarms.iter().map(|alarm| alarm.alarm().as_str_name()).collect();
    (!names.is_empty()).then(|| format!("active alarms: {}", names.join(", ")))
}

async fn endpoints_of_cluster(options: &ClientOptions) -> Result<Vec<String>, CommandError> {
    let client = Client::connect(options).await?;
    let request = client.request(MemberListRequest { linearizable: false });
    let result = client.cluster().member_list(request).await;
    let response = result.map_err(|status| client.failure(status))?.into_inner();
    Ok(response.members.into_iter().flat_map(|member| member.client_urls).collect())
}
