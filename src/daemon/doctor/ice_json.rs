//! `iceServers` as an app hands them to browsers: read leniently, complained about strictly (W3C WebRTC §4.2.3).

use serde_json::Value;

use super::client::Target;
use super::finding::{Finding, Kind, Severity, shown};
use super::login::Login;
use super::uri::{Transport, Uri};

/// Firefox warns from five URLs on, and gathering candidates becomes slow everywhere.
const MOST_URLS: usize = 4;
/// USERNAME has fewer than 509 bytes (RFC 8489 §14.3).
const LONGEST_USERNAME: usize = 508;

/// What was read.
#[derive(Default)]
pub(super) struct IceServers {
    pub(super) targets: Vec<Target>,
    pub(super) findings: Vec<Finding>,
}

impl IceServers {
    /// `{"iceServers": […]}`, the list alone, one entry, or the form of draft-uberti (`uris`).
    pub(super) fn read(text: &str) -> IceServers {
        let mut read = IceServers::default();
        let json: Value = match serde_json::from_str(text) {
            Ok(json) => json,
            Err(error) => {
                read.complain(
                    "",
                    format!("this is no JSON: {error}"),
                    "give the app's answer as it is sent to browsers",
                );
                return read;
            }
        };
        match &json {
            Value::Array(entries) => read.entries(entries),
            Value::Object(object) => match (object.get("iceServers"), object.get("ice_servers"), object.get("uris")) {
                (Some(Value::Array(entries)), _, _) => read.entries(entries),
                (Some(entry), _, _) => {
                    read.complain("iceServers", "iceServers is not a list", "write \"iceServers\": [ … ]");
                    read.entry("iceServers", entry);
                }
                (None, Some(entries), _) => {
                    read.complain(
                        "ice_servers",
                        "the list is called ice_servers",
                        "call it iceServers, or pass its content on",
                    );
                    read.entries(entries.as_array().map(Vec::as_slice).unwrap_or_default());
                }
                (None, None, Some(uris)) => read.uberti(&json, uris),
                (None, None, None) if object.contains_key("urls") || object.contains_key("url") => {
                    read.entry("", &json)
                }
                (None, None, None) => {
                    read.complain("", "there are no iceServers in it", "write {\"iceServers\": [ … ]}")
                }
            },
            _ => read.complain("", "this is neither a list nor an object", "write {\"iceServers\": [ … ]}"),
        }
        let count = read.targets.len();
        if count > MOST_URLS {
            let means =
                "each URL costs every client sockets and time before the call begins; Firefox warns from five on";
            let remedy = "keep one stun:, one turn: over UDP, one over TCP and one turns:";
            read.warn("", format!("there are {count} URLs"), means, remedy);
        }
        read
    }

    /// What browsers take, but not all of them, or not well.
    fn warn(&mut self, at: &str, what: impl Into<String>, means: &str, remedy: &str) {
        let finding = Kind::IceJson.found(what.into(), means, remedy).severity(Severity::Warning);
        self.findings.push(if at.is_empty() { finding } else { finding.at(at) });
    }

    fn complain(&mut self, at: &str, what: impl Into<String>, remedy: impl Into<String>) {
        let means = "browsers throw, or leave the server out without a word";
        let finding = Kind::IceJson.found(what.into(), means, remedy.into());
        self.findings.push(if at.is_empty() { finding } else { finding.at(at) });
    }

    fn entries(&mut self, entries: &[Value]) {
        if entries.is_empty() {
            self.complain("iceServers", "the list is empty", "put the server's URLs into it");
        }
        for (index, entry) in entries.iter().enumerate() {
            self.entry(&format!("iceServers[{index}]"), entry);
        }
    }

    fn entry(&mut self, at: &str, entry: &Value) {
        let urls = match (entry.get("urls"), entry.get("url"), entry.get("uris")) {
            (Some(urls), _, _) => texts(urls),
            (None, Some(urls), _) => {
                self.complain(at, "the entry has url instead of urls", "call it urls; url is gone from browsers");
                texts(urls)
            }
            (None, None, Some(urls)) => {
                self.complain(
                    at,
                    "the entry has uris instead of urls",
                    "call it urls; uris is the word of draft-uberti",
                );
                texts(urls)
            }
            (None, None, None) => Vec::new(),
        };
        if urls.is_empty() {
            return self.complain(at, "the entry has no urls", "write \"urls\": [\"turn:HOST:3478?transport=udp\"]");
        }
        let credential = entry.get("credential").and_then(Value::as_str);
        let password = entry.get("password").and_then(Value::as_str);
        if credential.is_none() && password.is_some() {
            self.complain(at, "the entry has password instead of credential", "call it credential");
        }
        let login = self.login(at, entry.get("username").and_then(Value::as_str), credential.or(password));
        for url in urls {
            self.url(at, &url, login.as_ref());
        }
    }

    fn uberti(&mut self, json: &Value, uris: &Value) {
        let text = |name: &str| json.get(name).and_then(Value::as_str);
        let login = self.login("", text("username"), text("password"));
        for url in texts(uris) {
            self.url("uris", &url, login.as_ref());
        }
    }

    fn login(&mut self, at: &str, username: Option<&str>, credential: Option<&str>) -> Option<Login> {
        let (username, credential) = (username?, credential?);
        if username.len() > LONGEST_USERNAME {
            let what = format!("the user name has {} bytes", username.len());
            self.complain(at, what, "make it shorter than 509 bytes");
        }
        Some(Login { public: true, ..Login::fixed(username, credential) })
    }

    fn url(&mut self, at: &str, url: &str, login: Option<&Login>) {
        let place = if at.is_empty() { shown(url) } else { format!("{at} {}", shown(url)) };
        let uri = match Uri::parse(url) {
            Ok(uri) => uri,
            Err(wrong) => return self.complain(&place, wrong.what, wrong.remedy),
        };
        if uri.is_blocked_by_browsers() {
            let what = format!("browsers speak to no TURN server on port {}", uri.port);
            self.complain(&place, what, "use 80, 443 or a port from 1024 on, such as 3478");
        }
        if uri.transport == Transport::Tls && uri.is_literal() {
            let means = "Firefox refuses addresses in turns:, and few certificates have any";
            self.warn(&place, "turns: names an address", means, "use the host name that stands in the certificate");
        }
        if uri.relays && login.is_none() {
            let what = "a turn: URL has no username and credential";
            self.complain(
                &place,
                what,
                "put both beside urls; without them RTCPeerConnection throws InvalidAccessError",
            );
        }
        let login = if uri.relays { login.cloned() } else { None };
        self.targets.push(Target { uri, login });
    }
}

/// One text, or a list of them.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(all) => all.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(text: &str) -> Vec<String> {
        IceServers::read(text).findings.into_iter().map(|finding| finding.saw).collect()
    }

    #[test]
    fn what_the_api_answers_is_fine_in_each_shape() {
        let entry =
            r#"{"urls":["turn:h:3478?transport=udp","turns:h:443?transport=tcp"],"username":"1:a","credential":"c"}"#;
        for text in [
            format!(r#"{{"iceServers":[{{"urls":["stun:h:3478"]}},{entry}]}}"#),
            format!("[{entry}]"),
            entry.to_owned(),
            r#"{"username":"1:a","password":"p","ttl":1,"uris":["turn:h:3478?transport=udp"]}"#.to_owned(),
        ] {
            let read = IceServers::read(&text);
            assert_eq!(read.findings, [], "{text}");
            assert!(read.targets.iter().all(|target| target.login.is_some() == target.uri.relays), "{text}");
        }
    }

    #[test]
    fn each_mistake_is_told() {
        let with = |entry: &str| format!(r#"{{"iceServers":[{entry}]}}"#);
        let auth = r#""username":"1:a","credential":"c""#;
        for (text, what) in [
            ("no json".to_owned(), "no JSON"),
            ("{}".to_owned(), "no iceServers"),
            ("[]".to_owned(), "empty"),
            ("1".to_owned(), "neither"),
            (format!(r#"{{"ice_servers":[{{"urls":"turn:h",{auth}}}]}}"#), "called ice_servers"),
            (with(&format!(r#"{{"url":"turn:h",{auth}}}"#)), "url instead of urls"),
            (with(&format!(r#"{{"urls":"turn://h",{auth}}}"#)), "slashes"),
            (with(&format!(r#"{{"urls":"turn:h?transport=tls",{auth}}}"#)), "transport=tls"),
            (with(&format!(r#"{{"urls":"turn:h:53",{auth}}}"#)), "port 53"),
            (with(&format!(r#"{{"urls":"turns:192.0.2.1",{auth}}}"#)), "names an address"),
            (with(r#"{"urls":"turn:h"}"#), "no username and credential"),
            (with(r#"{"urls":"turn:h","username":"1:a","password":"p"}"#), "password instead of credential"),
            (with(r#"{"username":"a"}"#), "no urls"),
            (with(&format!(r#"{{"urls":["stun:a","stun:b","stun:c","stun:d","turn:e"],{auth}}}"#)), "5 URLs"),
        ] {
            let told = complaints(&text);
            assert!(told.iter().any(|saw| saw.contains(what)), "{text}: {told:?}");
        }
    }
}
