//! `turnwell doctor`: what is wrong with a server, in words and with what to do about it.
//!
//! On the server it looks at the configuration and the machine (`server`). With URLs it is a client (`client`), and one
//! that we did not write: the `turn` and `stun` crates over a transport of ours, so that the server is not judged by
//! its own code. Nothing leaves the machine but to what the command line names. `finding.rs` has the table of what can
//! be found; `docs/doctor.md` explains it.

use std::path::PathBuf;
use std::time::Duration;

use axum::http::Method;
use rustls::pki_types::CertificateDer;
use zeroize::Zeroizing;

use super::config::Config;
use super::exit::{self, Failure};
use super::given::{self, SecretFile};
use super::unix_now;
use client::{Means, Target};
use finding::{Finding, Kind, Severity, shown};
use ice_json::IceServers;
use login::Login;
use report::{Outcome, Paint, Report};
use trust::Trust;
use uri::Uri;

mod client;
mod configured;
mod finding;
mod hints;
mod http;
mod ice_json;
mod login;
mod report;
mod scope;
mod server;
mod trust;
mod uri;

pub(super) use finding::shown as harmless;
pub(super) use hints::unhex;

/// Clocks that differ by more make credentials fail at their edges.
const MOST_SKEW: u64 = 5;

/// Find out what is wrong with a server, and what to do about it
///
/// Without --url, --api and --ice-json it examines this machine and its configuration; with one of them it acts as a
/// client. Exit code 0: healthy, 1: warnings only, 64: wrong command line, 65: what clients are given is wrong, 69: the
/// server does not answer or relay, 71: this machine's limits or clock, 77: the server refuses, 78: its configuration.
#[derive(clap::Args)]
pub(super) struct DoctorArgs {
    /// The configuration file to examine [default: $TURNWELL_CONFIG, else /etc/turnwell/turnwell.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Try this URL as a client, such as turn:turn.example.org:3478?transport=udp; repeatable
    #[arg(long, value_name = "URL")]
    url: Vec<String>,
    /// Ask this API for credentials and try the URLs that it answers with: http(s)://HOST:PORT or a Unix socket
    #[arg(long, value_name = "URL|PATH")]
    api: Option<String>,
    /// A file with the API key [default: $TURNWELL_API_KEY]
    #[arg(long, value_name = "FILE")]
    key_file: Option<SecretFile>,
    /// Check iceServers as an app hands them to browsers, and try them; - reads standard input
    #[arg(long, value_name = "FILE|-")]
    ice_json: Option<PathBuf>,
    /// The user of --url: a static one, or the whole time-limited user name
    #[arg(long, value_name = "NAME", requires = "password_file")]
    user: Option<String>,
    /// A file with the user's password; - reads standard input
    #[arg(long, value_name = "FILE|-", requires = "user")]
    password_file: Option<SecretFile>,
    /// A file with the shared secret that makes credentials; - reads standard input
    #[arg(long, value_name = "FILE|-", conflicts_with = "user")]
    secret_file: Option<SecretFile>,
    /// Ask this STUN server for this machine's public address (the only outside traffic of an examination)
    #[arg(long, value_name = "HOST[:PORT]")]
    stun: Option<String>,
    /// Trust the certificates of this file as well
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// How long to wait for each answer, in seconds
    #[arg(long, value_name = "S", default_value_t = 5.0, value_parser = seconds)]
    timeout: f64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    let wrong = || format!("{text:?} is no number of seconds between 0.1 and 60");
    text.parse().ok().filter(|seconds| (0.1..=60.0).contains(seconds)).ok_or_else(wrong)
}

impl DoctorArgs {
    fn patience(&self) -> Duration {
        Duration::from_secs_f64(self.timeout)
    }

    fn is_client(&self) -> bool {
        !self.url.is_empty() || self.api.is_some() || self.ice_json.is_some()
    }
}

/// Examines, prints, and returns the exit code.
pub(super) fn run(args: &DoctorArgs) -> Result<u8, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::system("cannot start the doctor", &error))?;
    let report = runtime.block_on(examine(args))?;
    if args.json {
        super::cli::print(&report.json().to_string());
    } else {
        super::cli::print(&report.text(Paint::of_standard_output()));
    }
    Ok(report.exit_code())
}

async fn examine(args: &DoctorArgs) -> Result<Report, Failure> {
    let trust = Trust::load(args.ca.as_deref())?;
    let mut report = Report::default();
    if !args.is_client() {
        let path = super::cli::config_path(args.config.clone());
        let way = server::Way { trust: &trust, stun: args.stun.as_deref(), patience: args.patience() };
        server::run(&path, &way, &mut report).await;
        return Ok(report);
    }
    let secret = shared_secret(args)?;
    let mut targets = urls(args, secret.as_deref().map(String::as_str))?;
    logins(&targets).into_iter().for_each(|finding| report.found(finding.at("--user")));
    if let Some(path) = &args.ice_json {
        let read = IceServers::read(&given::text("--ice-json", path)?);
        let mut found = read.findings;
        found.extend(logins(&read.targets));
        let outcome = match found.iter().filter(|finding| finding.severity > Severity::Note).count() {
            0 => Outcome::Passed(format!("{} URLs", read.targets.len())),
            count => Outcome::Failed(format!("{count} complaints")),
        };
        report.step("iceServers", "form", outcome);
        found.into_iter().for_each(|finding| report.found(finding.at_least("--ice-json")));
        targets.extend(read.targets);
    }
    if let Some(api) = &args.api {
        targets.extend(minted(api, args, &trust, &mut report).await?);
    }
    let means = Means { trust: &trust, patience: args.patience(), secret: secret.as_deref().map(String::as_str) };
    client::run(&targets, &means, &mut report).await;
    Ok(report)
}

/// The secret that was named, else the first of the configuration, if that can be read.
fn shared_secret(args: &DoctorArgs) -> Result<Option<Zeroizing<String>>, Failure> {
    if let Some(file) = &args.secret_file {
        return file.read("--secret-file").map(Some);
    }
    let path = super::cli::config_path(args.config.clone());
    match (configured::signing_secret(&path), &args.config) {
        (Ok(secret), _) => Ok(secret),
        (Err(error), Some(_)) => Err(error.into()),
        // whoever acts as a client needs none
        (Err(_), None) => Ok(None),
    }
}

/// The URLs of the command line, with who to be there.
fn urls(args: &DoctorArgs, secret: Option<&str>) -> Result<Vec<Target>, Failure> {
    let fixed = match (&args.user, &args.password_file) {
        (Some(user), Some(file)) => Some(Login::fixed(user, &file.read("--password-file")?)),
        (_, _) => None,
    };
    let minted = || secret.and_then(|secret| Login::minted(secret, "doctor", unix_now()));
    let login = fixed.or_else(minted);
    let target = |text: &String| {
        let uri = Uri::parse(text).map_err(|wrong| {
            Failure::new(exit::USAGE, format!("--url: {}: {}", shown(text), wrong.what), wrong.remedy)
        })?;
        let login = if uri.relays { login.clone() } else { None };
        Ok(Target { uri, login })
    };
    args.url.iter().map(target).collect()
}

/// What the look of each user name says, once.
fn logins(targets: &[Target]) -> Vec<Finding> {
    let mut seen: Vec<&str> = Vec::new();
    let mut found = Vec::new();
    for login in targets.iter().filter_map(|target| target.login.as_ref()) {
        if !seen.contains(&login.username.as_str()) {
            seen.push(&login.username);
            found.extend(login.looked_at(unix_now()));
        }
    }
    found
}

/// Asks the API for a credential and its URLs.
async fn minted(api: &str, args: &DoctorArgs, trust: &Trust, report: &mut Report) -> Result<Vec<Target>, Failure> {
    let key = match &args.key_file {
        Some(file) => Some(file.read("--key-file")?),
        None => std::env::var("TURNWELL_API_KEY").ok().filter(|key| !key.is_empty()).map(Zeroizing::new),
    };
    let body = r#"{"user":"doctor","ttl":600}"#.to_owned();
    let wanted = (Method::POST, "/v1/credentials", body);
    let began = unix_now();
    let called = http::call(api, wanted, key.as_deref().map(String::as_str), trust, args.patience()).await;
    let answer = match called {
        Ok(answer) => answer,
        Err(error) => {
            let finding = no_http(api, &*error, args, trust).await;
            report.step(shown(api), "mint", Outcome::Failed(finding.saw.clone()));
            report.found(finding.at(shown(api)));
            return Ok(Vec::new());
        }
    };
    let skew =
        answer.date.map_or(0, |date| if (began..=unix_now()).contains(&date) { 0 } else { date.abs_diff(began) });
    if let Some(date) = answer.date.filter(|_| skew > MOST_SKEW) {
        report.found(skewed(date, began).at(shown(api)));
    }
    let own = own_certificate(args);
    // a certificate of this machine's own configuration needs no authority: whoever calls from here can compare it
    if let Some(seen) = answer.seen.as_ref().filter(|seen| own.is_none() || seen.chain.first() != own.as_ref()) {
        let host = api.trim_start_matches("https://").split(['/', ':']).next().unwrap_or_default();
        trust::judged(&seen.chain, &seen.verdict, host)
            .into_iter()
            .for_each(|found| report.found(found.at_least(shown(api))));
    }
    let text = String::from_utf8_lossy(&answer.body);
    if !matches!(answer.status, 200 | 201) {
        let finding = refused(answer.status, &text);
        report.step(shown(api), "mint", Outcome::Failed(finding.saw.clone()));
        report.found(finding.at(shown(api)));
        return Ok(Vec::new());
    }
    let read = IceServers::read(&text);
    let mut found = read.findings;
    found.extend(logins(&read.targets));
    let detail = format!("{} URLs, its clock differs by {skew} s", read.targets.len());
    report.step(shown(api), "mint", if found.is_empty() { Outcome::Passed(detail) } else { Outcome::Failed(detail) });
    found.into_iter().for_each(|finding| report.found(finding.at_least(shown(api))));
    Ok(read.targets)
}

/// What the API of this machine's configuration shows, if there is one and this user may read it.
fn own_certificate(args: &DoctorArgs) -> Option<CertificateDer<'static>> {
    let config = Config::load(&super::cli::config_path(args.config.clone())).ok()?;
    config.live.api_certificate?.first().cloned()
}

fn skewed(date: u64, now: u64) -> Finding {
    let (ahead, by) = (date > now, date.abs_diff(now));
    Kind::Clock
        .found(
            format!("the server's clock is {by} s {} this machine's", if ahead { "ahead of" } else { "behind" }),
            "the time stamps in credentials are compared with the server's clock: they expire early, or late",
            "compare `date -u` on both with a third, and switch on time synchronisation (`timedatectl set-ntp true`)",
        )
        .severity(if by > 60 { Severity::Error } else { Severity::Warning })
}

/// The API's address does not speak HTTP: perhaps it is the TURN port.
async fn no_http(api: &str, error: &dyn std::error::Error, args: &DoctorArgs, trust: &Trust) -> Finding {
    let saw = format!("{}: {}", shown(api), shown(&error.to_string()));
    let authority = api.trim_start_matches("http://").split('/').next().unwrap_or_default();
    let turn = Uri::parse(&format!("stun:{authority}")).ok().filter(|_| api.starts_with("http://"));
    if let Some(uri) = turn {
        let mut tried = Report::default();
        let uri = Uri { transport: uri::Transport::Tcp, ..uri };
        let means = Means { trust, patience: args.patience(), secret: None };
        client::run(&[Target { uri, login: None }], &means, &mut tried).await;
        if tried.steps.iter().any(|step| step.name == "stun" && matches!(step.outcome, Outcome::Passed(_))) {
            return Kind::Http
                .found(
                    format!("{authority} answers STUN, not HTTP"),
                    "this is the TURN port; the API has a port of its own (api.listen, by default 127.0.0.1:8478)",
                    "name the API's address; browsers and scanners that open the TURN port are only counted",
                )
                .severity(Severity::Error);
        }
    }
    Kind::Api.found(
        saw,
        "the app cannot mint credentials",
        "is the server running, and is api.listen or api.socket what --api says?",
    )
}

fn refused(status: u16, text: &str) -> Finding {
    let problem: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    let code = problem["code"].as_str().unwrap_or("no code");
    let detail = problem["detail"].as_str().unwrap_or("no reason is given");
    let remedy = match status {
        401 | 403 => "name a file with a key of the scope mint by --key-file (`turnwell key new --id app`)",
        429 => "raise api.rate, or call less often",
        _ => "docs/api.md tells what the code means",
    };
    Kind::Api.found(format!("{status} {}: {}", shown(code), shown(detail)), "the app cannot mint credentials", remedy)
}
