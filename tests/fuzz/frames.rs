//! A stream of messages, cut anywhere, yields the frames that it yields whole, and those are the ones of a reader that
//! is as plain as RFC 8489 §6.2.2 and RFC 8656 §12.5 put it.

use turnwell::wire::frame::LONGEST;
use turnwell::wire::{Frame, FrameError, padding};

/// What a reader of a stream came to.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    frames: Vec<Vec<u8>>,
    /// Bytes of a frame that is not whole, or of what cannot be read.
    rest: usize,
    error: Option<FrameError>,
}

/// The first bytes are lengths of pieces, over and over, up to a zero; the next one says how long a frame may be; the
/// rest is the stream, as it is and as the bodies of messages.
pub(crate) fn run(input: &[u8]) {
    let end = input.iter().position(|length| *length == 0).unwrap_or(0);
    let (cuts, rest) = input.split_at(end);
    let [_, longest, bytes @ ..] = rest else { return };
    let longest = if *longest < 200 { LONGEST } else { usize::from(*longest) };
    check(bytes, cuts, longest);

    let messages = messages(bytes);
    let stream: Vec<u8> =
        messages.iter().flat_map(|message| [message.as_slice(), &[0; 3][..padding(message.len())]].concat()).collect();
    assert_eq!(check(&stream, cuts, LONGEST), Read { frames: messages, rest: 0, error: None });
}

fn check(stream: &[u8], cuts: &[u8], longest: usize) -> Read {
    let whole = read([stream], longest);
    assert_eq!(plainly(stream, longest), whole);
    assert_eq!(read(stream.chunks(1), longest), whole);
    if !cuts.is_empty() {
        let mut at = 0;
        let pieces = cuts.iter().cycle().map_while(|length| {
            let start = at;
            at = stream.len().min(start + usize::from(*length));
            stream.get(start..at).filter(|piece| !piece.is_empty())
        });
        assert_eq!(read(pieces, longest), whole);
    }
    whole
}

/// As a connection reads: what is left of one piece waits for the next.
fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, longest: usize) -> Read {
    let mut read = Read { frames: Vec::new(), rest: 0, error: None };
    let (mut buffer, mut needed) = (Vec::new(), 0);
    for piece in pieces {
        buffer.extend_from_slice(piece);
        let mut at = 0;
        while read.error.is_none() {
            let waiting = buffer.len() - at;
            match Frame::first(&buffer[at..], longest) {
                Ok(Frame::Whole { length, padding }) => {
                    assert!(length > 0 && length + padding <= longest && waiting >= needed);
                    read.frames.push(buffer[at..at + length].to_vec());
                    at += length + padding;
                    needed = 0;
                }
                Ok(Frame::Partial { needed: more }) => {
                    assert!(more > waiting && more <= longest.max(20) && more >= needed);
                    needed = more;
                    break;
                }
                Err(error) => read.error = Some(error),
            }
        }
        buffer.drain(..at);
    }
    read.rest = buffer.len();
    read
}

/// The same from the RFC, in one go.
fn plainly(stream: &[u8], longest: usize) -> Read {
    let mut read = Read { frames: Vec::new(), rest: stream.len(), error: None };
    loop {
        let bytes = &stream[stream.len() - read.rest..];
        let Some(first) = bytes.first() else { return read };
        let is_channel_data = first >> 6 == 1;
        if first >> 6 > 1 {
            read.error = Some(FrameError::Foreign);
            return read;
        }
        let header = if is_channel_data { 4 } else { 20 };
        // A cookie and a length that are there are judged at once, not when the whole header is.
        if bytes.len() < if is_channel_data { 4 } else { 8 } {
            return read;
        }
        if !is_channel_data && bytes[4..8] != [0x21, 0x12, 0xa4, 0x42] {
            read.error = Some(FrameError::Foreign);
            return read;
        }
        let length = usize::from(bytes[2]) * 256 + usize::from(bytes[3]);
        if !is_channel_data && length % 4 != 0 {
            read.error = Some(FrameError::Misaligned);
            return read;
        }
        let padded = header + length.next_multiple_of(4);
        if padded > longest {
            read.error = Some(FrameError::TooLong);
            return read;
        }
        if bytes.len() < padded {
            return read;
        }
        read.frames.push(bytes[..header + length].to_vec());
        read.rest -= padded;
    }
}

/// Messages of both kinds: a byte for the kind and one for the length of the body, then the body.
fn messages(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    while let [kind, length, rest @ ..] = bytes {
        let is_channel_data = kind & 1 == 1;
        let length = rest.len().min(usize::from(*length)) & if is_channel_data { usize::MAX } else { !3 };
        let (body, behind) = rest.split_at(length);
        let [high, low] = u16::try_from(length).expect("a byte").to_be_bytes();
        messages.push(if is_channel_data {
            [&[0x40 | (kind >> 2), *kind, high, low], body].concat()
        } else {
            [&[kind >> 2, *kind, high, low, 0x21, 0x12, 0xa4, 0x42], &[*kind; 12][..], body].concat()
        });
        bytes = behind;
    }
    messages
}
