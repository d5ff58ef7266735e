//! What a client needs to use this server: URLs by which it is reached, and a credential, as one JSON body.
//!
//! The body is a superset of what browsers (`iceServers`), draft-uberti and Janus (`username`, `password`, `ttl`,
//! `uris`) and Matrix read. URLs follow RFC 7064 and RFC 7065.

use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use super::config::Fixed;
use crate::credentials::{Credentials, IssueError};
use crate::net::{StreamKind, StreamListener};

/// Browsers warn when they are given five servers or more: discovery becomes slow.
const MOST_URIS: usize = 4;

/// The URLs by which clients reach this server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Uris {
    stun: Vec<String>,
    turn: Vec<String>,
}

/// How a client speaks to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
    Tls,
}

impl Transport {
    /// That of a URI (RFC 7065 §3.1).
    fn of(uri: &str) -> Transport {
        match uri {
            uri if uri.starts_with("turns:") || uri.starts_with("stuns:") => Transport::Tls,
            uri if uri.ends_with("?transport=tcp") => Transport::Tcp,
            _ => Transport::Udp,
        }
    }
}

/// The family of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Ipv4,
    Ipv6,
}

impl Family {
    /// Whether a URI may lead to an address of this family; a name may lead anywhere.
    fn may_be_of(self, uri: &str) -> bool {
        let host = uri.split_once(':').map_or(uri, |(_, host)| host);
        match self {
            Family::Ipv6 => host.starts_with('[') || !host.starts_with(|first: char| first.is_ascii_digit()),
            Family::Ipv4 => !host.starts_with('['),
        }
    }
}

/// By which address clients reach a listener on every address (`0.0.0.0`, `[::]`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wildcard {
    /// By the machine's most public address.
    MostPublic,
    /// By the loopback address: everything runs on one machine.
    Loopback,
}

impl Uris {
    /// By the public host if there is one, else by the listeners' addresses as the NAT shows them.
    pub(super) fn new(fixed: &Fixed, reached: &[SocketAddr], public_host: Option<&str>) -> Uris {
        let mut hosts: Vec<String> = Vec::new();
        for address in reached {
            let host = match public_host {
                Some(host) => host.parse().map_or_else(|_| host.to_owned(), uri_host),
                None => uri_host(outside(fixed, address.ip())),
            };
            let host = format!("{host}:{}", address.port());
            if !hosts.contains(&host) {
                hosts.push(host);
            }
        }
        Uris {
            stun: hosts.iter().take(1).map(|host| format!("stun:{host}")).collect(),
            turn: hosts.iter().take(MOST_URIS - 1).map(|host| format!("turn:{host}?transport=udp")).collect(),
        }
    }
}

impl Uris {
    /// Adds those of TCP and TLS: one of each before a second of UDP, since whoever needs them has no other way.
    pub(super) fn and_streams(mut self, fixed: &Fixed, reached: &[StreamListener], public_host: Option<&str>) -> Uris {
        let first = |kinds: [StreamKind; 2], scheme: &str| {
            let listener = reached.iter().find(|listener| kinds.contains(&listener.kind))?;
            let host = match public_host {
                Some(host) => host.parse().map_or_else(|_| host.to_owned(), uri_host),
                None => uri_host(outside(fixed, listener.addr.ip())),
            };
            Some(format!("{scheme}:{host}:{}?transport=tcp", listener.addr.port()))
        };
        let tcp = first([StreamKind::Tcp, StreamKind::Auto], "turn");
        let tls = first([StreamKind::Tls, StreamKind::Auto], "turns");
        let streams: Vec<String> = tcp.into_iter().chain(tls).collect();
        self.turn.truncate(MOST_URIS - 1 - streams.len());
        self.turn.extend(streams);
        self
    }

    /// Those that the caller can use; none when TURN has none of them.
    pub(super) fn narrowed(&self, transports: Option<&[Transport]>, family: Option<Family>) -> Option<Uris> {
        let fits = |uri: &&String| family.is_none_or(|family| family.may_be_of(uri));
        let wanted = |uri: &&String| transports.is_none_or(|wanted| wanted.contains(&Transport::of(uri)));
        let stun = self.stun.iter().filter(fits).cloned().collect();
        let turn: Vec<String> = self.turn.iter().filter(fits).filter(wanted).cloned().collect();
        (!turn.is_empty()).then_some(Uris { stun, turn })
    }
}

/// An address in a URI: IPv6 in brackets (RFC 7065 §3.1, RFC 3986 §3.2.2).
fn uri_host(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// The listeners to name to clients: those whose address is configured, else one per family.
pub(super) fn reached(fixed: &Fixed, listening: &[SocketAddr], wildcard: Wildcard) -> Vec<SocketAddr> {
    among(&fixed.udp, listening, wildcard)
}

/// As [`reached`], for the TCP and TLS listeners.
pub(super) fn reached_streams(fixed: &Fixed, listening: &[StreamListener], wildcard: Wildcard) -> Vec<StreamListener> {
    let of_kind = |kind: StreamKind| {
        let of = move |all: &[StreamListener]| -> Vec<SocketAddr> {
            all.iter().filter(|listener| listener.kind == kind).map(|listener| listener.addr).collect()
        };
        let found = among(&of(&fixed.streams), &of(listening), wildcard);
        found.into_iter().map(move |addr| StreamListener { addr, kind })
    };
    [StreamKind::Tcp, StreamKind::Tls, StreamKind::Auto].into_iter().flat_map(of_kind).collect()
}

fn among(configured: &[SocketAddr], listening: &[SocketAddr], wildcard: Wildcard) -> Vec<SocketAddr> {
    let is_configured = |address: &SocketAddr| {
        let is_it = |other: &SocketAddr| other.ip() == address.ip() && [0, address.port()].contains(&other.port());
        configured.iter().any(is_it)
    };
    let named: Vec<SocketAddr> = listening.iter().copied().filter(is_configured).collect();
    if !named.is_empty() {
        return named;
    }
    let best = |ipv4: bool, rank: fn(IpAddr) -> u8| {
        listening.iter().copied().filter(|address| address.is_ipv4() == ipv4).min_by_key(|address| rank(address.ip()))
    };
    match wildcard {
        Wildcard::Loopback => {
            let loopback = |ip: IpAddr| u8::from(!ip.is_loopback());
            best(true, loopback).or_else(|| best(false, loopback)).into_iter().collect()
        }
        Wildcard::MostPublic => {
            let all = [best(true, privacy), best(false, privacy)];
            let most_public = all.iter().flatten().map(|address| privacy(address.ip())).min();
            all.into_iter().flatten().filter(|address| Some(privacy(address.ip())) == most_public).collect()
        }
    }
}

/// How few clients reach this address: 0 = global, 1 = the site, 2 = the link, 3 = the machine.
fn privacy(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(v4) if v4.is_loopback() => 3,
        IpAddr::V4(v4) if v4.is_link_local() => 2,
        IpAddr::V4(v4) if v4.is_private() => 1,
        IpAddr::V6(v6) if v6.is_loopback() => 3,
        IpAddr::V6(v6) if v6.is_unicast_link_local() => 2,
        IpAddr::V6(v6) if v6.is_unique_local() => 1,
        IpAddr::V4(_) | IpAddr::V6(_) => 0,
    }
}

/// The address as the rest of the world sees it.
fn outside(fixed: &Fixed, address: IpAddr) -> IpAddr {
    let mapped = fixed.relays.iter().find(|relay| relay.local == address).and_then(|relay| relay.external);
    mapped.unwrap_or(address)
}

/// What somebody asks for.
pub(super) struct Order<'a> {
    /// The user part of the name.
    pub(super) user: Option<&'a str>,
    /// For how many seconds.
    pub(super) ttl: u64,
    /// `all` or `relay`, passed on to the browser.
    pub(super) policy: Policy,
}

/// Which candidates the browser may use (`iceTransportPolicy` of WebRTC).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Policy {
    /// Any.
    #[default]
    All,
    /// Relayed ones only.
    Relay,
}

/// The superset body.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Answer {
    pub(super) ice_servers: Vec<IceServer>,
    ice_transport_policy: Policy,
    pub(super) username: String,
    pub(super) password: String,
    ttl: u64,
    uris: Vec<String>,
    pub(super) expires_at: String,
}

/// An `RTCIceServer` of WebRTC.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct IceServer {
    pub(super) urls: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) username: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) credential: Option<String>,
}

impl Answer {
    /// Issues a credential and wraps it.
    pub(super) fn mint(
        credentials: &Credentials,
        uris: &Uris,
        order: &Order<'_>,
        now: u64,
    ) -> Result<Answer, IssueError> {
        let expires = now.saturating_add(order.ttl);
        let issued = credentials.issue(order.user, expires)?;
        let turn = IceServer {
            urls: uris.turn.clone(),
            username: Some(issued.username.clone()),
            credential: Some(issued.password.clone()),
        };
        let stun = IceServer { urls: uris.stun.clone(), username: None, credential: None };
        let stun = (!stun.urls.is_empty()).then_some(stun);
        Ok(Answer {
            ice_servers: stun.into_iter().chain([turn]).collect(),
            ice_transport_policy: order.policy,
            username: issued.username,
            password: issued.password,
            ttl: order.ttl,
            uris: uris.turn.clone(),
            expires_at: rfc3339(expires),
        })
    }

    /// What Matrix' `turnServer` answers.
    pub(super) fn for_matrix(self) -> serde_json::Value {
        serde_json::json!({
            "username": self.username,
            "password": self.password,
            "uris": self.uris,
            "ttl": self.ttl,
        })
    }

    /// Janus splits URIs at every colon: names IPv6 literals only when there is nothing else.
    pub(super) fn for_colon_splitters(mut self) -> Answer {
        if self.uris.iter().any(|uri| !uri.contains('[')) {
            self.uris.retain(|uri| !uri.contains('['));
        }
        self
    }
}

/// A time as RFC 3339 writes it, in UTC.
fn rfc3339(unix: u64) -> String {
    let (days, second) = (unix / 86_400, unix % 86_400);
    // days since 0000-03-01 in the proleptic Gregorian calendar, so that the leap day ends a year
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::super::config::{Config, File, Source};
    use super::*;

    fn uris(toml: &str, listening: &[&str], public_host: Option<&str>, wildcard: Wildcard) -> Uris {
        let file: File = toml::from_str(toml).unwrap();
        let fixed = Config::resolve(&file, &Source::none()).unwrap_or_else(|error| panic!("{error}")).fixed;
        let listening: Vec<SocketAddr> = listening.iter().map(|text| text.parse().unwrap()).collect();
        Uris::new(&fixed, &reached(&fixed, &listening, wildcard), public_host)
    }

    #[test]
    fn streams_are_named_within_the_limit() {
        let toml = "[listen]\ntcp = [\"0.0.0.0:3478\"]\ntls = [\"192.0.2.1:5349\"]";
        let file: File = toml::from_str(toml).unwrap();
        let mut fixed =
            Config::resolve(&File::default(), &Source::none()).unwrap_or_else(|error| panic!("{error}")).fixed;
        let tcp = |ip: &str| StreamListener { addr: format!("{ip}:3478").parse().unwrap(), kind: StreamKind::Tcp };
        let tls = StreamListener { addr: "192.0.2.1:5349".parse().unwrap(), kind: StreamKind::Tls };
        assert!(file.listen.tcp.len() == 1 && file.listen.tls.len() == 1);
        fixed.streams = vec![tcp("0.0.0.0"), tls];
        let listening = [tcp("127.0.0.1"), tcp("192.0.2.1"), tls];
        let streams = reached_streams(&fixed, &listening, Wildcard::MostPublic);
        assert_eq!(streams, [tcp("192.0.2.1"), tls]);
        let udp = ["192.0.2.1:3478".parse().unwrap(), "[2001:db8::1]:3478".parse().unwrap()];
        let uris = Uris::new(&fixed, &udp, None).and_streams(&fixed, &streams, None);
        assert_eq!(uris.stun, ["stun:192.0.2.1:3478"]);
        let all = [
            "turn:192.0.2.1:3478?transport=udp",
            "turn:192.0.2.1:3478?transport=tcp",
            "turns:192.0.2.1:5349?transport=tcp",
        ];
        assert_eq!(uris.turn, all);
        let auto = [StreamListener { kind: StreamKind::Auto, ..tls }];
        let uris = Uris::new(&fixed, &udp[..1], None).and_streams(&fixed, &auto, Some("turn.example.org"));
        assert_eq!(
            uris.turn[1..],
            ["turn:turn.example.org:5349?transport=tcp", "turns:turn.example.org:5349?transport=tcp"]
        );
    }

    #[test]
    fn the_public_host_names_every_url_once() {
        let listening = ["192.0.2.1:3478", "[2001:db8::1]:3478", "192.0.2.1:80"];
        let uris = uris("", &listening, Some("turn.example.org"), Wildcard::MostPublic);
        assert_eq!(uris.stun, ["stun:turn.example.org:3478"]);
        assert_eq!(uris.turn, ["turn:turn.example.org:3478?transport=udp"]);
    }

    #[test]
    fn there_are_at_most_four_urls_and_ipv6_has_brackets() {
        let udp = "[listen]\nudp = [\"[2001:db8::1]:3478\", \"192.0.2.1:1\", \"192.0.2.1:2\", \"192.0.2.1:3\"]\n";
        let listening = ["[2001:db8::1]:3478", "192.0.2.1:1", "192.0.2.1:2", "192.0.2.1:3"];
        let uris = uris(udp, &listening, None, Wildcard::MostPublic);
        assert_eq!(uris.stun, ["stun:[2001:db8::1]:3478"]);
        assert_eq!(uris.turn.len(), 3);
        assert_eq!(uris.turn[0], "turn:[2001:db8::1]:3478?transport=udp");
        let literal = super::tests::uris("", &["192.0.2.1:5"], Some("2001:db8::2"), Wildcard::MostPublic);
        assert_eq!(literal.stun, ["stun:[2001:db8::2]:5"]);
    }

    #[test]
    fn a_wildcard_listener_is_named_by_its_most_public_addresses_or_by_loopback() {
        let listening =
            ["127.0.0.1:3478", "10.0.0.2:3478", "8.8.8.8:3478", "[::1]:3478", "[fe80::1]:3478", "[2a00::1]:3478"];
        let public = uris("", &listening, None, Wildcard::MostPublic);
        assert_eq!(public.turn, ["turn:8.8.8.8:3478?transport=udp", "turn:[2a00::1]:3478?transport=udp"]);
        assert_eq!(uris("", &listening, None, Wildcard::Loopback).turn, ["turn:127.0.0.1:3478?transport=udp"]);
        let v4_only = uris("", &["10.0.0.2:3478", "[fe80::1]:3478"], None, Wildcard::MostPublic);
        assert_eq!(v4_only.turn, ["turn:10.0.0.2:3478?transport=udp"]);
    }

    #[test]
    fn behind_nat_the_url_has_the_public_address() {
        let nat = "[listen]\nudp = [\"10.0.0.2:3478\"]\n\
                   [relay]\nexternal = [{ local = \"10.0.0.2\", public = \"203.0.113.7\" }]\n";
        assert_eq!(uris(nat, &["10.0.0.2:3478"], None, Wildcard::MostPublic).stun, ["stun:203.0.113.7:3478"]);
    }

    #[test]
    fn a_configured_address_with_port_0_is_named_by_its_real_port() {
        let free = uris("[listen]\nudp = [\"127.0.0.1:0\"]\n", &["127.0.0.1:41234"], None, Wildcard::Loopback);
        assert_eq!(free.turn, ["turn:127.0.0.1:41234?transport=udp"]);
    }

    #[test]
    fn times_are_written_as_rfc_3339() {
        for (unix, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_767_225_600, "2026-01-01T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(unix), text);
        }
    }
}
