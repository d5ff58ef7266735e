//! The engine's hot functions, one scenario at a time, for `scripts/bench-instructions` to run under callgrind.
//!
//! `engine SCENARIO COUNT` does one thing COUNT times; what the set-up costs falls out when the counts of two runs are
//! subtracted. Without arguments it names the scenarios.

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "../tests/common/engine.rs"]
mod engine;

use std::hint::black_box;
use std::net::SocketAddr;

use engine::World;
use turnwell::relay::{Event, FiveTuple, Limits, PeerAddr};

/// Payload of a packet: a frame of voice.
const PAYLOAD: [u8; 200] = [9; 200];
const CHANNEL: u16 = 0x4001;
/// Allocations that are there and do nothing.
const IDLE: u16 = 20_000;

/// Prepares, then does it so many times.
type Scenario = fn(u64);

const SCENARIOS: &[(&str, Scenario)] = &[
    ("channel-to-peer", |count| from_client(count, World::new(), &common::channel_data(CHANNEL, &PAYLOAD))),
    ("channel-to-peer-limited", |count| from_client(count, limited(), &common::channel_data(CHANNEL, &PAYLOAD))),
    ("send-to-peer", |count| from_client(count, World::new(), &common::send_indication(peer(), &PAYLOAD))),
    ("peer-to-channel", |count| from_peer(count, true)),
    ("peer-to-data", |count| from_peer(count, false)),
    ("hairpin-channel", |count| hairpin(count, true)),
    ("hairpin-send", |count| hairpin(count, false)),
    ("binding", |count| repeat(count, &mut World::new(), &engine::client_at(1), &common::binding())),
    ("binding-limited", |count| repeat(count, &mut limited(), &engine::client_at(1), &common::binding())),
    ("allocate-challenge", |count| repeat(count, &mut World::new(), &engine::client_at(1), &common::bare_allocate())),
    ("idle-1", |count| idle(count, 1)),
    ("idle-20000", |count| idle(count, IDLE)),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.as_slice() {
        [name, count] => {
            let found = SCENARIOS.iter().find(|(other, _)| other == name);
            let (_, scenario) = found.unwrap_or_else(|| panic!("no scenario {name}"));
            scenario(count.parse().expect("a number"));
        }
        _ => SCENARIOS.iter().for_each(|(name, _)| println!("{name}")),
    }
}

fn peer() -> SocketAddr {
    SocketAddr::from(([9, 9, 9, 9], 5000))
}

/// Every limit there is, and none is reached.
fn limited() -> World {
    let limits = Limits {
        allocation_bandwidth: 1_000_000_000_000,
        user_bandwidth: 1_000_000_000_000,
        unauthenticated_replies: 1_000_000_000,
        ..Limits::default()
    };
    World::with(limits)
}

/// What a client sends to a peer through an allocation that has a channel.
fn from_client(count: u64, mut world: World, packet: &[u8]) {
    let mut side = world.allocate(1);
    world.permit(&mut side, peer());
    world.bind(&mut side, CHANNEL, peer());
    repeat(count, &mut world, &side.at, packet);
}

fn from_peer(count: u64, channel: bool) {
    let mut world = World::new();
    let mut side = world.allocate(1);
    world.permit(&mut side, peer());
    if channel {
        world.bind(&mut side, CHANNEL, peer());
    }
    let World { relay, now, out, .. } = &mut world;
    for _ in 0..count {
        out.clear();
        let _ = black_box(relay.handle_peer(*now, side.relay, PeerAddr(peer()), black_box(&PAYLOAD), out));
    }
    assert_eq!(relay.tally().received_packets, count);
}

fn hairpin(count: u64, channels: bool) {
    let mut world = World::new();
    let (mut one, mut other) = (world.allocate(1), world.allocate(2));
    world.permit(&mut one, other.relayed);
    world.permit(&mut other, one.relayed);
    let mut packet = common::send_indication(other.relayed, &PAYLOAD);
    if channels {
        world.bind(&mut one, CHANNEL, other.relayed);
        world.bind(&mut other, CHANNEL, one.relayed);
        packet = common::channel_data(CHANNEL, &PAYLOAD);
    }
    repeat(count, &mut world, &one.at, &packet);
    assert_eq!(world.relay.tally().received_packets, count);
}

fn repeat(count: u64, world: &mut World, from: &FiveTuple, packet: &[u8]) {
    for _ in 0..count {
        world.out.clear();
        let _ = black_box(world.relay.handle_client(world.now, from, black_box(packet), &mut world.out));
        // A challenge and a refusal are told as events, as the worker takes them.
        while let Some(event) = world.relay.poll_event() {
            if let Event::Draw { relay, direction, bytes, .. } = event {
                world.relay.drawn(relay, direction, bytes);
            }
            black_box(event);
        }
    }
}

/// One turn of the worker in which nothing is due.
fn idle(count: u64, allocations: u16) {
    let mut world = World::new();
    for port in 1..=allocations {
        world.allocate(port);
    }
    for _ in 0..count {
        black_box(world.relay.poll_timeout());
        world.relay.handle_timeout(black_box(world.now));
    }
    assert_eq!(world.relay.usage().allocations, usize::from(allocations));
}
