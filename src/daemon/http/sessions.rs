//! What runs and what ran: `/v1/sessions`, `/v1/usage`, `/v1/drain`.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use serde::Serialize;
use tokio::sync::oneshot;

use super::Api;
use super::openapi::Refused;
use super::problem::{Code, Problem};
use super::wish::pairs;
use crate::daemon::config::Scope;
use crate::net::{Question, Reply, Transport, UserUsage};
use crate::relay::{self, Mono, RelayId, Session, Traffic};

/// Sessions in an answer unless the caller says otherwise, and at most.
const LIMIT: usize = 1000;
const MOST: usize = 10_000;
/// A worker answers at its next turn, which is never far.
const PATIENCE: Duration = Duration::from_secs(2);

/// Running allocations.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct SessionList {
    sessions: Vec<SessionView>,
    /// Whether there are more than were asked for.
    truncated: bool,
}

/// One allocation.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct SessionView {
    /// Names it for `DELETE`.
    id: String,
    user: String,
    /// Where the client's packets come from.
    #[schema(value_type = String)]
    client: SocketAddr,
    /// What its peers see.
    #[schema(value_type = String)]
    relayed: SocketAddr,
    /// `udp`, `tcp` or `tls`.
    transport: &'static str,
    /// What is relayed: `udp` or `tcp`.
    relays: &'static str,
    age_seconds: f64,
    /// Until it ends, unless it is refreshed.
    lifetime_seconds: f64,
    permissions: usize,
    channels: usize,
    /// Connections with peers, where TCP is relayed.
    connections: usize,
    /// From the client to its peers.
    sent: Amount,
    /// From the peers to the client.
    received: Amount,
}

/// Packets and application bytes.
#[derive(Clone, Copy, Default, Serialize, utoipa::ToSchema)]
struct Amount {
    packets: u64,
    bytes: u64,
}

impl SessionView {
    fn new(worker: usize, now: Mono, (session, transport): &(Session, Transport)) -> SessionView {
        let (sent, received) = amounts(&session.traffic);
        SessionView {
            id: format!("{worker:x}-{:x}-{:x}", session.relay.0, session.created.0),
            user: session.user.to_string(),
            client: session.client.client,
            relayed: session.relayed,
            transport: transport.label(),
            relays: match session.transport {
                relay::Transport::Udp => "udp",
                relay::Transport::Tcp => "tcp",
            },
            age_seconds: now.since(session.created).as_secs_f64(),
            lifetime_seconds: session.expires.since(now).as_secs_f64(),
            permissions: session.permissions,
            channels: session.channels,
            connections: session.connections,
            sent,
            received,
        }
    }
}

fn amounts(traffic: &Traffic) -> (Amount, Amount) {
    (
        Amount { packets: traffic.sent_packets, bytes: traffic.sent_bytes },
        Amount { packets: traffic.received_packets, bytes: traffic.received_bytes },
    )
}

/// The running sessions.
#[utoipa::path(get, path = "/v1/sessions", tag = "sessions", params(("user" = Option<String>, Query, description = "Of this user only"), ("limit" = Option<u16>, Query, minimum = 1, maximum = 10000, description = "At most so many; 1000 by default")), responses((status = 200, description = "Those asked for", body = SessionList), Refused), security(("key" = [])))]
pub(super) async fn list(State(api): State<Arc<Api>>, request: Request) -> Result<Json<SessionList>, Problem> {
    api.bearer(&request, Scope::Admin)?;
    let (mut user, mut limit) = (None, LIMIT);
    for (name, value) in pairs(request.uri())? {
        match name.as_str() {
            "user" => user = Some(value),
            "limit" => {
                let in_range = value.parse().ok().filter(|limit| (1..=MOST).contains(limit));
                let wrong = || Problem::new(Code::InvalidQuery, "limit is a number from 1 to 10000");
                limit = in_range.ok_or_else(wrong)?;
            }
            _ => return Err(Problem::new(Code::UnknownField, "the parameters are user and limit")),
        }
    }
    let is_wanted = |(session, _): &(Session, Transport)| user.as_deref().is_none_or(|user| *session.user == *user);
    let mut list = SessionList { sessions: Vec::new(), truncated: false };
    api.each_session(|worker, now, session| {
        if is_wanted(session) {
            list.truncated = list.sessions.len() == limit;
            if !list.truncated {
                list.sessions.push(SessionView::new(worker, now, session));
            }
        }
        !list.truncated
    })
    .await?;
    Ok(Json(list))
}

/// Ends a session.
#[utoipa::path(delete, path = "/v1/sessions/{id}", tag = "sessions", params(("id" = String, Path, description = "As the list names it")), responses((status = 204, description = "Ended"), Refused), security(("key" = [])))]
pub(super) async fn kick(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<StatusCode, Problem> {
    api.bearer(&request, Scope::Admin)?;
    let unknown = || Problem::new(Code::NotFound, "there is no such session, or it has ended");
    let (worker, relay, created) = parse_id(&id).ok_or_else(unknown)?;
    if worker >= api.workers.workers() {
        return Err(unknown());
    }
    match api.ask(worker, |reply| Question::Close(relay, created, reply)).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(unknown()),
    }
}

fn parse_id(id: &str) -> Option<(usize, RelayId, Mono)> {
    let mut parts = id.split('-');
    let worker = usize::from_str_radix(parts.next()?, 16).ok()?;
    let relay = u32::from_str_radix(parts.next()?, 16).ok()?;
    let created = u64::from_str_radix(parts.next()?, 16).ok()?;
    parts.next().is_none().then_some((worker, RelayId(relay), Mono(created)))
}

/// What each user moved since the server started, running allocations included.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Usage {
    /// When the server started, in seconds since 1970.
    since: u64,
    users: Vec<UserView>,
    /// Those of users beyond the 4096 that a worker tells apart.
    others: Option<UserView>,
}

#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct UserView {
    user: String,
    allocations: u64,
    allocated_seconds: f64,
    sent: Amount,
    received: Amount,
}

impl UserView {
    fn new(user: &str, usage: &UserUsage) -> UserView {
        let (sent, received) = amounts(&usage.traffic);
        let allocated_seconds = usage.lasted.as_secs_f64();
        UserView { user: user.to_owned(), allocations: usage.allocations, allocated_seconds, sent, received }
    }
}

/// What users moved since the start.
#[utoipa::path(get, path = "/v1/usage", tag = "sessions", params(("user" = Option<String>, Query, description = "Of this user only")), responses((status = 200, description = "By user", body = Usage), Refused), security(("key" = [])))]
pub(super) async fn usage(State(api): State<Arc<Api>>, request: Request) -> Result<Json<Usage>, Problem> {
    api.bearer(&request, Scope::Admin)?;
    let mut wanted = None;
    for (name, value) in pairs(request.uri())? {
        match name.as_str() {
            "user" => wanted = Some(value),
            _ => return Err(Problem::new(Code::UnknownField, "the parameter is user")),
        }
    }
    let is_wanted = |user: &str| wanted.as_deref().is_none_or(|wanted| wanted == user);
    let (mut users, mut others) = (HashMap::<Arc<str>, UserUsage>::new(), UserUsage::default());
    for worker in 0..api.workers.workers() {
        let history = api.ask(worker, Question::History).await?;
        others.merge(&history.others);
        for (user, usage) in history.users.into_iter().filter(|(user, _)| is_wanted(user)) {
            users.entry(user).or_default().merge(&usage);
        }
    }
    api.each_session(|_, now, (session, _)| {
        if is_wanted(&session.user) {
            users.entry(session.user.clone()).or_default().add(now.since(session.created), &session.traffic);
        }
        true
    })
    .await?;
    let mut users: Vec<UserView> = users.iter().map(|(user, usage)| UserView::new(user, usage)).collect();
    users.sort_by(|left, right| left.user.cmp(&right.user));
    let others = (others.allocations > 0 && wanted.is_none()).then(|| UserView::new("", &others));
    Ok(Json(Usage { since: api.facts.started, users, others }))
}

/// Whether the server takes new allocations.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Drain {
    draining: bool,
    /// Those that run on.
    allocations: usize,
}

/// Refuses new sessions from now on.
#[utoipa::path(post, path = "/v1/drain", tag = "server", responses((status = 200, description = "Draining", body = Drain), Refused), security(("key" = [])))]
pub(super) async fn drain(State(api): State<Arc<Api>>, request: Request) -> Result<Json<Drain>, Problem> {
    api.bearer(&request, Scope::Admin)?;
    api.drain();
    Ok(Json(Drain { draining: true, allocations: api.workers.counters().usage.allocations }))
}

impl Api {
    /// Walks over all sessions, page by page, for as long as `visit` says.
    async fn each_session(
        &self,
        mut visit: impl FnMut(usize, Mono, &(Session, Transport)) -> bool,
    ) -> Result<(), Problem> {
        for worker in 0..self.workers.workers() {
            let mut next = Some(0);
            while let Some(from) = next {
                let page = self.ask(worker, |reply| Question::Sessions(from, reply)).await?;
                if !page.sessions.iter().all(|session| visit(worker, page.now, session)) {
                    return Ok(());
                }
                next = page.next;
            }
        }
        Ok(())
    }

    async fn ask<T: Send + 'static>(
        &self,
        worker: usize,
        question: impl FnOnce(Reply<T>) -> Question,
    ) -> Result<T, Problem> {
        let busy = || Problem::new(Code::Busy, "a worker has too much to do to answer: try again");
        let (sender, receiver) = oneshot::channel();
        // a caller that went away needs no answer
        let reply: Reply<T> = Box::new(move |answer| drop(sender.send(answer)));
        if !self.workers.ask(worker, question(reply)) {
            return Err(busy());
        }
        tokio::time::timeout(PATIENCE, receiver).await.map_err(|_| busy())?.map_err(|_| busy())
    }
}
