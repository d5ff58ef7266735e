//! The command line of `turnwell bench`, and the plan it becomes.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use rustls::ClientConfig;

use super::error::BenchError;
use crate::daemon::given::SecretFile;
use crate::daemon::trust::{self, Trust};

/// Loads a STUN/TURN server and measures what comes back
///
/// The peers are sockets of this process. Runs are bounded: by --seconds, and by --packets if given. With --pid the
/// server's CPU time and memory are read from /proc, so that the cost of a packet is known and not only how fast
/// it was.
#[derive(Args, Clone, Debug)]
pub struct BenchArgs {
    /// The server; port 3478 when left out, for TLS 5349
    #[arg(value_name = "HOST[:PORT]")]
    pub server: String,

    /// What to do
    #[arg(long, value_enum, default_value_t = Mode::ClientToPeer)]
    pub mode: Mode,

    /// How clients reach the server
    #[arg(long, value_enum, default_value_t = Transport::Udp)]
    pub transport: Transport,

    /// Send and Data indications instead of ChannelData
    #[arg(long)]
    pub indications: bool,

    /// The shared secret, from which time-limited credentials are made; everybody on this machine sees it in `ps`
    #[arg(long, value_name = "SECRET", conflicts_with_all = ["secret_file", "password", "password_file"])]
    pub secret: Option<String>,

    /// A file with the shared secret; - reads standard input [default: $TURNWELL_SECRET, where there is no password]
    #[arg(long, value_name = "FILE|-", conflicts_with_all = ["password", "password_file"])]
    pub(super) secret_file: Option<SecretFile>,

    /// The user; `bench` when there is a secret
    #[arg(long)]
    pub user: Option<String>,

    /// The user's password; everybody on this machine sees it in `ps`
    #[arg(long, requires = "user", conflicts_with = "password_file")]
    pub password: Option<String>,

    /// A file with the user's password; - reads standard input
    #[arg(long, value_name = "FILE|-", requires = "user")]
    pub(super) password_file: Option<SecretFile>,

    /// Spread the clients over so many users, when there is a secret
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub users: u32,

    /// Clients, each with a socket and an allocation [default: 200; binding 64, allocate 16, hold 1000, ping-pong 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=50_000))]
    pub clients: Option<u32>,

    /// Peers that the clients share
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub peers: u32,

    /// The address of the peers [default: the one from which the server is reached]
    #[arg(long, value_name = "IP")]
    pub peer_address: Option<IpAddr>,

    /// Bytes of application data in each packet
    #[arg(long, value_name = "BYTES", default_value_t = 200, value_parser = clap::value_parser!(u16).range(16..=8_000))]
    pub payload: u16,

    /// Consecutive packets of one client, sent with one call; 1 goes round all clients
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub burst: u32,

    /// How long to measure
    #[arg(long, value_name = "S", default_value_t = 5.0)]
    pub seconds: f64,

    /// How long to load before measuring
    #[arg(long, value_name = "S", default_value_t = 0.5)]
    pub warm_up: f64,

    /// Stop after so many packets (requests, cycles)
    #[arg(long, value_name = "N")]
    pub packets: Option<u64>,

    /// Packets (requests, round trips, cycles) per second over all clients, whatever comes back
    #[arg(long, value_name = "N", conflicts_with = "window", value_parser = clap::value_parser!(u64).range(1..=50_000_000))]
    pub rate: Option<u64>,

    /// As fast as the server answers, with so many packets under way [default: 256, or two bursts of each client but at most 1024]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub window: Option<u64>,

    /// Clients that are set up at a time
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub parallel: u32,

    /// The server's process on this machine, to read its CPU time and memory
    #[arg(long)]
    pub pid: Option<u32>,

    /// Keep this process on one core
    #[arg(long, value_name = "N")]
    pub core: Option<usize>,

    /// Print the report as one line of JSON
    #[arg(long)]
    pub json: bool,
}

/// What the clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Clients send, peers receive
    ClientToPeer,
    /// Peers send, clients receive
    PeerToClient,
    /// Both at once
    Both,
    /// Clients send to each other, through two allocations of the same server
    RelayToRelay,
    /// One packet there and back per client, timed
    PingPong,
    /// STUN Binding requests, without credentials
    Binding,
    /// Allocate with a forged signature behind a good nonce, refused each time: what an attack costs the server
    Forged,
    /// Allocate (with the challenge of a new client), CreatePermission, Refresh to nothing; and again
    Allocate,
    /// Allocations with a permission and a channel that are only held: memory
    Hold,
}

/// How clients reach the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// Datagrams
    Udp,
    /// A connection for each client
    Tcp,
    /// The same over TLS, whatever certificate the server has
    Tls,
}

/// How fast to send.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Pace {
    /// So many per second.
    Rate(f64),
    /// So many under way.
    Window(u64),
}

/// The arguments, checked and with every default filled in.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) args: BenchArgs,
    pub(super) server: SocketAddr,
    /// For clients over TLS.
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) clients: usize,
    pub(super) burst: usize,
    pub(super) pace: Pace,
    pub(super) time: Duration,
    pub(super) warm_up: Duration,
    pub(super) packets: u64,
}

/// Runs end before a permission (RFC 8656 §9: 300 s) would have to be refreshed.
const LONGEST_RUN: f64 = 240.0;
const DEFAULT_WINDOW: u64 = 256;
/// More would not fit into the buffers of most servers' sockets.
const LARGEST_DEFAULT_WINDOW: u64 = 1024;

/// Has the shared secret where the command line has neither a secret nor a password.
const SECRET: &str = "TURNWELL_SECRET";

impl BenchArgs {
    /// The same with the secret and the password read from where they are.
    fn read(&self) -> Result<BenchArgs, BenchError> {
        let from = |file: &Option<SecretFile>, flag: &str| match file {
            Some(file) => match file.read(flag) {
                Ok(text) => Ok(Some(text.to_string())),
                Err(failure) => Err(BenchError::Usage(failure.to_string())),
            },
            None => Ok(None),
        };
        let password = self.password.clone().or(from(&self.password_file, "--password-file")?);
        let secret = self.secret.clone().or(from(&self.secret_file, "--secret-file")?);
        let variable = || std::env::var(SECRET).ok().filter(|secret| !secret.is_empty() && password.is_none());
        Ok(BenchArgs { secret: secret.or_else(variable), password, ..self.clone() })
    }
}

impl Plan {
    pub(super) fn new(args: &BenchArgs) -> Result<Plan, BenchError> {
        let args = args.read()?;
        let usage = |text: &str| Err(BenchError::Usage(text.to_owned()));
        if !(0.01..=LONGEST_RUN).contains(&args.seconds) || !(0.0..=60.0).contains(&args.warm_up) {
            return usage("--seconds must be 0.01 to 240 and --warm-up 0 to 60: no permission is refreshed");
        }
        if !matches!(args.mode, Mode::Binding | Mode::Forged) && args.secret.is_none() && args.password.is_none() {
            return usage("relaying needs --secret-file, or --user and --password-file");
        }
        if args.users > 1 && args.secret.is_none() {
            return usage("--users needs --secret-file");
        }
        let clients = args.clients.unwrap_or(match args.mode {
            Mode::ClientToPeer | Mode::PeerToClient | Mode::Both | Mode::RelayToRelay => 200,
            Mode::PingPong => 1,
            Mode::Binding | Mode::Forged => 64,
            Mode::Allocate => 16,
            Mode::Hold => 1000,
        });
        if args.mode == Mode::RelayToRelay && !clients.is_multiple_of(2) {
            return usage("relay-to-relay needs an even number of clients");
        }
        let two_bursts = u64::from(clients) * u64::from(args.burst) * 2;
        let default = if args.burst == 1 { DEFAULT_WINDOW } else { two_bursts.min(LARGEST_DEFAULT_WINDOW) };
        let window = args.window.unwrap_or(default);
        let is_tls = args.transport == Transport::Tls;
        #[allow(clippy::cast_precision_loss, reason = "at most 50 million")]
        let pace = args.rate.map_or(Pace::Window(window.max(u64::from(args.burst))), |rate| Pace::Rate(rate as f64));
        Ok(Plan {
            server: resolve(&args.server, if is_tls { TLS_PORT } else { DEFAULT_PORT })?,
            tls: is_tls.then(|| trust::client(Trust::Any)).transpose().map_err(BenchError::system("TLS"))?,
            clients: clients as usize,
            burst: args.burst as usize,
            pace,
            time: Duration::from_secs_f64(args.seconds),
            warm_up: Duration::from_secs_f64(args.warm_up),
            packets: args.packets.unwrap_or(u64::MAX),
            args,
        })
    }
}

fn resolve(server: &str, port: u16) -> Result<SocketAddr, BenchError> {
    let failed = |error| BenchError::Resolve { server: server.to_owned(), error };
    if let Ok(ip) = server.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, port));
    }
    let found = if server.contains(':') { server.to_socket_addrs() } else { (server, port).to_socket_addrs() };
    let nothing = || failed(std::io::Error::new(std::io::ErrorKind::NotFound, "no address"));
    found.map_err(failed)?.next().ok_or_else(nothing)
}

const DEFAULT_PORT: u16 = 3478;
const TLS_PORT: u16 = 5349;

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        bench: BenchArgs,
    }

    fn plan(line: &str) -> Result<Plan, String> {
        let line = Line::try_parse_from(std::iter::once("bench").chain(line.split(' '))).map_err(|e| e.to_string())?;
        Plan::new(&line.bench).map_err(|error| error.to_string())
    }

    #[test]
    fn addresses_with_and_without_port() {
        for (text, address) in [
            ("127.0.0.1", "127.0.0.1:3478"),
            ("127.0.0.1:9", "127.0.0.1:9"),
            ("::1", "[::1]:3478"),
            ("[::1]", "[::1]:3478"),
            ("[::1]:9", "[::1]:9"),
        ] {
            assert_eq!(resolve(text, 3478).unwrap(), address.parse().unwrap(), "{text}");
        }
    }

    #[test]
    fn defaults_depend_on_the_mode() {
        let plan_of = |line| plan(line).unwrap();
        assert_eq!(plan_of("127.0.0.1 --secret s").clients, 200);
        assert_eq!(plan_of("127.0.0.1 --secret s").pace, Pace::Window(256));
        assert_eq!(plan_of("127.0.0.1 --secret s --burst 16 --clients 20").pace, Pace::Window(640));
        assert_eq!(plan_of("127.0.0.1 --secret s --burst 16").pace, Pace::Window(1024));
        assert_eq!(plan_of("127.0.0.1 --mode binding").clients, 64);
        assert_eq!(plan_of("127.0.0.1 --mode forged").clients, 64);
        assert_eq!(plan_of("127.0.0.1 --mode binding --rate 1000").pace, Pace::Rate(1000.0));
    }

    #[test]
    fn what_cannot_work_is_refused() {
        for line in [
            "127.0.0.1",
            "127.0.0.1 --user u",
            "127.0.0.1 --password p",
            "127.0.0.1 --user u --password p --users 2",
            "127.0.0.1 --secret s --rate 1 --window 1",
            "127.0.0.1 --secret s --seconds 0",
            "127.0.0.1 --secret s --seconds 1000",
            "127.0.0.1 --secret s --mode relay-to-relay --clients 3",
            "127.0.0.1 --secret s --payload 0",
        ] {
            assert!(plan(line).is_err(), "{line}");
        }
    }
}
