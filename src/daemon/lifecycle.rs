//! From a configuration to a running server and back: workers, API, readiness, signals, end.
//!
//! SIGTERM drains: new allocations are refused, running calls go on until they end or `server.drain-timeout` has passed;
//! a second SIGTERM, or SIGINT, ends the server at once. SIGUSR1 drains without an end. SIGHUP reloads, see `reload`.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tracing::{info, warn};

use super::config::{self, ApiListener, Config, Fixed, Reading};
use super::diagnosis::Diagnosis;
use super::exit::Failure;
use super::http::{self, Api, Facts, Listener, Minting};
use super::ice::{self, Uris, Wildcard};
use super::log::Log;
use super::reload::{Place, Reload, Request};
use super::revoked::Revoked;
use super::systemd::{self, NotifyState, Watchdog};
use super::unix_now;
use crate::net::{self, Server, StreamKind, StreamListener, Tls};

/// How often the workers and the watched files are looked at.
const CHECK: Duration = Duration::from_secs(1);
/// How often a server that ends looks whether calls are left.
const LEAVING_CHECK: Duration = Duration::from_millis(100);
/// What systemd is asked for again and again while calls are left.
const MORE_TIME: Duration = Duration::from_secs(10);
/// Reloads that wait for their turn.
const MOST_REQUESTS: usize = 8;

/// What to start, and how it is used.
pub(super) struct Launch {
    pub(super) config: Config,
    /// What `config` was resolved from.
    pub(super) reading: Reading,
    /// The file that a reload reads again; none: there is nothing to reload, and SIGHUP means that the terminal is gone.
    pub(super) path: Option<PathBuf>,
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
    pub(super) api: &'a [ApiListener],
    /// The UDP listeners that clients are told of.
    pub(super) reached: &'a [SocketAddr],
    /// The URLs of the server.
    pub(super) uris: &'a Uris,
    /// Its configuration.
    pub(super) live: &'a config::Live,
}

impl Running<'_> {
    /// Where it listens, a field for each kind of listener that there is.
    fn log(&self, workers: usize) {
        let streams = |kind| self.streams.iter().filter(move |listener| listener.kind == kind).map(|found| found.addr);
        let scheme = |listener: &ApiListener| if listener.tls { "https" } else { "http" };
        info!(
            udp = list(self.listening),
            tcp = list(streams(StreamKind::Tcp)),
            tls = list(streams(StreamKind::Tls)),
            auto = list(streams(StreamKind::Auto)),
            api = list(self.api.iter().map(|listener| format!("{}://{}", scheme(listener), listener.addr))),
            workers,
            "ready"
        );
    }
}

/// `None` when there is nothing to list.
fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> Option<String> {
    let texts: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    (!texts.is_empty()).then(|| texts.join(", "))
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
    for warning in launch.config.incomplete_chains() {
        warn!("{warning}");
    }
    let Config { fixed, live, .. } = &launch.config;
    let (server, tls) = start(&launch.config)?;
    let place = Place {
        reached: ice::reached(fixed, server.listening(), launch.wildcard),
        streams: ice::reached_streams(fixed, server.streams(), launch.wildcard),
        tls,
    };
    let uris = place.uris(fixed, live);
    let revoked =
        Revoked::load(fixed.state_dir.as_deref(), unix_now()).map_err(|error| Failure::state(fixed, &error))?;
    server.control().set_revoked(&revoked.set());
    let (reloads, requests) = mpsc::channel(MOST_REQUESTS);
    let ports = ports(fixed, server.listening());
    let tls = live.api_certificate.as_ref().map(Tls::for_http).transpose().map_err(Failure::internal)?;
    let facts = Facts { ports, started: unix_now(), page_key: launch.page_key, tls, reloads };
    let api = Arc::new(Api::new(Minting::new(live, uris.clone()), server.control(), revoked, facts));
    let (mut listeners, addresses) = bind(&fixed.api).await?;
    listeners.extend(fixed.api_socket.as_deref().map(bind_socket).transpose()?);
    let http = http::Service::start(listeners, api.clone());
    let running = Running {
        listening: server.listening(),
        streams: server.streams(),
        api: &addresses,
        reached: &place.reached,
        uris: &uris,
        live,
    };
    running.log(fixed.workers);
    systemd::notify(&[NotifyState::Ready, NotifyState::Status("relaying")]);
    let announced = announce(&running);

    let reload = Reload::new(launch.path, launch.reading, launch.config, place, log);
    let result = match announced {
        Ok(()) => {
            Keeper { server: &server, api: &api, reload, leaving: None, diagnosis: Diagnosis::default() }
                .wait(signals, requests)
                .await
        }
        Err(failure) => Err(failure),
    };
    systemd::notify(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
    api.set_stopping();
    server.stop();
    http.stop().await;
    info!("stopped");
    result
}

/// Starts the workers.
fn start(config: &Config) -> Result<(Server, Option<Tls>), Failure> {
    let Config { fixed, live, .. } = config;
    let mut net = fixed.net().map_err(|error| Failure::system("cannot list the machine's addresses", &error))?;
    let tls = live.certificate.as_ref().map(Tls::new).transpose().map_err(Failure::internal)?;
    net.stream_config.tls = tls.clone();
    net.quotas = live.quotas;
    let server = net::start(net, live.relay.clone())?;
    server.set_shorten_log(live.shorten_log);
    Ok((server, tls))
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

async fn bind(wanted: &[ApiListener]) -> Result<(Vec<Listener>, Vec<ApiListener>), Failure> {
    let mut listeners = Vec::new();
    let mut bound = Vec::new();
    for ApiListener { addr, tls } in wanted.iter().copied() {
        let failed = |error| Failure::bind_api(addr, &error);
        let listener = TcpListener::bind(addr).await.map_err(failed)?;
        bound.push(ApiListener { addr: listener.local_addr().map_err(failed)?, tls });
        listeners.push(if tls { Listener::Tls(listener) } else { Listener::Tcp(listener) });
    }
    Ok((listeners, bound))
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user: signal(SignalKind::user_defined1())?,
        })
    }
}

/// Looks after a running server until it shall end.
struct Keeper<'a> {
    server: &'a Server,
    api: &'a Api,
    reload: Reload,
    /// When calls that are left are cut off, once the server has been told to end.
    leaving: Option<Instant>,
    /// Why credentials are refused.
    diagnosis: Diagnosis,
}

impl Keeper<'_> {
    /// Returns when the server shall end.
    async fn wait(mut self, mut signals: Signals, mut requests: mpsc::Receiver<Request>) -> Result<(), Failure> {
        let (mut check, mut leaving_check) = (every(CHECK), every(LEAVING_CHECK));
        let mut watchdog = Watchdog::from_environment();
        let mut beat = watchdog.every.map(every);
        loop {
            tokio::select! {
                _ = signals.terminate.recv() => if self.is_told_to_end() {
                    return Ok(());
                },
                _ = signals.interrupt.recv() => return Ok(()),
                _ = signals.hangup.recv() => if self.reload.has_file() {
                    // the log tells what came of it
                    let _ = self.reload.all(self.server, self.api);
                } else {
                    return Ok(());
                },
                _ = signals.user.recv() => self.drain(),
                Some(request) = requests.recv() => {
                    // whoever asked may have gone away
                    let _ = request.send(self.reload.all(self.server, self.api));
                }
                () = tick(&mut beat) => watchdog.beat(&self.server.control()),
                _ = leaving_check.tick(), if self.leaving.is_some() => if self.is_empty_or_late() {
                    return Ok(());
                },
                _ = check.tick() => self.check()?,
            }
        }
    }

    fn check(&mut self) -> Result<(), Failure> {
        if !self.server.is_running() {
            return Err(Failure::internal("a worker ended unexpectedly"));
        }
        let samples = self.server.take_evidence();
        self.diagnosis.look(Instant::now().into_std(), &samples, &self.api.credentials());
        match self.leaving {
            None => self.reload.changed_files(self.server, self.api),
            Some(until) => {
                let left = self.server.counters().usage.allocations;
                let seconds = until.saturating_duration_since(Instant::now()).as_secs();
                let more = NotifyState::ExtendTimeoutUsec(u32::try_from(MORE_TIME.as_micros()).unwrap_or(u32::MAX));
                systemd::notify(&[more, NotifyState::Status(&format!("draining: {left} allocations, {seconds} s"))]);
            }
        }
        Ok(())
    }

    /// SIGTERM: `true` when the server shall end now.
    fn is_told_to_end(&mut self) -> bool {
        let timeout = self.reload.drain_timeout();
        if self.leaving.is_some() || timeout.is_zero() {
            return true;
        }
        systemd::notify(&[NotifyState::Stopping]);
        self.api.drain();
        info!(seconds = timeout.as_secs(), "ending as soon as no allocation is left; a second SIGTERM ends at once");
        self.leaving = Some(Instant::now() + timeout);
        false
    }

    fn is_empty_or_late(&self) -> bool {
        let counters = self.server.counters();
        let left = counters.usage.allocations;
        let is_late = self.leaving.is_some_and(|until| until <= Instant::now());
        if is_late && left > 0 {
            warn!(allocations = left, "the time to drain is over; these are cut off");
        }
        // Until every worker has heard of it, one may have begun an allocation that is not counted yet.
        let have_heard = counters.draining == self.server.control().workers();
        have_heard && left == 0 || is_late
    }

    /// SIGUSR1.
    fn drain(&self) {
        self.api.drain();
        systemd::notify(&[NotifyState::Status("draining: new allocations are refused")]);
    }
}

/// Ticks that stay apart, even where this thread came late to some of them.
fn every(period: Duration) -> Interval {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// The next tick, if there is anything that ticks.
async fn tick(interval: &mut Option<Interval>) {
    match interval {
        Some(interval) => drop(interval.tick().await),
        None => std::future::pending().await,
    }
}
