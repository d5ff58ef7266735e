//! What a running server has counted since its start: the mistakes of its clients.

use std::collections::HashMap;

use axum::http::Method;

use super::super::finding::{Finding, Kind, Severity};
use super::super::http;
use super::super::report::Report;
use super::{Subject, Way};

/// Fewer of a kind say nothing.
const FEW: u64 = 5;
/// Challenges that nobody came back from, before it is worth a word.
const MANY: u64 = 20;

/// The figures of `/metrics`, by name with labels.
pub(super) struct Figures(HashMap<String, u64>);

impl Figures {
    fn read(text: &str) -> Figures {
        let row = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            let value: f64 = value.parse().ok()?;
            // counters are whole and stay far below where a float loses one
            Some((name.strip_prefix("turnwell_")?.to_owned(), value as u64))
        };
        Figures(text.lines().filter(|line| !line.starts_with('#')).filter_map(row).collect())
    }

    pub(super) fn known(&self, name: &str) -> Option<u64> {
        self.0.get(name).copied()
    }

    fn of(&self, name: &str) -> u64 {
        self.known(name).unwrap_or_default()
    }

    /// A figure over all values of its labels.
    fn total(&self, name: &str) -> u64 {
        let is_row = |key: &str| key.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'));
        self.0.iter().filter(|(key, _)| is_row(key)).map(|(_, value)| value).sum()
    }

    fn with(&self, name: &str, label: &str, value: &str) -> u64 {
        self.of(&format!("{name}{{{label}=\"{value}\"}}"))
    }
}

/// What the server that has this configuration says, or why there is nothing to be had.
pub(super) async fn figures(subject: &Subject, way: &Way<'_>) -> Result<Figures, String> {
    let fixed = &subject.config.fixed;
    let base = match (&fixed.api_socket, fixed.api.first()) {
        (Some(socket), _) if socket.exists() => socket.display().to_string(),
        (_, Some(listener)) => crate::daemon::cli::url(listener),
        (_, None) => return Err("the API is switched off".into()),
    };
    let key = std::env::var("TURNWELL_API_KEY").ok();
    let called =
        http::call(&base, (Method::GET, "/metrics", String::new()), key.as_deref(), way.trust, way.patience).await;
    match called {
        Ok(answer) if answer.status == 200 => Ok(Figures::read(&String::from_utf8_lossy(&answer.body))),
        Ok(answer) => Err(format!(
            "{base}/metrics answers {}: put a key of the scope metrics into TURNWELL_API_KEY",
            answer.status
        )),
        Err(error) => Err(format!("no server answers at {base}: {error}")),
    }
}

/// Says what they tell of the clients.
pub(super) fn judge(figures: &Figures, report: &mut Report) {
    let fine = format!("{} allocations since the start", figures.total("allocations_total"));
    let found = judged(figures).into_iter().map(|finding| finding.at("since the server's start"));
    report.group("counters", fine, found.collect());
}

fn judged(figures: &Figures) -> Vec<Finding> {
    [authentication(figures), quotas(figures), harmless(figures)].concat()
}

fn authentication(figures: &Figures) -> Vec<Finding> {
    let good = figures.total("allocations_total");
    let failed = |reason: &str| figures.with("auth_failures_total", "reason", reason);
    // a few among many are everyday
    let tells = |count: u64| count >= FEW && count.saturating_mul(10) > good;
    let mut found = Vec::new();
    let expired = failed("expired");
    if tells(expired) {
        let means =
            "the app keeps credentials for too long or writes the time of issue into them, or this clock is ahead";
        let remedy =
            "mint per call; compare `date -u` here with another machine. At log level debug each has its delay";
        let saw = format!("{expired} requests with an expired credential, {good} allocations");
        found.push(Kind::Expired.found(saw, means, remedy).severity(Severity::Warning));
    }
    let wrong = failed("bad_integrity");
    if tells(wrong) {
        let means = "the app signs with another secret: a newline at its end, quotes, base64 that one side decodes";
        let remedy = "compare byte by byte; `turnwell doctor --ice-json FILE --secret-file FILE` names the difference";
        let saw = format!("{wrong} requests with a password that does not match, {good} allocations");
        found.push(Kind::Secret.found(saw, means, remedy).severity(Severity::Warning));
    }
    let unknown = failed("unknown_user");
    if tells(unknown) {
        let means = "they carry a static user that is not configured, or a user name without a time stamp";
        let remedy = "add credentials.users, or let the app mint EXPIRY:USER with the shared secret";
        let saw = format!("{unknown} requests of users that nobody knows, {good} allocations");
        found.push(Kind::User.found(saw, means, remedy).severity(Severity::Warning));
    }
    let challenges = figures.of("auth_challenges_total");
    let reasons = ["expired", "bad_integrity", "unknown_user", "revoked", "stale_nonce", "wrong_user"];
    let came_back = good + reasons.iter().map(|reason| failed(reason)).sum::<u64>();
    if challenges >= MANY && came_back.saturating_mul(10) < challenges {
        let means = "each client's first request gets a 401 with realm and nonce, which is no failure; these never came back \
                     with a credential: they take it for a refusal, have none, or are scanners";
        let remedy = "look at what the app passes as username and credential; do not count the first 401 as an error";
        let saw = format!("{challenges} first requests were challenged, {came_back} came back");
        found.push(Kind::Challenge.found(saw, means, remedy));
    }
    found
}

fn quotas(figures: &Figures) -> Vec<Finding> {
    let rejected = |scope: &str| figures.with("quota_rejections_total", "scope", scope);
    let mut found = Vec::new();
    for (scope, key, who) in [
        ("user", "limits.allocations-per-user", "a user"),
        ("source", "limits.allocations-per-source", "a source address"),
    ] {
        let count = rejected(scope);
        if count > 0 {
            let means = format!(
                "{who} had as many allocations as {key} grants: abuse, a shared name, or many people behind one NAT"
            );
            let remedy = format!("`turnwell status` shows whose they are; raise {key}, or mint one name per person");
            found.push(Kind::Quota.found(format!("{count} requests were refused with 486 ({scope})"), means, remedy));
        }
    }
    let (ports, capacity) = (rejected("ports"), rejected("capacity"));
    if ports + capacity > 0 {
        let means = "there was no relay port, or limits.allocations, permissions or channels were used up";
        let remedy = "widen relay.ports or raise the limits, or add a server";
        let saw = format!("requests were refused with 508: {ports} for want of a port, {capacity} by a limit");
        found.push(Kind::Limits.found(saw, means, remedy));
    }
    found
}

/// What is worth knowing and hurts nobody.
fn harmless(figures: &Figures) -> Vec<Finding> {
    let mut found = Vec::new();
    let denied = figures.total("permissions_denied_total");
    if denied > 0 {
        let private = figures.with("permissions_denied_total", "class", "private");
        let means = "clients offer their LAN addresses as candidates, and the other side asks for them: harmless";
        let remedy = "nothing, unless peers stand in this server's own network: then peers.allow";
        let saw = format!("{denied} permissions were refused with 403, {private} of them for private addresses");
        found.push(Kind::PrivatePeer.found(saw, means, remedy));
    }
    let foreign = figures.with("connections_closed_total", "reason", "foreign");
    if foreign > 0 {
        let means =
            "browsers and scanners that speak HTTP, or clients that speak TLS to a plain port; they are hung up on";
        let remedy =
            "nothing for scanners; if clients have turns: URLs to that port, move it from listen.tcp to listen.auto";
        found.push(Kind::Http.found(format!("{foreign} connections spoke neither STUN nor TURN"), means, remedy));
    }
    let handshakes = figures.with("connections_closed_total", "reason", "handshake_failed");
    if handshakes >= FEW && handshakes.saturating_mul(2) > figures.of("connections_total") {
        let means = "clients refuse the certificate, or speak to the TLS port without TLS";
        let remedy = "`turnwell doctor --url turns:HOST:PORT?transport=tcp` tells which";
        let saw = format!("{handshakes} TLS handshakes failed");
        found.push(Kind::Certificate.found(saw, means, remedy).severity(Severity::Warning));
    }
    let dropped = figures.with("kernel_dropped_datagrams_total", "socket", "listener")
        + figures.with("kernel_dropped_datagrams_total", "socket", "relay");
    if dropped > 0 {
        let saw = format!("the kernel dropped {dropped} datagrams that were not read in time");
        let remedy = "raise net.core.rmem_max and listen.receive-buffer, or add workers";
        found.push(Kind::Buffers.found(saw, "calls lost these packets", remedy));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<Kind> {
        judged(&Figures::read(text)).iter().map(|finding| finding.kind).collect()
    }

    #[test]
    fn counters_of_an_ordinary_day_say_nothing() {
        let text = "# HELP turnwell_allocations_total x\nturnwell_allocations_total{transport=\"udp\",family=\"ipv4\"} 900\n\
                    turnwell_allocations_total{transport=\"tls\",family=\"ipv6\"} 100\nturnwell_auth_challenges_total 1200\n\
                    turnwell_auth_failures_total{reason=\"expired\"} 40\nturnwell_auth_failures_total{reason=\"bad_integrity\"} 2\n";
        assert_eq!(kinds(text), []);
    }

    #[test]
    fn each_counter_that_tells_is_named() {
        for (text, kind) in [
            ("turnwell_auth_failures_total{reason=\"expired\"} 40", Kind::Expired),
            ("turnwell_auth_failures_total{reason=\"bad_integrity\"} 40", Kind::Secret),
            ("turnwell_auth_failures_total{reason=\"unknown_user\"} 40", Kind::User),
            ("turnwell_auth_challenges_total 50", Kind::Challenge),
            ("turnwell_quota_rejections_total{scope=\"user\"} 1", Kind::Quota),
            ("turnwell_quota_rejections_total{scope=\"source\"} 1", Kind::Quota),
            ("turnwell_quota_rejections_total{scope=\"ports\"} 1", Kind::Limits),
            ("turnwell_permissions_denied_total{class=\"private\"} 3", Kind::PrivatePeer),
            ("turnwell_connections_closed_total{reason=\"foreign\"} 3", Kind::Http),
            ("turnwell_connections_closed_total{reason=\"handshake_failed\"} 9", Kind::Certificate),
            ("turnwell_kernel_dropped_datagrams_total{socket=\"relay\"} 3", Kind::Buffers),
        ] {
            assert_eq!(kinds(text), [kind], "{text}");
        }
    }
}
