//! From what a step showed to a finding in words.

use std::io;
use std::net::{IpAddr, SocketAddr};

use super::super::finding::{Finding, Kind, Severity, shown};
use super::super::hints;
use super::super::login::Login;
use super::super::scope::{Scope, is_bridge_gateway};
use super::conn::Refusal;
use super::session::Passage;
use super::trial::Hint;

/// A relayed address that is nearer than the one by which the server is reached.
pub(super) fn relayed(server: SocketAddr, relayed: SocketAddr) -> Option<Finding> {
    let (of_server, of_relay) = (Scope::of(server.ip()), Scope::of(relayed.ip()));
    (of_relay < of_server).then(|| {
        let ip = relayed.ip();
        Kind::ExternalAddress.found(
            format!("the server is reached at {}, but it relays at {ip}, a {} address", server.ip(), of_relay.words()),
            "the other side of a call gets that address as a candidate and cannot reach it; calls that need the relay fail",
            format!(
                "tell the server its public address: relay.external = [{{ local = \"{ip}\", public = \"{}\" }}] \
                (coturn: external-ip)",
                server.ip()
            ),
        )
    })
}

/// A source address as the server sees it that somebody in between has put there.
pub(super) fn source(server: SocketAddr, local: SocketAddr, mapped: SocketAddr) -> Option<Finding> {
    let is_hidden =
        Scope::of(server.ip()) == Scope::Global && Scope::of(mapped.ip()) < Scope::Global && mapped.ip() != local.ip();
    if !is_hidden {
        return None;
    }
    let means = "every client seems to come from there: limits per source hit all at once, and addresses for direct \
                 calls are wrong";
    Some(if is_bridge_gateway(mapped.ip()) {
        Kind::Bridge.found(
            format!("the server sees this machine as {}, the gateway of a container bridge", mapped.ip()),
            format!("{means}; each published port may cost a process of the engine besides"),
            "run the container with the host's network (--network host); a bridge serves at most some 200 relay ports",
        )
    } else {
        Kind::HiddenSources.found(
            format!("the server sees this machine as {}, a {} address", mapped.ip(), Scope::of(mapped.ip()).words()),
            format!("{means}; packets of one call may reach different servers"),
            "Kubernetes: hostNetwork, or externalTrafficPolicy: Local; load balancer: keep the client's address \
            (direct return, or the PROXY protocol with streams.proxies)",
        )
    })
}

/// A 401 to a signed request.
pub(super) fn unauthorized(refusal: &Refusal, login: &Login, now: u64, hint: Option<&Hint>) -> Finding {
    let name = shown(&login.username);
    let saw = format!("the server refuses the credential of {name:?}: 401 {}", shown(&refusal.reason));
    let looked_at = login.looked_at(now);
    if let Some(finding) = looked_at.into_iter().find(|finding| finding.severity == Severity::Error) {
        return finding;
    }
    if crate::credentials::parse_username(&login.username).is_none() {
        return Kind::User.found(
            saw,
            "the name has no time stamp, so it is taken for a static user: the server does not know it, or the \
            password differs. A server with only a shared secret wants EXPIRY:USER",
            "add the user to credentials.users (coturn: user=, which excludes use-auth-secret), or mint a time-limited \
            credential with the shared secret",
        );
    }
    match hint {
        Some(Hint::ClockAhead) => Kind::Clock
            .found(
                format!("{saw}; with an expiry ten years ahead it is accepted"),
                "the secret is right, so the server's clock is ahead of this machine's by more than the lifetime",
                "compare `date -u` on both, and switch on time synchronisation (`timedatectl set-ntp true`)",
            )
            .severity(Severity::Error),
        Some(Hint::Takes(words)) => Kind::Secret.found(
            format!("{saw}; the server takes the secret {words}"),
            "one side has read the secret differently",
            format!("configure both sides with the same text: here the server's secret is ours {words}"),
        ),
        Some(Hint::Made(words)) if hints::is_right(words) => Kind::Secret.found(
            saw,
            "the password is the right one for the secret that this command was given: the server has another",
            "compare the secret of the server (credentials.secrets) with that of the app, byte by byte",
        ),
        Some(Hint::Made(words)) => Kind::Secret.found(
            format!("{saw}; the password was made {words}"),
            "the app and the server have the same secret but compute different passwords",
            "compute password = base64(HMAC-SHA1(secret, username)), over the whole user name, in standard base64",
        ),
        None => Kind::Secret.found(
            saw,
            "the time stamp is good, so the password was made with another secret than the server's",
            "compare the secrets byte by byte: a newline at the end, quotes, or base64 that one side decodes",
        ),
    }
}

/// Any other error to Allocate.
pub(super) fn refused(refusal: &Refusal, login: &Login, server: SocketAddr) -> Finding {
    let saw = format!("{} {} to Allocate at {server}", refusal.code, shown(&refusal.reason));
    match refusal.code {
        486 => Kind::Quota.found(
            format!("{saw} of {:?}", shown(&login.username)),
            "the user, or this source address, has as many allocations as the limits grant",
            "`turnwell status --user NAME` shows them; raise limits.allocations-per-user or -per-source \
            (coturn: user-quota), or mint one name per person",
        ),
        508 => Kind::Limits
            .found(
                saw,
                "the server has no relay port, descriptor or allocation left, or cannot bind the relay address",
                "look at /metrics (turnwell_ports_in_use, turnwell_quota_rejections_total) and widen relay.ports, \
                limits.allocations or LimitNOFILE",
            )
            .severity(Severity::Error),
        403 => Kind::Refused.found(
            saw,
            "the server grants no allocation to anybody: it has no credentials, is draining, or serves STUN only",
            "set credentials.secret-files or users, or send the clients to another server",
        ),
        300 => Kind::Refused.found(
            saw,
            "the server sends clients to another one; browsers follow, many others do not",
            "test the other server by its own URL",
        ),
        440 => Kind::Refused.found(
            saw,
            "the server has no relay address of the family that this connection has",
            "give it one (relay.addresses), or do not publish addresses of that family",
        ),
        _ => Kind::Refused.found(
            saw,
            "the server grants no allocation",
            "look for the code in its log and in its manual",
        ),
    }
}

pub(super) fn anonymous() -> Finding {
    Kind::OpenRelay.found(
        "an allocation was granted without any credential",
        "everybody relays through this server, into the Internet and into its networks: it will be abused",
        "configure a shared secret or users (coturn: use-auth-secret or lt-cred-mech, and no no-auth)",
    )
}

pub(super) fn no_challenge(refusal: Option<&Refusal>) -> Finding {
    let code = refusal.map(|refusal| format!("{} {}", refusal.code, shown(&refusal.reason))).unwrap_or_default();
    Kind::Challenge
        .found(
            format!("the first answer is {code} without REALM and NONCE"),
            "every client first asks without a credential and is challenged; without realm and nonce it cannot sign, \
            and takes the answer for a refusal",
            "set the realm (coturn: realm=, and lt-cred-mech or use-auth-secret); a proxy must not touch STUN",
        )
        .severity(Severity::Error)
}

pub(super) fn unsigned() -> Finding {
    Kind::Unsigned.found(
        "the server's success response is not signed with our password",
        "somebody on the way answers in its name, or its implementation is broken; browsers drop such answers",
        "try from another network; capture the answer and look at it with `turnwell decode`",
    )
}

pub(super) fn silent_after_challenge() -> Finding {
    Kind::Refused.found(
        "the server challenges, and does not answer the request with the credential",
        "the longer request is lost on the way (a firewall that looks into STUN, a path with a small MTU), or the \
        server waits for a database",
        "try over TCP, then look at the server's log",
    )
}

pub(super) fn failed(error: &str) -> Finding {
    Kind::Refused.found(
        format!("the answer to Allocate cannot be used: {}", shown(error)),
        "it lacks what RFC 8656 §7.3 asks for",
        "capture it and look at it with `turnwell decode`",
    )
}

/// No data between two allocations of one server.
pub(super) fn own_relay(passage: &Passage, one: SocketAddr, two: SocketAddr) -> Finding {
    let means = "when both sides of a call need the relay, their packets must go from one relayed address to the other: \
                 such calls fail";
    match passage {
        Passage::Refused(refusal) => Kind::OwnRelay.found(
            format!(
                "{} {} to the permission for the relayed address {}",
                refusal.code,
                shown(&refusal.reason),
                two.ip()
            ),
            means,
            format!(
                "allow the server's own relay and external address as a peer (coturn: allowed-peer-ip={})",
                two.ip()
            ),
        ),
        Passage::Through | Passage::NothingIn | Passage::NothingOut | Passage::Untried(_) => Kind::OwnRelay.found(
            format!("nothing arrives from {one} at {two}"),
            means,
            "the NAT must send packets from the server to its own public address back to it (hairpin), or the server \
            must deliver them itself, as Turnwell does for relay.external",
        ),
    }
}

/// A permission for our own address was refused; true when that is as it should be.
pub(super) fn peer_refused(refusal: &Refusal, ip: IpAddr) -> (bool, Finding) {
    let saw = format!("{} {} to the permission for {ip}", refusal.code, shown(&refusal.reason));
    match (refusal.code, Scope::of(ip)) {
        (403, Scope::Machine | Scope::Link | Scope::Site) => (
            true,
            Kind::PrivatePeer.found(
                saw,
                format!(
                    "this machine has a {} address, and the server relays to none of those: the same happens with the \
                    LAN candidates of most calls, and is harmless",
                    Scope::of(ip).words()
                ),
                "nothing, unless peers stand in the server's own network: then allow it in peers.allow. To test the \
                relay ports, run this command from another network",
            ),
        ),
        (403, Scope::Global) => (
            false,
            Kind::Refused.found(
                saw,
                "the server's lists deny this machine's public address as a peer",
                "look at peers.deny and peers.allow (coturn: denied-peer-ip); documentation ranges are denied by default",
            ),
        ),
        (_, _) => (false, Kind::Refused.found(saw, "the server grants no permission", "look for the code in its log")),
    }
}

/// The way from or to a peer outside is closed.
pub(super) fn ports(passage: &Passage, relayed: SocketAddr) -> Finding {
    let (ip, port) = (relayed.ip(), relayed.port());
    let remedy = format!(
        "open UDP for the whole range (relay.ports, by default 49152-65535) to {ip}: \
        `ufw allow 49152:65535/udp`, or `nft add rule inet filter input udp dport 49152-65535 accept`; in a cloud its \
        security group; in Docker publish each port or use the host's network; a NAT must keep ports as they are"
    );
    match passage {
        Passage::NothingOut => Kind::RelayPorts.found(
            format!("packets reach {relayed}, but none comes back from there"),
            "the server's firewall stops what it sends from its relay ports",
            remedy,
        ),
        Passage::Through | Passage::Refused(_) | Passage::NothingIn | Passage::Untried(_) => Kind::RelayPorts.found(
            format!("UDP to the relay port {port} of {ip} does not arrive"),
            "a firewall or a NAT stops it: the other sides of calls cannot reach this server's clients",
            remedy,
        ),
    }
}

/// Addresses that the relay leads to and must not.
pub(super) fn open(reached: &[IpAddr], relayed: IpAddr) -> Option<Finding> {
    if reached.is_empty() {
        return None;
    }
    let list: Vec<String> = reached.iter().map(ToString::to_string).collect();
    let only_private = reached.iter().all(|ip| Scope::of(*ip) == Scope::Site);
    let in_lan = Scope::of(relayed) < Scope::Global;
    let finding = Kind::OpenRelay.found(
        format!("permissions were granted for {}", list.join(", ")),
        "whoever has a credential sends UDP into the server's own machine or networks: to its databases, its cloud's \
        metadata service, its neighbours",
        "leave special-purpose ranges out of peers.allow, or name single hosts (coturn: denied-peer-ip for each, and no \
        allow-loopback-peers)",
    );
    Some(if only_private && in_lan { finding.severity(Severity::Warning) } else { finding })
}

/// What a stream says that is no STUN.
pub(super) fn foreign(bytes: &[u8], server: SocketAddr) -> Option<Finding> {
    match bytes {
        [0x15 | 0x16, 3, ..] => Some(tls_there(server)),
        bytes if bytes.starts_with(b"HTTP/") => Some(
            Kind::Http
                .found(
                    format!("{server} answers in HTTP"),
                    "a web server or an HTTP proxy stands there, not a TURN server",
                    "correct the port, or pass the connection on as a TCP stream (docs/proxies.md)",
                )
                .severity(Severity::Error),
        ),
        _ => None,
    }
}

pub(super) fn tls_there(server: SocketAddr) -> Finding {
    Kind::TlsMismatch.found(
        format!("{server} speaks TLS, the URL says turn: over TCP"),
        "clients send STUN in the clear and the server hangs up",
        "write turns:HOST:PORT?transport=tcp, or let the port take both (listen.auto)",
    )
}

pub(super) fn plain_there(server: SocketAddr) -> Finding {
    Kind::TlsMismatch.found(
        format!("{server} speaks TURN without TLS, the URL says turns:"),
        "the TLS handshake of clients fails (browsers: icecandidateerror 701)",
        "write turn:HOST:PORT?transport=tcp, or make it a TLS port (listen.tls, listen.auto)",
    )
}

/// A handshake that failed for a reason that TLS names.
pub(super) fn handshake(error: &io::Error, host: &str) -> Option<Finding> {
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    let saw = format!("the TLS handshake for {} fails: {}", shown(host), shown(&error.to_string()));
    match error {
        rustls::Error::AlertReceived(_) => Some(Kind::Certificate.found(
            saw,
            "the server has no certificate for that name, or wants something of the client that browsers do not have",
            "look at the server's log; coturn: cert and pkey must be readable, CA-file must not be set",
        )),
        rustls::Error::PeerIncompatible(_) => Some(Kind::Certificate.found(
            saw,
            "the server offers no version or cipher of TLS that current clients take",
            "allow TLS 1.2 and 1.3 with ECDHE suites",
        )),
        _ => None,
    }
}
