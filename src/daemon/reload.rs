//! Reading the configuration again while the server runs: all of it on SIGHUP and `turnwell reload`; what it names
//! (secrets, keys, certificates) also when one of those files changes.
//!
//! Everything is read and checked before anything is applied, and what is applied cannot fail: a reload takes effect
//! whole or not at all. What needs a restart is [`Fixed`]; those keys are listed and keep their old values.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::oneshot;
use tracing::{error, info, warn};

use super::config::{Config, ConfigError, Fixed, Live, Reading};
use super::http::{Api, Minting};
use super::ice::Uris;
use super::log::Log;
use super::systemd::{self, NotifyState};
use super::watch::Watched;
use crate::net::{Server, StreamListener, Tls};

/// What came of a reload: the keys that changed but need a restart.
pub(super) type Reloaded = Result<Vec<&'static str>, ReloadError>;

/// Somebody who waits for a reload.
pub(super) type Request = oneshot::Sender<Reloaded>;

/// Why nothing was reloaded.
#[derive(Debug)]
pub(super) enum ReloadError {
    /// The server runs without a file that could be read again.
    NoFile,
    /// The configuration is wrong.
    Config(ConfigError),
}

/// What a reload needs, and what it replaces.
pub(super) struct Reload {
    /// Which file is read again.
    path: Option<PathBuf>,
    /// The configuration in force.
    reading: Reading,
    watched: Watched,
    drain_timeout: Duration,
    fixed: Fixed,
    place: Place,
    log: Log,
}

/// Where the running server is reached.
pub(super) struct Place {
    pub(super) reached: Vec<SocketAddr>,
    pub(super) streams: Vec<StreamListener>,
    pub(super) tls: Option<Tls>,
}

impl Place {
    /// The URLs of the server, with this host in them.
    pub(super) fn uris(&self, fixed: &Fixed, live: &Live) -> Uris {
        let host = live.mint.public_host.as_deref();
        Uris::new(fixed, &self.reached, host).and_streams(fixed, &self.streams, host)
    }
}

impl Reload {
    /// Starts from the configuration that the server was started with.
    pub(super) fn new(path: Option<PathBuf>, reading: Reading, config: Config, place: Place, log: Log) -> Reload {
        let Config { fixed, live, files } = config;
        let watched = Watched::new(files);
        Reload { path, reading, watched, drain_timeout: live.drain_timeout, fixed, place, log }
    }

    /// How long calls may run on when the server is told to end.
    pub(super) fn drain_timeout(&self) -> Duration {
        self.drain_timeout
    }

    /// Whether there is a file to read again.
    pub(super) fn has_file(&self) -> bool {
        self.path.is_some()
    }

    /// Reads the file again, and what it names.
    pub(super) fn all(&mut self, server: &Server, api: &Api) -> Reloaded {
        let Some(path) = &self.path else { return Err(ReloadError::NoFile) };
        systemd::reloading();
        self.watched.catch_up();
        let result = Reading::of(path).and_then(|reading| self.apply(reading, server, api));
        self.report(&result, api);
        result.map_err(ReloadError::Config)
    }

    /// Reads what the configuration in force names again, if any of it has changed since. The file itself is not read:
    /// it may be in the middle of being edited.
    pub(super) fn changed_files(&mut self, server: &Server, api: &Api) {
        if !self.watched.has_changed() {
            return;
        }
        info!("a file that the configuration names has changed");
        systemd::reloading();
        let reading = Reading { file: self.reading.file.clone(), source: self.reading.source.clone() };
        let result = self.apply(reading, server, api);
        self.report(&result, api);
    }

    fn apply(&mut self, reading: Reading, server: &Server, api: &Api) -> Result<Vec<&'static str>, ConfigError> {
        let config = reading.resolve()?;
        for warning in config.incomplete_chains() {
            warn!("{warning}");
        }
        let Config { fixed, live, files } = config;
        let restart = fixed.changed(&self.fixed);
        if let (Some(tls), Some(certificate)) = (&self.place.tls, &live.certificate) {
            tls.set_certificate(certificate);
        }
        server.set_quotas(live.quotas);
        server.set_live(&live.relay);
        api.set(Minting::new(&live, self.place.uris(&self.fixed, &live)));
        self.log.set_level(live.log_level);
        server.set_shorten_log(live.shorten_log);
        self.drain_timeout = live.drain_timeout;
        self.watched.follow(files);
        self.reading = reading;
        Ok(restart)
    }

    fn report(&self, result: &Result<Vec<&'static str>, ConfigError>, api: &Api) {
        api.reloaded(result.is_ok());
        let status = match result {
            Ok(restart) => {
                info!("configuration reloaded");
                if !restart.is_empty() {
                    warn!(keys = restart.join(", "), "these changes need a restart and are not applied");
                }
                "relaying, configuration reloaded"
            }
            Err(refused) => {
                for problem in &refused.problems {
                    let at = problem.place();
                    let (key, what, remedy) = (&problem.key, &problem.what, &problem.remedy);
                    error!(at, key, what, remedy, "the configuration is not reloaded, the old one stays");
                }
                "relaying, last reload failed, see the log"
            }
        };
        systemd::notify(&[NotifyState::Ready, NotifyState::Status(status)]);
    }
}
