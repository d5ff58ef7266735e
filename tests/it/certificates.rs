//! Certificates that are replaced while clients talk, and sessions that outlive their connections.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use rustls::version::{TLS12, TLS13};
use rustls::{HandshakeKind, SupportedProtocolVersion};
use serde_json::json;

use crate::common::USERS;
use crate::doctor_lab::Pki;
use crate::sessions::Server;
use crate::streams::binding;
use crate::support::{Folder, PATIENCE, Serve, TURNWELL, free_port};
use crate::talker::{Echo, Talker};
use crate::tls::{self, TlsClient, connect};

const KEY: &str = "0123456789abcdef";

/// A server over TLS, whose certificate lies in its folder.
struct Shown {
    _serve: Serve,
    folder: Folder,
    server: Server,
    at: SocketAddr,
}

impl Shown {
    /// Starts; what to trust, too.
    fn start(workers: usize) -> (Shown, Vec<u8>) {
        let (api, tls) = (free_port(), free_port());
        let folder = Folder::with(&format!(
            "{USERS}[listen]\nudp = [\"127.0.0.1:0\"]\ntls = [\"127.0.0.1:{tls}\"]\n[peers]\nallow = [\"127.0.0.0/8\"]\n\
             [limits]\nbandwidth-per-allocation = \"0\"\nbandwidth-per-user = \"0\"\n\
             [tls]\ncertificate = \"chain.pem\"\nkey = \"key.pem\"\n[api]\nlisten = [\"127.0.0.1:{api}\"]\n\
             clients = [{{ id = \"ops\", key = \"{KEY}\", scopes = [\"admin\"], rate = 0 }}]\n"
        ));
        let root = tls::renew(&folder);
        let serve = Serve::start_with(&folder.config(), &[("TURNWELL_SERVER__WORKERS", &workers.to_string())]);
        serve.notified("READY=1");
        let server = Server { api: format!("http://127.0.0.1:{api}"), key: KEY.into() };
        (Shown { _serve: serve, folder, server, at: SocketAddr::from(([127, 0, 0, 1], tls)) }, root)
    }

    /// Replaces certificate and key, and waits until the server says that it has them. What to trust from now on.
    fn renew(&self) -> Vec<u8> {
        let root = tls::renew(&self.folder);
        assert_eq!(self.server.ask("POST", "/v1/reload", None), (200, json!({ "restart": [] })));
        root
    }

    fn connect(&self, root: &[u8]) -> std::io::Result<TlsClient> {
        connect(self.at, "localhost", root, &["stun.turn"])
    }
}

/// Clients that talk without a pause, each in a thread.
struct Crowd {
    talking: Vec<JoinHandle<u64>>,
    is_over: Arc<AtomicBool>,
    rounds: mpsc::Receiver<usize>,
    round: mpsc::Sender<usize>,
}

impl Crowd {
    fn new() -> Crowd {
        let (round, rounds) = mpsc::channel();
        Crowd { talking: Vec::new(), is_over: Arc::default(), rounds, round }
    }

    /// One more, with a peer of its own: what waits there is then never more than a socket holds.
    fn join(&mut self, client: TlsClient) {
        let echo = Echo::start();
        let mut talker = Talker::new(client, echo.address());
        let (number, round, is_over) = (self.talking.len(), self.round.clone(), self.is_over.clone());
        self.talking.push(thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                talker.exchange(8);
                round.send(number).expect("the test goes on");
            }
            drop(echo);
            talker.exchanged()
        }));
    }

    /// Waits until everybody has begun a round after now, and ended it.
    fn goes_on(&self) {
        self.rounds.try_iter().for_each(drop);
        let (mut rounds, start) = (vec![0; self.talking.len()], Instant::now());
        while rounds.iter().any(|count| *count < 2) {
            assert!(start.elapsed() < PATIENCE, "not all go on: {rounds:?}");
            let number = self.rounds.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("only {rounds:?} go on"));
            rounds[number] += 1;
        }
    }

    /// How many messages each of them has had back.
    fn end(self) -> Vec<u64> {
        self.is_over.store(true, Ordering::Relaxed);
        self.talking.into_iter().map(|talker| talker.join().expect("every message, in order")).collect()
    }
}

#[test]
fn a_certificate_is_swapped_under_load() {
    const RELOADS: usize = 6;
    let (shown, mut root) = Shown::start(2);
    let (echo, mut crowd) = (Echo::start(), Crowd::new());
    let client = |root: &[u8]| shown.connect(root).expect("the certificate in force");
    let mut quiet = Talker::new(client(&root), echo.address());
    (0..4).for_each(|_| crowd.join(client(&root)));
    crowd.goes_on();
    for _ in 0..RELOADS {
        let old = std::mem::replace(&mut root, shown.renew());
        for _ in 0..4 {
            assert!(shown.connect(&old).is_err(), "the certificate of before");
            shown.connect(&root).expect("the certificate in force");
        }
        crowd.join(client(&root));
        crowd.goes_on();
    }
    // A key of another certificate changes nothing, for nobody.
    let other = rcgen::KeyPair::generate().expect("a key").serialize_pem();
    shown.folder.write("key.pem", &other, 0o600);
    assert_eq!(shown.server.ask("POST", "/v1/reload", None).0, 422);
    crowd.join(client(&root));
    crowd.goes_on();
    quiet.exchange(8);
    let clients = crowd.talking.len() + 1;
    assert_eq!(shown.server.sessions().len(), clients);
    let exchanged = crowd.end();
    println!("{exchanged:?} messages there and back during {RELOADS} reloads");
    assert!(exchanged.iter().all(|count| *count >= 16));
    for reason in ["not_reading", "tls_failed", "misaligned", "foreign", "too_long", "idle"] {
        let name = format!("turnwell_connections_closed_total{{reason=\"{reason}\"}}");
        assert_eq!(shown.server.metric(&name), 0, "{reason}");
    }
    assert_eq!(shown.server.metric("turnwell_stream_dropped_messages_total"), 0);
}

#[test]
fn sessions_are_resumed_on_any_worker_and_after_a_swap() {
    let (shown, mut root) = Shown::start(4);
    let echo = Echo::start();
    let come = |config: &Arc<rustls::ClientConfig>| {
        let mut client = tls::with(config, shown.at, "localhost")?;
        // A client of TLS 1.3 gets its ticket after the handshake: with the first answer at the latest.
        binding(&mut client, 1)?;
        let kind = client.conn.handshake_kind().expect("a handshake");
        std::io::Result::Ok((client, kind))
    };
    let versions: [&'static SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
    for version in versions {
        let config = Arc::new(tls::config_of(&root, &[], &[version]));
        let mut talkers = Vec::new();
        for number in 0..24 {
            let (client, kind) = come(&config).expect("a handshake");
            let expected = if number == 0 { HandshakeKind::Full } else { HandshakeKind::Resumed };
            assert_eq!((client.conn.protocol_version(), kind), (Some(version.version), expected), "{number}");
            talkers.push(Talker::new(client, echo.address()));
        }
        talkers.iter_mut().for_each(|talker| talker.exchange(4));
        // The number of a session begins with its worker's: one client in 24 of four workers is certainly elsewhere.
        let sessions = shown.server.sessions();
        let workers: HashSet<&str> =
            sessions.iter().filter_map(|session| session["id"].as_str()?.split('-').next()).collect();
        assert!(workers.len() > 1, "{workers:?}");
        drop(talkers);
        shown.server.wait_for(0);
    }
    for (result, count) in [("full", 2), ("resumed", 46)] {
        let name = format!("turnwell_tls_handshakes_total{{listener=\"turn\",result=\"{result}\"}}");
        shown.server.wait_for_metric(&name, count);
        assert_eq!(shown.server.metric(&name), count);
    }

    for version in versions {
        let of = |root: &[u8]| Arc::new(tls::config_of(root, &[], &[version]));
        let known = of(&root);
        come(&known).expect("the certificate of before");
        let old = std::mem::replace(&mut root, shown.renew());
        // Who was there before resumes and is shown no certificate; who was not has to trust the new one.
        let (client, kind) = come(&known).expect("a client with a ticket connects");
        assert_eq!(kind, HandshakeKind::Resumed);
        Talker::new(client, echo.address()).exchange(4);
        assert!(come(&of(&old)).is_err(), "the certificate of before");
        let (_, kind) = come(&of(&root)).expect("the certificate in force");
        assert_eq!(kind, HandshakeKind::Full);
    }
}

#[test]
fn a_chain_without_its_intermediate_is_warned_of() {
    const LACKS: &str = "tls.certificate: the file has no certificate of CN=middle";
    let folder = Folder::with(
        "[listen]\nudp = [\"127.0.0.1:0\"]\ntls = [\"127.0.0.1:0\"]\n[api]\nlisten = []\n\
         [tls]\ncertificate = \"chain.pem\"\nkey = \"key.pem\"\n",
    );
    let trusting = |file: &str| folder.path(file).into_os_string().into_string().expect("a path in UTF-8");
    let check = |file: &str| {
        let mut command = assert_cmd::Command::new(TURNWELL);
        command.arg("check-config").arg(folder.config()).env("SSL_CERT_FILE", trusting(file));
        String::from_utf8(command.assert().success().get_output().stdout.clone()).expect("text")
    };
    let pki = Pki::new();
    pki.write(&folder, "turn.example.org", 4000, false);
    folder.write("middle.pem", &pki.middle.pem(), 0o644);
    assert!(check("root.pem").contains(LACKS), "{}", check("root.pem"));
    assert!(!check("middle.pem").contains("warning"), "whoever trusts the issuer needs nobody in between");

    let serve = Serve::start_with(&folder.config(), &[("SSL_CERT_FILE", &trusting("root.pem"))]);
    serve.notified("READY=1");
    assert_eq!(serve.process.logged(LACKS).matches(LACKS).count(), 1);
    pki.write(&folder, "turn.example.org", 4000, false);
    serve.process.signal("HUP");
    serve.notified("STATUS=relaying, configuration reloaded");
    serve.process.log_when(|log| log.matches(LACKS).count() > 1);

    pki.write(&folder, "turn.example.org", 4000, true);
    assert!(!check("root.pem").contains("warning"), "{}", check("root.pem"));
    tls::renew(&folder);
    assert!(!check("root.pem").contains("warning"), "nobody else signed it");
}
