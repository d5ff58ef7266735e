//! `turnwell reload`: makes a running server read its configuration again, and says what came of it.

use axum::http::{Method, StatusCode};
use serde_json::Value;

use super::super::exit::Failure;
use super::call::Target;

/// Make the running server read its configuration again; a mistake changes nothing and is named here
#[derive(clap::Args)]
pub(super) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let (status, body) = args.target.ask(&Method::POST, "/v1/reload")?;
    if status == StatusCode::UNPROCESSABLE_ENTITY {
        let problems = body["problems"].as_array().map(Vec::as_slice).unwrap_or_default();
        return Err(Failure::config(problems.iter().map(text).collect::<Vec<_>>().join("\n")));
    }
    let answer = Target::accepted(status, body)?;
    if args.json {
        super::print(&super::json(&answer)?);
        return Ok(());
    }
    super::print("reloaded");
    for key in answer["restart"].as_array().map(Vec::as_slice).unwrap_or_default() {
        super::print(&format!("needs a restart: {}", key.as_str().unwrap_or_default()));
    }
    Ok(())
}

/// As `check-config` prints it.
fn text(problem: &Value) -> String {
    let part = |name: &str| problem[name].as_str().unwrap_or_default();
    let line = problem["line"].as_u64().map(|line| format!(":{line}")).unwrap_or_default();
    let (file, key) = (part("file"), part("key"));
    let file = if file.is_empty() { part("variable") } else { file };
    let place = if file.is_empty() { String::new() } else { format!("{file}{line}: ") };
    let key = if key.is_empty() { String::new() } else { format!("{key}: ") };
    format!("{place}{key}{}\n  remedy: {}", part("what"), part("remedy"))
}
