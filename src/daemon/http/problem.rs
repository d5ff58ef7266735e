//! Errors as RFC 9457 problem details with stable codes, for whatever failed: a handler, a limit, or the router itself.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::Api;

/// What went wrong, in a word that stays the same in every version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    BadRequest,
    InvalidBody,
    UnknownField,
    InvalidTtl,
    TtlTooLong,
    InvalidUser,
    InvalidIceTransportPolicy,
    InvalidQuery,
    InvalidService,
    Unauthorized,
    NotFound,
    MethodNotAllowed,
    Timeout,
    PayloadTooLarge,
    UnsupportedMediaType,
    Internal,
    NoSecret,
    Stopping,
    InvalidLabel,
    InvalidTransports,
    InvalidFamily,
    NoSuchTransport,
    InvalidTime,
    ForbiddenScope,
    RateLimited,
    NotKept,
    RevocationsFull,
    Draining,
    Busy,
    NotReloadable,
    InvalidConfiguration,
}

impl Code {
    fn as_str(self) -> &'static str {
        match self {
            Code::BadRequest => "bad_request",
            Code::InvalidBody => "invalid_body",
            Code::UnknownField => "unknown_field",
            Code::InvalidTtl => "invalid_ttl",
            Code::TtlTooLong => "ttl_too_long",
            Code::InvalidUser => "invalid_user",
            Code::InvalidIceTransportPolicy => "invalid_ice_transport_policy",
            Code::InvalidQuery => "invalid_query",
            Code::InvalidService => "invalid_service",
            Code::Unauthorized => "unauthorized",
            Code::NotFound => "not_found",
            Code::MethodNotAllowed => "method_not_allowed",
            Code::Timeout => "timeout",
            Code::PayloadTooLarge => "payload_too_large",
            Code::UnsupportedMediaType => "unsupported_media_type",
            Code::Internal => "internal",
            Code::NoSecret => "no_secret",
            Code::Stopping => "stopping",
            Code::InvalidLabel => "invalid_label",
            Code::InvalidTransports => "invalid_transports",
            Code::InvalidFamily => "invalid_family",
            Code::NoSuchTransport => "no_such_transport",
            Code::InvalidTime => "invalid_time",
            Code::ForbiddenScope => "forbidden_scope",
            Code::RateLimited => "rate_limited",
            Code::NotKept => "not_kept",
            Code::RevocationsFull => "revocations_full",
            Code::Draining => "draining",
            Code::Busy => "busy",
            Code::NotReloadable => "not_reloadable",
            Code::InvalidConfiguration => "invalid_configuration",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Code::BadRequest
            | Code::InvalidBody
            | Code::UnknownField
            | Code::InvalidTtl
            | Code::TtlTooLong
            | Code::InvalidUser
            | Code::InvalidIceTransportPolicy
            | Code::InvalidQuery
            | Code::InvalidService
            | Code::InvalidLabel
            | Code::InvalidTransports
            | Code::InvalidFamily
            | Code::NoSuchTransport
            | Code::InvalidTime => StatusCode::BAD_REQUEST,
            Code::ForbiddenScope => StatusCode::FORBIDDEN,
            Code::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Code::Unauthorized => StatusCode::UNAUTHORIZED,
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Code::Timeout => StatusCode::REQUEST_TIMEOUT,
            Code::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Code::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Code::Internal | Code::NotKept => StatusCode::INTERNAL_SERVER_ERROR,
            Code::NotReloadable => StatusCode::CONFLICT,
            Code::InvalidConfiguration => StatusCode::UNPROCESSABLE_ENTITY,
            Code::RevocationsFull => StatusCode::INSUFFICIENT_STORAGE,
            Code::NoSecret | Code::Stopping | Code::Draining | Code::Busy => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// An error on its way out; never holds a key or a secret.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    code: Code,
    detail: String,
    retry_after: Option<Duration>,
    member: Option<(&'static str, Value)>,
}

impl Problem {
    pub(super) fn new(code: Code, detail: impl Into<String>) -> Problem {
        Problem { code, detail: detail.into(), retry_after: None, member: None }
    }

    /// When to try again.
    pub(super) fn retry_after(self, wait: Duration) -> Problem {
        Problem { retry_after: Some(wait), ..self }
    }

    /// One more member (RFC 9457 §3.2).
    pub(super) fn with(self, name: &'static str, value: Value) -> Problem {
        Problem { member: Some((name, value)), ..self }
    }

    /// For a response that a limit or the router made.
    pub(super) fn from_status(status: StatusCode) -> Problem {
        let (code, detail) = match status {
            StatusCode::NOT_FOUND => (Code::NotFound, "there is nothing at this path"),
            StatusCode::METHOD_NOT_ALLOWED => {
                (Code::MethodNotAllowed, "this path has other methods, see the Allow header")
            }
            StatusCode::REQUEST_TIMEOUT => (Code::Timeout, "the request was not complete in time"),
            StatusCode::PAYLOAD_TOO_LARGE => (Code::PayloadTooLarge, "the body is longer than 8 KiB"),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => (Code::UnsupportedMediaType, "the body has the wrong Content-Type"),
            status if status.is_client_error() => (Code::BadRequest, "the request cannot be read"),
            _ => (Code::Internal, "the server failed to answer"),
        };
        Problem::new(code, detail)
    }
}

impl IntoResponse for Problem {
    /// Status and headers now; [`complete`] writes the body, because it knows the path.
    fn into_response(self) -> Response {
        let mut response = self.code.status().into_response();
        if self.code == Code::Unauthorized {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"turnwell\""));
        }
        if let Some(wait) = self.retry_after {
            // whole seconds, rounded up (RFC 9110 §10.2.3)
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// Turns every error response into a problem, whoever made it, and forbids caching of every response.
pub(super) async fn complete(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    // the path alone: a query may hold a key
    let path = request.uri().path().to_owned();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let mut response = next.run(request).await;
    let status = response.status();
    api.counts.answered(route.as_ref().map_or("none", MatchedPath::as_str), status.as_u16());
    if status.is_client_error() || status.is_server_error() {
        let problem = response.extensions_mut().remove::<Problem>().unwrap_or_else(|| Problem::from_status(status));
        tracing::debug!(%path, status = status.as_u16(), code = problem.code.as_str(), "API request refused");
        let mut body = json!({
            "type": "about:blank",
            "title": status.canonical_reason().unwrap_or("Error"),
            "status": status.as_u16(),
            "detail": problem.detail,
            "instance": path,
            "code": problem.code.as_str(),
        });
        if let Some((name, value)) = problem.member {
            body[name] = value;
        }
        *response.body_mut() = body.to_string().into();
        response.headers_mut().remove(CONTENT_LENGTH);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    }
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
