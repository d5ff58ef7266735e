//! The page at `/`: live figures, sessions, and a test from the browser that looks at it. One file, nothing from
//! elsewhere.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{CONTENT_SECURITY_POLICY, HOST, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, uri::Authority};
use axum::response::{Html, IntoResponse, Response};

use super::{Api, auth};

const PAGE: &str = include_str!("page.html");
/// Where `turnwell dev` puts its key.
const PLACE: &str = "/*KEY*/";
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) async fn page(State(api): State<Arc<Api>>, request: Request) -> Response {
    let key = api.facts.page_key.as_deref().filter(|_| {
        // whoever resolves a name of theirs to this machine must not read the page
        auth::source(request.extensions()).is_local() && is_loopback(request.headers())
    });
    let page = match key.and_then(|key| serde_json::to_string(key).ok()) {
        // no text of a key ends the script
        Some(key) => PAGE.replacen(PLACE, &format!("const DEV_KEY = {};", key.replace('<', "\\u003c")), 1),
        None => PAGE.to_owned(),
    };
    let headers = [(CONTENT_SECURITY_POLICY, POLICY), (X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (headers, Html(page)).into_response()
}

fn is_loopback(headers: &HeaderMap) -> bool {
    let authority = headers.get(HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok());
    authority.is_some_and(|authority| matches!(authority.host(), "127.0.0.1" | "[::1]" | "localhost"))
}
