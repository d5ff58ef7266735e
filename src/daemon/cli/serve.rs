//! `turnwell serve`: runs the server.

use std::path::PathBuf;

use super::super::config::Reading;
use super::super::exit::Failure;
use super::super::ice::Wildcard;
use super::super::lifecycle::{self, Launch};

/// Run the server
#[derive(clap::Args)]
pub(super) struct Args {
    /// The configuration file [default: $TURNWELL_CONFIG, else /etc/turnwell/turnwell.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    let path = super::config_path(args.config);
    let reading = Reading::of(&path)?;
    let config = reading.resolve()?;
    let launch = Launch { config, reading, path: Some(path), wildcard: Wildcard::MostPublic, page_key: None };
    lifecycle::run(launch, |_| Ok(()))
}
