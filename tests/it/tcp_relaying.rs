//! TCP relaying with plain sockets (RFC 6062): halves that end apart, senders that are too fast, workers that share.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use serde_json::Value;

use crate::common::{self, Client, USERS};
use crate::streams::refuses;
use crate::support::{Dev, Folder, PATIENCE};
use crate::talker::{ask, message};

/// What a connection may cost in memory of the program while somebody does not read.
const PER_STUCK_CONNECTION: u64 = 512 * 1024;

/// A client with an allocation for TCP.
struct Control {
    client: Client,
    stream: TcpStream,
    relayed: SocketAddr,
}

fn dev(flags: &[&str]) -> (Folder, Dev) {
    let folder = Folder::with(USERS);
    let path = folder.config();
    let dev = Dev::start(&[&["--config", path.to_str().expect("a path")], flags].concat());
    (folder, dev)
}

fn server(dev: &Dev) -> SocketAddr {
    dev.ready["tcp"][0].as_str().and_then(|text| text.parse().ok()).expect("an address")
}

fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    stream.set_write_timeout(Some(PATIENCE)).expect("a time-out");
    stream.set_nodelay(true).expect("no delay");
    stream
}

fn open(address: SocketAddr) -> TcpStream {
    patient(TcpStream::connect(address).expect("a connection"))
}

impl Control {
    fn new(dev: &Dev) -> Control {
        let (mut client, mut stream) = (Client::new(), open(server(dev)));
        let challenge = ask(&mut stream, &client.allocate_tcp());
        client.challenged(&challenge);
        let reply = ask(&mut stream, &client.allocate_tcp());
        assert!(common::is_success(&reply), "{:?}", common::error_code(&reply));
        Control { client, stream, relayed: common::relayed(&reply) }
    }

    /// Connects to a peer; the number of the connection.
    fn connect(&mut self, peer: SocketAddr) -> u32 {
        let reply = ask(&mut self.stream, &self.client.connect(peer));
        common::connection(&reply).unwrap_or_else(|| panic!("{:?}", common::error_code(&reply)))
    }

    /// A connection of the client's own, bound to one with a peer. Nonces are for an address, so it asks for one first.
    fn bind(&self, dev: &Dev, connection: u32) -> TcpStream {
        let (mut stream, bytes) = self.binding(dev, connection);
        let reply = ask(&mut stream, &bytes);
        assert!(common::is_success(&reply), "{:?}", common::error_code(&reply));
        stream
    }

    /// A connection of the client's own, and the request that binds it.
    fn binding(&self, dev: &Dev, connection: u32) -> (TcpStream, Vec<u8>) {
        let (mut client, mut stream) = (Client::new(), open(server(dev)));
        let challenge = ask(&mut stream, &client.bind_connection(connection));
        client.challenged(&challenge);
        let request = client.bind_connection(connection);
        (stream, request)
    }

    /// Both ends of a relayed connection: the client's, the peer's.
    fn connected(&mut self, dev: &Dev) -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a peer");
        let number = self.connect(listener.local_addr().expect("its address"));
        let (peer, from) = listener.accept().expect("the server connects");
        assert_eq!(from, self.relayed, "from the relayed address");
        (self.bind(dev, number), patient(peer))
    }
}

fn carries(from: &mut TcpStream, to: &mut TcpStream, bytes: &[u8]) {
    from.write_all(bytes).expect("bytes written");
    let mut received = vec![0; bytes.len()];
    to.read_exact(&mut received).expect("bytes relayed");
    assert_eq!(received, bytes);
}

fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut received = Vec::new();
    stream.read_to_end(&mut received).expect("everything up to the end");
    received
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| u8::try_from(index % 251).expect("a byte")).collect()
}

#[test]
fn either_half_ends_while_the_other_goes_on() {
    let (_folder, dev) = dev(&[]);
    let mut control = Control::new(&dev);
    let data = pattern(1_000_000);
    for client_first in [true, false] {
        let (client, peer) = control.connected(&dev);
        let (mut first, mut second) = if client_first { (client, peer) } else { (peer, client) };
        carries(&mut first, &mut second, b"before");
        first.shutdown(Shutdown::Write).expect("the end of a half");
        assert_eq!(rest(&mut second), b"");
        let bytes = data.clone();
        let writer = std::thread::spawn(move || second.write_all(&bytes).expect("bytes written"));
        assert!(rest(&mut first) == data, "the other half goes on to its end");
        writer.join().expect("the writer");
    }
    assert_eq!(ask(&mut control.stream, &common::binding()).len(), 32, "the control connection is as it was");
}

#[test]
fn who_does_not_read_stops_who_writes_and_loses_nothing() {
    let (_folder, dev) = dev(&["--workers", "1"]);
    let mut control = Control::new(&dev);
    let piece = pattern(64 * 1024);
    let before = dev.process.resident();
    for client_writes in [true, false] {
        let (client, peer) = control.connected(&dev);
        let (mut writer, mut reader) = if client_writes { (client, peer) } else { (peer, client) };
        writer.set_write_timeout(Some(Duration::from_millis(500))).expect("a time-out");
        let mut written = 0;
        loop {
            assert!(written < 64 << 20, "nobody holds all of that");
            match writer.write(&piece[written % piece.len()..]) {
                Ok(count) => written += count,
                Err(error) => break assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
            }
        }
        let grown = dev.process.resident().saturating_sub(before);
        assert!(grown < PER_STUCK_CONNECTION, "{grown} bytes for a connection that nobody reads");
        // Meanwhile everybody else goes on.
        let (mut one, mut other) = control.connected(&dev);
        carries(&mut one, &mut other, b"meanwhile");
        writer.shutdown(Shutdown::Write).expect("the end of a half");
        let received = rest(&mut reader);
        let expected: Vec<u8> = piece.iter().copied().cycle().take(written).collect();
        assert!(received == expected, "{} of {written} bytes", received.len());
    }
}

/// A server whose users and allocations may relay only so much.
fn limited(allocation: &str, user: &str) -> (Folder, Dev) {
    let limits =
        format!("{USERS}[limits]\nbandwidth-per-allocation = \"{allocation}\"\nbandwidth-per-user = \"{user}\"\n");
    let folder = Folder::with(&limits);
    let path = folder.config();
    let dev = Dev::start(&["--config", path.to_str().expect("a path"), "--workers", "1"]);
    (folder, dev)
}

#[test]
fn a_connection_above_its_limit_loses_nothing() {
    let (_folder, dev) = limited("8Mbit", "6Mbit");
    let mut control = Control::new(&dev);
    let (mut client, mut peer) = control.connected(&dev);
    let data = pattern(1_500_000);
    for _ in 0..2 {
        let bytes = data.clone();
        let mut writer = client.try_clone().expect("the connection again");
        let writing = std::thread::spawn(move || writer.write_all(&bytes).expect("bytes written"));
        let mut received = vec![0; data.len()];
        peer.read_exact(&mut received).expect("bytes relayed");
        writing.join().expect("the writer");
        assert!(received == data);
        (client, peer) = (peer, client);
    }
}

/// The one worker has hundreds of turns, in any few of which it would copy all there is. At the limit that would take
/// minutes.
#[test]
fn a_connection_at_its_limit_is_held_back() {
    let data = pattern(1_500_000);
    for (allocation, user) in [("80kbit", "0"), ("0", "80kbit")] {
        let (_folder, dev) = limited(allocation, user);
        let mut control = Control::new(&dev);
        let (mut client, mut peer) = control.connected(&dev);
        let bytes = data.clone();
        // Either may end early: the server is gone before all is through.
        let writing = std::thread::spawn(move || client.write_all(&bytes).is_ok());
        let reading = std::thread::spawn(move || {
            let mut received = Vec::new();
            let _ = peer.read_to_end(&mut received);
            received
        });
        for _ in 0..300 {
            assert!(common::is_success(&ask(&mut control.stream, &common::binding())));
        }
        let relayed = http(&dev, "/v1/sessions")["sessions"][0]["sent"]["bytes"].as_u64().expect("a number");
        assert!(relayed < 500_000, "{relayed} bytes at {allocation} and {user}");
        drop(dev);
        drop(writing.join());
        assert!(data.starts_with(&reading.join().expect("the reader")), "what did arrive is whole");
    }
}

#[test]
fn connections_meet_whichever_worker_accepts_them() {
    let (_folder, dev) = dev(&["--workers", "4"]);
    for _ in 0..3 {
        let mut control = Control::new(&dev);
        let mut pairs: Vec<(TcpStream, TcpStream)> = (0..12).map(|_| control.connected(&dev)).collect();
        for (client, peer) in &mut pairs {
            carries(client, peer, &pattern(5000));
            carries(peer, client, &pattern(7000));
        }
        let (mut client, mut peer) = pairs.pop().expect("a pair");
        drop(pairs);
        carries(&mut client, &mut peer, b"the others are gone");
    }
}

#[test]
fn what_is_sent_too_early_arrives_first() {
    let (_folder, dev) = dev(&["--workers", "2"]);
    let mut control = Control::new(&dev);
    for round in 0..8 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a peer");
        let number = control.connect(listener.local_addr().expect("its address"));
        let (peer, _) = listener.accept().expect("the server connects");
        let mut peer = patient(peer);
        peer.write_all(&pattern(20_000)).expect("bytes written");
        let (mut client, request) = control.binding(&dev, number);
        // The request and what follows in one piece: the answer is not waited for.
        client.write_all(&[request.as_slice(), &pattern(3000)].concat()).expect("bytes written");
        assert!(common::is_success(&message(&mut client)), "{round}");
        let mut received = vec![0; 20_000];
        client.read_exact(&mut received).expect("what the peer sent");
        assert!(received == pattern(20_000));
        let mut received = vec![0; 3000];
        peer.read_exact(&mut received).expect("what the client sent");
        assert!(received == pattern(3000));
    }
}

#[test]
fn peers_connect_under_a_permission() {
    let (_folder, dev) = dev(&[]);
    let mut control = Control::new(&dev);
    assert!(refuses(control.relayed), "closed at once");
    let peer: SocketAddr = "127.0.0.1:1".parse().expect("an address");
    assert!(common::is_success(&ask(&mut control.stream, &control.client.permit(peer))));
    let mut peer = open(control.relayed);
    peer.write_all(b"first").expect("bytes written");
    let attempt = message(&mut control.stream);
    let number = common::connection(&attempt).expect("a ConnectionAttempt");
    let mut client = control.bind(&dev, number);
    let mut received = [0; 5];
    client.read_exact(&mut received).expect("what the peer sent");
    assert_eq!(&received, b"first");
    carries(&mut client, &mut peer, b"back");
}

#[test]
fn who_does_not_listen_is_447_and_everything_ends_with_the_allocation() {
    let (_folder, dev) = dev(&[]);
    let mut control = Control::new(&dev);
    let nobody = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("an address");
    let reply = ask(&mut control.stream, &control.client.connect(nobody));
    assert_eq!(common::error_code(&reply), Some(447));
    let reply = ask(&mut control.stream, &control.client.connect("127.0.0.1:22".parse().expect("an address")));
    assert_eq!(common::error_code(&reply), Some(403));

    let (mut client, mut peer) = control.connected(&dev);
    carries(&mut client, &mut peer, b"0123456789");
    let sessions: Value = http(&dev, "/v1/sessions");
    let session = &sessions["sessions"][0];
    assert_eq!((&session["relays"], &session["connections"]), (&"tcp".into(), &1.into()), "{session}");
    assert_eq!(session["sent"]["bytes"], 10);
    let waiting = TcpListener::bind("127.0.0.1:0").expect("a peer");
    control.connect(waiting.local_addr().expect("its address"));
    let (mut unbound, _) = waiting.accept().expect("the server connects");

    assert!(common::is_success(&ask(&mut control.stream, &control.client.delete())));
    for stream in [&mut client, &mut peer, &mut unbound] {
        assert!(stream.read(&mut [0; 1]).is_ok_and(|count| count == 0), "closed");
    }
    assert!(TcpStream::connect(control.relayed).is_err(), "nobody listens there any more");
}

fn http(dev: &Dev, path: &str) -> Value {
    let answer = crate::support::http().get(dev.url(path));
    let answer = answer.header("authorization", format!("Bearer {}", dev.text("api_key"))).call();
    answer.expect("an answer").body_mut().read_json().expect("JSON")
}
