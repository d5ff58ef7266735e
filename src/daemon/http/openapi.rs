//! The OpenAPI 3.1 document: generated from the handlers' annotations and the types they answer with, served at
//! `/openapi.json`, and committed as `docs/openapi.json`, which a test compares.

use axum::Json;
use utoipa::openapi::OpenApi as Document;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{IntoParams, IntoResponses, Modify, OpenApi, ToSchema};

use super::{credentials, health, hosted, metrics, reloading, revocations, sessions, turn};

/// The document of this version.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Turnwell",
        description = "Credentials, revocation, sessions and metrics of a Turnwell STUN/TURN server.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
    ),
    paths(
        credentials::mint,
        credentials::ice_servers,
        turn::mint_get,
        turn::mint_post,
        turn::ice_get,
        turn::ice_post,
        hosted::generate_ice_servers,
        hosted::generate_one,
        hosted::revoke,
        hosted::matrix_get,
        hosted::matrix_post,
        revocations::list,
        revocations::add,
        revocations::remove,
        sessions::list,
        sessions::kick,
        sessions::usage,
        sessions::drain,
        reloading::reload,
        metrics::metrics,
        health::live,
        health::ready,
        openapi,
    ),
    modifiers(&Bearer)
)]
struct Api;

/// API keys are Bearer tokens.
struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut Document) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("An API key")).build();
        document.components.get_or_insert_default().add_security_scheme("key", SecurityScheme::Http(scheme));
    }
}

/// The document as it is served.
#[utoipa::path(get, path = "/openapi.json", tag = "server", responses((status = 200, description = "This document")))]
pub(super) async fn openapi() -> Json<Document> {
    Json(document())
}

fn document() -> Document {
    Api::openapi()
}

/// What goes wrong on every route that needs a key.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "only its description is used")]
pub(super) enum Refused {
    /// The request cannot be served as it is.
    #[response(status = 400, content_type = "application/problem+json")]
    Invalid(ProblemBody),
    /// No key, or an unknown one.
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthorized(ProblemBody),
    /// The key lacks the scope.
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(ProblemBody),
    /// There is no such thing.
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(ProblemBody),
    /// The request was not complete in time.
    #[response(status = 408, content_type = "application/problem+json")]
    Timeout(ProblemBody),
    /// The body is longer than 8 KiB.
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(ProblemBody),
    /// The body is of another type.
    #[response(status = 415, content_type = "application/problem+json")]
    MediaType(ProblemBody),
    /// Too many requests; `Retry-After` says when to come back.
    #[response(status = 429, content_type = "application/problem+json")]
    RateLimited(ProblemBody),
    /// The server failed.
    #[response(status = 500, content_type = "application/problem+json")]
    Internal(ProblemBody),
    /// Draining, stopping, without a secret, or busy.
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(ProblemBody),
    /// No room for another revocation.
    #[response(status = 507, content_type = "application/problem+json")]
    Full(ProblemBody),
}

/// An error (RFC 9457).
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub(super) struct ProblemBody {
    r#type: String,
    title: String,
    status: u16,
    /// For people.
    detail: String,
    /// The path.
    instance: String,
    /// A word that stays the same in every version.
    code: String,
    /// Of `/readyz`: the checks that failed.
    failed: Option<Vec<String>>,
}

/// What a caller may ask of a credential; everything is optional.
#[derive(ToSchema, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[allow(dead_code, reason = "only its schema is used; `wish.rs` reads what is sent")]
pub(super) struct Options {
    /// Who: 1 to 480 bytes.
    user: Option<String>,
    /// Seconds.
    #[schema(minimum = 1)]
    ttl: Option<u64>,
    /// For the log; stands for `user` when there is none.
    label: Option<String>,
    /// Only URLs of these.
    transports: Option<Vec<TransportName>>,
    /// Leaves out URLs with addresses of the other.
    family: Option<FamilyName>,
    /// Handed on to the browser.
    ice_transport_policy: Option<PolicyName>,
    /// Repeats the servers in `Link` headers.
    link: Option<bool>,
}

/// The same in a query.
#[derive(IntoParams, serde::Deserialize)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code, reason = "only its description is used")]
pub(super) struct Query {
    /// Who: 1 to 480 bytes.
    user: Option<String>,
    /// Seconds.
    #[param(minimum = 1)]
    ttl: Option<u64>,
    /// For the log; stands for `user` when there is none.
    label: Option<String>,
    /// Only URLs of these: `udp`, `tcp`, `tls`, with commas between them.
    transports: Option<String>,
    /// Leaves out URLs with addresses of the other.
    family: Option<FamilyName>,
    /// Handed on to the browser.
    ice_transport_policy: Option<PolicyName>,
    /// Repeats the servers in `Link` headers.
    link: Option<bool>,
}

/// The parameters of draft-uberti-behave-turn-rest-00 and of those who extended it.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "only its description is used")]
pub(super) struct Uberti {
    /// `turn`.
    service: String,
    /// Who.
    username: Option<String>,
    /// Seconds.
    #[param(minimum = 1)]
    ttl: Option<u64>,
    /// An API key.
    key: Option<String>,
    /// The same, as Janus calls it.
    api: Option<String>,
}

/// The parameters of STUNner's authentication service.
#[derive(IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
#[allow(dead_code, reason = "only its description is used")]
pub(super) struct Stunner {
    /// `turn`.
    service: Option<String>,
    /// Who.
    username: Option<String>,
    /// Seconds.
    #[param(minimum = 1)]
    ttl: Option<u64>,
    /// `all`, `public` or `relay`.
    ice_transport_policy: Option<String>,
    /// An API key.
    key: Option<String>,
}

/// How a client speaks to the server.
#[derive(ToSchema, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(dead_code, reason = "only its schema is used")]
enum TransportName {
    Udp,
    Tcp,
    Tls,
}

/// The family of an address.
#[derive(ToSchema, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(dead_code, reason = "only its schema is used")]
pub(super) enum FamilyName {
    Ipv4,
    Ipv6,
}

/// Which candidates a browser may use.
#[derive(ToSchema, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(dead_code, reason = "only its schema is used")]
pub(super) enum PolicyName {
    All,
    Relay,
}

/// What Cloudflare's clients ask.
#[derive(ToSchema, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[allow(dead_code, reason = "only its schema is used; `hosted.rs` reads what is sent")]
pub(super) struct CloudflareOptions {
    /// Seconds.
    #[schema(minimum = 1)]
    ttl: Option<u64>,
    /// Who.
    custom_identifier: Option<String>,
}

/// What a home server asks.
#[derive(ToSchema, serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "only its schema is used; `hosted.rs` reads what is sent")]
pub(super) struct MatrixOptions {
    /// Seconds.
    #[schema(minimum = 1)]
    ttl: Option<u64>,
    /// Who.
    user: Option<String>,
}

/// What Matrix clients read.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub(super) struct TurnServer {
    username: String,
    password: String,
    uris: Vec<String>,
    ttl: u64,
}

/// One of `username`, `user` and `issuedBefore`; `user` may stand beside `issuedBefore`.
#[derive(ToSchema, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[allow(dead_code, reason = "only its schema is used; `revocations.rs` reads what is sent")]
pub(super) struct NewRevocation {
    /// One credential.
    #[schema(min_length = 1)]
    username: Option<String>,
    /// All of a user.
    #[schema(min_length = 1)]
    user: Option<String>,
    /// Those issued before this time, in seconds since 1970.
    issued_before: Option<u64>,
    /// The validity that those were issued with, in seconds.
    ttl: Option<u64>,
    /// Until when the entry is kept, in seconds since 1970.
    until: Option<u64>,
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::{Method, Request};

    use super::super::tests::{api, send};
    use super::*;

    const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json");

    #[test]
    fn the_committed_document_is_the_generated_one() {
        let generated = format!("{}\n", document().to_pretty_json().unwrap());
        if std::env::var_os("TURNWELL_WRITE_OPENAPI").is_some() {
            std::fs::write(COMMITTED, &generated).unwrap();
        }
        let committed = std::fs::read_to_string(COMMITTED).unwrap_or_default();
        assert!(committed == generated, "docs/openapi.json is old: run this test with TURNWELL_WRITE_OPENAPI=1");
    }

    /// Every documented operation is routed, and every other method of its path is refused.
    #[test]
    fn documented_operations_and_routes_are_the_same() {
        let document = serde_json::to_value(document()).unwrap();
        assert_eq!(document["openapi"], "3.1.0");
        let api = api("[api]\nfailure-rate = 0\n");
        for (path, operations) in document["paths"].as_object().unwrap() {
            let path = path.replace("{id}", "0").replace("{key_id}", "k").replace("{username}", "u");
            for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
                let is_documented = operations.get(method.as_str().to_lowercase()).is_some();
                let request = Request::builder().method(method.clone()).uri(&path).body(Body::empty()).unwrap();
                let status = send(&api, request).status;
                assert_eq!(status != 405, is_documented, "{method} {path} is {status}");
                assert_ne!(status, 404, "{method} {path}");
            }
        }
    }
}
