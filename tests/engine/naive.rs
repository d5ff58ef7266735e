//! TURN as one would write it from RFC 8656 with lists and loops: the model that `model.rs` compares the engine with.
//! Nothing here is fast, indexed or queued; what has lapsed is skipped by its time. What became of connections is in
//! `naive_tcp.rs`.

use std::net::{IpAddr, SocketAddr};

use turnwell::relay::{ConnectionId, Discard, IcmpError, RelayId, ReservationToken, Traffic};

use crate::client::{Received, Reply};
use crate::naive_tcp::{Connection, Told};
use crate::peer_rule::{Peers, SECOND, Time, is_relay};

pub(crate) const PORTS: std::ops::RangeInclusive<u16> = 50_000..=50_011;
pub(crate) const MOST_PERMISSIONS: usize = 4;
pub(crate) const MOST_CHANNELS: usize = 3;
pub(crate) const LISTENER: &str = "192.0.2.1:3478";
/// The one peer that the operator forbids and allows again.
pub(crate) const DENIABLE: &str = "8.8.8.8";
/// Clients from this one on are at the other end of a stream.
pub(crate) const FIRST_STREAM: usize = 2;
/// Who signs with a wrong password.
pub(crate) const NOBODY: &str = "nobody";
/// A byte in a millisecond, so that a bucket's content is a number of both.
pub(crate) const BANDWIDTH: u64 = 8000;
/// Replies in a second to a source that has not shown that its address is its own.
pub(crate) const REPLIES: u32 = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Even {
    No,
    Alone,
    Pair,
}

/// What an operator may change.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rules {
    /// [`DENIABLE`] is forbidden.
    pub(crate) denies: bool,
    /// Connections are not relayed.
    pub(crate) no_tcp: bool,
    /// An allocation relays [`BANDWIDTH`] at most.
    pub(crate) limits: bool,
}

/// A token bucket: what flows in during `depth`, a millisecond a millisecond.
#[derive(Clone, Copy)]
struct Bucket {
    credit: i64,
    at: Time,
    depth: i64,
}

impl Bucket {
    fn new(depth: i64) -> Bucket {
        Bucket { credit: depth, at: 0, depth }
    }

    /// While there is anything, one may take more than that.
    fn has(&mut self, now: Time) -> bool {
        self.credit = self.depth.min(self.credit + i64::try_from(now - self.at).unwrap());
        self.at = now;
        self.credit >= 0
    }

    fn take(&mut self, now: Time, cost: usize) -> bool {
        let has = self.has(now);
        self.credit -= if has { i64::try_from(cost).unwrap() } else { 0 };
        has
    }
}

/// What an Allocate asks for.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) tcp: bool,
    pub(crate) lifetime: Option<u32>,
    pub(crate) even: Even,
    pub(crate) family: Option<u8>,
    pub(crate) token: Option<ReservationToken>,
}

/// What the engine has to say to an Allocate.
#[derive(Debug)]
pub(crate) enum Allocated {
    Error(u16),
    /// Exactly this again.
    Again(Reply),
    /// Success with this lifetime, on one of these addresses, with a token or without.
    New {
        lifetime: u32,
        addresses: Vec<SocketAddr>,
        token: bool,
    },
}

/// What the engine has to do with data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Relayed {
    Discard(Discard),
    ToPeer(RelayId, SocketAddr),
    /// A relay port that nobody has.
    ToSibling(RelayId, SocketAddr),
    /// To the client with this index.
    ToClient(usize, Received),
}

pub(crate) struct Allocation {
    pub(crate) client: usize,
    pub(crate) user: &'static str,
    pub(crate) tcp: bool,
    request: Vec<u8>,
    answer: Reply,
    pub(crate) relay: RelayId,
    pub(crate) relayed: SocketAddr,
    pub(crate) expires: Time,
    peers: Peers,
    traffic: Traffic,
    to_peer: Bucket,
    to_client: Bucket,
    /// ICMP errors that the client was told in a second.
    errors: (Time, u32),
}

pub(crate) struct Naive {
    pub(crate) now: Time,
    pub(crate) allocations: Vec<Allocation>,
    reservations: Vec<(ReservationToken, SocketAddr, Time)>,
    pub(crate) rules: Rules,
    /// Clients whose allocations ended, with what they had relayed.
    pub(crate) ended: Vec<(usize, Traffic)>,
    pub(crate) connections: Vec<Connection>,
    /// What clients were told without having asked just then.
    pub(crate) told: Vec<(usize, Told)>,
    /// Connections that the host has to close.
    pub(crate) disconnected: Vec<ConnectionId>,
    /// All that was ever relayed.
    pub(crate) total: Traffic,
    /// Of the one address that all clients over UDP have.
    replies: Bucket,
}

impl Naive {
    pub(crate) fn new() -> Naive {
        Naive {
            now: 0,
            allocations: Vec::new(),
            reservations: Vec::new(),
            rules: Rules::default(),
            ended: Vec::new(),
            connections: Vec::new(),
            told: Vec::new(),
            disconnected: Vec::new(),
            total: Traffic::default(),
            replies: Bucket::new(2000),
        }
    }

    /// Time passes, and what is over goes.
    pub(crate) fn advance(&mut self, by: Time) {
        self.now += by;
        let now = self.now;
        self.end_late_connections();
        self.end(|allocation| allocation.expires <= now);
        self.reservations.retain(|(_, _, ends)| now < *ends);
    }

    fn end(&mut self, over: impl Fn(&Allocation) -> bool) {
        for allocation in self.allocations.extract_if(.., |allocation| over(allocation)) {
            self.ended.push((allocation.client, allocation.traffic));
            let of_it = self.connections.extract_if(.., |connection| connection.client == allocation.client);
            self.disconnected.extend(of_it.map(|connection| connection.id));
        }
    }

    pub(crate) fn close(&mut self, client: usize) {
        self.end(|allocation| allocation.client == client);
    }

    /// The operator changes the rules.
    pub(crate) fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
        if rules.denies {
            for allocation in &mut self.allocations {
                allocation.peers.forbid(DENIABLE.parse().unwrap());
            }
        }
        if rules.no_tcp {
            self.end(|allocation| allocation.tcp);
        }
        self.judge_connections();
    }

    pub(crate) fn of(&self, client: usize) -> Option<&Allocation> {
        self.allocations.iter().find(|allocation| allocation.client == client)
    }

    pub(crate) fn relay_of(&self, client: usize) -> Option<RelayId> {
        self.of(client).map(|allocation| allocation.relay)
    }

    /// The allocation of a relay socket.
    pub(crate) fn at(&self, relay: RelayId) -> Option<&Allocation> {
        self.allocations.iter().find(|allocation| allocation.relay == relay)
    }

    /// Allocations, flow rows, connections, ports, reservations, deadlines.
    pub(crate) fn usage(&self) -> [usize; 6] {
        let (allocations, reservations) = (self.allocations.len(), self.reservations.len());
        let channels: usize = self.allocations.iter().map(|allocation| allocation.peers.channels(self.now)).sum();
        let waiting = self.connections.iter().filter(|connection| connection.waits_until().is_some()).count();
        let deadlines = allocations + reservations + waiting;
        [allocations, 2 * channels, self.connections.len(), allocations + reservations, reservations, deadlines]
    }

    // RFC 8656 §7.2

    pub(crate) fn allocate(&self, client: usize, user: &str, request: &[u8], asked: &Asked) -> Allocated {
        if user == NOBODY {
            return Allocated::Error(401);
        }
        if let Some(mine) = self.of(client) {
            let again = mine.user == user && mine.request[8..20] == request[8..20];
            return if again { Allocated::Again(mine.answer.clone()) } else { Allocated::Error(437) };
        }
        if asked.tcp && self.rules.no_tcp {
            return Allocated::Error(442);
        }
        // RFC 6062 §5.1
        if asked.tcp && (client < FIRST_STREAM || asked.even != Even::No || asked.token.is_some()) {
            return Allocated::Error(400);
        }
        let lifetime = asked.lifetime.unwrap_or(600).clamp(600, 3600);
        if let Some(token) = asked.token {
            if asked.even != Even::No || asked.family.is_some() {
                return Allocated::Error(400);
            }
            let found = self.reservations.iter().find(|(known, _, _)| *known == token);
            return match found {
                Some((_, address, _)) => Allocated::New { lifetime, addresses: vec![*address], token: false },
                None => Allocated::Error(508),
            };
        }
        let ip: IpAddr = match asked.family {
            None | Some(1) => crate::harness::RELAY_V4.parse().unwrap(),
            Some(2) => crate::harness::RELAY_V6.parse().unwrap(),
            Some(_) => return Allocated::Error(440),
        };
        let free = |port: u16| {
            let address = SocketAddr::new(ip, port);
            PORTS.contains(&port)
                && self.allocations.iter().all(|allocation| allocation.relayed != address)
                && self.reservations.iter().all(|(_, reserved, _)| *reserved != address)
        };
        let suits = |port: u16| match asked.even {
            Even::No => free(port),
            Even::Alone => port.is_multiple_of(2) && free(port),
            Even::Pair => port.is_multiple_of(2) && free(port) && free(port + 1),
        };
        let addresses: Vec<_> = PORTS.filter(|port| suits(*port)).map(|port| SocketAddr::new(ip, port)).collect();
        if addresses.is_empty() {
            return Allocated::Error(508);
        }
        Allocated::New { lifetime, addresses, token: asked.even == Even::Pair }
    }

    /// The engine made a choice that the model had left to it.
    pub(crate) fn allocated(
        &mut self,
        client: usize,
        user: &'static str,
        (request, tcp): (&[u8], bool),
        answer: Reply,
        relay: RelayId,
    ) {
        let (relayed, expires) = (answer.relayed(), self.now + Time::from(answer.lifetime().unwrap()) * SECOND);
        self.reservations.retain(|(_, address, _)| *address != relayed);
        if let Some(token) = answer.token() {
            let next = SocketAddr::new(relayed.ip(), relayed.port() + 1);
            self.reservations.push((token, next, self.now + 30 * SECOND));
        }
        self.allocations.push(Allocation {
            client,
            user,
            tcp,
            request: request.to_vec(),
            answer,
            relay,
            relayed,
            expires,
            peers: Peers::default(),
            traffic: Traffic::default(),
            to_peer: Bucket::new(1000),
            to_client: Bucket::new(1000),
            errors: (0, 0),
        });
    }

    /// RFC 8656 §5
    pub(crate) fn owned(&mut self, client: usize, user: &str) -> Result<&mut Allocation, u16> {
        if user == NOBODY {
            return Err(401);
        }
        let found = self.allocations.iter_mut().find(|allocation| allocation.client == client).ok_or(437_u16)?;
        if found.user == user { Ok(found) } else { Err(441) }
    }

    /// RFC 8656 §8.2: the lifetime that is granted.
    pub(crate) fn refresh(&mut self, client: usize, user: &str, lifetime: Option<u32>) -> Result<u32, u16> {
        let now = self.now;
        let mine = self.owned(client, user)?;
        if lifetime == Some(0) {
            self.close(client);
            return Ok(0);
        }
        let granted = lifetime.unwrap_or(600).clamp(600, 3600);
        mine.expires = now + Time::from(granted) * SECOND;
        Ok(granted)
    }

    /// RFC 8656 §10.2
    pub(crate) fn permit(&mut self, client: usize, user: &str, peers: &[SocketAddr]) -> Result<(), u16> {
        let (now, rules) = (self.now, self.rules);
        let mine = self.owned(client, user)?;
        for peer in peers {
            may_have_permission(mine, peer.ip(), rules)?;
        }
        if peers.is_empty() {
            return Err(400);
        }
        if mine.peers.permissions_with(now, peers.iter().map(SocketAddr::ip)) > MOST_PERMISSIONS {
            return Err(508);
        }
        for peer in peers {
            mine.peers.permit(now, peer.ip(), true);
        }
        Ok(())
    }

    /// RFC 8656 §12.2
    pub(crate) fn bind(&mut self, client: usize, user: &str, number: u16, peer: SocketAddr) -> Result<(), u16> {
        let (now, rules) = (self.now, self.rules);
        let mine = self.owned(client, user)?;
        if mine.tcp || !(0x4000..=0x4fff).contains(&number) || mine.peers.conflict(now, number, peer) {
            return Err(400);
        }
        may_have_permission(mine, peer.ip(), rules)?;
        if !may_reach(peer, rules) {
            return Err(403);
        }
        if mine.peers.channels_with(now, number) > MOST_CHANNELS
            || mine.peers.permissions_with(now, [peer.ip()].into_iter()) > MOST_PERMISSIONS
        {
            return Err(508);
        }
        mine.peers.bind(now, number, peer, true);
        Ok(())
    }

    // RFC 8656 §11, §12

    pub(crate) fn send(&mut self, client: usize, peer: SocketAddr, data: &[u8]) -> Relayed {
        let (now, rules) = (self.now, self.rules);
        match self.of(client).map(|mine| permitted(mine, now, peer, rules).map(|()| mine.tcp)) {
            None => Relayed::Discard(Discard::NoAllocation),
            Some(Err(reason)) => Relayed::Discard(reason),
            Some(Ok(true)) => Relayed::Discard(Discard::TcpAllocation),
            Some(Ok(false)) => self.forward(client, peer, data),
        }
    }

    pub(crate) fn channel_data(&mut self, client: usize, number: u16, data: &[u8]) -> Relayed {
        let Some(mine) = self.of(client) else { return Relayed::Discard(Discard::NoAllocation) };
        let bound = mine.peers.peer_of(self.now, number);
        match bound.filter(|peer| mine.peers.permits(self.now, peer.ip())) {
            Some(peer) => self.forward(client, peer, data),
            None => Relayed::Discard(Discard::NoChannel),
        }
    }

    fn forward(&mut self, client: usize, peer: SocketAddr, data: &[u8]) -> Relayed {
        let (now, rules) = (self.now, self.rules);
        let mine = self.allocations.iter_mut().find(|allocation| allocation.client == client).unwrap();
        if rules.limits && !mine.to_peer.take(now, data.len()) {
            return Relayed::Discard(Discard::AllocationBandwidth);
        }
        for traffic in [&mut mine.traffic, &mut self.total] {
            traffic.sent_packets += 1;
            traffic.sent_bytes += data.len() as u64;
        }
        let (relay, source) = (mine.relay, mine.relayed);
        match self.allocations.iter().find(|other| other.relayed == peer && !other.tcp).map(|other| other.relay) {
            Some(other) => self.deliver(other, source, data),
            None if is_relay(peer.ip()) && PORTS.contains(&peer.port()) => Relayed::ToSibling(relay, peer),
            None => Relayed::ToPeer(relay, peer),
        }
    }

    pub(crate) fn deliver(&mut self, relay: RelayId, source: SocketAddr, data: &[u8]) -> Relayed {
        let (now, rules) = (self.now, self.rules);
        let Some(mine) = self.allocations.iter_mut().find(|allocation| allocation.relay == relay) else {
            return Relayed::Discard(Discard::UnknownRelay);
        };
        if let Err(reason) = permitted(mine, now, source, rules) {
            return Relayed::Discard(reason);
        }
        if rules.limits && !mine.to_client.take(now, data.len()) {
            return Relayed::Discard(Discard::AllocationBandwidth);
        }
        for traffic in [&mut mine.traffic, &mut self.total] {
            traffic.received_packets += 1;
            traffic.received_bytes += data.len() as u64;
        }
        let data = data.to_vec();
        let received = match mine.peers.channel_to(now, source) {
            Some(number) => Received::Channel { number, data },
            None => Received::Indication { peer: source, data },
        };
        Relayed::ToClient(mine.client, received)
    }

    /// RFC 8656 §11.5, §18.13, and ten errors in a second at most.
    pub(crate) fn icmp(&mut self, relay: RelayId, peer: SocketAddr, error: IcmpError) -> Relayed {
        let IcmpError { kind, code, mtu } = error;
        let told: &[u8] = if peer.is_ipv4() { &[3, 11] } else { &[1, 2, 3] };
        if !told.contains(&kind) {
            return Relayed::Discard(Discard::IcmpType);
        }
        let now = self.now;
        let Some(mine) = self.allocations.iter_mut().find(|allocation| allocation.relay == relay) else {
            return Relayed::Discard(Discard::UnknownRelay);
        };
        if !mine.peers.permits(now, peer.ip()) {
            return Relayed::Discard(Discard::NoPermission);
        }
        let (second, count) = mine.errors;
        mine.errors = (now / SECOND, if second == now / SECOND { count + 1 } else { 1 });
        if mine.errors.1 > 10 {
            return Relayed::Discard(Discard::IcmpRate);
        }
        let is_too_long = if peer.is_ipv4() { (kind, code) == (3, 4) } else { kind == 2 };
        let [a, b, c, d] = if is_too_long { mtu } else { 0 }.to_be_bytes();
        Relayed::ToClient(mine.client, Received::Icmp { peer, value: [0, 0, kind * 2, code, a, b, c, d] })
    }

    /// Whether one more request without a proof of its address is answered. A stream is proof enough.
    pub(crate) fn is_answered(&mut self, client: usize) -> bool {
        client >= FIRST_STREAM || self.replies.take(self.now, 1000 / REPLIES as usize)
    }

    /// A connection of this client's allocation has relayed.
    pub(crate) fn copied(&mut self, client: usize, [to_peer, to_client]: [usize; 2]) {
        let (now, rules) = (self.now, self.rules);
        let mine = self.allocations.iter_mut().find(|allocation| allocation.client == client).unwrap();
        for traffic in [&mut mine.traffic, &mut self.total] {
            traffic.sent_packets += u64::from(to_peer > 0);
            traffic.sent_bytes += to_peer as u64;
            traffic.received_packets += u64::from(to_client > 0);
            traffic.received_bytes += to_client as u64;
        }
        if rules.limits {
            for (bucket, bytes) in [(&mut mine.to_peer, to_peer), (&mut mine.to_client, to_client)] {
                bucket.has(now);
                bucket.credit -= i64::try_from(bytes).unwrap();
            }
        }
    }

    /// Whether a connection of this client's allocation may relay more, each way.
    pub(crate) fn may_copy(&mut self, client: usize) -> [bool; 2] {
        let (now, rules) = (self.now, self.rules);
        let mine = self.allocations.iter_mut().find(|allocation| allocation.client == client).unwrap();
        [&mut mine.to_peer, &mut mine.to_client].map(|bucket| !rules.limits || bucket.has(now))
    }
}

fn may_have_permission(allocation: &Allocation, ip: IpAddr, rules: Rules) -> Result<(), u16> {
    if ip.is_ipv4() != allocation.relayed.is_ipv4() {
        return Err(443);
    }
    if is_relay(ip) || is_allowed(ip, rules) { Ok(()) } else { Err(403) }
}

/// Whether data may be exchanged with a peer: there is a permission, and on our own addresses the port is a relayed one.
pub(crate) fn permitted(allocation: &Allocation, now: Time, peer: SocketAddr, rules: Rules) -> Result<(), Discard> {
    if peer.is_ipv4() != allocation.relayed.is_ipv4() {
        return Err(Discard::PeerFamily);
    }
    if !allocation.peers.permits(now, peer.ip()) {
        return Err(Discard::NoPermission);
    }
    if may_reach(peer, rules) { Ok(()) } else { Err(Discard::ForbiddenPeer) }
}

pub(crate) fn may_reach(peer: SocketAddr, rules: Rules) -> bool {
    if is_relay(peer.ip()) { PORTS.contains(&peer.port()) } else { is_allowed(peer.ip(), rules) }
}

/// Of the few addresses that the operations name.
fn is_allowed(ip: IpAddr, rules: Rules) -> bool {
    match ip.to_string().as_str() {
        "9.9.9.9" | "1.1.1.1" | "2a00::9" => true,
        DENIABLE => !rules.denies,
        _ => false,
    }
}
