//! What is served over HTTP beside gRPC, on the same port: health and version, as etcd does.

use axum::{
    Json, Router,
    extract::{Query, State},
    http::{HeaderMap, Request, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Deserialize;
use serde_json::json;
use tonic::Status;

use crate::api::{API_VERSION, CLUSTER_VERSION, Context};

/// The routes beside those of gRPC; whatever else is asked for is unknown.
pub(super) fn routes(context: Context) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/version", get(version))
        .with_state(context)
}

/// The answer to what there is no route for: in gRPC's terms if the client speaks it.
pub(super) async fn unknown(request: Request<axum::body::Body>) -> Response {
    match is_grpc(request.headers()) {
        true => Status::unimplemented("unknown service or method").into_http(),
        false => (StatusCode::NOT_FOUND, "404 page not found\n").into_response(),
    }
}

/// Whether whoever asks speaks gRPC.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE);
    content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

#[derive(Deserialize)]
struct HealthQuery {
    #[serde(default)]
    serializable: String,
}

/// Whether requests can be served, writes included: with a quorum, or with `?serializable=true` by this
/// member alone.
async fn health(State(context): State<Context>, Query(query): Query<HealthQuery>) -> Response {
    let checked = match query.serializable.as_str() {
        _ if context.lacks_room() => Err("ALARM NOSPACE".to_owned()),
        "true" => serializable_read(&context).await,
        _ if !context.has_leader() => Err("RAFT NO LEADER".to_owned()),
        _ => linearizable_read(&context).await,
    };
    match checked {
        Ok(()) => Json(json!({ "health": "true", "reason": "" })).into_response(),
        Err(reason) => {
            let body = Json(json!({ "health": "false", "reason": reason }));
            (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
        }
    }
}

/// Whether the process works at all.
async fn livez(State(context): State<Context>, Query(query): Query<CheckQuery>) -> Response {
    let checks = vec![("serializable_read", serializable_read(&context).await)];
    checks_response(checks, query.verbose.is_some())
}

/// Whether it should be given requests.
async fn readyz(State(context): State<Context>, Query(query): Query<CheckQuery>) -> Response {
    let checks = vec![
        ("serializable_read", serializable_read(&context).await),
        ("linearizable_read", linearizable_read(&context).await),
    ];
    checks_response(checks, query.verbose.is_some())
}

#[derive(Deserialize)]
struct CheckQuery {
    verbose: Option<String>,
}

fn checks_response(checks: Vec<(&str, Result<(), String>)>, verbose: bool) -> Response {
    let failed = checks.iter().any(|(_, result)| result.is_err());
    let mut text = String::new();
    if failed || verbose {
        for (name, result) in checks {
            match result {
                Ok(()) => text.push_str(&format!("[+]{name} ok\n")),
                Err(reason) => text.push_str(&format!("[-]{name} failed: {reason}\n")),
            }
        }
    }
    let status = match failed {
        true => StatusCode::SERVICE_UNAVAILABLE,
        false => {
            text.push_str("ok\n");
            StatusCode::OK
        }
    };
    (status, text).into_response()
}

async fn serializable_read(context: &Context) -> Result<(), String> {
    context.check_store().await.map_err(|status| status.message().to_owned())
}

async fn linearizable_read(context: &Context) -> Result<(), String> {
    context.linearize().await.map_err(|status| status.message().to_owned())
}

async fn version() -> Response {
    Json(json!({ "etcdserver": API_VERSION, "etcdcluster": CLUSTER_VERSION })).into_response()
}
