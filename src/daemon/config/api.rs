//! What the section `[api]` means: who may call, how often, and from where.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::api_key::{ApiKeys, Client, Scope};
use super::file;
use super::problem::Fault;
use super::resolve::without_overlap;
use super::secret::Places;
use super::streams::Pair;
use super::units::Period;
use super::{ApiListener, MintRules};
use crate::net::Certificate;

const LONGEST_ID: usize = 64;
const LONGEST_PREFIX: usize = 64;
/// A Unix socket's path, with the zero at its end, fills 108 bytes.
const LONGEST_SOCKET: usize = 107;

impl file::Api {
    pub(super) fn rules(&self, public_host: Option<String>, places: &Places) -> Result<MintRules, Fault> {
        let keys = self.all_keys(places)?;
        check_ttl("api", Some(self.default_ttl), self.max_ttl)?;
        for (index, origin) in self.cors_origins.iter().enumerate() {
            check_origin(&format!("api.cors-origins[{index}]"), origin)?;
        }
        Ok(MintRules {
            keys,
            default_ttl: self.default_ttl.duration().as_secs(),
            max_ttl: self.max_ttl.duration().as_secs(),
            public_host,
            failure_rate: self.failure_rate,
            cors_origins: self.cors_origins.clone(),
            socket_trusted: self.socket_trusted,
            metrics_open: self.metrics_open,
        })
    }

    fn all_keys(&self, places: &Places) -> Result<ApiKeys, Fault> {
        let mut keys = ApiKeys::new();
        let from_files = places.read_all("api.key-files", &self.key_files)?;
        let names = (0..self.keys.len()).map(|index| format!("api.keys[{index}]"));
        let names = names.chain((0..from_files.len()).map(|index| format!("api.key-files[{index}]")));
        for (name, key) in names.zip(self.keys.iter().chain(&from_files)) {
            let id = name.trim_start_matches("api.").into();
            let (scopes, rate) = (vec![Scope::Mint], self.rate);
            let client =
                Client { id, is_named: false, scopes, default_ttl: None, max_ttl: None, user_prefix: "".into(), rate };
            keys.add_configured(&name, key, client)?;
        }
        let mut ids = HashSet::new();
        for (index, entry) in self.clients.iter().enumerate() {
            let name = format!("api.clients[{index}]");
            if !ids.insert(&entry.id) {
                let what = "there are two clients of this id";
                return Err(Fault::new(format!("{name}.id"), what, "give each client an id of its own"));
            }
            let client = entry.client(&name, self)?;
            keys.add_configured(&format!("{name}.key"), &entry.key, client)?;
        }
        Ok(keys)
    }

    /// Where the API listens: on loopback; elsewhere with keys, and with TLS or the operator's word that plain text is
    /// all right. `has_certificate` tells whether TURN has a certificate.
    pub(super) fn listeners(&self, has_certificate: bool) -> Result<Vec<ApiListener>, Fault> {
        let has_key = !self.keys.is_empty() || !self.key_files.is_empty() || !self.clients.is_empty();
        let beyond = |listener: &(usize, SocketAddr)| !listener.1.ip().is_loopback();
        let listeners = self.listen.iter().map(|endpoint| endpoint.0);
        for (index, listener) in listeners.enumerate().filter(beyond) {
            let wrong = |what: &str, remedy: &str| {
                Err(Fault::new(
                    format!("api.listen[{index}]"),
                    format!("{listener} is not a loopback address and {what}"),
                    remedy,
                ))
            };
            if !has_key {
                return wrong("there is no API key", "set api.clients or api.key-files, or listen on 127.0.0.1");
            }
            if self.speaks_tls(listener) && self.certificate.is_empty() && !has_certificate {
                return wrong(
                    "there is no certificate, so that keys and credentials could be read on the way",
                    "set api.certificate and api.certificate-key, or those of [tls]; or listen on 127.0.0.1, or set \
                     api.insecure-http = true if the network is trusted",
                );
            }
        }
        let listeners = without_overlap("api.listen", self.listen.iter().map(|endpoint| endpoint.0).collect())?;
        Ok(listeners.into_iter().map(|addr| ApiListener { addr, tls: self.speaks_tls(addr) }).collect())
    }

    fn speaks_tls(&self, listener: SocketAddr) -> bool {
        !self.certificate.is_empty() || !(listener.ip().is_loopback() || self.insecure_http)
    }

    /// The API's own certificate, if it has one; else that of TURN serves.
    pub(super) fn certificate(&self, places: &Places) -> Result<Option<Certificate>, Fault> {
        let pair = Pair {
            certificate: ("api.certificate", &self.certificate),
            key: ("api.certificate-key", &self.certificate_key),
            remedy: "name the PEM files in api.certificate and api.certificate-key, or in neither",
        };
        pair.load(false, places)
    }

    pub(super) fn socket(&self) -> Result<Option<PathBuf>, Fault> {
        match self.socket.as_str() {
            "" => Ok(None),
            path if path.starts_with('/') && path.len() <= LONGEST_SOCKET => Ok(Some(path.into())),
            _ => Err(Fault::new(
                "api.socket",
                "this is not an absolute path of at most 107 bytes",
                "write a path such as \"/run/turnwell/api.sock\"",
            )),
        }
    }

    /// Whether the file itself holds a key in plain text, so that it must not be open to everybody.
    pub(super) fn has_secret(&self) -> bool {
        let keys = self.keys.iter().chain(self.clients.iter().map(|client| &client.key));
        keys.into_iter().any(|key| !ApiKeys::is_hashed(key))
    }
}

impl file::ApiClient {
    fn client(&self, name: &str, api: &file::Api) -> Result<Client, Fault> {
        check_id(&format!("{name}.id"), &self.id)?;
        if self.scopes.is_empty() {
            let remedy = "write scopes = [\"mint\"], or more of mint, revoke, admin and metrics";
            return Err(Fault::new(format!("{name}.scopes"), "with no scope the key is of no use", remedy));
        }
        if self.user_prefix.len() > LONGEST_PREFIX || self.user_prefix.chars().any(char::is_control) {
            let what = "the prefix is longer than 64 bytes or has control characters";
            return Err(Fault::new(format!("{name}.user-prefix"), what, "write a shorter one, such as \"shop-\""));
        }
        let max_ttl = self.max_ttl.unwrap_or(api.max_ttl);
        check_ttl(name, self.default_ttl, max_ttl)?;
        let seconds = |period: Period| period.duration().as_secs();
        // a client that sets only a maximum below the common default gets its maximum
        let default_ttl = self.default_ttl.unwrap_or(api.default_ttl);
        Ok(Client {
            id: self.id.as_str().into(),
            is_named: true,
            scopes: self.scopes.clone(),
            default_ttl: Some(seconds(default_ttl).min(seconds(max_ttl))),
            max_ttl: Some(seconds(max_ttl)),
            user_prefix: self.user_prefix.as_str().into(),
            rate: self.rate.unwrap_or(api.rate),
        })
    }
}

/// An id that can stand in a key, a path and a log line.
pub(super) fn check_id(name: &str, id: &str) -> Result<(), Fault> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if (1..=LONGEST_ID).contains(&id.len()) && id.bytes().all(plain) {
        return Ok(());
    }
    let what = "the id is empty, longer than 64 characters, or has other characters than a-z, 0-9 and -";
    Err(Fault::new(name, what, "write a short name such as \"shop\""))
}

fn check_ttl(name: &str, default: Option<Period>, max: Period) -> Result<(), Fault> {
    if default.unwrap_or(max).duration().is_zero() {
        return Err(Fault::new(
            format!("{name}.default-ttl"),
            "a credential that is valid for no time is of no use",
            "write at least \"1s\"",
        ));
    }
    match default {
        Some(default) if default.duration() > max.duration() => {
            let what = format!("{default} is more than {name}.max-ttl, which is {max}");
            Err(Fault::new(format!("{name}.default-ttl"), what, "lower the one or raise the other"))
        }
        Some(_) | None => Ok(()),
    }
}

fn check_origin(name: &str, origin: &str) -> Result<(), Fault> {
    let rest = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    let is_host = |rest: &str| {
        !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte))
    };
    if rest.is_some_and(is_host) {
        return Ok(());
    }
    Err(Fault::new(
        name,
        "this is not the origin of a page",
        "write scheme, host and, unless it is the usual one, port, such as \"https://app.example.org\"; no path, no `*`",
    ))
}
