//! The STUN header and a borrowed view of a whole message (RFC 8489 §5).
//!
//! ```text
//!  0                   1                   2                   3
//! |0 0| message type (14 bits)    |        message length         |
//! |                        magic cookie                           |
//! |                 transaction id (96 bits) …                    |
//! ```

use super::attribute::Attributes;
use super::{Kind, read_u16, read_u32};

/// Bytes of the fixed header.
pub const HEADER_LENGTH: usize = 20;
/// The constant in bytes 4–7 of every message since RFC 5389.
pub const MAGIC_COOKIE: u32 = 0x2112_A442;

/// The two class bits of the message type (RFC 8489 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// `0b00`: an answer is due.
    Request,
    /// `0b01`: no answer is ever sent.
    Indication,
    /// `0b10`
    Success,
    /// `0b11`
    Error,
}

/// The twelve method bits of the message type; any value is representable, the known ones have names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Method(u16);

impl Method {
    /// RFC 8489 §3
    pub const BINDING: Method = Method(0x001);
    /// RFC 8656 §17
    pub const ALLOCATE: Method = Method(0x003);
    /// RFC 8656 §17
    pub const REFRESH: Method = Method(0x004);
    /// RFC 8656 §17, indication only
    pub const SEND: Method = Method(0x006);
    /// RFC 8656 §17, indication only
    pub const DATA: Method = Method(0x007);
    /// RFC 8656 §17
    pub const CREATE_PERMISSION: Method = Method(0x008);
    /// RFC 8656 §17
    pub const CHANNEL_BIND: Method = Method(0x009);
    /// RFC 6062 §6.1
    pub const CONNECT: Method = Method(0x00a);
    /// RFC 6062 §6.1
    pub const CONNECTION_BIND: Method = Method(0x00b);
    /// RFC 6062 §6.1, indication only
    pub const CONNECTION_ATTEMPT: Method = Method(0x00c);

    /// A method from its number; bits above the twelfth are dropped.
    pub const fn new(number: u16) -> Method {
        Method(number & 0x0fff)
    }

    /// The twelve-bit number.
    pub const fn number(self) -> u16 {
        self.0
    }
}

/// The 14-bit message type, in which method and class bits interleave: `M11–M7 C1 M6–M4 C0 M3–M0`.
pub(super) const fn encode_type(class: Class, method: Method) -> u16 {
    let m = method.0;
    let class_bits = match class {
        Class::Request => 0x0000,
        Class::Indication => 0x0010,
        Class::Success => 0x0100,
        Class::Error => 0x0110,
    };
    (m & 0x000f) | ((m & 0x0070) << 1) | ((m & 0x0f80) << 2) | class_bits
}

const fn decode_type(bits: u16) -> (Class, Method) {
    let class = match (bits & 0x0100 != 0, bits & 0x0010 != 0) {
        (false, false) => Class::Request,
        (false, true) => Class::Indication,
        (true, false) => Class::Success,
        (true, true) => Class::Error,
    };
    let method = (bits & 0x000f) | ((bits & 0x00e0) >> 1) | ((bits & 0x3e00) >> 2);
    (class, Method(method))
}

/// The 96 bits that tie an answer to its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TransactionId(pub [u8; 12]);

/// Why bytes are not a STUN message at all; such a datagram is never answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// Fewer bytes than a header has.
    Short,
    /// The two top bits are not zero.
    NotStun,
    /// The magic cookie is missing: RFC 3489 or noise.
    NoCookie,
    /// The length field is no multiple of four, or does not match the bytes received.
    Length,
}

/// A message whose header is sound. Its attributes may still be malformed: the iterator tells.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    bytes: &'a [u8],
    class: Class,
    method: Method,
    transaction_id: TransactionId,
}

impl<'a> Message<'a> {
    /// Checks the header as RFC 8489 §6.3 asks; `bytes` must be exactly one message.
    pub fn parse(bytes: &'a [u8]) -> Result<Message<'a>, ParseError> {
        let (Some(kind), Some(length), Some(cookie), Some(id)) =
            (read_u16(bytes, 0), read_u16(bytes, 2), read_u32(bytes, 4), bytes.get(8..HEADER_LENGTH))
        else {
            return Err(ParseError::Short);
        };
        if Kind::of(bytes) != Kind::Stun {
            return Err(ParseError::NotStun);
        }
        if cookie != MAGIC_COOKIE {
            return Err(ParseError::NoCookie);
        }
        if length & 3 != 0 || bytes.len() != HEADER_LENGTH + usize::from(length) {
            return Err(ParseError::Length);
        }
        let (class, method) = decode_type(kind);
        let transaction_id = TransactionId(id.try_into().map_err(|_| ParseError::Short)?);
        Ok(Message { bytes, class, method, transaction_id })
    }

    /// The whole message, header included.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Request, indication, success or error.
    pub fn class(&self) -> Class {
        self.class
    }

    /// The method number.
    pub fn method(&self) -> Method {
        self.method
    }

    /// The transaction id.
    pub fn transaction_id(&self) -> TransactionId {
        self.transaction_id
    }

    /// The attributes in the order of the bytes.
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes::new(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_bits_interleave_as_in_the_rfc() {
        assert_eq!(encode_type(Class::Request, Method::BINDING), 0x0001);
        assert_eq!(encode_type(Class::Success, Method::BINDING), 0x0101);
        assert_eq!(encode_type(Class::Error, Method::ALLOCATE), 0x0113);
        assert_eq!(encode_type(Class::Indication, Method::SEND), 0x0016);
        assert_eq!(encode_type(Class::Indication, Method::DATA), 0x0017);
    }

    #[test]
    fn every_type_survives_the_round_trip() {
        for number in 0..=0x0fff {
            for class in [Class::Request, Class::Indication, Class::Success, Class::Error] {
                let bits = encode_type(class, Method::new(number));
                assert!(bits < 0x4000);
                assert_eq!(decode_type(bits), (class, Method::new(number)));
            }
        }
    }

    const BINDING: [u8; 20] = [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

    fn changed(at: usize, value: u8) -> Result<(), ParseError> {
        let mut bytes = BINDING;
        bytes[at] = value;
        Message::parse(&bytes).map(|_| ())
    }

    #[test]
    fn header_faults_are_told_apart() {
        assert_eq!(changed(0, 0), Ok(()));
        assert_eq!(changed(0, 0x80), Err(ParseError::NotStun));
        assert_eq!(changed(3, 4), Err(ParseError::Length));
        assert_eq!(changed(3, 1), Err(ParseError::Length));
        assert_eq!(changed(4, 0), Err(ParseError::NoCookie));
        assert_eq!(Message::parse(&BINDING[..19]).err(), Some(ParseError::Short));
        let mut long = BINDING.to_vec();
        long.push(0);
        assert_eq!(Message::parse(&long).err(), Some(ParseError::Length));
    }
}
