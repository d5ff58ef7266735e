//! `turnwell key new`: draws an API key and prints the entry of the configuration that knows it.

use super::super::config::{ApiKeys, Scope};
use super::super::exit::{self, Failure};

/// Make an API key
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    New(New),
}

/// Draw a key and print the configuration entry that accepts it; nothing is stored
#[derive(clap::Args)]
struct New {
    /// Its name in metrics, logs and the configuration: a-z, 0-9 and -
    #[arg(long)]
    id: String,
    /// What it may do; repeatable
    #[arg(long, value_name = "SCOPE", default_values = ["mint"])]
    scope: Vec<Scope>,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    let Command::New(new) = args.command;
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if new.id.is_empty() || new.id.len() > 64 || !new.id.bytes().all(is_plain) {
        let what = "--id: the name is empty, longer than 64 characters, or has other characters than a-z, 0-9 and -";
        return Err(Failure::new(exit::USAGE, what, "use a short name such as shop"));
    }
    let key = format!("tk_{}_{}", new.id, super::dev::random()?);
    let hash = ApiKeys::hashed(&key);
    let hash = hash.expose();
    let scopes: Vec<&str> = new.scope.iter().map(|scope| scope.name()).collect();
    if new.json {
        let line = serde_json::json!({ "id": new.id, "key": key, "hash": hash, "scopes": scopes });
        super::print(&super::json(&line)?);
        return Ok(());
    }
    super::print(&format!(
        "{key}\n\n# The key is not stored: give it to the caller now. Add this to the configuration, then reload.\n\
        [[api.clients]]\nid = \"{}\"\nkey = \"{hash}\"\nscopes = {scopes:?}",
        new.id
    ));
    Ok(())
}
