//! A world around one engine: a virtual clock, and a host that opens what the engine wants opened.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use turnwell::credentials::{Credentials, Secret};
use turnwell::relay::{
    Action, Config, ConnectionId, DefaultFamily, Discard, EndReason, Event, FiveTuple, IcmpError, ListenerId, Live,
    Mono, Now, OpenError, Opened, PeerAddr, PendingAllocation, PortShare, Record, Refusal, Relay, RelayAddress,
    RelayId, ReservationToken, Usage, Want, Why,
};
use turnwell::wire::{AttributeType, Method, Writer};

use crate::client::{Client, REALM, Received, Reply, channel_data, send_indication, udp};

/// Seconds since the Unix epoch when a world begins.
pub(crate) const EPOCH: u64 = 1_700_000_000;
/// Peers, which nobody has to exist at.
pub(crate) const PEER: &str = "9.9.9.9:5000";
pub(crate) const OTHER_PEER: &str = "8.8.8.8:6000";
pub(crate) const PEER_V6: &str = "[2a00::9]:5000";
/// Where relay sockets are bound.
pub(crate) const RELAY_V4: &str = "198.51.100.7";
pub(crate) const RELAY_V6: &str = "2001:db8::7";

pub(crate) fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(crate) fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// What one packet led to, free of the buffers it was in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Discard(Discard),
    Reply(Reply),
    ReplyFrom { listener: ListenerId, client: SocketAddr, reply: Reply },
    ToPeer { relay: RelayId, peer: SocketAddr, data: Vec<u8> },
    ToSibling { relay: RelayId, peer: SocketAddr, data: Vec<u8> },
    ToClient { client: FiveTuple, received: Received },
    Connect { connection: ConnectionId, from: SocketAddr, peer: SocketAddr },
    Bind { reply: Reply, connection: ConnectionId },
    HandOver { engine: u16 },
}

impl Outcome {
    #[track_caller]
    pub(crate) fn reply(self) -> Reply {
        match self {
            Outcome::Reply(reply) => reply,
            other => panic!("no reply but {other:?}"),
        }
    }
}

pub(crate) fn config() -> Config {
    Config {
        listeners: vec![addr("192.0.2.1:3478"), addr("[2001:db8::1]:3478")],
        relays: [RELAY_V4, RELAY_V6]
            .map(|local| RelayAddress { local: local.parse().unwrap(), external: None })
            .to_vec(),
        ports: PortShare::whole(50_000..=50_099),
        default_family: DefaultFamily::Client,
        discovery: Vec::new(),
        seed: [1; 32],
        nonce_key: [2; 32],
    }
}

/// Users `alice` and `bob` with the password `pw`, and two shared secrets.
pub(crate) fn credentials() -> Credentials {
    let mut credentials = Credentials::new(REALM);
    credentials.add_user("alice", "pw");
    credentials.add_user("bob", "pw");
    credentials.add_secret(Secret::new("first").unwrap());
    credentials.add_secret(Secret::new("second").unwrap());
    credentials
}

pub(crate) fn live() -> Live {
    Live::new(Arc::new(credentials()))
}

pub(crate) struct World {
    pub(crate) relay: Relay,
    pub(crate) now: Now,
    /// Everything the engine wanted opened, in order.
    pub(crate) wants: Vec<Want>,
    /// What the host answers to the next wants instead of opening them.
    pub(crate) refusals: VecDeque<OpenError>,
    /// When false, time passes without `handle_timeout`: a host that is late.
    pub(crate) punctual: bool,
    /// Sockets kept aside for a token.
    pub(crate) reserved: HashMap<ReservationToken, SocketAddr>,
    events: Vec<Event>,
    next_relay: u32,
}

impl World {
    pub(crate) fn new() -> World {
        World::with(config(), live())
    }

    /// Channels keep no permission alive: the letter of RFC 8656 §9.
    pub(crate) fn strict() -> World {
        World::with(config(), Live { channel_keeps_permission: false, ..live() })
    }

    pub(crate) fn with(config: Config, live: Live) -> World {
        World {
            relay: Relay::new(config, Arc::new(live)),
            now: Now { mono: Mono(1_000_000_000_000), unix: EPOCH },
            wants: Vec::new(),
            refusals: VecDeque::new(),
            punctual: true,
            reserved: HashMap::new(),
            events: Vec::new(),
            next_relay: 100,
        }
    }

    /// A client of this user (password `pw`) that has been challenged and knows its nonce.
    pub(crate) fn client_of(&mut self, user: &str, address: &str) -> Client {
        let mut client = Client::new(address, user, "pw");
        self.challenge(&mut client);
        client
    }

    /// Alice at a port of hers.
    pub(crate) fn client(&mut self, port: u16) -> Client {
        self.client_of("alice", &format!("100.0.0.1:{port}"))
    }

    /// A client with an allocation, and its relay socket.
    pub(crate) fn allocated(&mut self, port: u16) -> (Client, RelayId) {
        let mut client = self.client(port);
        let relay = self.allocate_ok(&mut client);
        (client, relay)
    }

    #[track_caller]
    pub(crate) fn allocate_ok(&mut self, client: &mut Client) -> RelayId {
        let reply = self.allocate(client);
        assert_eq!(reply.code(), 200, "{:?}", self.last_refusal());
        self.last_relay()
    }

    /// The relay socket that was opened last.
    pub(crate) fn last_relay(&self) -> RelayId {
        RelayId(self.next_relay - 1)
    }

    /// Lets the engine give this client a nonce.
    pub(crate) fn challenge(&mut self, client: &mut Client) {
        let bytes = client.bare(Method::ALLOCATE);
        let reply = self.packet(&client.at.clone(), &bytes).reply();
        assert_eq!(reply.code(), 401);
        client.nonce = reply.bytes_of(AttributeType::NONCE).unwrap();
    }

    /// Time passes; the host calls `handle_timeout` at every deadline on the way, unless it is late.
    pub(crate) fn advance(&mut self, duration: Duration) {
        let end = self.now.mono.after(duration);
        let start = self.now;
        if self.punctual {
            while let Some(deadline) = self.relay.poll_timeout().filter(|deadline| *deadline <= end) {
                self.now.mono = self.now.mono.max(deadline);
                self.now.unix = start.unix + self.now.mono.since(start.mono).as_secs();
                self.relay.handle_timeout(self.now);
                self.drain_events();
            }
        }
        self.now = Now { mono: end, unix: start.unix + duration.as_secs() };
    }

    /// Hands a packet of a client to the engine and opens what it wants opened.
    pub(crate) fn packet(&mut self, from: &FiveTuple, packet: &[u8]) -> Outcome {
        let mut out = Vec::new();
        let mut action = self.relay.handle_client(self.now, from, packet, &mut out);
        self.drain_events();
        while let Action::Open(pending) = action {
            self.wants.push(pending.want());
            let outcome = self.open(&pending);
            action = self.relay.opened(self.now, pending, outcome, &mut out);
        }
        self.drain_events();
        owned(action, packet, &out)
    }

    /// Hands a packet to the engine that leads to a promise, and leaves the promise open.
    pub(crate) fn pending(&mut self, from: &FiveTuple, packet: &[u8]) -> PendingAllocation {
        match self.relay.handle_client(self.now, from, packet, &mut Vec::new()) {
            Action::Open(pending) => pending,
            other => panic!("nothing to open but {other:?}"),
        }
    }

    /// Keeps one promise, and those that follow from it.
    pub(crate) fn fulfil(&mut self, pending: PendingAllocation) -> Outcome {
        let mut out = Vec::new();
        let mut action = Action::Open(pending);
        while let Action::Open(pending) = action {
            self.wants.push(pending.want());
            let outcome = self.open(&pending);
            action = self.relay.opened(self.now, pending, outcome, &mut out);
        }
        self.drain_events();
        owned(action, &[], &out)
    }

    fn open(&mut self, pending: &PendingAllocation) -> Result<Opened, OpenError> {
        if let Some(error) = self.refusals.pop_front() {
            return Err(error);
        }
        let address = match pending.want() {
            Want::Bind(address) | Want::Listen(address) => address,
            Want::Reserve(address, token) => {
                self.reserved.insert(token, address);
                return Ok(Opened::Reserved);
            }
            Want::Claim(token) => self.reserved.remove(&token).ok_or(OpenError::NoReservation)?,
        };
        self.next_relay += 1;
        Ok(Opened::Relay(self.last_relay(), address))
    }

    /// Hands a packet of a peer to the engine.
    pub(crate) fn peer_sends(&mut self, relay: RelayId, source: &str, packet: &[u8]) -> Outcome {
        let mut out = Vec::new();
        let action = self.relay.handle_peer(self.now, relay, PeerAddr(addr(source)), packet, &mut out);
        self.drain_events();
        owned(action, packet, &out)
    }

    /// Hands an ICMP error about what a relay socket sent to the engine.
    pub(crate) fn icmp(&mut self, relay: RelayId, peer: &str, error: IcmpError) -> Outcome {
        let mut out = b"kept".to_vec();
        match self.relay.handle_icmp(self.now, relay, PeerAddr(addr(peer)), error, &mut out) {
            Action::Discard(reason) => Outcome::Discard(reason),
            Action::ToClient { client, out: range, payload, padding } => {
                assert_eq!((payload, padding), (0..0, 0), "there is no packet to send a part of");
                Outcome::ToClient { client, received: Received::read(&out[range]) }
            }
            other => panic!("{other:?}"),
        }
    }

    /// A signed request. Whatever the answer, it must be of this transaction, and signed when it is not about
    /// authentication.
    #[track_caller]
    pub(crate) fn ask(
        &mut self,
        client: &mut Client,
        method: Method,
        attributes: impl FnOnce(&mut Writer<'_>),
    ) -> Reply {
        let bytes = client.sign(method, attributes);
        let reply = self.packet(&client.at, &bytes).reply();
        assert_eq!(reply.bytes[8..20], bytes[8..20], "the answer to another request");
        assert_eq!(reply.message().method(), method);
        if !matches!(self.last_refusal().filter(|_| reply.code() != 200), Some(why) if is_before_authentication(why)) {
            assert_eq!(reply.signature(&client.key), Some(client.algorithm), "{:?}", self.last_refusal());
        }
        reply
    }

    #[track_caller]
    pub(crate) fn allocate(&mut self, client: &mut Client) -> Reply {
        self.ask(client, Method::ALLOCATE, udp)
    }

    #[track_caller]
    pub(crate) fn refresh(&mut self, client: &mut Client, lifetime: Option<u32>) -> Reply {
        self.ask(client, Method::REFRESH, |writer| {
            if let Some(lifetime) = lifetime {
                writer.u32(AttributeType::LIFETIME, lifetime);
            }
        })
    }

    #[track_caller]
    pub(crate) fn permit(&mut self, client: &mut Client, peers: &[&str]) -> Reply {
        self.ask(client, Method::CREATE_PERMISSION, |writer| {
            for peer in peers {
                writer.xor_address(AttributeType::XOR_PEER_ADDRESS, addr(peer));
            }
        })
    }

    #[track_caller]
    pub(crate) fn bind(&mut self, client: &mut Client, number: u16, peer: &str) -> Reply {
        self.ask(client, Method::CHANNEL_BIND, |writer| {
            writer
                .u32(AttributeType::CHANNEL_NUMBER, u32::from(number) << 16)
                .xor_address(AttributeType::XOR_PEER_ADDRESS, addr(peer));
        })
    }

    pub(crate) fn send(&mut self, client: &Client, peer: &str, data: &[u8]) -> Outcome {
        self.packet(&client.at, &send_indication(addr(peer), data))
    }

    pub(crate) fn channel(&mut self, client: &Client, number: u16, data: &[u8]) -> Outcome {
        self.packet(&client.at, &channel_data(number, data))
    }

    pub(crate) fn set_live(&mut self, live: Live) {
        self.relay.set_live(Arc::new(live));
        self.drain_events();
    }

    pub(crate) fn close(&mut self, client: &Client) {
        self.relay.close(&client.at);
        self.drain_events();
    }

    /// Everything that happened since the last call.
    pub(crate) fn events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// How many allocations ended since the last call of this or of `events`, with why and what.
    pub(crate) fn ended(&mut self) -> Vec<(Record, EndReason)> {
        let ended = self.events().into_iter().filter_map(|event| match event {
            Event::Ended(record, reason) => Some((*record, reason)),
            _ => None,
        });
        ended.collect()
    }

    /// The last refusal that is no challenge.
    pub(crate) fn last_refused(&self) -> Option<&Refusal> {
        self.events.iter().rev().find_map(|event| match event {
            Event::Refused(refusal) => Some(refusal),
            _ => None,
        })
    }

    pub(crate) fn last_refusal(&self) -> Option<Why> {
        self.last_refused().map(|refusal| refusal.why)
    }

    /// Nothing is left of anything.
    #[track_caller]
    pub(crate) fn assert_empty(&self) {
        assert_eq!(self.relay.usage(), Usage::default());
        assert_eq!(self.relay.poll_timeout(), None);
    }

    /// A host's part: what is given back is closed, and a reservation that ran out returns its port.
    pub(crate) fn drain_events(&mut self) {
        while let Some(event) = self.relay.poll_event() {
            if let Event::Unreserve(token, address) = &event
                && self.reserved.remove(token).is_some()
            {
                self.relay.port_returned(*address);
            }
            self.events.push(event);
        }
    }
}

/// Refusals whose answer is not signed, because nobody has been authenticated.
fn is_before_authentication(why: Why) -> bool {
    matches!(why, Why::NoCredentials | Why::StaleNonce | Why::WrongRealm | Why::Auth(_))
}

fn owned(action: Action, packet: &[u8], out: &[u8]) -> Outcome {
    match action {
        Action::Discard(reason) => Outcome::Discard(reason),
        Action::Reply { out: range } => Outcome::Reply(Reply { bytes: out[range].to_vec() }),
        Action::ReplyFrom { listener, client, out: range } => {
            Outcome::ReplyFrom { listener, client, reply: Reply { bytes: out[range].to_vec() } }
        }
        Action::ToPeer { relay, peer, payload, .. } => {
            Outcome::ToPeer { relay, peer: peer.0, data: packet[payload].to_vec() }
        }
        Action::ToSibling { relay, peer, payload } => {
            Outcome::ToSibling { relay, peer: peer.0, data: packet[payload].to_vec() }
        }
        Action::ToClient { client, out: range, payload, padding } => {
            let padding = vec![0; usize::from(padding)];
            let bytes = [&out[range], &packet[payload], padding.as_slice()].concat();
            Outcome::ToClient { client, received: Received::read(&bytes) }
        }
        Action::Connect { connection, from, peer, .. } => Outcome::Connect { connection, from, peer: peer.0 },
        Action::Bind { out: range, connection } => {
            Outcome::Bind { reply: Reply { bytes: out[range].to_vec() }, connection }
        }
        Action::HandOver { engine } => Outcome::HandOver { engine },
        Action::Open(_) => panic!("left open"),
    }
}
