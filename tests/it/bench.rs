//! `turnwell bench` against the server itself: every load arrives, and what cannot be measured is said.

use std::process::Output;

use serde_json::Value;

use crate::support::{Dev, Folder, PATIENCE, TURNWELL, free_port};

fn bench(arguments: &[&str]) -> Output {
    let mut command = assert_cmd::Command::new(TURNWELL);
    command.arg("bench").args(arguments).timeout(PATIENCE).output().expect("a program to run")
}

/// A short run whose every packet arrives: with as few under way as fit into any kernel's default buffers.
fn measured(server: &Dev, arguments: &str) -> Value {
    let by = |transport: &str| arguments.contains(&format!("--transport {transport}")).then(|| transport.to_owned());
    let listener = ["tcp", "tls"].into_iter().find_map(by).unwrap_or_else(|| "listen".to_owned());
    let address = server.ready[&listener][0].as_str().expect("an address").to_owned();
    let pid = server.process.id().to_string();
    let mut all = vec![address.as_str(), "--secret", server.text("secret"), "--pid", pid.as_str(), "--json"];
    all.extend(["--warm-up", "0"]);
    all.extend(arguments.split(' '));
    if !arguments.contains("--seconds") {
        all.extend(["--seconds", "5"]);
    }
    let output = bench(&all);
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("a report in JSON")
}

/// At ports that no peer of the load generator draws: to the address of a listener nothing is relayed.
fn server() -> Dev {
    let [datagrams, tls] = [free_port(), free_port()].map(|port| format!("127.0.0.1:{port}"));
    Dev::start(&["--listen", &datagrams, "--tls-listen", &tls])
}

#[test]
fn every_mode_delivers_what_it_offers() {
    let server = server();
    for arguments in [
        "--mode client-to-peer --clients 8 --peers 3 --packets 500 --window 64",
        "--mode client-to-peer --clients 4 --burst 16 --packets 640 --window 64",
        "--mode client-to-peer --clients 8 --packets 500 --window 64 --indications --users 3",
        "--mode peer-to-client --clients 8 --peers 3 --packets 500 --window 64",
        "--mode peer-to-client --clients 4 --burst 16 --packets 640 --window 64 --indications",
        "--mode both --clients 8 --packets 500 --rate 5000",
        "--transport tcp --mode both --clients 8 --packets 500 --window 64",
        "--transport tls --mode both --clients 8 --packets 500 --window 64",
        "--transport tls --mode client-to-peer --clients 2 --burst 16 --payload 8000 --packets 320 --window 32",
        "--transport tls --mode peer-to-client --clients 4 --burst 16 --packets 640 --window 64 --indications",
        "--mode relay-to-relay --clients 8 --packets 500 --window 64",
        "--mode ping-pong --clients 2 --packets 50",
        "--mode binding --clients 8 --packets 500 --window 64",
        "--mode forged --clients 8 --packets 500 --window 64",
        "--mode allocate --clients 4 --packets 20 --rate 1000",
        "--mode hold --clients 20 --seconds 0.01",
    ] {
        let found = measured(&server, arguments);
        let (offered, delivered) = (found["offered"].as_u64(), found["delivered"].as_u64());
        assert!(offered >= Some(20), "{arguments}: {found}");
        assert_eq!(delivered, offered, "{arguments}: {found}");
        assert!(found["server_process"]["cpu_seconds"].as_f64() > Some(0.0), "{arguments}: {found}");
    }
}

#[test]
fn round_trips_and_memory_are_told() {
    let server = server();
    let found = measured(&server, "--mode ping-pong --packets 20");
    let time = |name: &str| found["round_trip"][name].as_f64().expect("a time");
    assert!(0.0 < time("p50_us") && time("p50_us") <= time("p99_us") && time("p99_us") <= time("max_us"), "{found}");
    let found = measured(&server, "--mode hold --clients 50 --seconds 0.01");
    assert!(found["server_process"]["bytes_per_allocation"].is_f64(), "{found}");
}

/// What stands on a command line is seen by everybody on the machine.
#[test]
fn secrets_come_from_files_standard_input_and_a_variable() {
    let server = server();
    let folder = Folder::with("");
    folder.write("secret", &format!("{}\n", server.text("secret")), 0o600);
    folder.write("wrong", "wrong\n", 0o600);
    let at = |name: &str| folder.path(name).to_str().expect("UTF-8").to_owned();
    let address = server.address().to_string();
    let run = |arguments: &[&str], stdin: &str, variable: Option<&str>| {
        let mut command = assert_cmd::Command::new(TURNWELL);
        command.args(["bench", &address, "--mode", "allocate", "--clients", "2", "--packets", "4", "--seconds", "5"]);
        command.args(["--warm-up", "0"]).args(arguments).write_stdin(stdin).env_remove("TURNWELL_SECRET");
        command.envs(variable.map(|secret| ("TURNWELL_SECRET", secret))).timeout(PATIENCE);
        command.output().expect("a program to run").status.code()
    };
    let secret = server.text("secret");
    assert_eq!(run(&["--secret-file", &at("secret")], "", None), Some(0));
    assert_eq!(run(&["--secret-file", "-"], secret, None), Some(0));
    assert_eq!(run(&[], "", Some(secret)), Some(0));
    assert_eq!(run(&["--secret-file", &at("secret")], "", Some("wrong")), Some(0), "the file wins");
    assert_eq!(run(&["--secret-file", &at("wrong")], "", Some(secret)), Some(77));
    assert_eq!(run(&["--user", "a", "--password-file", &at("wrong")], "", Some(secret)), Some(77), "a password wins");
    assert_eq!(run(&["--secret-file", &at("missing")], "", None), Some(64));
    assert_eq!(run(&["--secret-file", "-", "--secret", "x"], secret, None), Some(64));
}

#[test]
fn what_cannot_be_measured_is_said() {
    let server = server();
    let address = server.address().to_string();
    for (arguments, code, word) in [
        (&["--secret", "wrong"][..], 77, "401"),
        (&[], 64, "--secret"),
        (&["--secret", "x", "--seconds", "1000"], 64, "--seconds"),
        (&["--mode", "binding", "--pid", "4294967295"], 66, "4294967295"),
    ] {
        let output = bench(&[&[address.as_str()], arguments].concat());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert!(stderr.contains(word), "no {word} in {stderr}");
    }
}
