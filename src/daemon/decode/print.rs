//! A message in words: header, every attribute by name, what is signed and whether rightly.

use std::collections::HashMap;
use std::fmt::Write;
use std::net::SocketAddr;

use md5::{Digest, Md5};
use zeroize::Zeroizing;

use super::super::doctor::harmless;
use super::opinion;
use crate::wire::attribute::Malformed;
use crate::wire::integrity::verify_fingerprint;
use crate::wire::message::{HEADER_LENGTH, MAGIC_COOKIE};
use crate::wire::{
    Attribute, AttributeType, ChannelData, Class, IntegrityKey, Kind, Message, Method, ParseError, TransactionId,
};

/// With what integrity is checked.
pub(super) struct Keys {
    pub(super) user: Option<String>,
    pub(super) realm: Option<String>,
    pub(super) password: Option<Zeroizing<String>>,
    pub(super) key: Option<Vec<u8>>,
}

/// Prints messages in their order: answers lack user and realm, which their requests had.
pub(super) struct Printer {
    keys: Keys,
    asked: HashMap<TransactionId, (Option<String>, Option<String>)>,
}

/// Bytes of a value that are shown.
const SHOWN: usize = 32;

/// Whether bytes are a message as they are, and not text.
pub(super) fn is_message(bytes: &[u8]) -> bool {
    Message::parse(bytes).is_ok()
}

impl Printer {
    pub(super) fn new(keys: Keys) -> Printer {
        Printer { keys, asked: HashMap::new() }
    }

    pub(super) fn message(&mut self, place: &str, bytes: &[u8]) -> String {
        let mut text = if place.is_empty() { String::new() } else { format!("{place}\n") };
        match Kind::of(bytes) {
            Kind::ChannelData => text.push_str(&channel_data(bytes)),
            Kind::Stun => match Message::parse(bytes) {
                Ok(message) => self.stun(&message, &mut text),
                Err(error) => text.push_str(&not_stun(bytes, error)),
            },
            Kind::Foreign => {
                let first = bytes.first().copied().unwrap_or_default();
                line(&mut text, &format!("neither STUN nor ChannelData: the first byte is {first:#04x}"));
                line(&mut text, &format!("  {}", hex(bytes)));
            }
        }
        text.trim_end().to_owned()
    }

    fn stun(&mut self, message: &Message<'_>, text: &mut String) {
        let id = message.transaction_id();
        let length = message.as_bytes().len() - HEADER_LENGTH;
        line(text, &format!("{} {}", method(message.method()), class(message.class())));
        line(text, &format!("  transaction {}, {length} bytes of attributes", plain_hex(&id.0)));
        let attributes: Vec<_> = message.attributes().collect();
        let value = |kind| {
            let mut found = attributes.iter().flatten();
            found
                .find(|attribute| attribute.kind == kind)
                .map(|found| String::from_utf8_lossy(found.value).into_owned())
        };
        let (user, realm) = (value(AttributeType::USERNAME), value(AttributeType::REALM));
        let asked = self.asked.get(&id).cloned().unwrap_or_default();
        if message.class() == Class::Request {
            self.asked.insert(id, (user.clone(), realm.clone()));
        }
        let key = self.key(user.or(asked.0), realm.or(asked.1));
        let mut sealed = false;
        let mut verdict = None;
        for attribute in &attributes {
            match attribute {
                Ok(attribute) => {
                    let name = name(attribute.kind);
                    let ignored =
                        if sealed && !may_follow(attribute.kind) { "   (after the integrity: ignored)" } else { "" };
                    let checked = self.checked(message, attribute, key.as_deref());
                    if attribute.kind == AttributeType::MESSAGE_INTEGRITY {
                        verdict = checked;
                    }
                    let described = described(message, attribute, checked);
                    line(text, &format!("  {name:26} {described}{ignored}"));
                    sealed |= is_integrity(attribute.kind);
                }
                Err(Malformed) => line(text, "  the next attribute runs past the end of the message"),
            }
        }
        for difference in opinion::differences(message, key.as_deref(), verdict) {
            line(text, &format!("  the stun crate disagrees: {difference}"));
        }
    }

    /// The long-term key (RFC 8489 §9.2.2), or the password as the short-term one where there is no realm.
    fn key(&self, user: Option<String>, realm: Option<String>) -> Option<Vec<u8>> {
        if let Some(key) = &self.keys.key {
            return Some(key.clone());
        }
        let password = self.keys.password.as_ref()?;
        let realm = self.keys.realm.clone().or(realm);
        let user = self.keys.user.clone().or(user);
        match (user, realm) {
            (Some(user), Some(realm)) => {
                let mut md5 = Md5::new();
                for part in [user.as_str(), ":", &realm, ":", password] {
                    md5.update(part.as_bytes());
                }
                Some(md5.finalize().to_vec())
            }
            (_, _) => Some(password.as_bytes().to_vec()),
        }
    }

    fn checked(&self, message: &Message<'_>, attribute: &Attribute<'_>, key: Option<&[u8]>) -> Option<bool> {
        let key = key.filter(|_| is_integrity(attribute.kind))?;
        Some(IntegrityKey::new(key).verify(message.as_bytes(), attribute))
    }
}

fn line(text: &mut String, more: &str) {
    // writing to a String cannot fail
    let _ = writeln!(text, "{}", more.trim_end());
}

fn channel_data(bytes: &[u8]) -> String {
    match ChannelData::parse(bytes) {
        Some(found) => {
            format!("ChannelData on {:#06x}, {} bytes\n  {}\n", found.channel.0, found.data.len(), hex(found.data))
        }
        None => format!("ChannelData that announces more bytes than there are\n  {}\n", hex(bytes)),
    }
}

fn not_stun(bytes: &[u8], error: ParseError) -> String {
    let why = match error {
        ParseError::Short => format!("{} bytes are fewer than the {HEADER_LENGTH} of a header", bytes.len()),
        ParseError::NotStun => "the two top bits are not zero".into(),
        ParseError::NoCookie => {
            format!("bytes 4 to 7 are not the magic cookie {MAGIC_COOKIE:#010x}: RFC 3489, or not STUN")
        }
        ParseError::Length => {
            let announced =
                bytes.get(2..4).map_or(0, |pair| pair.iter().fold(0, |sum, byte| sum * 256 + usize::from(*byte)));
            format!(
                "the header announces {announced} bytes after itself, there are {}",
                bytes.len().saturating_sub(HEADER_LENGTH)
            )
        }
    };
    format!("not a STUN message: {why}\n  {}\n", hex(bytes))
}

fn method(method: Method) -> String {
    let known = [
        (Method::BINDING, "Binding"),
        (Method::ALLOCATE, "Allocate"),
        (Method::REFRESH, "Refresh"),
        (Method::SEND, "Send"),
        (Method::DATA, "Data"),
        (Method::CREATE_PERMISSION, "CreatePermission"),
        (Method::CHANNEL_BIND, "ChannelBind"),
        (Method::CONNECT, "Connect"),
        (Method::CONNECTION_BIND, "ConnectionBind"),
        (Method::CONNECTION_ATTEMPT, "ConnectionAttempt"),
    ];
    let name = known.iter().find(|(known, _)| *known == method).map(|(_, name)| (*name).to_owned());
    name.unwrap_or_else(|| format!("unknown method {:#05x}", method.number()))
}

fn class(class: Class) -> &'static str {
    match class {
        Class::Request => "request",
        Class::Indication => "indication",
        Class::Success => "success response",
        Class::Error => "error response",
    }
}

fn name(kind: AttributeType) -> String {
    let rule = if kind.is_comprehension_required() { "required" } else { "optional" };
    kind.name().map_or_else(|| format!("{:#06x} (unknown, {rule})", kind.0), str::to_owned)
}

fn is_integrity(kind: AttributeType) -> bool {
    [AttributeType::MESSAGE_INTEGRITY, AttributeType::MESSAGE_INTEGRITY_SHA256].contains(&kind)
}

/// What still counts behind MESSAGE-INTEGRITY (RFC 8489 §14.5).
fn may_follow(kind: AttributeType) -> bool {
    [AttributeType::MESSAGE_INTEGRITY_SHA256, AttributeType::FINGERPRINT].contains(&kind)
}

/// A value in words; as bytes where it does not have the form that its attribute prescribes.
fn described(message: &Message<'_>, attribute: &Attribute<'_>, checked: Option<bool>) -> String {
    let malformed = || format!("malformed: {}", hex(attribute.value));
    let address =
        |address: Result<SocketAddr, Malformed>| address.map_or_else(|_| malformed(), |found| found.to_string());
    let id = message.transaction_id();
    match attribute.kind {
        AttributeType::XOR_MAPPED_ADDRESS | AttributeType::XOR_PEER_ADDRESS | AttributeType::XOR_RELAYED_ADDRESS => {
            address(attribute.xor_address(id))
        }
        AttributeType::MAPPED_ADDRESS
        | AttributeType::ALTERNATE_SERVER
        | AttributeType::RESPONSE_ORIGIN
        | AttributeType::OTHER_ADDRESS => address(attribute.address()),
        AttributeType::USERNAME
        | AttributeType::REALM
        | AttributeType::NONCE
        | AttributeType::SOFTWARE
        | AttributeType::ALTERNATE_DOMAIN => format!("\"{}\"", harmless(&String::from_utf8_lossy(attribute.value))),
        AttributeType::ERROR_CODE => attribute.error_code().map_or_else(
            |_| malformed(),
            |code| {
                let reason = attribute.value.get(4..).unwrap_or_default();
                format!("{code} \"{}\"", harmless(&String::from_utf8_lossy(reason)))
            },
        ),
        AttributeType::LIFETIME => attribute.u32().map_or_else(|_| malformed(), |seconds| format!("{seconds} s")),
        AttributeType::CHANNEL_NUMBER => {
            attribute.channel_number().map_or_else(|_| malformed(), |channel| format!("{:#06x}", channel.0))
        }
        AttributeType::REQUESTED_TRANSPORT => attribute.leading_u8(4).map_or_else(
            |_| malformed(),
            |number| match number {
                17 => "17 (UDP)".into(),
                6 => "6 (TCP)".into(),
                other => other.to_string(),
            },
        ),
        AttributeType::REQUESTED_ADDRESS_FAMILY | AttributeType::ADDITIONAL_ADDRESS_FAMILY => {
            attribute.leading_u8(4).map_or_else(|_| malformed(), family)
        }
        AttributeType::EVEN_PORT => attribute.leading_u8(1).map_or_else(
            |_| malformed(),
            |flags| if flags & 0x80 == 0 { "even".into() } else { "even, and the next one reserved".into() },
        ),
        AttributeType::UNKNOWN_ATTRIBUTES => {
            let pairs = attribute
                .value
                .chunks_exact(2)
                .map(|pair| pair.iter().fold(0, |sum, byte| sum * 256 + u16::from(*byte)));
            pairs.map(|number| name(AttributeType(number))).collect::<Vec<_>>().join(", ")
        }
        AttributeType::MESSAGE_INTEGRITY | AttributeType::MESSAGE_INTEGRITY_SHA256 => match checked {
            Some(true) => "right".into(),
            Some(false) => format!("WRONG for this password: {}", hex(attribute.value)),
            None => format!("not checked: {}", hex(attribute.value)),
        },
        AttributeType::FINGERPRINT if verify_fingerprint(message.as_bytes(), attribute) => "right".into(),
        AttributeType::FINGERPRINT => format!("WRONG: {}", hex(attribute.value)),
        AttributeType::DATA => format!("{} bytes: {}", attribute.value.len(), hex(attribute.value)),
        AttributeType::DONT_FRAGMENT | AttributeType::USE_CANDIDATE if attribute.value.is_empty() => String::new(),
        _ => hex(attribute.value),
    }
}

fn family(number: u8) -> String {
    match number {
        1 => "1 (IPv4)".into(),
        2 => "2 (IPv6)".into(),
        other => other.to_string(),
    }
}

fn plain_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The beginning of a value.
fn hex(bytes: &[u8]) -> String {
    match bytes.get(..SHOWN) {
        Some(first) if bytes.len() > SHOWN => format!("{}… ({} bytes)", plain_hex(first), bytes.len()),
        Some(_) | None => plain_hex(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Algorithm, Writer};

    fn keys(password: Option<&str>) -> Keys {
        let password = password.map(|text| Zeroizing::new(text.to_owned()));
        Keys { user: None, realm: None, password, key: None }
    }

    fn said(keys: Keys, bytes: &[u8]) -> String {
        Printer::new(keys).message("", bytes)
    }

    /// MD5 of `u:r:p`.
    fn key() -> IntegrityKey {
        IntegrityKey::new(&Md5::digest(b"u:r:p"))
    }

    fn allocate() -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out, Class::Request, Method::ALLOCATE, TransactionId([7; 12]));
        writer
            .attribute(AttributeType::REQUESTED_TRANSPORT, &[17, 0, 0, 0])
            .attribute(AttributeType::USERNAME, b"u")
            .attribute(AttributeType::REALM, b"r")
            .attribute(AttributeType::NONCE, b"n")
            .integrity(&key(), Algorithm::Sha1)
            .fingerprint();
        writer.finish();
        out
    }

    #[test]
    fn every_attribute_is_named_and_the_password_checks_the_integrity() {
        let text = said(keys(Some("p")), &allocate());
        for words in [
            "Allocate request",
            "transaction 070707070707070707070707",
            "REQUESTED-TRANSPORT        17 (UDP)",
            "USERNAME                   \"u\"",
            "MESSAGE-INTEGRITY          right",
            "FINGERPRINT                right",
        ] {
            assert!(text.contains(words), "no {words:?} in\n{text}");
        }
        assert!(!text.contains("disagrees"), "{text}");
        assert!(said(keys(Some("wrong")), &allocate()).contains("MESSAGE-INTEGRITY          WRONG"));
        assert!(said(keys(None), &allocate()).contains("MESSAGE-INTEGRITY          not checked"));
        let by_key = Keys { key: Some(Md5::digest(b"u:r:p").to_vec()), ..keys(None) };
        assert!(said(by_key, &allocate()).contains("MESSAGE-INTEGRITY          right"));
    }

    #[test]
    fn an_answer_is_checked_with_user_and_realm_of_its_request() {
        let mut answer = Vec::new();
        let mut writer = Writer::success(&mut answer, Method::ALLOCATE, TransactionId([7; 12]));
        writer
            .xor_address(AttributeType::XOR_RELAYED_ADDRESS, "192.0.2.1:50000".parse().unwrap())
            .u32(AttributeType::LIFETIME, 600)
            .integrity(&key(), Algorithm::Sha1);
        writer.finish();
        let mut printer = Printer::new(keys(Some("p")));
        printer.message("", &allocate());
        let text = printer.message("12 +0.000001 UDP a → b", &answer);
        for words in [
            "12 +0.000001 UDP a → b\nAllocate success response",
            "192.0.2.1:50000",
            "600 s",
            "MESSAGE-INTEGRITY          right",
        ] {
            assert!(text.contains(words), "no {words:?} in\n{text}");
        }
    }

    #[test]
    fn what_is_broken_is_told_and_harmless() {
        let mut bytes = allocate();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        assert!(said(keys(None), &bytes).contains("FINGERPRINT                WRONG"));
        let mut rude = Vec::new();
        let mut writer = Writer::new(&mut rude, Class::Error, Method::BINDING, TransactionId([1; 12]));
        writer.attribute(AttributeType::ERROR_CODE, b"\0\0\x04\x14\xff\x1b[2J").attribute(AttributeType(0x7ffe), b"x");
        writer.finish();
        let text = said(keys(None), &rude);
        assert!(
            text.contains("420 \"") && text.contains("0x7ffe (unknown, required)") && !text.contains('\u{1b}'),
            "{text}"
        );
        assert!(said(keys(None), &bytes[..30]).contains("announces"));
        assert!(said(keys(None), &[0, 1]).contains("fewer than the 20"));
        assert!(said(keys(None), &[0x80, 1]).contains("neither STUN nor ChannelData"));
        assert!(said(keys(None), &[0x40, 1, 0, 1, 9]).contains("ChannelData on 0x4001, 1 bytes\n  09"));
        assert!(said(keys(None), &[0x40, 1, 0, 9]).contains("more bytes than there are"));
    }

    #[test]
    fn what_stands_behind_the_integrity_is_marked() {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out, Class::Request, Method::REFRESH, TransactionId([7; 12]));
        writer.integrity(&key(), Algorithm::Sha1).u32(AttributeType::LIFETIME, 0).fingerprint();
        writer.finish();
        let text = said(keys(None), &out);
        assert!(text.contains("0 s   (after the integrity: ignored)"), "{text}");
    }
}
