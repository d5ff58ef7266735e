//! `turnwell check-config`: says whether `serve` would accept a configuration, and what it would run with.

use std::path::PathBuf;

use super::super::config::Reading;
use super::super::exit::Failure;

/// Check a configuration file, the variables of the environment, and the secret files that they name
#[derive(clap::Args)]
pub(super) struct Args {
    /// The configuration file [default: $TURNWELL_CONFIG, else /etc/turnwell/turnwell.toml]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Print each key with its value, and whether that comes from the file, the environment or is the default
    #[arg(long)]
    effective: bool,
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    let path = super::config_path(args.file);
    let reading = Reading::of(&path)?;
    let config = reading.resolve()?;
    if args.effective {
        super::print(&effective(&reading)?);
        return Ok(());
    }
    super::print(&format!("{}: the configuration is valid", path.display()));
    for note in config.notes() {
        super::print(&format!("note: {note}"));
    }
    for warning in config.incomplete_chains() {
        super::print(&format!("warning: {warning}"));
    }
    Ok(())
}

/// TOML again, with where each value comes from in a comment. Secrets are hidden.
fn effective(reading: &Reading) -> Result<String, Failure> {
    let sections = toml::Table::try_from(&reading.file).map_err(Failure::internal)?;
    let mut lines = Vec::new();
    for (section, keys) in &sections {
        lines.push(format!("[{section}]"));
        for (key, value) in keys.as_table().into_iter().flatten() {
            let origin = reading.source.origin(&format!("{section}.{key}"));
            lines.push(format!("{key} = {value}  # {origin}"));
        }
        lines.push(String::new());
    }
    Ok(lines.join("\n").trim_end().to_owned())
}
