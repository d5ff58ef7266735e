//! The log says in words why a credential is refused, and no user's name with it.

use serde_json::json;
use turnwell::credentials::{Credentials, Secret};

use crate::served::Served;

/// A credential as an app makes it that reads its secret with the newline at the end of the file.
fn minted(secret: &str) -> serde_json::Value {
    let mut app = Credentials::new("turnwell");
    app.add_secret(Secret::new(secret).expect("a secret"));
    let issued = app.issue(Some("alice"), 4_000_000_000).expect("a credential");
    json!({ "username": issued.username, "password": issued.password })
}

#[tokio::test]
async fn a_newline_behind_the_apps_secret_is_named_once_however_often_it_comes() {
    let served = Served::start("");
    assert!(served.call_with(&minted("s3cret")).await.is_ok());
    for _ in 0..3 {
        assert!(served.call_with(&minted("s3cret\n")).await.is_err());
    }
    let log = served.serve.process.logged("credentials are refused");
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("credentials are refused")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(lines[0].contains("WARN") && lines[0].contains("a newline behind it"), "{}", lines[0]);
    assert!(!lines[0].contains("alice") && !lines[0].contains("s3cret"));
}
