//! `POST /v1/credentials`: mints a credential for the app's signaling server.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequest, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};

use super::problem::{Code, Problem};
use super::{Api, auth};
use crate::daemon::ice::{Order, Policy};

/// Key first, then media type, then body: who has no key learns nothing.
pub(super) async fn mint(State(api): State<Arc<Api>>, request: Request) -> Result<Response, Problem> {
    let minting = api.minting();
    auth::bearer(&minting.rules.keys, request.headers())?;
    let is_json = is_json(request.headers());
    let body = body(request).await?;
    let wish = match (body.is_empty(), is_json) {
        (true, _) => Wish::default(),
        (false, true) => Wish::parse(&body)?,
        (false, false) => {
            return Err(Problem::new(
                Code::UnsupportedMediaType,
                "send the body with `Content-Type: application/json`",
            ));
        }
    };
    let order = Order { user: wish.user.as_deref(), ttl: minting.ttl(wish.ttl)?, policy: wish.policy };
    Ok((StatusCode::CREATED, Json(minting.mint(&order)?)).into_response())
}

/// Reads the body of a request, up to the limit.
pub(super) async fn body(request: Request) -> Result<Bytes, Problem> {
    Bytes::from_request(request, &()).await.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::from_status(StatusCode::PAYLOAD_TOO_LARGE),
        _ => Problem::new(Code::InvalidBody, "the body could not be read"),
    })
}

fn is_json(headers: &HeaderMap) -> bool {
    let name = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let name = name.split(';').next().unwrap_or_default().trim();
    name.eq_ignore_ascii_case("application/json")
}

/// What the body asks for; a field that is null is as good as absent.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wish {
    user: Option<String>,
    ttl: Option<u64>,
    policy: Policy,
}

impl Wish {
    fn parse(body: &[u8]) -> Result<Wish, Problem> {
        let fields: Map<String, Value> = serde_json::from_slice(body)
            .map_err(|error| Problem::new(Code::InvalidBody, format!("the body is not a JSON object: {error}")))?;
        let mut wish = Wish::default();
        for (name, value) in fields {
            match (name.as_str(), value) {
                ("user" | "ttl" | "iceTransportPolicy", Value::Null) => {}
                ("user", Value::String(user)) => wish.user = Some(user),
                ("user", _) => return Err(Problem::new(Code::InvalidUser, "user is a string")),
                ("ttl", value) => {
                    let wrong = || Problem::new(Code::InvalidTtl, "ttl is a whole number of seconds, at least 1");
                    wish.ttl = Some(value.as_u64().ok_or_else(wrong)?);
                }
                ("iceTransportPolicy", value) => {
                    wish.policy = match value.as_str() {
                        Some("all") => Policy::All,
                        Some("relay") => Policy::Relay,
                        _ => {
                            let detail = "iceTransportPolicy is \"all\" or \"relay\"";
                            return Err(Problem::new(Code::InvalidIceTransportPolicy, detail));
                        }
                    }
                }
                (name, _) => {
                    let name: String = name.chars().take(64).collect();
                    let detail = format!("there is no field {name:?}; the fields are user, ttl and iceTransportPolicy");
                    return Err(Problem::new(Code::UnknownField, detail));
                }
            }
        }
        Ok(wish)
    }
}
