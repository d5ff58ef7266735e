//! Who may call: whoever presents one of the API keys.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;

use super::problem::{Code, Problem};
use crate::daemon::config::ApiKeys;

/// Accepts `Authorization: Bearer KEY`.
pub(super) fn bearer(keys: &ApiKeys, headers: &HeaderMap) -> Result<(), Problem> {
    match presented(headers) {
        Some(key) if keys.accepts(key) => Ok(()),
        Some(_) => Err(refusal(keys, "the API key is not known here")),
        None => Err(refusal(keys, "send an API key in the header `Authorization: Bearer KEY`")),
    }
}

/// The key in the Authorization header (RFC 6750 §2.1; the scheme's case does not matter).
pub(super) fn presented(headers: &HeaderMap) -> Option<&str> {
    let (scheme, key) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("Bearer").then(|| key.trim())
}

pub(super) fn refusal(keys: &ApiKeys, detail: &str) -> Problem {
    let detail = if keys.is_empty() { "the server has no API key: set api.keys or api.key-files" } else { detail };
    Problem::new(Code::Unauthorized, detail)
}
