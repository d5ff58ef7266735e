//! Routes, statuses and codes, without a socket.

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use serde_json::Value;

use super::*;
use crate::daemon::config::{Config, File, Source};
use crate::daemon::ice::{Wildcard, reached};
use crate::daemon::unix_now;

pub(super) const KEY: &str = "0123456789abcdef";
const CONFIG: &str = "
[listen]
udp = ['192.0.2.1:3478', '[2001:db8::1]:3478']
[credentials]
secrets = ['s3cret']
[api]
keys = ['0123456789abcdef', 'another key, long enough']
default-ttl = '1h'
max-ttl = '2h'
";

pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Value,
}

impl Reply {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Asserts that this is a whole problem, and returns its code.
    pub(super) fn code(&self) -> &str {
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(self.header("cache-control"), "no-store");
        assert_eq!(self.body["status"], self.status);
        assert!(
            ["type", "title", "detail", "instance"].iter().all(|name| self.body[name].is_string()),
            "{}",
            self.body
        );
        self.body["code"].as_str().unwrap_or_default()
    }
}

pub(super) fn api(config: &str) -> Arc<Api> {
    let file: File = toml::from_str(config).unwrap();
    let config = Config::resolve(&file, &Source::none()).unwrap_or_else(|error| panic!("{error}"));
    let reached = reached(&config.fixed, &config.fixed.udp, Wildcard::MostPublic);
    let uris = Uris::new(&config.fixed, &reached, config.live.mint.public_host.as_deref());
    let facts =
        Facts { ports: 0, started: 0, page_key: Some("k</script>".into()), tls: None, reloads: mpsc::channel(1).0 };
    let revoked = Revoked::load(None, 0).unwrap();
    Arc::new(Api::new(Minting::new(&config.live, uris), net::Control::default(), revoked, facts))
}

pub(super) fn send(api: &Arc<Api>, request: Request<Body>) -> Reply {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let response = TowerToHyperService::new(router(api.clone())).call(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, 1 << 20).await.unwrap();
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        Reply { status: parts.status.as_u16(), headers: parts.headers, body }
    })
}

fn request(method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(&api(CONFIG), request.body(Body::from(body.to_owned())).unwrap())
}

fn post(body: &str) -> Reply {
    let key = format!("Bearer {KEY}");
    request(Method::POST, "/v1/credentials", &[("authorization", &key), ("content-type", "application/json")], body)
}

fn get(path: &str) -> Reply {
    request(Method::GET, path, &[], "")
}

#[test]
fn a_credential_is_201_with_the_superset_body() {
    let before = unix_now();
    let reply = post(r#"{"user":"alice","ttl":600,"iceTransportPolicy":"relay"}"#);
    assert_eq!((reply.status, reply.header("cache-control")), (201, "no-store"));
    assert_eq!(reply.header("content-type"), "application/json");
    let body = reply.body;
    let username = body["username"].as_str().unwrap();
    let (expires, user) = username.split_once(':').unwrap();
    assert!((before + 600..before + 700).contains(&expires.parse().unwrap()) && user == "alice");
    assert_eq!(body["iceServers"][0]["urls"][0], "stun:192.0.2.1:3478");
    assert_eq!(body["iceServers"][0].as_object().unwrap().len(), 1);
    let turn = &body["iceServers"][1];
    let urls = ["turn:192.0.2.1:3478?transport=udp", "turn:[2001:db8::1]:3478?transport=udp"];
    assert_eq!(turn["urls"], serde_json::json!(urls));
    assert_eq!((&turn["username"], &turn["credential"]), (&body["username"], &body["password"]));
    assert_eq!((&body["uris"], &body["ttl"]), (&turn["urls"], &600.into()));
    assert_eq!(body["iceTransportPolicy"], "relay");
    assert!(body["expiresAt"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn the_server_verifies_what_the_api_minted() {
    let api = api(CONFIG);
    let request = Request::post("/v1/credentials").header("authorization", format!("Bearer {KEY}"));
    let reply = send(&api, request.body(Body::empty()).unwrap());
    let password = api.minting().credentials.password_for(reply.body["username"].as_str().unwrap());
    assert_eq!(password.as_deref(), reply.body["password"].as_str());
}

#[test]
fn every_part_of_the_body_is_optional() {
    let key = [("authorization", "bearer another key, long enough")];
    for reply in [request(Method::POST, "/v1/credentials", &key, ""), post("{}"), post(r#"{"user":null,"ttl":null}"#)] {
        assert_eq!(reply.status, 201);
        assert_eq!((&reply.body["ttl"], &reply.body["iceTransportPolicy"]), (&3600.into(), &"all".into()));
        assert!(reply.body["username"].as_str().unwrap().bytes().all(|byte| byte.is_ascii_digit()));
    }
}

#[test]
fn a_wrong_body_is_400_with_its_own_code() {
    let long = format!(r#"{{"user":"{}"}}"#, "x".repeat(481));
    for (body, code) in [
        (r#"{"usr":"alice"}"#, "unknown_field"),
        (r#"{"ttl":0}"#, "invalid_ttl"),
        (r#"{"ttl":-5}"#, "invalid_ttl"),
        (r#"{"ttl":1.5}"#, "invalid_ttl"),
        (r#"{"ttl":"600"}"#, "invalid_ttl"),
        (r#"{"ttl":7201}"#, "ttl_too_long"),
        (r#"{"ttl":18446744073709551615}"#, "ttl_too_long"),
        (r#"{"user":5}"#, "invalid_user"),
        (r#"{"user":""}"#, "invalid_user"),
        (r#"{"user":"a\nb"}"#, "invalid_user"),
        (long.as_str(), "invalid_user"),
        (r#"{"iceTransportPolicy":"public"}"#, "invalid_ice_transport_policy"),
        ("[]", "invalid_body"),
        ("{", "invalid_body"),
        ("\u{0}", "invalid_body"),
    ] {
        let reply = post(body);
        assert_eq!((reply.status, reply.code()), (400, code), "{body}");
        assert_eq!(reply.body["instance"], "/v1/credentials");
    }
    assert!(post(r#"{"ttl":7201}"#).body["detail"].as_str().unwrap().contains("7200"), "the limit is named");
    assert!(post(r#"{"usr":1}"#).body["detail"].as_str().unwrap().contains("usr"), "the field is named");
}

#[test]
fn without_a_known_key_it_is_401_before_the_body_is_looked_at() {
    for value in [None, Some("Bearer wrong"), Some("Bearer "), Some("Basic 0123456789abcdef"), Some(KEY)] {
        let headers: Vec<_> = value.into_iter().map(|value| ("authorization", value)).collect();
        let reply = request(Method::POST, "/v1/credentials", &headers, "{");
        assert_eq!((reply.status, reply.code()), (401, "unauthorized"), "{value:?}");
        assert!(reply.header("www-authenticate").starts_with("Bearer "));
    }
    for path in
        ["/turn?service=turn", "/turn?service=turn&key=wrong", "/turn?service=turn&key=wrong&api=", "/turn?service=x"]
    {
        let reply = get(path);
        assert_eq!((reply.status, reply.code()), (401, "unauthorized"), "{path}");
        assert_eq!(reply.body["instance"], "/turn", "a key in the query is not repeated");
    }
}

#[test]
fn other_paths_methods_types_and_sizes_are_problems_too() {
    assert_eq!((get("/v1/nothing").status, get("/v1/nothing").code()), (404, "not_found"));
    let reply = get("/v1/credentials");
    assert_eq!((reply.status, reply.code(), reply.header("allow")), (405, "method_not_allowed", "POST"));
    let reply = request(Method::DELETE, "/turn", &[], "");
    assert_eq!((reply.status, reply.code(), reply.header("allow")), (405, "method_not_allowed", "GET,HEAD,POST"));
    let key = format!("Bearer {KEY}");
    for kind in [None, Some("text/plain"), Some("application/x-www-form-urlencoded")] {
        let headers = [("authorization", key.as_str())].into_iter().chain(kind.map(|kind| ("content-type", kind)));
        let reply = request(Method::POST, "/v1/credentials", &headers.collect::<Vec<_>>(), "{}");
        assert_eq!((reply.status, reply.code()), (415, "unsupported_media_type"), "{kind:?}");
    }
    let padded = format!("{{}}{}", " ".repeat(LONGEST_BODY - 2));
    assert_eq!(post(&padded).status, 201, "8 KiB are allowed");
    let reply = post(&format!("{padded} "));
    assert_eq!((reply.status, reply.code()), (413, "payload_too_large"));
    let reply = request(Method::POST, "/v1/credentials", &[("content-length", "9000")], "");
    assert_eq!((reply.status, reply.code()), (413, "payload_too_large"));
}

#[test]
fn a_media_type_may_have_parameters() {
    let key = format!("Bearer {KEY}");
    let headers = [("authorization", key.as_str()), ("content-type", "Application/JSON; charset=utf-8")];
    assert_eq!(request(Method::POST, "/v1/credentials", &headers, "{}").status, 201);
}

#[test]
fn turn_answers_as_the_draft_asks_by_get_and_by_post() {
    let query = format!("service=turn&username=alice&key={KEY}");
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let replies = [
        get(&format!("/turn?{query}")),
        request(Method::POST, &format!("/turn?{query}"), &[], ""),
        request(Method::POST, "/turn", &form, &query),
        // as Janus does it: everything twice
        request(Method::POST, &format!("/turn?service=turn&api={KEY}&key={KEY}&username=alice"), &form, &query),
        request(Method::GET, "/turn?service=turn&username=alice", &[("authorization", &format!("Bearer {KEY}"))], ""),
    ];
    for reply in replies {
        assert_eq!((reply.status, reply.header("cache-control")), (200, "no-store"), "{}", reply.body);
        assert!(reply.body["username"].as_str().unwrap().ends_with(":alice"));
        assert!(reply.body["password"].is_string());
        assert_eq!(reply.body["ttl"], 3600);
        assert_eq!(
            reply.body["uris"],
            serde_json::json!(["turn:192.0.2.1:3478?transport=udp"]),
            "no stun:, no IPv6 literal"
        );
    }
}

#[test]
fn turn_refuses_what_it_cannot_serve() {
    for (query, code) in [
        ("service=stun", "invalid_service"),
        ("", "invalid_service"),
        ("service=turn&ttl=abc", "invalid_ttl"),
        ("service=turn&ttl=7201", "ttl_too_long"),
        ("service=turn&username=%00", "invalid_user"),
    ] {
        let reply = get(&format!("/turn?key={KEY}&{query}"));
        assert_eq!((reply.status, reply.code()), (400, code), "{query}");
    }
    let json = [("content-type", "application/json")];
    let reply = request(Method::POST, &format!("/turn?service=turn&key={KEY}"), &json, "{}");
    assert_eq!((reply.status, reply.code()), (415, "unsupported_media_type"));
}

#[test]
fn without_secret_or_key_nothing_is_minted() {
    let no_secret = api("[api]\nkeys = ['0123456789abcdef']");
    let ask = || Request::post("/v1/credentials").header("authorization", format!("Bearer {KEY}"));
    let reply = send(&no_secret, ask().body(Body::empty()).unwrap());
    assert_eq!((reply.status, reply.code()), (503, "no_secret"));
    let no_key = api("[credentials]\nsecrets = ['s3cret']");
    let reply = send(&no_key, ask().body(Body::empty()).unwrap());
    assert_eq!((reply.status, reply.code()), (401, "unauthorized"));
    assert!(reply.body["detail"].as_str().unwrap().contains("api.keys"));
}

#[test]
fn readiness_ends_before_the_server_does() {
    let api = api(CONFIG);
    let ask = |path: &str| send(&api, Request::get(path).body(Body::empty()).unwrap());
    assert_eq!((ask("/livez").status, ask("/readyz").status), (200, 200));
    api.set_stopping();
    assert_eq!((ask("/livez").status, ask("/readyz").status, ask("/readyz").code()), (200, 503, "stopping"));
}

#[test]
fn a_reload_changes_keys_secrets_and_urls() {
    let api = api(CONFIG);
    let file: File = toml::from_str(
        "[server]\npublic-host = 'turn.example.org'\n\
        [credentials]\nsecrets = ['new']\n[api]\nkeys = ['fedcba9876543210']",
    )
    .unwrap();
    let config = Config::resolve(&file, &Source::none()).unwrap_or_else(|error| panic!("{error}"));
    let uris = Uris::new(&config.fixed, &["192.0.2.1:3478".parse().unwrap()], config.live.mint.public_host.as_deref());
    api.set(Minting::new(&config.live, uris));
    let ask =
        |key: &str| send(&api, Request::get(format!("/turn?service=turn&key={key}")).body(Body::empty()).unwrap());
    assert_eq!(ask(KEY).status, StatusCode::UNAUTHORIZED);
    assert_eq!(ask("fedcba9876543210").body["uris"][0], "turn:turn.example.org:3478?transport=udp");
}
