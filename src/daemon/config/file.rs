//! The configuration file as it is written: one struct per section, one field per key.
//!
//! A key exists here once, with its documentation, its default and, in its type, its unit. Unknown keys fail. What
//! the values mean together is decided in `resolve.rs`. `config/reference.toml` repeats all of it for the reader; a
//! test compares the two.

use serde::{Deserialize, Serialize};

use super::api_key::Scope;
use super::units::{Address, BitRate, Cidr, Endpoint, Period, PortRange, SecretText, Size};
use crate::relay;

/// A whole configuration file; a missing section or key has its default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct File {
    /// Who this server is.
    pub server: Server,
    /// Where clients reach it.
    pub listen: Listen,
    /// How connections over TCP and TLS are served.
    pub streams: Streams,
    /// The certificate of TLS listeners.
    pub tls: Tls,
    /// The addresses and ports that are relayed.
    pub relay: Relay,
    /// NAT behaviour discovery.
    pub discovery: Discovery,
    /// Who may use TURN.
    pub credentials: Credentials,
    /// How long things live without being refreshed.
    pub lifetimes: Lifetimes,
    /// How much one client may have.
    pub limits: Limits,
    /// To whom data is relayed.
    pub peers: Peers,
    /// The HTTP API that mints credentials.
    pub api: Api,
    /// What is logged.
    pub log: Log,
}

/// `[server]`: who this server is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Server {
    /// The realm of long-term credentials (RFC 8489 §9.2); clients only echo it.
    pub realm: String,
    /// Worker threads on the packet path; 0 = one per core.
    pub workers: usize,
    /// Host name or address that clients reach this server by, for the URLs of minted credentials; empty = the
    /// listener's address.
    pub public_host: String,
    /// How long running calls are waited for when the server is told to end; 0 = not at all.
    pub drain_timeout: Period,
    /// Other servers that new clients are sent to (RFC 8489 §10); empty = none are.
    pub alternate: Vec<Endpoint>,
    /// The name in the certificate of those; empty = the same as here.
    pub alternate_domain: String,
    /// When they are sent there.
    pub redirect: Redirect,
}

/// `server.redirect`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Redirect {
    /// While this server drains.
    Drain,
    /// Always.
    Always,
}

impl Default for Server {
    fn default() -> Server {
        Server {
            realm: "turnwell".into(),
            workers: 0,
            public_host: String::new(),
            drain_timeout: Period::seconds(30),
            alternate: Vec::new(),
            alternate_domain: String::new(),
            redirect: Redirect::Drain,
        }
    }
}

/// `[listen]`: where clients reach the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Listen {
    /// STUN and TURN over UDP. `0.0.0.0` and `[::]` stand for every address of the machine in that family.
    pub udp: Vec<Endpoint>,
    /// TURN over TCP; such addresses as for `udp`, here and below.
    pub tcp: Vec<Endpoint>,
    /// TURN over TLS.
    pub tls: Vec<Endpoint>,
    /// TURN over TCP or TLS, told apart by the client's first byte.
    pub auto: Vec<Endpoint>,
    /// Receive buffer asked of the kernel for each listening socket.
    pub receive_buffer: Size,
    /// Send buffer asked of the kernel for each listening socket.
    pub send_buffer: Size,
}

impl Default for Listen {
    fn default() -> Listen {
        let everywhere = ["0.0.0.0:3478", "[::]:3478"];
        Listen {
            udp: everywhere.iter().filter_map(|text| text.parse().ok()).collect(),
            tcp: Vec::new(),
            tls: Vec::new(),
            auto: Vec::new(),
            receive_buffer: Size::mebibytes(4),
            send_buffer: Size::mebibytes(4),
        }
    }
}

/// `[streams]`: how connections over TCP and TLS are served.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Streams {
    /// Concurrent connections in all; 0 = no limit.
    pub connections: u32,
    /// Concurrent connections from one source address; 0 = no limit.
    pub connections_per_source: u32,
    /// From accepting a connection to its first message, PROXY header and TLS handshake included.
    pub opening: Period,
    /// A connection without an allocation that sends nothing.
    pub idle: Period,
    /// How much may wait for a client that reads too slowly; the oldest media is dropped first.
    pub queue: Size,
    /// How long media may wait for a client that reads too slowly.
    pub queue_delay: Period,
    /// Networks of proxies whose connections must begin with a PROXY header.
    pub proxies: Vec<Cidr>,
}

impl Default for Streams {
    fn default() -> Streams {
        Streams {
            connections: 16_000,
            connections_per_source: 1000,
            opening: Period::seconds(10),
            idle: Period::seconds(120),
            queue: Size::kibibytes(256),
            queue_delay: Period::seconds(1),
            proxies: Vec::new(),
        }
    }
}

/// `[tls]`: the certificate of TLS listeners.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Tls {
    /// File with the certificate chain in PEM, the server's own first. Relative paths start at this file's directory.
    pub certificate: String,
    /// File with its private key in PEM.
    pub key: String,
}

/// `[relay]`: the addresses and ports that are relayed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Relay {
    /// Addresses of this machine to relay on; empty = the address that the client reached.
    pub addresses: Vec<Address>,
    /// Ports for relayed addresses.
    pub ports: PortRange,
    /// Family of an allocation whose client asked for none.
    pub default_family: DefaultFamily,
    /// Which channel numbers clients may bind.
    pub channel_numbers: ChannelNumbers,
    /// Whether a bound channel keeps the permission of its peer alive.
    pub channel_keeps_permission: bool,
    /// Whether clients are told of ICMP errors.
    pub icmp_errors: bool,
    /// Behind NAT: under which public address each relay address is reached.
    pub external: Vec<External>,
    /// Whether clients over TCP and TLS may have connections relayed too (RFC 6062).
    pub tcp: bool,
    /// The ports that such clients may connect to.
    pub tcp_peer_ports: Vec<PortRange>,
}

impl Default for Relay {
    fn default() -> Relay {
        Relay {
            addresses: Vec::new(),
            ports: PortRange::DYNAMIC,
            default_family: DefaultFamily::Client,
            channel_numbers: ChannelNumbers::Rfc8656,
            channel_keeps_permission: true,
            icmp_errors: false,
            external: Vec::new(),
            tcp: false,
            tcp_peer_ports: vec![PortRange::UNPRIVILEGED],
        }
    }
}

/// `relay.default-family`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DefaultFamily {
    /// The family of the client's own connection when a relay address of that family exists, else IPv4.
    Client,
    /// IPv4, the letter of RFC 8656 §7.2.
    Ipv4,
}

/// `relay.channel-numbers`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChannelNumbers {
    /// 0x4000 to 0x4FFF (RFC 8656 §12).
    Rfc8656,
    /// 0x4000 to 0x7FFF, for clients of RFC 5766.
    Rfc5766,
}

/// An entry of `relay.external`: a one-to-one mapping made by the NAT in front of this machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct External {
    /// The address on this machine.
    pub local: Address,
    /// The address that the rest of the world sees.
    pub public: Address,
}

/// `[discovery]`: NAT behaviour discovery (RFC 5780), which needs two addresses of a family; off without them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Discovery {
    /// The first address with the first port; one entry per family.
    pub primary: Vec<Endpoint>,
    /// The second address with the second port, in the same order.
    pub alternate: Vec<Endpoint>,
}

/// `[credentials]`: who may use TURN. Without a secret and without a user, nobody may: the server answers STUN only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Credentials {
    /// Shared secrets of time-limited credentials; each verifies, the first of all signs.
    pub secrets: Vec<SecretText>,
    /// Files with one shared secret each, after those of `secrets`. Relative paths start at this file's directory.
    pub secret_files: Vec<String>,
    /// Static users.
    pub users: Vec<User>,
    /// When the time stamp of a time-limited user name is checked.
    pub expiry: Expiry,
    /// The folder that keeps revocations over restarts; empty = systemd's StateDirectory=, if there is one.
    pub state_dir: String,
}

impl Default for Credentials {
    fn default() -> Credentials {
        Credentials {
            secrets: Vec::new(),
            secret_files: Vec::new(),
            users: Vec::new(),
            expiry: Expiry::Allocate,
            state_dir: String::new(),
        }
    }
}

/// An entry of `credentials.users`: a name with either a password or a key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct User {
    /// The user name.
    pub name: String,
    /// The password.
    pub password: Option<SecretText>,
    /// Instead of the password: MD5 of `name:realm:password` in 32 hexadecimal digits (RFC 8489 §9.2.2).
    pub key: Option<SecretText>,
    /// Beside `key`: SHA-256 of the same in 64 hexadecimal digits. Without it nobody is offered SHA-256.
    pub key_sha256: Option<SecretText>,
    /// Instead of `relay.tcp`: whether this user may have connections relayed.
    pub tcp: Option<bool>,
}

/// `credentials.expiry`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expiry {
    /// On Allocate only: running calls live on.
    Allocate,
    /// On every request.
    Strict,
}

/// `[lifetimes]`: how long things live without being refreshed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Lifetimes {
    /// An allocation whose client asked for no lifetime.
    pub default: Period,
    /// The most that a client gets.
    pub maximum: Period,
    /// A permission (RFC 8656 §9: 5 minutes).
    pub permission: Period,
    /// A channel binding (RFC 8656 §12: 10 minutes).
    pub channel: Period,
    /// A nonce.
    pub nonce: Period,
}

impl Default for Lifetimes {
    fn default() -> Lifetimes {
        let engine = relay::Lifetimes::default();
        Lifetimes {
            default: Period::from(engine.default),
            maximum: Period::from(engine.maximum),
            permission: Period::from(engine.permission),
            channel: Period::from(engine.channel),
            nonce: Period::from(engine.nonce),
        }
    }
}

/// `[limits]`: how much one client may have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Limits {
    /// Concurrent allocations of one user; 0 = no limit.
    pub allocations_per_user: u32,
    /// Concurrent allocations from one source address; 0 = no limit.
    pub allocations_per_source: u32,
    /// Concurrent allocations in all; 0 = no limit but the ports.
    pub allocations: u32,
    /// Permissions of one allocation.
    pub permissions: usize,
    /// Channels of one allocation.
    pub channels: usize,
    /// Connections with peers of one allocation that relays TCP.
    pub connections: usize,
    /// Application data that one allocation may relay, each way; 0 = no limit.
    pub bandwidth_per_allocation: BitRate,
    /// The same for all allocations of one user together; 0 = no limit.
    pub bandwidth_per_user: BitRate,
    /// Replies in a second to one source address that has not shown by a nonce that it is its own, with bursts of
    /// twice as many; 0 = no limit.
    pub unauthenticated_replies: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        let engine = relay::Limits::default();
        Limits {
            allocations_per_user: 100,
            allocations_per_source: 1000,
            allocations: 16_000,
            permissions: engine.permissions,
            channels: engine.channels,
            connections: engine.connections,
            bandwidth_per_allocation: BitRate::megabits(100),
            bandwidth_per_user: BitRate::megabits(500),
            unauthenticated_replies: 500,
        }
    }
}

/// `[peers]`: to whom data is relayed. Special-purpose ranges are denied underneath; the most specific entry wins,
/// and among equals `deny`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Peers {
    /// Ranges that are relayed to.
    pub allow: Vec<Cidr>,
    /// Ranges that are not.
    pub deny: Vec<Cidr>,
}

/// `[api]`: the HTTP API that mints credentials.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Api {
    /// Where the API listens; empty = no API.
    pub listen: Vec<Endpoint>,
    /// A Unix socket on which the API listens as well; empty = none.
    pub socket: String,
    /// File with the certificate chain that the API shows, in PEM: all of `listen` then speaks HTTPS. Empty = plain HTTP
    /// on loopback, and elsewhere HTTPS with the certificate of `[tls]`.
    pub certificate: String,
    /// File with its private key in PEM.
    pub certificate_key: String,
    /// Whether whoever may open the socket may do everything without a key.
    pub socket_trusted: bool,
    /// Who may call, for what.
    pub clients: Vec<ApiClient>,
    /// API keys that mint, in plain text (16 characters or more) or as `sha256:` and 64 hexadecimal digits.
    pub keys: Vec<SecretText>,
    /// Files with one API key each. Relative paths start at this file's directory.
    pub key_files: Vec<String>,
    /// How long a credential is valid when the caller does not say.
    pub default_ttl: Period,
    /// The longest that a caller may ask for.
    pub max_ttl: Period,
    /// Requests in a second that each key may make, with bursts of twice as many; 0 = no limit.
    pub rate: u32,
    /// Wrong keys in a second that a source address may present, with bursts of four times as many; 0 = no limit.
    pub failure_rate: u32,
    /// Origins of pages that may call the API from a browser.
    pub cors_origins: Vec<String>,
    /// Whether `/metrics` answers callers on this machine without a key.
    pub metrics_open: bool,
    /// Allows plain HTTP on an address other than loopback: keys and credentials then cross the network in plain text.
    /// Without meaning once there is `certificate`.
    pub insecure_http: bool,
}

impl Default for Api {
    fn default() -> Api {
        Api {
            listen: "127.0.0.1:8478".parse().into_iter().collect(),
            socket: String::new(),
            certificate: String::new(),
            certificate_key: String::new(),
            socket_trusted: false,
            clients: Vec::new(),
            keys: Vec::new(),
            key_files: Vec::new(),
            default_ttl: Period::seconds(24 * 3600),
            max_ttl: Period::seconds(48 * 3600),
            rate: 500,
            failure_rate: 5,
            cors_origins: Vec::new(),
            metrics_open: true,
            insecure_http: false,
        }
    }
}

/// An entry of `api.clients`: the holder of a key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ApiClient {
    /// Its name: a-z, 0-9 and -.
    pub id: String,
    /// Its key, as `sha256:` and 64 hexadecimal digits or in plain text.
    pub key: SecretText,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// Instead of `api.default-ttl`.
    pub default_ttl: Option<Period>,
    /// Instead of `api.max-ttl`.
    pub max_ttl: Option<Period>,
    /// Stands before every user that it names.
    #[serde(default)]
    pub user_prefix: String,
    /// Instead of `api.rate`.
    pub rate: Option<u32>,
}

/// `[log]`: what is logged, on standard error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Log {
    /// How a line looks.
    pub format: LogFormat,
    /// The least severe level that is logged; the environment variable `TURNWELL_LOG` overrides it.
    pub level: LogLevel,
    /// Shows networks instead of addresses, and the beginnings of user names.
    pub shorten: bool,
}

impl Default for Log {
    fn default() -> Log {
        Log { format: LogFormat::Text, level: LogLevel::Info, shorten: false }
    }
}

/// `log.format`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people and the journal.
    Text,
    /// One JSON object per line.
    Json,
}

/// `log.level`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    /// What stops the server or a part of it.
    Error,
    /// What an operator should look at.
    Warn,
    /// Start, stop, reload; the begin and the end of each allocation.
    Info,
    /// Each refusal.
    Debug,
    /// Each packet.
    Trace,
}
