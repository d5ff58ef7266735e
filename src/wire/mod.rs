//! Bytes to borrowed views and back: STUN messages (RFC 8489 §5, §14), ChannelData (RFC 8656 §12.4),
//! message integrity and fingerprint.
//!
//! Decoding borrows from the received bytes, allocates nothing and cannot panic; encoding appends to the
//! caller's buffer. Nothing here knows what a message is for: no table, no clock, no policy.

pub mod address;
pub mod attribute;
pub mod channel;
pub mod error;
pub mod frame;
pub mod integrity;
pub mod message;
pub mod password;
pub mod writer;

pub use address::AddressFamily;
pub use attribute::{Attribute, AttributeType};
pub use channel::{ChannelData, ChannelNumber};
pub use error::ErrorCode;
pub use frame::{Frame, FrameError};
pub use integrity::{Algorithm, IntegrityKey};
pub use message::{Class, Message, Method, ParseError, TransactionId};
pub use password::PasswordAlgorithm;
pub use writer::Writer;

/// What the first byte of a datagram, or of a frame on a stream, announces (RFC 8656 §12, RFC 7983 §7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The two top bits are `00`: a STUN message.
    Stun,
    /// The two top bits are `01`: ChannelData.
    ChannelData,
    /// Anything else (RTP, DTLS, TLS, noise): not ours.
    Foreign,
}

impl Kind {
    /// Classifies by the two top bits of the first byte; an empty input is foreign.
    pub fn of(bytes: &[u8]) -> Kind {
        match bytes.first().map(|first| first >> 6) {
            Some(0b00) => Kind::Stun,
            Some(0b01) => Kind::ChannelData,
            Some(_) | None => Kind::Foreign,
        }
    }
}

/// The number of zero bytes that bring `length` to a multiple of four (RFC 8489 §14).
pub fn padding(length: usize) -> usize {
    length.wrapping_neg() & 3
}

/// Big-endian 16 bits at `at`; `None` past the end.
fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    let pair = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_be_bytes(pair.try_into().ok()?))
}

/// Big-endian 32 bits at `at`; `None` past the end.
fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    let quad = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(quad.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_byte_tells_the_kind() {
        assert_eq!(Kind::of(&[]), Kind::Foreign);
        assert_eq!(Kind::of(&[0x00]), Kind::Stun);
        assert_eq!(Kind::of(&[0x3f]), Kind::Stun);
        assert_eq!(Kind::of(&[0x40]), Kind::ChannelData);
        assert_eq!(Kind::of(&[0x7f]), Kind::ChannelData);
        assert_eq!(Kind::of(&[0x80]), Kind::Foreign);
        assert_eq!(Kind::of(&[0xff]), Kind::Foreign);
    }

    #[test]
    fn padding_reaches_the_next_multiple_of_four() {
        assert_eq!([0, 1, 2, 3, 4, 5].map(padding), [0, 3, 2, 1, 0, 3]);
    }
}
