//! A second opinion on every byte: the `stun` and `turn` crates write what we write and read what we read.
//!
//! Their known leniencies are left out on purpose: bytes behind a message, the two top bits, lengths that are no multiple
//! of four, the old number of XOR-MAPPED-ADDRESS (0x8020), and addresses shorter than their family.

use std::net::SocketAddr;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestRunner};
use stun::attributes::{AttrType, RawAttribute};
use stun::error_code::{ErrorCode as TheirCode, ErrorCodeAttribute};
use stun::fingerprint::FINGERPRINT;
use stun::integrity::MessageIntegrity;
use stun::message::{Getter, Message as Theirs, MessageType, Setter};
use stun::textattrs::TextAttribute;
use stun::uattrs::UnknownAttributes;
use stun::xoraddr::XorMappedAddress;
use turn::proto;
use turnwell::relay::OpenError;
use turnwell::wire::integrity::verify_fingerprint;
use turnwell::wire::{
    Algorithm, AttributeType, ChannelData, Class, ErrorCode, IntegrityKey, Message, Method, ParseError, TransactionId,
    Writer,
};

use crate::client::{REALM, Reply, channel_data, long_term_key, udp};
use crate::harness::{OTHER_PEER, PEER, World, addr, seconds};

/// Their decoding of bytes.
fn theirs(bytes: &[u8]) -> Result<Theirs, stun::Error> {
    let mut message = Theirs::new();
    message.unmarshal_binary(bytes).map(|()| message)
}

/// Number and value of each attribute, as they see it.
fn their_attributes(message: &Theirs) -> Vec<(u16, Vec<u8>)> {
    message.attributes.0.iter().map(|attribute| (attribute.typ.0, attribute.value.clone())).collect()
}

fn our_attributes(message: &Message<'_>) -> Option<Vec<(u16, Vec<u8>)>> {
    message.attributes().map(|attribute| attribute.ok().map(|a| (a.kind.0, a.value.to_vec()))).collect()
}

fn password(username: &str) -> MessageIntegrity {
    MessageIntegrity::new_long_term_integrity(username.into(), REALM.into(), "pw".into())
}

/// Both read the same from a reply, and agree on its signature.
fn agree(reply: &Reply, what: &str) {
    let ours = reply.message();
    let mut other = theirs(&reply.bytes).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(other.transaction_id.0, ours.transaction_id().0, "{what}");
    assert_eq!(other.typ.value(), u16::from_be_bytes([reply.bytes[0], reply.bytes[1]]), "{what}");
    assert_eq!(Some(their_attributes(&other)), our_attributes(&ours), "{what}");
    for attribute in reply.attributes() {
        let kind = AttrType(attribute.kind.0);
        match attribute.kind {
            AttributeType::XOR_MAPPED_ADDRESS
            | AttributeType::XOR_RELAYED_ADDRESS
            | AttributeType::XOR_PEER_ADDRESS => {
                let mut address = XorMappedAddress::default();
                address.get_from_as(&other, kind).unwrap();
                let read = attribute.xor_address(ours.transaction_id()).unwrap();
                assert_eq!(SocketAddr::new(address.ip, address.port), read, "{what}");
            }
            AttributeType::ERROR_CODE => {
                let mut code = ErrorCodeAttribute::default();
                code.get_from(&other).unwrap();
                assert_eq!(code.code.0, reply.code(), "{what}");
                assert!(std::str::from_utf8(&code.reason).is_ok_and(|reason| !reason.is_empty()), "{what}");
            }
            AttributeType::UNKNOWN_ATTRIBUTES => {
                let mut unknown = UnknownAttributes(vec![]);
                unknown.get_from(&other).unwrap();
                let read: Vec<u16> = unknown.0.iter().map(|kind| kind.0).collect();
                assert_eq!(read, reply.unknown().iter().map(|kind| kind.0).collect::<Vec<_>>(), "{what}");
            }
            AttributeType::LIFETIME => {
                let mut lifetime = proto::lifetime::Lifetime::default();
                lifetime.get_from(&other).unwrap();
                assert_eq!(lifetime.0.as_secs(), u64::from(reply.lifetime().unwrap()), "{what}");
            }
            AttributeType::RESERVATION_TOKEN => {
                let mut token = proto::rsrvtoken::ReservationToken::default();
                token.get_from(&other).unwrap();
                assert_eq!(token.0, reply.token().unwrap().0, "{what}");
            }
            AttributeType::MESSAGE_INTEGRITY => {
                let signed = ["alice", "bob"].iter().any(|user| password(user).check(&mut other).is_ok());
                assert!(signed, "{what}: they find the signature wrong");
            }
            AttributeType::FINGERPRINT => FINGERPRINT.check(&other).unwrap_or_else(|error| panic!("{what}: {error}")),
            _ => {}
        }
    }
}

#[test]
fn stun_reads_every_kind_of_reply_as_we_do() {
    let mut world = World::new();
    let mut v4 = world.client(1000);
    let mut v6 = world.client_of("alice", "[2a00::77]:1000");
    let binding = |world: &mut World, client: &mut crate::client::Client, fingerprint: bool| {
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes, Class::Request, Method::BINDING, client.next_id());
        if fingerprint {
            writer.fingerprint();
        }
        world.packet(&client.at.clone(), &bytes).reply()
    };
    let challenge = v4.bare(Method::ALLOCATE);
    let mut replies = vec![
        ("binding v4", binding(&mut world, &mut v4, false)),
        ("binding v6 with fingerprint", binding(&mut world, &mut v6, true)),
        ("challenge", world.packet(&v4.at.clone(), &challenge).reply()),
        ("437", world.refresh(&mut v4, None)),
        (
            "442",
            world.ask(&mut v4, Method::ALLOCATE, |w| {
                w.attribute(AttributeType::REQUESTED_TRANSPORT, &[6, 0, 0, 0]);
            }),
        ),
        (
            "440",
            world.ask(&mut v4, Method::ALLOCATE, |w| {
                udp(w);
                w.attribute(AttributeType::REQUESTED_ADDRESS_FAMILY, &[7, 0, 0, 0]);
            }),
        ),
        (
            "420",
            world.ask(&mut v4, Method::ALLOCATE, |w| {
                w.attribute(AttributeType(0x7001), b"").attribute(AttributeType(0x7002), b"x");
                w.attribute(AttributeType(0x7003), b"");
            }),
        ),
        (
            "pair",
            world.ask(&mut v4, Method::ALLOCATE, |w| {
                udp(w);
                w.attribute(AttributeType::EVEN_PORT, &[0x80]);
            }),
        ),
        ("allocate v6", world.allocate(&mut v6)),
        ("refresh", world.refresh(&mut v4, Some(1234))),
        ("permission", world.permit(&mut v4, &[PEER])),
        ("403", world.permit(&mut v4, &["127.0.0.1:1"])),
        ("443", world.permit(&mut v6, &[PEER])),
        ("channel", world.bind(&mut v4, 0x4000, PEER)),
        ("400", world.bind(&mut v4, 0x4000, OTHER_PEER)),
        ("441", world.refresh(&mut v4.as_user("bob", "pw"), None)),
        ("401", world.refresh(&mut v4.as_user("alice", "no"), None)),
    ];
    let mut third = world.client(1003);
    world.refusals.extend([OpenError::UserQuota, OpenError::Unavailable]);
    replies.push(("486", world.allocate(&mut third)));
    replies.push(("508", world.allocate(&mut third)));
    world.advance(seconds(3601));
    replies.push(("438", world.refresh(&mut third, None)));
    for (what, reply) in &replies {
        agree(reply, what);
        if what.len() == 3 {
            assert_eq!(reply.code().to_string(), *what);
        }
    }
}

#[test]
fn stun_reads_data_indications_of_every_length_as_we_do() {
    let mut world = World::new();
    let (mut client, relay) = world.allocated(1000);
    world.permit(&mut client, &[PEER]);
    for length in (0..40).chain([1200, 65_000]) {
        let data = vec![0xab; length];
        let mut out = Vec::new();
        let source = turnwell::relay::PeerAddr(addr(PEER));
        let action = world.relay.handle_peer(world.now, relay, source, &data, &mut out);
        let turnwell::relay::Action::ToClient { out: range, payload, padding, .. } = action else {
            panic!("{action:?}")
        };
        let bytes = [&out[range], &data[payload], &vec![0; usize::from(padding)]].concat();
        let other = theirs(&bytes).unwrap();
        let (mut read, mut peer) = (proto::data::Data::default(), proto::peeraddr::PeerAddress::default());
        read.get_from(&other).unwrap();
        peer.get_from(&other).unwrap();
        assert_eq!((read.0, SocketAddr::new(peer.ip, peer.port)), (data, addr(PEER)));
        assert_eq!(other.typ.to_string(), "Data indication");
    }
}

#[test]
fn turn_reads_and_writes_channel_data_as_we_do() {
    for length in (0..20).chain([1200]) {
        let data = vec![0xcd; length];
        let mut other = proto::chandata::ChannelData { raw: channel_data(0x4abc, &data), ..Default::default() };
        other.decode().unwrap();
        assert_eq!((other.number.0, &other.data), (0x4abc, &data));
        other.encode();
        let ours = ChannelData::parse(&other.raw).unwrap();
        assert_eq!((ours.channel.0, ours.data), (0x4abc, data.as_slice()));
    }
}

/// An attribute that both sides can write from its meaning.
#[derive(Clone, Debug)]
enum Item {
    Raw(u16, Vec<u8>),
    Xor(AttributeType, SocketAddr),
    Mapped(SocketAddr),
    Text(AttributeType, String),
    Error(ErrorCode),
    Unknown(Vec<u16>),
    Lifetime(u32),
    Channel(u16),
    Transport(u8),
    Family(u8),
    Token([u8; 8]),
    DontFragment,
}

fn address() -> impl Strategy<Value = SocketAddr> {
    prop_oneof![
        (any::<[u8; 4]>(), any::<u16>()).prop_map(SocketAddr::from),
        (any::<[u8; 16]>(), any::<u16>()).prop_map(SocketAddr::from),
    ]
}

fn item() -> impl Strategy<Value = Item> {
    let special = [0x0008, 0x001c, 0x8028, 0x8020];
    let raw = any::<u16>().prop_filter("written apart", move |kind| !special.contains(kind));
    let xor = prop::sample::select(vec![
        AttributeType::XOR_MAPPED_ADDRESS,
        AttributeType::XOR_PEER_ADDRESS,
        AttributeType::XOR_RELAYED_ADDRESS,
    ]);
    let text = prop::sample::select(vec![
        AttributeType::USERNAME,
        AttributeType::REALM,
        AttributeType::NONCE,
        AttributeType::SOFTWARE,
    ]);
    let code = prop::sample::select(vec![
        ErrorCode::TryAlternate,
        ErrorCode::Unauthenticated,
        ErrorCode::AllocationQuotaReached,
        ErrorCode::ServerError,
        ErrorCode::PeerAddressFamilyMismatch,
    ]);
    prop_oneof![
        (raw, prop::collection::vec(any::<u8>(), 0..50)).prop_map(|(kind, value)| Item::Raw(kind, value)),
        (xor, address()).prop_map(|(kind, address)| Item::Xor(kind, address)),
        address().prop_map(Item::Mapped),
        (text, "\\PC{0,60}").prop_map(|(kind, text)| Item::Text(kind, text)),
        code.prop_map(Item::Error),
        prop::collection::vec(any::<u16>(), 0..9).prop_map(Item::Unknown),
        any::<u32>().prop_map(Item::Lifetime),
        any::<u16>().prop_map(Item::Channel),
        any::<u8>().prop_map(Item::Transport),
        any::<u8>().prop_map(Item::Family),
        any::<[u8; 8]>().prop_map(Item::Token),
        Just(Item::DontFragment),
    ]
}

fn write_ours(writer: &mut Writer<'_>, item: &Item) {
    match item {
        Item::Raw(kind, value) => writer.attribute(AttributeType(*kind), value),
        Item::Xor(kind, address) => writer.xor_address(*kind, *address),
        Item::Mapped(address) => writer.address(AttributeType::MAPPED_ADDRESS, *address),
        Item::Text(kind, text) => writer.attribute(*kind, text.as_bytes()),
        // The writer puts ERROR-CODE first in an error response; here it stands anywhere.
        Item::Error(code) => {
            let (class, number) = (code.number() / 100, code.number() % 100);
            let head = [0, 0, u8::try_from(class).unwrap(), u8::try_from(number).unwrap()];
            writer.attribute(AttributeType::ERROR_CODE, &[&head, code.reason().as_bytes()].concat())
        }
        Item::Unknown(kinds) => {
            writer.unknown_attributes(&kinds.iter().map(|kind| AttributeType(*kind)).collect::<Vec<_>>())
        }
        Item::Lifetime(lifetime) => writer.u32(AttributeType::LIFETIME, *lifetime),
        Item::Channel(number) => writer.u32(AttributeType::CHANNEL_NUMBER, u32::from(*number) << 16),
        Item::Transport(protocol) => writer.attribute(AttributeType::REQUESTED_TRANSPORT, &[*protocol, 0, 0, 0]),
        Item::Family(family) => writer.attribute(AttributeType::REQUESTED_ADDRESS_FAMILY, &[*family, 0, 0, 0]),
        Item::Token(token) => writer.attribute(AttributeType::RESERVATION_TOKEN, token),
        Item::DontFragment => writer.attribute(AttributeType::DONT_FRAGMENT, b""),
    };
}

fn write_theirs(message: &mut Theirs, item: &Item) {
    let written = match item {
        Item::Raw(kind, value) => {
            RawAttribute { typ: AttrType(*kind), length: 0, value: value.clone() }.add_to(message)
        }
        Item::Xor(kind, address) => {
            XorMappedAddress { ip: address.ip(), port: address.port() }.add_to_as(message, AttrType(kind.0))
        }
        Item::Mapped(address) => stun::addr::MappedAddress { ip: address.ip(), port: address.port() }.add_to(message),
        Item::Text(kind, text) => TextAttribute::new(AttrType(kind.0), text.clone()).add_to(message),
        Item::Error(code) => {
            let reason = code.reason().as_bytes().to_vec();
            ErrorCodeAttribute { code: TheirCode(code.number()), reason }.add_to(message)
        }
        Item::Unknown(kinds) => UnknownAttributes(kinds.iter().map(|kind| AttrType(*kind)).collect()).add_to(message),
        Item::Lifetime(lifetime) => {
            proto::lifetime::Lifetime(Duration::from_secs(u64::from(*lifetime))).add_to(message)
        }
        Item::Channel(number) => proto::channum::ChannelNumber(*number).add_to(message),
        Item::Transport(protocol) => {
            proto::reqtrans::RequestedTransport { protocol: proto::Protocol(*protocol) }.add_to(message)
        }
        Item::Family(family) => proto::reqfamily::RequestedAddressFamily(*family).add_to(message),
        Item::Token(token) => proto::rsrvtoken::ReservationToken(token.to_vec()).add_to(message),
        Item::DontFragment => proto::dontfrag::DontFragmentAttr.add_to(message),
    };
    written.unwrap();
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, rng_seed: RngSeed::Fixed(2024), failure_persistence: None, ..ProptestConfig::default() }
}

/// The same message by both writers is the same bytes, signature and fingerprint included, and both read it back.
#[test]
fn random_messages_are_the_same_bytes_by_both_writers() {
    let messages =
        (0..0x4000_u16, any::<[u8; 12]>(), prop::collection::vec(item(), 0..12), any::<bool>(), any::<bool>());
    let outcome = TestRunner::new(cases(2000)).run(&messages, |(bits, id, items, sign, fingerprint)| {
        let mut theirs_written = Theirs::new();
        let mut kind = MessageType::default();
        kind.read_value(bits);
        theirs_written.typ = kind;
        theirs_written.transaction_id = stun::agent::TransactionId(id);
        theirs_written.write_header();

        // Class and method of these fourteen bits, as we read them.
        let head = [&bits.to_be_bytes()[..], &[0, 0, 0x21, 0x12, 0xa4, 0x42], &id].concat();
        let head = Message::parse(&head).unwrap();
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes, head.class(), head.method(), TransactionId(id));

        for item in &items {
            write_ours(&mut writer, item);
            write_theirs(&mut theirs_written, item);
        }
        let key = long_term_key("alice", REALM, "pw");
        if sign {
            writer.integrity(&key, Algorithm::Sha1);
            password("alice").add_to(&mut theirs_written).unwrap();
        }
        if fingerprint {
            writer.fingerprint();
            FINGERPRINT.add_to(&mut theirs_written).unwrap();
        }
        writer.finish();
        prop_assert_eq!(&bytes, &theirs_written.raw);
        check_read_back(&bytes, &items, &key)
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

fn check_read_back(bytes: &[u8], items: &[Item], key: &IntegrityKey) -> Result<(), TestCaseError> {
    let ours = Message::parse(bytes).unwrap();
    let other = theirs(bytes).unwrap();
    prop_assert_eq!(our_attributes(&ours).unwrap(), their_attributes(&other));
    let attributes: Vec<_> = ours.attributes().map(Result::unwrap).collect();
    for (attribute, item) in attributes.iter().zip(items) {
        match item {
            Item::Xor(_, address) => prop_assert_eq!(attribute.xor_address(ours.transaction_id()), Ok(*address)),
            Item::Mapped(address) => prop_assert_eq!(attribute.address(), Ok(*address)),
            Item::Error(code) => prop_assert_eq!(attribute.error_code(), Ok(code.number())),
            Item::Lifetime(lifetime) => prop_assert_eq!(attribute.u32(), Ok(*lifetime)),
            Item::Channel(number) => prop_assert_eq!(attribute.channel_number().unwrap().0, *number),
            Item::Transport(first) | Item::Family(first) => prop_assert_eq!(attribute.leading_u8(4), Ok(*first)),
            Item::Text(_, text) => prop_assert_eq!(attribute.value, text.as_bytes()),
            Item::Raw(..) | Item::Unknown(_) | Item::Token(_) | Item::DontFragment => {}
        }
    }
    for attribute in &attributes[items.len()..] {
        prop_assert!(key.verify(bytes, attribute) || verify_fingerprint(bytes, attribute));
    }
    Ok(())
}

/// What we take for a message they take for the same one; what only they take is one of their leniencies.
#[test]
fn damaged_messages_are_read_alike() {
    let messages = (prop::collection::vec(item(), 0..6), prop::collection::vec((any::<u16>(), any::<u8>()), 1..4));
    let outcome = TestRunner::new(cases(5000)).run(&messages, |(items, damage)| {
        let mut bytes = Vec::new();
        let mut writer = Writer::success(&mut bytes, Method::BINDING, TransactionId([3; 12]));
        items.iter().for_each(|item| write_ours(&mut writer, item));
        for (at, value) in damage {
            let length = bytes.len();
            bytes[usize::from(at) % length] = value;
        }
        let other = theirs(&bytes);
        match Message::parse(&bytes) {
            Ok(ours) => match (our_attributes(&ours), other) {
                (Some(attributes), Ok(other)) => {
                    let renamed = attributes.iter().any(|(kind, _)| *kind == 0x8020);
                    prop_assert!(renamed || attributes == their_attributes(&other));
                }
                (None, Err(_)) => {}
                (ours, other) => prop_assert!(false, "{ours:?} and {other:?}"),
            },
            Err(ParseError::Short | ParseError::NoCookie) => prop_assert!(other.is_err()),
            Err(ParseError::NotStun | ParseError::Length) => {}
        }
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}
