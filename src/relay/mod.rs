//! STUN and TURN as a plain value: RFC 8489 and RFC 8656 without a socket, a clock or a thread.
//!
//! A host feeds packets with the time, carries out the one [`Action`] that comes back, and polls the rare [`Event`]s.
//! Everything random comes from a generator seeded by the host; everything timed from the `now` of a call.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod action;
mod allocate;
mod allocation;
mod authentication;
mod bandwidth;
mod binding;
mod budget;
mod channel_bind;
mod clock;
mod connection;
mod data;
mod discovery;
mod dual;
mod evidence;
mod expiry;
pub mod flow;
mod icmp;
mod live;
mod nonce;
mod peers;
mod permission;
mod ports;
mod rate;
mod redirect;
mod refresh;
mod request;
mod sessions;
mod table;
mod tally;
mod tcp;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hashbrown::HashMap;
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};

pub use action::{
    Action, ConnectionId, Discard, EndReason, Event, FiveTuple, ListenerId, PeerAddr, Record, Refusal, RelayId,
    ReservationToken, StreamId, Traffic, Transport, Why,
};
pub use allocate::{OpenError, Opened, PendingAllocation, Want};
pub use bandwidth::Direction;
pub use clock::{Mono, Now};
pub use discovery::Discovery;
pub use icmp::IcmpError;
pub use live::{ChannelNumbers, Expiry, Lifetimes, Limits, Live, TcpRelaying};
pub use peers::{PeerClass, PeerPolicy};
pub use ports::PortShare;
pub use redirect::{Alternates, Redirect};
pub use sessions::Session;
pub use tally::{CODES, METHODS, Tally};

pub use crate::credentials::Evidence;
use crate::credentials::{AuthFailure, Revocations};
use crate::wire::{Class, Kind, Message, Method, ParseError};
use request::{Details, Request};

/// What an engine is built with and keeps for life.
#[derive(Clone, Debug)]
pub struct Config {
    /// The addresses behind each [`ListenerId`], in order.
    pub listeners: Vec<SocketAddr>,
    /// Where relay sockets may be bound; none: wherever a listener is.
    pub relays: Vec<RelayAddress>,
    /// This engine's part of the relay ports.
    pub ports: PortShare,
    /// The family of an allocation whose client does not ask for one.
    pub default_family: DefaultFamily,
    /// NAT behaviour discovery, for each family at most once; none: off.
    pub discovery: Vec<Discovery>,
    /// Seeds ports, tokens and tables: 32 unpredictable bytes, another set for each engine.
    pub seed: [u8; 32],
    /// Keys the nonces: 32 unpredictable bytes; engines with the same key and clock accept each other's nonces.
    pub nonce_key: [u8; 32],
}

/// An address that relay sockets are bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayAddress {
    /// The address on this machine.
    pub local: IpAddr,
    /// What it is outside, when a NAT maps it one to one.
    pub external: Option<IpAddr>,
}

/// The family of an allocation without REQUESTED-ADDRESS-FAMILY.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DefaultFamily {
    /// The family of the client's own connection, where there is a relay address of it: what browsers need.
    #[default]
    Client,
    /// IPv4, the letter of RFC 8656 §7.2.
    Ipv4,
}

/// The engine.
pub struct Relay {
    live: Arc<Live>,
    revoked: Arc<Revocations>,
    own: permission::OwnAddresses,
    corners: discovery::Corners,
    default_family: DefaultFamily,
    ports: ports::Ports,
    nonces: nonce::Nonces,
    budget: budget::ReplyBudget,
    bandwidth: bandwidth::Bandwidth,
    random: ChaCha12Rng,
    table: table::Table,
    reservations: HashMap<ReservationToken, (SocketAddr, Mono), table::Seed>,
    tally: Tally,
    draining: bool,
    sampler: evidence::Sampler,
    indication_prefix: [u8; 4],
    indications: u64,
}

impl Relay {
    /// An engine without allocations.
    pub fn new(config: Config, live: Arc<Live>) -> Relay {
        let mut random = ChaCha12Rng::from_seed(config.seed);
        let mut indication_prefix = [0; 4];
        random.fill_bytes(&mut indication_prefix);
        let seed = random.next_u64();
        let relays = if config.relays.is_empty() {
            let mut ips: Vec<IpAddr> = config.listeners.iter().map(SocketAddr::ip).collect();
            ips.sort_unstable();
            ips.dedup();
            ips.into_iter().map(|local| RelayAddress { local, external: None }).collect()
        } else {
            config.relays
        };
        let ports = config.ports.range.clone();
        let mut relay = Relay {
            live,
            revoked: Arc::default(),
            corners: discovery::Corners::new(&config.discovery, &config.listeners),
            own: permission::OwnAddresses { relays, ports, listeners: config.listeners },
            default_family: config.default_family,
            ports: ports::Ports::new(config.ports),
            nonces: nonce::Nonces::new(&config.nonce_key),
            budget: budget::ReplyBudget::new(table::Seed::with_seed(random.next_u64())),
            bandwidth: bandwidth::Bandwidth::default(),
            table: table::Table::new(seed),
            reservations: HashMap::with_hasher(table::Seed::with_seed(random.next_u64())),
            random,
            tally: Tally::default(),
            draining: false,
            sampler: evidence::Sampler::default(),
            indication_prefix,
            indications: 0,
        };
        relay.limit();
        relay
    }

    /// A packet from a client: one datagram, or one frame of a stream. `out` is where an answer is written.
    pub fn handle_client(&mut self, now: Now, from: &FiveTuple, packet: &[u8], out: &mut Vec<u8>) -> Action {
        let action = match Kind::of(packet) {
            Kind::ChannelData => self.channel_data(now.mono, from, packet, out),
            Kind::Stun => self.stun(now, from, packet, out),
            Kind::Foreign => Action::Discard(Discard::Foreign),
        };
        self.counted(action)
    }

    /// A packet from a peer on a relay socket.
    pub fn handle_peer(
        &mut self,
        now: Now,
        relay: RelayId,
        source: PeerAddr,
        packet: &[u8],
        out: &mut Vec<u8>,
    ) -> Action {
        let action = self.deliver(now.mono, relay, source, 0..packet.len(), out);
        self.counted(action)
    }

    /// Ends what has reached its time. Call it when `poll_timeout` says so; earlier or later does no harm.
    pub fn handle_timeout(&mut self, now: Now) {
        while let Some(item) = self.table.expiry.pop(now.mono) {
            match item {
                expiry::Item::Allocation(slot) => {
                    let slot = table::Slot(slot);
                    match self.table.lapse(slot, now.mono) {
                        Some(ended) => {
                            self.ports.release(ended.relayed.local);
                        }
                        None => self.table.settle(slot),
                    }
                }
                expiry::Item::Reservation(token) => self.unreserve(ReservationToken(token)),
                expiry::Item::Connection(id) => self.connection_late(now, ConnectionId(id)),
            }
        }
    }

    /// When `handle_timeout` has something to do; costs the same with one allocation and with a million.
    pub fn poll_timeout(&self) -> Option<Mono> {
        self.table.expiry.first()
    }

    /// The next event; drain them after every call that may change something.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.table.events.pop_front()
    }

    /// Replaces what may change at run time, and ends every permission, channel and connection that the new rules forbid.
    pub fn set_live(&mut self, live: Arc<Live>) {
        self.live = live;
        self.limit();
        let (own, peers) = (&self.own, &self.live.peers);
        for slot in self.table.slots() {
            self.table.retain(
                slot,
                |permission| permission.own || peers.allows(permission.ip),
                |channel| own.may_reach(peers, channel.peer.0),
            );
            self.table.settle(slot);
        }
        self.judge_connections();
    }

    /// Takes over the limits of `live`.
    fn limit(&mut self) {
        let limits = self.live.limits;
        self.budget.set(limits.unauthenticated_replies, self.ports.share().of);
        self.bandwidth = bandwidth::Bandwidth::new(&limits);
        if self.bandwidth.is_limited() {
            self.table.slots().into_iter().for_each(|slot| self.table.ask_for_share(slot, &self.bandwidth));
        }
    }

    /// From now on no new allocation is made; the others live on.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Whether it has been told to drain.
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// Whether a client has an allocation.
    pub fn has_allocation(&self, client: &FiveTuple) -> bool {
        self.table.of_client(client).is_some()
    }

    /// Ends the allocation of a client, if it has one: its connection is gone, or an administrator says so.
    pub fn close(&mut self, client: &FiveTuple) {
        while let Some(slot) = self.table.of_client(client) {
            self.end(slot, EndReason::Closed);
        }
    }

    /// A port of this engine's share is free again: another engine closed the socket it had claimed by a token, or
    /// nobody claimed it.
    pub fn port_returned(&mut self, address: SocketAddr) {
        self.ports.release(address);
    }

    /// What was for a relay port of this server was not sent: no engine has an allocation there.
    pub fn stray(&mut self) {
        self.tally.discard(Discard::NotRelayed);
    }

    /// Whether a peer is a relay address and port of this server, and the operator has not named the address, so that it
    /// may be reached only while an allocation has the port.
    pub fn is_relayed_only(&self, peer: PeerAddr) -> bool {
        self.own.is_relayed(peer.0) && !self.live.peers.names(peer.0.ip())
    }

    /// This engine's share of the relay ports.
    pub fn share(&self) -> &PortShare {
        self.ports.share()
    }

    /// The counters since the engine began.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// What is in use now.
    pub fn usage(&self) -> Usage {
        Usage {
            allocations: self.table.len(),
            flows: self.table.flows_len(),
            connections: self.table.connections_len(),
            ports: self.ports.used(),
            reservations: self.reservations.len(),
            deadlines: self.table.expiry.len(),
        }
    }

    /// The traffic of a client's allocation up to now; of both, when it has one of each family.
    pub fn traffic(&self, client: &FiveTuple) -> Option<Traffic> {
        let slot = self.table.of_client(client)?;
        let twin = self.table.twin(slot).map(|twin| self.table.traffic(twin)).unwrap_or_default();
        Some(self.table.traffic(slot).plus(twin))
    }

    fn counted(&mut self, action: Action) -> Action {
        if let Action::Discard(reason) = &action {
            self.tally.discard(*reason);
        }
        action
    }

    fn stun(&mut self, now: Now, from: &FiveTuple, packet: &[u8], out: &mut Vec<u8>) -> Action {
        let message = match Message::parse(packet) {
            Ok(message) => message,
            Err(error) => {
                return Action::Discard(match error {
                    ParseError::Short => Discard::Short,
                    ParseError::NotStun => Discard::Foreign,
                    ParseError::NoCookie => Discard::NoCookie,
                    ParseError::Length => Discard::BadLength,
                });
            }
        };
        match (message.class(), message.method()) {
            (Class::Indication, Method::SEND) => self.send(now.mono, from, message, out),
            (Class::Indication, Method::BINDING) => Action::Discard(Discard::KeepAlive),
            (Class::Indication, _) => Action::Discard(Discard::BadIndication),
            (Class::Success | Class::Error, _) => Action::Discard(Discard::Response),
            (Class::Request, method) => match Request::new(message, from, self.corners.understood(method, from)) {
                Ok(request) if method == Method::BINDING => self.binding(now, &request, out),
                Ok(request) => self.turn_request(now, &request, out),
                Err(reason) => Action::Discard(reason),
            },
        }
    }

    /// The methods that need a credential.
    fn turn_request(&mut self, now: Now, request: &Request<'_>, out: &mut Vec<u8>) -> Action {
        let handler = match request.message.method() {
            Method::ALLOCATE | Method::CONNECT | Method::CONNECTION_BIND => None,
            Method::REFRESH => Some(Relay::refresh as Handler),
            Method::CREATE_PERMISSION => Some(Relay::create_permission as Handler),
            Method::CHANNEL_BIND => Some(Relay::channel_bind as Handler),
            _ => return Action::Discard(Discard::UnknownMethod),
        };
        // A host that is late with its timer must not let a request revive what has ended.
        self.handle_timeout(now);
        let auth = match self.authenticate(now, request) {
            Ok(auth) => auth,
            Err(reject) => {
                if reject.why == Why::Auth(AuthFailure::UnknownUser)
                    && let Some(engine) = self.engine_to_ask(request)
                {
                    return Action::HandOver { engine };
                }
                if !reject.why.is_after_nonce() && !self.budget.take(now.mono, request.from) {
                    return Action::Discard(Discard::ReplyBudget);
                }
                if let Why::Auth(failure) = reject.why {
                    self.refused_credential(now, request, failure);
                }
                let details = Details::of(request, reject.why);
                return self.refuse(now, request.answer(), &reject, details, out);
            }
        };
        let Some(handler) = handler else {
            return match request.message.method() {
                Method::CONNECT => self.connect(now, request, auth, out),
                Method::CONNECTION_BIND => self.connection_bind(now, request, &auth, out),
                _ => self.allocate(now, request, auth, out),
            };
        };
        let answer = request.answer().signed(&auth);
        match request.check().and_then(|()| handler(self, now, request, &auth)) {
            Ok(success) => self.accept(answer, success, out),
            Err(reject) => {
                let details = Details::of(request, reject.why);
                self.refuse(now, answer, &reject, details, out)
            }
        }
    }
}

/// A method that only reads and changes tables.
type Handler = fn(&mut Relay, Now, &Request<'_>, &request::Authenticated) -> Result<request::Success, request::Reject>;

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").field("usage", &self.usage()).finish_non_exhaustive()
    }
}

/// What an engine holds at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Allocations.
    pub allocations: usize,
    /// Flow rows: two for a bound channel.
    pub flows: usize,
    /// Connections with peers.
    pub connections: usize,
    /// Relay ports, reserved ones included.
    pub ports: usize,
    /// Reservations that nobody has claimed yet.
    pub reservations: usize,
    /// Entries of the expiry queue.
    pub deadlines: usize,
}

impl Usage {
    /// Adds what another engine holds.
    pub fn add(&mut self, other: &Usage) {
        self.allocations += other.allocations;
        self.flows += other.flows;
        self.connections += other.connections;
        self.ports += other.ports;
        self.reservations += other.reservations;
        self.deadlines += other.deadlines;
    }
}
