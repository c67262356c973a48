//! What is served over HTTP beside gRPC: health, metrics and version, as etcd does.

mod health;
mod metrics;

use axum::{
    Json, Router,
    body::Body,
    handler::Handler,
    http::{HeaderMap, HeaderValue, Request, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get},
};
use serde_json::json;
use tonic::Status;

use super::connections::Connections;
use crate::api::{API_VERSION, CLUSTER_VERSION, Context};

/// What the routes need.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) context: Context,
    pub(super) connections: Connections,
}

/// The routes beside those of gRPC; whatever else is asked for is unknown.
pub(super) fn routes(shared: Shared) -> Router {
    probes(shared).route("/version", only_get(version))
}

/// Those for whoever looks after this member.
pub(super) fn probes(shared: Shared) -> Router {
    health::routes().route("/metrics", get(metrics::metrics)).with_state(shared)
}

/// A route that takes GET and nothing else, HEAD included.
fn only_get<H, T, S>(handler: H) -> MethodRouter<S>
where
    H: Handler<T, S>,
    T: 'static,
    S: Clone + Send + Sync + 'static,
{
    get(handler).head(method_not_allowed).fallback(method_not_allowed)
}

async fn method_not_allowed() -> Response {
    let allowed = [(header::ALLOW, HeaderValue::from_static("GET"))];
    (StatusCode::METHOD_NOT_ALLOWED, allowed, "Method Not Allowed\n").into_response()
}

/// The answer to what there is no route for: in gRPC's terms if the client speaks it.
pub(super) async fn unknown(request: Request<Body>) -> Response {
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

async fn version() -> Response {
    Json(json!({ "etcdserver": API_VERSION, "etcdcluster": CLUSTER_VERSION })).into_response()
}
