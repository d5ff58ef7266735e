//! What an operator may change while calls are running: replaced whole by `Relay::set_live`.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::peers::PeerPolicy;
use super::redirect::Alternates;
use crate::credentials::Credentials;
use crate::wire::ChannelNumber;

/// Everything that can be replaced at run time.
#[derive(Clone, Debug)]
pub struct Live {
    /// Who may allocate.
    pub credentials: Arc<Credentials>,
    /// Which peers may be reached.
    pub peers: PeerPolicy,
    /// How long things last.
    pub lifetimes: Lifetimes,
    /// When the time of a credential is checked.
    pub expiry: Expiry,
    /// SOFTWARE of every response; none keeps replies small.
    pub software: Option<Box<str>>,
    /// How much one allocation, user or source may have.
    pub limits: Limits,
    /// Which channel numbers may be bound.
    pub channel_numbers: ChannelNumbers,
    /// Whether a bound channel keeps the permission of its peer alive. Without it a channel is silent from the end of
    /// its permission on, 300 s after the last ChannelBind or CreatePermission (the letter of RFC 8656 §9).
    pub channel_keeps_permission: bool,
    /// Whether clients are told of ICMP errors by Data indications without DATA (RFC 8656 §11.5). Clients in wide use
    /// stop reading at the first of them.
    pub icmp_errors: bool,
    /// Where new clients are sent instead of being served.
    pub alternates: Alternates,
    /// Whether connections are relayed too.
    pub tcp: TcpRelaying,
}

impl Live {
    /// The defaults around these credentials.
    pub fn new(credentials: Arc<Credentials>) -> Live {
        Live {
            credentials,
            peers: PeerPolicy::default(),
            lifetimes: Lifetimes::default(),
            expiry: Expiry::Allocate,
            software: None,
            limits: Limits::default(),
            channel_numbers: ChannelNumbers::default(),
            channel_keeps_permission: true,
            icmp_errors: false,
            alternates: Alternates::default(),
            tcp: TcpRelaying::default(),
        }
    }
}

/// TCP relaying (RFC 6062). Off by default: it makes of a relay what a SOCKS proxy is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TcpRelaying {
    /// Whether clients may allocate it of whom [`Credentials::set_tcp`] says nothing.
    pub enabled: bool,
    /// The ports that clients may connect to; relayed addresses of this server are open whatever their port.
    pub peer_ports: Vec<RangeInclusive<u16>>,
}

impl TcpRelaying {
    /// Whether clients may connect to a port.
    pub fn allows(&self, port: u16) -> bool {
        self.peer_ports.iter().any(|range| range.contains(&port))
    }
}

/// How long things last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// An allocation whose client asks for less, or for nothing: 600 s (RFC 8656 §3.2).
    pub default: Duration,
    /// The most an allocation gets at once: 3600 s (RFC 8656 §7.2).
    pub maximum: Duration,
    /// A permission: 300 s (RFC 8656 §9).
    pub permission: Duration,
    /// A channel binding: 600 s (RFC 8656 §12).
    pub channel: Duration,
    /// For how long a lapsed channel's number and peer are not bound otherwise: 300 s (RFC 8656 §12).
    pub channel_hold: Duration,
    /// A nonce: at most an hour (RFC 8656 §5).
    pub nonce: Duration,
    /// A port reserved by EVEN-PORT: 30 s (RFC 8656 §7.2).
    pub reservation: Duration,
}

impl Default for Lifetimes {
    fn default() -> Lifetimes {
        Lifetimes {
            default: Duration::from_secs(600),
            maximum: Duration::from_secs(3600),
            permission: Duration::from_secs(300),
            channel: Duration::from_secs(600),
            channel_hold: Duration::from_secs(300),
            nonce: Duration::from_secs(3600),
            reservation: Duration::from_secs(30),
        }
    }
}

/// When the time of a credential is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expiry {
    /// On Allocate only: calls that are running live on (draft-uberti-behave-turn-rest-00).
    #[default]
    Allocate,
    /// On every authenticated request.
    Strict,
}

/// Which channel numbers may be bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChannelNumbers {
    /// 0x4000–0x4FFF (RFC 8656 §12).
    #[default]
    Rfc8656,
    /// 0x4000–0x7FFF (RFC 5766 §11), for older clients; coturn's utilities of before 4.7 are of them.
    Rfc5766,
}

impl ChannelNumbers {
    /// Whether a number may be bound.
    pub fn contains(self, number: ChannelNumber) -> bool {
        match self {
            ChannelNumbers::Rfc8656 => (0x4000..=0x4fff).contains(&number.0),
            ChannelNumbers::Rfc5766 => (0x4000..=0x7fff).contains(&number.0),
        }
    }
}

/// How much one allocation, user or source may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Permissions at a time.
    pub permissions: usize,
    /// Channels at a time, held ones included.
    pub channels: usize,
    /// Connections with peers at a time, of an allocation that relays TCP.
    pub connections: usize,
    /// Application data in bits per second that an allocation may relay, each way; 0 is no limit.
    pub allocation_bandwidth: u64,
    /// The same for all allocations of a user together. The host has to answer [`Event::Draw`](super::Event::Draw).
    pub user_bandwidth: u64,
    /// Replies in a second to one source, an IPv4 address or a /64 of IPv6, before it has shown by a nonce that the
    /// address is its own; shared by the engines of [`PortShare::of`](super::PortShare::of). 0 is no limit.
    pub unauthenticated_replies: u32,
}

impl Default for Limits {
    /// A hundred permissions and channels; how much traffic is right, the host knows.
    fn default() -> Limits {
        Limits {
            permissions: 100,
            channels: 100,
            connections: 100,
            allocation_bandwidth: 0,
            user_bandwidth: 0,
            unauthenticated_replies: 0,
        }
    }
}
