//! Credentials as products compute them from the shared secret, accepted by the running server.

use serde_json::json;

use crate::caller::call;
use crate::support::Dev;

/// `base64(HMAC-SHA1(secret, name))`, by code that is not the server's own: openssl's.
fn password(secret: &str, name: &str) -> String {
    let mut command = assert_cmd::Command::new("openssl");
    let output = command.args(["dgst", "-sha1", "-hmac", secret, "-binary"]).write_stdin(name).output();
    let digest = output.expect("openssl to run").stdout;
    assert_eq!(digest.len(), 20);
    base64::Engine::encode(&base64::engine::general_purpose::STANDARD, digest)
}

#[test]
fn user_names_of_every_product_allocate() {
    let dev = Dev::start(&["--secret", "north"]);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").as_secs();
    let ends = now + 3600;
    for (product, name) in [
        ("Prosody, Jitsi", format!("{ends}")),
        ("Synapse, Dendrite", format!("{ends}:@alice:example.org")),
        ("Nextcloud Talk", format!("{ends}:k3Jx9QmPz0aLw2Ve")),
        ("ejabberd", format!("{ends}:28b0c1")),
        ("Mattermost, BigBlueButton, Galène", format!("{ends}:some user é")),
        ("coturn's other order", format!("alice:{ends}")),
    ] {
        let minted = json!({ "username": name, "password": password("north", &name) });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let outcome = runtime
            .expect("a runtime")
            .block_on(async { call(dev.address(), dev.text("realm"), &minted).await.map(drop) });
        assert_eq!(outcome, Ok(()), "{product}: {name}");
    }
}
