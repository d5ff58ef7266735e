//! Attributes: the registry as one table, and an iterator that cannot run past the end (RFC 8489 §14).

use std::net::SocketAddr;

use super::address::{self, AddressFamily};
use super::message::{HEADER_LENGTH, TransactionId};
use super::{ChannelNumber, padding, read_u16, read_u32};

/// The longest ALTERNATE-DOMAIN (RFC 8489 §14.16).
const LONGEST_DOMAIN: usize = 255;

/// An attribute's number; any value is representable, the known ones have names in [`REGISTRY`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AttributeType(pub u16);

/// One row of the registry.
#[derive(Clone, Copy, Debug)]
pub struct Registered {
    /// The number.
    pub kind: AttributeType,
    /// The name as the RFC prints it.
    pub name: &'static str,
    /// Where it is defined.
    pub source: &'static str,
}

macro_rules! registry {
    ($($constant:ident = $number:literal, $name:literal, $source:literal;)*) => {
        impl AttributeType {
            $(#[doc = concat!($name, " (", $source, ")")] pub const $constant: AttributeType = AttributeType($number);)*
        }
        /// Every attribute this implementation has a name for, in ascending order of number.
        pub const REGISTRY: &[Registered] =
            &[$(Registered { kind: AttributeType::$constant, name: $name, source: $source },)*];
    };
}

registry! {
    MAPPED_ADDRESS            = 0x0001, "MAPPED-ADDRESS",            "RFC 8489 §14.1";
    CHANGE_REQUEST            = 0x0003, "CHANGE-REQUEST",            "RFC 5780 §7.2";
    USERNAME                  = 0x0006, "USERNAME",                  "RFC 8489 §14.3";
    MESSAGE_INTEGRITY         = 0x0008, "MESSAGE-INTEGRITY",         "RFC 8489 §14.5";
    ERROR_CODE                = 0x0009, "ERROR-CODE",                "RFC 8489 §14.8";
    UNKNOWN_ATTRIBUTES        = 0x000a, "UNKNOWN-ATTRIBUTES",        "RFC 8489 §14.13";
    CHANNEL_NUMBER            = 0x000c, "CHANNEL-NUMBER",            "RFC 8656 §18.1";
    LIFETIME                  = 0x000d, "LIFETIME",                  "RFC 8656 §18.2";
    XOR_PEER_ADDRESS          = 0x0012, "XOR-PEER-ADDRESS",          "RFC 8656 §18.3";
    DATA                      = 0x0013, "DATA",                      "RFC 8656 §18.4";
    REALM                     = 0x0014, "REALM",                     "RFC 8489 §14.9";
    NONCE                     = 0x0015, "NONCE",                     "RFC 8489 §14.10";
    XOR_RELAYED_ADDRESS       = 0x0016, "XOR-RELAYED-ADDRESS",       "RFC 8656 §18.5";
    REQUESTED_ADDRESS_FAMILY  = 0x0017, "REQUESTED-ADDRESS-FAMILY",  "RFC 8656 §18.8";
    EVEN_PORT                 = 0x0018, "EVEN-PORT",                 "RFC 8656 §18.6";
    REQUESTED_TRANSPORT       = 0x0019, "REQUESTED-TRANSPORT",       "RFC 8656 §18.7";
    DONT_FRAGMENT             = 0x001a, "DONT-FRAGMENT",             "RFC 8656 §18.9";
    MESSAGE_INTEGRITY_SHA256  = 0x001c, "MESSAGE-INTEGRITY-SHA256",  "RFC 8489 §14.6";
    PASSWORD_ALGORITHM        = 0x001d, "PASSWORD-ALGORITHM",        "RFC 8489 §14.12";
    USERHASH                  = 0x001e, "USERHASH",                  "RFC 8489 §14.4";
    XOR_MAPPED_ADDRESS        = 0x0020, "XOR-MAPPED-ADDRESS",        "RFC 8489 §14.2";
    RESERVATION_TOKEN         = 0x0022, "RESERVATION-TOKEN",         "RFC 8656 §18.10";
    PRIORITY                  = 0x0024, "PRIORITY",                  "RFC 8445 §16.1";
    USE_CANDIDATE             = 0x0025, "USE-CANDIDATE",             "RFC 8445 §16.1";
    PADDING                   = 0x0026, "PADDING",                   "RFC 5780 §7.6";
    RESPONSE_PORT             = 0x0027, "RESPONSE-PORT",             "RFC 5780 §7.5";
    CONNECTION_ID             = 0x002a, "CONNECTION-ID",             "RFC 6062 §6.2.1";
    ADDITIONAL_ADDRESS_FAMILY = 0x8000, "ADDITIONAL-ADDRESS-FAMILY", "RFC 8656 §18.11";
    ADDRESS_ERROR_CODE        = 0x8001, "ADDRESS-ERROR-CODE",        "RFC 8656 §18.12";
    PASSWORD_ALGORITHMS       = 0x8002, "PASSWORD-ALGORITHMS",       "RFC 8489 §14.11";
    ALTERNATE_DOMAIN          = 0x8003, "ALTERNATE-DOMAIN",          "RFC 8489 §14.16";
    ICMP                      = 0x8004, "ICMP",                      "RFC 8656 §18.13";
    SOFTWARE                  = 0x8022, "SOFTWARE",                  "RFC 8489 §14.14";
    ALTERNATE_SERVER          = 0x8023, "ALTERNATE-SERVER",          "RFC 8489 §14.15";
    FINGERPRINT               = 0x8028, "FINGERPRINT",               "RFC 8489 §14.7";
    ICE_CONTROLLED            = 0x8029, "ICE-CONTROLLED",            "RFC 8445 §16.1";
    ICE_CONTROLLING           = 0x802a, "ICE-CONTROLLING",           "RFC 8445 §16.1";
    RESPONSE_ORIGIN           = 0x802b, "RESPONSE-ORIGIN",           "RFC 5780 §7.3";
    OTHER_ADDRESS             = 0x802c, "OTHER-ADDRESS",             "RFC 5780 §7.4";
}

impl AttributeType {
    /// Numbers below 0x8000 must be understood by the receiver, the others may be ignored (RFC 8489 §14).
    pub const fn is_comprehension_required(self) -> bool {
        self.0 < 0x8000
    }

    /// The RFC's name, when the number is in the registry.
    pub fn name(self) -> Option<&'static str> {
        REGISTRY.iter().find(|row| row.kind == self).map(|row| row.name)
    }
}

/// One attribute: its number, its value without padding, and where it begins in the message.
#[derive(Clone, Copy, Debug)]
pub struct Attribute<'a> {
    /// The number.
    pub kind: AttributeType,
    /// The value, padding left out.
    pub value: &'a [u8],
    /// The offset of the attribute's first header byte from the start of the message; integrity needs it.
    pub offset: usize,
}

/// A value that does not have the form its attribute prescribes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl<'a> Attribute<'a> {
    /// A value of exactly four bytes, as LIFETIME has.
    pub fn u32(&self) -> Result<u32, Malformed> {
        if self.value.len() == 4 { read_u32(self.value, 0).ok_or(Malformed) } else { Err(Malformed) }
    }

    /// The first byte of a value of exactly `length` bytes, the rest being reserved (REQUESTED-TRANSPORT,
    /// REQUESTED-ADDRESS-FAMILY: 4; EVEN-PORT: 1).
    pub fn leading_u8(&self, length: usize) -> Result<u8, Malformed> {
        if self.value.len() == length { self.value.first().copied().ok_or(Malformed) } else { Err(Malformed) }
    }

    /// An address family (RFC 8656 §18.8); `Ok(None)` for a family this implementation does not know.
    pub fn address_family(&self) -> Result<Option<AddressFamily>, Malformed> {
        Ok(AddressFamily::from_number(self.leading_u8(4)?))
    }

    /// An address in the clear, as MAPPED-ADDRESS has.
    pub fn address(&self) -> Result<SocketAddr, Malformed> {
        address::decode(self.value).ok_or(Malformed)
    }

    /// An address in XOR form (RFC 8489 §14.2).
    pub fn xor_address(&self, id: TransactionId) -> Result<SocketAddr, Malformed> {
        address::decode_xor(self.value, id).ok_or(Malformed)
    }

    /// A channel number (RFC 8656 §18.1): two bytes and two reserved ones; any value, the range is the engine's rule.
    pub fn channel_number(&self) -> Result<ChannelNumber, Malformed> {
        if self.value.len() == 4 { read_u16(self.value, 0).map(ChannelNumber).ok_or(Malformed) } else { Err(Malformed) }
    }

    /// The name in ALTERNATE-DOMAIN: a DNS name of at most 255 ASCII characters (RFC 8489 §14.16).
    pub fn domain(&self) -> Result<&'a str, Malformed> {
        let text = std::str::from_utf8(self.value).map_err(|_| Malformed)?;
        if is_domain(text) { Ok(text) } else { Err(Malformed) }
    }

    /// The code of an ERROR-CODE attribute, 300–699 (RFC 8489 §14.8).
    pub fn error_code(&self) -> Result<u16, Malformed> {
        let (Some(class), Some(number)) = (self.value.get(2), self.value.get(3)) else {
            return Err(Malformed);
        };
        let (class, number) = (u16::from(class & 7), u16::from(*number));
        if (3..=6).contains(&class) && number <= 99 { Ok(class * 100 + number) } else { Err(Malformed) }
    }
}

/// Whether a text is a DNS name as ALTERNATE-DOMAIN may hold it: labels of 1 to 63 letters, digits and inner hyphens
/// (RFC 1123 §2.1), 255 characters at most.
pub fn is_domain(text: &str) -> bool {
    let label = |label: &str| {
        let edges = !label.starts_with('-') && !label.ends_with('-');
        (1..=63).contains(&label.len())
            && edges
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    text.len() <= LONGEST_DOMAIN && text.strip_suffix('.').unwrap_or(text).split('.').all(label)
}

/// Walks the attributes of a message. After the first [`Malformed`] item it ends.
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Attributes<'a> {
    pub(super) fn new(message: &'a [u8]) -> Attributes<'a> {
        Attributes { bytes: message, offset: HEADER_LENGTH }
    }

    fn read(&self) -> Option<Attribute<'a>> {
        let offset = self.offset;
        let kind = AttributeType(read_u16(self.bytes, offset)?);
        let length = usize::from(read_u16(self.bytes, offset.checked_add(2)?)?);
        let start = offset.checked_add(4)?;
        let value = self.bytes.get(start..start.checked_add(length)?)?;
        Some(Attribute { kind, value, offset })
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<Attribute<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.offset >= self.bytes.len() {
            return None;
        }
        let item = self.read().ok_or(Malformed);
        self.offset = match item {
            Ok(attribute) => attribute.offset + 4 + attribute.value.len() + padding(attribute.value.len()),
            Err(Malformed) => self.bytes.len(),
        };
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Message;

    fn message(attributes: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 1, 0, u8::try_from(attributes.len()).unwrap(), 0x21, 0x12, 0xa4, 0x42];
        bytes.extend_from_slice(&[7; 12]);
        bytes.extend_from_slice(attributes);
        bytes
    }

    #[test]
    fn registry_is_sorted_and_without_doubles() {
        assert!(REGISTRY.windows(2).all(|pair| pair[0].kind.0 < pair[1].kind.0));
        assert_eq!(AttributeType::LIFETIME.name(), Some("LIFETIME"));
        assert_eq!(AttributeType(0x7ffe).name(), None);
        assert!(AttributeType(0x7ffe).is_comprehension_required());
        assert!(!AttributeType::SOFTWARE.is_comprehension_required());
    }

    #[test]
    fn iterator_walks_padding_and_offsets() {
        let bytes = message(&[0, 6, 0, 1, b'a', 0, 0, 0, 0, 0x0d, 0, 4, 0, 0, 2, 0x58]);
        let found: Vec<_> = Message::parse(&bytes).unwrap().attributes().map(Result::unwrap).collect();
        assert_eq!((found[0].kind, found[0].value, found[0].offset), (AttributeType::USERNAME, &b"a"[..], 20));
        assert_eq!((found[1].u32(), found[1].offset), (Ok(600), 28));
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn value_past_the_end_ends_the_walk() {
        for tail in [&[0, 6, 0, 5, 1, 2, 3, 4][..], &[0, 6, 0xff, 0xff], &[0, 6, 0, 8, 0, 0, 0, 0]] {
            let bytes = message(tail);
            let items: Vec<_> = Message::parse(&bytes).unwrap().attributes().collect();
            assert_eq!(items.len(), 1);
            assert!(items[0].is_err());
        }
    }

    #[test]
    fn fixed_size_values_reject_other_sizes() {
        let attribute = |value| Attribute { kind: AttributeType::LIFETIME, value, offset: 20 };
        assert_eq!(attribute(&[0, 0, 0][..]).u32(), Err(Malformed));
        assert_eq!(attribute(&[17, 0, 0][..]).leading_u8(4), Err(Malformed));
        assert_eq!(attribute(&[0, 0, 4, 1][..]).error_code(), Ok(401));
        assert_eq!(attribute(&[0, 0, 4, 100][..]).error_code(), Err(Malformed));
        assert_eq!(attribute(&[0x40, 0, 0, 0][..]).channel_number(), Ok(ChannelNumber(0x4000)));
    }

    /// RFC 8489 §10, §14.15, §14.16: what a client of ours reads from a 300.
    #[test]
    fn alternate_server_and_domain_are_read() {
        let bytes = message(&[
            0x80, 0x23, 0, 8, 0, 1, 0x0d, 0x96, 192, 0, 2, 7, // ALTERNATE-SERVER
            0x80, 0x03, 0, 11, b'e', b'x', b'a', b'm', b'p', b'l', b'e', b'.', b'o', b'r', b'g',
            0, // ALTERNATE-DOMAIN
        ]);
        let found: Vec<_> = Message::parse(&bytes).unwrap().attributes().map(Result::unwrap).collect();
        assert_eq!(
            (found[0].kind, found[0].address()),
            (AttributeType::ALTERNATE_SERVER, Ok("192.0.2.7:3478".parse().unwrap()))
        );
        assert_eq!((found[1].kind, found[1].domain()), (AttributeType::ALTERNATE_DOMAIN, Ok("example.org")));
    }

    #[test]
    fn a_domain_is_a_dns_name() {
        let long = [["a".repeat(63).as_str()].repeat(3).join("."), "b".repeat(64)].join(".");
        for name in ["example.org", "a", "xn--mnchen-3ya.de", "1.example", "example.org.", &long[..254]] {
            assert!(is_domain(name), "{name}");
        }
        for name in ["", ".", "a..b", "-a.org", "a-.org", "a b.org", "ä.org", "a_b.org", long.as_str(), "a.org:5349"] {
            assert!(!is_domain(name), "{name}");
        }
    }
}
