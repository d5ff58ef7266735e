//! Routes that other servers have, for the clients that know them:
//!
//! * `GET|POST /turn`: draft-uberti-behave-turn-rest-00 and draft-uberti-rtcweb-turn-rest-00, as Janus and others call it
//! * `GET|POST /ice`: STUNner's authentication service
//!
//! Parameters come in the query and, on POST, also as a form (Janus sends both, and its key as both `key` and `api`).

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request, State};
use axum::http::request::Parts;
use axum::{Form, Json};

use super::limits::Source;
use super::openapi::{Refused, Stunner, Uberti};
use super::problem::{Code, Problem};
use super::wish::{Wish, body, invalid_ttl, pairs};
use super::{Api, auth};
use crate::daemon::config::{Client, Scope};
use crate::daemon::ice::{Answer, Policy};

/// Janus repeats one key under two names; a handful is more than anybody needs.
const MOST_KEYS: usize = 4;

/// draft-uberti's GET.
#[utoipa::path(get, path = "/turn", tag = "credentials", params(Uberti), responses((status = 200, description = "A credential", body = Answer), Refused), security(("key" = [])))]
pub(super) async fn mint_get(state: State<Arc<Api>>, request: Request) -> Result<Json<Answer>, Problem> {
    mint(state, request).await
}

/// draft-uberti's POST; the parameters may also be a form.
#[utoipa::path(post, path = "/turn", tag = "credentials", params(Uberti), responses((status = 200, description = "A credential", body = Answer), Refused), security(("key" = [])))]
pub(super) async fn mint_post(state: State<Arc<Api>>, request: Request) -> Result<Json<Answer>, Problem> {
    mint(state, request).await
}

/// The key is checked before anything else that the parameters say.
async fn mint(State(api): State<Arc<Api>>, request: Request) -> Result<Json<Answer>, Problem> {
    let parameters = Parameters::read(request).await?;
    let client = parameters.authorize(&api)?;
    parameters.check_service(true)?;
    let answer = api.issue(&client, &parameters.wish()?, "turn")?;
    Ok(Json(answer.for_colon_splitters()))
}

/// STUNner's GET.
#[utoipa::path(get, path = "/ice", tag = "credentials", params(Stunner), responses((status = 200, description = "A credential", body = Answer), Refused), security(("key" = [])))]
pub(super) async fn ice_get(state: State<Arc<Api>>, request: Request) -> Result<Json<Answer>, Problem> {
    ice(state, request).await
}

/// The same by POST.
#[utoipa::path(post, path = "/ice", tag = "credentials", params(Stunner), responses((status = 200, description = "A credential", body = Answer), Refused), security(("key" = [])))]
pub(super) async fn ice_post(state: State<Arc<Api>>, request: Request) -> Result<Json<Answer>, Problem> {
    ice(state, request).await
}

/// STUNner's documentation makes `service` optional.
async fn ice(State(api): State<Arc<Api>>, request: Request) -> Result<Json<Answer>, Problem> {
    let parameters = Parameters::read(request).await?;
    let client = parameters.authorize(&api)?;
    parameters.check_service(false)?;
    let mut wish = parameters.wish()?;
    wish.policy = match parameters.first("iceTransportPolicy") {
        // `public` leaves out private listeners, of which none is ever named
        None | Some("all" | "public") => Policy::All,
        Some("relay") => Policy::Relay,
        Some(_) => {
            let detail = "iceTransportPolicy is \"all\", \"public\" or \"relay\"";
            return Err(Problem::new(Code::InvalidIceTransportPolicy, detail));
        }
    };
    Ok(Json(api.issue(&client, &wish, "ice")?))
}

struct Parameters {
    pairs: Vec<(String, String)>,
    bearer: Option<String>,
    source: Source,
}

impl Parameters {
    async fn read(request: Request) -> Result<Parameters, Problem> {
        let (parts, rest) = request.into_parts();
        let mut pairs = pairs(&parts.uri)?;
        let bearer = auth::presented(&parts.headers).map(str::to_owned);
        let source = auth::source(&parts.extensions);
        let body = body(Request::new(rest)).await?;
        if !body.is_empty() {
            pairs.extend(form(parts, body).await?);
        }
        Ok(Parameters { pairs, bearer, source })
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

    fn authorize(&self, api: &Api) -> Result<Arc<Client>, Problem> {
        let keys = self.all("key").chain(self.all("api")).chain(self.bearer.as_deref()).take(MOST_KEYS);
        api.authorize(&api.minting(), self.source, keys, Scope::Mint)
    }

    fn check_service(&self, required: bool) -> Result<(), Problem> {
        match self.first("service") {
            Some("turn") => Ok(()),
            None if !required => Ok(()),
            _ => Err(Problem::new(Code::InvalidService, "the parameter `service` must be `turn`")),
        }
    }

    fn wish(&self) -> Result<Wish, Problem> {
        let ttl = self.first("ttl").map(|ttl| ttl.parse().map_err(|_| invalid_ttl())).transpose()?;
        Ok(Wish { user: self.first("username").map(str::to_owned), ttl, ..Wish::default() })
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
