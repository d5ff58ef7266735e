//! What the log says of calls: a line at the begin, one at the end, nothing that a client could forge or flood.

use std::net::UdpSocket;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use turnwell::credentials::{Credentials, Secret};

use crate::served::{LOCAL, Served};
use crate::sessions::run;
use crate::support::{Folder, Process, TURNWELL};

const JSON: &str = "[log]\nformat = \"json\"\n";

impl Served {
    /// The lines with this message.
    fn lines(&self, message: &str) -> Vec<Value> {
        let log = self.serve.process.log();
        let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|_| panic!("{line}")));
        lines.filter(|line| line["message"] == message).collect()
    }

    /// Waits for this number of them.
    fn wait_for_lines(&self, message: &str, count: usize) -> Vec<Value> {
        self.serve.process.log_when(|log| log.matches(message).count() >= count);
        self.lines(message)
    }
}

#[test]
fn an_allocation_is_a_line_at_its_begin_and_a_line_at_its_end() {
    let served = Served::start(&format!("{LOCAL}{JSON}"));
    run(async {
        let call = served.call("alice").await.expect("an allocation");
        let relayed = call.relayed().to_string();
        call.echo(20, 100).await;
        let [began] = &served.wait_for_lines("allocation began", 1)[..] else { panic!("more than one line") };
        assert_eq!(
            (&began["user"], &began["relayed"], &began["transport"]),
            (&json!("alice"), &json!(relayed), &json!("udp"))
        );
        assert!(began["client"].as_str().is_some_and(|client| client.starts_with("127.0.0.1:")), "{began}");
        call.hang_up().await;
        let [ended] = &served.wait_for_lines("allocation ended", 1)[..] else { panic!("more than one line") };
        for (name, value) in [
            ("user", json!("alice")),
            ("client", began["client"].clone()),
            ("relayed", json!(relayed)),
            ("sent_packets", json!(20)),
            ("sent_bytes", json!(2000)),
            ("received_packets", json!(20)),
            ("received_bytes", json!(2000)),
            ("reason", json!("Deleted")),
            ("level", json!("INFO")),
        ] {
            assert_eq!(ended[name], value, "{name} of {ended}");
        }
        assert!(ended["seconds"].is_u64());
    });
    let lines = served.serve.process.log().lines().count();
    assert!(lines < 10, "{lines} lines for 40 packets");
}

#[test]
fn a_user_name_cannot_forge_a_line_or_a_field() {
    let mut credentials = Credentials::new("turnwell");
    credentials.add_secret(Secret::new("s3cret").expect("a secret"));
    let name =
        format!("4000000000:x%s%n\u{1b}[31m\n2026-01-01T00:00:00Z ERROR forged client=1.2.3.4 \"{}", "é".repeat(200));
    let password = credentials.password_for(&name).expect("a password");
    let served = Served::start(LOCAL);
    run(async {
        let call = served.call_with(&json!({ "username": name, "password": password })).await;
        call.expect("an allocation").hang_up().await;
    });
    let log = served.serve.process.logged("allocation ended");
    let line = log.lines().find(|line| line.contains("allocation began")).unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains(r#"user="x%s%n\u{1b}[31m\n2026-01-01"#) && line.contains(r#"\"é"#), "{line}");
    assert!(log.lines().all(|line| line.contains("turnwell::")), "{log}");
}

#[test]
fn names_and_addresses_are_shortened_when_the_operator_says_so() {
    let served = Served::start(&format!("{LOCAL}{JSON}shorten = true\n"));
    run(async {
        served.call("alice@example.org").await.expect("an allocation").hang_up().await;
        served.wait_for_lines("allocation ended", 1);
        served.rewrite(&format!("{LOCAL}{JSON}"));
        assert_eq!(served.reload().0, 200);
        served.call("alice@example.org").await.expect("an allocation").hang_up().await;
    });
    let lines = served.wait_for_lines("allocation ended", 2);
    assert_eq!((&lines[0]["user"], &lines[0]["client"]), (&json!("al…(17)"), &json!("127.0.0.0/24")));
    assert_eq!(lines[1]["user"], "alice@example.org");
}

#[test]
fn a_flood_of_refusals_is_limited_and_counted() {
    let limits = "[limits]\nunauthenticated-replies = 0\n";
    let served = Served::start(&format!("{LOCAL}{limits}{JSON}level = \"debug\"\n"));
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    // a Binding request with an attribute that nobody knows: 420
    let mut request = vec![0, 1, 0, 4, 0x21, 0x12, 0xa4, 0x42];
    request.extend([7; 12]);
    request.extend([0x7f, 0xff, 0, 0]);
    let mut buffer = [0; 256];
    let mut ask = || {
        socket.send_to(&request, served.address()).expect("a request sent");
        socket.recv_from(&mut buffer).expect("an answer");
    };
    for _ in 0..3000 {
        ask();
    }
    let start = std::time::Instant::now();
    let left_out = loop {
        // the next line that may be written has the count of those that were not
        ask();
        let lines = served.lines("request refused");
        if let Some(left_out) = lines.iter().find_map(|line| line["left_out"].as_u64()) {
            break left_out;
        }
        assert!(start.elapsed() < crate::support::PATIENCE, "{} lines", lines.len());
    };
    let lines = served.lines("request refused").len();
    assert!(left_out > 0 && lines < 3000, "{lines} lines, {left_out} left out");
}

#[test]
fn the_journal_gets_priorities_and_nobody_else() {
    let folder = Folder::with("[listen]\nudp = [\"127.0.0.1:0\"]\n[api]\nlisten = []\n");
    let start = |stream: &str| {
        let mut shell = Command::new("sh");
        let script = format!("JOURNAL_STREAM={stream} exec \"$0\" serve --config \"$1\"");
        shell.arg("-c").arg(script).arg(TURNWELL).arg(folder.config());
        let mut process = Process::start(shell.stdin(Stdio::null()).stdout(Stdio::null()));
        process.logged("ready");
        process.signal("TERM");
        assert!(process.wait().0.success());
        process.log()
    };
    let log = start("$(stat -L -c %d:%i /dev/stderr)");
    assert!(log.lines().any(|line| line.starts_with("<4> WARN turnwell::")), "{log}");
    assert!(log.lines().any(|line| line.starts_with("<6> INFO turnwell::")), "{log}");
    let log = start("8:12345");
    assert!(log.lines().all(|line| !line.starts_with('<')) && log.contains("T"), "{log}");
}
