//! SIGHUP: what may change does, what is wrong changes nothing.

use crate::support::{Folder, Serve, http};

fn config(port: u16, key: &str, more: &str) -> String {
    format!(
        "[listen]\nudp = [\"127.0.0.1:0\"]\n[api]\nlisten = [\"127.0.0.1:{port}\"]\nkeys = [\"{key}\"]\n\
         [credentials]\nsecrets = [\"s3cret\"]\n{more}\n"
    )
}

/// A TCP port that was free a moment ago.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    listener.local_addr().expect("its address").port()
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
    assert!(serve.process.log().contains("needs a restart"), "the log format is fixed");

    folder.write("turnwell.toml", &config(port, "the third key 03", "[relay]\nprots = \"1-2\""), 0o600);
    serve.process.signal("HUP");
    serve.notified("STATUS=relaying, last reload failed, see the log");
    assert_eq!((status("the second key 2"), status("the third key 03")), (200, 401));
    let log = serve.process.log();
    assert!(log.contains("relay.prots") && log.contains("did you mean"), "{log}");
}
