//! Errors as RFC 9457 problem details with stable codes, for whatever failed: a handler, a limit, or the router itself.

use axum::extract::Request;
use axum::http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::json;

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
            | Code::InvalidService => StatusCode::BAD_REQUEST,
            Code::Unauthorized => StatusCode::UNAUTHORIZED,
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Code::Timeout => StatusCode::REQUEST_TIMEOUT,
            Code::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Code::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Code::NoSecret | Code::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// An error on its way out; never holds a key or a secret.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    code: Code,
    detail: String,
}

impl Problem {
    pub(super) fn new(code: Code, detail: impl Into<String>) -> Problem {
        Problem { code, detail: detail.into() }
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
        response.extensions_mut().insert(self);
        response
    }
}

/// Turns every error response into a problem, whoever made it, and forbids caching of every response.
pub(super) async fn complete(request: Request, next: Next) -> Response {
    // the path alone: a query may hold a key
    let path = request.uri().path().to_owned();
    let mut response = next.run(request).await;
    let status = response.status();
    if status.is_client_error() || status.is_server_error() {
        let problem = response.extensions_mut().remove::<Problem>().unwrap_or_else(|| Problem::from_status(status));
        tracing::debug!(%path, status = status.as_u16(), code = problem.code.as_str(), "API request refused");
        let body = json!({
            "type": "about:blank",
            "title": status.canonical_reason().unwrap_or("Error"),
            "status": status.as_u16(),
            "detail": problem.detail,
            "instance": path,
            "code": problem.code.as_str(),
        });
        *response.body_mut() = body.to_string().into();
        response.headers_mut().remove(CONTENT_LENGTH);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    }
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
