//! Reload: what may change does at once, what is wrong changes nothing, and no packet is lost over it.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::served::{LOCAL, Served};
use crate::sessions::run;
use crate::streams::binding;
use crate::support::{Folder, PATIENCE, Serve, TURNWELL, free_port, http};
use crate::tls::connect as tls;

fn config(port: u16, key: &str, more: &str) -> String {
    format!(
        "[listen]\nudp = [\"127.0.0.1:0\"]\n[api]\nlisten = [\"127.0.0.1:{port}\"]\nkeys = [\"{key}\"]\n\
         [credentials]\nsecrets = [\"s3cret\"]\n{more}\n"
    )
}

#[test]
fn keys_are_replaced_and_a_wrong_file_changes_nothing() {
    let port = free_port();
    let folder = Folder::with(&config(port, "the first key 01", ""));
    let serve = Serve::start(&folder.config());
    serve.notified("READY=1");
    let status = |key: &str| {
        let url = format!("http://127.0.0.1:{port}/turn?service=turn");
        let answer = http().get(url).header("Authorization", format!("Bearer {key}")).call();
        answer.expect("an answer").status().as_u16()
    };
    assert_eq!((status("the first key 01"), status("the second key 2")), (200, 401));

    folder.write("turnwell.toml", &config(port, "the second key 2", "[log]\nformat = \"json\""), 0o600);
    serve.process.signal("HUP");
    serve.notified("RELOADING=1");
    serve.notified("STATUS=relaying, configuration reloaded");
    assert_eq!((status("the first key 01"), status("the second key 2")), (401, 200));
    serve.process.log_when(|log| log.contains("need a restart") && log.contains("log.format"));

    folder.write("turnwell.toml", &config(port, "the third key 03", "[relay]\nprots = \"1-2\""), 0o600);
    serve.process.signal("HUP");
    serve.notified("STATUS=relaying, last reload failed, see the log");
    assert_eq!((status("the second key 2"), status("the third key 03")), (200, 401));
    serve.process.log_when(|log| log.contains("relay.prots") && log.contains("did you mean"));
}

#[test]
fn a_thousand_reloads_lose_no_packet_of_a_call() {
    let served = Arc::new(Served::start(LOCAL));
    run(async {
        let call = served.call("alice").await.expect("an allocation");
        let reloads = tokio::task::spawn_blocking({
            let served = served.clone();
            move || {
                for number in 0..1000 {
                    // something of everything that may change
                    served.rewrite(&format!(
                        "secret-files = []\nusers = [{{ name = \"user{number}\", password = \"p\" }}]\n{LOCAL}\
                         deny = [\"192.0.2.{}\"]\n[limits]\nallocations-per-user = {}\npermissions = {}\n\
                         [log]\nlevel = \"{}\"\n",
                        number % 256,
                        5 + number % 5,
                        10 + number % 5,
                        ["info", "debug"][number % 2],
                    ));
                    assert_eq!(served.reload(), (200, json!({ "restart": [] })));
                }
            }
        });
        let mut packets = 0;
        while !reloads.is_finished() {
            // each packet is awaited, there and back
            call.echo(10, 172).await;
            packets += 10;
        }
        reloads.await.expect("a thousand reloads");
        println!("{packets} packets there and back during 1000 reloads");
        assert!(packets >= 1000, "{packets}");
    });
    assert_eq!(served.server.metric("turnwell_config_reloads_total{result=\"applied\"}"), 1000);
    assert_eq!(served.server.metric("turnwell_allocations{transport=\"udp\",family=\"ipv4\"}"), 1);
}

#[test]
fn each_mistake_is_refused_with_file_line_key_and_remedy() {
    let served = Served::start(LOCAL);
    let cases = [
        ("expiry = \"never\"\n", 1, "credentials.expiry"),
        ("secret-files = [\"missing\"]\n", 1, "credentials.secret-files[0]"),
        ("users = [{ name = \"a\" }]\n", 1, "credentials.users[0]"),
        ("[peers]\nallow = [\"127.0.0.0/8\"]\ndeny = [\"10.0.0.1/8\"]\n", 3, "peers.deny[0]"),
        ("[lifetimes]\ndefault = \"2h\"\n", 2, "lifetimes.default"),
        ("[limits]\nchannels = 0\n", 2, "limits.channels"),
        ("[log]\nlevel = \"loud\"\n", 2, "log.level"),
        ("[tls]\n\ncertificate = \"chain.pem\"\n", 1, "tls.key"),
        ("[relay]\nprots = \"1-2\"\n", 2, "relay.prots"),
        ("[server]\nrealm = \"\"\n", 2, "server.realm"),
        ("[server]\ndrain-timeout = 30\n", 2, "server.drain-timeout"),
        ("[server\n", 1, ""),
    ];
    run(async {
        let call = served.call("alice").await.expect("an allocation");
        for (more, line, key) in cases {
            let before = served.rewrite(more);
            let (status, body) = served.reload();
            let problem = &body["problems"][0];
            assert_eq!((status, &body["code"]), (422, &json!("invalid_configuration")), "{more}");
            let found = (problem["line"].as_u64(), problem["key"].as_str());
            assert_eq!(found, (Some((before - 1 + line) as u64), Some(key)), "{body}");
            assert_eq!(problem["file"], json!(served.folder.config()));
            assert!(problem["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()), "{body}");
            call.echo(2, 20).await;
            served.call("bob").await.expect("the old secret, and the old peers").echo(1, 20).await;
        }
    });
    assert_eq!(served.server.metric("turnwell_config_last_reload_successful"), 0);
    for (_, _, key) in cases {
        served.serve.process.logged(key);
    }

    let output = assert_cmd::Command::new(TURNWELL)
        .args(["reload", "--api", &served.server.api])
        .env("TURNWELL_API_KEY", &served.server.key)
        .output()
        .expect("a program to run");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{stderr}");
    assert!(stderr.contains("this is not TOML") && stderr.contains("remedy: "), "{stderr}");
    served.rewrite(&format!("{LOCAL}[relay]\nports = \"30000-40000\"\n"));
    let mut command = assert_cmd::Command::new(TURNWELL);
    command.args(["reload", "--api", &served.server.api]).env("TURNWELL_API_KEY", &served.server.key);
    command.assert().success().stdout("reloaded\nneeds a restart: relay.ports\n");
    assert_eq!(served.server.metric("turnwell_config_last_reload_successful"), 1);
}

#[test]
fn a_range_that_is_newly_denied_stops_a_running_flow() {
    let served = Arc::new(Served::start(LOCAL));
    run(async {
        let call = Arc::new(served.call("alice").await.expect("an allocation"));
        call.echo(5, 20).await;
        assert_eq!(served.server.sessions()[0]["permissions"], 1);
        let sending = tokio::spawn({
            let call = call.clone();
            async move {
                loop {
                    call.send().await;
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        });
        let asked = Instant::now();
        served.rewrite("[peers]\nallow = [\"127.0.0.0/8\"]\ndeny = [\"127.0.0.2\"]\n");
        assert_eq!(served.reload().0, 200);
        let session = loop {
            let session = served.server.sessions().remove(0);
            if session["permissions"] == 0 {
                break session;
            }
            assert!(asked.elapsed() < PATIENCE, "{session}");
        };
        println!("the flow ended {:?} after the reload was asked for", asked.elapsed());
        assert_eq!(session["channels"], 0);
        // from here on nothing arrives, although it is sent and seen
        let dropped = "turnwell_relay_dropped_packets_total{reason=\"no_channel\"}";
        let more_are_dropped = || served.server.wait_for_metric(dropped, served.server.metric(dropped) + 20);
        more_are_dropped();
        call.arrived();
        more_are_dropped();
        assert_eq!(call.arrived(), 0);
        sending.abort();
    });
}

#[test]
fn limits_and_levels_change_while_calls_run() {
    let served = Served::start(LOCAL);
    run(async {
        let call = served.call("alice").await.expect("an allocation");
        served.rewrite(&format!("{LOCAL}[limits]\nallocations-per-user = 1\n[log]\nlevel = \"debug\"\n"));
        assert_eq!(served.reload().0, 200);
        assert!(served.call("alice").await.is_err_and(|error| error.contains("486")));
        // refusals are logged at debug, after they are sent
        served.serve.process.logged("UserQuota");
        call.echo(3, 20).await;
        served.rewrite(&format!("{LOCAL}[limits]\nallocations-per-user = 2\n"));
        assert_eq!(served.reload().0, 200);
        served.call("alice").await.expect("a second allocation");
    });
}

#[test]
fn a_renewed_certificate_is_shown_without_being_told() {
    let folder = Folder::with("");
    let port = free_port();
    let certificates: Vec<_> = ["one", "two"]
        .into_iter()
        .map(|name| {
            let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
            fs::create_dir(folder.path(name)).expect("a folder");
            folder.write(&format!("{name}/fullchain.pem"), &made.cert.pem(), 0o644);
            folder.write(&format!("{name}/privkey.pem"), &made.signing_key.serialize_pem(), 0o600);
            made.cert.pem()
        })
        .collect();
    // as certbot has it: `live` points to what is in force
    let renew = |name: &str| {
        symlink(folder.path(name), folder.path("next")).expect("a link");
        fs::rename(folder.path("next"), folder.path("live")).expect("a link in its place");
    };
    renew("one");
    let text = format!(
        "[listen]\nudp = [\"127.0.0.1:0\"]\ntls = [\"127.0.0.1:{port}\"]\n[api]\nlisten = []\n\
         [tls]\ncertificate = \"live/fullchain.pem\"\nkey = \"live/privkey.pem\"\n"
    );
    folder.write("turnwell.toml", &text, 0o600);
    let serve = Serve::start(&folder.config());
    serve.notified("READY=1");
    let shows = |certificate: &str| {
        let client = tls(([127, 0, 0, 1], port).into(), "localhost", certificate.as_bytes(), &[]);
        client.and_then(|mut client| binding(&mut client, 1)).is_ok()
    };
    assert!(shows(&certificates[0]) && !shows(&certificates[1]));
    // what is half edited is not looked at
    folder.write("turnwell.toml", "[server", 0o600);
    renew("two");
    serve.notified("STATUS=relaying, configuration reloaded");
    assert!(!shows(&certificates[0]) && shows(&certificates[1]));
    // a key of another certificate changes nothing
    folder.write("two/privkey.pem", &fs::read_to_string(folder.path("one/privkey.pem")).expect("a key"), 0o600);
    serve.notified("STATUS=relaying, last reload failed, see the log");
    assert!(shows(&certificates[1]));
    let words = ["turnwell.toml:8", "tls.key", "does not belong"];
    serve.process.log_when(|log| words.iter().all(|word| log.contains(word)));
}

#[test]
fn a_server_without_a_file_says_so() {
    let dev = crate::support::Dev::start(&[]);
    let (status, body): (u16, Value) = crate::sessions::Server::of(&dev).ask("POST", "/v1/reload", None);
    assert_eq!((status, &body["code"]), (409, &json!("not_reloadable")), "{body}");
}
