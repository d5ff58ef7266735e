//! Random operations on the engine and on the naive model: every action must be the same, and at the end what is held.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestRunner};
use turnwell::relay::{Config, Limits, Live, PeerPolicy, PortShare, ReservationToken};
use turnwell::wire::{AttributeType, Method};

use crate::client::{Client, Received, udp};
use crate::harness::{Outcome, RELAY_V4, World, addr, config, live};
use crate::naive::{
    Allocated, Asked, DENIABLE, Even, LISTENER, MOST_CHANNELS, MOST_PERMISSIONS, Naive, PORTS, Relayed,
};

const CLIENTS: usize = 4;

#[derive(Clone, Copy, Debug)]
enum Peer {
    Fixed(&'static str),
    /// The relayed address of a client, or of nobody when it has none.
    Relayed(usize),
}

#[derive(Clone, Debug)]
enum Op {
    Advance { milliseconds: u64 },
    Allocate { client: usize, bob: bool, lifetime: Option<u32>, even: Even, family: Option<u8>, token: Option<usize> },
    Retransmit { client: usize },
    Refresh { client: usize, bob: bool, lifetime: Option<u32> },
    Permit { client: usize, bob: bool, peers: Vec<Peer> },
    Bind { client: usize, bob: bool, number: u16, peer: Peer },
    Send { client: usize, peer: Peer, length: usize },
    ChannelData { client: usize, number: u16, length: usize },
    FromPeer { client: usize, peer: Peer, length: usize },
    Close { client: usize },
    SetDenies { denies: bool },
}

fn peer() -> impl Strategy<Value = Peer> {
    prop_oneof![
        6 => prop::sample::select(vec!["9.9.9.9:1", "9.9.9.9:2", "8.8.8.8:1", "1.1.1.1:1"]).prop_map(Peer::Fixed),
        2 => prop::sample::select(vec!["10.0.0.1:1", "[2a00::9]:1", "[fe80::1]:1", "198.51.100.7:80", LISTENER])
            .prop_map(Peer::Fixed),
        4 => (0..CLIENTS).prop_map(Peer::Relayed),
    ]
}

fn number() -> impl Strategy<Value = u16> {
    prop_oneof![20 => 0x4000..0x4004_u16, 1 => prop::sample::select(vec![0x3fff, 0x4fff, 0x5000])]
}

fn op() -> impl Strategy<Value = Op> {
    let client = || 0..CLIENTS;
    let bob = || prop::bool::weighted(0.05);
    let lifetime = || prop::option::of(prop::sample::select(vec![0, 1, 600, 601, 900, 3600, u32::MAX]));
    let even = prop_oneof![4 => Just(Even::No), 1 => Just(Even::Alone), 2 => Just(Even::Pair)];
    let family = prop_oneof![6 => Just(None), 1 => (1..=3_u8).prop_map(Some)];
    let length = || 0..40_usize;
    prop_oneof![
        4 => prop_oneof![0..5_000_u64, 0..400_000_u64, Just(300_000), Just(30_000)]
            .prop_map(|milliseconds| Op::Advance { milliseconds }),
        4 => (client(), bob(), lifetime(), even, family, prop::option::weighted(0.2, 0..4_usize)).prop_map(
            |(client, bob, lifetime, even, family, token)| Op::Allocate { client, bob, lifetime, even, family, token }
        ),
        1 => client().prop_map(|client| Op::Retransmit { client }),
        2 => (client(), bob(), lifetime()).prop_map(|(client, bob, lifetime)| Op::Refresh { client, bob, lifetime }),
        5 => (client(), bob(), prop::collection::vec(peer(), 0..4))
            .prop_map(|(client, bob, peers)| Op::Permit { client, bob, peers }),
        6 => (client(), bob(), number(), peer())
            .prop_map(|(client, bob, number, peer)| Op::Bind { client, bob, number, peer }),
        6 => (client(), peer(), length()).prop_map(|(client, peer, length)| Op::Send { client, peer, length }),
        6 => (client(), 0x4000..0x4004_u16, length())
            .prop_map(|(client, number, length)| Op::ChannelData { client, number, length }),
        6 => (client(), peer(), length()).prop_map(|(client, peer, length)| Op::FromPeer { client, peer, length }),
        1 => client().prop_map(|client| Op::Close { client }),
        1 => any::<bool>().prop_map(|denies| Op::SetDenies { denies }),
    ]
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
        let expected = match expected {
            Relayed::Discard(reason) => Outcome::Discard(reason),
            Relayed::ToPeer(relay, peer) => Outcome::ToPeer { relay, peer, data },
            Relayed::ToSibling(relay, peer) => Outcome::ToSibling { relay, peer, data },
            Relayed::ToClient(client, received) => Outcome::ToClient { client: self.clients[client].at, received },
        };
        assert_eq!(got, expected);
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

/// Runs the operations, then lets everything end.
fn run(punctual: bool, ops: &[Op], seen: &mut BTreeMap<String, u32>) {
    let mut pair = Pair::new(punctual);
    let allocate =
        |client| Op::Allocate { client, bob: false, lifetime: Some(3600), even: Even::No, family: None, token: None };
    for op in [0, 1, 2].map(allocate).iter().chain(ops) {
        pair.apply(op);
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
    for outcome in pair.seen {
        *seen.entry(outcome).or_default() += 1;
    }
}

/// The same cases every time; says how often which outcome was seen.
fn run_all(punctual: bool) -> BTreeMap<String, u32> {
    let config = ProptestConfig {
        cases: 500,
        rng_seed: RngSeed::Fixed(2024),
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let seen = RefCell::new(BTreeMap::new());
    let outcome = TestRunner::new(config).run(&prop::collection::vec(op(), 1..150), |ops| {
        run(punctual, &ops, &mut seen.borrow_mut());
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
    seen.into_inner()
}

#[test]
fn the_engine_does_what_the_model_does() {
    let seen = run_all(true);
    for code in [200, 400, 403, 437, 440, 441, 443, 508] {
        let times = seen.get(&code.to_string()).copied().unwrap_or(0);
        assert!(times >= 40, "{code} was seen {times} times: {seen:?}");
    }
    for outcome in ["NoAllocation", "NoChannel", "NoPermission", "ForbiddenPeer", "PeerFamily", "UnknownRelay"]
        .into_iter()
        .chain(["to peer", "channel", "indication", "hairpin channel", "hairpin indication", "ended"])
    {
        let times = seen.get(outcome).copied().unwrap_or(0);
        assert!(times >= 40, "{outcome} was seen {times} times: {seen:?}");
    }
}

/// The same with a host that never calls `handle_timeout` until the end.
#[test]
fn a_late_host_changes_nothing() {
    run_all(false);
}
