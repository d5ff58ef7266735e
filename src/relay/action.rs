//! What goes in and what comes out: names for the ends of a packet, the one action a packet causes, and the rare
//! events that are polled.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::ops::Range;
use std::sync::Arc;

use super::bandwidth::Direction;
use super::clock::Mono;
use super::flow::{Flow, FlowKey};
use super::peers::PeerClass;
use crate::credentials::{AuthFailure, Evidence};
use crate::wire::{ErrorCode, Method};

/// A listener of the host: an index into the `listeners` the engine was built with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerId(pub u16);

/// A connection accepted by a stream listener, numbered by the host; never reused while the engine knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub NonZeroU32);

/// A relay socket, numbered by the host; never reused before [`Event::Close`] gave it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RelayId(pub u32);

/// The way between a client and this server (RFC 8656 §2, "5-tuple"): the listener stands for the server's address
/// and the transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FiveTuple {
    /// The client's host transport address as this server sees it.
    pub client: SocketAddr,
    /// Where it arrived.
    pub listener: ListenerId,
    /// The connection, for stream transports.
    pub stream: Option<StreamId>,
}

/// A peer's transport address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerAddr(pub SocketAddr);

/// What an allocation relays (REQUESTED-TRANSPORT, RFC 8656 §18.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Datagrams.
    #[default]
    Udp,
    /// Connections (RFC 6062).
    Tcp,
}

/// The number of a connection with a peer, for as long as that lives: CONNECTION-ID (RFC 6062 §6.2.1). It tells which
/// engine's the connection is, since the client may bind one that another engine has accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u32);

impl ConnectionId {
    /// The number near `random` that belongs to the engine `index` of so many.
    pub(super) fn of_engine(random: u32, index: u16, of: u16) -> Option<ConnectionId> {
        let of = u32::from(of.max(1));
        (random - random % of).checked_add(u32::from(index)).map(ConnectionId)
    }

    /// Which of so many engines a number belongs to.
    pub fn owner(self, of: u16) -> u16 {
        u16::try_from(self.0 % u32::from(of.max(1))).unwrap_or(0)
    }
}

/// The eight bytes of RESERVATION-TOKEN (RFC 8656 §18.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReservationToken(pub [u8; 8]);

/// What the host has to do about one packet. Ranges named `out` point into the buffer given with the call, ranges
/// named `payload` into the packet itself, so that relayed data is never copied.
#[derive(Debug)]
#[must_use = "an action not carried out loses a packet or a port"]
pub enum Action {
    /// Nothing, for this reason.
    Discard(Discard),
    /// Send these bytes back where the packet came from.
    Reply {
        /// The response.
        out: Range<usize>,
    },
    /// Send these bytes from another listener, or to another port, than the packet's own (RFC 5780 §6.1).
    ReplyFrom {
        /// From here …
        listener: ListenerId,
        /// … to there.
        client: SocketAddr,
        /// The response.
        out: Range<usize>,
    },
    /// Send the payload from a relay socket.
    ToPeer {
        /// From this socket …
        relay: RelayId,
        /// … to this address, as the network knows it.
        peer: PeerAddr,
        /// The application data.
        payload: Range<usize>,
        /// The datagram must not be fragmented: set DF (RFC 8656 §14, §15).
        dont_fragment: bool,
    },
    /// The same, to a relay address and port of this server that is none of this engine's allocations. Send it if it is
    /// one of another engine's, else call `Relay::stray`: whatever else has the port is no peer.
    ToSibling {
        /// From this socket …
        relay: RelayId,
        /// … to this address, as the network knows it.
        peer: PeerAddr,
        /// The application data.
        payload: Range<usize>,
    },
    /// Send a header and the payload behind it to a client.
    ToClient {
        /// The way to the client.
        client: FiveTuple,
        /// A ChannelData header, or a Data indication up to its last attribute's value.
        out: Range<usize>,
        /// The application data.
        payload: Range<usize>,
        /// Zero bytes that must follow the payload (0–3), whatever the transport: a Data indication's padding.
        padding: u8,
    },
    /// Do what the promise says, then call `opened` with it in the same turn.
    Open(super::allocate::PendingAllocation),
    /// Connect to a peer over TCP, then call `connected` or `connection_lost`; the client waits for it.
    Connect {
        /// The connection's number from now on.
        connection: ConnectionId,
        /// The relay socket whose address it leaves from …
        relay: RelayId,
        /// … which is this one …
        from: SocketAddr,
        /// … to this address, as the network knows it.
        peer: PeerAddr,
    },
    /// Send these bytes back where the packet came from. Whatever follows there, either way, is data of a connection
    /// with a peer, as it stands.
    Bind {
        /// The response.
        out: Range<usize>,
        /// The connection with the peer.
        connection: ConnectionId,
    },
    /// Give the client's connection to the host of another engine, with this packet and what follows it.
    HandOver {
        /// Its [`PortShare::index`](super::PortShare::index).
        engine: u16,
    },
}

/// Why a packet leads nowhere; each is a counter and a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Discard {
    /// Neither STUN nor ChannelData.
    Foreign,
    /// Fewer bytes than a header, or fewer than announced.
    Short,
    /// No magic cookie: a client of RFC 3489, or noise.
    NoCookie,
    /// The length field does not fit the bytes.
    BadLength,
    /// FINGERPRINT is present and wrong.
    BadFingerprint,
    /// A response; this server never asks.
    Response,
    /// An indication that needs no answer and has no effect (Binding keep-alive).
    KeepAlive,
    /// An indication that is malformed, of an unknown method or with unknown required attributes.
    BadIndication,
    /// A request of a method that this server does not have.
    UnknownMethod,
    /// ChannelData or Send without an allocation.
    NoAllocation,
    /// ChannelData on a channel that is not bound, or no longer.
    NoChannel,
    /// No permission for that peer, or no longer.
    NoPermission,
    /// The peer is an address that may not be reached.
    ForbiddenPeer,
    /// The peer's address is of a family that the allocation has no relayed address for.
    PeerFamily,
    /// The payload does not fit into one message.
    TooLong,
    /// A datagram, or a connection, on a relay socket that belongs to no allocation.
    UnknownRelay,
    /// An ICMP error, of which clients are not told.
    IcmpOff,
    /// An ICMP error of a type that is not relayed.
    IcmpType,
    /// An ICMP error beyond those that a client is told in a second.
    IcmpRate,
    /// The peer is a relay address and port of this server that no allocation has.
    NotRelayed,
    /// More than an allocation may relay.
    AllocationBandwidth,
    /// More than a user may relay.
    UserBandwidth,
    /// More replies than a source gets before it has shown that its address is its own.
    ReplyBudget,
    /// A Send indication of a client whose allocation relays TCP.
    TcpAllocation,
    /// A peer's connection when the allocation has as many as it may have.
    ConnectionLimit,
}

impl Discard {
    /// Every reason, in the order of [`Discard::index`].
    pub const ALL: [Discard; 25] = [
        Discard::Foreign,
        Discard::Short,
        Discard::NoCookie,
        Discard::BadLength,
        Discard::BadFingerprint,
        Discard::Response,
        Discard::KeepAlive,
        Discard::BadIndication,
        Discard::UnknownMethod,
        Discard::NoAllocation,
        Discard::NoChannel,
        Discard::NoPermission,
        Discard::ForbiddenPeer,
        Discard::PeerFamily,
        Discard::TooLong,
        Discard::UnknownRelay,
        Discard::IcmpOff,
        Discard::IcmpType,
        Discard::IcmpRate,
        Discard::NotRelayed,
        Discard::AllocationBandwidth,
        Discard::UserBandwidth,
        Discard::ReplyBudget,
        Discard::TcpAllocation,
        Discard::ConnectionLimit,
    ];

    /// A small number for tables of counters.
    pub fn index(self) -> usize {
        usize::from(self as u8)
    }

    /// The metric label.
    pub fn label(self) -> &'static str {
        match self {
            Discard::Foreign => "foreign",
            Discard::Short => "short",
            Discard::NoCookie => "no_cookie",
            Discard::BadLength => "bad_length",
            Discard::BadFingerprint => "bad_fingerprint",
            Discard::Response => "response",
            Discard::KeepAlive => "keep_alive",
            Discard::BadIndication => "bad_indication",
            Discard::UnknownMethod => "unknown_method",
            Discard::NoAllocation => "no_allocation",
            Discard::NoChannel => "no_channel",
            Discard::NoPermission => "no_permission",
            Discard::ForbiddenPeer => "forbidden_peer",
            Discard::PeerFamily => "peer_family",
            Discard::TooLong => "too_long",
            Discard::UnknownRelay => "unknown_relay",
            Discard::IcmpOff => "icmp_off",
            Discard::IcmpType => "icmp_type",
            Discard::IcmpRate => "icmp_rate",
            Discard::NotRelayed => "not_relayed",
            Discard::AllocationBandwidth => "allocation_bandwidth",
            Discard::UserBandwidth => "user_bandwidth",
            Discard::ReplyBudget => "reply_budget",
            Discard::TcpAllocation => "tcp_allocation",
            Discard::ConnectionLimit => "connection_limit",
        }
    }
}

/// Why a request was refused, beyond the code on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The first request of a client: it learns realm and nonce from the answer. No failure.
    Challenge,
    /// Nobody can authenticate here: neither secret nor user is configured.
    NoCredentials,
    /// An attribute is missing, misplaced or malformed.
    Malformed,
    /// A comprehension-required attribute, or a method, that is not understood.
    Unknown,
    /// The nonce is not one of ours, is of another client, or is too old.
    StaleNonce,
    /// REALM is not ours.
    WrongRealm,
    /// Nobody proved anything.
    Auth(AuthFailure),
    /// The credential is right, but the allocation is another's.
    WrongUser,
    /// There is an allocation already.
    AlreadyAllocated,
    /// There is no allocation.
    NoAllocation,
    /// The transport protocol or address family cannot be relayed here.
    Unsupported,
    /// The peer may not be reached.
    ForbiddenPeer(PeerClass),
    /// The user may not have connections relayed.
    ForbiddenTransport,
    /// The channel number or the peer is bound otherwise, or still held.
    ChannelConflict,
    /// The user has as many allocations as he may have.
    UserQuota,
    /// The source address has as many allocations as it may have.
    SourceQuota,
    /// The server, or the allocation, has as many of these as it may have.
    Capacity,
    /// No relay port is free.
    NoPort,
    /// The reservation is unknown or gone.
    NoReservation,
    /// There is a connection with this peer already.
    Connected,
    /// The peer could not be connected to.
    NotConnected,
    /// The server takes no new allocations.
    Draining,
    /// The client is sent to another server.
    Redirected,
    /// The host could not do it.
    Host,
}

/// A refused request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Whose.
    pub client: SocketAddr,
    /// Which.
    pub method: Method,
    /// What the wire says.
    pub code: ErrorCode,
    /// What the log says.
    pub why: Why,
    /// USERNAME, where a credential was the cause.
    pub username: Option<Box<str>>,
}

/// Packets and application bytes, each way. Of TCP, what was copied at once is a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets from the client towards peers.
    pub sent_packets: u64,
    /// Application bytes of those.
    pub sent_bytes: u64,
    /// Packets from peers towards the client.
    pub received_packets: u64,
    /// Application bytes of those.
    pub received_bytes: u64,
}

impl Traffic {
    /// Both together.
    pub(super) fn plus(self, other: Traffic) -> Traffic {
        Traffic {
            sent_packets: self.sent_packets + other.sent_packets,
            sent_bytes: self.sent_bytes + other.sent_bytes,
            received_packets: self.received_packets + other.received_packets,
            received_bytes: self.received_bytes + other.received_bytes,
        }
    }
}

/// Why an allocation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The client asked: Refresh with LIFETIME 0.
    Deleted,
    /// Its lifetime passed without a Refresh.
    Expired,
    /// The host ended it: shutdown, an administrator, a lost connection.
    Closed,
    /// Its credential was revoked.
    Revoked,
}

/// An allocation's facts for logs and accounting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Who.
    pub user: Arc<str>,
    /// From where.
    pub client: FiveTuple,
    /// The relayed transport address that the client was told.
    pub relayed: SocketAddr,
    /// When it began.
    pub created: Mono,
    /// What went through; zero at the start.
    pub traffic: Traffic,
}

/// Side effects that are rare, in the order in which they happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A flow row now says this; sent again when it changes.
    FlowUp(FlowKey, Flow),
    /// A flow row is gone.
    FlowDown(FlowKey),
    /// A relay socket is no longer needed: close it. If its port is another worker's, that worker must be told by
    /// `port_returned`.
    Close(RelayId, SocketAddr),
    /// A reservation ran out: if nobody claimed it, close its socket and call `port_returned`.
    Unreserve(ReservationToken, SocketAddr),
    /// An allocation began.
    Started(Box<Record>),
    /// An allocation ended.
    Ended(Box<Record>, EndReason),
    /// A request was refused.
    Refused(Refusal),
    /// An allocation's user has a limit: take up to so many bytes from what he may still relay, over all engines, and
    /// say to `Relay::drawn` how many there were.
    Draw {
        /// The allocation's relay socket.
        relay: RelayId,
        /// Each direction has a limit of its own.
        direction: Direction,
        /// Application data.
        bytes: u64,
        /// The limit.
        bits_per_second: u64,
    },
    /// A credential does not work, or should not: a few samples for a diagnosis.
    Evidence(Box<Evidence>),
    /// Send these bytes to a client: an answer that had to wait, or a ConnectionAttempt.
    Control(FiveTuple, Box<[u8]>),
    /// Close a connection with a peer and what is bound to it.
    Disconnect(ConnectionId),
}
