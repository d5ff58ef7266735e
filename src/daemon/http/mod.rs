//! The HTTP API: minting of credentials, health. A file per group of routes; errors are problems of RFC 9457.
//!
//! Runs on the control plane. Knows nothing of workers: what it needs is handed in as [`Minting`], replaced whole by
//! a reload.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::middleware;
use axum::routing::{get, post};
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;

pub(super) use service::Service;

use super::config::{self, MintRules};
use super::ice::{Answer, Order, Uris};
use super::unix_now;
use crate::credentials::{Credentials, IssueError};
use problem::{Code, Problem};

mod auth;
mod credentials;
mod health;
mod problem;
mod service;
mod turn;

/// The longest body that is read.
const LONGEST_BODY: usize = 8 * 1024;
/// From the head of a request to its answer.
const DEADLINE: Duration = Duration::from_secs(10);

/// What the routes share.
pub(super) struct Api {
    minting: RwLock<Arc<Minting>>,
    stopping: AtomicBool,
}

impl Api {
    pub(super) fn new(minting: Minting) -> Api {
        Api { minting: RwLock::new(Arc::new(minting)), stopping: AtomicBool::new(false) }
    }

    /// Replaces what a reload may change.
    pub(super) fn set(&self, minting: Minting) {
        *self.minting.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(minting);
    }

    /// From now on the server is not ready.
    pub(super) fn set_stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    fn minting(&self) -> Arc<Minting> {
        self.minting.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What it takes to mint a credential.
pub(super) struct Minting {
    credentials: Arc<Credentials>,
    rules: MintRules,
    uris: Uris,
}

impl Minting {
    pub(super) fn new(live: &config::Live, uris: Uris) -> Minting {
        Minting { credentials: live.relay.credentials.clone(), rules: live.mint.clone(), uris }
    }

    /// The validity to use for what the caller asked for.
    fn ttl(&self, asked: Option<u64>) -> Result<u64, Problem> {
        let longest = self.rules.max_ttl;
        match asked {
            None => Ok(self.rules.default_ttl),
            Some(0) => Err(Problem::new(Code::InvalidTtl, "ttl is a whole number of seconds, at least 1")),
            Some(ttl) if ttl > longest => Err(Problem::new(
                Code::TtlTooLong,
                format!("ttl is {ttl} seconds, the limit (api.max-ttl) is {longest}"),
            )),
            Some(ttl) => Ok(ttl),
        }
    }

    fn mint(&self, order: &Order<'_>) -> Result<Answer, Problem> {
        let answer = Answer::mint(&self.credentials, &self.uris, order, unix_now()).map_err(|error| match error {
            IssueError::InvalidUser => {
                Problem::new(Code::InvalidUser, "the user is 1 to 480 bytes of UTF-8 without control characters")
            }
            IssueError::NoSecret => Problem::new(
                Code::NoSecret,
                "the server has no shared secret to sign with: set credentials.secrets or secret-files",
            ),
        })?;
        tracing::debug!(user = ?order.user, ttl = order.ttl, "credential minted");
        Ok(answer)
    }
}

fn router(api: Arc<Api>) -> Router {
    Router::new()
        .route("/v1/credentials", post(credentials::mint))
        .route("/turn", get(turn::mint).post(turn::mint))
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .with_state(api)
        .layer(RequestBodyLimitLayer::new(LONGEST_BODY))
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, DEADLINE))
        .layer(middleware::from_fn(problem::complete))
}

#[cfg(test)]
mod tests;
