//! Engine and naive model side by side: one operation is done to both, and what they do must be the same. `model.rs`
//! draws the operations at random, the fuzz target of `tests/fuzz/engine.rs` reads them from bytes.

use std::net::SocketAddr;
use std::time::Duration;

use turnwell::relay::{Config, Discard, Limits, Live, PeerPolicy, PortShare, ReservationToken};
use turnwell::wire::{AttributeType, ChannelData, Class, Kind, Message, Method};

use crate::client::{Client, Received, udp};
use crate::harness::{Outcome, RELAY_V4, World, addr, config, live};
use crate::naive::{
    Allocated, Asked, DENIABLE, Even, LISTENER, MOST_CHANNELS, MOST_PERMISSIONS, Naive, PORTS, Relayed,
};

pub(crate) const CLIENTS: usize = 4;

/// Peers that may be reached, [`DENIABLE`] as long as it is not denied.
pub(crate) const PEERS: [&str; 4] = ["9.9.9.9:1", "9.9.9.9:2", "8.8.8.8:1", "1.1.1.1:1"];

/// Peers that may not be reached, are of the other family, or are our own.
pub(crate) const ODD_PEERS: [&str; 5] = ["10.0.0.1:1", "[2a00::9]:1", "[fe80::1]:1", "198.51.100.7:80", LISTENER];

/// Lifetimes at and around every bound.
pub(crate) const LIFETIMES: [u32; 7] = [0, 1, 600, 601, 900, 3600, u32::MAX];

/// A peer as the operations name it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Peer {
    Fixed(&'static str),
    /// The relayed address of a client, or of nobody when it has none.
    Relayed(usize),
}

/// What may happen. `bob` is the other user of the same five-tuple.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Advance {
        milliseconds: u64,
    },
    Allocate {
        client: usize,
        bob: bool,
        lifetime: Option<u32>,
        even: Even,
        family: Option<u8>,
        token: Option<usize>,
    },
    Retransmit {
        client: usize,
    },
    Refresh {
        client: usize,
        bob: bool,
        lifetime: Option<u32>,
    },
    Permit {
        client: usize,
        bob: bool,
        peers: Vec<Peer>,
    },
    Bind {
        client: usize,
        bob: bool,
        number: u16,
        peer: Peer,
    },
    Send {
        client: usize,
        peer: Peer,
        length: usize,
    },
    ChannelData {
        client: usize,
        number: u16,
        length: usize,
    },
    FromPeer {
        client: usize,
        peer: Peer,
        length: usize,
    },
    /// Bytes from where a client is, which nobody signed.
    Noise {
        client: usize,
        bytes: Vec<u8>,
    },
    Close {
        client: usize,
    },
    SetDenies {
        denies: bool,
    },
}

/// Does the operations, then lets everything end; the names of all outcomes. With a host that is not `punctual`,
/// `handle_timeout` is not called before the end.
pub(crate) fn run(punctual: bool, ops: impl IntoIterator<Item = Op>) -> Vec<String> {
    let mut pair = Pair::new(punctual);
    let allocate =
        |client| Op::Allocate { client, bob: false, lifetime: Some(3600), even: Even::No, family: None, token: None };
    for op in [0, 1, 2].map(allocate).into_iter().chain(ops) {
        pair.apply(&op);
        if punctual {
            pair.compare_what_is_held();
        }
    }
    pair.world.punctual = true;
    pair.apply(&Op::Advance { milliseconds: 0 });
    pair.compare_what_is_held();
    pair.apply(&Op::Advance { milliseconds: 4_000_000 });
    pair.compare_what_is_held();
    pair.world.assert_empty();
    pair.seen
}

/// An Allocate that was sent: its bytes, what it asks for, whose it is, and when its nonce was given.
struct Sent {
    bytes: Vec<u8>,
    asked: Asked,
    user: &'static str,
    at: u64,
}

/// Engine and model side by side.
struct Pair {
    world: World,
    naive: Naive,
    clients: Vec<Client>,
    sent: Vec<Option<Sent>>,
    tokens: Vec<ReservationToken>,
    /// The name of every outcome.
    seen: Vec<String>,
}

impl Pair {
    fn new(punctual: bool) -> Pair {
        let config = Config { ports: PortShare::whole(PORTS), ..config() };
        let mut world = World::with(config, rules(false));
        world.punctual = punctual;
        let clients = (0..CLIENTS).map(|at| world.client(1000 + u16::try_from(at).unwrap())).collect();
        Pair {
            world,
            naive: Naive::default(),
            clients,
            sent: (0..CLIENTS).map(|_| None).collect(),
            tokens: vec![ReservationToken([7; 8])],
            seen: Vec::new(),
        }
    }

    fn resolve(&self, peer: Peer) -> SocketAddr {
        match peer {
            Peer::Fixed(text) => addr(text),
            Peer::Relayed(client) => {
                self.naive.of(client).map_or(addr(&format!("{RELAY_V4}:50001")), |allocation| allocation.relayed)
            }
        }
    }

    /// The client as one of its two users, with a nonce of this moment.
    fn identity(&mut self, client: usize, bob: bool) -> (Client, &'static str) {
        let user = if bob { "bob" } else { "alice" };
        self.clients[client].transactions += 10_000;
        let mut identity = self.clients[client].as_user(user, "pw");
        self.world.challenge(&mut identity);
        (identity, user)
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Advance { milliseconds } => {
                self.world.advance(Duration::from_millis(*milliseconds));
                self.naive.advance(*milliseconds);
            }
            Op::Allocate { client, bob, lifetime, even, family, token } => {
                let (mut identity, user) = self.identity(*client, *bob);
                let token = token.map(|at| self.tokens[at % self.tokens.len()]);
                let asked = Asked { lifetime: *lifetime, even: *even, family: *family, token };
                let bytes = identity.sign(Method::ALLOCATE, |w| write(w, &asked));
                self.sent[*client] = Some(Sent { bytes, asked, user, at: self.naive.now });
                self.allocate(*client);
            }
            Op::Retransmit { client } => {
                if self.sent[*client].is_some() {
                    // The port of a reservation that lapsed is free again once a late host has seen that it did.
                    self.identity(*client, false);
                    self.allocate(*client);
                }
            }
            Op::Refresh { client, bob, lifetime } => {
                let (mut identity, user) = self.identity(*client, *bob);
                let reply = self.world.refresh(&mut identity, *lifetime);
                let expected = self.naive.refresh(*client, user, *lifetime);
                assert_eq!(reply.lifetime().ok_or(reply.code()), expected);
                self.seen.push(reply.code().to_string());
            }
            Op::Permit { client, bob, peers } => {
                let (mut identity, user) = self.identity(*client, *bob);
                let peers: Vec<_> = peers.iter().map(|peer| self.resolve(*peer)).collect();
                let texts: Vec<_> = peers.iter().map(SocketAddr::to_string).collect();
                let texts: Vec<_> = texts.iter().map(String::as_str).collect();
                let reply = self.world.permit(&mut identity, &texts);
                let expected = self.naive.permit(*client, user, &peers);
                assert_eq!(reply.code(), expected.err().unwrap_or(200));
                self.seen.push(reply.code().to_string());
            }
            Op::Bind { client, bob, number, peer } => {
                let (mut identity, user) = self.identity(*client, *bob);
                let peer = self.resolve(*peer);
                let reply = self.world.bind(&mut identity, *number, &peer.to_string());
                let expected = self.naive.bind(*client, user, *number, peer);
                assert_eq!(reply.code(), expected.err().unwrap_or(200));
                self.seen.push(reply.code().to_string());
            }
            Op::Noise { client, bytes } => self.noise(*client, bytes),
            Op::Close { client } => {
                self.world.close(&self.clients[*client]);
                self.naive.close(*client);
            }
            Op::SetDenies { denies } => {
                self.world.set_live(rules(*denies));
                self.naive.set_denies(*denies);
            }
            Op::Send { .. } | Op::ChannelData { .. } | Op::FromPeer { .. } => self.relay(op),
        }
    }

    fn relay(&mut self, op: &Op) {
        let data = |length: usize| vec![0xda; length];
        let (got, expected, data) = match op {
            Op::Send { client, peer, length } => {
                let (peer, data) = (self.resolve(*peer), data(*length));
                let got = self.world.send(&self.clients[*client], &peer.to_string(), &data);
                (got, self.naive.send(*client, peer, &data), data)
            }
            Op::ChannelData { client, number, length } => {
                let data = data(*length);
                let got = self.world.channel(&self.clients[*client], *number, &data);
                (got, self.naive.channel_data(*client, *number, &data), data)
            }
            Op::FromPeer { client, peer, length } => {
                let (peer, data) = (self.resolve(*peer), data(*length));
                let relay = self.naive.relay_of(*client).unwrap_or(self.world.last_relay());
                let got = self.world.peer_sends(relay, &peer.to_string(), &data);
                (got, self.naive.deliver(relay, peer, &data), data)
            }
            other => unreachable!("no data in {other:?}"),
        };
        let expected = self.outcome(expected, data);
        self.agree(&got, &expected);
        let hairpin = if matches!(op, Op::FromPeer { .. }) { "" } else { "hairpin " };
        self.seen.push(match got {
            Outcome::Discard(reason) => format!("{reason:?}"),
            Outcome::ToPeer { .. } => "to peer".into(),
            Outcome::ToSibling { .. } => "to sibling".into(),
            Outcome::ToClient { received: Received::Channel { .. }, .. } => format!("{hairpin}channel"),
            Outcome::ToClient { received: Received::Indication { .. }, .. } => format!("{hairpin}indication"),
            other => unreachable!("data led to {other:?}"),
        });
    }

    /// Without a signature only data gets anywhere, and only as the model says; nothing but Binding succeeds.
    fn noise(&mut self, client: usize, bytes: &[u8]) {
        let got = self.world.packet(&self.clients[client].at, bytes);
        let seen = match &got {
            Outcome::Reply(reply) => {
                let request = Message::parse(bytes).expect("only messages are answered");
                assert_eq!((request.class(), reply.id()), (Class::Request, request.transaction_id()));
                assert!(reply.code() != 200 || request.method() == Method::BINDING, "{request:?} succeeded");
                format!("noise {}", reply.code())
            }
            Outcome::Discard(reason) if !is_about_data(*reason) => format!("noise {reason:?}"),
            Outcome::Discard(_) | Outcome::ToPeer { .. } | Outcome::ToSibling { .. } | Outcome::ToClient { .. } => {
                let (expected, data) = self.naive_noise(client, bytes);
                self.agree(&got, &self.outcome(expected, data));
                "noise is data".into()
            }
            other => panic!("noise led to {other:?}"),
        };
        self.seen.push(seen);
    }

    fn naive_noise(&mut self, client: usize, bytes: &[u8]) -> (Relayed, Vec<u8>) {
        if Kind::of(bytes) == Kind::ChannelData {
            let message = ChannelData::parse(bytes).expect("well-formed ChannelData");
            let data = message.data.to_vec();
            return (self.naive.channel_data(client, message.channel.0, &data), data);
        }
        let message = Message::parse(bytes).expect("a well-formed indication");
        assert_eq!((message.class(), message.method()), (Class::Indication, Method::SEND));
        let first = |kind| message.attributes().flatten().find(|attribute| attribute.kind == kind);
        let peer = first(AttributeType::XOR_PEER_ADDRESS).expect("a peer");
        let peer = peer.xor_address(message.transaction_id()).expect("an address");
        let data = first(AttributeType::DATA).expect("data").value.to_vec();
        (self.naive.send(client, peer, &data), data)
    }

    /// A late host still has the socket of an allocation that is over: what goes to its address comes to us again, and
    /// ends there.
    fn agree(&self, got: &Outcome, expected: &Outcome) {
        let ends_here = !self.world.punctual && *got == Outcome::Discard(Discard::UnknownRelay);
        if !(ends_here && matches!(expected, Outcome::ToSibling { .. })) {
            assert_eq!(got, expected);
        }
    }

    fn outcome(&self, expected: Relayed, data: Vec<u8>) -> Outcome {
        match expected {
            Relayed::Discard(reason) => Outcome::Discard(reason),
            Relayed::ToPeer(relay, peer) => Outcome::ToPeer { relay, peer, data },
            Relayed::ToSibling(relay, peer) => Outcome::ToSibling { relay, peer, data },
            Relayed::ToClient(client, received) => Outcome::ToClient { client: self.clients[client].at, received },
        }
    }

    fn allocate(&mut self, client: usize) {
        let Some(sent) = &self.sent[client] else { return };
        let reply = self.world.packet(&self.clients[client].at, &sent.bytes).reply();
        self.seen.push(reply.code().to_string());
        if self.naive.now / 1000 - sent.at / 1000 > 3600 {
            assert_eq!(reply.code(), 438);
            return;
        }
        match self.naive.allocate(client, sent.user, &sent.bytes, &sent.asked) {
            Allocated::Error(code) => assert_eq!(reply.code(), code),
            Allocated::Again(answer) => assert_eq!(reply, answer),
            Allocated::New { lifetime, addresses, token } => {
                assert_eq!((reply.code(), reply.lifetime()), (200, Some(lifetime)));
                assert!(addresses.contains(&reply.relayed()), "{} is not one of {addresses:?}", reply.relayed());
                assert_eq!((reply.token().is_some(), reply.mapped()), (token, self.clients[client].at.client));
                self.tokens.extend(reply.token());
                self.naive.allocated(client, sent.user, &sent.bytes, reply, self.world.last_relay());
            }
        }
    }

    fn compare_what_is_held(&mut self) {
        let usage = self.world.relay.usage();
        let held = [usage.allocations, usage.flows, usage.ports, usage.reservations, usage.deadlines];
        assert_eq!(held, self.naive.usage(), "allocations, flows, ports, reservations, deadlines");
        let of = |record: &turnwell::relay::Record| {
            self.clients.iter().position(|client| client.at == record.client).unwrap()
        };
        let mut ended: Vec<_> = self.world.ended().iter().map(|(record, _)| (of(record), record.traffic)).collect();
        let mut expected = std::mem::take(&mut self.naive.ended);
        ended.sort_by_key(|(client, traffic)| (*client, traffic.sent_bytes, traffic.received_bytes));
        expected.sort_by_key(|(client, traffic)| (*client, traffic.sent_bytes, traffic.received_bytes));
        assert_eq!(ended, expected, "what ended, and its traffic");
        self.seen.extend(ended.iter().map(|_| "ended".to_string()));
    }
}

/// Reasons of after the bytes were found to be data.
fn is_about_data(reason: Discard) -> bool {
    use Discard::{ForbiddenPeer, NoAllocation, NoChannel, NoPermission, PeerFamily, UnknownRelay};
    matches!(reason, NoAllocation | NoChannel | NoPermission | ForbiddenPeer | PeerFamily | UnknownRelay)
}

fn write(writer: &mut turnwell::wire::Writer<'_>, asked: &Asked) {
    udp(writer);
    if let Some(lifetime) = asked.lifetime {
        writer.u32(AttributeType::LIFETIME, lifetime);
    }
    match asked.even {
        Even::No => {}
        Even::Alone => {
            writer.attribute(AttributeType::EVEN_PORT, &[0]);
        }
        Even::Pair => {
            writer.attribute(AttributeType::EVEN_PORT, &[0x80]);
        }
    }
    if let Some(family) = asked.family {
        writer.attribute(AttributeType::REQUESTED_ADDRESS_FAMILY, &[family, 0, 0, 0]);
    }
    if let Some(token) = asked.token {
        writer.attribute(AttributeType::RESERVATION_TOKEN, &token.0);
    }
}

fn rules(denies: bool) -> Live {
    let deny = if denies { vec![format!("{DENIABLE}/32").parse().unwrap()] } else { vec![] };
    let limits = Limits { permissions: MOST_PERMISSIONS, channels: MOST_CHANNELS, ..Limits::default() };
    Live { peers: PeerPolicy::new(&[], &deny), limits, ..live() }
}
