//! The admin routes.

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State as Extract};
use axum::http::{StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::state::Shared;
use super::{guard, lifecycle, metrics, ready};
use crate::telemetry::render::CONTENT_TYPE;

/// Every route, behind its guard.
pub fn router(shared: Shared) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(exposition))
        .route("/debug/lifecycle", get(debug_lifecycle))
        .route("/debug/route", get(debug_route))
        .fallback(|| async { refusal(StatusCode::NOT_FOUND, "there is no such page") })
        .method_not_allowed_fallback(|| async {
            refusal(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are understood here")
        })
        .layer(from_fn_with_state(shared.clone(), guard::check))
        .with_state(shared)
}

/// An error in the admin listener's own shape.
pub fn refusal(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({ "error": message }))).into_response()
}

fn answer(status: u16, body: &impl Serialize) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, Json(body)).into_response()
}

/// Alive: the control thread answers and every shard still ticks.
async fn healthz(Extract(shared): Extract<Shared>) -> Response {
    let stuck = shared.with(|state| state.stuck.clone());
    match stuck.is_empty() {
        true => answer(200, &json!({ "status": "ok" })),
        false => answer(503, &json!({ "status": "stuck", "shards": stuck })),
    }
}

#[derive(Deserialize)]
struct Readyz {
    model: Option<String>,
}

async fn readyz(
    Extract(shared): Extract<Shared>,
    query: Result<Query<Readyz>, QueryRejection>,
) -> Response {
    let Ok(Query(query)) = query else {
        return refusal(StatusCode::BAD_REQUEST, "the query takes one model=NAME");
    };
    let facts = shared.with(|state| ready::Facts::of(state));
    let (status, body) = ready::judge(&facts, query.model.as_deref());
    answer(status, &body)
}

async fn exposition(Extract(shared): Extract<Shared>) -> Response {
    let text = shared.with(|state| metrics::exposition(state));
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response()
}

async fn debug_lifecycle(Extract(shared): Extract<Shared>) -> Response {
    answer(200, &shared.with(|state| lifecycle::report(state)))
}

#[derive(Deserialize)]
struct Routed {
    request_id: String,
}

/// Why a past request went where it went.
async fn debug_route(
    Extract(shared): Extract<Shared>,
    query: Result<Query<Routed>, QueryRejection>,
) -> Response {
    let Ok(Query(Routed { request_id })) = query else {
        return refusal(StatusCode::BAD_REQUEST, "the query takes request_id=ID");
    };
    let found = shared
        .with(|state| state.explained.find(&request_id).map(|explained| answer(200, explained)));
    found.unwrap_or_else(|| {
        refusal(StatusCode::NOT_FOUND, "no decision about a request with this id is remembered")
    })
}
