//! `GET|POST /turn`: draft-uberti-behave-turn-rest-00 and draft-uberti-rtcweb-turn-rest-00, as Janus and others call
//! it.
//!
//! Parameters come in the query and, on POST, also as a form (Janus sends both, and its key as both `key` and `api`).

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Query, Request, State};
use axum::http::request::Parts;
use axum::{Form, Json};

use super::credentials::body;
use super::problem::{Code, Problem};
use super::{Api, auth};
use crate::daemon::config::ApiKeys;
use crate::daemon::ice::{Answer, Order, Policy};

/// The key is checked before anything else that the parameters say.
pub(super) async fn mint(State(api): State<Arc<Api>>, request: Request) -> Result<Json<Answer>, Problem> {
    let minting = api.minting();
    let parameters = Parameters::read(request).await?;
    parameters.authorize(&minting.rules.keys)?;
    match parameters.first("service") {
        Some("turn") => {}
        _ => return Err(Problem::new(Code::InvalidService, "the parameter `service` must be `turn`")),
    }
    let ttl = match parameters.first("ttl").map(str::parse) {
        None => None,
        Some(Ok(ttl)) => Some(ttl),
        Some(Err(_)) => return Err(Problem::new(Code::InvalidTtl, "ttl is a whole number of seconds, at least 1")),
    };
    let order = Order { user: parameters.first("username"), ttl: minting.ttl(ttl)?, policy: Policy::All };
    Ok(Json(minting.mint(&order)?.for_colon_splitters()))
}

struct Parameters {
    pairs: Vec<(String, String)>,
    bearer: Option<String>,
}

impl Parameters {
    async fn read(request: Request) -> Result<Parameters, Problem> {
        let (parts, rest) = request.into_parts();
        let Query(mut pairs) = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
            .map_err(|_| Problem::new(Code::InvalidQuery, "the query is not made of name=value pairs"))?;
        let bearer = auth::presented(&parts.headers).map(str::to_owned);
        let body = body(Request::new(rest)).await?;
        if !body.is_empty() {
            pairs.extend(form(parts, body).await?);
        }
        Ok(Parameters { pairs, bearer })
    }

    /// The first value of this name that says anything.
    fn first(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.pairs
            .iter()
            .filter(move |(other, value)| other == name && !value.is_empty())
            .map(|(_, value)| value.as_str())
    }

    fn authorize(&self, keys: &ApiKeys) -> Result<(), Problem> {
        let mut presented = self.all("key").chain(self.all("api")).chain(self.bearer.as_deref()).peekable();
        if presented.peek().is_none() {
            return Err(auth::refusal(keys, "send an API key in the parameter `key`, or as a Bearer token"));
        }
        // Janus repeats one key under two names; a handful is more than anybody needs
        if presented.take(4).any(|key| keys.accepts(key)) {
            return Ok(());
        }
        Err(auth::refusal(keys, "the API key is not known here"))
    }
}

async fn form(parts: Parts, body: Bytes) -> Result<Vec<(String, String)>, Problem> {
    use axum::extract::rejection::FormRejection;
    // a GET has its form in the query, so the body is read as that of a POST
    let mut request =
        Request::post("/").body(Body::from(body)).map_err(|_| Problem::new(Code::Internal, "the body was lost"))?;
    *request.headers_mut() = parts.headers;
    match Form::<Vec<(String, String)>>::from_request(request, &()).await {
        Ok(Form(pairs)) => Ok(pairs),
        Err(FormRejection::InvalidFormContentType(_)) => Err(Problem::new(
            Code::UnsupportedMediaType,
            "send the body with `Content-Type: application/x-www-form-urlencoded`, or put everything into the query",
        )),
        Err(_) => Err(Problem::new(Code::InvalidBody, "the body is not made of name=value pairs")),
    }
}
