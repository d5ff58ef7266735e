//! TURN as one would write it from RFC 8656 with lists and loops: the model that `model.rs` compares the engine with.
//! Nothing here is fast, indexed or queued; what has lapsed is skipped by its time.

use std::net::{IpAddr, SocketAddr};

use turnwell::relay::{Discard, RelayId, ReservationToken, Traffic};

use crate::client::{Received, Reply};

pub(crate) const PORTS: std::ops::RangeInclusive<u16> = 50_000..=50_011;
pub(crate) const MOST_PERMISSIONS: usize = 4;
pub(crate) const MOST_CHANNELS: usize = 3;
pub(crate) const LISTENER: &str = "192.0.2.1:3478";
/// The one peer that the operator forbids and allows again.
pub(crate) const DENIABLE: &str = "8.8.8.8";

/// Milliseconds since the world began.
pub(crate) type Time = u64;
const SECOND: Time = 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Even {
    No,
    Alone,
    Pair,
}

/// What an Allocate asks for.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
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

struct Permission {
    ip: IpAddr,
    expires: Time,
}

struct Channel {
    number: u16,
    peer: SocketAddr,
    expires: Time,
}

pub(crate) struct Allocation {
    client: usize,
    user: &'static str,
    request: Vec<u8>,
    answer: Reply,
    relay: RelayId,
    pub(crate) relayed: SocketAddr,
    expires: Time,
    permissions: Vec<Permission>,
    channels: Vec<Channel>,
    traffic: Traffic,
}

#[derive(Default)]
pub(crate) struct Naive {
    pub(crate) now: Time,
    allocations: Vec<Allocation>,
    reservations: Vec<(ReservationToken, SocketAddr, Time)>,
    pub(crate) denies: bool,
    /// Clients whose allocations ended, with what they had relayed.
    pub(crate) ended: Vec<(usize, Traffic)>,
}

impl Naive {
    /// Time passes, and what is over goes.
    pub(crate) fn advance(&mut self, by: Time) {
        self.now += by;
        let now = self.now;
        self.end(|allocation| allocation.expires <= now);
        for allocation in &mut self.allocations {
            allocation.permissions.retain(|permission| now < permission.expires);
            allocation.channels.retain(|channel| now < channel.expires + 300 * SECOND);
        }
        self.reservations.retain(|(_, _, ends)| now < *ends);
    }

    fn end(&mut self, over: impl Fn(&Allocation) -> bool) {
        for allocation in self.allocations.iter().filter(|allocation| over(allocation)) {
            self.ended.push((allocation.client, allocation.traffic));
        }
        self.allocations.retain(|allocation| !over(allocation));
    }

    pub(crate) fn close(&mut self, client: usize) {
        self.end(|allocation| allocation.client == client);
    }

    /// The operator forbids one address, or allows it again.
    pub(crate) fn set_denies(&mut self, denies: bool) {
        self.denies = denies;
        if denies {
            for allocation in &mut self.allocations {
                allocation.permissions.retain(|permission| permission.ip.to_string() != DENIABLE);
                allocation.channels.retain(|channel| channel.peer.ip().to_string() != DENIABLE);
            }
        }
    }

    pub(crate) fn of(&self, client: usize) -> Option<&Allocation> {
        self.allocations.iter().find(|allocation| allocation.client == client)
    }

    pub(crate) fn relay_of(&self, client: usize) -> Option<RelayId> {
        self.of(client).map(|allocation| allocation.relay)
    }

    /// Allocations, flow rows, ports, reservations, deadlines.
    pub(crate) fn usage(&self) -> [usize; 5] {
        let (allocations, reservations) = (self.allocations.len(), self.reservations.len());
        let channels: usize = self.allocations.iter().map(|allocation| allocation.channels.len()).sum();
        [allocations, 2 * channels, allocations + reservations, reservations, allocations + reservations]
    }

    // RFC 8656 §7.2

    pub(crate) fn allocate(&self, client: usize, user: &str, request: &[u8], asked: &Asked) -> Allocated {
        if let Some(mine) = self.of(client) {
            let again = mine.user == user && mine.request[8..20] == request[8..20];
            return if again { Allocated::Again(mine.answer.clone()) } else { Allocated::Error(437) };
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
        request: &[u8],
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
            request: request.to_vec(),
            answer,
            relay,
            relayed,
            expires,
            permissions: Vec::new(),
            channels: Vec::new(),
            traffic: Traffic::default(),
        });
    }

    /// RFC 8656 §5
    fn owned(&mut self, client: usize, user: &str) -> Result<&mut Allocation, u16> {
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
        let (now, denies) = (self.now, self.denies);
        let mine = self.owned(client, user)?;
        for peer in peers {
            may_have_permission(mine, peer.ip(), denies)?;
        }
        if peers.is_empty() {
            return Err(400);
        }
        let mut after: Vec<IpAddr> = mine.permissions.iter().map(|permission| permission.ip).collect();
        after.extend(peers.iter().map(SocketAddr::ip));
        after.sort_unstable();
        after.dedup();
        if after.len() > MOST_PERMISSIONS {
            return Err(508);
        }
        for peer in peers {
            install(mine, peer.ip(), now);
        }
        Ok(())
    }

    /// RFC 8656 §12.2, and five minutes during which a lapsed channel keeps its number and peer.
    pub(crate) fn bind(&mut self, client: usize, user: &str, number: u16, peer: SocketAddr) -> Result<(), u16> {
        let (now, denies) = (self.now, self.denies);
        let mine = self.owned(client, user)?;
        if !(0x4000..=0x4fff).contains(&number) {
            return Err(400);
        }
        if mine.channels.iter().any(|channel| (channel.number == number) != (channel.peer == peer)) {
            return Err(400);
        }
        may_have_permission(mine, peer.ip(), denies)?;
        if !may_reach(peer, denies) {
            return Err(403);
        }
        let is_new = mine.channels.iter().all(|channel| channel.number != number);
        let is_new_ip = mine.permissions.iter().all(|permission| permission.ip != peer.ip());
        if mine.channels.len() + usize::from(is_new) > MOST_CHANNELS
            || mine.permissions.len() + usize::from(is_new_ip) > MOST_PERMISSIONS
        {
            return Err(508);
        }
        mine.channels.retain(|channel| channel.number != number);
        mine.channels.push(Channel { number, peer, expires: now + 600 * SECOND });
        install(mine, peer.ip(), now);
        Ok(())
    }

    // RFC 8656 §11, §12

    pub(crate) fn send(&mut self, client: usize, peer: SocketAddr, data: &[u8]) -> Relayed {
        let denies = self.denies;
        match self.of(client).map(|mine| permitted(mine, peer, denies)) {
            None => Relayed::Discard(Discard::NoAllocation),
            Some(Err(reason)) => Relayed::Discard(reason),
            Some(Ok(())) => self.forward(client, peer, data),
        }
    }

    pub(crate) fn channel_data(&mut self, client: usize, number: u16, data: &[u8]) -> Relayed {
        let Some(mine) = self.of(client) else { return Relayed::Discard(Discard::NoAllocation) };
        let now = self.now;
        let bound = mine.channels.iter().find(|channel| channel.number == number && now < channel.expires);
        match bound.filter(|channel| has_permission(mine, channel.peer.ip())) {
            Some(channel) => {
                let peer = channel.peer;
                self.forward(client, peer, data)
            }
            None => Relayed::Discard(Discard::NoChannel),
        }
    }

    fn forward(&mut self, client: usize, peer: SocketAddr, data: &[u8]) -> Relayed {
        let mine = self.allocations.iter_mut().find(|allocation| allocation.client == client).unwrap();
        mine.traffic.sent_packets += 1;
        mine.traffic.sent_bytes += data.len() as u64;
        let (relay, source) = (mine.relay, mine.relayed);
        match self.allocations.iter().find(|other| other.relayed == peer).map(|other| other.relay) {
            Some(other) => self.deliver(other, source, data),
            None if is_relay(peer.ip()) && PORTS.contains(&peer.port()) => Relayed::ToSibling(relay, peer),
            None => Relayed::ToPeer(relay, peer),
        }
    }

    pub(crate) fn deliver(&mut self, relay: RelayId, source: SocketAddr, data: &[u8]) -> Relayed {
        let (now, denies) = (self.now, self.denies);
        let Some(mine) = self.allocations.iter_mut().find(|allocation| allocation.relay == relay) else {
            return Relayed::Discard(Discard::UnknownRelay);
        };
        if let Err(reason) = permitted(mine, source, denies) {
            return Relayed::Discard(reason);
        }
        mine.traffic.received_packets += 1;
        mine.traffic.received_bytes += data.len() as u64;
        let bound = mine.channels.iter().find(|channel| channel.peer == source && now < channel.expires);
        let data = data.to_vec();
        let received = match bound {
            Some(channel) => Received::Channel { number: channel.number, data },
            None => Received::Indication { peer: source, data },
        };
        Relayed::ToClient(mine.client, received)
    }
}

/// A permission lasts as long as the channels of its address.
fn install(allocation: &mut Allocation, ip: IpAddr, now: Time) {
    let of_channels =
        allocation.channels.iter().filter(|channel| channel.peer.ip() == ip).map(|channel| channel.expires);
    let expires = of_channels.fold(now + 300 * SECOND, Time::max);
    allocation.permissions.retain(|permission| permission.ip != ip);
    allocation.permissions.push(Permission { ip, expires });
}

fn has_permission(allocation: &Allocation, ip: IpAddr) -> bool {
    allocation.permissions.iter().any(|permission| permission.ip == ip)
}

fn may_have_permission(allocation: &Allocation, ip: IpAddr, denies: bool) -> Result<(), u16> {
    if ip.is_ipv4() != allocation.relayed.is_ipv4() {
        return Err(443);
    }
    if is_relay(ip) || is_allowed(ip, denies) { Ok(()) } else { Err(403) }
}

/// Whether data may be exchanged with a peer: there is a permission, and on our own addresses the port is a relayed one.
fn permitted(allocation: &Allocation, peer: SocketAddr, denies: bool) -> Result<(), Discard> {
    if peer.is_ipv4() != allocation.relayed.is_ipv4() {
        return Err(Discard::PeerFamily);
    }
    if !has_permission(allocation, peer.ip()) {
        return Err(Discard::NoPermission);
    }
    if may_reach(peer, denies) { Ok(()) } else { Err(Discard::ForbiddenPeer) }
}

fn is_relay(ip: IpAddr) -> bool {
    [crate::harness::RELAY_V4, crate::harness::RELAY_V6].contains(&ip.to_string().as_str())
}

fn may_reach(peer: SocketAddr, denies: bool) -> bool {
    if is_relay(peer.ip()) { PORTS.contains(&peer.port()) } else { is_allowed(peer.ip(), denies) }
}

/// Of the few addresses that the operations name.
fn is_allowed(ip: IpAddr, denies: bool) -> bool {
    match ip.to_string().as_str() {
        "9.9.9.9" | "1.1.1.1" | "2a00::9" => true,
        DENIABLE => !denies,
        _ => false,
    }
}
