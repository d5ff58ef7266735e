//! Routes of hosted services and home servers, in their shapes:
//!
//! * Cloudflare Realtime TURN: mint and revoke under `/v1/turn/keys/{key_id}/credentials/`
//! * Matrix client-server API: `turnServer`, for a home server or proxy that knows its users already

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::Api;
use super::openapi::{CloudflareOptions, MatrixOptions, Query, Refused, TurnServer};
use super::problem::{Code, Problem};
use super::wish::{Wish, body, invalid_ttl, json_object, unknown_field};
use crate::credentials::Subject;
use crate::daemon::config::{Client, Scope};

/// Cloudflare: a credential.
#[utoipa::path(post, path = "/v1/turn/keys/{key_id}/credentials/generate-ice-servers", tag = "cloudflare", params(("key_id" = String, Path, description = "The id of the key")), request_body = Option<CloudflareOptions>, responses((status = 201, description = "A credential"), Refused), security(("key" = [])))]
pub(super) async fn generate_ice_servers(
    State(api): State<Arc<Api>>,
    Path(key_id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let answer = generate(&api, &key_id, request).await?;
    Ok((StatusCode::CREATED, Json(json!({ "iceServers": answer }))).into_response())
}

/// Cloudflare's older form: one server instead of a list.
#[utoipa::path(post, path = "/v1/turn/keys/{key_id}/credentials/generate", tag = "cloudflare", params(("key_id" = String, Path, description = "The id of the key")), request_body = Option<CloudflareOptions>, responses((status = 201, description = "A credential"), Refused), security(("key" = [])))]
pub(super) async fn generate_one(
    State(api): State<Arc<Api>>,
    Path(key_id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let servers = generate(&api, &key_id, request).await?;
    let turn = servers.as_array().and_then(|servers| servers.last()).cloned().unwrap_or_default();
    Ok((StatusCode::CREATED, Json(json!({ "iceServers": turn }))).into_response())
}

async fn generate(api: &Api, key_id: &str, request: Request) -> Result<Value, Problem> {
    let client = api.bearer(&request, Scope::Mint)?;
    check_key_id(&client, key_id)?;
    let headers = request.headers().clone();
    let mut wish = Wish::default();
    for (name, value) in json_object(&headers, &body(request).await?)? {
        match (name.as_str(), value) {
            ("ttl" | "customIdentifier", Value::Null) => {}
            ("ttl", value) => wish.ttl = Some(value.as_u64().ok_or_else(invalid_ttl)?),
            ("customIdentifier", Value::String(identifier)) => wish.user = Some(identifier),
            ("customIdentifier", _) => {
                return Err(Problem::new(Code::InvalidUser, "customIdentifier is a string"));
            }
            (name, _) => return Err(unknown_field(name)),
        }
    }
    let answer = api.issue(&client, &wish, "cloudflare")?;
    serde_json::to_value(&answer.ice_servers).map_err(|_| Problem::new(Code::Internal, "the answer has no JSON form"))
}

/// Cloudflare: takes a credential back.
#[utoipa::path(post, path = "/v1/turn/keys/{key_id}/credentials/{username}/revoke", tag = "cloudflare", params(("key_id" = String, Path, description = "The id of the key"), ("username" = String, Path, description = "The user name of the credential")), responses((status = 204, description = "Revoked"), Refused), security(("key" = [])))]
pub(super) async fn revoke(
    State(api): State<Arc<Api>>,
    Path((key_id, username)): Path<(String, String)>,
    request: Request,
) -> Result<StatusCode, Problem> {
    let client = api.bearer(&request, Scope::Revoke)?;
    check_key_id(&client, &key_id)?;
    api.revoke(Subject::Username(username.into()), None).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A key that has an id is used under that id.
fn check_key_id(client: &Client, key_id: &str) -> Result<(), Problem> {
    if client.is_named && *client.id != *key_id {
        return Err(Problem::new(Code::NotFound, "the key that was presented has another id"));
    }
    Ok(())
}

/// Matrix: the answer of the client-server API.
#[utoipa::path(get, path = "/_matrix/client/v3/voip/turnServer", tag = "matrix", params(Query), responses((status = 200, description = "A credential", body = TurnServer), Refused), security(("key" = [])))]
pub(super) async fn matrix_get(state: State<Arc<Api>>, request: Request) -> Result<Json<Value>, Problem> {
    matrix(state, request).await
}

/// Matrix: the same for a home server.
#[utoipa::path(post, path = "/v1/matrix/turn", tag = "matrix", params(Query), request_body = Option<MatrixOptions>, responses((status = 200, description = "A credential", body = TurnServer), Refused), security(("key" = [])))]
pub(super) async fn matrix_post(state: State<Arc<Api>>, request: Request) -> Result<Json<Value>, Problem> {
    matrix(state, request).await
}

async fn matrix(State(api): State<Arc<Api>>, request: Request) -> Result<Json<Value>, Problem> {
    let client = api.bearer(&request, Scope::Mint)?;
    let headers = request.headers().clone();
    let mut wish = Wish::from_query(request.uri())?;
    for (name, value) in json_object(&headers, &body(request).await?)? {
        match (name.as_str(), value) {
            ("ttl" | "user", Value::Null) => {}
            ("ttl", value) => wish.ttl = Some(value.as_u64().ok_or_else(invalid_ttl)?),
            ("user", Value::String(user)) => wish.user = Some(user),
            ("user", _) => return Err(Problem::new(Code::InvalidUser, "user is a string")),
            (name, _) => return Err(unknown_field(name)),
        }
    }
    let answer = api.issue(&client, &wish, "matrix")?;
    Ok(Json(answer.for_matrix()))
}
