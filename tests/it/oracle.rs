//! `turn-client-proto`, a client that we did not write, through every way in: UDP, TCP and TLS, IPv4 and IPv6, both
//! families at once.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};

use turn_client_proto::types::{AddressFamily, TransportType};

use crate::support::{Dev, Folder, PATIENCE};
use crate::ystreet::{Oracle, Way, config};

const WAYS: [Way; 3] = [Way::Udp, Way::Tcp, Way::Tls];

/// A server on both families of loopback; on IPv4 alone where there is no other. This client takes the RFC by its
/// letter: who does not ask for a family gets IPv4.
fn dev() -> (Folder, Dev, Vec<bool>) {
    let folder = Folder::with("[relay]\ndefault-family = \"ipv4\"\n");
    let path = folder.config();
    let config = ["--config", path.to_str().expect("a path")];
    if UdpSocket::bind("[::1]:0").is_err() {
        eprintln!("no IPv6 on this machine: its half did not run");
        let dev = Dev::start(&config);
        return (folder, dev, vec![false]);
    }
    let both = ["--listen", "127.0.0.1:0", "--listen", "[::1]:0"];
    let dev = Dev::start(&[config.as_slice(), &both].concat());
    (folder, dev, vec![false, true])
}

fn peer(v6: bool) -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind(if v6 { "[::1]:0" } else { "127.0.0.1:0" }).expect("a peer");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let address = socket.local_addr().expect("its address");
    (socket, address)
}

/// Data both ways, from the client first.
#[track_caller]
fn echo(oracle: &mut Oracle, (socket, address): &(UdpSocket, SocketAddr), relayed: SocketAddr, data: &[u8]) {
    oracle.send(TransportType::Udp, *address, data);
    let mut packet = [0; 2048];
    let (length, from) = socket.recv_from(&mut packet).expect("what the client sent");
    assert_eq!((&packet[..length], from), (data, relayed));
    socket.send_to(data, relayed).expect("a datagram sent");
    assert_eq!(oracle.receive(*address, data.len()), data);
}

fn family(v6: bool) -> AddressFamily {
    if v6 { AddressFamily::IPV6 } else { AddressFamily::IPV4 }
}

#[test]
fn every_way_in_relays_indications_and_channels() {
    let (_folder, dev, families) = dev();
    for way in WAYS {
        for client in &families {
            for relay in &families {
                let mut asked = config(&dev);
                asked.set_address_family(family(*relay));
                let mut oracle = Oracle::start(&dev, way, *client, asked);
                let relayed = oracle.relayed(1)[0];
                assert_eq!(relayed.is_ipv6(), *relay, "{way:?}");
                let peer = peer(*relay);
                oracle.permit(TransportType::Udp, peer.1);
                for length in [1, 2, 3, 4, 171, 1200] {
                    echo(&mut oracle, &peer, relayed, &vec![7; length]);
                }
                oracle.bind(peer.1);
                // On streams it forgets the padding of ChannelData (RFC 8656 §12.5): whole words only.
                let odd: &[usize] = if way == Way::Udp { &[1, 2, 3, 171] } else { &[] };
                for length in [4, 172, 1200].iter().chain(odd) {
                    echo(&mut oracle, &peer, relayed, &vec![8; *length]);
                }
                oracle.delete();
            }
        }
    }
}

#[test]
fn one_client_has_an_address_of_each_family() {
    let (_folder, dev, families) = dev();
    if families.len() < 2 {
        return;
    }
    for way in WAYS {
        let mut asked = config(&dev);
        asked.add_address_family(AddressFamily::IPV6);
        let mut oracle = Oracle::start(&dev, way, false, asked);
        let relayed = oracle.relayed(2);
        for v6 in [false, true] {
            let relayed = *relayed.iter().find(|address| address.is_ipv6() == v6).expect("one of each family");
            let peer = peer(v6);
            oracle.permit(TransportType::Udp, peer.1);
            echo(&mut oracle, &peer, relayed, b"indication");
            if v6 {
                // In one family only: the client numbers the channels of each from the beginning, but on the wire a
                // number is all that tells them apart.
                oracle.bind(peer.1);
                echo(&mut oracle, &peer, relayed, b"on a channel");
            }
        }
        oracle.delete();
    }
}

fn loopback(v6: bool) -> &'static str {
    if v6 { "[::1]:0" } else { "127.0.0.1:0" }
}

/// Data both ways over a relayed connection. This client's TLS takes little at a time.
#[track_caller]
fn talk(oracle: &mut Oracle, peer: &mut TcpStream, at: SocketAddr) {
    for length in [1, 3, 700, 1000] {
        let data = vec![7; length];
        oracle.send(TransportType::Tcp, at, &data);
        let mut received = vec![0; length];
        peer.read_exact(&mut received).expect("what the client sent");
        assert_eq!(received, data);
        peer.write_all(&data).expect("bytes written");
        assert_eq!(oracle.receive(at, length), data);
    }
}

/// The client's part only: it takes ConnectionAttempt for a request, but it is an indication (RFC 6062 §4.4).
#[test]
fn connections_are_relayed() {
    let (_folder, dev, families) = dev();
    for way in [Way::Tcp, Way::Tls] {
        for client in &families {
            for relay in &families {
                let mut asked = config(&dev);
                asked.set_allocation_transport(TransportType::Tcp);
                asked.set_address_family(family(*relay));
                let mut oracle = Oracle::start(&dev, way, *client, asked);
                let relayed = oracle.relayed(1)[0];
                assert_eq!(relayed.is_ipv6(), *relay, "{way:?}");
                let listener = TcpListener::bind(loopback(*relay)).expect("a peer");
                let at = listener.local_addr().expect("its address");
                oracle.permit(TransportType::Tcp, at);
                assert!(oracle.connect(at), "the client asks for a connection");
                let (mut peer, from) = listener.accept().expect("the server connects");
                assert_eq!(from, relayed, "from the relayed address");
                peer.set_read_timeout(Some(PATIENCE)).expect("a time-out");
                talk(&mut oracle, &mut peer, at);

                let gone = TcpListener::bind(loopback(*relay)).and_then(|gone| gone.local_addr()).expect("an address");
                assert!(!oracle.connect(gone), "nobody listens there");
                let also = TcpListener::bind(loopback(*relay)).expect("another peer");
                let also_at = also.local_addr().expect("its address");
                assert!(oracle.connect(also_at), "a second connection");
                let (mut other, _) = also.accept().expect("the server connects");
                other.set_read_timeout(Some(PATIENCE)).expect("a time-out");
                talk(&mut oracle, &mut other, also_at);
                talk(&mut oracle, &mut peer, at);
                drop(peer);
                oracle.closed(1);
                talk(&mut oracle, &mut other, also_at);
                oracle.delete();
                let left = other.read(&mut [0; 1]);
                assert!(left.is_ok_and(|count| count == 0), "closed with the allocation");
            }
        }
    }
}
