//! What the dashboard and the alerts ask for is what `/metrics` has.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::sessions::Server;
use crate::support::Dev;

fn deployed(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)).expect("a text")
}

/// The names in a text that begin as ours do.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with("turnwell_")).map(str::to_owned).collect()
}

/// The matchers `label="value"` of each name in a query: those that want exactly this.
fn matchers(query: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (name, rest) in query.split('{').zip(query.split('{').skip(1)) {
        let name =
            name.rsplit(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').next().unwrap_or_default();
        let inside = rest.split('}').next().unwrap_or_default();
        let wanted = inside.split(',').filter(|matcher| matcher.contains("=\"") && !matcher.contains("!="));
        found.extend(wanted.map(|matcher| (name.to_owned(), matcher.to_owned())));
    }
    found
}

/// Every query of the two files.
fn queries() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&deployed("grafana/turnwell.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let mut queries: Vec<String> = targets.map(|target| target["expr"].as_str().expect("a query").to_owned()).collect();
    assert!(queries.len() > 20, "{queries:?}");
    let variables = dashboard["templating"]["list"].as_array().expect("variables");
    queries.extend(variables.iter().filter_map(|variable| variable["query"]["query"].as_str()).map(str::to_owned));
    let alerts = deployed("prometheus/alerts.yml");
    let expressions = alerts.lines().filter_map(|line| line.trim().strip_prefix("expr: ")).map(str::to_owned);
    let before = queries.len();
    queries.extend(expressions);
    assert_eq!(queries.len() - before, alerts.matches("- alert: ").count(), "an expression is on one line");
    queries
}

#[test]
fn every_query_asks_for_what_there_is() {
    let dev = Dev::start(&[]);
    let server = Server::of(&dev);
    server.mint("alice");
    let (_, metrics) = server.ask("GET", "/metrics", None);
    let metrics = metrics.as_str().expect("a text");
    let mut known = BTreeSet::new();
    for line in metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').expect("a name and a type");
        let endings: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
        known.extend(endings.iter().map(|ending| format!("{name}{ending}")));
    }
    for query in queries() {
        let unknown: Vec<String> = names(&query).difference(&known).cloned().collect();
        assert!(unknown.is_empty(), "{unknown:?} of {query}");
        for (name, matcher) in matchers(&query).iter().filter(|(name, _)| name.starts_with("turnwell_")) {
            let has = metrics.lines().any(|line| line.starts_with(&format!("{name}{{")) && line.contains(matcher));
            assert!(has, "no row of {name} has {matcher}, which {query} wants");
        }
    }
}

#[test]
fn the_metrics_that_there_are_are_documented() {
    let dev = Dev::start(&[]);
    let (_, metrics) = Server::of(&dev).ask("GET", "/metrics", None);
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/api.md")).expect("the document");
    for line in metrics.as_str().expect("a text").lines().filter_map(|line| line.strip_prefix("# TYPE turnwell_")) {
        let name = line.split(' ').next().expect("a name");
        assert!(text.contains(&format!("`{name}`")), "{name} is not in docs/api.md");
    }
}
