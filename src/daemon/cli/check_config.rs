//! `turnwell check-config`: says whether `serve` would accept a configuration.

use std::path::PathBuf;

use super::super::config::Config;
use super::super::exit::Failure;

/// Check a configuration file and the secret files it names
#[derive(clap::Args)]
pub(super) struct Args {
    /// The configuration file [default: $TURNWELL_CONFIG, else /etc/turnwell/turnwell.toml]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    let path = super::config_path(args.file);
    let config = Config::load(&path)?;
    super::print(&format!("{}: the configuration is valid", path.display()));
    for note in config.notes() {
        super::print(&format!("note: {note}"));
    }
    Ok(())
}
