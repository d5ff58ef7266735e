//! Calls seen, counted, ended and revoked through the API and the command line.

use std::future::Future;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::caller::{Call, call};
use crate::support::{Dev, Folder, PATIENCE, Serve, TURNWELL, free_port, http, quickest};

pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime
        .expect("a runtime")
        .block_on(async { tokio::time::timeout(PATIENCE, future).await.expect("an end in time") })
}

/// A server that can be asked.
pub(crate) struct Server {
    pub(crate) api: String,
    pub(crate) key: String,
}

impl Server {
    pub(crate) fn of(dev: &Dev) -> Server {
        Server { api: dev.text("api").to_owned(), key: dev.text("api_key").to_owned() }
    }

    pub(crate) fn ask(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.api))
            .header("Authorization", format!("Bearer {}", self.key))
            .header("Content-Type", "application/json")
            .body(body.map(|body| body.to_string()).unwrap_or_default());
        let mut answer = http().run(request.expect("a request")).expect("an answer");
        let text = answer.body_mut().read_to_string().expect("a body");
        (answer.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    pub(crate) fn mint(&self, user: &str) -> Value {
        let (status, body) = self.ask("POST", "/v1/credentials", Some(json!({ "user": user })));
        assert_eq!(status, 201, "{body}");
        body
    }

    pub(crate) fn sessions(&self) -> Vec<Value> {
        let (status, body) = self.ask("GET", "/v1/sessions", None);
        assert_eq!(status, 200, "{body}");
        body["sessions"].as_array().expect("sessions").clone()
    }

    /// Asks until there are so many sessions; says how long that took.
    pub(crate) fn wait_for(&self, count: usize) -> Duration {
        let start = Instant::now();
        while self.sessions().len() != count {
            assert!(start.elapsed() < PATIENCE, "{:?}", self.sessions());
        }
        start.elapsed()
    }

    /// Asks until a metric is at least that; counters are published twenty times a second.
    pub(crate) fn wait_for_metric(&self, name: &str, value: u64) {
        let start = Instant::now();
        while self.metric(name) < value {
            assert!(start.elapsed() < PATIENCE, "{name} is {}", self.metric(name));
        }
    }

    /// The value of a metric with its labels.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let (_, text) = self.ask("GET", "/metrics", None);
        let text = text.as_str().expect("a text").to_owned();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().expect("a number")
    }
}

fn dev_call(dev: &Dev, user: &str) -> Result<Call, String> {
    run(call(dev.address(), dev.text("realm"), &Server::of(dev).mint(user)))
}

#[test]
fn a_call_is_seen_and_counted_exactly() {
    let dev = Dev::start(&["--workers", "2"]);
    let server = Server::of(&dev);
    let (session, text) = run(async {
        let call = call(dev.address(), dev.text("realm"), &server.mint("alice")).await.expect("an allocation");
        call.echo(20, 100).await;
        let sessions = server.sessions();
        assert_eq!((sessions.len(), &sessions[0]["user"]), (1, &json!("alice")));
        assert_eq!(sessions[0]["relayed"], call.relayed().to_string());
        let output = status(&server);
        (sessions[0].clone(), output)
    });
    let amount = json!({ "packets": 20, "bytes": 2000 });
    assert_eq!((&session["sent"], &session["received"]), (&amount, &amount));
    assert!(session["ageSeconds"].as_f64().is_some_and(|age| age < 20.0));
    assert!(text.contains("alice") && text.contains("20 / 2.0 kB") && text.contains("1 sessions"), "{text}");

    server.wait_for_metric("turnwell_relay_packets_total{direction=\"to_client\"}", 20);
    for (name, value) in [
        ("turnwell_allocations_total{transport=\"udp\",family=\"ipv4\"}", 1),
        ("turnwell_relay_packets_total{direction=\"to_peer\"}", 20),
        ("turnwell_relay_bytes_total{direction=\"to_peer\"}", 2000),
        ("turnwell_relay_bytes_total{direction=\"to_client\"}", 2000),
        ("turnwell_auth_challenges_total", 1),
        ("turnwell_auth_failures_total{reason=\"bad_integrity\"}", 0),
        ("turnwell_responses_total{method=\"allocate\",code=\"200\"}", 1),
        ("turnwell_credentials_issued_total{route=\"credentials\"}", 1),
    ] {
        assert_eq!(server.metric(name), value, "{name}");
    }
}

fn status(server: &Server) -> String {
    let mut command = assert_cmd::Command::new(TURNWELL);
    let output = command.args(["status", "--api", &server.api]).env("TURNWELL_API_KEY", &server.key).output();
    let output = output.expect("a program to run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_session_that_is_kicked_ends_and_may_come_back() {
    let dev = Dev::start(&[]);
    let server = Server::of(&dev);
    let _call = dev_call(&dev, "alice").expect("an allocation");
    let id = server.sessions()[0]["id"].as_str().expect("an id").to_owned();
    let mut command = assert_cmd::Command::new(TURNWELL);
    command.args(["kick", &id, "--api", &server.api]).env("TURNWELL_API_KEY", &server.key).assert().success();
    assert!(server.sessions().is_empty());
    assert_eq!(server.ask("DELETE", &format!("/v1/sessions/{id}"), None).0, 404);
    for id in ["x", "0-0", "9-0-0", "0-0-0-0", "%00"] {
        assert_eq!(server.ask("DELETE", &format!("/v1/sessions/{id}"), None).0, 404, "{id}");
    }
    let _again = dev_call(&dev, "alice").expect("another allocation");
    let (_, usage) = server.ask("GET", "/v1/usage?user=alice", None);
    assert_eq!(usage["users"][0]["allocations"], 2, "{usage}");
}

#[test]
fn revoking_a_user_ends_the_call_within_a_second_and_refuses_the_next() {
    let dev = Dev::start(&["--workers", "2"]);
    let server = Server::of(&dev);
    let allocate = |minted: &Value| run(call(dev.address(), dev.text("realm"), minted));
    let _bob = allocate(&server.mint("bob")).expect("an allocation");
    let mut users = ["carol", "dave", "alice"].into_iter();
    let mut of_last = (Value::Null, Value::Null);
    let took = quickest(|| {
        let user = users.next().expect("a user for each time");
        let minted = server.mint(user);
        let _call = allocate(&minted).expect("an allocation");
        server.wait_for(2);
        let (status, entry) = server.ask("POST", "/v1/revocations", Some(json!({ "user": user })));
        assert_eq!(status, 201, "{entry}");
        let took = server.wait_for(1);
        assert_eq!(server.sessions()[0]["user"], "bob");
        assert!(allocate(&minted).is_err());
        assert!(allocate(&server.mint(user)).is_err(), "under a new name as well");
        of_last = (minted, entry);
        took
    });
    println!("ended {took:?} after the revocation");
    assert!(took < Duration::from_secs(1), "{took:?}");
    server.wait_for_metric("turnwell_auth_failures_total{reason=\"revoked\"}", 6);
    let (minted, entry) = of_last;
    assert_eq!(server.ask("DELETE", &format!("/v1/revocations/{}", entry["id"]), None).0, 204);
    let _readmitted = allocate(&minted).expect("an allocation");
}

#[test]
fn a_revocation_outlives_kill_9() {
    let folder = Folder::with("");
    let socket = folder.path("api.sock");
    let state = folder.path("state");
    let (port, api) = (free_port(), free_port());
    let config = format!(
        "[listen]\nudp = [\"127.0.0.1:{port}\"]\n[credentials]\nsecrets = [\"s3cret\"]\nstate-dir = {state:?}\n\
         [peers]\nallow = [\"127.0.0.0/8\"]\n\
         [api]\nlisten = [\"127.0.0.1:{api}\"]\nsocket = {socket:?}\nsocket-trusted = true\n\
         [[api.clients]]\nid = \"all\"\nkey = \"0123456789abcdef\"\nscopes = [\"admin\"]\n"
    );
    folder.write("turnwell.toml", &config, 0o600);
    let server = Server { api: format!("http://127.0.0.1:{api}"), key: "0123456789abcdef".into() };
    let address = format!("127.0.0.1:{port}").parse().expect("an address");

    let serve = Serve::start(&folder.config());
    serve.notified("READY=1");
    let minted = server.mint("alice");
    let allocate = || run(call(address, "turnwell", &minted)).map(drop);
    allocate().expect("an allocation");
    let username = minted["username"].as_str().expect("a name");
    let path = format!("/v1/turn/keys/all/credentials/{username}/revoke");
    assert_eq!(server.ask("POST", &path, None).0, 204);
    assert!(allocate().is_err());
    drop(serve); // SIGKILL

    let mut serve = Serve::start(&folder.config());
    serve.notified("READY=1");
    assert!(allocate().is_err(), "still refused");
    // the socket that the killed server left behind was replaced; whoever may open it needs no key
    let mut command = assert_cmd::Command::new(TURNWELL);
    let output =
        command.arg("status").arg("--json").arg("--config").arg(folder.config()).env_remove("TURNWELL_API_KEY");
    let output = output.output().expect("a program to run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serve.process.signal("TERM");
    assert!(serve.process.wait().0.success());
}

#[test]
fn draining_refuses_new_calls_and_keeps_the_running_ones() {
    let dev = Dev::start(&[]);
    let server = Server::of(&dev);
    let minted = server.mint("bob");
    run(async {
        let running = call(dev.address(), dev.text("realm"), &server.mint("alice")).await.expect("an allocation");
        let mut command = assert_cmd::Command::new(TURNWELL);
        command.args(["drain", "--api", &server.api]).env("TURNWELL_API_KEY", &server.key).assert().success();
        assert!(call(dev.address(), dev.text("realm"), &minted).await.is_err());
        running.echo(5, 10).await;
    });
    assert_eq!(server.ask("GET", "/readyz", None).0, 503);
    assert_eq!(server.metric("turnwell_draining"), 1);
}

#[test]
fn a_wrong_or_missing_key_is_69_with_a_remedy() {
    let dev = Dev::start(&[]);
    for (api, words) in [(dev.text("api"), "scope admin"), ("http://127.0.0.1:1", "--api"), ("/nonexistent", "--api")] {
        let mut command = assert_cmd::Command::new(TURNWELL);
        let output =
            command.args(["status", "--api", api]).env("TURNWELL_API_KEY", "wrong").output().expect("a program");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(69), "{stderr}");
        assert!(stderr.contains("remedy: ") && stderr.contains(words), "{stderr}");
    }
}

#[test]
fn a_key_made_on_the_command_line_works_in_its_scope() {
    let output = assert_cmd::Command::new(TURNWELL).args(["key", "new", "--id", "shop", "--json"]).output();
    let made: Value = serde_json::from_slice(&output.expect("a program").stdout).expect("JSON");
    let (key, hash) = (made["key"].as_str().expect("a key"), made["hash"].as_str().expect("a hash"));
    assert!(key.starts_with("tk_shop_") && key.len() == 8 + 32 && !hash.contains(key));
    let folder = Folder::with(&format!("[[api.clients]]\nid = \"shop\"\nkey = \"{hash}\"\nscopes = [\"mint\"]\n"));
    let config = folder.config();
    let dev = Dev::start(&["--config", config.to_str().expect("UTF-8")]);
    let server = Server { api: dev.text("api").to_owned(), key: key.to_owned() };
    server.mint("alice");
    assert_eq!(server.ask("GET", "/v1/sessions", None).0, 403);
    let bad = assert_cmd::Command::new(TURNWELL).args(["key", "new", "--id", "No Spaces"]).output().expect("a program");
    assert_eq!(bad.status.code(), Some(64));
}
