//! Scopes, rates, options and the shapes of other products, without a socket.

use axum::body::Body;
use axum::http::{Method, Request};
use serde_json::json;

use super::limits::Source;
use super::tests::{Reply, api, send};
use super::*;

const CONFIG: &str = "
[listen]
udp = ['192.0.2.1:3478', '[2001:db8::1]:3478']
[credentials]
secrets = ['s3cret']
[api]
failure-rate = 1
cors-origins = ['https://app.example.org']
[[api.clients]]
id = 'shop'
key = 'the key of the shop'
scopes = ['mint']
default-ttl = '10m'
max-ttl = '20m'
user-prefix = 'shop-'
[[api.clients]]
id = 'support'
key = 'the key of the support'
scopes = ['mint', 'revoke']
[[api.clients]]
id = 'slow'
key = 'the key of the slow'
scopes = ['admin']
rate = 1
[[api.clients]]
id = 'boss'
key = 'the key of the boss'
scopes = ['admin']
";

fn ask_of(api: &Arc<Api>, key: &str, method: Method, path: &str, body: &str) -> Reply {
    let request = Request::builder().method(method).uri(path).header("authorization", format!("Bearer {key}"));
    let request = request.header("content-type", "application/json");
    send(api, request.body(Body::from(body.to_owned())).unwrap())
}

fn ask(who: &str, method: Method, path: &str, body: &str) -> Reply {
    ask_of(&api(CONFIG), &format!("the key of the {who}"), method, path, body)
}

#[test]
fn a_client_has_its_own_times_and_prefix() {
    let reply = ask("shop", Method::POST, "/v1/credentials", r#"{"user":"alice"}"#);
    assert_eq!((reply.status, &reply.body["ttl"]), (201, &json!(600)));
    assert!(reply.body["username"].as_str().unwrap().ends_with(":shop-alice"));
    let reply = ask("shop", Method::POST, "/v1/credentials", r#"{"ttl":1201}"#);
    assert_eq!((reply.status, reply.code()), (400, "ttl_too_long"));
    let reply = ask("shop", Method::POST, "/v1/credentials", r#"{"user":""}"#);
    assert_eq!((reply.status, reply.code()), (400, "invalid_user"));
}

#[test]
fn scopes_are_kept_apart_and_admin_has_them_all() {
    for (who, method, path, status) in [
        ("shop", Method::GET, "/v1/revocations", 403),
        ("shop", Method::GET, "/v1/sessions", 403),
        ("shop", Method::POST, "/v1/drain", 403),
        ("support", Method::GET, "/v1/revocations", 200),
        ("support", Method::GET, "/v1/usage", 403),
        ("boss", Method::GET, "/v1/revocations", 200),
        ("boss", Method::GET, "/v1/sessions", 200),
        ("boss", Method::GET, "/v1/usage", 200),
        ("boss", Method::GET, "/v1/ice-servers", 200),
    ] {
        let reply = ask(who, method, path, "");
        assert_eq!(reply.status, status, "{who} {path} {}", reply.body);
        assert!(status != 403 || reply.code() == "forbidden_scope");
    }
}

#[test]
fn a_client_beyond_its_rate_waits() {
    let api = api(CONFIG);
    let replies: Vec<Reply> =
        (0..4).map(|_| ask_of(&api, "the key of the slow", Method::GET, "/v1/ice-servers", "")).collect();
    let statuses: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
    assert_eq!(statuses, [200, 200, 429, 429]);
    assert_eq!((replies[2].code(), replies[2].header("retry-after")), ("rate_limited", "1"));
    assert_eq!(ask_of(&api, "the key of the boss", Method::GET, "/v1/ice-servers", "").status, 200);
}

#[test]
fn wrong_keys_are_429_after_a_few_and_right_ones_never() {
    let api = api(CONFIG);
    let ask = |source: &str, key: &str| {
        let mut request = Request::get("/v1/ice-servers").header("authorization", format!("Bearer {key}"));
        request.extensions_mut().unwrap().insert(Source::Address(source.parse().unwrap()));
        send(&api, request.body(Body::empty()).unwrap()).status
    };
    let statuses: Vec<u16> = (0..6).map(|_| ask("192.0.2.7", "wrong")).collect();
    assert_eq!(statuses, [401, 401, 401, 401, 429, 429]);
    assert_eq!(ask("192.0.2.7", "the key of the boss"), 200);
    assert_eq!(ask("192.0.2.8", "wrong"), 401, "another source");
}

#[test]
fn options_narrow_the_urls() {
    let urls = |query: &str| ask("boss", Method::GET, &format!("/v1/ice-servers?{query}"), "").body["uris"].clone();
    let (v4, v6) = ("turn:192.0.2.1:3478?transport=udp", "turn:[2001:db8::1]:3478?transport=udp");
    assert_eq!(urls("family=ipv4"), json!([v4]));
    assert_eq!(urls("family=ipv6&transports=udp,tls"), json!([v6]));
    assert_eq!(urls("family=&ttl="), json!([v4, v6]));
    for (query, code) in [
        ("transports=tls", "no_such_transport"),
        ("transports=sctp", "invalid_transports"),
        ("transports=,", "invalid_transports"),
        ("family=ipv5", "invalid_family"),
        ("label=%00", "invalid_label"),
        ("iceTransportPolicy=none", "invalid_ice_transport_policy"),
        ("link=maybe", "invalid_query"),
        ("ttl=x", "invalid_ttl"),
        ("colour=blue", "unknown_field"),
    ] {
        let reply = ask("boss", Method::GET, &format!("/v1/ice-servers?{query}"), "");
        assert_eq!((reply.status, reply.code()), (400, code), "{query}");
    }
    for (body, code) in [
        (r#"{"transports":["tls"]}"#, "no_such_transport"),
        (r#"{"transports":[]}"#, "invalid_transports"),
        (r#"{"transports":"udp"}"#, "invalid_transports"),
        (r#"{"family":4}"#, "invalid_family"),
        (r#"{"label":{}}"#, "invalid_label"),
        (r#"{"link":1}"#, "invalid_body"),
    ] {
        let reply = ask("boss", Method::POST, "/v1/credentials", body);
        assert_eq!((reply.status, reply.code()), (400, code), "{body}");
    }
    let named = ask("boss", Method::POST, "/v1/credentials", r#"{"label":"room-7"}"#);
    assert!(named.body["username"].as_str().unwrap().ends_with(":room-7"));
}

#[test]
fn whip_clients_get_link_headers_on_request() {
    let reply = ask("boss", Method::POST, "/v1/credentials", r#"{"user":"a\"b","link":true,"family":"ipv4"}"#);
    let links: Vec<&str> = reply.headers.get_all("link").iter().map(|link| link.to_str().unwrap()).collect();
    assert_eq!(links[0], "<stun:192.0.2.1:3478>; rel=\"ice-server\"");
    assert!(links[1].starts_with("<turn:192.0.2.1:3478?transport=udp>; rel=\"ice-server\"; username=\""));
    assert!(links[1].contains(":a\\\"b\"; credential=\"") && links[1].ends_with("credential-type=\"password\""));
    let without = ask("boss", Method::GET, "/v1/ice-servers", "");
    assert!(without.headers.get("link").is_none());
}

#[test]
fn stunner_cloudflare_and_matrix_get_their_shapes() {
    let reply = ask("boss", Method::GET, "/ice?service=turn&username=a&iceTransportPolicy=relay", "");
    assert_eq!((reply.status, &reply.body["iceTransportPolicy"]), (200, &json!("relay")));
    assert!(reply.body["iceServers"][1]["credential"].is_string());

    let keys = "/v1/turn/keys/shop/credentials";
    let body = r#"{"ttl":900,"customIdentifier":"user4523958"}"#;
    let reply = ask("shop", Method::POST, &format!("{keys}/generate-ice-servers"), body);
    assert_eq!((reply.status, reply.body.as_object().unwrap().len()), (201, 1));
    assert!(reply.body["iceServers"][1]["username"].as_str().unwrap().ends_with(":shop-user4523958"));
    let reply = ask("shop", Method::POST, &format!("{keys}/generate"), "{}");
    assert!(reply.status == 201 && reply.body["iceServers"]["credential"].is_string());
    let reply = ask("boss", Method::POST, &format!("{keys}/generate"), "{}");
    assert_eq!((reply.status, reply.code()), (404, "not_found"), "another key's id");
    let reply = ask("support", Method::POST, "/v1/turn/keys/support/credentials/99:x/revoke", "");
    assert_eq!(reply.status, 204);

    for (method, path) in [(Method::GET, "/_matrix/client/v3/voip/turnServer"), (Method::POST, "/v1/matrix/turn")] {
        let reply = ask("boss", method, path, "");
        let mut members: Vec<&str> = reply.body.as_object().unwrap().keys().map(String::as_str).collect();
        members.sort_unstable();
        assert_eq!((reply.status, members), (200, vec!["password", "ttl", "uris", "username"]));
    }
}

#[test]
fn revocations_are_listed_and_removed() {
    let api = api(CONFIG);
    let ask = |method, path: &str, body: &str| ask_of(&api, "the key of the support", method, path, body);
    let made = ask(Method::POST, "/v1/revocations", r#"{"user":"alice"}"#);
    assert_eq!((made.status, &made.body["user"]), (201, &json!("alice")));
    assert!(api.revoked.set().contains("9:alice", "alice", Some(9), 0));
    let bound = ask(Method::POST, "/v1/revocations", r#"{"issuedBefore":4000000000,"ttl":60}"#);
    assert_eq!(bound.body["expiresBefore"], json!(4_000_000_060_u64));
    let list = ask(Method::GET, "/v1/revocations", "");
    assert_eq!((list.body["revocations"].as_array().unwrap().len(), &list.body["kept"]), (2, &json!(false)));
    let path = format!("/v1/revocations/{}", made.body["id"]);
    assert_eq!(ask(Method::DELETE, &path, "").status, 204);
    assert_eq!(ask(Method::DELETE, &path, "").code(), "not_found");
    for (body, code) in [
        ("{}", "invalid_body"),
        (r#"{"user":"a","username":"b"}"#, "invalid_body"),
        (r#"{"user":""}"#, "invalid_user"),
        (r#"{"user":"a","until":1}"#, "invalid_time"),
        (r#"{"user":"a","ttl":1}"#, "invalid_body"),
        (r#"{"issuedBefore":"now"}"#, "invalid_time"),
        (r#"{"usr":"a"}"#, "unknown_field"),
    ] {
        let reply = ask(Method::POST, "/v1/revocations", body);
        assert_eq!((reply.status, reply.code()), (400, code), "{body}");
    }
}

#[test]
fn draining_ends_readiness_and_minting() {
    let api = api(CONFIG);
    let ask = |method, path: &str| ask_of(&api, "the key of the boss", method, path, "");
    let drained = ask(Method::POST, "/v1/drain");
    assert_eq!((drained.status, &drained.body["draining"]), (200, &json!(true)));
    let ready = ask(Method::GET, "/readyz");
    assert_eq!((ready.status, ready.code(), &ready.body["failed"]), (503, "draining", &json!(["draining"])));
    assert_eq!(ask(Method::GET, "/v1/ice-servers").code(), "draining");
    assert_eq!(ask(Method::GET, "/livez").status, 200);
}

#[test]
fn only_listed_origins_are_told_that_they_may_call() {
    let api = api(CONFIG);
    let ask = |origin: &str, method: Method| {
        let request = Request::builder().method(method).uri("/livez").header("origin", origin);
        let request = request.header("access-control-request-method", "POST");
        send(&api, request.body(Body::empty()).unwrap())
    };
    let preflight = ask("https://app.example.org", Method::OPTIONS);
    assert_eq!((preflight.status, preflight.header("vary")), (204, "Origin"));
    assert_eq!(preflight.header("access-control-allow-origin"), "https://app.example.org");
    assert!(preflight.header("access-control-allow-headers").contains("Authorization"));
    assert_eq!(
        ask("https://app.example.org", Method::GET).header("access-control-allow-origin"),
        "https://app.example.org"
    );
    let other = ask("https://app.example.org.evil.example", Method::OPTIONS);
    assert_eq!((other.status, other.headers.get("access-control-allow-origin")), (405, None));
}

#[test]
fn metrics_are_open_on_this_machine_and_need_a_key_elsewhere() {
    let api = api(CONFIG);
    ask_of(&api, "the key of the boss", Method::GET, "/v1/ice-servers", "");
    let text = api_metrics(&api, "127.0.0.1");
    assert_eq!(text.0, 200);
    for line in [
        "turnwell_credentials_issued_total{route=\"ice-servers\"} 1",
        "turnwell_api_requests_total{route=\"/v1/ice-servers\",status=\"200\"} 1",
        "turnwell_auth_failures_total{reason=\"revoked\"} 0",
        "turnwell_draining 0",
    ] {
        assert!(text.1.lines().any(|other| other == line), "no {line} in {}", text.1);
    }
    assert_eq!(api_metrics(&api, "192.0.2.9").0, 401);
}

fn api_metrics(api: &Arc<Api>, source: &str) -> (u16, String) {
    let mut request = Request::get("/metrics");
    request.extensions_mut().unwrap().insert(Source::Address(source.parse().unwrap()));
    text(api, request.body(Body::empty()).unwrap())
}

fn text(api: &Arc<Api>, request: Request<Body>) -> (u16, String) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        use hyper::service::Service as _;
        let service = hyper_util::service::TowerToHyperService::new(router(api.clone()));
        let response = service.call(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        (parts.status.as_u16(), String::from_utf8(bytes.to_vec()).unwrap())
    })
}

#[test]
fn the_page_has_the_key_only_for_callers_and_names_of_this_machine() {
    let page = |source: &str, host: &str| {
        let mut request = Request::get("/").header("host", host);
        request.extensions_mut().unwrap().insert(Source::Address(source.parse().unwrap()));
        text(&api(CONFIG), request.body(Body::empty()).unwrap())
    };
    let key = "const DEV_KEY = \"k\\u003c/script>\";";
    for (source, host, has_key) in [
        ("127.0.0.1", "127.0.0.1:8478", true),
        ("::1", "[::1]:8478", true),
        ("127.0.0.1", "localhost", true),
        ("127.0.0.1", "rebound.example", false),
        ("127.0.0.1", "localhost.example:80", false),
        ("192.0.2.1", "127.0.0.1", false),
    ] {
        let (status, page) = page(source, host);
        assert_eq!((status, page.contains(key)), (200, has_key), "{source} {host}");
        assert!(!page.contains("http://") && !page.contains("https://"), "nothing from elsewhere");
    }
}
