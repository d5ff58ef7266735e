//! MESSAGE-INTEGRITY, MESSAGE-INTEGRITY-SHA256 and FINGERPRINT (RFC 8489 §14.5–§14.7).
//!
//! Both MACs cover the message up to their own attribute, with the header's length field set as if that
//! attribute were the last one. The keyed SHA-1 state is computed once per key and cloned per message.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::Sha256;
use zeroize::Zeroize;

use super::attribute::{Attribute, AttributeType};
use super::message::HEADER_LENGTH;
use super::password::PasswordAlgorithm;

/// FINGERPRINT is the CRC-32 of the message XOR this constant (RFC 8489 §14.7).
const FINGERPRINT_XOR: u32 = 0x5354_554e;
/// The whole value of MESSAGE-INTEGRITY.
pub(super) const SHA1_LENGTH: usize = 20;
/// The longest value of MESSAGE-INTEGRITY-SHA256; a sender may cut it down to 16 in steps of four.
pub(super) const SHA256_LENGTH: usize = 32;
const SHA256_SHORTEST: usize = 16;

/// Which of the two integrity attributes a message carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// MESSAGE-INTEGRITY
    Sha1,
    /// MESSAGE-INTEGRITY-SHA256
    Sha256,
}

/// The longest key: SHA-256 of user, realm and password (RFC 8489 §18.5.1.2); the usual MD5 key has 16 bytes.
const LONGEST_KEY: usize = 32;

/// A key for message integrity, with the SHA-1 state that has already absorbed it. Wiped on drop, not printable.
#[derive(Clone)]
pub struct IntegrityKey {
    key: [u8; LONGEST_KEY],
    length: u8,
    sha1: Hmac<Sha1>,
}

impl IntegrityKey {
    /// A key of at most 32 bytes; a longer one is hashed first as HMAC does (RFC 2104 §2), which only SHA-1
    /// messages can then be checked with.
    pub fn new(key: &[u8]) -> IntegrityKey {
        let mut stored = [0; LONGEST_KEY];
        let length = key.len().min(LONGEST_KEY);
        for (to, from) in stored.iter_mut().zip(key) {
            *to = *from;
        }
        IntegrityKey { key: stored, length: u8::try_from(length).unwrap_or(0), sha1: keyed(key) }
    }

    /// Whether the key has the length of those that an algorithm yields.
    pub fn is_of(&self, algorithm: PasswordAlgorithm) -> bool {
        let length = match algorithm {
            PasswordAlgorithm::Md5 => 16,
            PasswordAlgorithm::Sha256 => 32,
        };
        usize::from(self.length) == length
    }

    /// Whether `attribute`, an integrity attribute of `message`, has the value this key yields; constant time.
    pub fn verify(&self, message: &[u8], attribute: &Attribute<'_>) -> bool {
        match attribute.kind {
            AttributeType::MESSAGE_INTEGRITY => {
                let tag = attribute.value;
                absorb(self.sha1.clone(), message, attribute.offset, tag.len())
                    .is_some_and(|mac| mac.verify_slice(tag).is_ok())
            }
            AttributeType::MESSAGE_INTEGRITY_SHA256 => {
                let tag = attribute.value;
                let allowed = (SHA256_SHORTEST..=SHA256_LENGTH).contains(&tag.len()) && tag.len().is_multiple_of(4);
                allowed
                    && absorb(self.sha256(), message, attribute.offset, tag.len())
                        .is_some_and(|mac| mac.verify_truncated_left(tag).is_ok())
            }
            _ => false,
        }
    }

    /// The MESSAGE-INTEGRITY value for an attribute that begins at the end of `message`.
    pub(super) fn sign_sha1(&self, message: &[u8]) -> Option<[u8; SHA1_LENGTH]> {
        let mac = absorb(self.sha1.clone(), message, message.len(), SHA1_LENGTH)?;
        Some(mac.finalize().into_bytes().into())
    }

    /// The MESSAGE-INTEGRITY-SHA256 value for an attribute that begins at the end of `message`.
    pub(super) fn sign_sha256(&self, message: &[u8]) -> Option<[u8; SHA256_LENGTH]> {
        let mac = absorb(self.sha256(), message, message.len(), SHA256_LENGTH)?;
        Some(mac.finalize().into_bytes().into())
    }

    fn sha256(&self) -> Hmac<Sha256> {
        keyed(self.key.get(..usize::from(self.length)).unwrap_or_default())
    }
}

impl Drop for IntegrityKey {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

impl fmt::Debug for IntegrityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IntegrityKey(…)")
    }
}

/// HMAC takes a key of any length, so the error type of the trait has no case here.
fn keyed<M: KeyInit + Mac>(key: &[u8]) -> M {
    <M as KeyInit>::new_from_slice(key).unwrap_or_else(|_| <M as KeyInit>::new(&Default::default()))
}

/// Feeds `message[..offset]` with the length field of a message that ends after an attribute of
/// `value_length` bytes at `offset`. `None` if `offset` is not inside the message.
fn absorb<M: Mac>(mut mac: M, message: &[u8], offset: usize, value_length: usize) -> Option<M> {
    let covered = u16::try_from((offset + 4 + value_length).checked_sub(HEADER_LENGTH)?).ok()?;
    mac.update(message.get(..2)?);
    mac.update(&covered.to_be_bytes());
    mac.update(message.get(4..offset)?);
    Some(mac)
}

/// The FINGERPRINT value of a message whose length field already counts the attribute that begins at `offset`.
pub(super) fn fingerprint(message: &[u8], offset: usize) -> Option<u32> {
    Some(crc32fast::hash(message.get(..offset)?) ^ FINGERPRINT_XOR)
}

/// Whether `attribute`, the FINGERPRINT of `message`, is right. It must be the last attribute.
pub fn verify_fingerprint(message: &[u8], attribute: &Attribute<'_>) -> bool {
    attribute.offset + 8 == message.len()
        && attribute.u32().ok().is_some_and(|value| fingerprint(message, attribute.offset) == Some(value))
}

#[cfg(test)]
mod tests {
    use md5::{Digest, Md5};

    use super::*;
    use crate::wire::{Message, Writer};

    /// Everything an attribute of the given kind needs to be checked.
    fn find<'a>(message: &Message<'a>, kind: AttributeType) -> Attribute<'a> {
        message.attributes().map(Result::unwrap).find(|attribute| attribute.kind == kind).unwrap()
    }

    fn unhex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    // RFC 5769 §2.1–§2.4
    const REQUEST: &str = "00010058 2112a442 b7e7a701 bc34d686 fa87dfae 80220010 5354554e 20746573 7420636c 69656e74
        00240004 6e0001ff 80290008 932ff9b1 51263b36 00060009 6576746a 3a683676 59202020 00080014 9aeaa70c bfd8cb56
        781ef2b5 b2d3f249 c1b571a2 80280004 e57a3bcf";
    const RESPONSE_V4: &str = "0101003c 2112a442 b7e7a701 bc34d686 fa87dfae 8022000b 74657374 20766563 746f7220
        00200008 0001a147 e112a643 00080014 2b91f599 fd9e90c3 8c7489f9 2af9ba53 f06be7d7 80280004 c07d4c96";
    const RESPONSE_V6: &str = "01010048 2112a442 b7e7a701 bc34d686 fa87dfae 8022000b 74657374 20766563 746f7220
        00200014 0002a147 0113a9fa a5d3f179 bc25f4b5 bed2b9d9 00080014 a382954e 4be67bf1 1784c97c 8292c275 bfe3ed41
        80280004 c8fb0b4c";
    const LONG_TERM: &str = "00010060 2112a442 78ad3433 c6ad72c0 29da412e 00060012 e3839ee3 8388e383 aae38383 e382af
        e382b90000 0015001c 662f2f34 39396b39 35346436 4f4c3334 6f4c3946 53547679 3634 7341 0014000b 6578616d 706c652e
        6f726700 00080014 f6702465 6dd64a3e 02b8e071 2e85c9a2 8ca89666";

    #[test]
    fn rfc5769_short_term_vectors() {
        for (text, mapped) in [
            (REQUEST, None),
            (RESPONSE_V4, Some("192.0.2.1:32853")),
            (RESPONSE_V6, Some("[2001:db8:1234:5678:11:2233:4455:6677]:32853")),
        ] {
            let bytes = unhex(text);
            let message = Message::parse(&bytes).unwrap();
            let key = IntegrityKey::new(b"VOkJxbRl1RmTxUk/WvJxBt");
            assert!(key.verify(&bytes, &find(&message, AttributeType::MESSAGE_INTEGRITY)));
            assert!(verify_fingerprint(&bytes, &find(&message, AttributeType::FINGERPRINT)));
            assert!(!IntegrityKey::new(b"other").verify(&bytes, &find(&message, AttributeType::MESSAGE_INTEGRITY)));
            if let Some(mapped) = mapped {
                let attribute = find(&message, AttributeType::XOR_MAPPED_ADDRESS);
                assert_eq!(attribute.xor_address(message.transaction_id()), Ok(mapped.parse().unwrap()));
            }
        }
    }

    #[test]
    fn rfc5769_long_term_vector() {
        let bytes = unhex(LONG_TERM);
        let message = Message::parse(&bytes).unwrap();
        let username = find(&message, AttributeType::USERNAME).value;
        assert_eq!(std::str::from_utf8(username), Ok("\u{30de}\u{30c8}\u{30ea}\u{30c3}\u{30af}\u{30b9}"));
        // "The<U+00AD>M<U+00AA>tr<U+2168>" after SASLprep.
        let key = Md5::digest([username, b":example.org:TheMatrIX"].concat());
        assert!(IntegrityKey::new(&key).verify(&bytes, &find(&message, AttributeType::MESSAGE_INTEGRITY)));
    }

    // RFC 8489 appendix B.1 as erratum 6268 corrects it: USERHASH, PASSWORD-ALGORITHM SHA-256, MESSAGE-INTEGRITY-SHA256.
    const LONG_TERM_SHA256: &str = "00010090 2112a442 78ad3433 c6ad72c0 29da412e 001e0020 4a3cf38f ef6992bd a952c678
        0417da0f 24819415 569e60b2 05c46e41 407f1704 00150029 6f624d61 744a6f73 32414141 43662f2f 3439396b 39353464
        364f4c33 346f4c39 46535476 79363473 41000000 0014000b 6578616d 706c652e 6f726700 001d0004 00020000 001c0020
        b5c7bf00 5b6c52a2 1c51c5e8 92f81924 136296cb 927c4314 9309278c c6518e65";

    #[test]
    fn rfc8489_long_term_sha256_vector() {
        let bytes = unhex(LONG_TERM_SHA256);
        let message = Message::parse(&bytes).unwrap();
        let username = "\u{30de}\u{30c8}\u{30ea}\u{30c3}\u{30af}\u{30b9}";
        let hash = Sha256::digest([username, ":example.org"].concat());
        assert_eq!(find(&message, AttributeType::USERHASH).value, hash.as_slice());
        let algorithm = find(&message, AttributeType::PASSWORD_ALGORITHM).password_algorithm();
        assert_eq!(algorithm, Ok(Some(PasswordAlgorithm::Sha256)));
        let key = Sha256::digest([username, ":example.org:TheMatrIX"].concat());
        assert!(IntegrityKey::new(&key).verify(&bytes, &find(&message, AttributeType::MESSAGE_INTEGRITY_SHA256)));
    }

    /// RFC 5769's first request, signed with SHA-256 as well: the second MAC covers the first, the first knows nothing
    /// of the second.
    #[test]
    fn both_integrity_attributes_verify_in_one_message() {
        let key = IntegrityKey::new(b"VOkJxbRl1RmTxUk/WvJxBt");
        let mut out = Vec::new();
        let id = Message::parse(&unhex(REQUEST)).unwrap().transaction_id();
        Writer::success(&mut out, crate::wire::Method::BINDING, id)
            .integrity(&key, Algorithm::Sha1)
            .integrity(&key, Algorithm::Sha256)
            .fingerprint()
            .finish();
        let message = Message::parse(&out).unwrap();
        for kind in [AttributeType::MESSAGE_INTEGRITY, AttributeType::MESSAGE_INTEGRITY_SHA256] {
            assert!(key.verify(&out, &find(&message, kind)));
        }
        assert!(verify_fingerprint(&out, &find(&message, AttributeType::FINGERPRINT)));
    }

    #[test]
    fn one_changed_bit_anywhere_is_noticed() {
        let bytes = unhex(RESPONSE_V4);
        let key = IntegrityKey::new(b"VOkJxbRl1RmTxUk/WvJxBt");
        // The eight bytes of FINGERPRINT and the length field are not covered by the MAC.
        for at in (0..bytes.len() - 8).filter(|at| !(2..4).contains(at)) {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let Ok(message) = Message::parse(&changed) else { continue };
            let mac = message.attributes().flatten().find(|a| a.kind == AttributeType::MESSAGE_INTEGRITY);
            assert!(mac.is_none_or(|mac| !key.verify(&changed, &mac)), "byte {at}");
            let crc = message.attributes().flatten().find(|a| a.kind == AttributeType::FINGERPRINT);
            assert!(crc.is_none_or(|crc| !verify_fingerprint(&changed, &crc)), "byte {at}");
        }
    }

    #[test]
    fn sha256_values_may_be_cut_but_not_below_sixteen() {
        let key = IntegrityKey::new(&[7; 16]);
        let mut out = Vec::new();
        let request = Message::parse(&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])
            .map(|m| m.transaction_id())
            .unwrap();
        let mut writer = Writer::success(&mut out, crate::wire::Method::BINDING, request);
        writer.integrity(&key, Algorithm::Sha256);
        let range = writer.finish();
        let bytes = out[range].to_vec();
        let message = Message::parse(&bytes).unwrap();
        let mac = find(&message, AttributeType::MESSAGE_INTEGRITY_SHA256);
        assert!(key.verify(&bytes, &mac));
        // A shorter tag covers another length field, so a cut of the long one must not pass.
        for length in [0, 4, 12, 16, 18] {
            assert!(!key.verify(&bytes, &Attribute { value: &mac.value[..length], ..mac }));
        }
    }
}
