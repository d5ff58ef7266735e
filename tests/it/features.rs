//! RFC 8489's long-term credentials with `turn-client-proto`, a client that we did not write: SHA-256 keys over every
//! way in, and an anonymous user name.

use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc;
use std::thread;

use turn_client_proto::api::TurnConfig;
use turn_client_proto::stun::auth::Feature;
use turn_client_proto::types::stun::message::IntegrityAlgorithm;
use turn_client_proto::types::{TransportType, TurnCredentials};
use turnwell::wire::{AttributeType, Message};

use crate::support::{Dev, Folder, PATIENCE, Serve, free_port};
use crate::ystreet::{Oracle, Way, config};

/// Allocates, permits, binds a channel, and sends to a peer of its own.
#[track_caller]
fn relays(mut oracle: Oracle) {
    let relayed = oracle.relayed(1)[0];
    let peer = UdpSocket::bind("127.0.0.1:0").expect("a peer");
    peer.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let address = peer.local_addr().expect("its address");
    oracle.permit(TransportType::Udp, address);
    oracle.bind(address);
    oracle.send(TransportType::Udp, address, b"data");
    let mut packet = [0; 64];
    let (length, from) = peer.recv_from(&mut packet).expect("what the client sent");
    assert_eq!((&packet[..length], from), (&b"data"[..], relayed));
    oracle.delete();
}

/// A way to a server that shows what the client sends, for one client.
fn watched(server: SocketAddr) -> (SocketAddr, mpsc::Receiver<Vec<u8>>) {
    let front = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let back = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    back.connect(server).expect("a way to the server");
    let address = front.local_addr().expect("its address");
    let (seen, sees) = mpsc::channel();
    let (answers, to_client) = (back.try_clone().expect("it again"), front.try_clone().expect("it again"));
    thread::spawn(move || {
        let (mut packet, mut client) = ([0; 2048], None);
        while let Ok((length, from)) = front.recv_from(&mut packet) {
            if client.replace(from).is_none() {
                let (answers, to_client) = (answers.try_clone(), to_client.try_clone());
                let (Ok(answers), Ok(to_client)) = (answers, to_client) else { return };
                thread::spawn(move || {
                    let mut packet = [0; 2048];
                    while let Ok(length) = answers.recv(&mut packet) {
                        if to_client.send_to(&packet[..length], from).is_err() {
                            return;
                        }
                    }
                });
            }
            if back.send(&packet[..length]).is_err() || seen.send(packet[..length].to_vec()).is_err() {
                return;
            }
        }
    });
    (address, sees)
}

/// The attributes of the STUN messages that were seen.
fn kinds(seen: &mpsc::Receiver<Vec<u8>>) -> Vec<Vec<AttributeType>> {
    let of = |packet: Vec<u8>| {
        let message = Message::parse(&packet).ok()?;
        Some(message.attributes().flatten().map(|attribute| attribute.kind).collect())
    };
    seen.try_iter().filter_map(of).collect()
}

#[test]
fn a_client_that_knows_sha256_only_is_served_every_way() {
    let dev = Dev::start(&[]);
    for way in [Way::Udp, Way::Tcp, Way::Tls] {
        let mut asked = config(&dev);
        asked.set_supported_integrity(IntegrityAlgorithm::Sha256);
        relays(Oracle::start(&dev, way, false, asked));
    }
}

/// It knows the list, chooses MD5 and signs with SHA-1: nothing changes for clients that know no better.
#[test]
fn a_client_that_knows_sha1_only_reads_the_list_and_chooses_md5() {
    let dev = Dev::start(&[]);
    let (address, seen) = watched(dev.address());
    relays(Oracle::start_udp(address, config(&dev)));
    let signed = kinds(&seen).into_iter().filter(|kinds| kinds.contains(&AttributeType::MESSAGE_INTEGRITY));
    assert!(signed.into_iter().all(|kinds| {
        kinds.contains(&AttributeType::USERNAME) && kinds.contains(&AttributeType::PASSWORD_ALGORITHMS)
    }));
}

#[test]
fn static_users_stay_anonymous() {
    let port = free_port();
    let folder = Folder::with(&format!(
        "[listen]\nudp = [\"127.0.0.1:{port}\"]\n[peers]\nallow = [\"127.0.0.0/8\"]\n[api]\nlisten = []\n\
         [credentials]\nusers = [{{ name = \"alice\", password = \"pw\" }}]\n"
    ));
    let serve = Serve::start(&folder.config());
    serve.notified("READY=1");
    let (address, seen) = watched(([127, 0, 0, 1], port).into());
    let mut asked = TurnConfig::new(TurnCredentials::new("alice", "pw"));
    asked.set_supported_integrity(IntegrityAlgorithm::Sha256);
    asked.set_anonymous_username(Feature::Required);
    relays(Oracle::start_udp(address, asked));
    let all = kinds(&seen);
    let signed: Vec<_> = all.iter().filter(|kinds| kinds.contains(&AttributeType::MESSAGE_INTEGRITY_SHA256)).collect();
    assert!(signed.len() >= 3, "Allocate, CreatePermission, ChannelBind");
    assert!(signed.iter().all(|kinds| kinds.contains(&AttributeType::USERHASH)));
    assert!(!all.iter().any(|kinds| kinds.contains(&AttributeType::USERNAME)));
}
