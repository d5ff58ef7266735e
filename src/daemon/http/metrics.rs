//! `/metrics` in the text format of Prometheus.
//!
//! Written out by hand: the families differ in nothing but their rows, and the encoders at hand write OpenMetrics,
//! whose counters `promtool check metrics` does not accept. Every label has a bounded set of values.

use std::fmt::Write;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use super::counts::Handshake;
use super::openapi::Refused;
use super::problem::Problem;
use super::{Api, auth};
use crate::daemon::config::Scope;
use crate::daemon::unix_now;
use crate::net::{self, Closing, Count, DURATION_BOUNDS, Durations, Population, Snapshot};
use crate::relay::{CODES, Discard, METHODS, PeerClass};

const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Figures for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "server", responses((status = 200, description = "The text format of Prometheus", body = String, content_type = "text/plain"), Refused), security(("key" = [])))]
pub(super) async fn metrics(State(api): State<Arc<Api>>, request: Request) -> Result<Response, Problem> {
    let is_open = api.minting().rules.metrics_open && auth::source(request.extensions()).is_local();
    if !is_open {
        api.bearer(&request, Scope::Metrics)?;
    }
    Ok(([(CONTENT_TYPE, TEXT_FORMAT)], api.metrics()).into_response())
}

impl Api {
    fn metrics(&self) -> String {
        let snapshot = self.workers.counters();
        let mut text = Text(String::with_capacity(16 * 1024));
        engine(&mut text, &snapshot);
        authentication(&mut text, &snapshot);
        sockets(&mut text, &snapshot);
        streams(&mut text, &snapshot);
        self.own(&mut text, &snapshot);
        text.0
    }

    fn own(&self, text: &mut Text, snapshot: &Snapshot) {
        self.tls(text, snapshot);
        // a sandbox may forbid the question; no answer is no row
        if let Ok(synchronized) = net::sys::clock_is_synchronized() {
            let help = "Whether the kernel thinks that nothing keeps this machine's clock right";
            text.gauge("clock_unsynchronized", help, u64::from(!synchronized));
        }
        if let Ok(limit) = net::sys::hard_limit_of_open_files() {
            text.gauge("open_files_limit", "How many files and sockets the server may open", limit);
        }
        text.gauge("ports_in_use", "Relay ports in use, reserved ones included", as_u64(snapshot.usage.ports));
        text.gauge("ports", "Relay ports that there are", self.facts.ports);
        text.family("credentials_issued_total", "counter", "Credentials minted by the API");
        for (route, count) in self.counts.all_issued() {
            text.row("credentials_issued_total", &[("route", route)], count);
        }
        text.family("api_requests_total", "counter", "Requests that the API answered");
        for ((route, status), count) in self.counts.requests() {
            text.row("api_requests_total", &[("route", &route), ("status", &status.to_string())], count);
        }
        text.gauge("revocations", "Revocations in force", as_u64(self.revoked.entries(unix_now()).len()));
        text.gauge("draining", "Whether new allocations are refused", u64::from(self.is_draining()));
        let reloads = self.counts.reloads();
        text.family("config_reloads_total", "counter", "Reloads of the configuration");
        text.row("config_reloads_total", &[("result", "applied")], reloads.good);
        text.row("config_reloads_total", &[("result", "refused")], reloads.refused);
        let help = "Whether the configuration in force is the one last read";
        text.gauge("config_last_reload_successful", help, u64::from(!reloads.is_refused));
        text.gauge("start_time_seconds", "When the server started, in seconds since 1970", self.facts.started);
        text.family("build_info", "gauge", "The version of this server");
        text.row("build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    }
}

impl Api {
    fn tls(&self, text: &mut Text, snapshot: &Snapshot) {
        let closed = |reason: Closing| snapshot.net.streams_closed.get(reason.index()).copied().unwrap_or_default();
        text.family("tls_handshakes_total", "counter", "TLS handshakes");
        for (result, count) in [
            (Handshake::Full, snapshot.net.tls_full),
            (Handshake::Resumed, snapshot.net.tls_resumed),
            (Handshake::Failed, closed(Closing::HandshakeFailed)),
            (Handshake::TimedOut, closed(Closing::HandshakeTimeout)),
        ] {
            text.row("tls_handshakes_total", &[("listener", "turn"), ("result", result.label())], count);
        }
        for result in Handshake::ALL {
            let count = self.counts.handshakes(result);
            text.row("tls_handshakes_total", &[("listener", "api"), ("result", result.label())], count);
        }
        let name = "tls_certificate_expiry_timestamp_seconds";
        text.family(name, "gauge", "Until when the certificate is valid, in seconds since 1970");
        for (listener, not_after) in &self.minting().expiries {
            text.row(name, &[("listener", listener)], not_after);
        }
    }
}

fn engine(text: &mut Text, snapshot: &Snapshot) {
    let (tally, usage) = (&snapshot.tally, &snapshot.usage);
    allocations(text, &snapshot.population);
    text.gauge("flows", "Flow rows: two for a bound channel", as_u64(usage.flows));
    text.gauge("reservations", "Reserved ports that nobody has claimed", as_u64(usage.reservations));
    text.gauge("peer_connections", "Connections with peers, relayed over TCP", as_u64(usage.connections));
    text.family("peer_connections_total", "counter", "Connections with peers begun");
    text.row("peer_connections_total", &[("by", "client")], tally.connections_asked_for);
    text.row("peer_connections_total", &[("by", "peer")], tally.connections_accepted);
    durations(text, &snapshot.durations);
    let directions = |name: &str, help: &str, text: &mut Text, to_peer: u64, to_client: u64| {
        text.family(name, "counter", help);
        text.row(name, &[("direction", "to_peer")], to_peer);
        text.row(name, &[("direction", "to_client")], to_client);
    };
    directions("relay_packets_total", "Packets relayed", text, tally.sent_packets, tally.received_packets);
    directions("relay_bytes_total", "Application bytes relayed", text, tally.sent_bytes, tally.received_bytes);
    text.family("relay_dropped_packets_total", "counter", "Packets that led nowhere");
    for reason in Discard::ALL {
        let count = tally.discards.get(reason.index()).copied().unwrap_or_default();
        text.row("relay_dropped_packets_total", &[("reason", reason.label())], count);
    }
    text.counter("icmp_errors_total", "ICMP errors about relayed packets that clients were told", tally.icmp_errors);
    text.family("responses_total", "counter", "Responses to requests of clients; code 200 is success");
    let methods = METHODS.iter().map(|(_, name)| *name).chain(["other"]);
    for (method, row) in methods.zip(&tally.responses) {
        for (code, count) in CODES.iter().zip(row).filter(|(_, count)| **count > 0) {
            text.row("responses_total", &[("method", method), ("code", &code.to_string())], *count);
        }
    }
}

/// By what carries the clients' messages and the family of the relayed addresses.
fn allocations(text: &mut Text, population: &Population) {
    let mut family = |name: &str, kind: &str, help: &str, figure: fn(Count) -> u64| {
        text.family(name, kind, help);
        for (transport, family, count) in population.iter() {
            text.row(name, &[("transport", transport.label()), ("family", family.label())], figure(count));
        }
    };
    family("allocations", "gauge", "Allocations that exist", |count| count.begun.saturating_sub(count.ended));
    family("allocations_total", "counter", "Allocations begun", |count| count.begun);
}

fn authentication(text: &mut Text, snapshot: &Snapshot) {
    let tally = &snapshot.tally;
    let help = "First answers to clients that do not know realm and nonce yet: no failures";
    text.counter("auth_challenges_total", help, tally.challenges);
    text.family("auth_failures_total", "counter", "Requests that nobody proved to have sent");
    for (reason, count) in [
        ("expired", tally.auth_expired),
        ("bad_integrity", tally.auth_bad_integrity),
        ("unknown_user", tally.auth_unknown_user),
        ("revoked", tally.auth_revoked),
        ("stale_nonce", tally.auth_stale_nonce),
        ("wrong_user", tally.auth_wrong_user),
    ] {
        text.row("auth_failures_total", &[("reason", reason)], count);
    }
    let help = "Permissions, channels and connections refused because the peer may not be reached";
    text.family("permissions_denied_total", "counter", help);
    for class in PeerClass::ALL {
        let count = tally.peers_forbidden.get(class.index()).copied().unwrap_or_default();
        text.row("permissions_denied_total", &[("class", class.label())], count);
    }
    text.family("quota_rejections_total", "counter", "Requests refused because there are as many as there may be");
    for (scope, count) in [
        ("user", tally.quota_user),
        ("source", tally.quota_source),
        ("capacity", tally.quota_capacity),
        ("ports", tally.quota_ports),
    ] {
        text.row("quota_rejections_total", &[("scope", scope)], count);
    }
}

fn sockets(text: &mut Text, snapshot: &Snapshot) {
    let net = &snapshot.net;
    text.family("datagrams_received_total", "counter", "Datagrams received");
    text.row("datagrams_received_total", &[("from", "client")], net.client_datagrams);
    text.row("datagrams_received_total", &[("from", "peer")], net.peer_datagrams);
    text.counter("datagrams_sent_total", "Datagrams handed to the kernel", net.sent);
    text.family("send_failures_total", "counter", "Datagrams that the kernel did not take");
    text.row("send_failures_total", &[("reason", "full")], net.send_full);
    text.row("send_failures_total", &[("reason", "refused")], net.send_failed);
    text.family("kernel_dropped_datagrams_total", "counter", "Datagrams dropped because they were not read in time");
    text.row("kernel_dropped_datagrams_total", &[("socket", "listener")], net.listener_kernel_drops);
    text.row("kernel_dropped_datagrams_total", &[("socket", "relay")], net.relay_kernel_drops);
    text.counter("segmented_sends_total", "Runs of datagrams sent by one segmented message", net.segmented);
    text.counter("truncated_datagrams_total", "Datagrams too long for the receive buffer", net.truncated);
    text.counter("worker_restarts_total", "Workers started anew after a panic", net.restarts);
}

fn streams(text: &mut Text, snapshot: &Snapshot) {
    let net = &snapshot.net;
    text.gauge("connections", "Connections over TCP and TLS", net.streams);
    text.counter("connections_total", "Connections accepted", net.streams_accepted);
    let help = "Connections that could not be accepted: no descriptor, no memory";
    text.counter("accept_failures_total", help, net.accepts_failed);
    text.family("connections_closed_total", "counter", "Connections closed");
    for reason in Closing::ALL {
        let count = net.streams_closed.get(reason.index()).copied().unwrap_or_default();
        text.row("connections_closed_total", &[("reason", reason.label())], count);
    }
    text.counter("stream_messages_total", "Messages queued towards clients on streams", net.stream_messages);
    let help = "Messages dropped because a client on a stream did not read in time";
    text.counter("stream_dropped_messages_total", help, net.stream_dropped);
}

fn durations(text: &mut Text, durations: &Durations) {
    let name = "allocation_duration_seconds";
    text.family(name, "histogram", "How long ended allocations lasted");
    let mut total = 0;
    let bounds = DURATION_BOUNDS.iter().map(u64::to_string).chain(["+Inf".to_owned()]);
    for (bound, count) in bounds.zip(durations.counts) {
        total += count;
        text.row("allocation_duration_seconds_bucket", &[("le", &bound)], total);
    }
    text.row("allocation_duration_seconds_sum", &[], durations.sum.as_secs_f64());
    text.row("allocation_duration_seconds_count", &[], total);
}

fn as_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// A text in the making.
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // writing to a String cannot fail
        let _ = writeln!(self.0, "# HELP turnwell_{name} {help}.\n# TYPE turnwell_{name} {kind}");
    }

    /// Label values are ours: words, routes and numbers that need no escaping.
    fn row(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "turnwell_{name}{labels} {value}");
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "gauge", help);
        self.row(name, &[], value);
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "counter", help);
        self.row(name, &[], value);
    }
}
