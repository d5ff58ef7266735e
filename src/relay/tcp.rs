//! TCP relaying: Connect, ConnectionBind, and the connections that peers begin (RFC 6062 §5).
//!
//! The engine knows which connections there are, whose, and until when; their bytes are the host's business. An answer
//! to Connect comes when the host has connected, so it is an [`Event::Control`] and not the action of a packet.

use std::time::Duration;

use rand_core::Rng;

use super::Relay;
use super::action::{Action, ConnectionId, Discard, EndReason, Event, FiveTuple, PeerAddr, RelayId, Transport, Why};
use super::allocation::Allocation;
use super::bandwidth::Direction;
use super::clock::{Mono, Now};
use super::connection::{DataConnection, Stage};
use super::peers::PeerClass;
use super::request::{Authenticated, Details, Reject, Request, Success};
use super::table::Slot;
use crate::credentials::Identity;
use crate::wire::{AddressFamily, AttributeType, Class, ErrorCode, Method, Writer};

/// How long the host may take to connect to a peer, and how long a connection waits for its ConnectionBind: what
/// RFC 6062 §5.2 and §5.3 name.
const PATIENCE: Duration = Duration::from_secs(30);
/// Draws of an identifier before the engine says that it is full.
const DRAWS: usize = 16;

/// Where a ConnectionBind leads.
enum Bind {
    Here(ConnectionId),
    /// The connection is another engine's.
    Elsewhere(u16),
}

impl Relay {
    /// What RFC 6062 §5.1 asks of an Allocate for TCP. Where it is off for everybody that is not supported, where it is
    /// off for one user he is forbidden it (RFC 8656 §19).
    pub(super) fn check_tcp(&self, request: &Request<'_>, user: &Identity) -> Result<Transport, Reject> {
        match self.live.credentials.tcp(&user.user, user.expires) {
            Some(true) => {}
            Some(false) => return Err(Reject::new(ErrorCode::Forbidden, Why::ForbiddenTransport)),
            None if self.live.tcp.enabled => {}
            None => return Err(Reject::new(ErrorCode::UnsupportedTransportProtocol, Why::Unsupported)),
        }
        let excluded = [AttributeType::EVEN_PORT, AttributeType::DONT_FRAGMENT, AttributeType::RESERVATION_TOKEN];
        if request.from.stream.is_none() || excluded.into_iter().any(|kind| request.find(kind).is_some()) {
            return Err(Reject::malformed());
        }
        Ok(Transport::Tcp)
    }

    /// Connect (RFC 6062 §5.2).
    pub(super) fn connect(
        &mut self,
        now: Now,
        request: &Request<'_>,
        auth: Authenticated,
        out: &mut Vec<u8>,
    ) -> Action {
        let reject = match self.check_connect(request, &auth) {
            Ok((slot, peer, wire, id)) => {
                let until = now.mono.after(PATIENCE);
                let stage = Stage::Connecting { answer: request.answer(), auth: Box::new(auth), until };
                self.table.connect(id, DataConnection { allocation: slot, peer, wire, is_asked_for: true, stage });
                return match self.table.get(slot).map(|allocation| allocation.relayed) {
                    Some(relayed) => {
                        Action::Connect { connection: id, relay: relayed.id, from: relayed.local, peer: wire }
                    }
                    None => Action::Discard(Discard::NoAllocation),
                };
            }
            Err(reject) => reject,
        };
        let details = Details::of(request, reject.why);
        self.refuse(now, request.answer().signed(&auth), &reject, details, out)
    }

    fn check_connect(
        &mut self,
        request: &Request<'_>,
        auth: &Authenticated,
    ) -> Result<(Slot, PeerAddr, PeerAddr, ConnectionId), Reject> {
        request.check()?;
        let first = self.own_allocation(request, auth)?;
        let peer = request.find(AttributeType::XOR_PEER_ADDRESS).ok_or(Reject::malformed())?;
        let peer = PeerAddr(peer.xor_address(request.message.transaction_id())?);
        let slot = self.allocation_for(request.from, AddressFamily::of(peer.0.ip())).unwrap_or(first);
        let allocation = self.table.get(slot).ok_or(Reject::malformed())?;
        if allocation.transport != Transport::Tcp {
            return Err(Reject::new(ErrorCode::AllocationMismatch, Why::NoAllocation));
        }
        if AddressFamily::of(peer.0.ip()) != allocation.family() {
            return Err(Reject::new(ErrorCode::PeerAddressFamilyMismatch, Why::Unsupported));
        }
        // One connection with a peer's address at a time, whoever began it: it has only one pair of ends.
        let wire = PeerAddr(self.own.on_the_wire(peer.0));
        if allocation.connections.iter().any(|id| self.table.connection(*id).is_some_and(|other| other.wire == wire)) {
            return Err(Reject::new(ErrorCode::ConnectionAlreadyExists, Why::Connected));
        }
        if !self.is_open(peer) {
            return Err(Reject::new(ErrorCode::Forbidden, Why::ForbiddenPeer(PeerClass::Port)));
        }
        if !self.may_connect(peer) {
            return Err(self.own.forbidden(&self.live.peers, peer.0.ip()));
        }
        let full = Reject::new(ErrorCode::InsufficientCapacity, Why::Capacity);
        if self.is_full(allocation) {
            return Err(full);
        }
        let id = self.draw_connection().ok_or(full)?;
        Ok((slot, peer, wire, id))
    }

    /// Whether a client may connect to this peer: the addresses of every transport, and the ports for TCP.
    fn may_connect(&self, peer: PeerAddr) -> bool {
        self.is_open(peer) && self.own.may_reach(&self.live.peers, peer.0)
    }

    /// Whether connections may be made to a peer's port.
    fn is_open(&self, peer: PeerAddr) -> bool {
        peer.0.port() != 0 && (self.own.is_relayed(peer.0) || self.live.tcp.allows(peer.0.port()))
    }

    fn is_full(&self, allocation: &Allocation) -> bool {
        allocation.connections.len() >= self.live.limits.connections
    }

    /// The host has connected to the peer: the client learns the connection's number.
    pub fn connected(&mut self, now: Now, id: ConnectionId) {
        if self.table.connection(id).is_some_and(|connection| !self.is_allowed(connection)) {
            return self.connection_late(now, id);
        }
        let pending = Stage::Pending { until: now.mono.after(PATIENCE) };
        match self.table.advance(id, pending) {
            Some(Stage::Connecting { answer, auth, .. }) => {
                self.tally.connections_asked_for += 1;
                let mut out = Vec::new();
                let success = Success { connection: Some(id), ..Success::default() };
                let _ = self.accept(answer.signed(&auth), success, &mut out);
                self.tell(id, out);
            }
            // The host says it twice; nothing has changed.
            Some(stage) => drop(self.table.advance(id, stage)),
            None => {}
        }
    }

    /// A connection is over, or could not be made. The host has closed what it had of it.
    pub fn connection_lost(&mut self, now: Now, id: ConnectionId) {
        if let Some(connection) = self.table.connection(id)
            && let Some(client) = self.table.get(connection.allocation).map(|allocation| allocation.five_tuple)
        {
            self.give_up_connection(now, id, client);
        }
    }

    /// A connection's patience is over.
    pub(super) fn connection_late(&mut self, now: Now, id: ConnectionId) {
        self.connection_lost(now, id);
        self.table.events.push_back(Event::Disconnect(id));
    }

    /// Forgets a connection; who still waits for it is told (RFC 6062 §5.2: 447).
    fn give_up_connection(&mut self, now: Now, id: ConnectionId, client: FiveTuple) {
        if let Some(DataConnection { stage: Stage::Connecting { answer, auth, .. }, .. }) = self.table.disconnect(id) {
            let reject = Reject::new(ErrorCode::ConnectionTimeoutOrFailure, Why::NotConnected);
            let mut out = Vec::new();
            let _ = self.refuse(now, answer.signed(&auth), &reject, Details::default(), &mut out);
            self.table.events.push_back(Event::Control(client, out.into()));
        }
    }

    /// A peer has connected to a relayed address (RFC 6062 §5.3). `None`: the connection is to be closed at once.
    pub fn accepted(&mut self, now: Now, relay: RelayId, source: PeerAddr) -> Option<ConnectionId> {
        match self.check_accepted(now.mono, relay, source) {
            Ok((slot, peer, id)) => {
                let stage = Stage::Pending { until: now.mono.after(PATIENCE) };
                let connection = DataConnection { allocation: slot, peer, wire: source, is_asked_for: false, stage };
                self.table.connect(id, connection);
                self.tally.connections_accepted += 1;
                let mut out = Vec::new();
                Writer::new(&mut out, Class::Indication, Method::CONNECTION_ATTEMPT, self.indication_id())
                    .xor_address(AttributeType::XOR_PEER_ADDRESS, peer.0)
                    .u32(AttributeType::CONNECTION_ID, id.0)
                    .finish();
                self.tell(id, out);
                Some(id)
            }
            Err(reason) => {
                self.tally.discard(reason);
                None
            }
        }
    }

    fn check_accepted(
        &mut self,
        now: Mono,
        relay: RelayId,
        source: PeerAddr,
    ) -> Result<(Slot, PeerAddr, ConnectionId), Discard> {
        let slot = self.table.of_relay(relay).filter(|slot| self.table.has_time(now, *slot));
        let slot = slot.ok_or(Discard::UnknownRelay)?;
        let peer = PeerAddr(self.own.known_to_clients(source.0));
        self.permitted(now, slot, peer.0)?;
        let allocation = self.table.get(slot).ok_or(Discard::UnknownRelay)?;
        if self.is_full(allocation) {
            return Err(Discard::ConnectionLimit);
        }
        let id = self.draw_connection().ok_or(Discard::ConnectionLimit)?;
        Ok((slot, peer, id))
    }

    /// ConnectionBind (RFC 6062 §5.4).
    pub(super) fn connection_bind(
        &mut self,
        now: Now,
        request: &Request<'_>,
        auth: &Authenticated,
        out: &mut Vec<u8>,
    ) -> Action {
        match self.check_bind(request, auth) {
            Ok(Bind::Here(id)) => {
                self.table.advance(id, Stage::Bound);
                match self.accept(request.answer().signed(auth), Success::default(), out) {
                    Action::Reply { out } => Action::Bind { out, connection: id },
                    other => other,
                }
            }
            Ok(Bind::Elsewhere(engine)) => Action::HandOver { engine },
            Err(reject) => {
                let details = Details::of(request, reject.why);
                self.refuse(now, request.answer().signed(auth), &reject, details, out)
            }
        }
    }

    fn check_bind(&self, request: &Request<'_>, auth: &Authenticated) -> Result<Bind, Reject> {
        request.check()?;
        if request.from.stream.is_none() {
            return Err(Reject::malformed());
        }
        // A control connection stays one.
        if self.table.of_client(request.from).is_some() {
            return Err(Reject::new(ErrorCode::AllocationMismatch, Why::AlreadyAllocated));
        }
        let id = match self.named(request)? {
            Bind::Here(id) => id,
            elsewhere => return Ok(elsewhere),
        };
        let found = self.table.connection(id).filter(|found| matches!(found.stage, Stage::Pending { .. }));
        let allocation = found.and_then(|found| self.table.get(found.allocation)).ok_or(Reject::malformed())?;
        if allocation.username != auth.username {
            return Err(Reject::new(ErrorCode::WrongCredentials, Why::WrongUser));
        }
        Ok(Bind::Here(id))
    }

    /// The connection that a ConnectionBind names.
    fn named(&self, request: &Request<'_>) -> Result<Bind, Reject> {
        let id = request.find(AttributeType::CONNECTION_ID).ok_or(Reject::malformed())?;
        let id = ConnectionId(id.u32()?);
        let share = self.ports.share();
        let owner = id.owner(share.of);
        Ok(if owner == share.index { Bind::Here(id) } else { Bind::Elsewhere(owner) })
    }

    /// The allocation whose connection a ConnectionBind names.
    pub(super) fn allocation_to_bind(&self, request: &Request<'_>) -> Option<Slot> {
        if request.message.method() != Method::CONNECTION_BIND {
            return None;
        }
        match self.named(request) {
            Ok(Bind::Here(id)) => self.table.connection(id).map(|found| found.allocation),
            Ok(Bind::Elsewhere(_)) | Err(_) => None,
        }
    }

    /// The engine that may know the user of a ConnectionBind whose USERHASH says nothing to this one. It has a nonce of
    /// ours, so its sender has shown that his address is his own.
    pub(super) fn engine_to_ask(&self, request: &Request<'_>) -> Option<u16> {
        let is_bind = request.message.method() == Method::CONNECTION_BIND && request.from.stream.is_some();
        let is_hashed = request.find(AttributeType::USERNAME).is_none();
        // A control connection stays where it is.
        if !is_bind || !is_hashed || self.table.of_client(request.from).is_some() {
            return None;
        }
        match self.named(request) {
            Ok(Bind::Elsewhere(engine)) => Some(engine),
            Ok(Bind::Here(_)) | Err(_) => None,
        }
    }

    /// Whether more may go over a connection now, to the peer and to the client. Where not, ask again in a moment:
    /// what is above a limit waits, it is not lost.
    pub fn may_copy(&mut self, now: Now, id: ConnectionId) -> [bool; 2] {
        let Some(slot) = self.table.connection(id).map(|connection| connection.allocation) else { return [false; 2] };
        Direction::ALL.map(|direction| self.table.may_relay(now.mono, slot, direction, &self.bandwidth))
    }

    /// Bytes went over a connection, to the peer and to the client; each number that is not zero counts as a packet.
    pub fn copied(&mut self, now: Now, id: ConnectionId, to_peer: u64, to_client: u64) {
        self.tally.sent_packets += u64::from(to_peer > 0);
        self.tally.sent_bytes += to_peer;
        self.tally.received_packets += u64::from(to_client > 0);
        self.tally.received_bytes += to_client;
        if let Some(slot) = self.table.connection(id).map(|connection| connection.allocation) {
            self.table.relayed(now.mono, slot, Direction::ToPeer, to_peer, &self.bandwidth);
            self.table.relayed(now.mono, slot, Direction::ToClient, to_client, &self.bandwidth);
        }
    }

    /// Closes what the rules no longer allow: connections with peers, or TCP relaying as a whole or for a user.
    pub(super) fn judge_connections(&mut self) {
        for slot in self.table.slots() {
            let tcp = self.table.get(slot).filter(|allocation| allocation.transport == Transport::Tcp);
            let said = tcp.map(|tcp| self.live.credentials.tcp(&tcp.user, tcp.credential_expires));
            if said.is_some_and(|said| !said.unwrap_or(self.live.tcp.enabled)) {
                self.end(slot, EndReason::Closed);
            }
        }
        for id in self.table.connection_ids() {
            // What is not established yet is judged when it is.
            let found = self.table.connection(id);
            let found = found.filter(|connection| !matches!(connection.stage, Stage::Connecting { .. }));
            if found.is_some_and(|connection| !self.is_allowed(connection)) {
                self.table.disconnect(id);
                self.table.events.push_back(Event::Disconnect(id));
            }
        }
    }

    /// Whether the rules of now allow a connection.
    fn is_allowed(&self, connection: &DataConnection) -> bool {
        match connection.is_asked_for {
            true => self.may_connect(connection.peer),
            false => self.own.may_reach(&self.live.peers, connection.peer.0),
        }
    }

    /// Unpredictable, and of this engine.
    fn draw_connection(&mut self) -> Option<ConnectionId> {
        let share = self.ports.share();
        let (of, index) = (share.of, share.index);
        for _ in 0..DRAWS {
            let id = ConnectionId::of_engine(self.random.next_u32(), index, of);
            if let Some(id) = id.filter(|id| self.table.connection(*id).is_none()) {
                return Some(id);
            }
        }
        None
    }

    /// Sends the client of a connection something on its control connection.
    fn tell(&mut self, id: ConnectionId, out: Vec<u8>) {
        let slot = self.table.connection(id).map(|connection| connection.allocation);
        if let Some(client) = slot.and_then(|slot| self.table.get(slot)).map(|allocation| allocation.five_tuple) {
            self.table.events.push_back(Event::Control(client, out.into()));
        }
    }
}
