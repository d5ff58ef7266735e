//! `/livez`: the process answers. `/readyz`: it takes new clients, or the checks that failed.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::Api;
use super::openapi::ProblemBody;
use super::problem::{Code, Problem};

/// The process answers.
#[utoipa::path(get, path = "/livez", tag = "server", responses((status = 200, description = "It does")))]
pub(super) async fn live() -> Json<Value> {
    Json(json!({ "status": "live" }))
}

/// The API is bound after the workers, so whoever can ask meets a server that is ready, until it drains or stops.
#[utoipa::path(get, path = "/readyz", tag = "server", responses((status = 200, description = "It takes new clients"), (status = 503, description = "It does not", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn ready(State(api): State<Arc<Api>>) -> Result<Json<Value>, Problem> {
    let failed: Vec<&str> = [("stopping", api.is_stopping()), ("draining", api.is_draining())]
        .into_iter()
        .filter_map(|(name, failed)| failed.then_some(name))
        .collect();
    match failed.first() {
        None => Ok(Json(json!({ "status": "ready" }))),
        Some(&"stopping") => Err(Problem::new(Code::Stopping, "the server is stopping").with("failed", json!(failed))),
        Some(_) => {
            Err(Problem::new(Code::Draining, "the server takes no new allocations").with("failed", json!(failed)))
        }
    }
}
