//! From a configuration to a running server and back: workers, API, readiness, signals, end.
//!
//! SIGTERM and SIGINT end the server. SIGHUP reads the configuration again and replaces what is [`config::Live`]; an
//! error keeps everything as it was.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

use super::config::{self, Config, Fixed};
use super::exit::Failure;
use super::http::{self, Api, Facts, Listener, Minting};
use super::ice::{self, Uris, Wildcard};
use super::log::Log;
use super::revoked::Revoked;
use super::unix_now;
use crate::net::{self, Server, StreamListener, Tls};

/// How often the workers are looked at.
const CHECK: Duration = Duration::from_secs(1);

/// What SIGHUP means.
pub(super) enum Hangup {
    /// Read this file again.
    Reload(PathBuf),
    /// The terminal is gone: end.
    Stop,
}

/// What to start, and how it is used.
pub(super) struct Launch {
    pub(super) config: Config,
    pub(super) hangup: Hangup,
    pub(super) wildcard: Wildcard,
    /// The key that the page at `/` uses without asking, on this machine.
    pub(super) page_key: Option<String>,
}

/// What runs once every socket is bound.
pub(super) struct Running<'a> {
    /// The UDP listeners with their real ports.
    pub(super) listening: &'a [SocketAddr],
    /// The TCP and TLS listeners with their real ports.
    pub(super) streams: &'a [StreamListener],
    /// The API's listeners with their real ports.
    pub(super) api: &'a [SocketAddr],
    /// The UDP listeners that clients are told of.
    pub(super) reached: &'a [SocketAddr],
    /// The URLs of the server.
    pub(super) uris: &'a Uris,
    /// Its configuration.
    pub(super) live: &'a config::Live,
}

/// Runs until a signal ends the server; `announce` is called once it is ready.
pub(super) fn run(launch: Launch, announce: impl FnOnce(&Running<'_>) -> Result<(), Failure>) -> Result<(), Failure> {
    let log = Log::start(launch.config.fixed.log_format, launch.config.live.log_level);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::system("cannot start the control plane", &error))?;
    runtime.block_on(control(launch, log, announce))
}

async fn control(
    launch: Launch,
    log: Log,
    announce: impl FnOnce(&Running<'_>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let signals = Signals::listen().map_err(|error| Failure::system("cannot listen for signals", &error))?;
    for note in launch.config.notes() {
        warn!("{note}");
    }
    let Config { fixed, live } = launch.config;
    let mut net = fixed.net().map_err(|error| Failure::system("cannot list the machine's addresses", &error))?;
    let tls = live.certificate.as_ref().map(Tls::new).transpose().map_err(Failure::internal)?;
    net.stream_config.tls = tls.clone();
    let server = net::start(net, live.relay.clone())?;
    let reached = ice::reached(&fixed, server.listening(), launch.wildcard);
    let streams = ice::reached_streams(&fixed, server.streams(), launch.wildcard);
    let host = live.mint.public_host.as_deref();
    let uris = Uris::new(&fixed, &reached, host).and_streams(&fixed, &streams, host);
    let revoked =
        Revoked::load(fixed.state_dir.as_deref(), unix_now()).map_err(|error| Failure::state(&fixed, &error))?;
    server.control().set_revoked(&revoked.set());
    let ports = ports(&fixed, server.listening());
    let facts = Facts { ports, started: unix_now(), page_key: launch.page_key };
    let api = Arc::new(Api::new(Minting::new(&live, uris.clone()), server.control(), revoked, facts));
    let (mut listeners, addresses) = bind(&fixed.api).await?;
    listeners.extend(fixed.api_socket.as_deref().map(bind_socket).transpose()?);
    let http = http::Service::start(listeners, api.clone());
    let running = Running {
        listening: server.listening(),
        streams: server.streams(),
        api: &addresses,
        reached: &reached,
        uris: &uris,
        live: &live,
    };
    info!(udp = ?running.listening, streams = ?running.streams, api = ?running.api, workers = fixed.workers, "ready");
    notify(&[NotifyState::Ready, NotifyState::Status("relaying")]);
    let announced = announce(&running);

    let reload = Reload { fixed, reached: reached.clone(), streams, tls, hangup: launch.hangup, log };
    let result = match announced {
        Ok(()) => wait(signals, &server, &api, &reload).await,
        Err(failure) => Err(failure),
    };
    notify(&[NotifyState::Stopping]);
    api.set_stopping();
    server.stop();
    http.stop().await;
    info!("stopped");
    result
}

/// How many relay ports there are on all addresses.
fn ports(fixed: &Fixed, listening: &[SocketAddr]) -> u64 {
    let mut addresses: Vec<_> = match fixed.relays.is_empty() {
        true => listening.iter().map(SocketAddr::ip).collect(),
        false => fixed.relays.iter().map(|relay| relay.local).collect(),
    };
    addresses.sort_unstable();
    addresses.dedup();
    (fixed.relay_ports.len() * addresses.len()) as u64
}

/// Binds the Unix socket, for owner and group. A socket that nobody listens on any more is replaced.
fn bind_socket(path: &Path) -> Result<Listener, Failure> {
    let failed = |error: io::Error| Failure::bind("api.socket", "api.socket", path.display(), &error);
    if StdUnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
        fs::remove_file(path).map_err(failed)?;
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660)).map_err(failed)?;
    Ok(Listener::Unix(listener))
}

async fn bind(addresses: &[SocketAddr]) -> Result<(Vec<Listener>, Vec<SocketAddr>), Failure> {
    let mut listeners = Vec::new();
    let mut bound = Vec::new();
    for address in addresses {
        let failed = |error| Failure::bind_api(*address, &error);
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        bound.push(listener.local_addr().map_err(failed)?);
        listeners.push(Listener::Tcp(listener));
    }
    Ok((listeners, bound))
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

/// Returns when the server shall end.
async fn wait(mut signals: Signals, server: &Server, api: &Api, reload: &Reload) -> Result<(), Failure> {
    let mut check = tokio::time::interval(CHECK);
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => return Ok(()),
            _ = signals.interrupt.recv() => return Ok(()),
            _ = signals.hangup.recv() => match &reload.hangup {
                Hangup::Reload(path) => reload.from(path, server, api),
                Hangup::Stop => return Ok(()),
            },
            _ = check.tick() => if !server.is_running() {
                return Err(Failure::internal("a worker ended unexpectedly"));
            },
        }
    }
}

/// What a reload needs beside the file.
struct Reload {
    fixed: Fixed,
    reached: Vec<SocketAddr>,
    streams: Vec<StreamListener>,
    tls: Option<Tls>,
    hangup: Hangup,
    log: Log,
}

impl Reload {
    fn from(&self, path: &Path, server: &Server, api: &Api) {
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            notify(&[NotifyState::Reloading, now]);
        }
        match Config::load(path) {
            Ok(config) => {
                self.apply(config, server, api);
                notify(&[NotifyState::Ready, NotifyState::Status("relaying, configuration reloaded")]);
            }
            Err(problems) => {
                error!(%problems, "the configuration is not reloaded, the old one stays");
                notify(&[NotifyState::Ready, NotifyState::Status("relaying, last reload failed, see the log")]);
            }
        }
    }

    fn apply(&self, config: Config, server: &Server, api: &Api) {
        if config.fixed != self.fixed {
            warn!(
                "some of what changed needs a restart and is not applied: \
                listeners, relay addresses and ports, workers, quotas, log format"
            );
        }
        let host = config.live.mint.public_host.as_deref();
        let uris = Uris::new(&self.fixed, &self.reached, host).and_streams(&self.fixed, &self.streams, host);
        if let (Some(tls), Some(certificate)) = (&self.tls, &config.live.certificate) {
            tls.set_certificate(certificate);
        }
        server.set_live(&config.live.relay);
        api.set(Minting::new(&config.live, uris));
        self.log.set_level(config.live.log_level);
        info!("configuration reloaded");
    }
}

/// Tells systemd, if it listens.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, "systemd could not be notified");
    }
}
