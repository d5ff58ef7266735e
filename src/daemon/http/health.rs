//! `/livez`: the process answers. `/readyz`: it takes new clients.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::Api;
use super::problem::{Code, Problem};

pub(super) async fn live() -> Json<Value> {
    Json(json!({ "status": "live" }))
}

/// The API is bound after the workers, so whoever can ask meets a server that is ready, until it stops.
pub(super) async fn ready(State(api): State<Arc<Api>>) -> Result<Json<Value>, Problem> {
    if api.is_stopping() {
        return Err(Problem::new(Code::Stopping, "the server is stopping"));
    }
    Ok(Json(json!({ "status": "ready" })))
}
