//! Worker threads and their sockets: one worker a core, nothing shared on a packet's way.
//!
//! Each worker has its own epoll loop, its own `SO_REUSEPORT` socket for every listener, its own engine and its own
//! share of the relay ports. The kernel's hash keeps a client on its worker, which also owns the client's relay
//! sockets. What has to cross workers (quotas, reserved sockets, commands) is rare and stands in `shared`.

#![allow(clippy::disallowed_types, reason = "sockets live here; the locks are off the packet path, see `shared`")]

mod clock;
mod control;
mod counters;
mod history;
mod journal;
mod outbox;
mod quota;
mod relayed;
mod relays;
mod rhythm;
mod share;
mod shared;
mod stream;
pub mod sys;
mod tcp;
mod worker;

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

pub use control::{Control, Page, Question, Reply};
pub use counters::{Count, Family, NetCounters, Population, Snapshot};
pub use history::{DURATION_BOUNDS, Durations, History, UserUsage};
pub use quota::Quotas;
pub use stream::{
    Certificate, CertificateError, Closing, StreamConfig, StreamKind, StreamLimits, StreamListener, Tls, Transport,
};

use crate::relay::{self, DefaultFamily, Discovery, Evidence, Live, PortShare, RelayAddress};
use clock::Clock;
use quota::Ledger;
use relayed::Relayed;
use shared::{Command, Mailbox, Shared};
use stream::{Census, Listening};
use sys::{TcpOptions, UdpOptions, UdpSocket, bind_udp, listen_tcp};
use worker::Seat;

/// What the workers are started with and keep for life.
#[derive(Clone, Debug)]
pub struct Config {
    /// The UDP listeners: addresses of this machine, no wildcards (see [`expand_wildcard`]); port 0 is any free port.
    pub udp: Vec<SocketAddr>,
    /// The TCP and TLS listeners, of the same kind of addresses.
    pub streams: Vec<StreamListener>,
    /// How connections are served.
    pub stream_config: StreamConfig,
    /// Where relay sockets may be bound; none: wherever a listener is.
    pub relays: Vec<RelayAddress>,
    /// The relay ports, split between the workers.
    pub relay_ports: RangeInclusive<u16>,
    /// How many workers; 0 is one a core.
    pub workers: usize,
    /// The family of an allocation whose client does not ask for one.
    pub default_family: DefaultFamily,
    /// NAT behaviour discovery, between four of the UDP listeners in each family; none: off.
    pub discovery: Vec<Discovery>,
    /// Bytes the kernel may queue for a listener; 0 leaves its default.
    pub receive_buffer: usize,
    /// Bytes the kernel may queue on the way out of a listener; 0 leaves its default.
    pub send_buffer: usize,
    /// How many allocations there may be.
    pub quotas: Quotas,
}

/// Why nothing was started.
#[derive(Debug)]
pub enum StartError {
    /// A listener's address cannot be used.
    Listen {
        /// Which.
        addr: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// A stream listener's address cannot be used.
    ListenStream {
        /// Which.
        listener: StreamListener,
        /// Why.
        error: io::Error,
    },
    /// A relay address cannot be used.
    Relay {
        /// Which.
        addr: IpAddr,
        /// Why.
        error: io::Error,
    },
    /// There is no relay port.
    Ports,
    /// A thread, an epoll instance or random bytes could not be had.
    Worker(io::Error),
}

/// Descriptors to ask the system for: more than 65,535 ports on sixteen addresses need.
const OPEN_FILES: u64 = 1 << 20;

/// The running workers.
pub struct Server {
    listening: Vec<SocketAddr>,
    streams: Vec<StreamListener>,
    mailboxes: Vec<Arc<Mailbox>>,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// Binds every socket and starts the workers. When this returns, clients are answered.
pub fn start(config: Config, live: Arc<Live>) -> Result<Server, StartError> {
    if config.relay_ports.is_empty() {
        return Err(StartError::Ports);
    }
    // Best effort: with fewer descriptors fewer allocations fit, and those are refused with 508.
    let _ = sys::raise_open_files(OPEN_FILES);
    check_relays(&config)?;
    let count = worker_count(config.workers);
    let listening = config.udp.iter().map(|addr| settle_port(*addr)).collect::<Result<Vec<_>, _>>()?;
    let streams = config.streams.iter().map(settle_stream).collect::<Result<Vec<_>, _>>()?;
    let mailboxes = (0..count).map(|_| Mailbox::new(live.clone()).map(Arc::new)).collect::<io::Result<Vec<_>>>();
    let mailboxes = mailboxes.map_err(StartError::Worker)?;
    let limits = &config.stream_config.limits;
    let census = Census::new(limits.total, limits.per_source);
    let ledger = Ledger::new(config.quotas, relayed(&config, &listening, &streams));
    let shared = Arc::new(Shared::new(ledger, census, mailboxes.clone()));
    let clock = Clock::start();
    let nonce_key = random_seed()?;
    let mut seats = Vec::with_capacity(count);
    for index in 0..count {
        seats.push(Seat {
            index,
            listeners: bind_listeners(&config, &listening)?,
            streams: bind_streams(&streams, listening.len())?,
            stream_config: config.stream_config.clone(),
            engine: relay::Config {
                listeners: listening.iter().copied().chain(streams.iter().map(|listener| listener.addr)).collect(),
                relays: config.relays.clone(),
                ports: PortShare { range: config.relay_ports.clone(), index: small(index), of: small(count) },
                default_family: config.default_family,
                discovery: config.discovery.clone(),
                seed: random_seed()?,
                nonce_key,
            },
            shared: shared.clone(),
            clock,
        });
    }
    let threads = seats.into_iter().map(spawn).collect::<io::Result<Vec<_>>>();
    Ok(Server { listening, streams, mailboxes, shared, threads: threads.map_err(StartError::Worker)? })
}

impl Server {
    /// The listeners with their real ports, in the order of the configuration.
    pub fn listening(&self) -> &[SocketAddr] {
        &self.listening
    }

    /// The TCP and TLS listeners with their real ports, in the order of the configuration.
    pub fn streams(&self) -> &[StreamListener] {
        &self.streams
    }

    /// Hands new rules to every worker; each applies them between two packets.
    pub fn set_live(&self, live: &Arc<Live>) {
        for mailbox in &self.mailboxes {
            mailbox.send(Command::SetLive(live.clone()));
        }
    }

    /// Changes how many allocations there may be. Those beyond a lower limit live on.
    pub fn set_quotas(&self, quotas: Quotas) {
        self.shared.ledger.set(quotas);
    }

    /// Whether the log shortens addresses and user names from now on.
    pub fn set_shorten_log(&self, shorten: bool) {
        self.shared.shorten_log.store(shorten, Ordering::Relaxed);
    }

    /// Samples of credentials that do not work since the last call; a few, whatever clients do.
    pub fn take_evidence(&self) -> Vec<Evidence> {
        self.shared.take_evidence()
    }

    /// From now on new allocations are refused; the others live on.
    pub fn drain(&self) {
        self.control().drain();
    }

    /// The counters of all workers together, at most a tenth of a second old.
    pub fn counters(&self) -> Snapshot {
        self.control().counters()
    }

    /// What other parts of the program need to watch and steer the workers.
    pub fn control(&self) -> Control {
        Control { mailboxes: self.mailboxes.clone() }
    }

    /// Whether every worker runs.
    pub fn is_running(&self) -> bool {
        self.threads.iter().all(|thread| !thread.is_finished())
    }

    /// Ends every worker and waits for it. Dropping does the same.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for mailbox in &self.mailboxes {
            mailbox.send(Command::Stop);
        }
        for thread in self.threads.drain(..) {
            // A worker that panicked has said so in the log.
            let _ = thread.join();
        }
    }
}

/// The addresses that a wildcard stands for: those of this machine's interfaces now, without link-local IPv6 ones.
/// Listeners are bound to concrete addresses so that a reply leaves from where the request arrived, and so that an
/// allocation's relay address can be the one that the client reached. A concrete address stands for itself.
pub fn expand_wildcard(addr: SocketAddr) -> io::Result<Vec<SocketAddr>> {
    if !addr.ip().is_unspecified() {
        return Ok(vec![addr]);
    }
    let usable = |ip: &IpAddr| match ip {
        IpAddr::V4(_) => addr.is_ipv4(),
        IpAddr::V6(v6) => addr.is_ipv6() && !v6.is_unicast_link_local(),
    };
    let mut ips: Vec<IpAddr> = if_addrs::get_if_addrs()?.iter().map(if_addrs::Interface::ip).filter(usable).collect();
    ips.sort_unstable();
    ips.dedup();
    Ok(ips.into_iter().map(|ip| SocketAddr::new(ip, addr.port())).collect())
}

/// Wherever there may be relay sockets.
fn relayed(config: &Config, udp: &[SocketAddr], streams: &[StreamListener]) -> Relayed {
    let listeners = udp.iter().copied().chain(streams.iter().map(|listener| listener.addr));
    let ips = listeners.map(|addr| addr.ip()).chain(config.relays.iter().map(|relay| relay.local));
    Relayed::new(ips.collect::<BTreeSet<_>>().into_iter(), config.relay_ports.clone())
}

fn worker_count(configured: usize) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let count = if configured == 0 { cores() } else { configured };
    count.min(usize::from(u16::MAX))
}

fn small(number: usize) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

fn random_seed() -> Result<[u8; 32], StartError> {
    let mut seed = [0; 32];
    #[allow(clippy::disallowed_methods, reason = "this is where seeds come from")]
    getrandom::fill(&mut seed).map_err(|error| StartError::Worker(io::Error::other(error)))?;
    Ok(seed)
}

/// Every relay address must be this machine's.
fn check_relays(config: &Config) -> Result<(), StartError> {
    for relay in &config.relays {
        let probe = bind_udp(SocketAddr::new(relay.local, 0), UdpOptions::default());
        probe.map_err(|error| StartError::Relay { addr: relay.local, error })?;
    }
    Ok(())
}

/// Finds out the real port of an address and that nobody else has it: `SO_REUSEPORT` alone would share the port with
/// another server of the same user without a word.
fn settle_port(addr: SocketAddr) -> Result<SocketAddr, StartError> {
    let probe = bind_udp(addr, UdpOptions::default()).and_then(|socket| socket.local_addr());
    probe.map_err(|error| StartError::Listen { addr, error })
}

fn bind_listeners(config: &Config, listening: &[SocketAddr]) -> Result<Vec<UdpSocket>, StartError> {
    let options = UdpOptions {
        reuse_port: true,
        receive_buffer: config.receive_buffer,
        send_buffer: config.send_buffer,
        gro: true,
        errors: false,
        fragments: true,
    };
    let bind = |addr: &SocketAddr| bind_udp(*addr, options).map_err(|error| StartError::Listen { addr: *addr, error });
    listening.iter().map(bind).collect()
}

/// The bytes that the kernel may queue towards one client on a stream: what waits there can no longer be dropped.
const STREAM_BUFFER: usize = 256 * 1024;
/// For how long a client may leave data unacknowledged before its connection is given up.
const UNACKNOWLEDGED: std::time::Duration = std::time::Duration::from_secs(60);

/// As [`settle_port`], for a stream listener.
fn settle_stream(listener: &StreamListener) -> Result<StreamListener, StartError> {
    let probe = listen_tcp(listener.addr, TcpOptions::default()).and_then(|socket| socket.local_addr());
    let addr = probe.map_err(|error| StartError::ListenStream { listener: *listener, error })?;
    Ok(StreamListener { addr, ..*listener })
}

/// One worker's sockets; their numbers follow those of the UDP listeners.
fn bind_streams(streams: &[StreamListener], after: usize) -> Result<Vec<Listening>, StartError> {
    let options = TcpOptions { reuse_port: true, send_buffer: STREAM_BUFFER, user_timeout: Some(UNACKNOWLEDGED) };
    let bind = |(number, listener): (usize, &StreamListener)| {
        let socket = listen_tcp(listener.addr, options)
            .map_err(|error| StartError::ListenStream { listener: *listener, error })?;
        Ok(Listening { socket, id: relay::ListenerId(small(after + number)), kind: listener.kind })
    };
    streams.iter().enumerate().map(bind).collect()
}

fn spawn(seat: Seat) -> io::Result<JoinHandle<()>> {
    #[allow(clippy::disallowed_methods, reason = "the workers are threads of this module")]
    std::thread::Builder::new().name(format!("worker-{}", seat.index)).spawn(move || worker::run(&seat))
}
