//! `turnwell credentials`: mints a credential offline, with the secret of the configuration.

use std::path::PathBuf;

use super::super::config::units::Period;
use super::super::config::{Config, Fixed, MintRules};
use super::super::exit::{self, Failure};
use super::super::ice::{self, Answer, Order, Policy, Uris, Wildcard};
use super::super::unix_now;
use crate::credentials::IssueError;

/// Mint a time-limited credential, without a running server
#[derive(clap::Args)]
pub(super) struct Args {
    /// The user to name in the credential
    #[arg(long)]
    user: Option<String>,
    /// How long it is valid, for example 1h [default: api.default-ttl]
    #[arg(long, value_name = "TIME")]
    ttl: Option<Period>,
    /// The configuration file [default: $TURNWELL_CONFIG, else /etc/turnwell/turnwell.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the JSON that the API answers
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    let config = Config::load(&super::config_path(args.config))?;
    let rules = &config.live.mint;
    let ttl = args.ttl.map_or(rules.default_ttl, |ttl| ttl.duration().as_secs());
    let order = Order { user: args.user.as_deref(), ttl, policy: Policy::All };
    let uris = uris(&config.fixed, rules)?;
    let answer =
        Answer::mint(&config.live.relay.credentials, &uris, &order, unix_now()).map_err(|error| match error {
            IssueError::NoSecret => Failure::new(
                exit::CONFIG,
                "credentials.secrets: there is no shared secret to sign with",
                "set credentials.secrets or credentials.secret-files",
            ),
            IssueError::InvalidUser => Failure::new(
                exit::USAGE,
                "--user: the name is empty, longer than 480 bytes or has control characters",
                "use a shorter printable name",
            ),
        })?;
    if args.json {
        super::print(&super::json(&answer)?);
    } else {
        super::print(&format!(
            "username: {}\npassword: {}\nexpires:  {}",
            answer.username, answer.password, answer.expires_at
        ));
    }
    Ok(())
}

/// The URLs that a server with this configuration would have on this machine.
fn uris(fixed: &Fixed, rules: &MintRules) -> Result<Uris, Failure> {
    let net = fixed.net().map_err(|error| Failure::system("cannot list the machine's addresses", &error))?;
    let reached = ice::reached(fixed, &net.udp, Wildcard::MostPublic);
    let (streams, host) =
        (ice::reached_streams(fixed, &net.streams, Wildcard::MostPublic), rules.public_host.as_deref());
    Ok(Uris::new(fixed, &reached, host).and_streams(fixed, &streams, host))
}
