//! Engine and naive model side by side: one operation is done to both, and what they do must be the same. `model.rs`
//! draws the operations at random, the fuzz target of `tests/fuzz/engine.rs` reads them from bytes. What is about
//! connections is in `pair_tcp.rs`.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use turnwell::relay::{
    Config, ConnectionId, Discard, Event, Limits, Live, PeerPolicy, PortShare, RelayId, ReservationToken, StreamId,
    TcpRelaying,
};
use turnwell::wire::{AttributeType, ChannelData, Class, Kind, Message, Method};

use crate::client::{Client, Received};
use crate::harness::{Outcome, RELAY_V4, World, addr, config, live};
use crate::naive::{
    Allocated, Asked, BANDWIDTH, DENIABLE, Even, FIRST_STREAM, MOST_CHANNELS, MOST_PERMISSIONS, NOBODY, Naive, PORTS,
    REPLIES, Relayed, Rules,
};
use crate::naive_tcp::{MOST_CONNECTIONS, OPEN_PORT, Told};
use crate::operation::{CLIENTS, Op, Peer, Proof};

/// Does the operations, then lets everything end; the names of all outcomes. A host that is not `punctual` calls
/// `handle_timeout` at no deadline before the end, only before it says something itself.
pub(crate) fn run(punctual: bool, ops: impl IntoIterator<Item = Op>) -> Vec<String> {
    let mut pair = Pair::new(punctual);
    let allocate = |client| Op::Allocate {
        client,
        bob: false,
        tcp: false,
        lifetime: Some(3600),
        even: Even::No,
        family: None,
        token: None,
    };
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
pub(crate) struct Pair {
    pub(crate) world: World,
    pub(crate) naive: Naive,
    pub(crate) clients: Vec<Client>,
    is_late: bool,
    proofs: [Proof; CLIENTS],
    sent: Vec<Option<Sent>>,
    tokens: Vec<ReservationToken>,
    /// Every connection there ever was, and who asked for it.
    pub(crate) connections: Vec<(ConnectionId, Option<Client>)>,
    /// Streams that were begun for a ConnectionBind.
    pub(crate) streams: u16,
    /// How often what was discarded.
    discards: [u64; Discard::ALL.len()],
    /// The name of every outcome.
    pub(crate) seen: Vec<String>,
}

impl Pair {
    fn new(punctual: bool) -> Pair {
        let config = Config { ports: PortShare::whole(PORTS), ..config() };
        let mut world = World::with(config, live_with(Rules::default()));
        world.punctual = punctual;
        let clients = (0..CLIENTS).map(|at| client(1000 + u16::try_from(at).unwrap(), at >= FIRST_STREAM)).collect();
        Pair {
            world,
            naive: Naive::new(),
            clients,
            is_late: !punctual,
            proofs: [Proof::Old; CLIENTS],
            connections: Vec::new(),
            streams: 0,
            discards: [0; Discard::ALL.len()],
            sent: (0..CLIENTS).map(|_| None).collect(),
            tokens: vec![ReservationToken([7; 8])],
            seen: Vec::new(),
        }
    }

    pub(crate) fn resolve(&self, peer: Peer) -> SocketAddr {
        match peer {
            Peer::Fixed(text) => addr(text),
            Peer::Relayed(client) => {
                self.naive.of(client).map_or(addr(&format!("{RELAY_V4}:50001")), |allocation| allocation.relayed)
            }
        }
    }

    /// The client as one of its two users, with a nonce of this moment.
    pub(crate) fn identity(&mut self, client: usize, bob: bool) -> (Client, &'static str) {
        self.clients[client].transactions += 10_000;
        let at = self.clients[client].clone();
        self.identity_at(&at, client, bob)
    }

    /// The same on another five-tuple.
    pub(crate) fn identity_at(&mut self, at: &Client, client: usize, bob: bool) -> (Client, &'static str) {
        let user = if bob { "bob" } else { "alice" };
        let mut identity = at.as_user(user, "pw");
        self.world.challenge(&mut identity);
        let proof = self.proofs[client];
        (proof.of(&identity), if proof == Proof::Wrong { NOBODY } else { user })
    }

    /// A late host looks at its timers when it has something to say.
    pub(crate) fn wake(&mut self) {
        self.world.relay.handle_timeout(self.world.now);
        self.world.drain_events();
    }

    pub(crate) fn discarded(&mut self, reason: Discard) {
        self.discards[reason.index()] += 1;
    }

    fn set_rules(&mut self, rules: Rules) {
        self.wake();
        self.world.set_live(live_with(rules));
        self.naive.set_rules(rules);
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Advance { milliseconds } => {
                self.world.advance(Duration::from_millis(*milliseconds));
                self.naive.advance(*milliseconds);
            }
            Op::Allocate { client, bob, tcp, lifetime, even, family, token } => {
                let (mut identity, user) = self.identity(*client, *bob);
                let token = token.map(|at| self.tokens[at % self.tokens.len()]);
                let asked = Asked { tcp: *tcp, lifetime: *lifetime, even: *even, family: *family, token };
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
                self.wake();
                self.world.close(&self.clients[*client]);
                self.naive.close(*client);
            }
            Op::SetDenies { denies } => self.set_rules(Rules { denies: *denies, ..self.naive.rules }),
            Op::SetRules { rules } => self.set_rules(*rules),
            Op::Prove { client, proof } => self.proofs[*client] = *proof,
            Op::Send { .. } | Op::ChannelData { .. } | Op::FromPeer { .. } | Op::Icmp { .. } => self.relay(op),
            Op::Flood { client, count } => self.flood(*client, *count),
            Op::Connect { client, bob, peer } => self.connect(*client, *bob, *peer),
            Op::Connected { connection } => self.connected(*connection),
            Op::Lost { connection } => self.lost(*connection),
            Op::Accepted { client, peer } => self.accepted(*client, *peer),
            Op::BindConnection { client, bob, is_new, connection } => {
                self.bind_connection(*client, *bob, *is_new, *connection);
            }
            Op::Copied { connection, bytes } => self.copied(*connection, *bytes),
        }
    }

    /// Whether a budget is kept is an operator's choice, so that challenges are not part of it.
    fn flood(&mut self, client: usize, count: usize) {
        let with = live_with(self.naive.rules);
        let limits = Limits { unauthenticated_replies: REPLIES, ..with.limits };
        self.wake();
        self.world.set_live(Live { limits, ..with });
        let at = self.clients[client].at;
        for _ in 0..count {
            let request = self.clients[client].bare(Method::BINDING);
            let is_answered = match self.world.packet(&at, &request) {
                Outcome::Reply(reply) => reply.code() == 200,
                Outcome::Discard(Discard::ReplyBudget) => {
                    self.discarded(Discard::ReplyBudget);
                    false
                }
                other => panic!("a Binding request led to {other:?}"),
            };
            assert_eq!(is_answered, self.naive.is_answered(client));
            self.seen.push(if is_answered { "in budget" } else { "ReplyBudget" }.into());
        }
        self.world.set_live(live_with(self.naive.rules));
    }

    /// The relay socket of a client, or of somebody, where that is for datagrams.
    fn socket(&self, client: usize) -> Option<RelayId> {
        let relay = self.naive.relay_of(client).unwrap_or(self.world.last_relay());
        Some(relay).filter(|relay| self.naive.at(*relay).is_none_or(|allocation| !allocation.tcp))
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
                let Some(relay) = self.socket(*client) else { return };
                let got = self.world.peer_sends(relay, &peer.to_string(), &data);
                (got, self.naive.deliver(relay, peer, &data), data)
            }
            Op::Icmp { client, peer, error } => {
                let Some(relay) = self.socket(*client) else { return };
                let peer = self.resolve(*peer);
                let got = self.world.icmp(relay, &peer.to_string(), *error);
                (got, self.naive.icmp(relay, peer, *error), Vec::new())
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
            Outcome::ToClient { received: Received::Icmp { .. }, .. } => "icmp".into(),
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
            Outcome::Discard(reason) if !is_about_data(*reason) => {
                self.discarded(*reason);
                format!("noise {reason:?}")
            }
            Outcome::Discard(_) | Outcome::ToPeer { .. } | Outcome::ToSibling { .. } | Outcome::ToClient { .. } => {
                let (expected, data) = self.naive_noise(client, bytes);
                let expected = self.outcome(expected, data);
                self.agree(&got, &expected);
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
    fn agree(&mut self, got: &Outcome, expected: &Outcome) {
        if let Outcome::Discard(reason) = got {
            self.discarded(*reason);
        }
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
                let request = (sent.bytes.as_slice(), sent.asked.tcp);
                self.naive.allocated(client, sent.user, request, reply, self.world.last_relay());
            }
        }
    }

    fn compare_what_is_held(&mut self) {
        let usage = self.world.relay.usage();
        let held =
            [usage.allocations, usage.flows, usage.connections, usage.ports, usage.reservations, usage.deadlines];
        assert_eq!(held, self.naive.usage(), "allocations, flows, connections, ports, reservations, deadlines");
        let tally = self.world.relay.tally();
        let total = &self.naive.total;
        assert_eq!((tally.sent_packets, tally.sent_bytes), (total.sent_packets, total.sent_bytes));
        assert_eq!((tally.received_packets, tally.received_bytes), (total.received_packets, total.received_bytes));
        assert_eq!(tally.discards, self.discards);

        let (mut ended, mut told, mut disconnected) = (Vec::new(), Vec::new(), Vec::new());
        for event in self.world.events() {
            match event {
                Event::Ended(record, _) => ended.push((self.client_at(&record.client), record.traffic)),
                Event::Control(client, bytes) => told.push((self.client_at(&client), self.told(&bytes))),
                Event::Disconnect(id) => disconnected.push(id),
                Event::FlowUp(..)
                | Event::FlowDown(..)
                | Event::Close(..)
                | Event::Unreserve(..)
                | Event::Started(..)
                | Event::Refused(..)
                | Event::Draw { .. }
                | Event::Evidence(..) => {}
            }
        }
        let mut expected = std::mem::take(&mut self.naive.ended);
        ended.sort_by_key(|(client, traffic)| (*client, traffic.sent_bytes, traffic.received_bytes));
        expected.sort_by_key(|(client, traffic)| (*client, traffic.sent_bytes, traffic.received_bytes));
        assert_eq!(ended, expected, "what ended, and its traffic");
        self.seen.extend(ended.iter().map(|_| "ended".to_string()));

        let mut expected = std::mem::take(&mut self.naive.told);
        if self.is_late {
            // A host that is late enough finds the allocation over before the connection that waited.
            for list in [&mut told, &mut expected] {
                list.retain(|(_, told)| !matches!(told, Told::NotConnected(_)));
            }
        }
        told.sort_unstable();
        expected.sort_unstable();
        assert_eq!(told, expected, "what clients were told");
        self.seen.extend(told.iter().map(|(_, told)| format!("{told:?}").chars().take_while(|c| *c != '(').collect()));
        let mut expected = std::mem::take(&mut self.naive.disconnected);
        disconnected.sort_unstable();
        expected.sort_unstable();
        assert_eq!(disconnected, expected, "connections to close");
        self.seen.extend(disconnected.iter().map(|_| "disconnected".to_string()));
    }

    fn client_at(&self, at: &turnwell::relay::FiveTuple) -> usize {
        self.clients.iter().position(|client| client.at == *at).expect("a client of ours")
    }
}

/// Alice at a port of hers.
pub(crate) fn client(port: u16, is_stream: bool) -> Client {
    let mut client = Client::new(&format!("100.0.0.1:{port}"), "alice", "pw");
    client.at.stream = NonZeroU32::new(u32::from(port)).map(StreamId).filter(|_| is_stream);
    client
}

/// Reasons of after the bytes were found to be data.
fn is_about_data(reason: Discard) -> bool {
    use Discard::{
        AllocationBandwidth, ForbiddenPeer, NoAllocation, NoChannel, NoPermission, PeerFamily, TcpAllocation,
        UnknownRelay,
    };
    matches!(
        reason,
        NoAllocation
            | NoChannel
            | NoPermission
            | ForbiddenPeer
            | PeerFamily
            | UnknownRelay
            | TcpAllocation
            | AllocationBandwidth
    )
}

fn write(writer: &mut turnwell::wire::Writer<'_>, asked: &Asked) {
    writer.attribute(AttributeType::REQUESTED_TRANSPORT, &[if asked.tcp { 6 } else { 17 }, 0, 0, 0]);
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

fn live_with(rules: Rules) -> Live {
    let deny = if rules.denies { vec![format!("{DENIABLE}/32").parse().unwrap()] } else { vec![] };
    let limits = Limits {
        permissions: MOST_PERMISSIONS,
        channels: MOST_CHANNELS,
        connections: MOST_CONNECTIONS,
        allocation_bandwidth: if rules.limits { BANDWIDTH } else { 0 },
        ..Limits::default()
    };
    let tcp = TcpRelaying { enabled: !rules.no_tcp, peer_ports: vec![OPEN_PORT..=OPEN_PORT] };
    Live { peers: PeerPolicy::new(&[], &deny), limits, tcp, icmp_errors: true, ..live() }
}
