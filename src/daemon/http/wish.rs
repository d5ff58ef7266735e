//! What a caller may ask of a credential, read from JSON or from name=value pairs alike.

use axum::body::Bytes;
use axum::extract::{FromRequest, Query, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode, Uri};
use serde_json::{Map, Value};

use super::problem::{Code, Problem};
use crate::daemon::ice::{Family, Policy, Transport};

const LONGEST_LABEL: usize = 64;
const FIELDS: &str = "user, ttl, label, transports, family, iceTransportPolicy and link";

/// What the caller asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) user: Option<String>,
    pub(super) ttl: Option<u64>,
    pub(super) label: Option<String>,
    /// None: all that there are.
    pub(super) transports: Option<Vec<Transport>>,
    pub(super) family: Option<Family>,
    pub(super) policy: Policy,
    /// Whether the answer repeats the servers in `Link` headers, as WHIP clients read them.
    pub(super) link: bool,
}

impl Wish {
    /// Reads a JSON object; a field that is null is as good as absent. No body asks for nothing.
    pub(super) fn from_json(headers: &HeaderMap, body: &[u8]) -> Result<Wish, Problem> {
        let mut wish = Wish::default();
        for (name, value) in json_object(headers, body)? {
            if !value.is_null() {
                wish.set_json(&name, value)?;
            }
        }
        Ok(wish)
    }

    fn set_json(&mut self, name: &str, value: Value) -> Result<(), Problem> {
        match (name, value) {
            ("ttl", value) => self.ttl = Some(value.as_u64().ok_or_else(invalid_ttl)?),
            ("link", Value::Bool(link)) => self.link = link,
            ("link", _) => return Err(Problem::new(Code::InvalidBody, "link is true or false")),
            ("transports", Value::Array(names)) => {
                let names = names.iter().map(|name| name.as_str().unwrap_or_default());
                self.transports = Some(transports(names)?);
            }
            ("transports", _) => return Err(invalid_transports()),
            ("user", Value::String(user)) => self.user = Some(user),
            ("user", _) => return Err(Problem::new(Code::InvalidUser, "user is a string")),
            ("label" | "family" | "iceTransportPolicy", value) => {
                // what is no string is no valid value either
                self.set_text(name, value.as_str().unwrap_or("\0"))?;
            }
            (name, _) => return Err(unknown_field(name)),
        }
        Ok(())
    }

    /// Reads the query of a URL; an empty value is as good as absent.
    pub(super) fn from_query(uri: &Uri) -> Result<Wish, Problem> {
        let mut wish = Wish::default();
        for (name, value) in pairs(uri)? {
            if !wish.set_pair(&name, &value)? {
                return Err(unknown_field(&name));
            }
        }
        Ok(wish)
    }

    /// Takes one pair; `false` when its name is not known.
    pub(super) fn set_pair(&mut self, name: &str, value: &str) -> Result<bool, Problem> {
        match (name, value) {
            ("user" | "ttl" | "transports" | "link" | "label" | "family" | "iceTransportPolicy", "") => {}
            ("user", user) => self.user = Some(user.to_owned()),
            ("ttl", ttl) => self.ttl = Some(ttl.parse().map_err(|_| invalid_ttl())?),
            ("transports", names) => self.transports = Some(transports(names.split(','))?),
            ("link", "true" | "1") => self.link = true,
            ("link", "false" | "0") => self.link = false,
            ("link", _) => return Err(Problem::new(Code::InvalidQuery, "link is true or false")),
            ("label" | "family" | "iceTransportPolicy", value) => self.set_text(name, value)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn set_text(&mut self, name: &str, value: &str) -> Result<(), Problem> {
        match (name, value) {
            ("family", "ipv4") => self.family = Some(Family::Ipv4),
            ("family", "ipv6") => self.family = Some(Family::Ipv6),
            ("family", _) => return Err(Problem::new(Code::InvalidFamily, "family is \"ipv4\" or \"ipv6\"")),
            ("iceTransportPolicy", "all") => self.policy = Policy::All,
            ("iceTransportPolicy", "relay") => self.policy = Policy::Relay,
            ("iceTransportPolicy", _) => {
                let detail = "iceTransportPolicy is \"all\" or \"relay\"";
                return Err(Problem::new(Code::InvalidIceTransportPolicy, detail));
            }
            (_, label) if (1..=LONGEST_LABEL).contains(&label.len()) && !label.chars().any(char::is_control) => {
                self.label = Some(label.to_owned());
            }
            _ => {
                let detail = "label is a string of 1 to 64 bytes without control characters";
                return Err(Problem::new(Code::InvalidLabel, detail));
            }
        }
        Ok(())
    }
}

fn transports<'a>(names: impl Iterator<Item = &'a str>) -> Result<Vec<Transport>, Problem> {
    let mut transports = Vec::new();
    for name in names {
        let transport = match name {
            "udp" => Transport::Udp,
            "tcp" => Transport::Tcp,
            "tls" => Transport::Tls,
            _ => return Err(invalid_transports()),
        };
        if !transports.contains(&transport) {
            transports.push(transport);
        }
    }
    if transports.is_empty() { Err(invalid_transports()) } else { Ok(transports) }
}

/// The pairs of a query.
pub(super) fn pairs(uri: &Uri) -> Result<Vec<(String, String)>, Problem> {
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|_| Problem::new(Code::InvalidQuery, "the query is not made of name=value pairs"))?;
    Ok(pairs)
}

/// The fields of a JSON body; none when there is no body.
pub(super) fn json_object(headers: &HeaderMap, body: &[u8]) -> Result<Map<String, Value>, Problem> {
    if body.is_empty() {
        return Ok(Map::new());
    }
    if !is_json(headers) {
        let detail = "send the body with `Content-Type: application/json`";
        return Err(Problem::new(Code::UnsupportedMediaType, detail));
    }
    serde_json::from_slice(body)
        .map_err(|error| Problem::new(Code::InvalidBody, format!("the body is not a JSON object: {error}")))
}

fn is_json(headers: &HeaderMap) -> bool {
    let name = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let name = name.split(';').next().unwrap_or_default().trim();
    name.eq_ignore_ascii_case("application/json")
}

/// Reads the body of a request, up to the limit.
pub(super) async fn body(request: Request) -> Result<Bytes, Problem> {
    Bytes::from_request(request, &()).await.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::from_status(StatusCode::PAYLOAD_TOO_LARGE),
        _ => Problem::new(Code::InvalidBody, "the body could not be read"),
    })
}

pub(super) fn invalid_ttl() -> Problem {
    Problem::new(Code::InvalidTtl, "ttl is a whole number of seconds, at least 1")
}

fn invalid_transports() -> Problem {
    Problem::new(Code::InvalidTransports, "transports is a list of \"udp\", \"tcp\" and \"tls\", at least one of them")
}

pub(super) fn unknown_field(name: &str) -> Problem {
    let name: String = name.chars().take(64).collect();
    Problem::new(Code::UnknownField, format!("there is no field {name:?}; the fields are {FIELDS}"))
}
