//! A million datagrams, each from an address of its own, none from anybody who could prove it: the program's memory does
//! not grow, and what it answers is counted to the byte where it arrives.

#![allow(unsafe_code, reason = "the source of a datagram is chosen by a control message")]

use std::mem::zeroed;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use socket2::SockAddr;
use turnwell::wire::{Class, Message, Method, TransactionId, Writer};

use crate::common;
use crate::served::Served;
use crate::support::PATIENCE;

const SOURCES: u32 = 1_000_000;
/// After so many everything has its size.
const WARM_UP: u32 = 100_000;
/// What the memory of the program may grow by, from then on.
const MOST_GROWTH: u64 = 1 << 20;
/// Datagrams that are on their way at a time: every socket buffer has room for them and for their answers.
const BATCH: u32 = 128;
/// All of 127.0.0.0/8 is this machine's. From here on, an address for each datagram …
const FIRST: Ipv4Addr = Ipv4Addr::new(127, 32, 0, 0);
/// … and here is somebody in whose name a hundred thousand are sent.
const VICTIM: Ipv4Addr = Ipv4Addr::new(127, 16, 0, 1);

/// One socket that sends from any address, and so receives what is answered to all of them.
struct Forger {
    socket: UdpSocket,
    server: SockAddr,
    /// Addresses that were used up.
    sources: u32,
    bytes_sent: u64,
    answers: u64,
    bytes_answered: u64,
}

/// The control message that names a datagram's source.
#[repr(C)]
struct Source {
    header: libc::cmsghdr,
    info: libc::in_pktinfo,
}

impl Source {
    fn new(address: Ipv4Addr) -> Source {
        // SAFETY: plain numbers, for which all zeros is a value.
        let mut source: Source = unsafe { zeroed() };
        source.header.cmsg_level = libc::IPPROTO_IP;
        source.header.cmsg_type = libc::IP_PKTINFO;
        source.header.cmsg_len = size_of::<libc::cmsghdr>() + size_of::<libc::in_pktinfo>();
        source.info.ipi_spec_dst.s_addr = u32::from_ne_bytes(address.octets());
        source
    }
}

impl Forger {
    fn new(server: SocketAddr) -> Forger {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        let server = SockAddr::from(server);
        Forger { socket, server, sources: 0, bytes_sent: 0, answers: 0, bytes_answered: 0 }
    }

    fn another_source(&mut self) -> Ipv4Addr {
        self.sources += 1;
        Ipv4Addr::from_bits(FIRST.to_bits() + self.sources)
    }

    /// Sends so many forgeries in turn, each from where `source` says, and takes the answers. Each batch ends with a
    /// request whose answer is the last one: the server has one worker, which reads in order.
    fn flood(&mut self, count: u32, mut source: impl FnMut(&mut Forger) -> Ipv4Addr) {
        let forgeries = common::forgeries();
        let mut kinds = forgeries.iter().cycle();
        let mut left = count;
        while left > 0 {
            let batch = left.min(BATCH);
            left -= batch;
            let last = binding(self.sources);
            let mut datagrams: Vec<(Ipv4Addr, &[u8])> =
                (1..batch).map(|_| (source(self), kinds.next().expect("another").as_slice())).collect();
            datagrams.push((self.another_source(), &last));
            self.send(&datagrams);
            while self.receive() != last[8..20] {}
        }
    }

    fn send(&mut self, datagrams: &[(Ipv4Addr, &[u8])]) {
        let mut sources: Vec<Source> = datagrams.iter().map(|(source, _)| Source::new(*source)).collect();
        let mut parts: Vec<libc::iovec> = datagrams
            .iter()
            .map(|(_, bytes)| libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() })
            .collect();
        let headers = sources.iter_mut().zip(&mut parts).map(|(source, part)| {
            // SAFETY: plain numbers and pointers, for which all zeros is a value.
            let mut header: libc::mmsghdr = unsafe { zeroed() };
            header.msg_hdr.msg_name = self.server.as_ptr().cast_mut().cast();
            header.msg_hdr.msg_namelen = self.server.len();
            header.msg_hdr.msg_iov = part;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = (&raw mut *source).cast();
            header.msg_hdr.msg_controllen = size_of::<Source>();
            header
        });
        let mut headers: Vec<libc::mmsghdr> = headers.collect();
        let mut sent = 0;
        while sent < headers.len() {
            let rest = &mut headers[sent..];
            let count = libc::c_uint::try_from(rest.len()).expect("a batch");
            // SAFETY: the headers point to addresses, bytes and control messages that all outlive the call.
            let taken = unsafe { libc::sendmmsg(self.socket.as_raw_fd(), rest.as_mut_ptr(), count, 0) };
            sent += usize::try_from(taken).unwrap_or_else(|_| panic!("{}", std::io::Error::last_os_error()));
        }
        self.bytes_sent += datagrams.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>();
    }

    /// The transaction of the next answer.
    fn receive(&mut self) -> [u8; 12] {
        let mut buffer = [0; 2000];
        let length = self.socket.recv(&mut buffer).expect("an answer");
        self.answers += 1;
        self.bytes_answered += length as u64;
        Message::parse(&buffer[..length]).expect("a message").transaction_id().0
    }
}

/// A Binding request with a transaction of its own.
fn binding(number: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut id = [9; 12];
    id[..4].copy_from_slice(&number.to_be_bytes());
    Writer::new(&mut bytes, Class::Request, Method::BINDING, TransactionId(id)).finish();
    bytes
}

#[test]
fn a_million_spoofed_sources_cost_no_memory_and_are_not_flooded() {
    let served = Served::start("[server]\nworkers = 1\n");
    let mut forger = Forger::new(served.address());
    let count = |name: &str| served.server.metric(name);
    assert!(served.server.sessions().is_empty());
    forger.flood(WARM_UP, Forger::another_source);
    let before = served.serve.process.resident();
    forger.flood(SOURCES - WARM_UP, Forger::another_source);
    let grown = served.serve.process.resident().saturating_sub(before);

    let received = "turnwell_datagrams_received_total{from=\"client\"}";
    served.server.wait_for_metric(received, u64::from(SOURCES));
    assert_eq!((count(received), forger.sources), (u64::from(SOURCES), SOURCES), "every one of them was read");
    assert_eq!(count("turnwell_kernel_dropped_datagrams_total{socket=\"listener\"}"), 0);
    println!(
        "{SOURCES} datagrams received, {} bytes; {} answers, {} bytes; {grown} bytes of memory more",
        forger.bytes_sent, forger.answers, forger.bytes_answered
    );
    assert!(grown < MOST_GROWTH, "{grown} bytes more after {SOURCES} sources");
    assert_eq!(count("turnwell_datagrams_sent_total"), forger.answers, "every answer was counted here");
    // One for a request, none for anything else: whoever was named got one at most.
    let silent = count("turnwell_relay_dropped_packets_total{reason=\"no_allocation\"}");
    assert_eq!(forger.answers + silent, u64::from(SOURCES));
    let kinds = common::forgeries().len() as u64;
    assert!(silent > u64::from(SOURCES) * common::SILENT as u64 / kinds * 9 / 10, "{silent}");
    assert!(forger.bytes_answered <= forger.bytes_sent, "{} for {}", forger.bytes_answered, forger.bytes_sent);

    // One source in whose name many are sent has a budget.
    let (answers, sent, answered) = (forger.answers, forger.bytes_sent, forger.bytes_answered);
    forger.flood(SOURCES / 10, |_| VICTIM);
    let (sent, answered) = (forger.bytes_sent - sent, forger.bytes_answered - answered);
    println!("in one name: {sent} bytes; {} answers, {answered} bytes", forger.answers - answers);
    assert!(answered <= sent, "{answered} for {sent}");
    served.server.wait_for_metric(received, u64::from(SOURCES + SOURCES / 10));
    assert!(count("turnwell_relay_dropped_packets_total{reason=\"reply_budget\"}") > 0, "the budget was at work");
    assert_eq!(count("turnwell_datagrams_sent_total"), forger.answers);
    assert!(served.server.sessions().is_empty());
}
