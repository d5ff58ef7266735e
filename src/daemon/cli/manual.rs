//! `turnwell man` and `turnwell completions`: what the command line is, for `man` and for shells.

use std::io;
use std::path::PathBuf;

use clap::{Command, CommandFactory};
use clap_complete::Shell;

use super::super::exit::{self, Failure};

/// Print the manual page, or write one for each command
#[derive(clap::Args)]
pub(super) struct ManArgs {
    /// Write turnwell.1, turnwell-serve.1 and so on into this folder
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

/// Print completions for a shell
#[derive(clap::Args)]
pub(super) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

pub(super) fn man(args: &ManArgs) -> Result<(), Failure> {
    let command = super::Cli::command();
    let failed = |error: io::Error| {
        let what = format!("cannot write the manual: {error}");
        Failure::new(exit::CANNOT_CREATE, what, "name an existing folder that may be written to with --out")
    };
    match &args.out {
        Some(folder) => clap_mangen::generate_to(command, folder).map_err(failed),
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command).render(&mut page).map_err(Failure::internal)?;
            super::print(String::from_utf8_lossy(&page).trim_end());
            Ok(())
        }
    }
}

pub(super) fn completions(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut command: Command = super::Cli::command();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "turnwell", &mut script);
    super::print(String::from_utf8_lossy(&script).trim_end());
    Ok(())
}
