//! Connections by the thousand that send garbage or never read, beside a call that goes on.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use turnwell::wire::{AttributeType, Class, Method, TransactionId, Writer};

use crate::common::USERS;
use crate::sessions::Server;
use crate::streams::{address, dev_with, is_closed};
use crate::support::{Dev, Folder, PATIENCE};
use crate::talker::{Echo, Talker};
use crate::tls;

/// What `streams.queue` says.
const QUEUE: u64 = 128 * 1024;
/// What a connection may cost: itself, and its queue, whose buffers grow by doubling.
const PER_CONNECTION: u64 = 16 * 1024;
const PER_DEAF_CONNECTION: u64 = PER_CONNECTION + QUEUE * 5 / 2;
/// After so long the kernel gives up a client that takes nothing (TCP_USER_TIMEOUT, set by the server).
const KERNEL_WAITS: Duration = Duration::from_secs(60);
/// What TLS adds: its state, and what is sealed at a time.
const PER_SESSION: u64 = 160 * 1024;

/// A client that talks without a pause, message by message.
struct Call {
    talking: JoinHandle<u64>,
    is_over: Arc<AtomicBool>,
    rounds: mpsc::Receiver<()>,
}

impl Call {
    fn start(at: SocketAddr, echo: &Echo) -> Call {
        let (round, rounds) = mpsc::channel();
        let is_over = Arc::<AtomicBool>::default();
        let mut talker = Talker::new(tls::plain(at), echo.address());
        let until = is_over.clone();
        let talking = thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                talker.exchange(1);
                round.send(()).expect("the test goes on");
            }
            talker.exchanged()
        });
        Call { talking, is_over, rounds }
    }

    /// Waits until a message went there and back that was not on its way before.
    fn goes_on(&self) {
        self.rounds.try_iter().for_each(drop);
        for _ in 0..2 {
            self.rounds.recv_timeout(PATIENCE).expect("the call goes on");
        }
    }

    fn end(self) -> u64 {
        self.is_over.store(true, Ordering::Relaxed);
        self.talking.join().expect("every message, in order")
    }
}

fn server() -> (Folder, Dev) {
    let config = format!(
        "{USERS}[limits]\nbandwidth-per-allocation = \"0\"\nbandwidth-per-user = \"0\"\n\
         [streams]\nconnections-per-source = 0\nqueue = \"128KiB\"\nopening = \"1m\"\n"
    );
    dev_with(&config, &["--workers", "2"])
}

fn closed(dev: &Dev, reason: &str) -> u64 {
    Server::of(dev).metric(&format!("turnwell_connections_closed_total{{reason=\"{reason}\"}}"))
}

/// Waits until so many connections were closed for this reason, and sees that it is not one more.
fn closed_exactly(dev: &Dev, reason: &str, count: u64) {
    let name = format!("turnwell_connections_closed_total{{reason=\"{reason}\"}}");
    Server::of(dev).wait_for_metric(&name, count);
    assert_eq!(closed(dev, reason), count, "{reason}");
}

/// A client with the smallest window and segments that there are, so that the kernel takes little on its way.
fn narrow(at: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    socket.set_tcp_mss(536).expect("small segments");
    socket.connect(&at.into()).expect("a connection");
    let stream = TcpStream::from(socket);
    stream.set_write_timeout(Some(PATIENCE)).expect("a time-out");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    stream
}

/// Binding requests with as many unknown attributes as an answer lists: short to check, long to answer.
fn questions() -> Vec<u8> {
    let mut out = Vec::new();
    for number in 0..16 {
        let mut writer = Writer::new(&mut out, Class::Request, Method::BINDING, TransactionId([number; 12]));
        for unknown in 0x7f00..0x7f40 {
            writer.attribute(AttributeType(unknown), &[]);
        }
        let _ = writer.finish();
    }
    out
}

#[test]
fn a_thousand_connections_of_garbage_are_closed_under_their_names_beside_a_call() {
    /// Of each kind over TCP, of each over TLS.
    const TCP: usize = 125;
    const TLS: usize = 50;
    let (_folder, dev) = server();
    let (tcp, tls, echo) = (address(&dev, "tcp"), address(&dev, "tls"), Echo::start());
    let call = Call::start(tcp, &echo);
    call.goes_on();
    let before = dev.process.resident();
    let kinds: [(&[u8], &str); 8] = [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "foreign"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "foreign"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "foreign"),
        (b"\x40\x01\x00\x04data", "foreign"),
        (b"\xff", "foreign"),
        (b"\x00\x01\x00\x03\x21\x12\xa4\x42", "misaligned"),
        (b"\x00\x03\x20\x00\x21\x12\xa4\x42", "too_long"),
        (b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n", "proxy_untrusted"),
    ];
    let mut sending: Vec<TcpStream> = (0..kinds.len() * TCP).map(|_| tls::plain(tcp)).collect();
    for (number, stream) in sending.iter_mut().enumerate() {
        stream.write_all(kinds[number % kinds.len()].0).expect("a write");
    }
    for (number, stream) in sending.iter_mut().enumerate() {
        assert!(is_closed(stream), "{:?}", kinds[number % kinds.len()]);
    }
    call.goes_on();
    let grown = dev.process.resident().saturating_sub(before);
    assert!(grown < (kinds.len() * TCP) as u64 * PER_CONNECTION, "{grown} bytes");

    // Whoever speaks TLS, and then HTTP; and whoever does not even speak TLS.
    let root = std::fs::read(dev.text("certificate")).expect("the certificate");
    let config = Arc::new(tls::config(&root, &[]));
    let mut sealed: Vec<_> = (0..TLS).map(|_| tls::with(&config, tls, "localhost").expect("a handshake")).collect();
    let mut open: Vec<TcpStream> = (0..3 * TLS).map(|_| tls::plain(tls)).collect();
    let openings = [kinds[0].0, b"\x16\x03\x01\x00\x04junk", kinds[7].0];
    for client in &mut sealed {
        client.write_all(kinds[0].0).expect("a write");
    }
    for (number, stream) in open.iter_mut().enumerate() {
        stream.write_all(openings[number % 3]).expect("a write");
    }
    for client in &mut sealed {
        assert!(is_closed(client));
    }
    for stream in &mut open {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.len() < 100, "at most an alert");
    }
    call.goes_on();
    let (tcp, tls) = (TCP as u64, TLS as u64);
    closed_exactly(&dev, "foreign", 5 * tcp + tls);
    closed_exactly(&dev, "misaligned", tcp);
    closed_exactly(&dev, "too_long", tcp);
    closed_exactly(&dev, "proxy_untrusted", tcp + tls);
    closed_exactly(&dev, "handshake_failed", 2 * tls);
    assert_eq!(closed(&dev, "by_client"), 0);
    println!("{} messages there and back, {grown} bytes grown", call.end());
}

#[test]
fn a_thousand_connections_that_never_read_cost_their_queues_beside_a_call() {
    const TCP: usize = 1000;
    const TLS: usize = 200;
    /// Far more than queue and kernel hold.
    const ROUNDS: usize = 1000;
    let (_folder, dev) = server();
    let (tcp, tls, echo) = (address(&dev, "tcp"), address(&dev, "tls"), Echo::start());
    let call = Call::start(tcp, &echo);
    call.goes_on();
    let before = dev.process.resident();
    let root = std::fs::read(dev.text("certificate")).expect("the certificate");
    let config = Arc::new(tls::config(&root, &[]));
    let session = |_| tls::over(&config, narrow(tls), "localhost").expect("a handshake");
    let mut plain: Vec<Option<TcpStream>> = (0..TCP).map(|_| Some(narrow(tcp))).collect();
    let mut sealed: Vec<_> = (0..TLS).map(session).map(Some).collect();
    // Each asks a little in every round, so that all queues fill up together.
    let (questions, mut most, mut rounds, begun) = (questions(), 0, 0, Instant::now());
    while plain.iter().any(Option::is_some) || sealed.iter().any(Option::is_some) {
        assert!(rounds < ROUNDS, "{} are not closed", plain.iter().flatten().count() + sealed.iter().flatten().count());
        rounds += 1;
        for client in &mut plain {
            client.take_if(|client| client.write_all(&questions).is_err_and(is_reset));
        }
        for client in &mut sealed {
            client.take_if(|client| {
                let written = client.conn.writer().write_all(&questions);
                written.and_then(|()| client.conn.write_tls(&mut client.sock)).is_err_and(is_reset)
            });
        }
        call.goes_on();
        most = most.max(dev.process.resident().saturating_sub(before));
    }
    let limit = TCP as u64 * PER_DEAF_CONNECTION + TLS as u64 * (PER_DEAF_CONNECTION + PER_SESSION);
    assert!(most < limit, "{most} bytes of {limit} that queues may come to");
    let all = (TCP + TLS) as u64;
    if begun.elapsed() < KERNEL_WAITS {
        closed_exactly(&dev, "not_reading", all);
    } else {
        // so slow a machine leaves some to the kernel, before their queues are full
        let ended = || closed(&dev, "not_reading") + closed(&dev, "broken");
        let started = Instant::now();
        while ended() < all {
            assert!(started.elapsed() < PATIENCE, "{}", ended());
        }
        assert_eq!(ended(), all);
    }
    println!("{} messages there and back, {most} bytes grown of {limit}, {rounds} rounds", call.end());
}

/// Whether the server closed the connection; anything else fails the test.
fn is_reset(error: std::io::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
    assert!([BrokenPipe, ConnectionReset].contains(&error.kind()), "{error}");
    true
}
