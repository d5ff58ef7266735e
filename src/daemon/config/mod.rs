//! Configuration: `file` mirrors the TOML, `Config` is what it means.
//!
//! [`Config`] has two halves. [`Live`] may change while the server runs, by replacing it whole; [`Fixed`] needs a
//! restart. Which half a value lives in is the answer to "may a reload change it?". Nothing downstream checks a value
//! again.

use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use api_key::{ApiKeys, Client, Scope};
pub use file::{File, LogFormat, LogLevel};
pub use problem::{ConfigError, Problem};
pub use source::Source;

use crate::daemon::trust;
use crate::net::{self, Certificate, Quotas, StreamConfig, StreamKind, StreamLimits, StreamListener};
use ipnet::IpNet;

use crate::relay::{self, DefaultFamily, Discovery, Expiry, RelayAddress};
use problem::{Fault, Faults};
use secret::Places;

mod alternate;
mod api;
mod api_key;
mod discovery;
mod environment;
pub mod file;
mod problem;
mod resolve;
mod secret;
mod source;
mod streams;
pub mod units;

/// Where a configuration is looked for when nobody names one.
pub const DEFAULT_PATH: &str = "/etc/turnwell/turnwell.toml";

/// A configuration that can be run.
pub struct Config {
    /// What needs a restart to change.
    pub fixed: Fixed,
    /// What may change while the server runs.
    pub live: Live,
    /// The files that it names: secrets, keys, certificates.
    pub files: Vec<PathBuf>,
}

/// What needs a restart to change.
#[derive(Clone, Debug, PartialEq)]
pub struct Fixed {
    /// Listeners for UDP as they are written: `0.0.0.0` and `[::]` are not expanded yet.
    pub udp: Vec<SocketAddr>,
    /// Listeners for TCP and TLS, not expanded either.
    pub streams: Vec<StreamListener>,
    /// Limits and deadlines of connections.
    pub stream_limits: StreamLimits,
    /// Networks of proxies that say whose connections they pass on.
    pub proxies: Vec<IpNet>,
    /// Receive buffer of a listening socket, in bytes.
    pub receive_buffer: usize,
    /// Send buffer of a listening socket, in bytes.
    pub send_buffer: usize,
    /// Worker threads, at least one.
    pub workers: usize,
    /// The addresses to relay on; none = the address that the client reached.
    pub relays: Vec<RelayAddress>,
    /// The ports to relay on.
    pub relay_ports: RangeInclusive<u16>,
    /// Family of an allocation whose client asked for none.
    pub default_family: DefaultFamily,
    /// The addresses of NAT behaviour discovery; none: off.
    pub discovery: Vec<Discovery>,
    /// Where the HTTP API listens.
    pub api: Vec<ApiListener>,
    /// The Unix socket on which it listens as well.
    pub api_socket: Option<PathBuf>,
    /// The folder for what has to survive a restart, if there is one.
    pub state_dir: Option<PathBuf>,
    /// How a log line looks.
    pub log_format: LogFormat,
}

/// What may change while the server runs.
pub struct Live {
    /// What the workers need.
    pub relay: Arc<relay::Live>,
    /// How many allocations there may be at a time.
    pub quotas: Quotas,
    /// How long calls may run on when the server is told to end.
    pub drain_timeout: Duration,
    /// What TLS listeners show.
    pub certificate: Option<Certificate>,
    /// What the listeners of the API show that speak TLS.
    pub api_certificate: Option<Certificate>,
    /// What the HTTP API and `turnwell credentials` need.
    pub mint: MintRules,
    /// The least severe level that is logged.
    pub log_level: LogLevel,
    /// Whether the log shortens addresses and user names.
    pub shorten_log: bool,
}

/// Where the HTTP API listens, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiListener {
    /// The address.
    pub addr: SocketAddr,
    /// Whether it speaks HTTPS.
    pub tls: bool,
}

/// Who may mint credentials, and how long they may be valid.
#[derive(Clone)]
pub struct MintRules {
    /// Who may call the API.
    pub keys: ApiKeys,
    /// Validity in seconds when the caller does not say.
    pub default_ttl: u64,
    /// The longest validity in seconds that a caller may ask for.
    pub max_ttl: u64,
    /// The host in the URLs of credentials; none = the listener's address.
    pub public_host: Option<String>,
    /// Wrong keys in a second that a source may present; 0 = no limit.
    pub failure_rate: u32,
    /// Origins of pages that may call from a browser.
    pub cors_origins: Vec<String>,
    /// Whether callers on the Unix socket need no key.
    pub socket_trusted: bool,
    /// Whether `/metrics` needs no key on this machine.
    pub metrics_open: bool,
}

/// A configuration file as it was read. What it names is read anew by each [`Reading::resolve`].
pub struct Reading {
    /// What the text says.
    pub file: File,
    /// Where it was read from.
    pub source: Source,
}

impl Reading {
    /// Reads a file, and the environment.
    pub fn of(path: &Path) -> Result<Reading, ConfigError> {
        let source = Source::read(path)?.under(std::env::vars_os());
        Ok(Reading { file: source.parse()?, source })
    }

    /// Finds out what it means.
    pub fn resolve(&self) -> Result<Config, ConfigError> {
        Config::resolve(&self.file, &self.source)
    }
}

impl Config {
    /// Reads and resolves a file.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        Reading::of(path)?.resolve()
    }

    /// What is right in itself but leaves a part of the server idle.
    pub fn notes(&self) -> Vec<&'static str> {
        let mut notes = Vec::new();
        if self.live.relay.credentials.is_empty() {
            notes.push(
                "there is neither a secret nor a user: TURN is refused and only STUN answered; \
                set credentials.secrets, secret-files or users",
            );
        }
        if self.live.mint.keys.is_empty() && !self.fixed.api.is_empty() {
            notes.push("there is no API key: the API mints no credentials; set api.clients (`turnwell key new`), keys or key-files");
        }
        notes
    }

    /// Certificates that lead nowhere for clients: neither the file nor this machine has one of their issuer. A client
    /// that does not happen to have it refuses TLS.
    pub fn incomplete_chains(&self) -> Vec<String> {
        let Live { certificate, api_certificate, .. } = &self.live;
        let shown = certificate.as_ref().and_then(Certificate::first);
        let of_its_own = api_certificate.as_ref().filter(|certificate| certificate.first() != shown);
        let named = [("tls.certificate", certificate.as_ref()), ("api.certificate", of_its_own)];
        let missing = named.into_iter().filter_map(|(key, certificate)| Some((key, certificate?.missing_issuer()?)));
        let unknown = missing.filter(|(_, issuer)| !trust::knows(issuer));
        let in_words = |(key, issuer)| {
            format!(
                "{key}: the file has no certificate of {issuer}, who issued the server's own, and this machine trusts nobody \
                 of that name: clients that do not have it by chance refuse TLS; name the file with the whole chain \
                 (certbot's fullchain.pem, not cert.pem)"
            )
        };
        unknown.map(in_words).collect()
    }

    /// Finds out what a file means; the source tells where it was read from.
    pub fn resolve(file: &File, source: &Source) -> Result<Config, ConfigError> {
        let mut faults = Faults::default();
        faults.keep(no_open_secret(source));
        let fixed = Fixed::resolve(file, &mut faults);
        let places = places(source);
        let live = Live::resolve(file, &places, &mut faults);
        match (fixed, live) {
            (Some(fixed), Some(live)) if faults.0.is_empty() => {
                Ok(Config { fixed, live, files: places.found.into_inner() })
            }
            (_, _) => Err(source.locate(faults.0)),
        }
    }
}

impl Fixed {
    fn resolve(file: &File, faults: &mut Faults) -> Option<Fixed> {
        let udp = faults.keep(file.listen.udp());
        let streams = faults.keep(file.listen.streams());
        let stream_limits = faults.keep(file.streams.limits());
        let workers = faults.keep(file.server.workers());
        let relay_ports = faults.keep(file.relay.ports(workers.unwrap_or_default()));
        let relays = faults.keep(file.relay.relays());
        let discovery = faults.keep(file.discovery.families());
        let api = faults.keep(file.api.listeners(!file.tls.certificate.is_empty()));
        let api_socket = faults.keep(file.api.socket());
        let (receive_buffer, send_buffer) = file.listen.buffers();
        Some(Fixed {
            udp: udp?,
            streams: streams?,
            stream_limits: stream_limits?,
            proxies: file.streams.proxies.iter().map(|range| range.0).collect(),
            receive_buffer,
            send_buffer,
            workers: workers?,
            relays: relays?,
            relay_ports: relay_ports?,
            default_family: file.relay.default_family.into(),
            discovery: discovery?,
            api: api?,
            api_socket: api_socket?,
            state_dir: state_dir(&file.credentials.state_dir),
            log_format: file.log.format,
        })
    }

    /// The keys that this is made of, in the order of `changed`.
    pub const KEYS: [&str; 24] = [
        "server.workers",
        "listen.udp",
        "listen.tcp",
        "listen.tls",
        "listen.auto",
        "listen.receive-buffer",
        "listen.send-buffer",
        "streams.connections",
        "streams.connections-per-source",
        "streams.opening",
        "streams.idle",
        "streams.queue",
        "streams.queue-delay",
        "streams.proxies",
        "relay.addresses",
        "relay.ports",
        "relay.default-family",
        "relay.external",
        "discovery.primary",
        "discovery.alternate",
        "credentials.state-dir",
        "api.listen",
        "api.socket",
        "log.format",
    ];

    /// The keys whose values differ: those that a reload cannot change.
    pub fn changed(&self, other: &Fixed) -> Vec<&'static str> {
        // taken apart, so that a new field does not compile until it is named here
        let Fixed {
            udp,
            streams,
            stream_limits: limits,
            proxies,
            receive_buffer,
            send_buffer,
            workers,
            relays,
            relay_ports,
            default_family,
            discovery,
            api,
            api_socket,
            state_dir,
            log_format,
        } = self;
        let of_kind = |streams: &[StreamListener], kind| -> Vec<SocketAddr> {
            streams.iter().filter(|listener| listener.kind == kind).map(|listener| listener.addr).collect()
        };
        let of = |kind| of_kind(streams, kind) != of_kind(&other.streams, kind);
        let local = |relays: &[RelayAddress]| relays.iter().map(|relay| relay.local).collect::<Vec<_>>();
        let external = |relays: &[RelayAddress]| relays.iter().map(|relay| relay.external).collect::<Vec<_>>();
        let half = |pairs: &[Discovery], half: fn(&Discovery) -> SocketAddr| pairs.iter().map(half).collect::<Vec<_>>();
        let (limit, before) = (limits, &other.stream_limits);
        let differs = [
            *workers != other.workers,
            *udp != other.udp,
            of(StreamKind::Tcp),
            of(StreamKind::Tls),
            of(StreamKind::Auto),
            *receive_buffer != other.receive_buffer,
            *send_buffer != other.send_buffer,
            limit.total != before.total,
            limit.per_source != before.per_source,
            limit.opening != before.opening,
            limit.idle != before.idle,
            limit.queue_bytes != before.queue_bytes,
            limit.queue_delay != before.queue_delay,
            *proxies != other.proxies,
            local(relays) != local(&other.relays),
            *relay_ports != other.relay_ports,
            *default_family != other.default_family,
            external(relays) != external(&other.relays),
            half(discovery, |pair| pair.primary) != half(&other.discovery, |pair| pair.primary),
            half(discovery, |pair| pair.alternate) != half(&other.discovery, |pair| pair.alternate),
            *state_dir != other.state_dir,
            *api != other.api,
            *api_socket != other.api_socket,
            *log_format != other.log_format,
        ];
        Fixed::KEYS.into_iter().zip(differs).filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
    }

    /// What the workers are started with, but for what [`Live`] has. Looks up the machine's addresses where a listener
    /// is a wildcard.
    pub fn net(&self) -> io::Result<net::Config> {
        let mut udp = Vec::new();
        for listener in &self.udp {
            udp.extend(net::expand_wildcard(*listener)?);
        }
        udp.extend(discovery::missing(&self.discovery, &udp));
        let mut streams = Vec::new();
        for listener in &self.streams {
            let addresses = net::expand_wildcard(listener.addr)?;
            streams.extend(addresses.into_iter().map(|addr| StreamListener { addr, ..*listener }));
        }
        let stream_config = StreamConfig { limits: self.stream_limits, proxies: self.proxies.clone(), tls: None };
        Ok(net::Config {
            udp,
            streams,
            stream_config,
            relays: self.relays.clone(),
            relay_ports: self.relay_ports.clone(),
            workers: self.workers,
            default_family: self.default_family,
            discovery: self.discovery.clone(),
            receive_buffer: self.receive_buffer,
            send_buffer: self.send_buffer,
            quotas: Quotas::default(),
        })
    }
}

impl Live {
    fn resolve(file: &File, places: &Places, faults: &mut Faults) -> Option<Live> {
        let realm = faults.keep(file.server.realm());
        let public_host = faults.keep(file.server.public_host());
        let credentials = faults.keep(file.credentials.credentials(realm.unwrap_or_default(), places));
        let lifetimes = faults.keep(file.lifetimes.lifetimes());
        let alternates = faults.keep(file.server.alternates());
        let limits = faults.keep(file.limits.per_allocation());
        let mint = faults.keep(file.api.rules(public_host.clone().flatten(), places));
        let needed = !(file.listen.tls.is_empty() && file.listen.auto.is_empty());
        let host = public_host.flatten();
        let certificate = faults.keep(file.tls.certificate(needed, host.as_deref(), places));
        let api_certificate = faults.keep(file.api.certificate(places));
        let relay = relay::Live {
            credentials: Arc::new(credentials?),
            peers: file.peers.policy(),
            lifetimes: lifetimes?,
            expiry: file.credentials.expiry.into(),
            software: None,
            limits: limits?,
            channel_numbers: file.relay.channel_numbers.into(),
            channel_keeps_permission: file.relay.channel_keeps_permission,
            icmp_errors: file.relay.icmp_errors,
            alternates: alternates?,
            tcp: file.relay.tcp(),
        };
        let certificate = certificate?;
        Some(Live {
            relay: Arc::new(relay),
            quotas: file.limits.quotas(),
            drain_timeout: file.server.drain_timeout.duration(),
            api_certificate: api_certificate?.or_else(|| certificate.clone()),
            certificate,
            mint: mint?,
            log_level: file.log.level,
            shorten_log: file.log.shorten,
        })
    }
}

/// The folder that is named, else the one that systemd gives.
fn state_dir(named: &str) -> Option<PathBuf> {
    if !named.is_empty() {
        return Some(named.into());
    }
    // with several StateDirectory= systemd separates them by colons
    let given = std::env::var("STATE_DIRECTORY").ok()?;
    given.split(':').next().filter(|path| !path.is_empty()).map(PathBuf::from)
}

fn places(source: &Source) -> Places {
    let directory = source.path().and_then(Path::parent).map(Path::to_owned).unwrap_or_default();
    Places::new(directory, std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from))
}

/// A configuration file that holds a secret is a secret file itself.
fn no_open_secret(source: &Source) -> Result<(), Fault> {
    let key = match () {
        () if source.text_holds(|file| file.credentials.has_secret()) => "credentials",
        () if source.text_holds(|file| file.api.has_secret()) => "api.keys",
        () => return Ok(()),
    };
    match (source.world_readable(), source.path()) {
        (Some(mode), Some(path)) => Err(Fault::new(
            key,
            format!("the file holds a secret and is open to every user of this machine (mode {mode:03o})"),
            format!("close it: `chmod 640 {}`, or move the secret to a file of its own", path.display()),
        )),
        (_, _) => Ok(()),
    }
}
