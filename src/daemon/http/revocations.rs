//! `/v1/revocations`: takes credentials back. Running calls of the user end within a second.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;

use super::Api;
use super::openapi::{NewRevocation, Refused};
use super::problem::{Code, Problem};
use super::wish::{body, json_object};
use crate::credentials::{Subject, parse_username};
use crate::daemon::config::Scope;
use crate::daemon::revoked::{Entry, RevokeError};
use crate::daemon::unix_now;

/// The shortest time that a user name stays revoked: clocks differ.
const AT_LEAST: u64 = 3600;
const LONGEST_NAME: usize = 508;

/// All revocations in force.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct RevocationList {
    revocations: Vec<Entry>,
    /// Whether they outlive a restart (credentials.state-dir).
    kept: bool,
}

/// The revocations in force.
#[utoipa::path(get, path = "/v1/revocations", tag = "revocations", responses((status = 200, description = "All of them", body = RevocationList), Refused), security(("key" = [])))]
pub(super) async fn list(State(api): State<Arc<Api>>, request: Request) -> Result<Json<RevocationList>, Problem> {
    api.bearer(&request, Scope::Revoke)?;
    Ok(Json(RevocationList { revocations: api.revoked.entries(unix_now()), kept: api.revoked.is_kept() }))
}

/// Takes credentials back.
#[utoipa::path(post, path = "/v1/revocations", tag = "revocations", request_body = NewRevocation, responses((status = 201, description = "Revoked", body = Entry), Refused), security(("key" = [])))]
pub(super) async fn add(State(api): State<Arc<Api>>, request: Request) -> Result<Response, Problem> {
    api.bearer(&request, Scope::Revoke)?;
    let headers = request.headers().clone();
    let fields = json_object(&headers, &body(request).await?)?;
    let mut wish = Wanted::default();
    for (name, value) in fields {
        if !value.is_null() {
            wish.set(&name, &value)?;
        }
    }
    let (subject, until) = wish.subject(api.minting().rules.default_ttl)?;
    let entry = api.revoke(subject, until).await?;
    Ok((StatusCode::CREATED, Json(entry)).into_response())
}

/// Readmits.
#[utoipa::path(delete, path = "/v1/revocations/{id}", tag = "revocations", params(("id" = String, Path, description = "As the list names it")), responses((status = 204, description = "Removed"), Refused), security(("key" = [])))]
pub(super) async fn remove(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<StatusCode, Problem> {
    api.bearer(&request, Scope::Revoke)?;
    let is_gone = id.parse().is_ok_and(|id| api.revoked.remove(id));
    if !is_gone {
        return Err(Problem::new(Code::NotFound, "there is no such revocation"));
    }
    api.workers.set_revoked(&api.revoked.set());
    api.save_revoked().await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Default)]
struct Wanted {
    username: Option<Box<str>>,
    user: Option<Box<str>>,
    issued_before: Option<u64>,
    ttl: Option<u64>,
    until: Option<u64>,
}

impl Wanted {
    fn set(&mut self, name: &str, value: &Value) -> Result<(), Problem> {
        let text = || {
            let text = value.as_str().filter(|text| (1..=LONGEST_NAME).contains(&text.len()));
            let wrong = || Problem::new(Code::InvalidUser, format!("{name} is a string of 1 to 508 bytes"));
            text.map(Into::into).ok_or_else(wrong)
        };
        let number = || {
            let wrong = || Problem::new(Code::InvalidTime, format!("{name} is a whole number of seconds"));
            value.as_u64().ok_or_else(wrong)
        };
        match name {
            "username" => self.username = Some(text()?),
            "user" => self.user = Some(text()?),
            "issuedBefore" => self.issued_before = Some(number()?),
            "ttl" => self.ttl = Some(number()?),
            "until" => self.until = Some(number()?),
            _ => {
                let name: String = name.chars().take(64).collect();
                let fields = "username, user, issuedBefore, ttl and until";
                let detail = format!("there is no field {name:?}; the fields are {fields}");
                return Err(Problem::new(Code::UnknownField, detail));
            }
        }
        Ok(())
    }

    fn subject(self, default_ttl: u64) -> Result<(Subject, Option<u64>), Problem> {
        let subject = match (self.username, self.user, self.issued_before) {
            (Some(username), None, None) => Subject::Username(username),
            (None, Some(user), None) => Subject::User(user),
            (None, user, Some(issued_before)) => {
                // a credential shows when it ends; with its validity that says when it was issued
                let expires_before = issued_before.saturating_add(self.ttl.unwrap_or(default_ttl));
                return Ok((Subject::Issued { user, expires_before }, Some(expires_before)));
            }
            (_, _, _) => {
                let detail = "name one of username, user or issuedBefore; user may stand beside issuedBefore";
                return Err(Problem::new(Code::InvalidBody, detail));
            }
        };
        if self.ttl.is_some() {
            return Err(Problem::new(Code::InvalidBody, "ttl stands beside issuedBefore only"));
        }
        Ok((subject, self.until))
    }
}

impl Api {
    /// Revokes now, then keeps it.
    pub(super) async fn revoke(&self, subject: Subject, until: Option<u64>) -> Result<Entry, Problem> {
        let now = unix_now();
        let default = match &subject {
            Subject::Username(name) => match parse_username(name) {
                Some(form) => form.expires.max(now.saturating_add(AT_LEAST)),
                None => now.saturating_add(self.minting().rules.max_ttl),
            },
            Subject::User(_) | Subject::Issued { .. } => now.saturating_add(self.minting().rules.max_ttl),
        };
        let until = until.unwrap_or(default);
        if until <= now {
            let detail = "that time is over: credentials so old are refused anyhow";
            return Err(Problem::new(Code::InvalidTime, detail));
        }
        let entry = self.revoked.add(subject, until, now).map_err(not_revoked)?;
        self.workers.set_revoked(&self.revoked.set());
        self.save_revoked().await?;
        tracing::info!(id = entry.id, until = entry.until, "credentials revoked");
        Ok(entry)
    }

    async fn save_revoked(&self) -> Result<(), Problem> {
        let revoked = self.revoked.clone();
        let saved = tokio::task::spawn_blocking(move || revoked.save()).await;
        saved.map_err(|_| Problem::new(Code::Internal, "writing the revocations failed"))?.map_err(not_revoked)
    }
}

fn not_revoked(error: RevokeError) -> Problem {
    match error {
        RevokeError::Full => Problem::new(
            Code::RevocationsFull,
            "there are 10,000 revocations: revoke by issuedBefore, or change the shared secret",
        ),
        RevokeError::NotKept(error) => {
            tracing::error!(%error, "the revocations could not be written to credentials.state-dir");
            let detail = "done, but it could not be written to credentials.state-dir: it is lost when the server ends";
            Problem::new(Code::NotKept, detail)
        }
    }
}
