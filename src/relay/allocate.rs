//! Allocate: a client gets a relayed transport address (RFC 8656 §7.2).
//!
//! The checks need no socket; binding one does. In between stands a [`PendingAllocation`]: a promise that the host
//! keeps in the same turn, so that the engine never holds half an allocation.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rand_core::Rng;

use super::action::{Action, EndReason, Event, FiveTuple, RelayId, ReservationToken, Traffic, Transport, Why};
use super::allocation::{Allocation, Relayed};
use super::bandwidth::Meter;
use super::clock::Now;
use super::dual::Dual;
use super::expiry::Item;
use super::icmp::ToldErrors;
use super::ports::Parity;
use super::request::{Answer, Authenticated, Details, Reject, Request, Success};
use super::{DefaultFamily, Relay};
use crate::wire::{AddressFamily, AttributeType, ErrorCode};

/// TCP and UDP in REQUESTED-TRANSPORT (IANA protocol numbers).
const TCP: u8 = 6;
const UDP: u8 = 17;
/// How many ports are tried when others on this machine hold them.
const MOST_ATTEMPTS: u8 = 16;

/// An allocation that only lacks its socket. Do what [`PendingAllocation::want`] says and give it back to
/// `Relay::opened` with the outcome.
#[derive(Debug)]
#[must_use = "the client waits for an answer: give it to `opened`"]
pub struct PendingAllocation(Box<Pending>);

pub(super) struct Pending {
    answer: Answer<'static>,
    from: FiveTuple,
    auth: Authenticated,
    lifetime: u32,
    transport: Transport,
    parity: Parity,
    pub(super) family: AddressFamily,
    want: Want,
    /// The first of a pair, already open.
    pub(super) bound: Option<(RelayId, SocketAddr)>,
    pub(super) attempts: u8,
    pub(super) dual: Option<Dual>,
}

impl std::fmt::Debug for Pending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pending").field("from", &self.from).field("want", &self.want).finish_non_exhaustive()
    }
}

/// What the host is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// A relay socket bound to this address.
    Bind(SocketAddr),
    /// A relay socket bound to this address that listens for connections of peers.
    Listen(SocketAddr),
    /// A socket bound to this address and kept aside for whoever brings the token, on any worker.
    Reserve(SocketAddr, ReservationToken),
    /// The socket that was kept aside for this token.
    Claim(ReservationToken),
}

/// What the host did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// A relay socket is open under this number, bound to this address (`Bind`, `Listen`, `Claim`).
    Relay(RelayId, SocketAddr),
    /// The socket is kept aside (`Reserve`).
    Reserved,
}

/// Why the host could not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// Somebody else has the port: another one is drawn.
    InUse,
    /// The user has as many allocations as he may have: 486.
    UserQuota,
    /// The source address has as many as it may have: 486.
    SourceQuota,
    /// The server has as many as it may have: 508.
    TotalQuota,
    /// No such reservation: 508.
    NoReservation,
    /// No descriptor, no memory, no such address: 508.
    Unavailable,
}

impl PendingAllocation {
    /// What is to be done now.
    pub fn want(&self) -> Want {
        self.0.want
    }

    /// Who asks; quotas count by it.
    pub fn user(&self) -> &str {
        &self.0.auth.identity.user
    }

    /// From where; quotas count by it.
    pub fn client(&self) -> &FiveTuple {
        &self.0.from
    }
}

impl Relay {
    pub(super) fn allocate(
        &mut self,
        now: Now,
        request: &Request<'_>,
        auth: Authenticated,
        out: &mut Vec<u8>,
    ) -> Action {
        let reject = match self.check_allocate(request, &auth) {
            Ok(Checked::Again(success)) => return self.accept(request.answer().signed(&auth), success, out),
            Ok(Checked::New(Asked { lifetime, transport, family, parity, token, dual })) => {
                let mut pending = Box::new(Pending {
                    answer: request.answer(),
                    from: *request.from,
                    auth,
                    lifetime,
                    transport,
                    parity,
                    family,
                    want: Want::Claim(token.unwrap_or(ReservationToken([0; 8]))),
                    bound: None,
                    attempts: 0,
                    dual,
                });
                if token.is_some() || self.draw(&mut pending) {
                    return Action::Open(PendingAllocation(pending));
                }
                return self.failed(now, pending, Why::NoPort, out);
            }
            Err(reject) => reject,
        };
        let mut details = Details::of(request, reject.why);
        if reject.code == ErrorCode::UnknownAttribute && details.unknown.is_empty() {
            details.unknown = vec![AttributeType::DONT_FRAGMENT];
        }
        self.refuse(now, request.answer().signed(&auth), &reject, details, out)
    }

    /// RFC 8656 §7.2 after authentication, which is its step (1).
    fn check_allocate(&self, request: &Request<'_>, auth: &Authenticated) -> Result<Checked, Reject> {
        // The rules of STUN come first (RFC 8489 §6.3.1).
        request.check()?;
        // (2) The five-tuple is in use: the retransmission of what was granted, or a mistake.
        if self.table.of_client(request.from).is_some() {
            let mine = auth.slot.and_then(|slot| self.table.get(slot));
            return match mine.filter(|mine| mine.transaction == request.message.transaction_id()) {
                Some(mine) => Ok(Checked::Again(self.granted(mine))),
                None => Err(Reject::new(ErrorCode::AllocationMismatch, Why::AlreadyAllocated)),
            };
        }
        if self.live.alternates.apply(request.from.client, self.draining) {
            return Err(Reject::new(ErrorCode::TryAlternate, Why::Redirected));
        }
        if self.draining {
            return Err(Reject::new(ErrorCode::InsufficientCapacity, Why::Draining));
        }
        // (3) UDP is what is relayed; and TCP, where that is switched on, or for this user.
        let transport = request.find(AttributeType::REQUESTED_TRANSPORT).ok_or(Reject::malformed())?;
        let transport = match transport.leading_u8(4)? {
            UDP => Transport::Udp,
            TCP => self.check_tcp(request, &auth.identity)?,
            _ => return Err(Reject::new(ErrorCode::UnsupportedTransportProtocol, Why::Unsupported)),
        };
        let lifetime = request.find(AttributeType::LIFETIME).map(|attribute| attribute.u32()).transpose()?;
        let lifetime = self.lifetime(lifetime);
        // (5) A reservation excludes what it has already settled.
        let family = request.find(AttributeType::REQUESTED_ADDRESS_FAMILY);
        let even = request.find(AttributeType::EVEN_PORT);
        let additional = self.additional(request)?;
        if let Some(token) = request.find(AttributeType::RESERVATION_TOKEN) {
            let token = token.value.try_into().map_err(|_| Reject::malformed())?;
            if even.is_some() || family.is_some() {
                return Err(Reject::malformed());
            }
            let (family, parity, token) = (AddressFamily::Ipv4, Parity::Any, Some(ReservationToken(token)));
            return Ok(Checked::New(Asked { lifetime, transport, family, parity, token, dual: None }));
        }
        // (6) (7) Both families, or one that is relayed here.
        let family = match family.map(|attribute| attribute.address_family()).transpose()? {
            None if additional.is_some() => additional.map(|(family, _)| family),
            None => Some(self.default_family(request.from)),
            Some(asked) => asked,
        };
        let family = family
            .filter(|family| !self.candidates(request.from, *family).is_empty())
            .ok_or(Reject::new(ErrorCode::AddressFamilyNotSupported, Why::Unsupported))?;
        // (4) Every relay socket can set DF. From IPv4 to IPv6 the DF bit of what arrives would decide, which is not
        // known here, so that the attribute is refused (RFC 8656 §3.7).
        let crosses = request.from.stream.is_none() && request.from.client.is_ipv4() && family == AddressFamily::Ipv6;
        if crosses && request.find(AttributeType::DONT_FRAGMENT).is_some() {
            return Err(Reject::new(ErrorCode::UnknownAttribute, Why::Unsupported));
        }
        // (8) An even port, alone or with the next one reserved.
        let parity = match even.map(|attribute| attribute.leading_u8(1)).transpose()? {
            None => Parity::Any,
            Some(flags) if flags & 0x80 == 0 => Parity::Even,
            Some(_) => Parity::Pair,
        };
        let dual = additional.map(|(_, dual)| dual);
        Ok(Checked::New(Asked { lifetime, transport, family, parity, token: None, dual }))
    }

    fn default_family(&self, from: &FiveTuple) -> AddressFamily {
        let family = AddressFamily::of(from.client.ip());
        match self.default_family {
            DefaultFamily::Client if !self.candidates(from, family).is_empty() => family,
            DefaultFamily::Client | DefaultFamily::Ipv4 => AddressFamily::Ipv4,
        }
    }

    /// The relay addresses of a family: first the one that the client reached, then those of the same kind.
    pub(super) fn candidates(&self, from: &FiveTuple, family: AddressFamily) -> Vec<IpAddr> {
        let reached = self.own.listeners.get(usize::from(from.listener.0)).map(SocketAddr::ip);
        let rank = move |ip: &IpAddr| match reached {
            Some(reached) if reached == *ip => 0,
            Some(reached) if reached.is_loopback() == ip.is_loopback() => 1,
            Some(_) | None => 2,
        };
        let mut found: Vec<IpAddr> = self.own.relays.iter().map(|relay| relay.local).collect();
        found.retain(|ip| AddressFamily::of(*ip) == family);
        found.sort_by_key(rank);
        found
    }

    /// Takes a port for `pending` to bind. `false` when there is none on any address.
    pub(super) fn draw(&mut self, pending: &mut Pending) -> bool {
        for ip in self.candidates(&pending.from, pending.family) {
            if let Some(port) = self.ports.draw(ip, pending.parity, &mut self.random) {
                let address = SocketAddr::new(ip, port);
                pending.want = match pending.transport {
                    Transport::Udp => Want::Bind(address),
                    Transport::Tcp => Want::Listen(address),
                };
                return true;
            }
        }
        false
    }

    /// The second half of Allocate: the host did, or could not do, what a [`PendingAllocation`] wanted. The action is
    /// the answer to the client, or one more thing to open.
    pub fn opened(
        &mut self,
        now: Now,
        pending: PendingAllocation,
        outcome: Result<Opened, OpenError>,
        out: &mut Vec<u8>,
    ) -> Action {
        let mut pending = pending.0;
        match (pending.want, outcome) {
            (Want::Bind(_) | Want::Listen(_) | Want::Claim(_), Ok(Opened::Relay(id, address))) => {
                if let Want::Claim(token) = pending.want {
                    self.claimed(token);
                }
                pending.bound = Some((id, address));
                if pending.parity == Parity::Pair
                    && let Some(next) = address.port().checked_add(1)
                {
                    let mut token = [0; 8];
                    self.random.fill_bytes(&mut token);
                    pending.want = Want::Reserve(SocketAddr::new(address.ip(), next), ReservationToken(token));
                    return Action::Open(PendingAllocation(pending));
                }
                if self.next_family(&mut pending, None) {
                    return Action::Open(PendingAllocation(pending));
                }
                self.begin(now, &pending, None, out)
            }
            (Want::Reserve(address, token), Ok(Opened::Reserved)) => {
                let ends = now.mono.after(self.live.lifetimes.reservation);
                self.reservations.insert(token, (address, ends));
                self.table.expiry.insert(ends, Item::from(token));
                self.begin(now, &pending, Some(token), out)
            }
            (Want::Bind(_) | Want::Listen(_) | Want::Reserve(..), Err(OpenError::InUse))
                if pending.attempts < MOST_ATTEMPTS =>
            {
                self.give_up(&mut pending);
                pending.attempts += 1;
                if self.draw(&mut pending) {
                    return Action::Open(PendingAllocation(pending));
                }
                self.failed(now, pending, Why::NoPort, out)
            }
            (_, outcome) => {
                self.give_up(&mut pending);
                self.failed(now, pending, why(outcome), out)
            }
        }
    }

    /// A socket cannot be had: the other family may do, else the client is told.
    fn failed(&mut self, now: Now, mut pending: Box<Pending>, why: Why, out: &mut Vec<u8>) -> Action {
        if self.next_family(&mut pending, Some(code(why))) {
            return Action::Open(PendingAllocation(pending));
        }
        if pending.dual.is_some_and(|dual| dual.first.is_some()) {
            return self.begin(now, &pending, None, out);
        }
        self.not_opened(now, &pending, why, out)
    }

    /// Returns what was taken for an allocation that does not come about.
    fn give_up(&mut self, pending: &mut Pending) {
        if let Some((id, address)) = pending.bound.take() {
            self.table.events.push_back(Event::Close(id, address));
            self.ports.release(address);
        }
        match pending.want {
            Want::Bind(address) => {
                self.ports.release(address);
                if pending.parity == Parity::Pair {
                    self.release_next(address);
                }
            }
            Want::Listen(address) | Want::Reserve(address, _) => {
                self.ports.release(address);
            }
            Want::Claim(_) => {}
        }
    }

    fn release_next(&mut self, address: SocketAddr) {
        if let Some(next) = address.port().checked_add(1) {
            self.ports.release(SocketAddr::new(address.ip(), next));
        }
    }

    fn not_opened(&mut self, now: Now, pending: &Pending, why: Why, out: &mut Vec<u8>) -> Action {
        let answer = pending.answer.signed(&pending.auth);
        self.refuse(now, answer, &Reject::new(code(why), why), Details::default(), out)
    }

    /// The allocation begins.
    fn begin(&mut self, now: Now, pending: &Pending, token: Option<ReservationToken>, out: &mut Vec<u8>) -> Action {
        let sockets = [pending.dual.and_then(|dual| dual.first), pending.bound];
        let is_taken = self.table.of_client(&pending.from).is_some();
        let mut begun = None;
        for (id, local) in sockets.into_iter().flatten() {
            let allocation =
                self.allocation(now, pending, token, Relayed { id, local, external: self.own.known_to_clients(local) });
            let slot = if is_taken { None } else { self.table.insert(allocation) };
            if slot.is_none() {
                // The host let another packet of this five-tuple in between: the first one has it.
                self.table.events.push_back(Event::Close(id, local));
                self.ports.release(local);
            }
            if let Some(slot) = slot {
                self.tally.allocations += 1;
                self.table.ask_for_share(slot, &self.bandwidth);
            }
            begun = begun.or(slot);
        }
        if begun.is_some() {
            self.accepted_credential(now, &pending.auth);
        }
        match begun.and_then(|slot| self.table.get(slot)).map(|allocation| self.granted(allocation)) {
            Some(success) => self.accept(pending.answer.signed(&pending.auth), success, out),
            None => self.not_opened(now, pending, if is_taken { Why::AlreadyAllocated } else { Why::Host }, out),
        }
    }

    fn allocation(&self, now: Now, pending: &Pending, token: Option<ReservationToken>, relayed: Relayed) -> Allocation {
        let identity = &pending.auth.identity;
        Allocation {
            five_tuple: pending.from,
            username: pending.auth.username.clone(),
            user: identity.user.clone(),
            credential_expires: identity.expires,
            key: identity.key.clone(),
            transaction: pending.answer.id,
            granted: pending.lifetime,
            token,
            relayed,
            transport: pending.transport,
            twin: None,
            address_error: pending.dual.and_then(|dual| dual.failed),
            created: now.mono,
            expires: now.mono.after(Duration::from_secs(u64::from(pending.lifetime))),
            queued: now.mono,
            permissions: Vec::new(),
            channels: Vec::new(),
            connections: Vec::new(),
            traffic: Traffic::default(),
            told_errors: ToldErrors::default(),
            meter: Meter::default(),
        }
    }

    /// The answer to the Allocate that made this allocation, now or when it is repeated.
    fn granted(&self, allocation: &Allocation) -> Success {
        Success {
            relayed: Some(allocation.relayed.external),
            also_relayed: allocation.twin.and_then(|twin| self.table.get(twin)).map(|twin| twin.relayed.external),
            address_error: allocation.address_error,
            lifetime: Some(allocation.granted),
            token: allocation.token,
            mapped: Some(allocation.five_tuple.client),
            discovery: None,
            connection: None,
        }
    }

    /// A reservation of this engine found its client; one of another engine's is not known here.
    fn claimed(&mut self, token: ReservationToken) {
        if let Some((_, ends)) = self.reservations.remove(&token) {
            self.table.expiry.remove(ends, Item::from(token));
        }
    }

    /// A reservation's time is over. Its port comes back through `port_returned`, from the host or from whoever
    /// claimed it.
    pub(super) fn unreserve(&mut self, token: ReservationToken) {
        if let Some((address, _)) = self.reservations.remove(&token) {
            self.table.events.push_back(Event::Unreserve(token, address));
        }
    }

    /// Ends an allocation; its port is free again.
    pub(super) fn end(&mut self, slot: super::table::Slot, reason: EndReason) {
        if let Some(allocation) = self.table.remove(slot, reason) {
            self.ports.release(allocation.relayed.local);
        }
    }
}

/// What an Allocate comes to before a socket is opened.
enum Checked {
    /// A retransmission: the same answer again.
    Again(Success),
    /// A new allocation.
    New(Asked),
}

/// A new allocation as it was asked for: of this family and parity, or with the reserved socket.
struct Asked {
    /// Seconds, as they will be granted.
    lifetime: u32,
    transport: Transport,
    family: AddressFamily,
    parity: Parity,
    token: Option<ReservationToken>,
    dual: Option<Dual>,
}

fn code(why: Why) -> ErrorCode {
    match why {
        Why::UserQuota | Why::SourceQuota => ErrorCode::AllocationQuotaReached,
        Why::AlreadyAllocated => ErrorCode::AllocationMismatch,
        _ => ErrorCode::InsufficientCapacity,
    }
}

fn why(outcome: Result<Opened, OpenError>) -> Why {
    match outcome {
        Err(OpenError::UserQuota) => Why::UserQuota,
        Err(OpenError::SourceQuota) => Why::SourceQuota,
        Err(OpenError::TotalQuota) => Why::Capacity,
        Err(OpenError::NoReservation) => Why::NoReservation,
        Err(OpenError::InUse) => Why::NoPort,
        Err(OpenError::Unavailable) | Ok(_) => Why::Host,
    }
}
