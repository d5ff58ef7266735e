//! What happens to relayed packets on their way, through real workers: closed ports, paths that take less, and DF.
//!
//! On loopback, and from a server through a router to a peer in network namespaces of their own, where the router's
//! second link takes fewer bytes than the first. Which datagrams have DF is seen by what that router does with them.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "the bans are for the core")]

#[path = "common/caller.rs"]
mod caller;
mod common;
#[path = "common/namespace.rs"]
mod namespace;

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, mpsc};
use std::thread;

use caller::{Caller, receive};
use namespace::{ip, thread_id};
use turnwell::net::{self, Server};
use turnwell::relay::{Live, PeerPolicy};
use turnwell::wire::{AttributeType, Class, Message, Method, TransactionId, Writer};

const CHANNEL: u16 = 0x4001;
/// The MTU behind the router; IPv6 allows none that is smaller.
const SMALL: u32 = 1280;
/// Fits the first link, not the second.
const LONG: usize = 1400;

#[test]
fn a_closed_port_on_loopback_is_told_and_disturbs_nothing() {
    for ip in ["127.0.0.1", "::1"] {
        if UdpSocket::bind((ip, 0)).is_err() {
            common::skip(&format!("no {ip} here"));
            continue;
        }
        let server = start(ip);
        let mut caller = Caller::new(server.listening()[0]);
        let (closed, open) = (closed_port(ip), peer(ip));
        let (open_at, closed_at) = (open.local_addr().expect("an address"), closed);
        caller.permit(open_at);
        caller.bind(CHANNEL, closed_at);
        let (kind, code) = if closed.is_ipv4() { (3, 3) } else { (1, 4) };
        caller.send(&common::send_indication(closed, b"anybody there?"));
        assert_eq!(error(&caller), (closed, kind, code, 0));
        // Both ways to the closed port, each error right before a packet that must not be lost to it.
        for number in 0..200_u32 {
            caller.send(&common::channel_data(CHANNEL, b"nobody"));
            caller.send(&common::send_indication(closed, b"nobody"));
            caller.send(&common::send_indication(open_at, &number.to_be_bytes()));
            assert_eq!(receive(&open), number.to_be_bytes());
        }
        let counters = common::until(&server, |counters| counters.tally.icmp_errors > 1);
        assert_eq!(counters.net.send_failed, 0);
        assert!(counters.tally.icmp_errors < 400, "they are limited");
    }
}

#[test]
fn a_path_that_takes_less_is_told_where_the_rfc_says_so() {
    // A thread of its own, since its namespace goes with it.
    match thread::spawn(across_namespaces).join().expect("a run") {
        Ok(()) => {}
        Err(error) => common::skip(&format!("no network namespaces here: {error}")),
    }
}

/// Server and client in this namespace, a router, and a peer behind it.
fn across_namespaces() -> io::Result<()> {
    namespace::enter()?;
    let (router, router_go) = namespace(|| {
        ip("address add 10.99.0.2/24 dev r0")?;
        ip("address add fd99::2/64 dev r0 nodad")?;
        ip("link set r0 up")?;
        ip("address add 10.99.1.2/24 dev r1")?;
        ip("address add fd99:1::2/64 dev r1 nodad")?;
        ip("link set r1 up")?;
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
        std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1")?;
        // More ICMP errors may be needed than are sent by default.
        std::fs::write("/proc/sys/net/ipv4/icmp_ratelimit", "0")?;
        std::fs::write("/proc/sys/net/ipv6/icmp/ratelimit", "0")
    })?;
    let (far, far_go) = namespace(|| {
        ip("address add 10.99.1.1/24 dev p0")?;
        ip("address add fd99:1::1/64 dev p0 nodad")?;
        ip("link set p0 up")?;
        ip("route add default via 10.99.1.2")?;
        ip("-6 route add default via fd99:1::2")
    })?;
    ip("link set lo up")?;
    ip(&format!("link add s0 type veth peer name r0 netns {}", router.tid))?;
    ip("address add 10.99.0.1/24 dev s0")?;
    ip("address add fd99::1/64 dev s0 nodad")?;
    ip("link set s0 up")?;
    ip(&format!("link add r1 mtu {SMALL} netns {} type veth peer name p0 mtu {SMALL} netns {}", router.tid, far.tid))?;
    router_go.send(Box::new(|| ())).expect("a router");
    router.ready()?;
    far_go.send(Box::new(|| ())).expect("the far end");
    far.ready()?;
    ip("route add default via 10.99.0.2")?;
    ip("-6 route add default via fd99::2")?;
    for (near, peer_ip) in [("10.99.0.1", "10.99.1.1"), ("fd99::1", "fd99:1::1")] {
        let (tell, told) = mpsc::channel();
        far_go.send(Box::new(move || tell.send(peer(peer_ip)).expect("a listener"))).expect("the far end");
        let peer = told.recv().map_err(io::Error::other)?;
        through_the_router(near, &peer);
    }
    Ok(())
}

fn through_the_router(near: &str, peer: &UdpSocket) {
    let at = peer.local_addr().expect("an address");
    let too_long = if at.is_ipv4() { (at, 3, 4, SMALL) } else { (at, 2, 0, SMALL) };
    let server = start(near);
    let mut caller = Caller::new(server.listening()[0]);
    caller.permit(at);
    let payload = vec![7; LONG];
    if at.is_ipv4() {
        // The router drops what has DF and says so; afterwards this machine knows and does the same.
        for _ in 0..3 {
            caller.send(&asks_not_to_fragment(at, &payload));
            assert_eq!(error(&caller), too_long);
        }
        // Without DF the router fragments: nothing is lost, in whatever order they come.
        for _ in 0..3 {
            caller.send(&common::send_indication(at, &payload));
            assert_eq!(receive(peer), payload);
            caller.send(&asks_not_to_fragment(at, &payload));
            assert_eq!(error(&caller), too_long);
        }
    } else {
        // Over IPv6 no router fragments, and DONT-FRAGMENT means nothing: the first is lost and told, then this
        // machine knows what the path takes.
        caller.send(&asks_not_to_fragment(at, &payload));
        assert_eq!(error(&caller), too_long);
        caller.send(&asks_not_to_fragment(at, &payload));
        assert_eq!(receive(peer), payload);
    }
    caller.bind(CHANNEL, at);
    // Enough for a connected socket, and for long segmented messages.
    for number in 0..100_u32 {
        let payload = [&number.to_be_bytes()[..], &payload].concat();
        caller.send(&common::channel_data(CHANNEL, &payload));
        assert_eq!(receive(peer), payload);
    }
    if at.is_ipv4() {
        caller.send(&asks_not_to_fragment(at, &payload));
        assert_eq!(error(&caller), too_long, "beside a connected socket");
    }
    let closed = SocketAddr::new(at.ip(), 9);
    caller.send(&common::send_indication(closed, b"discard?"));
    let (kind, code) = if at.is_ipv4() { (3, 3) } else { (1, 4) };
    assert_eq!(error(&caller), (closed, kind, code, 0));
}

fn start(ip: &str) -> Server {
    let address = SocketAddr::new(ip.parse().expect("an address"), 0).to_string();
    let ranges = ["127.0.0.0/8", "10.99.0.0/16", "::1/128", "fd99::/16"].map(|range| range.parse().expect("a range"));
    let live = Live { icmp_errors: true, peers: PeerPolicy::new(&ranges, &[]), ..Live::clone(&common::live()) };
    net::start(common::net_config(&address, 1), Arc::new(live)).expect("workers")
}

fn peer(ip: &str) -> UdpSocket {
    caller::socket(ip.parse().expect("an address"))
}

/// A port that was free a moment ago, outside of the range of relay ports.
fn closed_port(ip: &str) -> SocketAddr {
    loop {
        let address = peer(ip).local_addr().expect("an address");
        if !(20_000..30_000).contains(&address.port()) {
            return address;
        }
    }
}

fn asks_not_to_fragment(peer: SocketAddr, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, Class::Indication, Method::SEND, TransactionId([5; 12]));
    writer
        .xor_address(AttributeType::XOR_PEER_ADDRESS, peer)
        .attribute(AttributeType::DONT_FRAGMENT, b"")
        .attribute(AttributeType::DATA, data);
    writer.finish();
    bytes
}

/// The next packet, which must be a Data indication with ICMP: peer, type, code, error data.
fn error(caller: &Caller) -> (SocketAddr, u8, u8, u32) {
    let packet = caller.receive();
    let message = Message::parse(&packet).expect("a message");
    assert_eq!((message.class(), message.method()), (Class::Indication, Method::DATA));
    let attributes: Vec<_> = message.attributes().map_while(Result::ok).collect();
    let [peer, icmp] = attributes.as_slice() else { panic!("two attributes") };
    assert_eq!((peer.kind, icmp.kind), (AttributeType::XOR_PEER_ADDRESS, AttributeType::ICMP));
    let [0, 0, kind, code, a, b, c, d] = *icmp.value else { panic!("eight bytes, two of them zero") };
    let peer = peer.xor_address(message.transaction_id()).expect("an address");
    (peer, kind >> 1, code, u32::from_be_bytes([a, b, c, d]))
}

type Task = Box<dyn FnOnce() + Send>;

/// A thread in a network namespace of its own, which lives until its tasks end.
struct Namespace {
    tid: libc::pid_t,
    ready: mpsc::Receiver<io::Result<()>>,
}

impl Namespace {
    fn ready(&self) -> io::Result<()> {
        self.ready.recv().map_err(io::Error::other)?
    }
}

/// Starts a namespace. With the first task it is prepared; that one and the others then run in it.
fn namespace(prepare: fn() -> io::Result<()>) -> io::Result<(Namespace, mpsc::Sender<Task>)> {
    let (tell, told) = mpsc::channel();
    let (tell_ready, ready) = mpsc::channel();
    let (task, tasks) = mpsc::channel::<Task>();
    thread::spawn(move || {
        let entered = namespace::enter();
        tell.send(entered.map(|()| thread_id())).expect("somebody listens");
        let Ok(first) = tasks.recv() else { return };
        tell_ready.send(prepare()).expect("somebody listens");
        first();
        tasks.iter().for_each(|task| task());
    });
    let tid = told.recv().map_err(io::Error::other)??;
    Ok((Namespace { tid, ready }, task))
}
