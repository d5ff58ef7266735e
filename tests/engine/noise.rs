//! A million datagrams that nobody should send: random bytes, and real messages with some of their bytes changed, from
//! strangers, from a client with an allocation, and from peers. The engine answers on, relays on, and holds nothing new.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;

use turnwell::relay::{Action, FiveTuple, ListenerId, PeerAddr, RelayId, StreamId};
use turnwell::wire::{Algorithm, AttributeType, Class, Method, TransactionId, Writer};

use crate::client::{Client, Received, channel_data, send_indication, udp};
use crate::harness::{OTHER_PEER, Outcome, PEER, World, addr};
use crate::random::Random;

const DATAGRAMS: u32 = 1_000_000;

impl Random {
    fn address(&mut self) -> SocketAddr {
        let port = u16::try_from(self.below(65_536)).unwrap();
        let ip = match self.below(2) {
            0 => IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(self.next() >> 32).unwrap())),
            _ => IpAddr::V6(Ipv6Addr::from_bits((u128::from(self.next()) << 64) | u128::from(self.next()))),
        };
        SocketAddr::new(ip, port)
    }

    fn five_tuple(&mut self) -> FiveTuple {
        let stream = NonZeroU32::new(u32::try_from(self.below(3)).unwrap()).map(StreamId);
        FiveTuple { client: self.address(), listener: ListenerId(u16::try_from(self.below(3)).unwrap()), stream }
    }
}

/// One well-formed message of every kind, signed by a client that has an allocation; none of them ends it.
fn templates(client: &mut Client) -> Vec<Vec<u8>> {
    let peer = |w: &mut Writer<'_>| {
        w.xor_address(AttributeType::XOR_PEER_ADDRESS, addr(PEER));
    };
    let mut templates = vec![
        client.bare(Method::BINDING),
        client.bare(Method::ALLOCATE),
        client.sign(Method::ALLOCATE, |w| {
            udp(w);
            w.u32(AttributeType::LIFETIME, 900).attribute(AttributeType::EVEN_PORT, &[0x80]);
        }),
        client.sign(Method::ALLOCATE, |w| {
            udp(w);
            w.attribute(AttributeType::RESERVATION_TOKEN, &[1; 8]);
        }),
        client.sign(Method::REFRESH, |w| {
            w.u32(AttributeType::LIFETIME, 600);
        }),
        client.sign(Method::CREATE_PERMISSION, peer),
        client.sign(Method::CHANNEL_BIND, |w| {
            w.u32(AttributeType::CHANNEL_NUMBER, 0x4000 << 16);
            peer(w);
        }),
        client.sign(Method::CONNECT, peer),
        send_indication(addr(PEER), b"some data"),
        channel_data(0x4000, b"some more data"),
        channel_data(0x4001, b""),
    ];
    let mut sha256 = Client { algorithm: Algorithm::Sha256, ..client.clone() };
    templates.push(sha256.sign(Method::REFRESH, |_| {}));
    let mut fingerprinted = Vec::new();
    let mut writer = Writer::new(&mut fingerprinted, Class::Request, Method::BINDING, TransactionId([4; 12]));
    writer.attribute(AttributeType::SOFTWARE, b"noise").fingerprint();
    templates.push(fingerprinted);
    templates
}

/// Bytes from nowhere; most of them with a head that gets them past the first checks.
fn invented(random: &mut Random) -> Vec<u8> {
    let length = random.below(200);
    let mut bytes = random.bytes(length);
    let kind = random.below(4);
    if kind > 0 && bytes.len() >= 20 {
        bytes[0] &= 0x3f;
        bytes[4..8].copy_from_slice(&[0x21, 0x12, 0xa4, 0x42]);
        if kind > 1 {
            bytes.truncate(length & !3);
            let body = u16::try_from(bytes.len() - 20).unwrap();
            bytes[2..4].copy_from_slice(&body.to_be_bytes());
            let methods: [u16; 6] = [0x0001, 0x0003, 0x0004, 0x0008, 0x0009, 0x0016];
            bytes[..2].copy_from_slice(&methods[random.below(6)].to_be_bytes());
        }
    }
    bytes
}

/// A real message, damaged: bits, bytes, attributes' lengths, its own length, its end.
fn damaged(random: &mut Random, templates: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = templates[random.below(templates.len())].clone();
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len());
        match random.below(7) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.byte(),
            2 => bytes.truncate(at.max(1)),
            3 => bytes.extend(random.bytes(4)),
            4 => {
                let other = &templates[random.below(templates.len())];
                bytes.truncate(at & !3);
                bytes.extend(other.get(at & !3..).unwrap_or_default());
                bytes.resize(bytes.len().max(1), 0);
            }
            5 if bytes.len() >= 24 => {
                let at = 20 + ((at % (bytes.len() - 23)) & !3);
                bytes[at + 2..at + 4].copy_from_slice(&[0, 8]);
            }
            _ => {}
        }
        // More often than not the length is right, so that what comes behind it is looked at.
        if random.below(4) > 0 && bytes.len() >= 20 && bytes[0] < 0x40 {
            let body = u16::try_from(bytes.len() - 20).unwrap();
            bytes[2..4].copy_from_slice(&body.to_be_bytes());
        }
    }
    bytes
}

#[test]
fn a_million_bad_datagrams_change_nothing() {
    let mut world = World::new();
    let (mut client, relay) = world.allocated(1000);
    world.refresh(&mut client, Some(3600));
    world.bind(&mut client, 0x4000, PEER);
    world.permit(&mut client, &[OTHER_PEER]);
    let templates = templates(&mut client);
    let usage = world.relay.usage();
    let mut random = Random::new(1);
    let mut out = Vec::with_capacity(65_536);
    let (mut discarded, mut replied, mut relayed) = (0_u32, 0_u32, 0_u32);
    for _ in 0..DATAGRAMS {
        let bytes = match random.below(3) {
            0 => invented(&mut random),
            _ => damaged(&mut random, &templates),
        };
        out.clear();
        let action = match random.below(8) {
            0 => {
                let id = if random.below(2) == 0 { relay } else { RelayId(u32::try_from(random.below(200)).unwrap()) };
                world.relay.handle_peer(world.now, id, PeerAddr(random.address()), &bytes, &mut out)
            }
            1..=3 => world.relay.handle_client(world.now, &client.at, &bytes, &mut out),
            _ => world.relay.handle_client(world.now, &random.five_tuple(), &bytes, &mut out),
        };
        match action {
            Action::Discard(_) => discarded += 1,
            Action::Reply { .. } => {
                assert!(out.len() <= 200, "no answer is long: {} bytes", out.len());
                replied += 1;
            }
            Action::ToPeer { .. } | Action::ToSibling { .. } | Action::ToClient { .. } => relayed += 1,
            Action::ReplyFrom { .. } => panic!("there is no other listener"),
            other @ (Action::Open(_) | Action::Connect { .. } | Action::Bind { .. } | Action::HandOver { .. }) => {
                panic!("nobody may open anything: {other:?}")
            }
        }
        while world.relay.poll_event().is_some() {}
    }
    assert_eq!(discarded + replied + relayed, DATAGRAMS);
    assert!(discarded > 300_000 && replied > 100_000 && relayed > 1000, "{discarded} {replied} {relayed}");
    assert_eq!(world.relay.usage(), usage);
    assert!(out.capacity() <= 65_536);
    still_works(&mut world, &mut client, relay);
    world.refresh(&mut client, Some(0));
    world.assert_empty();
}

fn still_works(world: &mut World, client: &mut Client, relay: RelayId) {
    let mut stranger = Client::new("100.0.0.99:9", "nobody", "");
    let mut binding = Vec::new();
    Writer::new(&mut binding, Class::Request, Method::BINDING, stranger.next_id()).finish();
    assert_eq!(world.packet(&stranger.at, &binding).reply().mapped(), stranger.at.client);
    let to_peer = Outcome::ToPeer { relay, peer: addr(PEER), data: b"up".to_vec() };
    assert_eq!(world.channel(client, 0x4000, b"up"), to_peer);
    let received = Received::Channel { number: 0x4000, data: b"down".to_vec() };
    assert_eq!(world.peer_sends(relay, PEER, b"down"), Outcome::ToClient { client: client.at, received });
    assert!(matches!(world.send(client, OTHER_PEER, b"x"), Outcome::ToPeer { .. }));
    assert_eq!(world.refresh(client, None).code(), 200);
    let (other, _) = world.allocated(2000);
    world.close(&other);
}
