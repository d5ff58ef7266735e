//! Two callers, each behind a translator, two peers, one of them behind a translator too, and the server between them,
//! on one virtual clock. A seed decides everything: how bad the link is, what breaks, and when; in the end the link heals.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use turnwell::relay::{
    Config, Event as Happened, FiveTuple, ListenerId, Live, PeerPolicy, PortShare, RelayAddress, RelayId, Want,
};

use turnwell::wire::{AttributeType, Class, Method, TransactionId, Writer};

use crate::caller::{Caller, Habits};
use crate::client::{Received, channel_data};
use crate::harness::{EPOCH, Outcome, RELAY_V4, World, addr, config, live};
use crate::ledger::Ledger;
use crate::network::{Link, Nat, SECOND, Time};
use crate::payload::{Party, Payload};
use crate::peer_rule::is_relay;
use crate::random::Random;

const SERVER: &str = "192.0.2.1:3478";
const CALLERS: [&str; 2] = ["100.64.0.1", "100.64.0.2"];
/// The first peer is public, the second is behind a translator.
const PEERS: [&str; 2] = ["9.9.9.9:5000", "8.8.8.8:9"];
/// The longest that it may take after the link has healed until everybody hears everybody.
const RECOVERY: Time = 200 * SECOND;

enum Event {
    /// A packet arrives at where `to` is for the public.
    Arrive {
        from: SocketAddr,
        to: SocketAddr,
        bytes: Vec<u8>,
    },
    Caller(usize),
    Peer(usize),
    Stop,
    Start,
    Reboot(Party),
    Deny(bool),
    Link(Link),
    HangUp(usize),
}

/// The server while it runs, and what it has granted.
struct Server {
    world: World,
    ledger: Ledger,
    /// Relay sockets that were given back.
    closed: Vec<RelayId>,
}

pub(crate) struct Sim {
    now: Time,
    random: Random,
    link: Link,
    queue: BTreeMap<(Time, u64), Event>,
    sequence: u64,
    server: Option<Server>,
    starts: u16,
    keeps: bool,
    denies: bool,
    callers: Vec<Caller>,
    nats: Vec<Nat>,
    peer_nat: Nat,
    peer_sends_every: Time,
    /// When what arrived last at a peer from a caller had been sent.
    heard: BTreeMap<(usize, usize), Time>,
    seen: BTreeMap<String, u32>,
    trace: bool,
}

/// Runs a seed to its end; how often what was seen.
pub(crate) fn run(seed: u64, trace: bool) -> BTreeMap<String, u32> {
    let mut sim = Sim::new(seed, trace);
    let heals = sim.plan();
    let ends = heals + RECOVERY + 40 * SECOND;
    sim.until(ends);
    sim.everybody_hears_everybody(heals + RECOVERY);
    (0..CALLERS.len()).for_each(|caller| sim.schedule(ends, Event::HangUp(caller)));
    sim.until(ends + 60 * SECOND);
    assert!(sim.callers.iter().all(|caller| caller.gone), "somebody could not hang up");
    sim.until(ends + 4000 * SECOND);
    sim.nothing_is_left();
    sim.seen
}

impl Sim {
    fn new(seed: u64, trace: bool) -> Sim {
        let mut random = Random::new(seed);
        let random = &mut random;
        let nats = CALLERS.iter().map(|external| Nat::new(external, random)).collect();
        let callers = (0..CALLERS.len()).map(|index| {
            let others = [Party::Peer(0), Party::Peer(1), Party::Caller(1 - index)];
            let starts = random.within(0..5000);
            Caller::new(index, starts, Habits::new(random), &others)
        });
        let callers = callers.collect();
        Sim {
            now: 0,
            link: Link::bad(random),
            queue: BTreeMap::new(),
            sequence: 0,
            server: None,
            starts: 0,
            keeps: random.permille(500),
            denies: false,
            callers,
            nats,
            peer_nat: Nat::new("8.8.8.8", random),
            peer_sends_every: random.within(2000..12_000),
            heard: BTreeMap::new(),
            seen: BTreeMap::new(),
            trace,
            random: random.clone(),
        }
    }

    /// Everything that goes wrong; when the link heals.
    fn plan(&mut self) -> Time {
        let heals = self.random.within(1..900) * SECOND;
        self.start();
        for (index, address) in PEERS.iter().enumerate() {
            self.schedule(0, Event::Peer(index));
            for caller in &mut self.callers {
                caller.learn(Party::Peer(index), Some(addr(address)));
            }
        }
        for _ in 0..self.random.below(4) {
            let stops = self.random.within(0..heals);
            self.schedule(stops, Event::Stop);
            let pause = self.random.within(0..20_000);
            self.schedule((stops + pause).min(heals), Event::Start);
        }
        for _ in 0..self.random.below(4) {
            let at = self.random.within(0..heals);
            let whose = [Party::Caller(0), Party::Caller(1), Party::Peer(1)][self.random.below(3)];
            self.schedule(at, Event::Reboot(whose));
        }
        for _ in 0..self.random.below(3) {
            let from = self.random.within(0..heals);
            let until = (from + self.random.within(0..60_000)).min(heals);
            self.schedule(from, Event::Deny(true));
            self.schedule(until, Event::Deny(false));
        }
        for _ in 0..self.random.below(3) {
            let at = self.random.within(0..heals);
            let link = Link::bad(&mut self.random);
            self.schedule(at, Event::Link(link));
        }
        self.schedule(heals, Event::Deny(false));
        self.schedule(heals, Event::Start);
        self.schedule(heals, Event::Link(Link::good()));
        heals
    }

    fn schedule(&mut self, at: Time, event: Event) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), event);
    }

    fn note(&mut self, what: &str) {
        *self.seen.entry(what.into()).or_default() += 1;
    }

    /// A line of the trace, when there is one.
    fn tell(&self, line: impl FnOnce() -> String) {
        if self.trace {
            println!("{:>9.3} {}", Duration::from_millis(self.now).as_secs_f64(), line());
        }
    }

    fn until(&mut self, end: Time) {
        self.wake_callers();
        while let Some(first) = self.queue.first_entry().filter(|first| first.key().0 <= end) {
            self.now = first.key().0;
            let event = first.remove();
            self.tick_server();
            self.happen(event);
            self.wake_callers();
        }
        self.now = end;
        self.tick_server();
    }

    /// Signaling takes no time; and who has something to do is called when it is time.
    fn wake_callers(&mut self) {
        let relayed: Vec<_> = self.callers.iter().map(|caller| caller.relayed).collect();
        for index in 0..self.callers.len() {
            self.callers[index].learn(Party::Caller(1 - index), relayed[1 - index]);
            let deadline = self.callers[index].deadline();
            if deadline < self.callers[index].woken {
                self.callers[index].woken = deadline;
                self.schedule(deadline.max(self.now), Event::Caller(index));
            }
            let port = self.callers[index].port;
            for bytes in self.callers[index].take_out() {
                let from = self.nats[index].outbound(self.now, port, addr(SERVER));
                self.send(from, addr(SERVER), bytes);
            }
        }
    }

    fn send(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        for delay in self.link.delays(&mut self.random) {
            self.schedule(self.now + delay, Event::Arrive { from, to, bytes: bytes.clone() });
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive { from, to, bytes } => self.arrive(from, to, bytes),
            Event::Caller(index) => {
                self.callers[index].woken = Time::MAX;
                self.callers[index].tick(self.now, &mut self.random);
            }
            Event::Peer(index) => self.peer_sends(index),
            Event::Stop => self.stop(),
            Event::Start => self.start(),
            Event::Reboot(party) => {
                self.tell(|| format!("the translator of {party:?} reboots"));
                self.note("reboot");
                match party {
                    Party::Caller(index) => self.nats[index].reboot(),
                    Party::Peer(_) => self.peer_nat.reboot(),
                }
            }
            Event::Deny(denies) => self.deny(denies),
            Event::Link(link) => {
                self.tell(|| format!("the link is {link:?}"));
                self.link = link;
            }
            Event::HangUp(index) => self.callers[index].hang_up(self.now),
        }
    }

    fn peer_sends(&mut self, index: usize) {
        self.schedule(self.now + self.peer_sends_every, Event::Peer(index));
        for caller in 0..self.callers.len() {
            let Some(address) = self.callers[caller].relayed else { continue };
            let payload = Payload { from: Party::Peer(index), to: Party::Caller(caller), address, sent: self.now };
            let from = if index == 0 { addr(PEERS[0]) } else { self.peer_nat.outbound(self.now, 7000, address) };
            let bytes = payload.encode(self.random.below(50));
            self.send(from, address, bytes);
        }
    }

    // The server

    fn rules(&self) -> Live {
        let deny = if self.denies { vec![format!("{}/32", addr(PEERS[0]).ip()).parse().unwrap()] } else { vec![] };
        Live { peers: PeerPolicy::new(&[], &deny), channel_keeps_permission: self.keeps, ..live() }
    }

    /// A server that knows nothing of an earlier one: other nonces, other ports.
    fn start(&mut self) {
        if self.server.is_some() {
            return;
        }
        self.starts += 1;
        self.tell(|| format!("the server starts for the {}. time", self.starts));
        self.note("start");
        let first = 49_152 + 200 * self.starts;
        let seed = self.random.bytes(32).try_into().unwrap();
        let nonce_key = self.random.bytes(32).try_into().unwrap();
        let relays = vec![RelayAddress { local: RELAY_V4.parse().unwrap(), external: None }];
        let ports = first..=first + 199;
        let config = Config { relays, ports: PortShare::whole(ports.clone()), seed, nonce_key, ..config() };
        let mut world = World::with(config, self.rules());
        world.advance(Duration::from_millis(self.now));
        self.server = Some(Server { world, ledger: Ledger::new(self.keeps, ports), closed: Vec::new() });
    }

    fn stop(&mut self) {
        if self.server.take().is_some() {
            self.tell(|| "the server is gone, with all it knew".into());
        }
    }

    fn deny(&mut self, denies: bool) {
        if self.denies == denies {
            return;
        }
        self.denies = denies;
        self.tell(|| format!("{} is {}", PEERS[0], if denies { "denied" } else { "allowed" }));
        let rules = self.rules();
        if let Some(server) = &mut self.server {
            server.world.set_live(rules);
            if denies {
                server.ledger.deny(addr(PEERS[0]).ip());
            }
        }
    }

    /// Brings the server to the present, and compares what it holds.
    fn tick_server(&mut self) {
        let Some(server) = &mut self.server else { return };
        let began = turnwell::relay::Mono(1_000_000_000_000);
        let passed = server.world.now.mono.since(began);
        server.world.advance(Duration::from_millis(self.now) - passed);
        server.world.now.unix = EPOCH + self.now / 1000;
        server.drain(self.now);
        assert!(!server.ledger.is_overdue(self.now), "something outlived its time");
        let usage = server.world.relay.usage();
        assert_eq!([usage.allocations, usage.flows], server.ledger.usage(self.now), "allocations and flow rows");
    }

    /// A packet has arrived at a public address.
    fn arrive(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        if to == addr(SERVER) {
            self.at_server(from, &bytes);
        } else if is_relay(to.ip()) {
            let relay = self.server.as_ref().and_then(|server| server.ledger.relay_at(to));
            if let Some(relay) = relay {
                self.at_relay(relay, from, &bytes);
            }
        } else if let Some(index) = self.nats.iter().position(|nat| nat.is(to.ip())) {
            let inside = self.nats[index].inbound(self.now, to.port(), from);
            if inside == Some(self.callers[index].port) && !self.callers[index].gone {
                self.callers[index].receive(self.now, &bytes);
            }
        } else {
            self.at_peer(from, to, &bytes);
        }
    }

    fn at_server(&mut self, from: SocketAddr, bytes: &[u8]) {
        let Some(server) = &mut self.server else { return };
        let client = FiveTuple { client: from, listener: ListenerId(0), stream: None };
        let expected = server.ledger.client_sends(self.now, &client, bytes);
        let outcome = server.world.packet(&client, bytes);
        if let Outcome::Reply(reply) = outcome {
            assert!(expected.is_none(), "data was answered");
            server.drain(self.now);
            if reply.code() == 200 {
                let relay = if server.has_opened() { server.world.last_relay() } else { RelayId(0) };
                server.ledger.granted(self.now, &client, bytes, &reply, relay);
            }
            self.tell(|| format!("{from} asks {:?}, gets {}", reply.message().method(), reply.code()));
            self.send(addr(SERVER), from, reply.bytes);
            return;
        }
        self.relayed(outcome, expected, &format!("{from}"));
    }

    fn at_relay(&mut self, relay: RelayId, from: SocketAddr, bytes: &[u8]) {
        let Some(server) = &mut self.server else { return };
        let expected = server.ledger.peer_sends_to(self.now, relay, from, bytes);
        let outcome = server.world.peer_sends(relay, &from.to_string(), bytes);
        self.relayed(outcome, expected, &format!("{from}"));
    }

    /// Data went where the ledger says, or nowhere because the ledger says so; it goes on.
    fn relayed(&mut self, outcome: Outcome, expected: Option<Outcome>, from: &str) {
        self.tell(|| format!("data of {from}: {outcome:?}"));
        match (outcome, expected) {
            (Outcome::Discard(reason), None) => self.note(&format!("{reason:?}")),
            (outcome, expected) => {
                assert_eq!(Some(&outcome), expected.as_ref(), "data of {from}");
                match outcome {
                    Outcome::ToPeer { relay, peer, data } => {
                        self.note("to peer");
                        let source = self.server.as_ref().unwrap().ledger.address_of(relay);
                        self.send(source, peer, data);
                    }
                    // A relay port of another worker, were there one.
                    Outcome::ToSibling { .. } => self.note("to nobody"),
                    Outcome::ToClient { client, received } => {
                        self.note("to client");
                        self.send(addr(SERVER), client.client, encode(received));
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    fn at_peer(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let peer = usize::from(self.peer_nat.is(to.ip()));
        if peer == 1 && self.peer_nat.inbound(self.now, to.port(), from).is_none() {
            return self.note("filtered");
        }
        let payload = Payload::decode(bytes);
        assert_eq!((payload.to, payload.address), (Party::Peer(peer), to), "to the wrong peer");
        let Party::Caller(caller) = payload.from else { panic!("{payload:?} from {from}") };
        let heard = self.heard.entry((peer, caller)).or_default();
        *heard = payload.sent.max(*heard);
    }

    // The end

    fn everybody_hears_everybody(&mut self, since: Time) {
        for caller in &self.callers {
            for other in [Party::Peer(0), Party::Peer(1), Party::Caller(1 - caller.index)] {
                let heard = caller.heard.get(&other).copied().unwrap_or(0);
                assert!(heard >= since, "caller {} heard {other:?} last at {heard}, not since {since}", caller.index);
            }
            for peer in 0..PEERS.len() {
                let heard = self.heard.get(&(peer, caller.index)).copied().unwrap_or(0);
                assert!(heard >= since, "peer {peer} heard caller {} last at {heard}, not since {since}", caller.index);
            }
        }
    }

    fn nothing_is_left(&mut self) {
        let server = self.server.as_mut().expect("the server runs in the end");
        server.world.assert_empty();
        let mut opened: Vec<_> = server.opened();
        opened.sort_unstable();
        server.closed.sort_unstable();
        assert_eq!(server.closed, opened, "every relay socket is closed once");
        let tally = server.world.relay.tally();
        let counted = (tally.sent_packets, tally.received_packets);
        assert_eq!(counted, (server.ledger.total.sent_packets, server.ledger.total.received_packets));
        for caller in &self.callers {
            for (what, times) in &caller.seen {
                *self.seen.entry(format!("caller {what}")).or_default() += times;
            }
        }
    }
}

/// As a Data indication or ChannelData; its bytes are read by the harness and written here again.
fn encode(received: Received) -> Vec<u8> {
    match received {
        Received::Channel { number, data } => channel_data(number, &data),
        Received::Indication { peer, data } => {
            let mut bytes = Vec::new();
            Writer::new(&mut bytes, Class::Indication, Method::DATA, TransactionId([6; 12]))
                .xor_address(AttributeType::XOR_PEER_ADDRESS, peer)
                .attribute(AttributeType::DATA, &data);
            bytes
        }
        Received::Icmp { .. } => panic!("nobody reported an ICMP error"),
    }
}

impl Server {
    fn drain(&mut self, now: Time) {
        for event in self.world.events() {
            match event {
                Happened::Ended(record, reason) => self.ledger.ended(now, &record, reason),
                Happened::Close(relay, _) => self.closed.push(relay),
                _ => {}
            }
        }
        for (client, traffic) in self.ledger.traffic() {
            assert_eq!(self.world.relay.traffic(client), Some(traffic), "the counters of {client:?}");
        }
    }

    fn has_opened(&self) -> bool {
        self.world.wants.iter().any(|want| matches!(want, Want::Bind(_)))
    }

    /// The relay sockets that were opened: numbered from 100 on.
    fn opened(&self) -> Vec<RelayId> {
        let count = self.world.wants.iter().filter(|want| matches!(want, Want::Bind(_))).count();
        (100..).map(RelayId).take(count).collect()
    }
}
