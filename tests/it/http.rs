//! The HTTP API over real sockets: what an app's signaling server meets.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::support::{Dev, PATIENCE, http};

/// Sends bytes as they are and reads until the server closes.
fn raw(dev: &Dev, request: &str) -> String {
    let address = dev.text("api").trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    stream.write_all(request.as_bytes()).expect("a request sent");
    let mut answer = String::new();
    // a reset after the answer is as good as an end
    let _ = stream.read_to_string(&mut answer);
    answer
}

#[test]
fn an_app_mints_a_credential_and_hands_it_on() {
    let dev = Dev::start(&[]);
    let answer = http()
        .post(dev.url("/v1/credentials"))
        .header("Authorization", format!("Bearer {}", dev.text("api_key")))
        .send_json(json!({ "user": "alice", "ttl": 3600 }));
    let mut answer = answer.expect("an answer");
    assert_eq!(answer.status(), 201);
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let body: Value = answer.body_mut().read_json().expect("JSON");
    let urls = body["iceServers"].as_array().expect("servers").iter().flat_map(|server| server["urls"].as_array());
    assert!(urls.flatten().count() <= 4);
    let stream = |name: &str| dev.ready[name][0].as_str().expect("an address").to_owned();
    let expected = json!([
        format!("turn:{}?transport=udp", dev.address()),
        format!("turn:{}?transport=tcp", stream("tcp")),
        format!("turns:{}?transport=tcp", stream("tls")),
    ]);
    assert_eq!(body["iceServers"][1]["urls"], expected);
    assert_eq!(body["uris"], expected);
    let credentials = {
        let mut credentials = turnwell::credentials::Credentials::new(dev.text("realm"));
        credentials.add_secret(turnwell::credentials::Secret::new(dev.text("secret")).expect("a secret"));
        credentials
    };
    let username = body["username"].as_str().expect("a user name");
    assert_eq!(credentials.password_for(username).as_deref(), body["password"].as_str());
}

#[test]
fn janus_gets_its_credential_by_get_and_by_post() {
    let dev = Dev::start(&["--api-key", "K"]);
    let query = "service=turn&username=janus&api=K&key=K";
    let get = http().get(dev.url(&format!("/turn?{query}"))).call();
    let post =
        http().post(dev.url(&format!("/turn?{query}"))).content_type("application/x-www-form-urlencoded").send(query);
    for answer in [get, post] {
        let mut answer = answer.expect("an answer");
        assert_eq!(answer.status(), 200);
        let body: Value = answer.body_mut().read_json().expect("JSON");
        assert!(body["username"].as_str().is_some_and(|name| name.ends_with(":janus")));
        assert!(body["uris"][0].as_str().is_some_and(|uri| uri.starts_with("turn:127.0.0.1:")));
    }
}

#[test]
fn refusals_are_problems_with_stable_codes() {
    let dev = Dev::start(&["--api-key", "K"]);
    let agent = http();
    let post = |key: &str, body: &str| {
        let request = agent.post(dev.url("/v1/credentials")).header("Authorization", format!("Bearer {key}"));
        request.content_type("application/json").send(body).expect("an answer")
    };
    for (answer, status, code) in [
        (post("K", r#"{"name":"alice"}"#), 400, "unknown_field"),
        (post("wrong", "{}"), 401, "unauthorized"),
        (post("K", r#"{"ttl":999999999}"#), 400, "ttl_too_long"),
        (post("K", &" ".repeat(8193)), 413, "payload_too_large"),
        (agent.get(dev.url("/v1/credentials")).call().expect("an answer"), 405, "method_not_allowed"),
        (agent.get(dev.url("/nothing")).call().expect("an answer"), 404, "not_found"),
    ] {
        let mut answer = answer;
        assert_eq!(answer.status(), status, "{code}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        let body: Value = answer.body_mut().read_json().expect("JSON");
        assert_eq!(body["code"], code);
        assert!(status != 405 || answer.headers()["allow"] == "POST");
        assert!(status != 401 || answer.headers().contains_key("www-authenticate"));
        assert!(code != "ttl_too_long" || body["detail"].as_str().is_some_and(|text| text.contains("172800")));
    }
}

#[test]
fn a_chunked_body_is_limited_too() {
    let dev = Dev::start(&["--api-key", "K"]);
    let chunk = format!("2000\r\n{}\r\n", " ".repeat(0x2000));
    let request = format!(
        "POST /v1/credentials HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer K\r\n\
         Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}{chunk}0\r\n\r\n"
    );
    assert!(raw(&dev, &request).starts_with("HTTP/1.1 413 "));
}

#[test]
fn a_head_that_is_too_long_or_no_http_is_refused() {
    let dev = Dev::start(&[]);
    let long = format!("GET /livez HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    assert!(raw(&dev, &long).starts_with("HTTP/1.1 431 "));
    assert!(raw(&dev, "this is not HTTP\r\n\r\n").starts_with("HTTP/1.1 400 "));
    assert_eq!(http().get(dev.url("/livez")).call().expect("an answer").status(), 200);
}

#[test]
fn health_needs_no_key() {
    let dev = Dev::start(&[]);
    for path in ["/livez", "/readyz"] {
        assert_eq!(http().get(dev.url(path)).call().expect("an answer").status(), 200, "{path}");
    }
}
