//! Encodes a message at the end of the caller's buffer.

use std::net::SocketAddr;
use std::ops::Range;

use super::address::{self, AddressFamily};
use super::attribute::AttributeType;
use super::error::ErrorCode;
use super::integrity::{self, Algorithm, IntegrityKey};
use super::message::{Class, HEADER_LENGTH, MAGIC_COOKIE, Method, TransactionId, encode_type};
use super::padding;
use super::password::PasswordAlgorithm;

/// Builds one message; the length field is right after every call. The buffer is only appended to, so a buffer
/// that keeps its capacity makes encoding free of memory allocation.
#[must_use = "a message ends with `finish`"]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> Writer<'a> {
    /// Begins a message of any class.
    pub fn new(out: &'a mut Vec<u8>, class: Class, method: Method, id: TransactionId) -> Writer<'a> {
        let start = out.len();
        out.extend_from_slice(&encode_type(class, method).to_be_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&MAGIC_COOKIE.to_be_bytes());
        out.extend_from_slice(&id.0);
        Writer { out, start }
    }

    /// Begins a success response.
    pub fn success(out: &'a mut Vec<u8>, method: Method, id: TransactionId) -> Writer<'a> {
        Writer::new(out, Class::Success, method, id)
    }

    /// Begins an error response with its ERROR-CODE (RFC 8489 §14.8).
    pub fn error(out: &'a mut Vec<u8>, method: Method, id: TransactionId, code: ErrorCode) -> Writer<'a> {
        let mut writer = Writer::new(out, Class::Error, method, id);
        let (class, rest) = split(code);
        let reason = code.reason().as_bytes();
        writer.header(AttributeType::ERROR_CODE, 4 + reason.len());
        writer.out.extend_from_slice(&[0, 0, class, rest]);
        writer.out.extend_from_slice(reason);
        writer.pad(4 + reason.len());
        writer
    }

    /// Adds an attribute with any value; values over 65,535 bytes are cut.
    pub fn attribute(&mut self, kind: AttributeType, value: &[u8]) -> &mut Self {
        let value = value.get(..usize::from(u16::MAX)).unwrap_or(value);
        self.header(kind, value.len());
        self.out.extend_from_slice(value);
        self.pad(value.len());
        self
    }

    /// Adds a four-byte value.
    pub fn u32(&mut self, kind: AttributeType, value: u32) -> &mut Self {
        self.attribute(kind, &value.to_be_bytes())
    }

    /// Adds an address in the clear.
    pub fn address(&mut self, kind: AttributeType, address: SocketAddr) -> &mut Self {
        self.encoded(kind, address::encode(address))
    }

    /// Adds an address in XOR form (RFC 8489 §14.2).
    pub fn xor_address(&mut self, kind: AttributeType, address: SocketAddr) -> &mut Self {
        let id = self.transaction_id();
        self.encoded(kind, address::encode_xor(address, id))
    }

    /// Adds ADDRESS-ERROR-CODE (RFC 8656 §18.12).
    pub fn address_error(&mut self, family: AddressFamily, code: ErrorCode) -> &mut Self {
        let (class, rest) = split(code);
        let reason = code.reason().as_bytes();
        self.header(AttributeType::ADDRESS_ERROR_CODE, 4 + reason.len());
        self.out.extend_from_slice(&[family.number(), 0, class, rest]);
        self.out.extend_from_slice(reason);
        self.pad(4 + reason.len());
        self
    }

    /// Adds UNKNOWN-ATTRIBUTES (RFC 8489 §14.13).
    pub fn unknown_attributes(&mut self, kinds: &[AttributeType]) -> &mut Self {
        self.header(AttributeType::UNKNOWN_ATTRIBUTES, kinds.len() * 2);
        for kind in kinds {
            self.out.extend_from_slice(&kind.0.to_be_bytes());
        }
        self.pad(kinds.len() * 2);
        self
    }

    /// Adds PASSWORD-ALGORITHMS, the preferred one first (RFC 8489 §14.11).
    pub fn password_algorithms(&mut self, algorithms: &[PasswordAlgorithm]) -> &mut Self {
        self.header(AttributeType::PASSWORD_ALGORITHMS, algorithms.len() * 4);
        for algorithm in algorithms {
            self.out.extend_from_slice(&algorithm.value());
        }
        self.pad(0);
        self
    }

    /// Signs everything so far.
    pub fn integrity(&mut self, key: &IntegrityKey, algorithm: Algorithm) -> &mut Self {
        let message = self.out.get(self.start..).unwrap_or_default();
        match algorithm {
            Algorithm::Sha1 => {
                if let Some(tag) = key.sign_sha1(message) {
                    self.attribute(AttributeType::MESSAGE_INTEGRITY, &tag);
                }
            }
            Algorithm::Sha256 => {
                if let Some(tag) = key.sign_sha256(message) {
                    self.attribute(AttributeType::MESSAGE_INTEGRITY_SHA256, &tag);
                }
            }
        }
        self
    }

    /// Adds FINGERPRINT, which must be the last attribute.
    pub fn fingerprint(&mut self) -> &mut Self {
        let offset = self.out.len() - self.start;
        self.u32(AttributeType::FINGERPRINT, 0);
        let message = self.out.get(self.start..).unwrap_or_default();
        if let Some(value) = integrity::fingerprint(message, offset)
            && let Some(place) = self.out.last_chunk_mut::<4>()
        {
            *place = value.to_be_bytes();
        }
        self
    }

    /// Ends the message with a DATA attribute whose `length` value bytes the sender puts behind these bytes,
    /// followed by its padding: what is relayed is never copied (RFC 8656 §11.4). `false` when the message would be
    /// longer than its length field can tell.
    pub fn data_header(&mut self, length: usize) -> bool {
        self.header(AttributeType::DATA, length);
        let whole = self.out.len() - self.start - HEADER_LENGTH + length + padding(length);
        match (u16::try_from(whole), self.out.get_mut(self.start + 2..self.start + 4)) {
            (Ok(whole), Some(place)) => {
                place.copy_from_slice(&whole.to_be_bytes());
                true
            }
            (_, _) => false,
        }
    }

    /// Where the message stands in the buffer.
    pub fn finish(&mut self) -> Range<usize> {
        self.start..self.out.len()
    }

    fn transaction_id(&self) -> TransactionId {
        let id = self.out.get(self.start + 8..self.start + HEADER_LENGTH);
        TransactionId(id.and_then(|bytes| bytes.try_into().ok()).unwrap_or_default())
    }

    fn encoded(&mut self, kind: AttributeType, (value, length): address::Encoded) -> &mut Self {
        self.attribute(kind, value.get(..length).unwrap_or(&value))
    }

    fn header(&mut self, kind: AttributeType, length: usize) {
        self.out.extend_from_slice(&kind.0.to_be_bytes());
        self.out.extend_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
    }

    fn pad(&mut self, length: usize) {
        let zeros: &[u8] = match padding(length) {
            0 => &[],
            1 => &[0],
            2 => &[0, 0],
            _ => &[0, 0, 0],
        };
        self.out.extend_from_slice(zeros);
        let body = u16::try_from(self.out.len() - self.start - HEADER_LENGTH).unwrap_or(u16::MAX);
        if let Some(place) = self.out.get_mut(self.start + 2..self.start + 4) {
            place.copy_from_slice(&body.to_be_bytes());
        }
    }
}

/// The hundreds and the rest, as the wire has them.
fn split(code: ErrorCode) -> (u8, u8) {
    let number = code.number();
    (u8::try_from(number / 100).unwrap_or(5), u8::try_from(number % 100).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Message, integrity::verify_fingerprint};

    const ID: TransactionId = TransactionId([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);

    #[test]
    fn error_response_bytes() {
        let mut out = vec![0xee];
        let range = Writer::error(&mut out, Method::ALLOCATE, ID, ErrorCode::Unauthenticated)
            .attribute(AttributeType::REALM, b"a")
            .finish();
        assert_eq!(range, 1..out.len());
        assert_eq!(
            out[range],
            [
                0x01, 0x13, 0, 20, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, // header
                0, 9, 0, 8, 0, 0, 4, 1, b'A', b'u', b't', b'h', // ERROR-CODE
                0, 0x14, 0, 1, b'a', 0, 0, 0, // REALM
            ]
        );
    }

    #[test]
    fn what_is_written_can_be_read_and_verified() {
        let key = IntegrityKey::new(&[3; 16]);
        let mut out = Vec::new();
        let range = Writer::success(&mut out, Method::REFRESH, ID)
            .u32(AttributeType::LIFETIME, 600)
            .xor_address(AttributeType::XOR_MAPPED_ADDRESS, "[::1]:9".parse().unwrap())
            .integrity(&key, Algorithm::Sha1)
            .fingerprint()
            .finish();
        let bytes = &out[range];
        let message = Message::parse(bytes).unwrap();
        let found: Vec<_> = message.attributes().map(Result::unwrap).collect();
        assert_eq!(found[0].u32(), Ok(600));
        assert_eq!(found[1].xor_address(ID), Ok("[::1]:9".parse().unwrap()));
        assert!(key.verify(bytes, &found[2]));
        assert!(verify_fingerprint(bytes, &found[3]));
    }

    #[test]
    fn data_header_counts_the_bytes_that_follow() {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out, Class::Indication, Method::DATA, ID);
        writer.xor_address(AttributeType::XOR_PEER_ADDRESS, "1.2.3.4:5".parse().unwrap());
        assert!(writer.data_header(5));
        out.extend_from_slice(b"hello\0\0\0");
        let message = Message::parse(&out).unwrap();
        let data = message.attributes().map(Result::unwrap).last().unwrap();
        assert_eq!((data.kind, data.value), (AttributeType::DATA, &b"hello"[..]));
        let mut out = Vec::new();
        assert!(!Writer::new(&mut out, Class::Indication, Method::DATA, ID).data_header(65_533));
    }
}
