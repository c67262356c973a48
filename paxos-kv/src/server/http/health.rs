//! Health: as a whole for people and old probes, in checks of which each can be left out for new ones.

use std::borrow::Cow;

use axum::{
    Json, Router,
    extract::{Path, RawQuery, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::{Shared, only_get, unknown};
use crate::api::Context;

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/health", only_get(health))
        .route("/livez", only_get(livez))
        .route("/livez/{check}", only_get(livez_check))
        .route("/readyz", only_get(readyz))
        .route("/readyz/{check}", only_get(readyz_check))
}

/// The parameters of a request, each as often as it was given.
struct Parameters<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Parameters<'a> {
    fn of(query: &'a Option<String>) -> Parameters<'a> {
        let query = query.as_deref().unwrap_or_default();
        Parameters(form_urlencoded::parse(query.as_bytes()).collect())
    }

    /// The values of one, those that say nothing left out.
    fn all(&self, name: &str) -> Vec<&str> {
        let values = self.0.iter().filter(|(key, value)| key == name && !value.is_empty());
        values.map(|(_, value)| value.as_ref()).collect()
    }

    /// The first value of one.
    fn first(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_ref())
    }
}

/// Whether requests can be served, writes included: with a quorum, or with `?serializable=true` by this
/// member alone.
async fn health(State(shared): State<Shared>, RawQuery(query): RawQuery) -> Response {
    let parameters = Parameters::of(&query);
    let context = &shared.context;
    let lacks_room = context.lacks_room() && !parameters.all("exclude").contains(&"NOSPACE");
    let checked = match parameters.first("serializable") {
        _ if lacks_room => Err("ALARM NOSPACE".to_owned()),
        Some("true") => Check::SerializableRead.run(context).await,
        _ if !context.has_leader() => Err("RAFT NO LEADER".to_owned()),
        _ => Check::LinearizableRead.run(context).await,
    };
    match checked {
        Ok(()) => Json(json!({ "health": "true", "reason": "" })).into_response(),
        Err(reason) => {
            let body = Json(json!({ "health": "false", "reason": reason }));
            (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
        }
    }
}

/// Something that may be in order or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    /// What is damaged stops the member: as long as it answers nothing is.
    DataCorruption,
    /// Its own store can be read.
    SerializableRead,
    /// It can read with a quorum.
    LinearizableRead,
}

/// Whether the process works at all.
const LIVEZ: &[Check] = &[Check::SerializableRead];

/// Whether it should be given requests.
const READYZ: &[Check] = &[Check::DataCorruption, Check::SerializableRead, Check::LinearizableRead];

impl Check {
    fn name(self) -> &'static str {
        match self {
            Check::DataCorruption => "data_corruption",
            Check::SerializableRead => "serializable_read",
            Check::LinearizableRead => "linearizable_read",
        }
    }

    async fn run(self, context: &Context) -> Result<(), String> {
        let result = match self {
            Check::DataCorruption => Ok(()),
            Check::SerializableRead => context.check_store().await,
            Check::LinearizableRead => context.linearize().await,
        };
        result.map_err(|status| status.message().to_owned())
    }
}

async fn livez(State(shared): State<Shared>, RawQuery(query): RawQuery) -> Response {
    chosen(&shared.context, LIVEZ, &Parameters::of(&query)).await
}

async fn readyz(State(shared): State<Shared>, RawQuery(query): RawQuery) -> Response {
    chosen(&shared.context, READYZ, &Parameters::of(&query)).await
}

async fn livez_check(
    State(shared): State<Shared>,
    Path(check): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    named(&shared.context, LIVEZ, &check, &Parameters::of(&query)).await
}

async fn readyz_check(
    State(shared): State<Shared>,
    Path(check): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    named(&shared.context, READYZ, &check, &Parameters::of(&query)).await
}

/// All checks but those that `exclude` names, or only those that `allowlist` does.
async fn chosen(context: &Context, checks: &[Check], parameters: &Parameters<'_>) -> Response {
    let (allowed, excluded) = (parameters.all("allowlist"), parameters.all("exclude"));
    if !allowed.is_empty() && !excluded.is_empty() {
        let reason =
            "say which checks to make (allowlist) or which to leave out (exclude), not both\n";
        return (StatusCode::SERVICE_UNAVAILABLE, reason).into_response();
    }
    let is_chosen = |check: &Check| match allowed.is_empty() {
        true => !excluded.contains(&check.name()),
        false => allowed.contains(&check.name()),
    };
    let chosen: Vec<_> = checks.iter().copied().filter(is_chosen).collect();
    answer(context, &chosen, parameters).await
}

/// One check by itself.
async fn named(
    context: &Context,
    checks: &[Check],
    name: &str,
    parameters: &Parameters<'_>,
) -> Response {
    match checks.iter().find(|check| check.name() == name) {
        Some(check) => answer(context, &[*check], parameters).await,
        None => unknown(Default::default()).await,
    }
}

/// Makes the checks. What failed is always told, the others if `verbose` asks for them.
async fn answer(context: &Context, checks: &[Check], parameters: &Parameters<'_>) -> Response {
    let mut told = String::new();
    let mut status = StatusCode::OK;
    for check in checks {
        match check.run(context).await {
            Ok(()) => told.push_str(&format!("[+]{} ok\n", check.name())),
            Err(reason) => {
                told.push_str(&format!("[-]{} failed: {reason}\n", check.name()));
                status = StatusCode::SERVICE_UNAVAILABLE;
            }
        }
    }
    match (status, parameters.first("verbose")) {
        (StatusCode::OK, Some(_)) => told.push_str("ok\n"),
        (StatusCode::OK, None) => "ok\n".clone_into(&mut told),
        _ => {}
    }
    (status, told).into_response()
}
