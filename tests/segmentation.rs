//! Where the kernel refuses to cut a long message into datagrams (UDP_SEGMENT), every packet still arrives, in order.
//!
//! Each payload carries the number of its flow and its place in it. Packets go through real workers in this process:
//! on loopback, where segmentation is switched off while it runs, and between two network namespaces whose path takes
//! smaller packets than those relayed.

#![allow(unsafe_code, reason = "a foreign descriptor is a system call")]
#![allow(clippy::disallowed_methods, reason = "the bans are for the core")]

mod common;
#[path = "common/namespace.rs"]
mod namespace;

use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use common::Client;
use namespace::{ip, thread_id};
use socket2::SockRef;
use turnwell::net::sys::{Epoll, Events, Interest, SendBatch, UdpOptions, UdpSocket, bind_udp, receive_one};
use turnwell::net::{self, NetCounters, Server};

const PATIENCE: Duration = Duration::from_secs(20);
const CHANNEL: u16 = 0x4001;
/// Packets of each flow that are sent at once.
const BURST: usize = 16;
/// Up: on a channel, in Send indications. Down: on a channel, in Data indications.
const FLOWS: usize = 4;
/// Bursts after which a run of several packets must have come up.
const ENOUGH: usize = 5_000;

#[test]
fn segmentation_that_is_refused_while_packets_flow_loses_none() {
    for workers in [1, 2, 4] {
        let server = net::start(common::net_config("127.0.0.1:0", workers), common::live()).expect("workers");
        let mut traffic = Traffic::new(&server, "127.0.0.1:0");
        traffic.until(&server, |counters| counters.segmented > 0);
        refuse_segmentation(server.listening()[0].port());
        traffic.until(&server, |counters| counters.segmented_refused > 0);
        traffic.bursts(100);
        assert_eq!(server.counters().net.send_failed, 0);
    }
}

#[test]
fn on_a_path_of_smaller_mtu_every_packet_arrives_in_order() {
    // A thread of its own, since its namespace goes with it.
    match thread::spawn(across_namespaces).join().expect("a run") {
        Ok(()) => {}
        Err(error) => common::skip(&format!("no network namespaces here: {error}")),
    }
}

/// The server behind a veth pair that takes 600 bytes, clients and peer before it.
fn across_namespaces() -> io::Result<()> {
    namespace::enter()?;
    let (tell, told) = mpsc::channel();
    let (go, joined) = mpsc::channel::<()>();
    let far = thread::spawn(move || {
        namespace::enter()?;
        tell.send(thread_id()).expect("somebody listens");
        joined.recv().expect("a veth pair");
        ip("address add 10.99.0.1/24 dev far")?;
        ip("link set far up")?;
        net::start(common::net_config("10.99.0.1:0", 1), common::live())
            .map_err(|error| io::Error::other(format!("{error:?}")))
    });
    let thread = told.recv().map_err(io::Error::other)?;
    ip(&format!("link add near mtu 600 type veth peer name far mtu 600 netns {thread}"))?;
    ip("address add 10.99.0.2/24 dev near")?;
    ip("link set near up")?;
    go.send(()).map_err(io::Error::other)?;
    let server = far.join().expect("a server")?;
    let mut traffic = Traffic::new(&server, "10.99.0.2:0");
    traffic.until(&server, |counters| counters.segmented_refused > 0);
    traffic.bursts(100);
    assert_eq!(server.counters().net.send_failed, 0);
    Ok(())
}

/// The kernel does not segment on a socket without checksums: the server's sockets become such.
fn refuse_segmentation(listener: u16) {
    let descriptors = std::fs::read_dir("/proc/self/fd").expect("a list of descriptors");
    for name in descriptors.filter_map(|entry| entry.ok()?.file_name().into_string().ok()) {
        let number = name.parse().expect("a number");
        // SAFETY: used at once; one that is closed meanwhile, or is no socket, answers with an error.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        let local = SockRef::from(&descriptor).local_addr().ok().and_then(|address| address.as_socket());
        let is_relay = |port| (20_000..30_000).contains(&port);
        if local.is_some_and(|at| at.ip().is_loopback() && (at.port() == listener || is_relay(at.port()))) {
            let (on, length) = (&raw const ONE, size_of_val(&ONE) as libc::socklen_t);
            // SAFETY: the pointer is to an integer of the announced length.
            unsafe { libc::setsockopt(number, libc::SOL_SOCKET, libc::SO_NO_CHECK, on.cast(), length) };
        }
    }
}

static ONE: libc::c_int = 1;

/// Two clients and a peer, and how far each flow is.
struct Traffic {
    channel: Caller,
    indications: Caller,
    peer: Socket,
    batch: SendBatch,
    sent: [u32; FLOWS],
    seen: [u32; FLOWS],
}

impl Traffic {
    fn new(server: &Server, local: &str) -> Traffic {
        let peer = Socket::bind(local);
        let [mut channel, mut indications] = [(); 2].map(|()| Caller::new(server.listening()[0], local));
        channel.ask(|client| client.bind(CHANNEL, peer.address));
        indications.ask(|client| client.permit(peer.address));
        let batch = SendBatch::new();
        Traffic { channel, indications, peer, batch, sent: [0; FLOWS], seen: [0; FLOWS] }
    }

    /// Goes on until the server has met what is wanted.
    fn until(&mut self, server: &Server, met: impl Fn(&NetCounters) -> bool) {
        for _ in 0..ENOUGH {
            if met(&server.counters().net) {
                return;
            }
            self.bursts(1);
        }
        panic!("not met: {:?}", server.counters().net);
    }

    fn bursts(&mut self, count: usize) {
        for _ in 0..count {
            let flows: [Vec<Vec<u8>>; FLOWS] =
                std::array::from_fn(|flow| (0..BURST).map(|_| self.payload(flow)).collect());
            let [up, sent, down, received] = flows;
            let up: Vec<_> = up.iter().map(|data| common::channel_data(CHANNEL, data)).collect();
            let sent: Vec<_> = sent.iter().map(|data| common::send_indication(self.peer.address, data)).collect();
            self.channel.socket.send(&mut self.batch, self.channel.server, &up);
            self.indications.socket.send(&mut self.batch, self.indications.server, &sent);
            self.peer.send(&mut self.batch, self.channel.relayed, &down);
            self.peer.send(&mut self.batch, self.indications.relayed, &received);
            let seen = &mut self.seen;
            for _ in 0..BURST {
                note(seen, 2, &common::data(&self.channel.socket.receive().0));
                note(seen, 3, &common::data(&self.indications.socket.receive().0));
            }
            for _ in 0..2 * BURST {
                let (payload, source) = self.peer.receive();
                note(seen, usize::from(source == self.indications.relayed), &payload);
            }
        }
        assert_eq!(self.seen, self.sent);
    }

    /// The next one of a flow; now and then one that is shorter and so ends a run.
    fn payload(&mut self, flow: usize) -> Vec<u8> {
        let number = self.sent[flow];
        self.sent[flow] += 1;
        let length = if number % 7 == 6 { 700 } else { 1000 };
        let mut payload = vec![u8::try_from(flow).expect("few flows"); length];
        payload[..4].copy_from_slice(&number.to_be_bytes());
        payload
    }
}

/// This is the next packet of its flow, and none of another's.
fn note(seen: &mut [u32; FLOWS], flow: usize, payload: &[u8]) {
    let (number, rest) = payload.split_first_chunk().expect("a number");
    assert_eq!(u32::from_be_bytes(*number), seen[flow], "flow {flow} out of order");
    assert!(rest.iter().all(|byte| usize::from(*byte) == flow), "flow {flow} got another's bytes");
    seen[flow] += 1;
}

/// A socket that waits.
struct Socket {
    socket: UdpSocket,
    epoll: Epoll,
    address: SocketAddr,
    buffer: Vec<u8>,
}

impl Socket {
    fn bind(local: &str) -> Socket {
        let socket = bind_udp(local.parse().expect("an address"), UdpOptions::default()).expect("a socket");
        let epoll = Epoll::new().expect("an epoll instance");
        epoll.add(&socket, 0, Interest::READ).expect("a watched socket");
        let address = socket.local_addr().expect("its address");
        Socket { socket, epoll, address, buffer: vec![0; 65_536] }
    }

    fn send(&self, batch: &mut SendBatch, to: SocketAddr, packets: &[Vec<u8>]) {
        let mut out = batch.begin();
        for packet in packets {
            out.message(Some(to), None);
            out.part(packet);
        }
        assert_eq!(out.send(&self.socket, 0).expect("packets sent"), packets.len());
    }

    fn receive(&mut self) -> (Vec<u8>, SocketAddr) {
        let mut events = Events::with_capacity(1);
        while self.epoll.wait(&mut events, Some(PATIENCE)).expect("a wait") > 0 {
            if let Ok(received) = receive_one(&self.socket, &mut self.buffer) {
                return (self.buffer[..received.length].to_vec(), received.source);
            }
        }
        panic!("nothing arrived at {}", self.address);
    }
}

/// A client with an allocation.
struct Caller {
    client: Client,
    socket: Socket,
    server: SocketAddr,
    relayed: SocketAddr,
}

impl Caller {
    fn new(server: SocketAddr, local: &str) -> Caller {
        let mut caller = Caller { client: Client::new(), socket: Socket::bind(local), server, relayed: server };
        let challenge = caller.ask(Client::allocate);
        caller.client.challenged(&challenge);
        let reply = caller.ask(Client::allocate);
        caller.relayed = common::relayed(&reply);
        caller
    }

    fn ask(&mut self, request: impl Fn(&mut Client) -> Vec<u8>) -> Vec<u8> {
        let request = request(&mut self.client);
        self.socket.send(&mut SendBatch::new(), self.server, &[request]);
        self.socket.receive().0
    }
}
