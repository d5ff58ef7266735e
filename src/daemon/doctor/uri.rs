//! URLs of STUN and TURN servers (RFC 7064, RFC 7065), read as strictly as browsers do, with what is wrong in words.

use std::fmt;

/// Where and how a server is to be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Uri {
    /// As it was written.
    pub(super) text: String,
    /// A name, or an address without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) transport: Transport,
    /// Whether relaying is asked for (`turn:`, `turns:`), not only an address (`stun:`, `stuns:`).
    pub(super) relays: bool,
}

/// What carries the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
    Tls,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
            Transport::Tls => "TLS",
        })
    }
}

/// What is wrong with a URL, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) what: String,
    pub(super) remedy: String,
}

fn wrong<T>(what: impl Into<String>, remedy: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong { what: what.into(), remedy: remedy.into() })
}

impl Uri {
    pub(super) fn parse(text: &str) -> Result<Uri, Wrong> {
        let Some((scheme, rest)) = text.split_once(':') else {
            return wrong("there is no scheme", format!("write \"turn:{text}\""));
        };
        let (relays, tls) = match scheme {
            "stun" => (false, false),
            "stuns" => (false, true),
            "turn" => (true, false),
            "turns" => (true, true),
            _ => {
                return wrong(
                    format!("{scheme:?} is no scheme of ICE"),
                    "write stun:, turn: or turns: with host and port",
                );
            }
        };
        if let Some(bare) = rest.strip_prefix("//") {
            return wrong("there are slashes after the colon", format!("write \"{scheme}:{bare}\""));
        }
        if rest.contains('@') {
            return wrong("it names a user", "put user name and password into username and credential");
        }
        let (authority, query) =
            rest.split_once('?').map_or((rest, None), |(authority, query)| (authority, Some(query)));
        if authority.contains('/') {
            return wrong("it has a path", format!("write \"{scheme}:HOST:PORT\" and nothing after it"));
        }
        let (host, port) = host_and_port(authority, if tls { 5349 } else { 3478 })?;
        let transport = transport(relays, tls, query)?;
        Ok(Uri { text: text.to_owned(), host, port, transport, relays })
    }

    /// Whether the host is an address, not a name.
    pub(super) fn is_literal(&self) -> bool {
        self.host.parse::<std::net::IpAddr>().is_ok()
    }

    /// Browsers speak to few ports below 1024, whatever listens there.
    pub(super) fn is_blocked_by_browsers(&self) -> bool {
        self.port < 1024 && ![80, 443].contains(&self.port)
    }
}

fn host_and_port(authority: &str, default: u16) -> Result<(String, u16), Wrong> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((host, "")) => (host, None),
            Some((host, port)) if port.starts_with(':') => (host, Some(&port[1..])),
            Some(_) | None => return wrong("the bracket is not closed", "write an IPv6 address as \"[2001:db8::1]\""),
        },
        None if authority.matches(':').count() > 1 => {
            return wrong("an IPv6 address stands without brackets", format!("write \"[{authority}]\""));
        }
        None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
    };
    if host.is_empty() {
        return wrong("there is no host", "write the server's name after the scheme");
    }
    match port.map(str::parse::<u16>) {
        None => Ok((host.to_owned(), default)),
        Some(Ok(port)) if port != 0 => Ok((host.to_owned(), port)),
        Some(_) => wrong("the port is no number between 1 and 65535", "write the port after a colon, such as 3478"),
    }
}

fn transport(relays: bool, tls: bool, query: Option<&str>) -> Result<Transport, Wrong> {
    let value = match query {
        None => None,
        Some(_) if !relays => {
            return wrong("a STUN URL has a query", "leave out what begins with the question mark; browsers refuse it");
        }
        Some(query) => match query.split_once('=') {
            Some(("transport", value)) => Some(value),
            Some(_) | None => {
                return wrong(
                    format!("the query {query:?} is not ?transport="),
                    "write ?transport=udp or ?transport=tcp",
                );
            }
        },
    };
    match (tls, value) {
        (false, None | Some("udp")) => Ok(Transport::Udp),
        (false, Some("tcp")) => Ok(Transport::Tcp),
        (true, None | Some("tcp")) => Ok(Transport::Tls),
        (true, Some("udp")) => {
            wrong("turns: over UDP is DTLS, which browsers do not speak", "write turns: with ?transport=tcp")
        }
        (_, Some("tls")) => wrong("?transport=tls is not of RFC 7065", "write turns: with ?transport=tcp"),
        (_, Some(other)) => wrong(format!("there is no transport {other:?}"), "write ?transport=udp or ?transport=tcp"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_urls_are_read() {
        for (text, host, port, transport, relays) in [
            ("stun:h", "h", 3478, Transport::Udp, false),
            ("turn:h.example:3479", "h.example", 3479, Transport::Udp, true),
            ("turn:h?transport=tcp", "h", 3478, Transport::Tcp, true),
            ("turns:h:443?transport=tcp", "h", 443, Transport::Tls, true),
            ("turns:h", "h", 5349, Transport::Tls, true),
            ("turn:[2001:db8::1]:1?transport=udp", "2001:db8::1", 1, Transport::Udp, true),
            ("turn:192.0.2.1", "192.0.2.1", 3478, Transport::Udp, true),
        ] {
            let uri = Uri::parse(text).unwrap();
            assert_eq!((uri.host.as_str(), uri.port, uri.transport, uri.relays), (host, port, transport, relays));
        }
        assert!(Uri::parse("turn:h:53").unwrap().is_blocked_by_browsers());
        assert!(Uri::parse("turn:[::1]").unwrap().is_literal());
    }

    #[test]
    fn each_mistake_is_named() {
        for (text, what) in [
            ("example.org", "no scheme"),
            ("http:h", "no scheme of ICE"),
            ("turn://h", "slashes"),
            ("turn:u:p@h", "names a user"),
            ("turn:h/path", "path"),
            ("turn:", "no host"),
            ("turn:h:0", "port"),
            ("turn:h:x", "port"),
            ("turn:2001:db8::1", "without brackets"),
            ("turn:[::1", "bracket"),
            ("stun:h?transport=udp", "STUN URL has a query"),
            ("turn:h?transport=tls", "transport=tls"),
            ("turn:h?x=y", "not ?transport="),
            ("turn:h?transport=sctp", "no transport"),
            ("turns:h?transport=udp", "DTLS"),
        ] {
            let wrong = Uri::parse(text).unwrap_err();
            assert!(wrong.what.contains(what) && !wrong.remedy.is_empty(), "{text}: {wrong:?}");
        }
    }
}
