//! The API over TLS: who must speak it, what it shows after a reload, and how our own commands call it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use crate::support::{Folder, PATIENCE, Serve, TURNWELL, free_port};
use crate::tls::{self, TlsClient};

const KEY: &str = "0123456789abcdef";

/// A server whose API listens beyond loopback, too.
struct Api {
    folder: Folder,
    at: SocketAddr,
    serve: Serve,
}

impl Api {
    /// `tls` is the rest of the section `[api]`, and what follows it.
    fn start(tls: &str) -> (Api, Vec<u8>) {
        let port = free_port();
        let folder = Folder::with(&format!(
            "[listen]\nudp = [\"127.0.0.1:0\"]\n[credentials]\nsecrets = [\"s3cret\"]\n\
             [api]\nlisten = [\"0.0.0.0:{port}\"]\nmetrics-open = false\n\
             clients = [{{ id = \"all\", key = \"{KEY}\", scopes = [\"admin\"] }}]\n{tls}"
        ));
        let root = tls::renew(&folder);
        let serve = Serve::start(&folder.config());
        serve.notified("READY=1");
        (Api { folder, at: SocketAddr::from(([127, 0, 0, 1], port)), serve }, root)
    }

    fn open(&self, root: &[u8]) -> std::io::Result<TlsClient> {
        tls::connect(self.at, "localhost", root, &[])
    }

    fn command(&self, args: &[&str]) -> (Option<i32>, String) {
        let mut command = assert_cmd::Command::new(TURNWELL);
        let output = command.args(args).env("TURNWELL_API_KEY", KEY).output().expect("a program to run");
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    }
}

/// One request, and what comes back; the connection lives on.
fn ask(stream: &mut (impl Read + Write), method: &str, path: &str) -> (u16, String) {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\nContent-Length: 0\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("a request sent");
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("an answer");
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("a head");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
    let mut body = vec![0; length.parse().expect("a number")];
    stream.read_exact(&mut body).expect("a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, String::from_utf8(body).expect("a text"))
}

#[test]
fn the_certificate_of_turn_serves_the_api_and_is_swapped_under_its_connections() {
    let (api, first) = Api::start("[tls]\ncertificate = \"chain.pem\"\nkey = \"key.pem\"\n");
    let mut old = api.open(&first).expect("a handshake");
    let (status, body) = ask(&mut old, "POST", "/v1/credentials");
    assert_eq!(status, 201, "{body}");
    assert!(tls::connect(api.at, "localhost", &first, &["h2"]).is_err());
    let http = tls::connect(api.at, "localhost", &first, &["h2", "http/1.1"]).expect("a handshake");
    assert_eq!(http.conn.alpn_protocol(), Some(&b"http/1.1"[..]));

    let second = tls::renew(&api.folder);
    api.serve.process.signal("HUP");
    api.serve.notified("STATUS=relaying, configuration reloaded");
    assert_eq!(ask(&mut old, "GET", "/readyz").0, 200);
    assert!(api.open(&first).is_err());
    let mut new = api.open(&second).expect("a handshake");
    let (status, metrics) = ask(&mut new, "GET", "/metrics");
    assert_eq!(status, 200, "{metrics}");
    for line in [
        "turnwell_tls_handshakes_total{listener=\"api\",result=\"full\"} 3",
        "turnwell_tls_handshakes_total{listener=\"turn\",result=\"full\"} 0",
    ] {
        assert!(metrics.lines().any(|other| other == line), "{line}\n{metrics}");
    }
    for listener in ["turn", "api"] {
        let name = format!("turnwell_tls_certificate_expiry_timestamp_seconds{{listener=\"{listener}\"}} ");
        let until = metrics.lines().find_map(|line| line.strip_prefix(name.as_str())).expect("an expiry");
        assert!(until.parse::<u64>().is_ok_and(|until| until > 1_800_000_000), "{until}");
    }
}

#[test]
fn plain_http_is_not_spoken_where_tls_is_due() {
    let (api, root) = Api::start("certificate = \"chain.pem\"\ncertificate-key = \"key.pem\"\n");
    let mut plain = TcpStream::connect(api.at).expect("a connection");
    plain.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    plain.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").expect("a request sent");
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(answer.len() < 100 && !answer.starts_with(b"HTTP"), "at most an alert: {answer:?}");
    let (_, metrics) = ask(&mut api.open(&root).expect("a handshake"), "GET", "/metrics");
    assert!(metrics.contains("turnwell_tls_handshakes_total{listener=\"api\",result=\"failed\"} 1"), "{metrics}");
}

#[test]
fn our_own_commands_call_it_and_verify_whom_they_call() {
    let (api, _) = Api::start("certificate = \"chain.pem\"\ncertificate-key = \"key.pem\"\n");
    let config = api.folder.config();
    let config = config.to_str().expect("UTF-8");
    let (code, text) = api.command(&["status", "--json", "--config", config]);
    assert_eq!(code, Some(0), "{text}");
    assert!(serde_json::from_str::<Value>(&text).is_ok_and(|body| body["sessions"].is_array()), "{text}");

    let url = format!("https://localhost:{}", api.at.port());
    let (code, text) = api.command(&["status", "--api", &url]);
    assert_eq!(code, Some(69), "self-signed: {text}");
    let chain = api.folder.path("chain.pem");
    let chain = chain.to_str().expect("UTF-8");
    assert_eq!(api.command(&["status", "--api", &url, "--ca", chain]).0, Some(0));
    let (code, text) = api.command(&["kick", "0-0-0", "--config", config]);
    assert!(code == Some(69) && text.contains("not_found"), "{text}");

    // somebody else in its place: a certificate that this configuration does not name
    let other = Folder::with(&std::fs::read_to_string(config).expect("the configuration"));
    tls::renew(&other);
    let (code, text) = api.command(&["status", "--config", other.config().to_str().expect("UTF-8")]);
    assert!(code == Some(69) && text.contains("another certificate"), "{text}");
    assert_eq!(api.command(&["drain", "--config", config]).0, Some(0));
}
