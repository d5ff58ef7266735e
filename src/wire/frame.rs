//! Where one message ends and the next begins on a byte stream (RFC 8489 §6.2.2, RFC 8656 §12.5).
//!
//! STUN messages are as long as their header says, always a multiple of four. ChannelData is followed by zero to three
//! bytes that bring it to a multiple of four; its length field leaves them out. A stream that is out of step cannot be
//! brought back into it, so an error means that the connection has to be closed.

use super::message::{HEADER_LENGTH, MAGIC_COOKIE};
use super::{Kind, channel, padding, read_u16, read_u32};

/// The longest frame that the two length fields can describe, padding included: a STUN message of 65,532 bytes behind
/// its header.
pub const LONGEST: usize = HEADER_LENGTH + 0xfffc;

/// What stands at the beginning of the bytes received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A whole message of `length` bytes, and `padding` bytes between it and the next.
    Whole {
        /// The message, without padding.
        length: usize,
        /// Bytes of padding behind it.
        padding: usize,
    },
    /// The beginning of a message; nothing can be said before there are `needed` bytes.
    Partial {
        /// From the first byte of the message on, more than there are now.
        needed: usize,
    },
}

/// Why a stream cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// Neither STUN nor ChannelData.
    Foreign,
    /// A STUN message whose length is no multiple of four.
    Misaligned,
    /// Longer than the caller takes.
    TooLong,
}

impl Frame {
    /// Looks at the first frame of `bytes`; one that takes more than `longest` bytes, padding included, is an error as
    /// soon as its header is there.
    pub fn first(bytes: &[u8], longest: usize) -> Result<Frame, FrameError> {
        let (length, padding) = match Kind::of(bytes) {
            Kind::Foreign if bytes.is_empty() => return Ok(Frame::Partial { needed: 1 }),
            Kind::Foreign => return Err(FrameError::Foreign),
            Kind::ChannelData => match read_u16(bytes, 2) {
                Some(length) => (channel::HEADER_LENGTH + usize::from(length), padding(usize::from(length))),
                None => return Ok(Frame::Partial { needed: channel::HEADER_LENGTH }),
            },
            Kind::Stun => match read_u32(bytes, 4).zip(read_u16(bytes, 2)) {
                Some((cookie, _)) if cookie != MAGIC_COOKIE => return Err(FrameError::Foreign),
                Some((_, length)) if length & 3 != 0 => return Err(FrameError::Misaligned),
                Some((_, length)) => (HEADER_LENGTH + usize::from(length), 0),
                None => return Ok(Frame::Partial { needed: HEADER_LENGTH }),
            },
        };
        match length + padding {
            whole if whole > longest => Err(FrameError::TooLong),
            whole if whole > bytes.len() => Ok(Frame::Partial { needed: whole }),
            _ => Ok(Frame::Whole { length, padding }),
        }
    }

    /// The same of the first frame of a connection. ChannelData is none: its channel is bound on the same connection
    /// (RFC 8656 §12). HTTP, SSH and whatever else begins with a letter looks like it, and is told at its first byte.
    pub fn opening(bytes: &[u8], longest: usize) -> Result<Frame, FrameError> {
        match Kind::of(bytes) {
            Kind::ChannelData => Err(FrameError::Foreign),
            Kind::Stun | Kind::Foreign => Frame::first(bytes, longest),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::wire::{AttributeType, ChannelNumber, Class, Method, TransactionId, Writer};

    /// Reads a stream that arrives in these pieces, as a connection does: what is left of one waits for the next.
    fn read(pieces: &[&[u8]]) -> Result<Vec<Vec<u8>>, FrameError> {
        let (mut buffer, mut frames) = (Vec::new(), Vec::new());
        for piece in pieces {
            buffer.extend_from_slice(piece);
            let mut at = 0;
            while let Frame::Whole { length, padding } = Frame::first(&buffer[at..], LONGEST)? {
                frames.push(buffer[at..at + length].to_vec());
                at += length + padding;
            }
            buffer.drain(..at);
        }
        assert!(buffer.is_empty(), "whole messages leave nothing behind");
        Ok(frames)
    }

    fn channel_data(number: u16, data: &[u8]) -> Vec<u8> {
        let mut bytes = channel::header(ChannelNumber(number), u16::try_from(data.len()).unwrap()).to_vec();
        bytes.extend_from_slice(data);
        bytes
    }

    fn stun(value: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out, Class::Indication, Method::SEND, TransactionId([7; 12]));
        let range = writer.attribute(AttributeType::DATA, value).finish();
        out[range].to_vec()
    }

    /// Messages at the end of what sixteen bits can say.
    fn long_message() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            (0x4000u16..0x8000, 0xffec..=u16::MAX, any::<u8>())
                .prop_map(|(number, length, fill)| channel_data(number, &vec![fill; usize::from(length)])),
            // DATA has a header of its own
            (0xffecu16..=0xfffc, any::<u8>())
                .prop_map(|(length, fill)| stun(&vec![fill; usize::from(length & !3) - 4])),
        ]
    }

    fn message() -> impl Strategy<Value = Vec<u8>> {
        let data = || prop_oneof![9 => vec(any::<u8>(), 0..40), 1 => vec(any::<u8>(), 1000..3000)];
        prop_oneof![
            (0x4000u16..0x8000, data()).prop_map(|(number, data)| channel_data(number, &data)),
            data().prop_map(|value| stun(&value)),
        ]
    }

    fn on_the_stream(messages: &[Vec<u8>]) -> Vec<u8> {
        let padded = |message: &Vec<u8>| [message.as_slice(), &[0; 3][..padding(message.len())]].concat();
        messages.iter().flat_map(padded).collect()
    }

    /// One after the other on a stream, messages are read the same however it is cut: here, nowhere, at every byte.
    fn any_cut(messages: &[Vec<u8>], cuts: &[prop::sample::Index]) -> Result<(), TestCaseError> {
        let stream = on_the_stream(messages);
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        places.extend([0, stream.len()]);
        places.sort_unstable();
        let pieces: Vec<&[u8]> = places.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
        let single: Vec<&[u8]> = stream.chunks(1).collect();
        for pieces in [pieces.as_slice(), &[&stream], &single] {
            // whole messages would fill the report
            prop_assert!(read(pieces).is_ok_and(|read| read == messages), "{} pieces", pieces.len());
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn any_cut_yields_the_same_messages(
            messages in vec(message(), 0..12),
            cuts in vec(any::<prop::sample::Index>(), 0..20),
        ) {
            any_cut(&messages, &cuts)?;
        }

        #[test]
        fn the_longest_lengths_never_misframe(
            messages in vec(prop_oneof![1 => long_message(), 1 => message()], 1..6),
            cuts in vec(any::<prop::sample::Index>(), 0..20),
        ) {
            any_cut(&messages, &cuts)?;
        }

        #[test]
        fn noise_neither_panics_nor_stands_still(bytes in vec(any::<u8>(), 0..64), longest in 0usize..100) {
            match Frame::first(&bytes, longest) {
                Ok(Frame::Whole { length, padding }) => {
                    prop_assert!(length >= 4 && length + padding <= bytes.len().min(longest));
                }
                Ok(Frame::Partial { needed }) => prop_assert!(needed > bytes.len()),
                Err(_) => {}
            }
        }
    }

    #[test]
    fn lengths_near_the_end_of_sixteen_bits_are_kept_whole() {
        for length in 0xffec..=0xffff_u16 {
            let data = vec![0x55; usize::from(length)];
            let messages = vec![channel_data(0x4001, &data), stun(b"next")];
            let stream = on_the_stream(&messages);
            let (first, second) = stream.split_at(stream.len() - 30);
            assert_eq!(read(&[&stream[..3], &first[3..], second]), Ok(messages), "{length:#x}");

            let mut message = stun(&[]);
            message[2..4].copy_from_slice(&length.to_be_bytes());
            let whole = HEADER_LENGTH + usize::from(length);
            if length & 3 != 0 {
                assert_eq!(Frame::first(&message, LONGEST), Err(FrameError::Misaligned));
                continue;
            }
            assert_eq!(Frame::first(&message, LONGEST), Ok(Frame::Partial { needed: whole }));
            message.resize(whole + 8, 0);
            assert_eq!(Frame::first(&message, LONGEST), Ok(Frame::Whole { length: whole, padding: 0 }));
            assert_eq!(Frame::first(&message, whole - 1), Err(FrameError::TooLong));
        }
    }

    #[test]
    fn what_is_no_frame_is_refused_as_soon_as_it_can_be_told() {
        for first in [0x80, 0xc0, 0xff] {
            assert_eq!(Frame::first(&[first], LONGEST), Err(FrameError::Foreign));
        }
        assert_eq!(Frame::first(b"\x16\x03\x01\x02\x00\x01\x00\x01", LONGEST), Err(FrameError::Foreign));
        assert_eq!(Frame::first(b"GET / HTTP/1.1\r\n\r\n", 4096), Err(FrameError::TooLong));
        for first in b"ACGHOPSTz" {
            assert_eq!(Frame::opening(&[*first], LONGEST), Err(FrameError::Foreign));
        }
        assert_eq!(Frame::opening(&[], LONGEST), Ok(Frame::Partial { needed: 1 }));
        assert_eq!(Frame::opening(&stun(b"data"), LONGEST), Frame::first(&stun(b"data"), LONGEST));
        assert_eq!(Frame::opening(&[0xff], LONGEST), Err(FrameError::Foreign));
        assert_eq!(Frame::first(&[0x40, 1, 0xff], LONGEST), Ok(Frame::Partial { needed: 4 }));
        assert_eq!(Frame::first(&[0, 1, 0, 0], LONGEST), Ok(Frame::Partial { needed: HEADER_LENGTH }));
    }
}
