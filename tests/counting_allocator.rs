//! No packet is relayed at the price of a memory allocation, no start costs more for more ports, and allocations that
//! do nothing cost nothing.

#![allow(unsafe_code, reason = "an allocator is unsafe to write")]
#![allow(clippy::disallowed_types, reason = "the bans are for the core")]

#[path = "common/caller.rs"]
mod caller;
mod common;
#[path = "common/engine.rs"]
mod engine;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use caller::{Caller, socket};
use engine::{Side, World};
use turnwell::net;
use turnwell::relay::{Action, FiveTuple, PeerAddr, Relay};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Counts what this thread asks for and, while it watches, what the workers ask for.
struct Counting;

static WATCHING: AtomicBool = AtomicBool::new(false);
static WORKERS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static MINE: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: all memory is the system allocator's; counting asks for none.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        MINE.set(MINE.get() + 1);
        if WATCHING.load(Relaxed) && in_worker() {
            WORKERS.fetch_add(1, Relaxed);
        }
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `System.alloc` with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Asks the kernel: `std::thread::current` may allocate.
fn in_worker() -> bool {
    let mut name = [0u8; 16];
    // SAFETY: PR_GET_NAME writes at most 16 bytes.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    name.starts_with(b"worker-")
}

/// How often this thread asked for memory meanwhile.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = MINE.get();
    work();
    MINE.get() - before
}

const PAYLOAD: [u8; 200] = [9; 200];
const CHANNEL: u16 = 0x4001;

fn peer() -> SocketAddr {
    SocketAddr::from(([9, 9, 9, 9], 5000))
}

#[test]
fn a_million_packets_through_the_engine_allocate_nothing() {
    let mut world = World::new();
    let [mut one, mut two, mut three] = [1, 2, 3].map(|port| world.allocate(port));
    world.permit(&mut one, peer());
    world.bind(&mut one, CHANNEL, peer());
    world.permit(&mut two, peer());
    // A hairpin by indications, and one by channels.
    world.permit(&mut two, three.relayed);
    world.permit(&mut three, two.relayed);
    world.permit(&mut one, three.relayed);
    world.permit(&mut three, one.relayed);
    world.bind(&mut one, CHANNEL + 1, three.relayed);
    world.bind(&mut three, CHANNEL, one.relayed);
    let packets = [
        (one.at, common::channel_data(CHANNEL, &PAYLOAD)),
        (two.at, common::send_indication(peer(), &PAYLOAD)),
        (two.at, common::send_indication(three.relayed, &PAYLOAD)),
        (one.at, common::channel_data(CHANNEL + 1, &PAYLOAD)),
    ];
    let rounds = |world: &mut World, count: u32| {
        for _ in 0..count {
            packets.iter().for_each(|(from, packet)| relayed_for_client(world, from, packet));
            [&one, &two].into_iter().for_each(|side| relayed_from_peer(world, side));
        }
    };
    rounds(&mut world, 100);
    assert_eq!(allocations(|| rounds(&mut world, 1_000_000 / 6 + 1)), 0);
}

fn relayed_for_client(world: &mut World, from: &FiveTuple, packet: &[u8]) {
    world.out.clear();
    let action = world.relay.handle_client(world.now, from, packet, &mut world.out);
    assert!(matches!(action, Action::ToPeer { .. } | Action::ToClient { .. }), "{action:?}");
}

fn relayed_from_peer(world: &mut World, side: &Side) {
    world.out.clear();
    let action = world.relay.handle_peer(world.now, side.relay, PeerAddr(peer()), &PAYLOAD, &mut world.out);
    assert!(matches!(action, Action::ToClient { .. }), "{action:?}");
}

#[test]
fn an_engine_with_every_port_starts_like_one_with_a_single_port() {
    let start = |first_port| {
        let (config, live) = (engine::config(first_port), common::live());
        allocations(|| drop(Relay::new(config, live)))
    };
    assert_eq!(start(1), start(65_535));
    assert!(start(1) < 32, "{} allocations", start(1));
}

#[test]
fn twenty_thousand_idle_allocations_cost_nothing() {
    let mut world = World::new();
    for port in 1..=20_000 {
        world.allocate(port);
    }
    assert_eq!(world.relay.usage().deadlines, 20_000);
    let deadline = world.relay.poll_timeout();
    let asked = allocations(|| {
        for _ in 0..100_000 {
            world.relay.handle_timeout(world.now);
            assert_eq!(world.relay.poll_timeout(), deadline);
        }
    });
    assert_eq!(asked, 0);
    assert!(world.relay.poll_event().is_none());
}

/// Packets through the real worker.
const PACKETS: usize = 200_000;
/// Packets under way.
const WINDOW: usize = 50;
/// Tables and buffers that still grow, whatever the number of packets.
const GROWTH: u64 = 64;

#[test]
fn packets_through_a_worker_allocate_nothing() {
    let server = net::start(common::net_config("127.0.0.1:0", 1), common::live()).expect("a running worker");
    let peer = socket([127, 0, 0, 1].into());
    let peer_address = peer.local_addr().expect("its address");
    WATCHING.store(true, Relaxed);
    let mut one = Caller::new(server.listening()[0]);
    let mut two = Caller::new(server.listening()[0]);
    for other in [peer_address, two.relayed] {
        one.permit(other);
    }
    one.bind(CHANNEL, peer_address);
    for other in [peer_address, one.relayed] {
        two.permit(other);
    }
    let up = common::channel_data(CHANNEL, &PAYLOAD);
    let sent = common::send_indication(peer_address, &PAYLOAD);
    let across = common::send_indication(two.relayed, &PAYLOAD);
    let rounds = |count: usize| {
        for _ in 0..count {
            pass(&one.socket, one.server, &up, &peer);
            pass(&peer, one.relayed, &PAYLOAD, &one.socket);
            pass(&two.socket, two.server, &sent, &peer);
            pass(&peer, two.relayed, &PAYLOAD, &two.socket);
            pass(&one.socket, one.server, &across, &two.socket);
        }
    };
    let each = 5 * WINDOW;
    rounds(5_000 / each);
    // What was asked for up to here shows that the workers are seen at all.
    assert_ne!(WORKERS.swap(0, Relaxed), 0);
    rounds(PACKETS / each);
    WATCHING.store(false, Relaxed);
    let asked = WORKERS.load(Relaxed);
    assert!(asked <= GROWTH, "{asked} allocations for {PACKETS} packets");
    server.stop();
}

/// A window of packets from here to there.
fn pass(from: &UdpSocket, to: SocketAddr, packet: &[u8], arrives: &UdpSocket) {
    let mut buffer = [0; 2000];
    for _ in 0..WINDOW {
        from.send_to(packet, to).expect("a packet sent");
    }
    for _ in 0..WINDOW {
        arrives.recv_from(&mut buffer).expect("a packet relayed");
    }
}
