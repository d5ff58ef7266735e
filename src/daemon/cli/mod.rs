//! The commands, a file for each. Errors go to standard error with key and remedy; exit codes are those of `exit.rs`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use super::bench;
use super::config;
use super::exit::{self, Failure};
use super::import;
#[cfg(feature = "doctor")]
use super::{decode, doctor};

mod call;
mod check_config;
mod credentials;
mod dev;
mod key;
mod manual;
mod reload;
mod serve;
mod status;
mod throwaway;

#[cfg(feature = "doctor")]
pub(super) use dev::url;

/// Names the configuration file when `--config` does not.
const VARIABLE: &str = "TURNWELL_CONFIG";

/// A STUN and TURN server that runs beside a chat or call app and mints its credentials.
#[derive(Parser)]
#[command(name = "turnwell", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Serve(serve::Args),
    Dev(dev::Args),
    CheckConfig(check_config::Args),
    Credentials(credentials::Args),
    Key(key::Args),
    Status(status::StatusArgs),
    Kick(status::KickArgs),
    Drain(status::DrainArgs),
    Reload(reload::Args),
    Bench(bench::BenchArgs),
    #[cfg(feature = "doctor")]
    Doctor(doctor::DoctorArgs),
    #[cfg(feature = "doctor")]
    Decode(decode::DecodeArgs),
    ImportCoturn(import::ImportArgs),
    Man(manual::ManArgs),
    Completions(manual::CompletionsArgs),
}

/// Runs the command that the arguments of this process name.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // nothing can be told about a terminal that is gone
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(exit::USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let result = match cli.command {
        Command::Serve(args) => serve::run(args),
        Command::Dev(args) => dev::run(args),
        Command::CheckConfig(args) => check_config::run(args),
        Command::Credentials(args) => credentials::run(args),
        Command::Key(args) => key::run(args),
        Command::Status(args) => status::status(&args),
        Command::Kick(args) => status::kick(&args),
        Command::Drain(args) => status::drain(&args),
        Command::Reload(args) => reload::run(&args),
        Command::Bench(args) => return bench::run(&args),
        #[cfg(feature = "doctor")]
        Command::Doctor(args) => match doctor::run(&args) {
            Ok(code) => return ExitCode::from(code),
            Err(failure) => Err(failure),
        },
        #[cfg(feature = "doctor")]
        Command::Decode(args) => decode::run(&args),
        Command::ImportCoturn(args) => import::run(&args),
        Command::Man(args) => manual::man(&args),
        Command::Completions(args) => manual::completions(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("turnwell: {failure}");
            ExitCode::from(failure.code)
        }
    }
}

/// The configuration file: the one named, else `$TURNWELL_CONFIG`, else the one in `/etc`.
pub(super) fn config_path(named: Option<PathBuf>) -> PathBuf {
    let from_environment = || std::env::var_os(VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
    named.or_else(from_environment).unwrap_or_else(|| config::DEFAULT_PATH.into())
}

/// Writes to standard output; a reader that went away is no failure.
pub(super) fn print(text: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// JSON of our own types, which always have a text form.
fn json(value: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(Failure::internal)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
