//! `turnwell dev`: a server for this machine, without configuration or root, with all that is needed to try it on
//! screen.
//!
//! Flags override each part, so that scripts can use it; `--json` prints one line once every socket is ready.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use serde::Serialize;

use super::super::config::file::{ApiClient, ChannelNumbers};
use super::super::config::units::{Address, BitRate, Cidr, Endpoint, Period, PortRange, SecretText};
use super::super::config::{ApiKeys, ApiListener, Config, File, Reading, Scope, Source};
use super::super::exit::Failure;
use super::super::given::SecretFile;
use super::super::ice::{Answer, IceServer, Order, Policy, Wildcard};
use super::super::lifecycle::{self, Launch, Running};
use super::super::unix_now;
use super::throwaway::ThrowAway;
use crate::net::StreamKind;

/// What `dev` relays to beside the public addresses: this machine and the networks it usually stands in.
const ALLOWED: [&str; 6] = ["127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"];

/// The ports of RFC 8489 §18.6 in the clear and over TLS.
const STUN_PORT: u16 = 3478;
const STUNS_PORT: u16 = 5349;

/// Run a server for development: no configuration, throw-away secret and key, local peers allowed
#[derive(clap::Args)]
pub(super) struct Args {
    /// Listen here for UDP; repeatable [default: port 3478 on all addresses]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Vec<Endpoint>,
    /// Listen here for TCP; repeatable [default: where it listens for UDP]
    #[arg(long, value_name = "ADDR:PORT")]
    tcp_listen: Vec<Endpoint>,
    /// Listen here for TLS; repeatable [default: beside UDP, on port 5349 if that has 3478, else on any free port]
    #[arg(long, value_name = "ADDR:PORT")]
    tls_listen: Vec<Endpoint>,
    /// Relay on this address; repeatable [default: the address that the client reached]
    #[arg(long, value_name = "ADDR")]
    relay_ip: Vec<Address>,
    /// Relay on these ports [default: 49152-65535]
    #[arg(long, value_name = "LOW-HIGH")]
    relay_ports: Option<PortRange>,
    /// The realm of credentials [default: turnwell]
    #[arg(long)]
    realm: Option<String>,
    /// The shared secret that signs; everybody on this machine sees it in `ps` [default: the file's first, else a new one]
    #[arg(long)]
    secret: Option<SecretText>,
    /// A file with the shared secret that signs; - reads standard input
    #[arg(long, value_name = "FILE|-", conflicts_with = "secret")]
    secret_file: Option<SecretFile>,
    /// Worker threads [default: one per core]
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// Listen here for the HTTP API [default: 127.0.0.1:8478]
    #[arg(long, value_name = "ADDR:PORT")]
    api: Option<Endpoint>,
    /// The API key [default: a new one]
    #[arg(long, value_name = "KEY")]
    api_key: Option<SecretText>,
    /// Start from this configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print one line of JSON once every socket is ready
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    let source = match &args.config {
        Some(path) => Source::read(path)?.whoever_may_read_it(),
        None => Source::none(),
    };
    let source = source.under(std::env::vars_os());
    let file = source.parse()?;
    let kit = Kit::new(&args, &file)?;
    let mut file = overlay(file, &args, &kit);
    let throwaway = file.tls.certificate.is_empty().then(|| ThrowAway::new(&file)).transpose()?;
    if let Some(throwaway) = &throwaway {
        file.tls.certificate = throwaway.certificate().display().to_string();
        file.tls.key = throwaway.key().display().to_string();
    }
    let certificate = file.tls.certificate.clone();
    let reading = Reading { file, source };
    let config = reading.resolve()?;
    warn(&config);
    let page_key = Some(kit.api_key.clone());
    let launch = Launch { config, reading, path: None, wildcard: Wildcard::Loopback, page_key };
    lifecycle::run(launch, |running| {
        let ready = Ready::new(running, &kit, &certificate)?;
        super::print(&if args.json { super::json(&ready)? } else { ready.for_people()? });
        Ok(())
    })
}

/// The secret that signs and the key that mints: the flags', else (the secret) the file's first, else throw-away ones.
struct Kit {
    secret: String,
    api_key: String,
}

impl Kit {
    fn new(args: &Args, file: &File) -> Result<Kit, Failure> {
        let given = |text: Option<&SecretText>| text.map_or_else(random, |text| Ok(text.expose().to_owned()));
        let read = args.secret_file.as_ref().map(|file| file.read("--secret-file")).transpose()?;
        let read = read.map(|secret| SecretText::new(secret.to_string()));
        Ok(Kit {
            secret: given(args.secret.as_ref().or(read.as_ref()).or(file.credentials.secrets.first()))?,
            api_key: given(args.api_key.as_ref())?,
        })
    }
}

impl Kit {
    /// Whoever develops may do everything.
    fn client(&self) -> ApiClient {
        ApiClient {
            id: "dev".into(),
            key: ApiKeys::hashed(&self.api_key),
            scopes: Scope::ALL.to_vec(),
            default_ttl: None,
            max_ttl: None,
            user_prefix: String::new(),
            rate: None,
        }
    }
}

/// 128 bits from the system.
pub(super) fn random() -> Result<String, Failure> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Failure::system("cannot draw a secret", &error))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The flags over the file, and what makes it a server for development.
fn overlay(mut file: File, args: &Args, kit: &Kit) -> File {
    if !args.listen.is_empty() {
        file.listen.udp = args.listen.clone();
    }
    listen_for_streams(&mut file, args);
    if !args.relay_ip.is_empty() {
        file.relay.addresses = args.relay_ip.clone();
        file.relay.external.retain(|entry| args.relay_ip.contains(&entry.local));
    }
    if let Some(ports) = &args.relay_ports {
        file.relay.ports = ports.clone();
    }
    if let Some(realm) = &args.realm {
        file.server.realm = realm.clone();
    }
    if let Some(workers) = args.workers {
        file.server.workers = workers;
    }
    // each verifies, the first signs
    let secret = SecretText::new(kit.secret.clone());
    file.credentials.secrets.retain(|other| *other != secret);
    file.credentials.secrets.insert(0, secret);
    file.api.clients.insert(0, kit.client());
    file.api.insecure_http = true;
    if let Some(api) = args.api {
        file.api.listen = vec![api];
    } else if file.api.listen.is_empty() {
        file.api.listen = File::default().api.listen;
    }
    // coturn's utilities before 4.7 draw from all of them
    file.relay.channel_numbers = ChannelNumbers::Rfc5766;
    file.relay.tcp = true;
    let allowed = ALLOWED.iter().filter_map(|text| text.parse::<Cidr>().ok());
    file.peers.allow.extend(allowed);
    file.server.drain_timeout = Period::seconds(0);
    if args.config.is_none() {
        // one machine plays all the users there are
        file.limits.allocations_per_user = 0;
        file.limits.allocations_per_source = 0;
        file.limits.bandwidth_per_allocation = BitRate::megabits(0);
        file.limits.bandwidth_per_user = BitRate::megabits(0);
        file.limits.unauthenticated_replies = 0;
    }
    file
}

/// TCP and TLS beside UDP, unless flags or file say otherwise.
fn listen_for_streams(file: &mut File, args: &Args) {
    let listen = &mut file.listen;
    if !args.tcp_listen.is_empty() {
        listen.tcp = args.tcp_listen.clone();
    } else if listen.tcp.is_empty() && listen.auto.is_empty() {
        listen.tcp = listen.udp.clone();
    }
    if !args.tls_listen.is_empty() {
        listen.tls = args.tls_listen.clone();
    } else if listen.tls.is_empty() && listen.auto.is_empty() {
        let beside = |udp: &Endpoint| {
            let port = if udp.0.port() == STUN_PORT { STUNS_PORT } else { 0 };
            Endpoint(SocketAddr::new(udp.0.ip(), port))
        };
        listen.tls = listen.udp.iter().map(beside).collect();
    }
}

/// Says what is open.
fn warn(config: &Config) {
    eprintln!("turnwell dev: FOR DEVELOPMENT ONLY. Whoever has a credential reaches this machine and its networks");
    eprintln!("  through the relay: {} are allowed as peers.", ALLOWED.join(", "));
    if config.fixed.api.iter().any(|listener| !listener.tls && !listener.addr.ip().is_loopback()) {
        eprintln!(
            "  The API listens beyond this machine without TLS: key and credentials cross the network in plain text."
        );
    }
    eprintln!("  For everything else write a configuration and use `turnwell serve`.");
}

/// The line of `--json`.
#[derive(Serialize)]
struct Ready<'a> {
    ready: bool,
    listen: &'a [SocketAddr],
    tcp: Vec<SocketAddr>,
    tls: Vec<SocketAddr>,
    certificate: &'a str,
    api: String,
    api_key: &'a str,
    secret: &'a str,
    realm: &'a str,
    #[serde(rename = "iceServers")]
    ice_servers: Vec<IceServer>,
    #[serde(skip)]
    host: SocketAddr,
}

impl<'a> Ready<'a> {
    fn new(running: &'a Running<'_>, kit: &'a Kit, certificate: &'a str) -> Result<Ready<'a>, Failure> {
        let streams = |kind: StreamKind| {
            let listeners =
                running.streams.iter().filter(move |listener| [kind, StreamKind::Auto].contains(&listener.kind));
            listeners.map(|listener| listener.addr).collect::<Vec<_>>()
        };
        let credentials = &running.live.relay.credentials;
        let order = Order { user: Some("dev"), ttl: running.live.mint.default_ttl, policy: Policy::All };
        let answer = Answer::mint(credentials, running.uris, &order, unix_now())
            .map_err(|error| Failure::internal(format!("cannot mint a credential: {error:?}")))?;
        Ok(Ready {
            ready: true,
            listen: running.listening,
            tcp: streams(StreamKind::Tcp),
            tls: streams(StreamKind::Tls),
            certificate,
            api: running.api.first().map(url).unwrap_or_default(),
            api_key: &kit.api_key,
            secret: &kit.secret,
            realm: credentials.realm(),
            ice_servers: answer.ice_servers,
            host: running.reached.first().copied().unwrap_or(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 3478)),
        })
    }

    fn for_people(&self) -> Result<String, Failure> {
        let ice_servers = serde_json::to_string_pretty(&self.ice_servers).map_err(Failure::internal)?;
        let (host, port) = (self.host.ip(), self.host.port());
        let family = if host.is_ipv4() { "-X" } else { "-x" };
        let Ready { api, api_key, secret, certificate, .. } = self;
        let (key, secret) = (shell_word(&format!("Authorization: Bearer {api_key}")), shell_word(secret));
        Ok(format!(
            "Turnwell is ready.

For new RTCPeerConnection({{ iceServers }}):

const iceServers = {ice_servers};

The turns: URL needs the throw-away certificate to be trusted, for example by Chromium:

certutil -d sql:$HOME/.pki/nssdb -A -t P,, -n turnwell-dev -i {certificate}

Mint another credential:

curl -s -X POST {api}/v1/credentials -H {key} -H 'Content-Type: application/json' -d '{{\"user\":\"alice\",\"ttl\":3600}}'

Relay some packets with coturn's client (Debian: apt install coturn); the first line starts the peer that echoes them:

turnutils_peer -L {host} -p 3480 &
turnutils_uclient {family} -c -W {secret} -u dev -e {host} -r 3480 -n 100 -p {port} {host}
"
        ))
    }
}

/// The API's URL for whoever is on this machine.
pub(in crate::daemon) fn url(listener: &ApiListener) -> String {
    let scheme = if listener.tls { "https" } else { "http" };
    format!("{scheme}://{}", nearest(listener.addr))
}

/// Where a client on this machine reaches a listener.
fn nearest(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(v4) if v4.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(v6) if v6.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// One word for a shell, whatever is in it.
fn shell_word(text: &str) -> String {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/".contains(&byte));
    if plain { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_allowed_range_can_be_read() {
        assert!(ALLOWED.iter().all(|text| text.parse::<Cidr>().is_ok()));
    }

    #[test]
    fn shell_words_survive_the_shell() {
        assert_eq!(shell_word("a-b_1.2:/"), "a-b_1.2:/");
        assert_eq!(shell_word("it's $5"), "'it'\\''s $5'");
        assert_eq!(shell_word(""), "''");
    }
}
