//! The doctor on the server: the configuration, the machine under it, and what a running server has counted.

use std::path::Path;
use std::time::Duration;

use super::finding::{Finding, Kind};
use super::report::{Outcome, Report};
use super::trust::Trust;
use crate::daemon::config::{Config, ConfigError, File, Source};
use crate::net::sys;

mod addresses;
mod certificate;
mod limits;
mod peers;
mod running;

/// How to look.
pub(super) struct Way<'a> {
    pub(super) trust: &'a Trust,
    /// The STUN server to ask for the public address, if one may be asked.
    pub(super) stun: Option<&'a str>,
    pub(super) patience: Duration,
}

/// What is looked at.
struct Subject {
    path: std::path::PathBuf,
    /// As it is written.
    file: File,
    /// What it means.
    config: Config,
}

pub(super) async fn run(path: &Path, way: &Way<'_>, report: &mut Report) {
    let subject = match load(path) {
        Ok(subject) => subject,
        Err(error) => {
            report.group("config", "", wrong(&error));
            return report.group("clock", "synchronised", clock(sys::clock_is_synchronized().ok()));
        }
    };
    report.group("config", path.display().to_string(), Vec::new());
    subject
        .config
        .notes()
        .into_iter()
        .for_each(|note| report.step("this machine", "config", Outcome::Passed(note.into())));
    report.group("clock", "synchronised", clock(sys::clock_is_synchronized().ok()));
    let public = addresses::probed(way, report).await;
    report.group("addresses", "the relay addresses are those that others reach", addresses::check(&subject, &public));
    report.group("peers", "special-purpose addresses are denied", peers::check(&subject));
    if subject.file.tls.certificate.is_empty() {
        report.step("this machine", "certificate", Outcome::Skipped("there is no TLS listener".into()));
    } else {
        report.group("certificate", "clients accept it", certificate::check(&subject, way.trust));
    }
    let figures = running::figures(&subject, way).await;
    let served = figures.as_ref().ok().and_then(|figures| figures.known("open_files_limit"));
    report.group("limits", "descriptors, ports and connection tracking suffice", limits::check(&subject, served));
    report.group("buffers", "the kernel grants what is configured", limits::buffers(&subject));
    match figures {
        Ok(figures) => running::judge(&figures, report),
        Err(why) => report.step("this machine", "counters", Outcome::Skipped(why)),
    }
}

fn load(path: &Path) -> Result<Subject, ConfigError> {
    let source = Source::read(path)?;
    let file = source.parse()?;
    let config = Config::resolve(&file, &source)?;
    Ok(Subject { path: path.to_owned(), file, config })
}

/// Each problem of the configuration; those of the certificate have a name of their own.
fn wrong(error: &ConfigError) -> Vec<Finding> {
    let one = |problem: &crate::daemon::config::Problem| {
        let kind = if problem.key.starts_with("tls.") { Kind::Certificate } else { Kind::Config };
        let file = problem.file.as_deref().map(|file| file.display().to_string()).unwrap_or_default();
        let place = match problem.line {
            Some(line) => format!("{file}:{line}"),
            None => file,
        };
        let saw =
            if problem.key.is_empty() { problem.what.clone() } else { format!("{}: {}", problem.key, problem.what) };
        kind.found(saw, "the server does not start with it, and a reload keeps the old one", &problem.remedy).at(place)
    };
    error.problems.iter().map(one).collect()
}

fn clock(is_synchronized: Option<bool>) -> Vec<Finding> {
    match is_synchronized {
        Some(false) => vec![Kind::Clock.found(
            "the kernel says that no time service steers this machine's clock",
            "it drifts; time-limited credentials are compared with it, and expire early or late by the drift",
            "switch on time synchronisation (`timedatectl set-ntp true`), or run chrony; in a container the host's counts",
        )],
        Some(true) | None => Vec::new(),
    }
}
