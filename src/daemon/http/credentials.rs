//! `POST /v1/credentials` and `GET /v1/ice-servers`: a credential for the app's signaling server.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::header::LINK;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use super::openapi::{Options, Query, Refused};
use super::problem::{Code, Problem};
use super::wish::{Wish, body, invalid_ttl};
use super::{Api, Minting};
use crate::credentials::IssueError;
use crate::daemon::config::{Client, Scope};
use crate::daemon::ice::{Answer, IceServer, Order};
use crate::daemon::unix_now;

/// Key first, then media type, then body: who has no key learns nothing.
#[utoipa::path(post, path = "/v1/credentials", tag = "credentials", request_body = Option<Options>, responses((status = 201, description = "A credential", body = Answer), Refused), security(("key" = [])))]
pub(super) async fn mint(State(api): State<Arc<Api>>, request: Request) -> Result<Response, Problem> {
    let client = api.bearer(&request, Scope::Mint)?;
    let headers = request.headers().clone();
    let wish = Wish::from_json(&headers, &body(request).await?)?;
    let answer = api.issue(&client, &wish, "credentials")?;
    Ok((StatusCode::CREATED, respond(answer, &wish)).into_response())
}

/// The same for a plain `fetch`.
#[utoipa::path(get, path = "/v1/ice-servers", tag = "credentials", params(Query), responses((status = 200, description = "A credential", body = Answer), Refused), security(("key" = [])))]
pub(super) async fn ice_servers(State(api): State<Arc<Api>>, request: Request) -> Result<Response, Problem> {
    let client = api.bearer(&request, Scope::Mint)?;
    let wish = Wish::from_query(request.uri())?;
    let answer = api.issue(&client, &wish, "ice-servers")?;
    Ok(respond(answer, &wish))
}

fn respond(answer: Answer, wish: &Wish) -> Response {
    let links: Vec<HeaderValue> = if wish.link { answer.ice_servers.iter().flat_map(links).collect() } else { vec![] };
    let mut response = Json(answer).into_response();
    for link in links {
        response.headers_mut().append(LINK, link);
    }
    response
}

/// A server as WHIP and WHEP announce it (RFC 9725 §4.6).
fn links(server: &IceServer) -> Vec<HeaderValue> {
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    let credential = match (&server.username, &server.credential) {
        (Some(username), Some(credential)) => format!(
            "; username=\"{}\"; credential=\"{}\"; credential-type=\"password\"",
            quoted(username),
            quoted(credential)
        ),
        (_, _) => String::new(),
    };
    let link = |url: &String| format!("<{url}>; rel=\"ice-server\"{credential}");
    server.urls.iter().filter_map(|url| HeaderValue::from_bytes(link(url).as_bytes()).ok()).collect()
}

impl Api {
    /// Issues what a client asked for on a route.
    pub(super) fn issue(&self, client: &Client, wish: &Wish, route: &'static str) -> Result<Answer, Problem> {
        if self.is_draining() {
            return Err(Problem::new(Code::Draining, "the server is draining: ask another one"));
        }
        let minting = self.minting();
        let named = wish.user.as_deref().or(wish.label.as_deref());
        let user = match (&*client.user_prefix, named) {
            ("", named) => named.map(str::to_owned),
            (prefix, named) => Some(format!("{prefix}{}", named.unwrap_or_default())),
        };
        // an empty name is not made a name by a prefix
        let user = if named == Some("") { Some(String::new()) } else { user };
        let ttl = minting.ttl(client, wish.ttl)?;
        let uris = minting.uris.narrowed(wish.transports.as_deref(), wish.family).ok_or_else(|| {
            let detail = "the server cannot be reached by any of these transports in this family";
            Problem::new(Code::NoSuchTransport, detail)
        })?;
        let order = Order { user: user.as_deref(), ttl, policy: wish.policy };
        let answer = Answer::mint(&minting.credentials, &uris, &order, unix_now()).map_err(refused)?;
        self.counts.issued(route);
        tracing::debug!(client = %client.id, user = ?order.user, label = ?wish.label, ttl, route, "credential minted");
        Ok(answer)
    }
}

fn refused(error: IssueError) -> Problem {
    match error {
        IssueError::InvalidUser => {
            Problem::new(Code::InvalidUser, "the user is 1 to 480 bytes of UTF-8 without control characters")
        }
        IssueError::NoSecret => Problem::new(
            Code::NoSecret,
            "the server has no shared secret to sign with: set credentials.secrets or secret-files",
        ),
    }
}

impl Minting {
    /// The validity to use for what the caller asked for.
    fn ttl(&self, client: &Client, asked: Option<u64>) -> Result<u64, Problem> {
        let longest = client.max_ttl.unwrap_or(self.rules.max_ttl);
        match asked {
            None => Ok(client.default_ttl.unwrap_or(self.rules.default_ttl)),
            Some(0) => Err(invalid_ttl()),
            Some(ttl) if ttl > longest => {
                Err(Problem::new(Code::TtlTooLong, format!("ttl is {ttl} seconds, the limit (max-ttl) is {longest}")))
            }
            Some(ttl) => Ok(ttl),
        }
    }
}
