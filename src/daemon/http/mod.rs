//! The HTTP API: credentials, revocations, sessions, metrics, health. A file per group of routes; errors are problems
//! of RFC 9457.
//!
//! Runs on the control plane. What a reload may change is handed in as [`Minting`] and replaced whole; workers are
//! asked through [`net::Control`].

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::middleware;
use axum::routing::{delete, get, post};
use tokio::sync::mpsc;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;

pub(super) use service::{Listener, Service};

use super::config::{self, Client, MintRules, Scope};
use super::ice::Uris;
use super::reload;
use super::revoked::Revoked;
use crate::credentials::Credentials;
use crate::net::{self, Certificate, Tls};
use counts::Counts;
use limits::Limits;

mod auth;
mod cors;
mod counts;
mod credentials;
mod health;
mod hosted;
mod limits;
mod metrics;
mod openapi;
mod page;
mod problem;
mod reloading;
mod revocations;
mod service;
mod sessions;
mod turn;
mod wish;

/// The longest body that is read.
const LONGEST_BODY: usize = 8 * 1024;
/// From the head of a request to its answer.
const DEADLINE: Duration = Duration::from_secs(10);

/// What the routes share.
pub(super) struct Api {
    minting: RwLock<Arc<Minting>>,
    workers: net::Control,
    revoked: Arc<Revoked>,
    facts: Facts,
    limits: Limits,
    counts: Counts,
    draining: AtomicBool,
    stopping: AtomicBool,
}

/// What does not change while the server runs.
pub(super) struct Facts {
    /// Relay ports that there are.
    pub(super) ports: u64,
    /// When the server started, in seconds since 1970.
    pub(super) started: u64,
    /// The key that the page at `/` uses on this machine; none: it asks for one.
    pub(super) page_key: Option<String>,
    /// Where reloads are asked for.
    pub(super) reloads: mpsc::Sender<reload::Request>,
    /// For the listeners that speak HTTPS; what it shows may be replaced.
    pub(super) tls: Option<Tls>,
}

impl Api {
    pub(super) fn new(minting: Minting, workers: net::Control, revoked: Revoked, facts: Facts) -> Api {
        Api {
            minting: RwLock::new(Arc::new(minting)),
            workers,
            revoked: Arc::new(revoked),
            facts,
            limits: Limits::new(),
            counts: Counts::default(),
            draining: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        }
    }

    /// Replaces what a reload may change.
    pub(super) fn set(&self, minting: Minting) {
        if let (Some(tls), Some(certificate)) = (&self.facts.tls, &minting.certificate) {
            tls.set_certificate(certificate);
        }
        *self.minting.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(minting);
    }

    /// From now on new allocations are refused and the server is not ready; what runs goes on.
    pub(super) fn drain(&self) {
        if !self.draining.swap(true, Ordering::Relaxed) {
            self.workers.drain();
            tracing::info!("draining: new allocations are refused");
        }
    }

    /// A reload took effect, or was refused.
    pub(super) fn reloaded(&self, is_good: bool) {
        self.counts.reloaded(is_good);
    }

    /// From now on the server is not ready.
    pub(super) fn set_stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// The credentials in force.
    pub(super) fn credentials(&self) -> Arc<Credentials> {
        self.minting().credentials.clone()
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
    /// What HTTPS shows.
    certificate: Option<Certificate>,
    /// Until when certificates are valid, by who shows them.
    expiries: Vec<(&'static str, u64)>,
    /// Whoever may open the trusted Unix socket.
    socket: Arc<Client>,
}

impl Minting {
    pub(super) fn new(live: &config::Live, uris: Uris) -> Minting {
        let socket = Client {
            id: "socket".into(),
            is_named: false,
            scopes: vec![Scope::Admin],
            default_ttl: None,
            max_ttl: None,
            user_prefix: "".into(),
            rate: 0,
        };
        Minting {
            credentials: live.relay.credentials.clone(),
            rules: live.mint.clone(),
            uris,
            certificate: live.api_certificate.clone(),
            expiries: [("turn", &live.certificate), ("api", &live.api_certificate)]
                .into_iter()
                .filter_map(|(shown, certificate)| Some((shown, certificate.as_ref()?.not_after())))
                .collect(),
            socket: Arc::new(socket),
        }
    }
}

fn router(api: Arc<Api>) -> Router {
    Router::new()
        .merge(minting_routes())
        .route("/v1/revocations", get(revocations::list).post(revocations::add))
        .route("/v1/revocations/{id}", delete(revocations::remove))
        .route("/v1/sessions", get(sessions::list))
        .route("/v1/sessions/{id}", delete(sessions::kick))
        .route("/v1/usage", get(sessions::usage))
        .route("/v1/drain", post(sessions::drain))
        .route("/v1/reload", post(reloading::reload))
        .route("/metrics", get(metrics::metrics))
        .route("/", get(page::page))
        .route("/openapi.json", get(openapi::openapi))
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .with_state(api.clone())
        .layer(RequestBodyLimitLayer::new(LONGEST_BODY))
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, DEADLINE))
        .layer(middleware::from_fn_with_state(api.clone(), problem::complete))
        .layer(middleware::from_fn_with_state(api, cors::cors))
}

/// One answer in the shapes that apps and products know.
fn minting_routes() -> Router<Arc<Api>> {
    const KEYS: &str = "/v1/turn/keys/{key_id}/credentials";
    Router::new()
        .route("/v1/credentials", post(credentials::mint))
        .route("/v1/ice-servers", get(credentials::ice_servers))
        .route("/turn", get(turn::mint_get).post(turn::mint_post))
        .route("/ice", get(turn::ice_get).post(turn::ice_post))
        .route(&format!("{KEYS}/generate-ice-servers"), post(hosted::generate_ice_servers))
        .route(&format!("{KEYS}/generate"), post(hosted::generate_one))
        .route(&format!("{KEYS}/{{username}}/revoke"), post(hosted::revoke))
        .route("/_matrix/client/v3/voip/turnServer", get(hosted::matrix_get))
        .route("/v1/matrix/turn", post(hosted::matrix_post))
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_of_clients;
