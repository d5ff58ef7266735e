//! The command line: what starts, what refuses to, with which exit code and words, and how it ends.

use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Dev, Folder, PATIENCE, Process, Serve, TURNWELL, free_port, quickest};

fn run(args: &[&str]) -> Output {
    let mut command = assert_cmd::Command::new(TURNWELL);
    command.args(args).env_remove("TURNWELL_CONFIG").timeout(PATIENCE).output().expect("a program to run")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// Asserts the exit code, and that each of the words is on standard error.
fn refused(output: &Output, code: i32, words: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "no {word:?} in {stderr}");
    }
}

/// A configuration whose ports are free, with more of it.
fn serve(more: &str) -> Output {
    let folder = Folder::with(more);
    run(&["serve", "--config", text(&folder.config())])
}

#[test]
fn usage_errors_are_64_and_help_is_0() {
    refused(&run(&["--no-such-flag"]), 64, &["--no-such-flag"]);
    refused(&run(&["dev", "--relay-ports", "600-500"]), 64, &["empty range of ports", "49152-65535"]);
    refused(&run(&["dev", "--listen", "localhost"]), 64, &["not an IP address with a port"]);
    for args in [["--help", ""], ["--version", ""], ["dev", "--help"]] {
        let args: Vec<&str> = args.into_iter().filter(|arg| !arg.is_empty()).collect();
        assert!(run(&args).status.success(), "{args:?}");
    }
}

#[test]
fn a_configuration_that_is_not_there_is_66() {
    for command in ["serve", "credentials"] {
        refused(
            &run(&[command, "--config", "/nonexistent/t.toml"]),
            66,
            &["/nonexistent/t.toml", "remedy: ", "--config"],
        );
    }
    refused(&run(&["check-config", "/nonexistent/t.toml"]), 66, &["/nonexistent/t.toml"]);
}

#[test]
fn a_wrong_configuration_is_78_with_line_key_and_remedy() {
    for command in [&["check-config"][..], &["serve", "--config"], &["credentials", "--config"], &["dev", "--config"]] {
        let folder = Folder::with("[relay]\nprots = \"1-2\"\n");
        let path = folder.config();
        let args: Vec<&str> = command.iter().copied().chain([text(&path)]).collect();
        refused(&run(&args), 78, &["turnwell.toml:2: relay.prots", "remedy: did you mean `ports`?"]);
    }
    refused(&serve("[relay]\nports = \"600-500\"\n"), 78, &[":2: relay.ports: ", "empty range"]);
}

#[test]
fn a_secret_file_open_to_everybody_or_missing_is_78() {
    let folder = Folder::with("[credentials]\nsecret-files = [\"secret\"]\n");
    let path = folder.config();
    refused(&run(&["serve", "--config", text(&path)]), 78, &["credentials.secret-files[0]: cannot read"]);
    folder.write("secret", "hunter2\n", 0o644);
    let output = run(&["serve", "--config", text(&path)]);
    refused(&output, 78, &["credentials.secret-files[0]: ", "(mode 644)", "remedy: close it: `chmod 640 "]);
    assert!(!String::from_utf8_lossy(&output.stderr).contains("hunter2"));
}

#[test]
fn a_port_that_is_taken_is_71_and_named() {
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let address = udp.local_addr().expect("its address").to_string();
    let output = serve(&format!("[listen]\nudp = [\"{address}\"]\n[api]\nlisten = []\n"));
    refused(&output, 71, &["listen.udp: cannot bind", &address, "remedy: stop the program that holds it"]);

    let tcp = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = tcp.local_addr().expect("its address").to_string();
    let output = serve(&format!("[listen]\nudp = [\"127.0.0.1:0\"]\n[api]\nlisten = [\"{address}\"]\n"));
    refused(&output, 71, &["api.listen: cannot bind", &address]);
}

#[test]
fn a_second_server_on_the_same_port_is_71() {
    let dev = Dev::start(&[]);
    let output = run(&["dev", "--listen", &dev.address().to_string(), "--api", "127.0.0.1:0"]);
    refused(&output, 71, &["listen.udp: cannot bind", "--listen"]);
}

#[test]
fn an_address_of_another_machine_is_78() {
    // 192.0.2.0/24 is for documentation: nobody has it
    let output = serve("[listen]\nudp = [\"192.0.2.1:0\"]\n[api]\nlisten = []\n");
    refused(&output, 78, &["listen.udp: cannot bind 192.0.2.1", "relay.external"]);
    let output = serve("[listen]\nudp = [\"127.0.0.1:0\"]\n[relay]\naddresses = [\"192.0.2.1\"]\n[api]\nlisten = []\n");
    refused(&output, 78, &["relay.addresses: cannot bind 192.0.2.1"]);
}

#[test]
fn check_config_accepts_what_serve_accepts_and_says_what_is_idle() {
    let folder = Folder::with("");
    let output = run(&["check-config", text(&folder.config())]);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && stdout.contains("valid") && stdout.contains("only STUN"), "{stdout}");
}

/// `check-config` under these variables.
fn check(folder: &Folder, variables: &[(&str, &str)], effective: bool) -> Output {
    let mut command = assert_cmd::Command::new(TURNWELL);
    command.arg("check-config").arg(folder.config()).envs(variables.iter().copied()).timeout(PATIENCE);
    if effective {
        command.arg("--effective");
    }
    command.output().expect("a program to run")
}

#[test]
fn each_value_is_shown_with_where_it_comes_from_and_variables_win() {
    let folder = Folder::with(
        "[server]\nrealm = \"file\"\n\n[listen]\nudp = [\"127.0.0.1:3478\"]\n\
         [credentials]\nsecrets = [\"hunter2\"]\nusers = [{ name = \"a\", password = \"pa55word\" }]\n",
    );
    let variables = [
        ("TURNWELL_LISTEN__UDP", "127.0.0.1:4000, 127.0.0.1:4001"),
        ("TURNWELL_LIMITS__CHANNELS", "7"),
        ("TURNWELL_LOG__SHORTEN", "true"),
        ("TURNWELL_API__KEYS", "k3y-0123456789abcdef"),
    ];
    let output = check(&folder, &variables, true);
    let stdout = String::from_utf8_lossy(&output.stdout);
    let file = folder.config();
    for line in [
        format!("realm = \"file\"  # {}:2", file.display()),
        "udp = [\"127.0.0.1:4000\", \"127.0.0.1:4001\"]  # environment: TURNWELL_LISTEN__UDP".into(),
        "channels = 7  # environment: TURNWELL_LIMITS__CHANNELS".into(),
        "shorten = true  # environment: TURNWELL_LOG__SHORTEN".into(),
        "workers = 0  # default".into(),
        format!("secrets = [\"(hidden)\"]  # {}:7", file.display()),
    ] {
        assert!(stdout.lines().any(|other| other == line), "no {line:?} in {stdout}");
    }
    assert!(["hunter2", "pa55word", "k3y-"].iter().all(|secret| !stdout.contains(secret)), "{stdout}");
    // what is shown is a configuration
    assert!(toml::from_str::<turnwell::daemon::config::File>(&stdout).is_ok(), "{stdout}");
}

#[test]
fn a_wrong_variable_is_78_and_named() {
    let folder = Folder::with("[lifetimes]\nmaximum = \"30m\"\n");
    for (variable, value, words) in [
        ("TURNWELL_LISTEN__UPD", "127.0.0.1:1", ["listen.upd: there is no such key", "did you mean `udp`?"]),
        ("TURNWELL_LIMITS__CHANNELS", "many", ["limits.channels: ", "remedy: "]),
        ("TURNWELL_LIFETIMES__DEFAULT", "2h", ["lifetimes.default: 2h is more than", "30m"]),
        (
            "TURNWELL_CREDENTIALS__SECRET_FILES",
            "/nonexistent",
            ["credentials.secret-files[0]: cannot read", "remedy: "],
        ),
    ] {
        let [what, remedy] = words;
        refused(&check(&folder, &[(variable, value)], false), 78, &[&format!("{variable}: {what}"), remedy]);
    }
    let output = check(&folder, &[("TURNWELL_CREDENTIALS__SECRETS", "[hunter2]")], false);
    refused(&output, 78, &["TURNWELL_CREDENTIALS__SECRETS: credentials.secrets"]);
    assert!(!String::from_utf8_lossy(&output.stderr).contains("hunter2"));
    // the file is open to everybody, and the secret is not in it
    folder.write("turnwell.toml", "", 0o644);
    assert!(check(&folder, &[("TURNWELL_CREDENTIALS__SECRETS", "hunter2")], false).status.success());
}

#[test]
fn credentials_are_minted_offline() {
    let folder = Folder::with("[server]\npublic-host = \"turn.example.org\"\n[credentials]\nsecrets = [\"s3cret\"]\n");
    let path = folder.config();
    let output = run(&["credentials", "--user", "alice", "--ttl", "1h", "--config", text(&path), "--json"]);
    let body: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let mut credentials = turnwell::credentials::Credentials::new("turnwell");
    credentials.add_secret(turnwell::credentials::Secret::new("s3cret").expect("a secret"));
    let username = body["username"].as_str().expect("a user name");
    assert!(username.ends_with(":alice"));
    assert_eq!(credentials.password_for(username).as_deref(), body["password"].as_str());
    assert_eq!((&body["ttl"], &body["uris"][0]), (&3600.into(), &"turn:turn.example.org:3478?transport=udp".into()));

    let output = run(&["credentials", "--config", text(&path)]);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(["username: ", "password: ", "expires:  "].iter().all(|word| stdout.contains(word)), "{stdout}");
    refused(&run(&["credentials", "--user", "", "--config", text(&path)]), 64, &["--user"]);
    let folder = Folder::with("");
    refused(&run(&["credentials", "--config", text(&folder.config())]), 78, &["credentials.secrets", "remedy: "]);
}

#[test]
fn dev_prints_one_line_that_has_what_the_flags_said() {
    let dev =
        Dev::start(&["--realm", "R", "--secret", "S", "--api-key", "K", "--workers", "2", "--relay-ip", "127.0.0.1"]);
    assert_eq!((dev.text("realm"), dev.text("secret"), dev.text("api_key")), ("R", "S", "K"));
    assert_eq!(dev.ready["ready"], true);
    assert_ne!(dev.address().port(), 0);
    let url = format!("turn:{}?transport=udp", dev.address());
    assert_eq!(dev.ready["iceServers"][1]["urls"][0], url);
    dev.process.logged("FOR DEVELOPMENT ONLY");
}

#[test]
fn dev_makes_a_new_secret_and_key_each_time() {
    let (one, two) = (Dev::start(&[]), Dev::start(&[]));
    assert_ne!(one.text("secret"), two.text("secret"));
    assert_ne!(one.text("api_key"), two.text("api_key"));
}

#[test]
fn dev_starts_from_a_file_and_flags_win() {
    let folder = Folder::with(
        "[server]\nrealm = \"file\"\npublic-host = \"turn.example.org\"\n[credentials]\nsecrets = [\"one\", \"two\"]\n",
    );
    let path = folder.config();
    let dev = Dev::start(&["--config", text(&path)]);
    let url = format!("turn:turn.example.org:{}?transport=udp", dev.address().port());
    assert_eq!((dev.text("realm"), &dev.ready["iceServers"][1]["urls"][0]), ("file", &url.into()));
    assert_eq!(dev.text("secret"), "one");
    let dev = Dev::start(&["--config", text(&path), "--realm", "flag", "--secret", "three"]);
    assert_eq!((dev.text("realm"), dev.text("secret")), ("flag", "three"));
    folder.write("secret", "four\n", 0o600);
    let dev = Dev::start(&["--config", text(&path), "--secret-file", text(&folder.path("secret"))]);
    assert_eq!(dev.text("secret"), "four");
}

#[test]
fn every_way_to_end_is_exit_0_within_a_second() {
    let took = quickest(|| {
        let (status, took) = Dev::start(&[]).terminate();
        assert!(status.success(), "{status} after {took:?}");
        took
    });
    assert!(took < Duration::from_secs(1), "{took:?}");

    let config =
        "[listen]\nudp = [\"127.0.0.1:0\"]\n[api]\nlisten = [\"127.0.0.1:0\"]\n[credentials]\nsecrets = [\"s3cret\"]\n";
    let folder = Folder::with(config);
    for signal in ["TERM", "INT"] {
        let took = quickest(|| {
            let mut serve = Serve::start(&folder.config());
            serve.notified("READY=1");
            serve.process.signal(signal);
            let (status, took) = serve.process.wait();
            assert!(status.success(), "{signal}: {status} after {took:?}");
            serve.notified("STOPPING=1");
            took
        });
        assert!(took < Duration::from_secs(1), "{signal}: {took:?}");
    }
}

#[test]
fn an_open_connection_to_the_api_does_not_delay_the_end() {
    let took = quickest(|| {
        let dev = Dev::start(&[]);
        let api = dev.text("api").trim_start_matches("http://");
        let _idle = std::net::TcpStream::connect(api).expect("a connection");
        let (status, took) = dev.terminate();
        assert!(status.success(), "{status} after {took:?}");
        took
    });
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn no_secret_reaches_the_log() {
    let config = "[listen]\nudp = [\"127.0.0.1:0\"]\n[api]\nlisten = [\"127.0.0.1:0\"]\n\
                  keys = [\"k3y-0123456789abcdef\"]\n\
                  [credentials]\nsecrets = [\"hunter2\"]\nusers = [{ name = \"alice\", password = \"pa55word\" }]\n\
                  [log]\nlevel = \"trace\"\nformat = \"json\"\n";
    let folder = Folder::with(config);
    let mut serve = Serve::start(&folder.config());
    serve.notified("READY=1");
    serve.process.signal("HUP");
    serve.notified("RELOADING=1");
    serve.notified("READY=1");
    serve.process.signal("TERM");
    assert!(serve.process.wait().0.success());
    let log = serve.process.log();
    assert!(log.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{log}");
    assert!(["hunter2", "pa55word", "k3y-"].iter().all(|secret| !log.contains(secret)), "{log}");
}

#[test]
fn the_printed_curl_line_mints_a_credential() {
    if Command::new("curl").arg("--version").output().is_err() {
        return crate::common::skip("there is no curl");
    }
    let (_dev, printed) = dev_for_people();
    let curl = printed.lines().find(|line| line.starts_with("curl ")).expect("a curl line");
    let output = Command::new("sh").args(["-c", curl]).output().expect("a shell");
    let body: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(body["username"].as_str().is_some_and(|name| name.ends_with(":alice")), "{body}");
}

#[test]
fn the_printed_turnutils_lines_lose_nothing() {
    if Command::new("turnutils_peer").arg("-h").output().is_err() {
        return crate::common::skip("there are no utilities of coturn (turnutils_peer)");
    }
    let (_dev, printed) = dev_for_people();
    let line = |name: &str| printed.lines().find(|line| line.starts_with(name)).expect("a printed line");
    // the printed port may be in use by another test; the lines are pasted with one that is free
    let free = free_port().to_string();
    let peer = line("turnutils_peer").trim_end_matches(['&', ' ']).replace("3480", &free);
    let mut shell = Command::new("sh");
    let _peer = Process::start(shell.args(["-c", &format!("exec {peer}")]).stdout(Stdio::null()));
    let probe = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    probe.set_read_timeout(Some(Duration::from_millis(100))).expect("a time-out");
    probe.connect(format!("127.0.0.1:{free}")).expect("a socket of the peer's alone");
    let started = Instant::now();
    while probe.send(b"there?").and_then(|_| probe.recv(&mut [0; 16])).is_err() {
        assert!(started.elapsed() < PATIENCE, "{peer} echoes nothing");
    }
    let client = line("turnutils_uclient").replace("3480", &free);
    let output = Command::new("sh").args(["-c", &client]).output().expect("a shell");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.contains("tot_send_bytes ~ 10000, tot_recv_bytes ~ 10000"), "{client}\n{stdout}");
    assert!(stdout.contains("Total lost packets 0 "), "{stdout}");
}

/// A `turnwell dev` without `--json`, and what it printed up to its last line.
fn dev_for_people() -> (Process, String) {
    use std::io::{BufRead, BufReader};
    let mut command = Command::new(TURNWELL);
    command.args(["dev", "--listen", "127.0.0.1:0", "--api", "127.0.0.1:0", "--secret", "it's", "--api-key", "a key"]);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let process = Process::start(command.stdout(writer));
    drop(command);
    let mut printed = String::new();
    for line in BufReader::new(reader).lines() {
        let line = line.expect("a line");
        printed.push_str(&line);
        printed.push('\n');
        if line.starts_with("turnutils_uclient") {
            break;
        }
    }
    assert!(printed.contains("turnutils_uclient"), "{printed}\n{}", process.log());
    (process, printed)
}

#[test]
fn the_manual_and_completions_know_every_command() {
    let page = run(&["man"]);
    let page = String::from_utf8(page.stdout).expect("UTF-8");
    assert!(page.contains(".TH turnwell 1") && page.contains("check\\-config"), "{page}");
    let folder = Folder::with("");
    assert!(run(&["man", "--out", text(folder.0.path())]).status.success());
    for name in ["turnwell.1", "turnwell-serve.1", "turnwell-check-config.1"] {
        assert!(folder.path(name).is_file(), "{name}");
    }
    refused(&run(&["man", "--out", "/nonexistent/folder"]), 73, &["cannot write the manual", "--out"]);
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&["completions", shell]);
        assert!(String::from_utf8_lossy(&script.stdout).contains("check-config"), "{shell}");
    }
    refused(&run(&["completions", "tcsh"]), 64, &["tcsh", "bash"]);
}
