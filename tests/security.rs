//! What `docs/security.md` promises: every row names its tests, and they exist; and what is held by the sources alone.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the bans are for the core; documents are files"
)]

#[path = "common/citation.rs"]
mod citation;

use std::fs;
use std::path::Path;

use citation::{Citation, quoted};
use turnwell::credentials::{Credentials, Secret};
use turnwell::daemon::config::units::SecretText;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn exists(citation: &Citation<'_>) -> bool {
    citation.exists(&|path: &Path| fs::read_to_string(root().join(path)).ok())
}

/// The rows of the table: what comes before the last column, and the last column.
fn rows(document: &str) -> Vec<(usize, &str, &str)> {
    let mut rows = Vec::new();
    for (line, text) in (1..).zip(document.lines()) {
        if let Some((promise, tests)) =
            text.strip_prefix('|').and_then(|row| row.trim_end_matches('|').rsplit_once('|'))
            && !promise.starts_with("---")
            && tests.trim() != "shown by"
        {
            rows.push((line, promise, tests));
        }
    }
    rows
}

#[test]
fn every_row_names_tests_that_exist() {
    let document = read("docs/security.md");
    let rows = rows(&document);
    let mut wrong = Vec::new();
    for (line, _, tests) in &rows {
        let mut named = 0;
        for text in quoted(tests) {
            match Citation::of(text) {
                Some(citation) if exists(&citation) => named += 1,
                Some(_) | None => wrong.push(format!("docs/security.md:{line}: there is no `{text}`")),
            }
        }
        if named == 0 {
            wrong.push(format!("docs/security.md:{line}: names no test"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(rows.len() >= 14, "the table has moved: {} rows", rows.len());
}

#[test]
fn secrets_are_printed_by_nobody_and_wiped() {
    fn is_wiped<T: zeroize::ZeroizeOnDrop>() {}
    is_wiped::<SecretText>();
    // The keyed states that a `Secret` consists of.
    is_wiped::<sha1::block_api::Sha1Core>();
    let mut credentials = Credentials::new("realm");
    credentials.add_secret(Secret::new("hunter2").unwrap());
    credentials.add_user("alice", "hunter2");
    let printed = format!("{:?} {credentials:?} {:?}", Secret::new("hunter2"), SecretText::new("hunter2".into()));
    assert!(!printed.contains("hunter2"), "{printed}");
}

/// What an attacker can present is compared in constant time: integrity, nonces, API keys.
#[test]
fn what_is_presented_is_compared_in_constant_time() {
    for (file, compares) in [
        ("src/wire/integrity.rs", "verify_truncated_left("),
        ("src/relay/nonce.rs", ".ct_eq("),
        ("src/daemon/config/api_key.rs", ".ct_eq("),
    ] {
        assert!(read(file).contains(compares), "{file} has no {compares}");
    }
}

#[test]
fn every_dependency_comes_from_crates_io_with_a_checksum() {
    let lock: toml::Table = toml::from_str(&read("Cargo.lock")).expect("a lock file");
    let packages = lock["package"].as_array().expect("packages");
    assert!(packages.len() > 100);
    for package in packages {
        let text = |key: &str| package.get(key).and_then(toml::Value::as_str);
        if text("name") != Some("turnwell") {
            assert_eq!(text("source"), Some("registry+https://github.com/rust-lang/crates.io-index"), "{package}");
            assert!(text("checksum").is_some_and(|sum| sum.len() == 64), "{package}");
        }
    }
}

#[test]
fn what_cargo_deny_is_to_check_can_be_read() {
    let deny: toml::Table = toml::from_str(&read("deny.toml")).expect("TOML");
    assert_eq!(deny["sources"]["unknown-git"].as_str(), Some("deny"));
    assert_eq!(deny["advisories"]["yanked"].as_str(), Some("deny"));
}
