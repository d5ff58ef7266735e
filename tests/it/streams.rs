//! TCP and TLS clients, as they are and as they should not be: pieces, garbage, silence, floods, proxies.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use serde_json::Value;
use turnwell::wire::{AttributeType, Class, Message, Method, TransactionId, Writer};

use crate::common::{self, Client, USERS};
use crate::sessions::Server;
use crate::support::{Dev, Folder, PATIENCE, Serve, free_port};
use crate::talker::{Echo, Talker, ask, channel_data, message, next_message};
use crate::tls::{TlsClient, connect as tls, plain as connect, renew};

/// More than a connection costs, and far less than a queue may hold.
const PER_SILENT_CONNECTION: u64 = 16 * 1024;

fn request(number: u8) -> Vec<u8> {
    let mut out = Vec::new();
    let _ = Writer::new(&mut out, Class::Request, Method::BINDING, TransactionId([number; 12])).finish();
    out
}

/// Reads one answer and returns its XOR-MAPPED-ADDRESS.
fn answer(stream: &mut impl Read, number: u8) -> io::Result<SocketAddr> {
    let bytes = next_message(stream)?;
    let message = Message::parse(&bytes).expect("a message");
    assert_eq!((message.class(), message.transaction_id()), (Class::Success, TransactionId([number; 12])));
    let mut attributes = message.attributes().flatten();
    let mapped = attributes.find(|attribute| attribute.kind == AttributeType::XOR_MAPPED_ADDRESS);
    Ok(mapped.and_then(|mapped| mapped.xor_address(message.transaction_id()).ok()).expect("an address"))
}

pub(crate) fn binding(stream: &mut (impl Read + Write), number: u8) -> io::Result<SocketAddr> {
    stream.write_all(&request(number))?;
    answer(stream, number)
}

/// Whether the server closes the connection instead of sending something.
pub(crate) fn is_closed(stream: &mut impl Read) -> bool {
    match stream.read(&mut [0; 1]) {
        Ok(count) => count == 0,
        Err(error) => !is_timeout(&error),
    }
}

/// Whether a read or write took longer than the socket allows.
fn is_timeout(error: &io::Error) -> bool {
    [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut].contains(&error.kind())
}

/// Whether connections are reset as soon as they are accepted; the client may hear of it before it knows of the accept.
pub(crate) fn refuses(at: SocketAddr) -> bool {
    let read = TcpStream::connect(at).and_then(|mut stream| {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.read(&mut [0; 1])
    });
    read.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset)
}

pub(crate) fn address(dev: &Dev, name: &str) -> SocketAddr {
    dev.ready[name][0].as_str().and_then(|text| text.parse().ok()).expect("an address")
}

/// A `turnwell dev` over this configuration.
pub(crate) fn dev_with(config: &str, flags: &[&str]) -> (Folder, Dev) {
    let folder = Folder::with(config);
    let path = folder.config();
    let dev = Dev::start(&[&["--config", path.to_str().expect("a path")], flags].concat());
    (folder, dev)
}

#[test]
fn messages_in_pieces_and_in_a_row_are_answered() {
    let dev = Dev::start(&[]);
    let mut stream = connect(address(&dev, "tcp"));
    let local = stream.local_addr().expect("its address");
    for byte in request(1) {
        stream.write_all(&[byte]).expect("a write");
    }
    assert_eq!(answer(&mut stream, 1).expect("an answer"), local);
    let row: Vec<u8> = (2..200).flat_map(request).collect();
    let (first, second) = row.split_at(row.len() / 2 + 7);
    stream.write_all(first).expect("a write");
    stream.write_all(second).expect("a write");
    for number in 2..200 {
        assert_eq!(answer(&mut stream, number).expect("an answer"), local);
    }
}

/// A Binding request of this length behind its header, the most of it an attribute that nobody has to know.
fn long_request(number: u8, length: u16) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out, Class::Request, Method::BINDING, TransactionId([number; 12]));
    writer.attribute(AttributeType(0xffff), &vec![0x40; usize::from(length) - 4]);
    let _ = writer.finish();
    out
}

/// Lengths beyond what any datagram holds: nothing of them is relayed, and all that follows is.
fn stays_in_step(stream: impl Read + Write, echo: &Echo) {
    let mut talker = Talker::new(stream, echo.address());
    for length in 0xffec..=0xffff_u16 {
        let mut row = channel_data(&vec![0x40; usize::from(length)]);
        row.extend(channel_data(&length.to_be_bytes()));
        row.extend(long_request(1, length & !3));
        row.extend(channel_data(&[7; 7]));
        row.extend(request(2));
        // In three pieces, cut at other places every time.
        let step = row.len() / 3 + usize::from(length % 23);
        for piece in row.chunks(step) {
            talker.stream.write_all(piece).and_then(|()| talker.stream.flush()).expect("a write");
        }
        // Echoes come when the peer has sent them, answers at once; each kind in its order.
        let mut received: Vec<Vec<u8>> = (0..4).map(|_| message(&mut talker.stream)).collect();
        received.sort_by_key(|message| message[0] & 0xc0);
        let [one, two, data, more] = received.try_into().expect("four messages");
        for (mut answered, number) in [(one.as_slice(), 1), (two.as_slice(), 2)] {
            answer(&mut answered, number).unwrap_or_else(|error| panic!("{length:#x}: {error}"));
        }
        assert_eq!([data, more].map(|data| common::data(&data)), [length.to_be_bytes().to_vec(), vec![7; 7]]);
    }
}

#[test]
fn the_longest_messages_leave_a_stream_in_step() {
    let (_folder, dev) = dev_with(USERS, &[]);
    let (echo, root) = (Echo::start(), std::fs::read(dev.text("certificate")).expect("the certificate"));
    stays_in_step(connect(address(&dev, "tcp")), &echo);
    stays_in_step(tls(address(&dev, "tls"), "localhost", &root, &[]).expect("a handshake"), &echo);
}

/// A peer that most packets go to gets a socket of its own inside the server, while echoes wait in the first one.
#[test]
fn no_message_overtakes_another_when_a_peer_becomes_busy() {
    let (_folder, dev) = dev_with(&format!("{USERS}[limits]\nallocations-per-user = 0\n"), &[]);
    for _ in 0..100 {
        let echo = Echo::start();
        let mut talker = Talker::new(connect(address(&dev, "tcp")), echo.address());
        (0..6).for_each(|_| talker.exchange(11));
    }
}

#[test]
fn what_is_no_message_or_too_long_ends_the_connection() {
    let dev = Dev::start(&[]);
    for garbage in [
        &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
        b"\xff",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x00\x01\x00\x03\x21\x12\xa4\x42",
        b"\x40\x00\x20\x00",
        b"\x00\x03\x20\x00\x21\x12\xa4\x42",
        b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc6\x33\x64\x01\xdc\x04\x01\xbb",
    ] {
        let mut stream = connect(address(&dev, "tcp"));
        stream.write_all(garbage).expect("a write");
        assert!(is_closed(&mut stream), "{garbage:?}");
        let mut stream = connect(address(&dev, "tls"));
        stream.write_all(garbage).expect("a write");
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.len() < 100, "{garbage:?}: at most an alert");
    }
    binding(&mut connect(address(&dev, "tcp")), 1).expect("an answer");
}

#[test]
fn tls_is_spoken_with_and_without_alpn() {
    let dev = Dev::start(&[]);
    let root = std::fs::read(dev.text("certificate")).expect("the certificate");
    let at = address(&dev, "tls");
    for (offered, chosen) in [
        (&["stun.turn"][..], Some(&b"stun.turn"[..])),
        (&["stun.nat-discovery"], Some(b"stun.nat-discovery")),
        (&["h2", "stun.turn"], Some(b"stun.turn")),
        (&[], None),
    ] {
        let mut client = tls(at, "localhost", &root, offered).expect("a handshake");
        assert_eq!(client.conn.alpn_protocol(), chosen);
        let local = client.sock.local_addr().expect("its address");
        assert_eq!(binding(&mut client, 1).expect("an answer"), local);
    }
    assert!(tls(at, "localhost", &root, &["http/1.1"]).is_err());
    assert!(tls(at, "127.0.0.1", &root, &[]).is_ok());
}

#[test]
fn one_port_speaks_both() {
    let (_folder, dev) = dev_with("[listen]\nauto = [\"127.0.0.1:0\"]\n", &[]);
    let root = std::fs::read(dev.text("certificate")).expect("the certificate");
    let at = address(&dev, "tcp");
    assert_eq!(at, address(&dev, "tls"));
    binding(&mut connect(at), 1).expect("an answer in the clear");
    binding(&mut tls(at, "localhost", &root, &[]).expect("a handshake"), 2).expect("an answer over TLS");
}

/// A client on a stream with an allocation.
fn allocates(stream: &mut (impl Read + Write)) {
    let mut client = Client::new();
    let challenge = ask(stream, &client.allocate());
    client.challenged(&challenge);
    let reply = ask(stream, &client.allocate());
    assert!(common::is_success(&reply), "{:?}", common::error_code(&reply));
}

#[test]
fn what_carries_a_client_is_named_whatever_port_it_came_to() {
    let (_folder, dev) =
        dev_with(&format!("{USERS}[listen]\nauto = [\"127.0.0.1:0\"]\n[log]\nformat = \"json\"\n"), &[]);
    let root = std::fs::read(dev.text("certificate")).expect("the certificate");
    let (at, server) = (address(&dev, "tcp"), Server::of(&dev));
    let [mut plain, mut other] = [connect(at), connect(at)];
    let mut sealed = tls(at, "localhost", &root, &[]).expect("a handshake");
    [&mut plain, &mut other].into_iter().for_each(allocates);
    allocates(&mut sealed);
    let mut listed: Vec<_> = server.sessions().iter().map(|session| session["transport"].clone()).collect();
    listed.sort_by_key(ToString::to_string);
    assert_eq!(listed, ["tcp", "tcp", "tls"]);
    let counts = |name: &str| {
        ["udp", "tcp", "tls"].map(|transport| {
            let row = |family: &str| format!("turnwell_{name}{{transport=\"{transport}\",family=\"{family}\"}}");
            assert_eq!(server.metric(&row("ipv6")), 0);
            server.metric(&row("ipv4"))
        })
    };
    let wait_for = |name: &str, wanted: [u64; 3]| {
        let start = Instant::now();
        while counts(name) != wanted {
            assert!(start.elapsed() < PATIENCE, "{name}: {:?}", counts(name));
        }
    };
    wait_for("allocations", [0, 2, 1]);
    drop(other);
    wait_for("allocations", [0, 1, 1]);
    drop(sealed);
    wait_for("allocations", [0, 1, 0]);
    drop(plain);
    wait_for("allocations", [0, 0, 0]);
    assert_eq!(counts("allocations_total"), [0, 2, 1]);
    let log = dev.process.log_when(|log| log.matches("allocation ended").count() == 3);
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let lines: Vec<_> =
        lines.filter(|line| line["message"].as_str().is_some_and(|text| text.starts_with("allocation "))).collect();
    for message in ["allocation began", "allocation ended"] {
        let of = lines.iter().filter(|line| line["message"] == message);
        let mut named: Vec<_> = of.map(|line| line["transport"].as_str().expect("a transport")).collect();
        named.sort_unstable();
        assert_eq!(named, ["tcp", "tcp", "tls"], "{message}");
    }
}

#[test]
fn a_trusted_proxy_says_whose_connection_it_is() {
    let (_folder, dev) = dev_with("[streams]\nproxies = [\"127.0.0.1\"]\nopening = \"3s\"\n", &[]);
    let client: SocketAddr = "192.0.2.1:56324".parse().expect("an address");
    let v1 = b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n".to_vec();
    let v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc6\x33\x64\x01\xdc\x04\x01\xbb".to_vec();
    for header in [&v1, &v2] {
        let mut stream = connect(address(&dev, "tcp"));
        for byte in header {
            stream.write_all(&[*byte]).expect("a write");
        }
        assert_eq!(binding(&mut stream, 1).expect("an answer"), client);
        let mut stream = connect(address(&dev, "tcp"));
        stream.write_all(&[header.as_slice(), &request(2)].concat()).expect("a write");
        assert_eq!(answer(&mut stream, 2).expect("an answer"), client);
    }
    for wrong in [&request(1)[..], b"PROXY TCP4 nonsense\r\n", b"PROXY ", b""] {
        let mut stream = connect(address(&dev, "tcp"));
        stream.write_all(wrong).expect("a write");
        assert!(is_closed(&mut stream), "{wrong:?}");
    }
}

#[test]
fn connections_of_a_source_are_limited_and_come_back() {
    let (_folder, dev) = dev_with("[streams]\nconnections-per-source = 5\n", &["--workers", "1"]);
    let at = address(&dev, "tcp");
    let mut kept: Vec<TcpStream> = (0..5).map(|_| connect(at)).collect();
    for stream in &mut kept {
        binding(stream, 1).expect("an answer");
    }
    assert!(refuses(at));
    let mut last = kept.pop().expect("a connection");
    last.shutdown(std::net::Shutdown::Write).expect("an end");
    assert!(is_closed(&mut last));
    binding(&mut connect(at), 2).expect("an answer");
}

#[test]
fn silent_stuck_and_slow_clients_are_bounded_and_ended() {
    let config = "[streams]\nopening = \"3s\"\nconnections-per-source = 0\nqueue = \"128KiB\"\n";
    let (_folder, dev) = dev_with(config, &["--workers", "1"]);
    let (tcp, tls) = (address(&dev, "tcp"), address(&dev, "tls"));
    binding(&mut connect(tcp), 1).expect("an answer");
    let before = dev.process.resident();

    // Half of them say nothing, the others begin a message or a handshake and never finish it.
    let begin = |number| {
        let mut stream = connect(if number % 2 == 0 { tcp } else { tls });
        let written = match number % 4 {
            0 => stream.write_all(&request(1)[..10]),
            1 => stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"),
            _ => Ok(()),
        };
        written.expect("a write");
        stream
    };
    let mut silent: Vec<TcpStream> = (0..2000).map(begin).collect();
    let mut lawful = connect(tcp);
    binding(&mut lawful, 2).expect("an answer meanwhile");
    let grown = dev.process.resident().saturating_sub(before);
    assert!(grown < 2000 * PER_SILENT_CONNECTION, "{grown} bytes for 2000 silent connections");

    // Those that ask and never read are closed once their queue is full; the server stays responsive.
    let row: Vec<u8> = (0..100).flat_map(request).collect();
    for _ in 0..8 {
        let mut stuck = connect(tcp);
        let ended = (0..20_000).find_map(|_| stuck.write_all(&row).err());
        assert!(ended.is_some_and(|error| !is_timeout(&error)), "not closed");
        binding(&mut lawful, 3).expect("an answer meanwhile");
    }
    for stream in &mut silent {
        assert!(is_closed(stream));
    }
    binding(&mut lawful, 4).expect("an answer afterwards");
}

#[test]
fn a_certificate_is_swapped_without_touching_connections() {
    let port = free_port();
    let folder = Folder::with(&format!(
        "[listen]\nudp = [\"127.0.0.1:0\"]\ntls = [\"127.0.0.1:{port}\"]\n[api]\nlisten = []\n\
         [tls]\ncertificate = \"chain.pem\"\nkey = \"key.pem\"\n"
    ));
    let at = SocketAddr::from(([127, 0, 0, 1], port));
    let first = renew(&folder);
    let serve = Serve::start(&folder.config());
    serve.notified("READY=1");
    let mut old: Vec<TlsClient> = (0..20).map(|_| tls(at, "localhost", &first, &[]).expect("a handshake")).collect();

    let second = renew(&folder);
    serve.process.signal("HUP");
    serve.notified("STATUS=relaying, configuration reloaded");
    for client in &mut old {
        binding(client, 1).expect("an answer on an old connection");
    }
    assert!(tls(at, "localhost", &first, &[]).is_err());
    binding(&mut tls(at, "localhost", &second, &[]).expect("a handshake"), 2).expect("an answer");

    folder.write("key.pem", "no key", 0o600);
    serve.process.signal("HUP");
    serve.notified("STATUS=relaying, last reload failed, see the log");
    binding(&mut tls(at, "localhost", &second, &[]).expect("a handshake"), 3).expect("an answer");
}
