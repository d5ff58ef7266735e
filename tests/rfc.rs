//! `docs/rfc.md` names functions and tests that exist, and every requirement has both or a reason.

#![allow(clippy::disallowed_methods, reason = "the bans are for the core; sources and documents are files")]

#[path = "common/citation.rs"]
mod citation;

use std::fs;
use std::path::Path;

use citation::{Citation, quoted};

/// What a row says instead of naming a function.
const REASONS: [&str; 3] = ["not met: ", "not used: ", "by configuration: "];

fn read(path: &Path) -> Option<String> {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).ok()
}

fn document() -> String {
    read(Path::new("docs/rfc.md")).expect("docs/rfc.md")
}

#[test]
fn every_citation_names_something_that_exists() {
    let document = document();
    let mut wrong = Vec::new();
    for (line, text) in (1..).zip(document.lines()) {
        for quoted in quoted(text) {
            match Citation::of(quoted) {
                Some(citation) if !citation.exists(&read) => wrong.push(format!("docs/rfc.md:{line}: `{quoted}`")),
                Some(_) | None => {}
            }
        }
    }
    assert!(wrong.is_empty(), "there is no such function or test:\n{}", wrong.join("\n"));
}

#[test]
fn every_requirement_has_a_function_and_a_test_or_a_reason() {
    let document = document();
    let (mut wrong, mut rows) = (Vec::new(), 0);
    for (line, cells) in requirements(&document) {
        rows += 1;
        if let Err(why) = judged(&cells) {
            wrong.push(format!("docs/rfc.md:{line}: {why}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(rows > 100, "the tables have moved: {rows} rows");
}

#[test]
fn every_rfc_has_its_table() {
    let document = document();
    for rfc in ["8489", "8656", "5780", "6062"] {
        assert!(document.contains(&format!("\n## RFC {rfc} ")), "RFC {rfc}");
    }
}

/// A test that cannot fail shows nothing.
#[test]
fn what_is_missing_is_noticed() {
    let sources = |path: &Path| match path.to_str()? {
        "src/relay/refresh.rs" => Some("impl Relay {\n    pub(super) fn refresh(&mut self) {}\n}".to_owned()),
        "src/wire/mod.rs" => Some("#[test]\nfn padding_is_zero() {}\nfn helper() {}".to_owned()),
        "tests/engine/refresh.rs" => Some("#[test]\nfn it_lives_on() {}".to_owned()),
        "tests/icmp.rs" => Some("#[tokio::test]\nasync fn it_is_told() {}".to_owned()),
        "tests/interop/test_uclient.py" => Some("class Channels:\n    def test_all(self):\n".to_owned()),
        _ => None,
    };
    for (quoted, is_there) in [
        ("relay/refresh.rs: refresh", true),
        ("relay/refresh.rs: refres", false),
        ("relay/gone.rs: refresh", false),
        ("engine: refresh::it_lives_on", true),
        ("engine: refresh::it_dies", false),
        ("engine: gone::it_lives_on", false),
        ("icmp: it_is_told", true),
        ("icmp: is_told", false),
        ("lib: wire::padding_is_zero", true),
        ("lib: wire::helper", false),
        ("interop: test_uclient::test_all", true),
        ("interop: test_uclient::test_none", false),
    ] {
        assert_eq!(Citation::of(quoted).expect(quoted).exists(&sources), is_there, "{quoted}");
    }
    for other in ["relay.ports", "obMatJos2", "username = a: b", "Some text: with words", "[limits]"] {
        assert!(Citation::of(other).is_none(), "{other}");
    }
    let row = |place: &str, test: &str| judged(&["1".into(), "a rule".into(), place.into(), test.into()]).is_ok();
    assert!(row("`relay/refresh.rs: refresh`", "`engine: refresh::it_lives_on`"));
    assert!(!row("`relay/refresh.rs: refresh`", "—"));
    assert!(!row("the kernel", "`engine: refresh::it_lives_on`"));
    assert!(row("not met: nobody asks for it", "—"));
    assert!(!row("not met: ", "—"), "a reason has words");
    assert!(judged(&["1".into(), "a rule".into()]).is_err());
}

/// The rows of the tables under `## RFC`, without their heads.
fn requirements(document: &str) -> Vec<(usize, Vec<String>)> {
    let (mut found, mut is_rfc) = (Vec::new(), false);
    for (line, text) in (1..).zip(document.lines()) {
        if text.starts_with("## ") {
            is_rfc = text.starts_with("## RFC ");
        }
        let is_row = text.starts_with('|') && !text.starts_with("|---") && !text.starts_with("| § |");
        if is_rfc && is_row {
            let inner = text.trim_matches('|');
            found.push((line, inner.split(" | ").map(|cell| cell.trim().to_owned()).collect()));
        }
    }
    found
}

/// What is wrong with a row.
fn judged(cells: &[String]) -> Result<(), String> {
    let [section, rule, place, test] = cells else { return Err(format!("{} cells", cells.len())) };
    let cites = |cell: &str, kind: fn(&Citation<'_>) -> bool| {
        quoted(cell).filter_map(Citation::of).any(|citation| kind(&citation))
    };
    let has_reason = REASONS.iter().any(|start| place.strip_prefix(start).is_some_and(|why| !why.trim().is_empty()));
    if section.is_empty() || rule.is_empty() {
        return Err("no section or no rule".into());
    }
    if has_reason {
        return Ok(());
    }
    if !cites(place, |citation| matches!(citation, Citation::Function { .. })) {
        return Err(format!("{section}: no function and no reason"));
    }
    if !cites(test, |citation| matches!(citation, Citation::Test { .. })) {
        return Err(format!("{section}: no test"));
    }
    Ok(())
}
