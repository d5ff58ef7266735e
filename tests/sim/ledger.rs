//! What the server has granted, read off its own answers: which packets it may relay follows, and so does what it has
//! to have counted. Nothing here looks into the engine.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use turnwell::relay::{EndReason, FiveTuple, Record, RelayId, Traffic};
use turnwell::wire::{AttributeType, ChannelData, Class, Kind, Message, Method};

use crate::client::{Received, Reply};
use crate::harness::Outcome;
use crate::network::{SECOND, Time};
use crate::peer_rule::{Peers, is_relay};

struct Held {
    client: FiveTuple,
    relay: RelayId,
    relayed: SocketAddr,
    expires: Time,
    peers: Peers,
    traffic: Traffic,
}

/// The allocations of one server.
pub(crate) struct Ledger {
    held: Vec<Held>,
    /// A bound channel keeps the permission of its peer alive.
    keeps: bool,
    /// Of our own addresses only these ports may be reached.
    ports: RangeInclusive<u16>,
    /// Packets and bytes of all that was ever held.
    pub(crate) total: Traffic,
}

/// A request's success is what the ledger is written from.
struct Request {
    method: Method,
    peers: Vec<SocketAddr>,
    number: Option<u16>,
}

impl Request {
    fn read(bytes: &[u8]) -> Request {
        let message = Message::parse(bytes).expect("clients send messages");
        assert_eq!(message.class(), Class::Request, "only requests are answered");
        let all = |kind| message.attributes().flatten().filter(move |attribute| attribute.kind == kind);
        let id = message.transaction_id();
        Request {
            method: message.method(),
            peers: all(AttributeType::XOR_PEER_ADDRESS).map(|peer| peer.xor_address(id).unwrap()).collect(),
            number: all(AttributeType::CHANNEL_NUMBER).next().map(|number| number.channel_number().unwrap().0),
        }
    }
}

impl Ledger {
    pub(crate) fn new(keeps: bool, ports: RangeInclusive<u16>) -> Ledger {
        Ledger { held: Vec::new(), keeps, ports, total: Traffic::default() }
    }

    /// Allocations and flow rows, as the engine must have them now.
    pub(crate) fn usage(&self, now: Time) -> [usize; 2] {
        let channels: usize = self.held.iter().map(|held| held.peers.channels(now)).sum();
        [self.held.len(), 2 * channels]
    }

    /// The relay socket that is bound to an address.
    pub(crate) fn relay_at(&self, address: SocketAddr) -> Option<RelayId> {
        self.held.iter().find(|held| held.relayed == address).map(|held| held.relay)
    }

    pub(crate) fn address_of(&self, relay: RelayId) -> SocketAddr {
        self.held.iter().find(|held| held.relay == relay).expect("a socket that sends is open").relayed
    }

    pub(crate) fn traffic(&self) -> impl Iterator<Item = (&FiveTuple, Traffic)> {
        self.held.iter().map(|held| (&held.client, held.traffic))
    }

    fn of(&mut self, client: &FiveTuple) -> Option<&mut Held> {
        self.held.iter_mut().find(|held| held.client == *client)
    }

    /// A request was answered with success; `relay` is the socket that was opened last.
    pub(crate) fn granted(&mut self, now: Time, client: &FiveTuple, request: &[u8], reply: &Reply, relay: RelayId) {
        let request = Request::read(request);
        let keeps = self.keeps;
        if request.method == Method::ALLOCATE {
            let relayed = reply.relayed();
            if let Some(held) = self.of(client) {
                assert_eq!(held.relayed, relayed, "an Allocate that was repeated has another answer");
                return;
            }
            assert!(self.held.iter().all(|held| held.relayed != relayed && held.relay != relay), "{relayed} twice");
            let expires = now + Time::from(reply.lifetime().unwrap()) * SECOND;
            self.held.push(Held {
                client: *client,
                relay,
                relayed,
                expires,
                peers: Peers::default(),
                traffic: Traffic::default(),
            });
            return;
        }
        if request.method == Method::BINDING {
            return;
        }
        if request.method == Method::REFRESH && reply.lifetime() == Some(0) {
            assert!(self.of(client).is_none(), "deleted, and still there");
            return;
        }
        let held = self.of(client).unwrap_or_else(|| panic!("{:?} succeeds without an allocation", request.method));
        match request.method {
            Method::REFRESH => held.expires = now + Time::from(reply.lifetime().unwrap()) * SECOND,
            Method::CREATE_PERMISSION => {
                request.peers.iter().for_each(|peer| held.peers.permit(now, peer.ip(), keeps));
            }
            Method::CHANNEL_BIND => {
                let (number, peer) = (request.number.unwrap(), request.peers[0]);
                assert!(!held.peers.conflict(now, number, peer), "channel {number:#x} or {peer} was bound otherwise");
                held.peers.bind(now, number, peer, keeps);
            }
            other => panic!("{other:?} succeeds"),
        }
    }

    /// The engine says that an allocation is over: it has to have counted what the ledger has.
    pub(crate) fn ended(&mut self, now: Time, record: &Record, reason: EndReason) {
        let at = self.held.iter().position(|held| held.client == record.client && held.relayed == record.relayed);
        let held = self.held.remove(at.expect("what ends had begun"));
        assert_eq!(record.traffic, held.traffic, "the counters of {:?}", record.client);
        match reason {
            EndReason::Expired => assert!(held.expires <= now, "{} ms too early", held.expires - now),
            EndReason::Deleted => {}
            other => panic!("nobody asked for {other:?}"),
        }
    }

    /// Whether anything has outlived its time.
    pub(crate) fn is_overdue(&self, now: Time) -> bool {
        self.held.iter().any(|held| held.expires <= now)
    }

    /// The operator forbids an address: what it had is gone.
    pub(crate) fn deny(&mut self, ip: IpAddr) {
        for held in &mut self.held {
            held.peers.forbid(ip);
        }
    }

    /// What has to become of a packet from a client that is no request; `None`: nothing.
    pub(crate) fn client_sends(&mut self, now: Time, client: &FiveTuple, bytes: &[u8]) -> Option<Outcome> {
        let held = self.held.iter_mut().find(|held| held.client == *client)?;
        let (peer, data) = match Kind::of(bytes) {
            Kind::ChannelData => {
                let message = ChannelData::parse(bytes)?;
                (held.peers.peer_of(now, message.channel.0)?, message.data)
            }
            Kind::Stun => {
                let message = Message::parse(bytes).ok()?;
                let first = |kind| message.attributes().flatten().find(|attribute| attribute.kind == kind);
                let peer = first(AttributeType::XOR_PEER_ADDRESS)?.xor_address(message.transaction_id()).ok()?;
                (peer, first(AttributeType::DATA)?.value)
            }
            Kind::Foreign => return None,
        };
        if !held.peers.permits(now, peer.ip()) || (is_relay(peer.ip()) && !self.ports.contains(&peer.port())) {
            return None;
        }
        held.traffic.sent_packets += 1;
        held.traffic.sent_bytes += data.len() as u64;
        self.total.sent_packets += 1;
        let (relay, source) = (held.relay, held.relayed);
        match self.relay_at(peer) {
            Some(other) => self.peer_sends_to(now, other, source, data),
            None if is_relay(peer.ip()) => Some(Outcome::ToSibling { relay, peer, data: data.to_vec() }),
            None => Some(Outcome::ToPeer { relay, peer, data: data.to_vec() }),
        }
    }

    /// What has to become of a packet to a relayed address; `None`: nothing.
    pub(crate) fn peer_sends_to(
        &mut self,
        now: Time,
        relay: RelayId,
        source: SocketAddr,
        data: &[u8],
    ) -> Option<Outcome> {
        let held = self.held.iter_mut().find(|held| held.relay == relay)?;
        if !held.peers.permits(now, source.ip()) {
            return None;
        }
        held.traffic.received_packets += 1;
        held.traffic.received_bytes += data.len() as u64;
        self.total.received_packets += 1;
        let data = data.to_vec();
        let received = match held.peers.channel_to(now, source) {
            Some(number) => Received::Channel { number, data },
            None => Received::Indication { peer: source, data },
        };
        Some(Outcome::ToClient { client: held.client, received })
    }
}
