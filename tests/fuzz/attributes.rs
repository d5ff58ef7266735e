//! What the values of attributes mean, read a second time as plainly as the RFCs put it; and what becomes of those that
//! only the engine reads, by an engine with the four listeners of RFC 5780. The `stun` crate knows none of this.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use turnwell::credentials::Credentials;
use turnwell::relay::{
    Action, Config, DefaultFamily, Discovery, FiveTuple, ListenerId, Live, Mono, Now, PortShare, Relay,
};
use turnwell::wire::attribute::{Malformed, REGISTRY};
use turnwell::wire::{
    AddressFamily, Attribute, AttributeType, Class, ErrorCode, IntegrityKey, Message, Method, PasswordAlgorithm, Writer,
};

pub(crate) const PASSWORD: &str = "pw";
const REALM: &str = "example.org";
const USERS: [&str; 2] = ["alice", "bob"];

/// The input as a message of known attributes: its type, then of each attribute its place in the registry, the length of
/// its value, and that.
pub(crate) fn listed(input: &[u8]) -> Option<Vec<u8>> {
    let (&kind, mut rest) = input.split_first_chunk::<2>()?;
    let mut body = Vec::new();
    while let [place, length, after @ ..] = rest {
        let (value, behind) = after.split_at(after.len().min(usize::from(*length)));
        let kind = REGISTRY[usize::from(*place) % REGISTRY.len()].kind;
        let length = u16::try_from(value.len()).ok()?;
        body.extend([kind.0.to_be_bytes(), length.to_be_bytes()].concat());
        body.extend(value);
        body.resize(body.len().next_multiple_of(4), 0);
        rest = behind;
    }
    let length = u16::try_from(body.len()).ok()?.to_be_bytes();
    Some([&[kind[0] & 0x3f, kind[1]], &length[..], &[0x21, 0x12, 0xa4, 0x42], &[7; 12], &body].concat())
}

/// Whatever the attribute's number, its value means the same to both readers.
pub(crate) fn check(message: &Message<'_>, attribute: &Attribute<'_>) {
    let value = attribute.value;
    assert_eq!(attribute.address().ok(), address(value));
    assert_eq!(attribute.domain().is_ok(), is_domain(value));
    assert!(attribute.domain().is_ok_and(|domain| domain.as_bytes() == value) || !is_domain(value));
    assert_eq!(attribute.error_code().ok(), error_code(value));
    assert_eq!(attribute.u32().ok(), <[u8; 4]>::try_from(value).ok().map(u32::from_be_bytes));
    address_error(message, attribute);
    password_algorithms(message, attribute);
    if let Ok(hash) = <[u8; 32]>::try_from(value) {
        userhash(hash);
    }
    if attribute.kind == AttributeType::MESSAGE_INTEGRITY_SHA256 {
        let right = tag(message.as_bytes(), attribute.offset, value.len());
        let is_right = may_be_tag(value.len()) && right.starts_with(value);
        assert_eq!(IntegrityKey::new(PASSWORD.as_bytes()).verify(message.as_bytes(), attribute), is_right);
    }
}

/// RFC 8489 §14.1
fn address(value: &[u8]) -> Option<SocketAddr> {
    let ip = match (value.get(1)?, value.len()) {
        (1, 8) => IpAddr::from(<[u8; 4]>::try_from(&value[4..]).ok()?),
        (2, 20) => IpAddr::from(<[u8; 16]>::try_from(&value[4..]).ok()?),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes([value[2], value[3]])))
}

/// RFC 8489 §14.16, RFC 1123 §2.1
fn is_domain(value: &[u8]) -> bool {
    let value_and_dot = if value.ends_with(b".") { value.to_vec() } else { [value, b"."].concat() };
    let mut label = Vec::new();
    for byte in value_and_dot {
        match byte {
            b'.' if label.is_empty() || label.len() > 63 || label.first() == Some(&b'-') => return false,
            b'.' if label.last() == Some(&b'-') => return false,
            b'.' => label.clear(),
            b'-' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => label.push(byte),
            _ => return false,
        }
    }
    value.len() <= 255
}

/// RFC 8489 §14.8; ADDRESS-ERROR-CODE has it in the same place (RFC 8656 §18.12).
fn error_code(value: &[u8]) -> Option<u16> {
    let &[_, _, class, number, ..] = value else { return None };
    let (class, number) = (u16::from(class % 8), u16::from(number));
    ((3..=6).contains(&class) && number < 100).then_some(100 * class + number)
}

/// ADDRESS-ERROR-CODE for the family that the value begins with.
fn address_error(message: &Message<'_>, attribute: &Attribute<'_>) {
    let Some(family) = attribute.value.first().and_then(|number| AddressFamily::from_number(*number)) else { return };
    for code in [ErrorCode::AddressFamilyNotSupported, ErrorCode::InsufficientCapacity] {
        let bytes = written(message, |writer| {
            writer.address_error(family, code);
        });
        let message = Message::parse(&bytes).expect("what we write parses");
        let again = message.attributes().next().expect("one attribute").expect("well formed");
        assert_eq!((again.kind, again.value[0]), (AttributeType::ADDRESS_ERROR_CODE, attribute.value[0]));
        assert_eq!(again.error_code(), Ok(code.number()));
    }
}

/// RFC 8489 §14.11, §14.12
fn password_algorithms(message: &Message<'_>, attribute: &Attribute<'_>) {
    let mut rest = attribute.value;
    let mut plainly = Vec::new();
    while !rest.is_empty() {
        let length = rest.get(2..4).map(|pair| 4 + 256 * usize::from(pair[0]) + usize::from(pair[1]));
        let Some(length) = length.filter(|length| *length <= rest.len()) else {
            plainly.push(Err(Malformed));
            break;
        };
        plainly.push(Ok(match rest[..length] {
            [0, 1, 0, 0] => Some(PasswordAlgorithm::Md5),
            [0, 2, 0, 0] => Some(PasswordAlgorithm::Sha256),
            _ => None,
        }));
        rest = &rest[length.next_multiple_of(4).min(rest.len())..];
    }
    let found: Vec<_> = attribute.password_algorithms().collect();
    assert_eq!(found, plainly);
    let only = match plainly[..] {
        [only] => only,
        _ => Err(Malformed),
    };
    assert_eq!(attribute.password_algorithm(), only);

    let known: Vec<_> = found.into_iter().flatten().flatten().collect();
    let bytes = written(message, |writer| {
        writer.password_algorithms(&known);
    });
    let message = Message::parse(&bytes).expect("what we write parses");
    let again = message.attributes().next().expect("one attribute").expect("well formed");
    assert_eq!(again.password_algorithms().map(|read| read.unwrap().unwrap()).collect::<Vec<_>>(), known);
}

/// RFC 8489 §14.4
fn userhash(hash: [u8; 32]) {
    let mut credentials = Credentials::new(REALM);
    USERS.iter().for_each(|user| credentials.add_user(user, PASSWORD));
    let known = USERS.into_iter().find(|user| Sha256::digest(format!("{user}:{REALM}"))[..] == hash);
    assert_eq!(credentials.user_of_hash(&hash), known);
}

/// A tag that is right in itself is taken in the lengths that RFC 8489 §14.6 allows, and in no other.
pub(crate) fn cut_tags(message: &Message<'_>) {
    for length in 0..=36 {
        let end = message.as_bytes().len();
        let mut tag = tag(message.as_bytes(), end, length);
        tag.resize(length, 0);
        let mut bytes = message.as_bytes().to_vec();
        let [high, low] = u16::try_from(length).expect("a short one").to_be_bytes();
        bytes.extend([&[0, 0x1c, high, low], &tag[..]].concat());
        let attribute =
            Attribute { kind: AttributeType::MESSAGE_INTEGRITY_SHA256, value: &bytes[end + 4..], offset: end };
        assert_eq!(IntegrityKey::new(PASSWORD.as_bytes()).verify(&bytes, &attribute), may_be_tag(length), "{length}");
    }
}

fn may_be_tag(length: usize) -> bool {
    [16, 20, 24, 28, 32].contains(&length)
}

/// HMAC (RFC 2104) with SHA-256 over the message up to `offset`, as if it ended behind a tag of this length.
fn tag(message: &[u8], offset: usize, length: usize) -> Vec<u8> {
    let padded = |with: u8| {
        let mut block = [with; 64];
        block.iter_mut().zip(PASSWORD.as_bytes()).for_each(|(byte, key)| *byte ^= key);
        block
    };
    let covered = u16::try_from(offset + 4 + length - 20).expect("a message's length").to_be_bytes();
    let inner = [&padded(0x36), &message[..2], &covered, &message[4..offset]].concat();
    Sha256::digest([&padded(0x5c)[..], &Sha256::digest(inner)].concat()).to_vec()
}

fn written(message: &Message<'_>, write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut Writer::new(&mut bytes, message.class(), message.method(), message.transaction_id()));
    bytes
}

/// A Binding request on the first of four listeners: CHANGE-REQUEST, RESPONSE-PORT and PADDING (RFC 5780 §6.1, §7).
pub(crate) fn discover(message: &Message<'_>, attributes: &[Attribute<'_>]) {
    use AttributeType as Kind;
    let read = [Kind::CHANGE_REQUEST, Kind::RESPONSE_PORT, Kind::PADDING];
    let is_for_this = |kind: Kind| read.contains(&kind) || (kind.0 >= 0x8000 && kind != Kind::FINGERPRINT);
    let is_binding = (message.class(), message.method()) == (Class::Request, Method::BINDING);
    if !is_binding || !attributes.iter().all(|attribute| is_for_this(attribute.kind)) {
        return;
    }
    let first = |kind| attributes.iter().find(|attribute| attribute.kind == kind).map(|attribute| attribute.value);
    let flags = first(Kind::CHANGE_REQUEST).map_or(Some(0), |value| (value.len() == 4).then(|| value[3]));
    let port = first(Kind::RESPONSE_PORT).map(|value| match *value {
        [high, low] | [high, low, _, _] if [high, low] != [0, 0] => Some(u16::from_be_bytes([high, low])),
        _ => None,
    });
    let padding = first(Kind::PADDING).map(<[u8]>::len);
    let expected = match (flags, port, padding) {
        (None, _, _) | (_, Some(None), _) | (_, Some(_), Some(_)) => None,
        (Some(flags), port, padding) => {
            Some((usize::from(flags >> 1 & 3), port.flatten().unwrap_or(1234), padding.map(|length| length.min(1500))))
        }
    };

    let corners = ["192.0.2.1:3478", "192.0.2.1:3479", "192.0.2.2:3478", "192.0.2.2:3479"]
        .map(|address| address.parse::<SocketAddr>().expect("an address"));
    let client: SocketAddr = "100.0.0.1:1234".parse().expect("an address");
    let from = FiveTuple { client, listener: ListenerId(0), stream: None };
    let now = Now { mono: Mono(1), unix: 1 };
    let mut bytes = Vec::new();
    let action = engine(corners).handle_client(now, &from, message.as_bytes(), &mut bytes);
    let (listener, to, out) = match action {
        Action::Reply { out } => (from.listener, client, out),
        Action::ReplyFrom { listener, client, out } => (listener, client, out),
        other => panic!("{other:?}"),
    };
    let reply = Message::parse(&bytes[out]).expect("what we write parses");
    let found = |kind| reply.attributes().flatten().find(|attribute| attribute.kind == kind);
    let Some((corner, port, padding)) = expected else {
        assert_eq!(found(Kind::ERROR_CODE).map(|attribute| attribute.error_code()), Some(Ok(400)));
        return;
    };
    assert_eq!((usize::from(listener.0), to), (corner, SocketAddr::new(client.ip(), port)));
    let address = |kind| found(kind).and_then(|attribute| address(attribute.value));
    assert_eq!(address(Kind::RESPONSE_ORIGIN), Some(corners[corner]));
    assert_eq!(address(Kind::OTHER_ADDRESS), Some(corners[3]));
    assert_eq!(address(Kind::MAPPED_ADDRESS), Some(client));
    assert_eq!(found(Kind::PADDING).map(|attribute| attribute.value.len()), padding);
}

fn engine(corners: [SocketAddr; 4]) -> Relay {
    let config = Config {
        listeners: corners.to_vec(),
        relays: Vec::new(),
        ports: PortShare::whole(50_000..=50_001),
        default_family: DefaultFamily::Client,
        discovery: vec![Discovery { primary: corners[0], alternate: corners[3] }],
        seed: [1; 32],
        nonce_key: [2; 32],
    };
    Relay::new(config, Arc::new(Live::new(Arc::new(Credentials::new(REALM)))))
}
