//! Decode, encode, decode: whatever is read as a message is written again as the same bytes, padding aside, and the
//! `stun` crate reads it alike. What it takes and we do not is listed in `tests/engine/oracle.rs`; what it does not know
//! has a plain reader in `attributes.rs`.

use std::net::SocketAddr;

use stun::addr::MappedAddress;
use stun::attributes::AttrType;
use stun::error_code::ErrorCodeAttribute;
use stun::fingerprint::FINGERPRINT;
use stun::integrity::MessageIntegrity;
use stun::message::{Getter, Message as Theirs};
use stun::textattrs::TextAttribute;
use stun::uattrs::UnknownAttributes;
use stun::xoraddr::XorMappedAddress;
use turnwell::wire::integrity::verify_fingerprint;
use turnwell::wire::{
    Algorithm, Attribute, AttributeType, ChannelData, IntegrityKey, Kind, Message, ParseError, Writer, channel, padding,
};

use crate::attributes;

const PASSWORD: &str = attributes::PASSWORD;

/// The old number of XOR-MAPPED-ADDRESS, which they take for the new one.
const OLD_XOR_MAPPED_ADDRESS: u16 = 0x8020;

pub(crate) fn run(input: &[u8]) {
    check(input);
    if let Some(framed) = framed(input) {
        check(&framed);
    }
    if let Some(listed) = attributes::listed(input) {
        check(&listed);
    }
}

/// The input as the type, transaction and attributes of a message whose header is right.
fn framed(input: &[u8]) -> Option<Vec<u8>> {
    let (&kind, rest) = input.split_first_chunk::<2>()?;
    let (id, body) = rest.split_first_chunk::<12>()?;
    let body = body.get(..body.len().min(0xfffc) & !3)?;
    let length = u16::try_from(body.len()).ok()?.to_be_bytes();
    Some([&[kind[0] & 0x3f, kind[1]], &length[..], &[0x21, 0x12, 0xa4, 0x42], id, body].concat())
}

fn check(bytes: &[u8]) {
    if Kind::of(bytes) == Kind::ChannelData {
        channel_data(bytes);
    }
    let theirs = theirs(bytes);
    match Message::parse(bytes) {
        Ok(message) => {
            let attributes: Result<Vec<_>, _> = message.attributes().collect();
            match (attributes, theirs) {
                (Ok(attributes), Some(theirs)) => sound(&message, &attributes, &theirs),
                (Err(_), None) => {}
                (ours, theirs) => panic!("{ours:?} and {}", theirs.is_some()),
            }
        }
        Err(ParseError::Short | ParseError::NoCookie) => assert!(theirs.is_none()),
        Err(ParseError::NotStun | ParseError::Length) => {}
    }
}

fn theirs(bytes: &[u8]) -> Option<Theirs> {
    let mut message = Theirs::new();
    message.unmarshal_binary(bytes).is_ok().then_some(message)
}

fn channel_data(bytes: &[u8]) {
    let Some(message) = ChannelData::parse(bytes) else { return };
    let length = u16::try_from(message.data.len()).expect("its length field told");
    let written = [&channel::header(message.channel, length), message.data].concat();
    assert_eq!(bytes.get(..written.len()), Some(written.as_slice()));
    assert_eq!(ChannelData::parse(&written), Some(message));
}

/// A message whose attributes are all in place.
fn sound(message: &Message<'_>, attributes: &[Attribute<'_>], theirs: &Theirs) {
    assert_eq!(theirs.transaction_id.0, message.transaction_id().0);
    let head = [message.as_bytes()[0], message.as_bytes()[1]];
    assert_eq!(theirs.typ.value().to_be_bytes(), head);
    let read: Vec<_> = attributes.iter().map(|attribute| (attribute.kind.0, attribute.value)).collect();
    if read.iter().all(|(kind, _)| *kind != OLD_XOR_MAPPED_ADDRESS) {
        let other: Vec<_> = theirs.attributes.0.iter().map(|raw| (raw.typ.0, raw.value.as_slice())).collect();
        assert_eq!(read, other);
        for (at, attribute) in attributes.iter().enumerate() {
            // They find the first of a kind only.
            if attributes[..at].iter().all(|earlier| earlier.kind != attribute.kind) {
                read_alike(message, attribute, theirs);
            }
        }
    }

    let mut written = Vec::new();
    let writer = Writer::new(&mut written, message.class(), message.method(), message.transaction_id());
    write_all(writer, attributes);
    assert_eq!(written, with_zero_padding(message, attributes));
    for attribute in attributes {
        typed_round_trip(message, attribute);
        attributes::check(message, attribute);
    }
    attributes::discover(message, attributes);
    sign(message, attributes);
}

fn write_all(mut writer: Writer<'_>, attributes: &[Attribute<'_>]) {
    for attribute in attributes {
        writer.attribute(attribute.kind, attribute.value);
    }
    writer.finish();
}

fn with_zero_padding(message: &Message<'_>, attributes: &[Attribute<'_>]) -> Vec<u8> {
    let mut bytes = message.as_bytes().to_vec();
    for attribute in attributes {
        let end = attribute.offset + 4 + attribute.value.len();
        bytes[end..end + padding(attribute.value.len())].fill(0);
    }
    bytes
}

/// The values that both give a meaning to.
fn read_alike(message: &Message<'_>, attribute: &Attribute<'_>, theirs: &Theirs) {
    let kind = AttrType(attribute.kind.0);
    match attribute.kind {
        AttributeType::XOR_MAPPED_ADDRESS | AttributeType::XOR_PEER_ADDRESS | AttributeType::XOR_RELAYED_ADDRESS => {
            let ours = attribute.xor_address(message.transaction_id());
            let mut other = XorMappedAddress::default();
            let read = other.get_from_as(theirs, kind).map(|()| SocketAddr::new(other.ip, other.port));
            match (ours, read) {
                (Ok(ours), Ok(read)) => assert_eq!(ours, read),
                // The first byte is to be ignored (RFC 8489 §14.1); they do not.
                (Ok(_), Err(_)) => assert_ne!(attribute.value[0], 0),
                // An address shorter than its family they fill up.
                (Err(_), Ok(_)) => assert!(attribute.value.len() < 20, "{attribute:?}"),
                (Err(_), Err(_)) => {}
            }
        }
        AttributeType::MAPPED_ADDRESS
        | AttributeType::ALTERNATE_SERVER
        | AttributeType::RESPONSE_ORIGIN
        | AttributeType::OTHER_ADDRESS => {
            let mut other = MappedAddress::default();
            let read = other.get_from_as(theirs, kind).map(|()| SocketAddr::new(other.ip, other.port));
            match (attribute.address(), read) {
                (Ok(ours), Ok(read)) => assert_eq!(ours, read),
                (Ok(_), Err(_)) => assert_ne!(attribute.value[0], 0),
                // Shorter ones they fill up, longer ones they cut.
                (Err(_), Ok(_)) => assert_ne!(attribute.value.len(), if attribute.value[1] == 1 { 8 } else { 20 }),
                (Err(_), Err(_)) => {}
            }
        }
        AttributeType::ERROR_CODE => {
            let mut other = ErrorCodeAttribute::default();
            let read = other.get_from(theirs).map(|()| other.code.0);
            // The reserved bits above the class they take for a part of it.
            if let Ok(ours) = attribute.error_code()
                && attribute.value[2] < 8
            {
                assert_eq!(read.ok(), Some(ours));
            }
        }
        AttributeType::UNKNOWN_ATTRIBUTES => {
            let mut other = UnknownAttributes(vec![]);
            if other.get_from(theirs).is_ok() {
                let kinds: Vec<_> = other.0.iter().map(|kind| AttributeType(kind.0)).collect();
                let again = encoded(message, |writer| {
                    writer.unknown_attributes(&kinds);
                });
                assert_eq!(value(&again), attribute.value);
            }
        }
        AttributeType::USERNAME | AttributeType::REALM | AttributeType::NONCE | AttributeType::SOFTWARE => {
            if let Ok(text) = TextAttribute::get_from_as(theirs, kind) {
                assert_eq!(text.text.as_bytes(), attribute.value);
            }
        }
        _ => {}
    }
}

/// A message of one attribute.
fn encoded(message: &Message<'_>, write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, message.class(), message.method(), message.transaction_id());
    write(&mut writer);
    writer.finish();
    bytes
}

fn value(bytes: &[u8]) -> &[u8] {
    let message = Message::parse(bytes).expect("what we write parses");
    message.attributes().next().expect("one attribute").expect("well formed").value
}

/// Each meaning that a value can have is written as a value of that meaning; but for reserved bits it is the same one.
fn typed_round_trip(message: &Message<'_>, attribute: &Attribute<'_>) {
    let (kind, id) = (attribute.kind, message.transaction_id());
    if let Ok(number) = attribute.u32() {
        let again = encoded(message, |writer| {
            writer.u32(kind, number);
        });
        assert_eq!(value(&again), attribute.value);
    }
    let clean = |value: &[u8]| [&[0], &value[1..]].concat();
    if let Ok(address) = attribute.address() {
        let again = encoded(message, |writer| {
            writer.address(kind, address);
        });
        assert_eq!(value(&again), clean(attribute.value));
    }
    if let Ok(address) = attribute.xor_address(id) {
        let again = encoded(message, |writer| {
            writer.xor_address(kind, address);
        });
        assert_eq!(value(&again), clean(attribute.value));
    }
    if let Ok(family) = attribute.address_family() {
        assert_eq!(
            family.map(|family| family.number()),
            Some(attribute.value[0]).filter(|number| matches!(number, 1 | 2))
        );
    }
    if let Ok(channel) = attribute.channel_number() {
        assert_eq!(channel.0.to_be_bytes(), attribute.value[..2]);
    }
    for length in [1, 4] {
        assert_eq!(attribute.leading_u8(length).is_ok(), attribute.value.len() == length);
    }
    if let Ok(number) = attribute.error_code() {
        assert!((300..700).contains(&number));
    }
}

/// The same message, signed by us, is found right by both, and wrong with any bit changed.
fn sign(message: &Message<'_>, attributes: &[Attribute<'_>]) {
    let plain: Vec<_> = attributes.iter().filter(|attribute| !is_proof(attribute.kind)).copied().collect();
    if message.as_bytes().len() > 60_000 {
        return;
    }
    attributes::cut_tags(message);
    let key = IntegrityKey::new(PASSWORD.as_bytes());
    for algorithm in [Algorithm::Sha1, Algorithm::Sha256] {
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes, message.class(), message.method(), message.transaction_id());
        for attribute in &plain {
            writer.attribute(attribute.kind, attribute.value);
        }
        writer.integrity(&key, algorithm).fingerprint().finish();

        let mut read = theirs(&bytes).expect("they read what we write");
        if algorithm == Algorithm::Sha1 {
            MessageIntegrity::new_short_term_integrity(PASSWORD.into()).check(&mut read).expect("they find it right");
        }
        FINGERPRINT.check(&read).expect("they find it right");
        let [integrity, fingerprint] = proofs(&bytes);
        assert!(integrity && fingerprint);

        // Any byte but those of the length, which is not what was signed; its place depends on the input.
        let protected = bytes.len() - 8;
        let at = usize::from(bytes[protected - 1]) * 251 % protected;
        if !(2..4).contains(&at) {
            bytes[at] ^= 1 << (bytes[protected - 2] & 7);
            let readable = Message::parse(&bytes).is_ok_and(|message| message.attributes().all(|found| found.is_ok()));
            assert!(!readable || proofs(&bytes) == [false, false], "{at} of {protected} may be changed");
        }
    }
}

fn is_proof(kind: AttributeType) -> bool {
    [AttributeType::MESSAGE_INTEGRITY, AttributeType::MESSAGE_INTEGRITY_SHA256, AttributeType::FINGERPRINT]
        .contains(&kind)
}

/// Whether the last two attributes, or whichever of them is still there, prove what they should.
fn proofs(bytes: &[u8]) -> [bool; 2] {
    let message = Message::parse(bytes).expect("a message");
    let attributes: Vec<_> = message.attributes().flatten().collect();
    let key = IntegrityKey::new(PASSWORD.as_bytes());
    let signed = attributes.iter().any(|attribute| {
        is_proof(attribute.kind) && attribute.kind != AttributeType::FINGERPRINT && key.verify(bytes, attribute)
    });
    let is_fingerprint = |attribute: &&Attribute<'_>| attribute.kind == AttributeType::FINGERPRINT;
    let printed = attributes.last().filter(is_fingerprint).is_some_and(|last| verify_fingerprint(bytes, last));
    [signed, printed]
}
