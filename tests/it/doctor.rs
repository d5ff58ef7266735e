//! `turnwell doctor` on this machine's loopback: each finding that needs no network of its own is provoked, and nothing
//! else is found beside it.

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use turnwell::net::sys;
use turnwell::wire::{AttributeType, Class, ErrorCode, Method, TransactionId, Writer};

use crate::made_up::{fake, fake_from, http, server_ahead};
use crate::support::{Dev, Folder, PATIENCE, Serve, TURNWELL, free_port};

/// What the doctor said.
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) json: Value,
}

impl Said {
    pub(crate) fn of(output: &Output) -> Said {
        let json = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
        Said { code: output.status.code(), json }
    }

    /// What was found; without what is this machine's own fault, whose clock nobody may steer.
    fn findings(&self) -> Vec<&Value> {
        let findings = self.json["findings"].as_array().expect("findings");
        let unsteered = |finding: &&Value| finding["id"] == "clock" && finding["saw"].to_string().contains("kernel");
        let of_this_machine = sys::clock_is_synchronized().is_ok_and(|it_is| !it_is);
        findings.iter().filter(|finding| !(of_this_machine && unsteered(finding))).collect()
    }

    /// The ids of what was found, sorted.
    pub(crate) fn ids(&self) -> Vec<&str> {
        let mut ids: Vec<&str> = self.findings().iter().map(|finding| finding["id"].as_str().expect("an id")).collect();
        ids.sort_unstable();
        ids
    }

    /// Exactly these were found, the first of them with these words in what was seen; each says what to do.
    #[track_caller]
    pub(crate) fn found(&self, ids: &[&str], code: i32, words: &str) {
        let mut sorted = ids.to_vec();
        sorted.sort_unstable();
        assert_eq!(self.ids(), sorted, "{:#}", self.json);
        let findings = self.findings();
        // a clock that nobody steers is a warning by itself
        let is_worse = findings.len() < self.json["findings"].as_array().map_or(0, Vec::len);
        assert_eq!(self.code, Some(if is_worse { code.max(1) } else { code }), "{:#}", self.json);
        let first =
            findings.iter().copied().find(|finding| Some(&finding["id"].as_str().unwrap_or_default()) == ids.first());
        let first = first.unwrap_or(&Value::Null);
        assert!(first["saw"].as_str().unwrap_or_default().contains(words), "no {words:?} in {first:#}");
        assert!(findings.iter().all(|finding| finding["do"] != "" && finding["means"] != ""), "{:#}", self.json);
    }
}

fn doctor(args: &[&str]) -> Said {
    Said::of(&run(args, b""))
}

fn run(args: &[&str], stdin: &[u8]) -> Output {
    let mut command = assert_cmd::Command::new(TURNWELL);
    command.args(["doctor", "--json"]).args(args).write_stdin(stdin);
    if !args.contains(&"--timeout") {
        command.args(["--timeout", "1"]);
    }
    command.env("TURNWELL_CONFIG", "/nonexistent/turnwell.toml").env_remove("TURNWELL_API_KEY");
    command.timeout(PATIENCE * 2).output().expect("a program to run")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970").as_secs()
}

/// What a server on this machine with nothing wrong is configured like.
pub(crate) fn config(address: &str, more: &str) -> String {
    format!(
        "[server]\nworkers = 1\n[listen]\nudp = [\"{address}:{{udp}}\"]\ntcp = [\"{address}:{{tcp}}\"]\n\
         receive-buffer = \"64KiB\"\nsend-buffer = \"64KiB\"\n[relay]\nports = \"20000-29999\"\n\
         [limits]\nallocations = 1000\n[streams]\nconnections = 1000\n\
         [credentials]\nsecrets = [\"c2VjcmV0LXNlY3JldA==\"]\n{more}"
    )
}

/// A running server, and where it is.
struct Server {
    folder: Folder,
    udp: u16,
    tcp: u16,
    _serve: Serve,
}

/// A secret of the server's in a file of its own, with this text.
fn server(more: &str) -> Server {
    let (udp, tcp, api) = (free_port(), free_port(), free_port());
    let more = format!("[api]\nlisten = [\"127.0.0.1:{api}\"]\nkeys = [\"0123456789abcdef\"]\n{more}");
    let text = config("127.0.0.1", &more).replace("{udp}", &udp.to_string()).replace("{tcp}", &tcp.to_string());
    let folder = Folder::with(&text);
    folder.write("secret", "c2VjcmV0LXNlY3JldA==\n", 0o600);
    folder.write("key", "0123456789abcdef\n", 0o600);
    let serve = Serve::start(&folder.config());
    serve.notified("READY=1");
    Server { folder, udp, tcp, _serve: serve }
}

impl Server {
    fn url(&self) -> String {
        format!("turn:127.0.0.1:{}?transport=udp", self.udp)
    }

    fn file(&self, name: &str, text: &str) -> String {
        self.folder.write(name, text, 0o600);
        self.folder.path(name).to_str().expect("UTF-8").to_owned()
    }

    /// With a user and a password.
    fn login(&self, user: &str, password: &str) -> Said {
        let file = self.file("password", password);
        doctor(&["--url", &self.url(), "--user", user, "--password-file", &file])
    }

    fn with_secret(&self, url: &str, secret: &str) -> Said {
        let file = self.file("given", secret);
        doctor(&["--url", url, "--secret-file", &file])
    }

    fn examined(&self) -> Said {
        doctor(&["--config", text(&self.folder.config())])
    }
}

#[test]
fn a_healthy_server_gives_none() {
    let server = server("");
    server.examined().found(&[], 0, "");
    let tcp = format!("turn:127.0.0.1:{}?transport=tcp", server.tcp);
    for url in [server.url(), tcp, format!("stun:127.0.0.1:{}", server.udp)] {
        server.with_secret(&url, "c2VjcmV0LXNlY3JldA==\n").found(&[], 0, "");
    }
    // the secret of the configuration serves when none is named
    let said = doctor(&["--url", &server.url(), "--config", text(&server.folder.config())]);
    said.found(&[], 0, "");
    let steps = said.json["steps"].to_string();
    assert!(steps.contains("two allocations") && steps.contains("are refused"), "{steps}");
}

#[test]
fn what_people_read_says_the_same_without_colours_in_a_pipe() {
    let server = server("");
    let output = assert_cmd::Command::new(TURNWELL)
        .args(["doctor", "--timeout", "1", "--url", &server.url(), "--user", "alice", "--password-file", "-"])
        .write_stdin("wrong\n")
        .output()
        .expect("a program to run");
    let said = String::from_utf8_lossy(&output.stdout);
    for words in ["error: The user is not known  [user]", "saw    ", "means  ", "do     ", "not healthy"] {
        assert!(said.contains(words), "no {words:?} in {said}");
    }
    assert!(!said.contains('\u{1b}') && !said.contains("wrong"), "{said}");
    assert_eq!(output.status.code(), Some(77));
}

#[test]
fn wrong_command_lines_are_64() {
    for (args, words) in [
        (&["--url", "turn://h"][..], "slashes"),
        (&["--url", "turn:h", "--user", "a"], "--password-file"),
        (&["--url", "turn:h", "--secret-file", "/nonexistent"], "/nonexistent"),
        (&["--timeout", "0"], "between 0.1 and 60"),
        (&["--ice-json", "/nonexistent"], "/nonexistent"),
        (&["--ca", "/nonexistent"], "--ca"),
    ] {
        let output = run(args, b"");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(64) && stderr.contains(words), "{args:?}: {stderr}");
    }
}

/// Finding 3: coturn denies loopback peers, and so its own relayed addresses here.
#[test]
fn a_server_that_denies_its_own_relayed_address_is_named() {
    let port = free_port();
    let folder = Folder::with("");
    let mut command = Command::new("turnserver");
    command.args(["-n", "--no-cli", "--no-tls", "--no-dtls", "--simple-log", "--log-file=stdout", "--realm=test"]);
    command.args([
        "--use-auth-secret",
        "--static-auth-secret=shared",
        "--listening-ip=127.0.0.1",
        "--relay-ip=127.0.0.1",
    ]);
    command.arg(format!("--listening-port={port}")).arg(format!("--pidfile={}", text(&folder.path("pid"))));
    command.arg("--denied-peer-ip=10.0.0.0-10.255.255.255").arg("--denied-peer-ip=172.16.0.0-172.31.255.255");
    command.arg("--denied-peer-ip=192.168.0.0-192.168.255.255").stdin(Stdio::null()).stdout(Stdio::null());
    command.arg("--denied-peer-ip=169.254.0.0-169.254.255.255");
    let Ok(mut coturn) = command.spawn() else { return crate::common::skip("there is no coturn (turnserver)") };
    let listens = answers(port);
    folder.write("secret", "shared\n", 0o600);
    let url = format!("turn:127.0.0.1:{port}?transport=udp");
    let said = doctor(&["--url", &url, "--secret-file", text(&folder.path("secret"))]);
    coturn.kill().expect("coturn to end");
    coturn.wait().expect("its end");
    assert!(listens, "coturn did not start");
    said.found(&["own-relay"], 78, "403");
}

/// Waits for a server to answer a Binding request; it may take a second to start.
fn answers(port: u16) -> bool {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a time-out");
    let mut bytes = Vec::new();
    Writer::new(&mut bytes, Class::Request, Method::BINDING, TransactionId([1; 12])).finish();
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        socket.send_to(&bytes, ("127.0.0.1", port)).expect("a request");
        if socket.recv(&mut [0; 500]).is_ok() {
            return true;
        }
    }
    false
}

/// Finding 5, from outside and on the server.
#[test]
fn a_relay_into_private_networks_is_named() {
    let dev = Dev::start(&[]);
    let folder = Folder::with("");
    folder.write("secret", dev.text("secret"), 0o600);
    let url = format!("turn:{}?transport=udp", dev.address());
    let said = doctor(&["--url", &url, "--secret-file", text(&folder.path("secret"))]);
    said.found(&["open-relay"], 78, "127.255.255.254, 10.255.255.254");
    let server = server("[peers]\nallow = [\"127.0.0.0/8\", \"169.254.0.0/16\"]\n");
    server.examined().found(&["open-relay"], 78, "169.254.169.254");
    let private = self::server("[peers]\nallow = [\"10.0.0.0/8\"]\n");
    private.examined().found(&["open-relay"], 1, "10.255.255.254");
}

/// Findings 6, 7, 8 and 9: the credential.
#[test]
fn what_is_wrong_with_a_credential_is_named() {
    let server = server("");
    server.login(&format!("{}:a", now() - 312), "x").found(&["credential-expired"], 65, "expired 31");
    server.login(&format!("{}:a", (now() + 3600) * 1000), "x").found(&["timestamp"], 65, "of the year");
    server.login(&format!("{}:a", now()), "x").found(&["timestamp"], 65, "is now");
    server.login("alice", "x").found(&["user"], 77, "\"alice\"");
    server.login(&format!("{}:a", now() + 3600), "x").found(&["secret"], 77, "401");
    let decoded = server.with_secret(&server.url(), "YzJWamNtVjBMWE5sWTNKbGRBPT0=");
    decoded.found(&["secret"], 77, "takes the secret decoded from base64");
    server.with_secret(&server.url(), "\"c2VjcmV0LXNlY3JldA==\"").found(&["secret"], 77, "without the quotes");
}

/// Finding 8: with the secret at hand, a password tells how it was made.
#[test]
fn a_password_that_was_made_another_way_is_explained() {
    let server = server("");
    let secret = text(&server.folder.path("secret")).to_owned();
    let username = format!("{}:a", now() + 3600);
    let password = server.file("password", "c2VjcmV0LXNlY3JldA==");
    let ice =
        json!({"iceServers": [{"urls": server.url(), "username": username, "credential": "c2VjcmV0LXNlY3JldA=="}]});
    let ice = server.file("ice.json", &ice.to_string());
    doctor(&["--ice-json", &ice, "--secret-file", &secret]).found(&["secret"], 77, "by taking the secret itself");
    // a password is given beside a secret of the configuration
    let config = text(&server.folder.config()).to_owned();
    let args = ["--url", &server.url(), "--user", &username, "--password-file", &password, "--config", &config];
    doctor(&args).found(&["secret"], 77, "by taking the secret itself");
}

/// Finding 6: the clock of the server, as its API shows it.
#[test]
fn a_server_whose_clock_is_wrong_is_named() {
    let server = server("");
    let minted = json!({"iceServers": [{"urls": [format!("stun:127.0.0.1:{}", server.udp)]}]}).to_string();
    let api = http(format!(
        "HTTP/1.1 201 Created\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: {}\r\n\r\n{minted}",
        minted.len()
    ));
    doctor(&["--api", &api]).found(&["clock"], 71, "behind this machine's");
    let api = http(format!(
        "HTTP/1.1 201 Created\r\nDate: Fri, 06 Nov 2099 08:49:37 GMT\r\nContent-Length: {}\r\n\r\n{minted}",
        minted.len()
    ));
    doctor(&["--api", &api]).found(&["clock"], 71, "ahead of this machine's");
    // without an API to ask: what it refuses as expired it takes with a far expiry
    server.with_secret(&server_ahead(365 * 86_400), "c2VjcmV0LXNlY3JldA==").found(
        &["clock"],
        71,
        "with an expiry ten years ahead it is accepted",
    );
    // where the clock is not the cause, it is not named
    server.with_secret(&server_ahead(0), "other").found(&["secret"], 77, "");
}

/// On the server: its own certificate is known there, whoever signed it.
#[test]
fn the_certificate_of_the_api_on_this_machine_needs_no_authority() {
    let (udp, api) = (free_port(), free_port());
    let folder = Folder::with(&format!(
        "[listen]\nudp = [\"127.0.0.1:{udp}\"]\n[credentials]\nsecrets = [\"c2VjcmV0LXNlY3JldA==\"]\n\
         [api]\nlisten = [\"0.0.0.0:{api}\"]\nkeys = [\"0123456789abcdef\"]\n\
         certificate = \"chain.pem\"\ncertificate-key = \"key.pem\"\n"
    ));
    crate::tls::renew(&folder);
    folder.write("key", "0123456789abcdef\n", 0o600);
    let serve = Serve::start(&folder.config());
    serve.notified("READY=1");
    let (url, key) = (format!("https://localhost:{api}"), folder.path("key"));
    let args = ["--api", &url, "--key-file", text(&key)];
    let config = folder.config();
    let here = doctor(&[&args[..], &["--config", text(&config)]].concat());
    assert!(!here.ids().contains(&"certificate"), "{:#}", here.json);
    assert!(doctor(&args).ids().contains(&"certificate"), "from elsewhere it is one that signed itself");
    // a configuration that names another one than what is shown
    let other = Folder::with(&fs::read_to_string(&config).expect("the configuration"));
    crate::tls::renew(&other);
    let other = doctor(&[&args[..], &["--config", text(&other.config())]].concat());
    assert!(other.ids().contains(&"certificate"), "{:#}", other.json);
}

/// Finding 10.
#[test]
fn clients_that_take_the_challenge_for_a_refusal_are_counted() {
    let server = server("");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    for number in 0..30 {
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes, Class::Request, Method::ALLOCATE, TransactionId([number; 12]));
        writer.attribute(AttributeType::REQUESTED_TRANSPORT, &[17, 0, 0, 0]).finish();
        socket.send_to(&bytes, ("127.0.0.1", server.udp)).expect("a request");
        socket.recv(&mut [0; 500]).expect("a challenge");
    }
    eventually(|| server.examined(), &["challenge"], 1, "30 first requests were challenged, 0 came back");
    let fake = fake(|request, out| {
        Writer::error(out, request.method(), request.transaction_id(), ErrorCode::Unauthenticated).finish();
    });
    server.with_secret(&fake, "secret").found(&["challenge"], 65, "without REALM and NONCE");
}

/// Counters are published some twenty times a second.
#[track_caller]
fn eventually(examine: impl Fn() -> Said, ids: &[&str], code: i32, words: &str) {
    let begin = Instant::now();
    loop {
        let said = examine();
        if said.ids() == ids || begin.elapsed() > PATIENCE {
            return said.found(ids, code, words);
        }
    }
}

/// Finding 12, both ways round.
#[test]
fn tls_to_a_plain_port_and_the_reverse_are_named() {
    let dev = Dev::start(&[]);
    let folder = Folder::with("");
    folder.write("secret", dev.text("secret"), 0o600);
    let port = |name: &str| {
        let address = dev.ready[name][0].as_str().expect("an address");
        address.rsplit_once(':').expect("a port").1.to_owned()
    };
    let secret = text(&folder.path("secret")).to_owned();
    let plain = format!("turns:127.0.0.1:{}?transport=tcp", port("tcp"));
    doctor(&["--url", &plain, "--secret-file", &secret]).found(&["tls-mismatch"], 65, "without TLS");
    let tls = format!("turn:127.0.0.1:{}?transport=tcp", port("tls"));
    doctor(&["--url", &tls, "--secret-file", &secret]).found(&["tls-mismatch"], 65, "speaks TLS");
}

/// Finding 13.
#[test]
fn http_on_a_turn_port_is_named() {
    let server = server("");
    let api = format!("http://127.0.0.1:{}", server.tcp);
    doctor(&["--api", &api]).found(&["http"], 65, "answers STUN, not HTTP");
    eventually(|| server.examined(), &["http"], 0, "spoke neither STUN nor TURN");
    let web = http("HTTP/1.1 400 Bad Request\r\n\r\n".into()).replace("http://", "turn:") + "?transport=tcp";
    server.with_secret(&web, "secret").found(&["http"], 65, "answers in HTTP");
}

/// Finding 17.
#[test]
fn limits_that_do_not_hold_what_is_promised_are_named() {
    let folder = Folder::with(
        "[relay]\nports = \"20000-20099\"\n[listen]\nudp = [\"127.0.0.1:3478\"]\n\
                               receive-buffer = \"64KiB\"\nsend-buffer = \"64KiB\"\n[limits]\nallocations = 101\n\
                               [streams]\nconnections = 10\n[api]\nlisten = []\n",
    );
    doctor(&["--config", text(&folder.config())]).found(&["limits"], 1, "give 100 relayed addresses");
    let from_a_narrow_shell = |config: &Path| {
        let line = format!("ulimit -n 1024 && exec {TURNWELL} doctor --json --timeout 1 --config {}", text(config));
        Said::of(&Command::new("sh").arg("-c").arg(line).env_remove("TURNWELL_API_KEY").output().expect("a shell"))
    };
    folder.write(
        "turnwell.toml",
        &fs::read_to_string(folder.config()).expect("text").replace("connections = 10\n", ""),
        0o600,
    );
    let said = from_a_narrow_shell(&folder.config());
    said.found(&["limits", "limits"], 1, "");
    assert!(said.json.to_string().contains("this process may open 1024 files"), "{:#}", said.json);
    // where a server runs its own limit counts, and not that of a shell beside it
    from_a_narrow_shell(&server("").folder.config()).found(&[], 0, "");
}

/// Findings 18 and 19.
#[test]
fn ice_servers_are_read_as_browsers_do() {
    let server = server("");
    let udp = server.udp;
    let lint = |text: String| doctor(&["--ice-json", &server.file("ice.json", &text)]);
    let username = format!("{}:a", now() + 3600);
    let minted = |username: &str| {
        let login = assert_cmd::Command::new(TURNWELL)
            .args(["credentials", "--json", "--user", "a", "--config", text(&server.folder.config())])
            .args(["--ttl", if username.is_empty() { "30d" } else { "1h" }])
            .output()
            .expect("a credential");
        serde_json::from_slice::<Value>(&login.stdout).expect("JSON")
    };
    let good = minted(&username);
    lint(good.to_string()).found(&[], 0, "");
    let (name, credential) = (&good["username"], &good["password"]);
    let entry = |url: &str| json!([{"urls": url, "username": name, "credential": credential}]).to_string();
    lint(entry(&format!("turn://127.0.0.1:{udp}"))).found(&["ice-json"], 65, "slashes");
    lint(entry(&format!("turn:127.0.0.1:{udp}?transport=tls"))).found(&["ice-json"], 65, "transport=tls");
    lint(json!([{"url": server.url(), "username": name, "credential": credential}]).to_string()).found(
        &["ice-json"],
        65,
        "url instead of urls",
    );
    lint(json!([{"urls": server.url()}]).to_string()).found(&["ice-json"], 65, "no username");
    lint("[".into()).found(&["ice-json"], 65, "no JSON");
    lint(minted("").to_string()).found(&["long-lived"], 1, "days more");
    let output = run(&["--ice-json", "-"], good.to_string().as_bytes());
    Said::of(&output).found(&[], 0, "");
}

/// Finding 19: a static user in what browsers get.
#[test]
fn a_static_user_in_ice_servers_is_named() {
    let server = server("[[credentials.users]]\nname = \"alice\"\npassword = \"wonder\"\n");
    let ice = json!([{"urls": server.url(), "username": "alice", "credential": "wonder"}]).to_string();
    doctor(&["--ice-json", &server.file("ice.json", &ice)]).found(&["long-lived"], 1, "static user");
    // an operator who tries a static user knows what it is
    server.login("alice", "wonder").found(&[], 0, "");
}

/// Finding 20, from outside and on the server.
#[test]
fn a_quota_that_is_used_up_is_named() {
    let (udp, tcp, api) = (free_port(), free_port(), free_port());
    let more = format!("[api]\nlisten = [\"127.0.0.1:{api}\"]\n");
    let config = config("127.0.0.1", &more).replace("{udp}", &udp.to_string()).replace("{tcp}", &tcp.to_string());
    let folder =
        Folder::with(&config.replace("allocations = 1000\n", "allocations = 1000\nallocations-per-user = 1\n"));
    folder.write("secret", "c2VjcmV0LXNlY3JldA==", 0o600);
    let serve = Serve::start(&folder.config());
    serve.notified("READY=1");
    let url = format!("turn:127.0.0.1:{udp}?transport=udp");
    let said = doctor(&["--url", &url, "--secret-file", text(&folder.path("secret"))]);
    said.found(&["quota"], 1, "486");
    let examine = || doctor(&["--config", text(&folder.config())]);
    eventually(examine, &["private-peer", "quota"], 1, "were refused with 403");
}

/// The rest of the table.
#[test]
fn broken_servers_and_configurations_are_named() {
    let port = free_port();
    let folder = Folder::with("[relay]\nprots = \"1-2\"\n");
    folder.write("secret", "secret", 0o600);
    let secret = text(&folder.path("secret")).to_owned();
    doctor(&["--config", text(&folder.config())]).found(&["config"], 78, "prots");
    for transport in ["udp", "tcp"] {
        let url = format!("turn:127.0.0.1:{port}?transport={transport}");
        doctor(&["--url", &url, "--secret-file", &secret]).found(&["unreachable"], 69, "127.0.0.1: ");
    }
    doctor(&["--api", &format!("http://127.0.0.1:{port}")]).found(&["api"], 69, "refused");
    let server = server("");
    // grants whatever is asked
    let anonymous = fake(|request, out| {
        let mut writer = Writer::success(out, request.method(), request.transaction_id());
        let address = "127.0.0.1:20000".parse().expect("an address");
        writer.xor_address(AttributeType::XOR_MAPPED_ADDRESS, address);
        writer.xor_address(AttributeType::XOR_RELAYED_ADDRESS, address).u32(AttributeType::LIFETIME, 600).finish();
    });
    server.with_secret(&anonymous, "secret").found(&["open-relay"], 78, "without any credential");
    // challenges, then grants without a signature
    let unsigned = fake(|request, out| {
        let signed = request.attributes().flatten().any(|found| found.kind == AttributeType::MESSAGE_INTEGRITY);
        let address = "127.0.0.1:20000".parse().expect("an address");
        if request.method() == Method::ALLOCATE && !signed {
            let mut writer = Writer::error(out, request.method(), request.transaction_id(), ErrorCode::Unauthenticated);
            writer.attribute(AttributeType::REALM, b"r").attribute(AttributeType::NONCE, b"n").finish();
        } else {
            let mut writer = Writer::success(out, request.method(), request.transaction_id());
            writer.xor_address(AttributeType::XOR_MAPPED_ADDRESS, address);
            writer.xor_address(AttributeType::XOR_RELAYED_ADDRESS, address).u32(AttributeType::LIFETIME, 600).finish();
        }
    });
    server.with_secret(&unsigned, "secret").found(&["unsigned"], 69, "not signed");
    // answers from another port, as a server does whose replies leave by another address
    let elsewhere = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let place = elsewhere.local_addr().expect("an address").to_string();
    let astray = fake_from(elsewhere, |request, out| {
        Writer::success(out, request.method(), request.transaction_id()).finish();
    });
    server.with_secret(&astray, "secret").found(&["unreachable"], 69, &format!("came from {place} instead"));
    // a reason that is not UTF-8, over which the turn crate would panic, and that steers terminals
    let rude = fake(|request, out| {
        let mut writer = Writer::new(out, Class::Error, request.method(), request.transaction_id());
        writer.attribute(AttributeType::ERROR_CODE, b"\0\0\x04\x03\xff\xfe\x1b[31m").finish();
    });
    let said = server.with_secret(&rude, "secret");
    said.found(&["refused"], 77, "403");
    assert!(!said.json.to_string().contains("\\u001b"), "{:#}", said.json);
}
