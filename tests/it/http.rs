//! The HTTP API over real sockets: what an app's signaling server meets.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpSocket;

use crate::served::{LOCAL, Served};
use crate::sessions::run;
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

/// What a source of requests with a wrong key is answered.
#[derive(Debug, Default)]
struct Answers {
    unauthorized: u64,
    rate_limited: u64,
}

/// Sends requests with a wrong key from an address of this machine, over one connection.
async fn guess(api: SocketAddr, from: Ipv4Addr, times: u64) -> Answers {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((from, 0).into()).expect("an address of this machine");
    let mut stream = BufStream::new(socket.connect(api).await.expect("a connection"));
    let mut answers = Answers::default();
    for number in 0..times {
        let request = format!("GET /v1/ice-servers HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer guess{number}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("a request sent");
        stream.flush().await.expect("a request sent");
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(stream.read_line(&mut head).await.expect("a line"), 0, "{head}");
        }
        let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let length = field("content-length").and_then(|length| length.parse().ok()).expect("a length");
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.expect("a body");
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        match (head.split(' ').nth(1), &body["code"]) {
            (Some("401"), code) if code == "unauthorized" => answers.unauthorized += 1,
            (Some("429"), code) if code == "rate_limited" => {
                let wait: u64 = field("retry-after").and_then(|wait| wait.parse().ok()).expect("how long to wait");
                assert!((1..60).contains(&wait), "{wait}");
                answers.rate_limited += 1;
            }
            (_, _) => panic!("{head}{body}"),
        }
    }
    answers
}

/// More guesses than this are not answered with 401: `api.failure-rate`, 5 in a second, with a burst of four seconds.
fn most_unauthorized(elapsed: Duration) -> u64 {
    20 + 5 * (elapsed.as_secs() + 1)
}

#[test]
fn ten_thousand_calls_with_wrong_keys_are_limited_cost_no_memory_and_hold_up_nobody() {
    /// What an allocator may keep of a burst.
    const GROWN: u64 = 1 << 20;
    let served = Served::start(LOCAL);
    let api: SocketAddr = served.server.api.trim_start_matches("http://").parse().expect("an address");
    let home = Ipv4Addr::LOCALHOST;
    // a warm-up with sources of their own, and with the keys that work
    run(guess(api, home, 500));
    run(async {
        for number in 0..500 {
            guess(api, Ipv4Addr::new(127, 2, (number >> 8) as u8, (number & 255) as u8), 1).await;
        }
    });
    served.server.mint("alice");
    let before = served.serve.process.resident();

    let is_over = AtomicBool::new(false);
    let minted = std::thread::scope(|scope| {
        let minting = scope.spawn(|| {
            let (mut minted, start) = (0, Instant::now());
            // it ends as well when the other side has failed
            while !is_over.load(Ordering::Relaxed) && start.elapsed() < 3 * PATIENCE {
                // panics unless it is 201; from the very address that guesses most
                served.server.mint("alice");
                minted += 1;
            }
            minted
        });
        let start = Instant::now();
        let of_one = run(guess(api, home, 5000));
        assert!(of_one.unauthorized <= most_unauthorized(start.elapsed()), "{of_one:?}");
        assert_eq!(of_one.unauthorized + of_one.rate_limited, 5000);
        // a hundred sources, each with a limit of its own
        let limited = run(async {
            let mut limited = 0;
            for last in 1..=100 {
                let start = Instant::now();
                let of_each = guess(api, Ipv4Addr::new(127, 1, 0, last), 45).await;
                assert!(of_each.unauthorized <= most_unauthorized(start.elapsed()), "{last}: {of_each:?}");
                assert!(of_each.unauthorized > 0, "{last}: another source's guesses count for this one");
                limited += of_each.rate_limited;
            }
            limited
        });
        assert!(limited > 0);
        // and five hundred that come once
        run(async {
            for number in 0..500 {
                guess(api, Ipv4Addr::new(127, 3, (number >> 8) as u8, (number & 255) as u8), 1).await;
            }
        });
        is_over.store(true, Ordering::Relaxed);
        minting.join().expect("every right key goes through")
    });
    let grown = served.serve.process.resident().saturating_sub(before);
    println!("{minted} mints beside 10000 guesses, {grown} bytes grown");
    assert!(minted > 0 && grown < GROWN, "{minted} mints, {grown} bytes");
    let limited = served.server.metric("turnwell_api_requests_total{route=\"/v1/ice-servers\",status=\"429\"}");
    assert!(limited >= 5000, "{limited}");
}
