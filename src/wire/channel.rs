//! ChannelData, the four-byte framing of relayed data (RFC 8656 §12.4).
//!
//! ```text
//! |        channel number         |            length             |
//! |                 application data …                            |
//! ```

use super::read_u16;

/// Bytes before the application data.
pub const HEADER_LENGTH: usize = 4;

/// A channel number as it stands on the wire; which numbers may be bound is the engine's rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelNumber(pub u16);

/// A borrowed ChannelData message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelData<'a> {
    /// The channel.
    pub channel: ChannelNumber,
    /// The application data, padding left out.
    pub data: &'a [u8],
}

impl<'a> ChannelData<'a> {
    /// Reads one message. Bytes after the announced length are padding and ignored (RFC 8656 §12.5);
    /// `None` when there are fewer bytes than announced.
    pub fn parse(bytes: &'a [u8]) -> Option<ChannelData<'a>> {
        let channel = ChannelNumber(read_u16(bytes, 0)?);
        let length = usize::from(read_u16(bytes, 2)?);
        let data = bytes.get(HEADER_LENGTH..HEADER_LENGTH + length)?;
        Some(ChannelData { channel, data })
    }
}

/// The header that goes before `length` bytes of application data.
pub fn header(channel: ChannelNumber, length: u16) -> [u8; HEADER_LENGTH] {
    let [a, b] = channel.0.to_be_bytes();
    let [c, d] = length.to_be_bytes();
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_bounds_the_data() {
        let parse = |bytes: &'static [u8]| ChannelData::parse(bytes).map(|m| (m.channel.0, m.data));
        assert_eq!(parse(&[0x40, 1, 0, 2, 7, 8]), Some((0x4001, &[7, 8][..])));
        assert_eq!(parse(&[0x40, 1, 0, 2, 7, 8, 0, 0]), Some((0x4001, &[7, 8][..])));
        assert_eq!(parse(&[0x40, 1, 0, 0]), Some((0x4001, &[][..])));
        assert_eq!(parse(&[0x40, 1, 0, 3, 7, 8]), None);
        assert_eq!(parse(&[0x40, 1, 0]), None);
        assert_eq!(parse(&[0x40, 1, 0xff, 0xff, 0]), None);
    }

    #[test]
    fn header_is_what_parse_reads() {
        let mut bytes = header(ChannelNumber(0x4abc), 3).to_vec();
        bytes.extend_from_slice(b"abc");
        assert_eq!(ChannelData::parse(&bytes), Some(ChannelData { channel: ChannelNumber(0x4abc), data: b"abc" }));
    }
}
