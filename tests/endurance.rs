//! What must not grow does not: memory, ports and descriptors after a million forged packets and after hundreds of
//! thousands of allocations; and nobody is flooded through this server.

#![allow(unsafe_code, reason = "an allocator is unsafe to write")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "the bans are for the core")]

mod common;
#[path = "common/engine.rs"]
mod engine;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use common::Client;
use turnwell::net;
use turnwell::relay::{
    Action, Discard, Event, FiveTuple, Lifetimes, Limits, ListenerId, Live, METHODS, Mono, Now, Opened, Relay, RelayId,
    ReservationToken, Usage, Want,
};
use turnwell::wire::Method;

#[global_allocator]
static ALLOCATOR: Holding = Holding;

/// Counts the bytes that this thread holds.
struct Holding;

thread_local! {
    static HELD: Cell<i64> = const { Cell::new(0) };
}

// SAFETY: all memory is the system allocator's; counting asks for none.
unsafe impl GlobalAlloc for Holding {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.set(HELD.get() + size(layout));
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.set(HELD.get() - size(layout));
        // SAFETY: `pointer` came from `System.alloc` with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

fn size(layout: Layout) -> i64 {
    i64::try_from(layout.size()).unwrap_or(i64::MAX)
}

/// Bytes more than before that this thread holds after some work.
fn growth(work: impl FnOnce()) -> i64 {
    let before = HELD.get();
    work();
    HELD.get() - before
}

/// An engine and a host that opens what it wants opened.
struct World {
    relay: Relay,
    now: Now,
    out: Vec<u8>,
    relays: u32,
    reserved: HashMap<ReservationToken, SocketAddr>,
}

impl World {
    fn new(limits: Limits) -> World {
        let live = Live { limits, ..(*common::live()).clone() };
        World {
            relay: Relay::new(engine::config(49_152), Arc::new(live)),
            now: Now { mono: Mono(1_000_000_000_000), unix: 1_700_000_000 },
            out: Vec::with_capacity(64 * 1024),
            relays: 0,
            reserved: HashMap::new(),
        }
    }

    /// Hands a packet over; what comes back stands in `out`.
    fn packet(&mut self, from: &FiveTuple, packet: &[u8]) -> Result<Range<usize>, Discard> {
        self.out.clear();
        let mut action = self.relay.handle_client(self.now, from, packet, &mut self.out);
        while let Action::Open(pending) = action {
            let opened = self.open(pending.want());
            action = self.relay.opened(self.now, pending, Ok(opened), &mut self.out);
        }
        self.carry_out_events();
        match action {
            Action::Discard(reason) => Err(reason),
            Action::Reply { out } => Ok(out),
            other => panic!("neither an answer nor silence but {other:?}"),
        }
    }

    fn open(&mut self, want: Want) -> Opened {
        let address = match want {
            Want::Bind(address) | Want::Listen(address) => address,
            Want::Reserve(address, token) => {
                self.reserved.insert(token, address);
                return Opened::Reserved;
            }
            Want::Claim(token) => self.reserved.remove(&token).expect("a reservation"),
        };
        self.relays += 1;
        Opened::Relay(RelayId(self.relays), address)
    }

    fn carry_out_events(&mut self) {
        while let Some(event) = self.relay.poll_event() {
            if let Event::Unreserve(token, _) = event
                && let Some(address) = self.reserved.remove(&token)
            {
                self.relay.port_returned(address);
            }
        }
    }

    fn advance(&mut self, duration: Duration) {
        self.now.mono = self.now.mono.after(duration);
        self.now.unix += duration.as_secs();
        self.relay.handle_timeout(self.now);
        self.carry_out_events();
    }

    /// A request that is answered with success.
    #[track_caller]
    fn ask(&mut self, from: &FiveTuple, request: &[u8]) -> Vec<u8> {
        let reply = self.packet(from, request).expect("an answer");
        let reply = self.out[reply].to_vec();
        assert!(common::is_success(&reply), "{reply:02x?}");
        reply
    }

    /// A client that knows its nonce.
    fn client(&mut self, from: &FiveTuple) -> Client {
        let mut client = Client::new();
        let request = client.allocate();
        let challenge = self.packet(from, &request).expect("a challenge");
        client.challenged(&self.out[challenge]);
        client
    }
}

/// The limits that a server has when its operator says nothing.
fn defaults() -> Limits {
    Limits { unauthenticated_replies: 500, ..Limits::default() }
}

fn source(number: u32) -> FiveTuple {
    let port = u16::try_from(number % 60_000).unwrap() + 1000;
    // From 11.0.0.0 on: global unicast, and none of the addresses of the tests.
    let client = SocketAddr::from((Ipv4Addr::from_bits(0x0b00_0000 + number), port));
    FiveTuple { client, listener: ListenerId(0), stream: None }
}

const SOURCES: u32 = 1_000_000;

#[test]
fn a_million_spoofed_sources_leave_nothing_behind() {
    let mut world = World::new(defaults());
    let forgeries = common::forgeries();
    let flood = |world: &mut World, sources: Range<u32>| {
        let mut kinds = forgeries.iter().cycle();
        for number in sources {
            world.now.mono = world.now.mono.after(Duration::from_micros(10));
            let _ = world.packet(&source(number), kinds.next().expect("another kind"));
        }
    };
    flood(&mut world, 0..1000);
    let grown = growth(|| flood(&mut world, 1000..SOURCES));
    assert!(grown < 64 * 1024, "{grown} bytes more");
    assert_eq!(world.relay.usage(), Usage::default());
    let tally = world.relay.tally();
    assert!(tally.discards[Discard::NoAllocation.index()] > u64::from(SOURCES) / 4, "Send and ChannelData");
    assert!(tally.challenges > u64::from(SOURCES) / 4 && tally.auth_stale_nonce > u64::from(SOURCES) / 4);
}

/// A million packets in the name of ten victims: each gets its budget, and not one packet more.
#[test]
fn nobody_is_flooded_through_the_server() {
    let mut world = World::new(defaults());
    let forgeries = common::forgeries();
    let (victims, seconds) = (10, 10);
    let (mut bytes_in, mut bytes_out) = (vec![0; victims], vec![0; victims]);
    let mut answers = vec![0_u64; victims];
    for number in 0..SOURCES {
        world.now.mono = world.now.mono.after(Duration::from_secs(seconds) / SOURCES);
        let victim = usize::try_from(number).unwrap() % victims;
        // Another port each time, as an attacker would.
        let mut from = source(number);
        from.client.set_ip(Ipv4Addr::from_bits(0x0b00_0000 + u32::try_from(victim).unwrap()).into());
        let packet = &forgeries[usize::try_from(number).unwrap() / victims % forgeries.len()];
        bytes_in[victim] += packet.len();
        if let Ok(reply) = world.packet(&from, packet) {
            bytes_out[victim] += reply.len();
            answers[victim] += 1;
        }
    }
    // Two seconds' worth at once, and the rate.
    let most = 500 * (2 + seconds) + 1;
    assert!(answers.iter().all(|answers| *answers > 500 * seconds && *answers <= most), "{answers:?}");
    assert!(bytes_out.iter().zip(&bytes_in).all(|(out, sent)| out <= sent), "{bytes_out:?} for {bytes_in:?}");
    let muted = world.relay.tally().discards[Discard::ReplyBudget.index()];
    assert!(muted > u64::from(SOURCES) / 2, "{muted}");
}

const CYCLES: u32 = 100_000;

/// Runs so many cycles; nothing may be left of any. In the first ones tables grow to what they need.
#[track_caller]
fn nothing_is_left_after(cycle: impl Fn(&mut World, u32)) {
    let mut world = World::new(defaults());
    let mut rounds = |rounds: Range<u32>| {
        rounds.for_each(|number| cycle(&mut world, number));
        world.advance(Duration::from_secs(3600));
        assert_eq!(world.relay.usage(), Usage::default());
        assert_eq!(world.relay.poll_timeout(), None);
        assert!(world.reserved.is_empty());
    };
    rounds(0..CYCLES / 10);
    let grown = growth(|| rounds(CYCLES / 10..CYCLES));
    assert!(grown < 4096, "{grown} bytes more");
    assert_eq!(world.relay.tally().quota_ports, 0, "a port was always free");
}

#[test]
fn allocations_that_expire_leave_nothing_behind() {
    nothing_is_left_after(|world, number| {
        let from = source(number);
        let mut client = world.client(&from);
        let request = client.allocate();
        world.ask(&from, &request);
        // Tables that are never more than half full are tidied up, not enlarged.
        let at_a_time = if number < CYCLES / 10 { 1000 } else { 400 };
        if (number + 1).is_multiple_of(at_a_time) {
            assert_eq!(world.relay.usage().ports, usize::try_from(at_a_time).unwrap());
            world.advance(Duration::from_secs(601));
        }
    });
}

#[test]
fn even_ports_without_a_reservation_leave_nothing_behind() {
    nothing_is_left_after(|world, number| {
        let from = source(number);
        let mut client = world.client(&from);
        let request = client.allocate_even(false);
        let reply = world.ask(&from, &request);
        assert!(common::relayed(&reply).port().is_multiple_of(2) && common::token(&reply).is_none());
        let request = client.release();
        world.ask(&from, &request);
        assert_eq!(world.relay.usage().ports, 0);
    });
}

/// Of two reservations one is claimed; the other runs out, before or after the allocation that made it.
#[test]
fn even_ports_with_a_reservation_leave_nothing_behind() {
    nothing_is_left_after(|world, number| {
        let from = source(number);
        let mut client = world.client(&from);
        let request = client.allocate_even(true);
        let reply = world.ask(&from, &request);
        let token = common::token(&reply).expect("a token");
        if number % 2 == 0 {
            let other = source(number + CYCLES);
            let mut claimer = world.client(&other);
            let request = claimer.allocate_reserved(&token);
            let claimed = world.ask(&other, &request);
            assert_eq!(common::relayed(&claimed).port(), common::relayed(&reply).port() + 1);
            let request = claimer.release();
            world.ask(&other, &request);
        } else if number % 4 == 1 {
            world.advance(Duration::from_secs(31));
        }
        let request = client.release();
        world.ask(&from, &request);
        if number % 100 == 99 {
            world.advance(Duration::from_secs(31));
            assert_eq!(world.relay.usage(), Usage::default());
        }
    });
}

/// The same through workers and sockets: ports, descriptors and permits come back.
#[test]
fn descriptors_and_ports_come_back() {
    let lifetimes = Lifetimes { reservation: Duration::from_millis(20), ..Lifetimes::default() };
    let live = Arc::new(Live { lifetimes, ..(*common::live()).clone() });
    let server = net::start(common::net_config("127.0.0.1:0", 2), live).expect("running workers");
    let to = server.listening()[0];
    let descriptors = || std::fs::read_dir("/proc/self/fd").expect("the descriptors").count();
    // After so many every worker has had its first packet and has opened whatever it keeps.
    let first: u64 = (0..60).map(|number| even_ports(to, number)).sum();
    until_nothing_is_held(&server, first);
    let before = descriptors();
    let others: u64 = (0..300).map(|number| even_ports(to, number)).sum();
    until_nothing_is_held(&server, first + others);
    assert_eq!(descriptors(), before);
    server.stop();
}

/// EVEN-PORT without a reservation, with one that is claimed, with one that nobody claims. Says how many allocations
/// were ended.
fn even_ports(server: SocketAddr, number: u32) -> u64 {
    let mut ended = 1;
    let mut caller = Caller::new(server);
    let reply = caller.ask(|client| client.allocate_even(!number.is_multiple_of(3)));
    if number % 3 == 1 {
        let token = common::token(&reply).expect("a token");
        let mut claimer = Caller::new(server);
        // Late, perhaps: then it is 508, and the port comes back all the same.
        claimer.ask(|client| client.allocate_reserved(&token));
        ended += u64::from(common::is_success(&claimer.ask(Client::release)));
    }
    assert!(common::is_success(&caller.ask(Client::release)));
    ended
}

/// Every worker has told of its last end, and reservations have run out. Sockets are closed before a worker says so.
fn until_nothing_is_held(server: &net::Server, ended: u64) {
    let refresh = METHODS.iter().position(|(method, _)| *method == Method::REFRESH).expect("Refresh");
    let is_over =
        |counters: &net::Snapshot| counters.usage == Usage::default() && counters.tally.responses[refresh][0] == ended;
    common::until(server, is_over);
}

/// A client with a socket, challenged.
struct Caller {
    client: Client,
    socket: UdpSocket,
    server: SocketAddr,
}

impl Caller {
    fn new(server: SocketAddr) -> Caller {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
        let mut caller = Caller { client: Client::new(), socket, server };
        let challenge = caller.ask(Client::allocate);
        caller.client.challenged(&challenge);
        caller
    }

    fn ask(&mut self, request: impl Fn(&mut Client) -> Vec<u8>) -> Vec<u8> {
        self.socket.send_to(&request(&mut self.client), self.server).expect("a request sent");
        let mut buffer = [0; 2000];
        let (length, _) = self.socket.recv_from(&mut buffer).expect("an answer");
        buffer[..length].to_vec()
    }
}
