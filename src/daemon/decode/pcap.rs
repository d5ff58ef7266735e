//! Capture files: pcap in both byte orders and both clocks, and pcapng (draft-ietf-opsawg-pcap, -pcapng).

use std::time::Duration;

/// One captured frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    /// When, since 1970.
    pub(super) time: Duration,
    /// The kind of link, as the registry of link types numbers it.
    pub(super) link: u32,
    pub(super) bytes: &'a [u8],
}

const MICROSECONDS: u32 = 0xa1b2_c3d4;
const NANOSECONDS: u32 = 0xa1b2_3c4d;
const SECTION: u32 = 0x0a0d_0d0a;
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
const INTERFACE: u32 = 1;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

/// Whether a file is a capture.
pub(super) fn is_capture(bytes: &[u8]) -> bool {
    let (big, little) = (Order::Big.u32(bytes, 0), Order::Little.u32(bytes, 0));
    [big, little].into_iter().flatten().any(|magic| [MICROSECONDS, NANOSECONDS, SECTION].contains(&magic))
}

/// The frames of a capture; one that is cut off ends the list.
pub(super) fn frames(bytes: &[u8]) -> Result<Vec<Frame<'_>>, &'static str> {
    if Order::Big.u32(bytes, 0) == Some(SECTION) {
        return blocks(bytes);
    }
    let is_classic =
        |order: &&Order| order.u32(bytes, 0).is_some_and(|magic| [MICROSECONDS, NANOSECONDS].contains(&magic));
    let order = [Order::Big, Order::Little];
    let order = order.iter().find(is_classic).ok_or("it is neither pcap nor pcapng")?;
    let nanoseconds = order.u32(bytes, 0) == Some(NANOSECONDS);
    // the upper bits tell of frame check sequences
    let link = order.u32(bytes, 20).ok_or("its header is cut off")? & 0xffff;
    let mut frames = Vec::new();
    let mut at = 24;
    while let (Some(seconds), Some(part), Some(length)) =
        (order.u32(bytes, at), order.u32(bytes, at + 4), order.u32(bytes, at + 8))
    {
        let length = length as usize;
        let Some(content) = bytes.get(at + 16..(at + 16).saturating_add(length)) else { break };
        let part = if nanoseconds { Duration::from_nanos(part.into()) } else { Duration::from_micros(part.into()) };
        frames.push(Frame { time: Duration::from_secs(seconds.into()) + part, link, bytes: content });
        at += 16 + length;
    }
    Ok(frames)
}

/// An interface of a section: its link, and how many ticks of its clock are a second.
#[derive(Clone, Copy)]
struct Interface {
    link: u32,
    ticks: u64,
}

fn blocks(bytes: &[u8]) -> Result<Vec<Frame<'_>>, &'static str> {
    let mut order = Order::Big;
    let mut interfaces: Vec<Interface> = Vec::new();
    let (mut frames, mut at) = (Vec::new(), 0);
    while let Some(kind) = order.u32(bytes, at) {
        if kind == SECTION {
            order = if Order::Big.u32(bytes, at + 8) == Some(BYTE_ORDER) { Order::Big } else { Order::Little };
            interfaces.clear();
        }
        let length = order.u32(bytes, at + 4).ok_or("a block is cut off")? as usize;
        if length < 12 || !length.is_multiple_of(4) {
            return Err("a block has an impossible length");
        }
        let Some(block) = bytes.get(at..at.saturating_add(length)) else { break };
        match kind {
            INTERFACE => {
                let link = u32::from(order.u16(block, 8).ok_or("an interface block is cut off")?);
                interfaces.push(Interface { link, ticks: ticks(order, block) });
            }
            ENHANCED_PACKET => frames.extend(enhanced(order, block, &interfaces)),
            SIMPLE_PACKET => {
                let long = order.u32(block, 8).map_or(0, |long| long as usize);
                let content = block.get(12..length - 4).unwrap_or_default();
                let content = content.get(..long).unwrap_or(content);
                frames.extend(interfaces.first().map(|of| Frame {
                    time: Duration::ZERO,
                    link: of.link,
                    bytes: content,
                }));
            }
            _ => {}
        }
        at += length;
    }
    Ok(frames)
}

fn enhanced<'a>(order: Order, block: &'a [u8], interfaces: &[Interface]) -> Option<Frame<'a>> {
    let interface = interfaces.get(order.u32(block, 8)? as usize)?;
    let ticks = u64::from(order.u32(block, 12)?) << 32 | u64::from(order.u32(block, 16)?);
    let length = order.u32(block, 20)? as usize;
    let bytes = block.get(28..28usize.checked_add(length)?)?;
    let rest = u128::from(ticks % interface.ticks) * 1_000_000_000 / u128::from(interface.ticks);
    let time = Duration::from_secs(ticks / interface.ticks) + Duration::from_nanos(u64::try_from(rest).ok()?);
    Some(Frame { time, link: interface.link, bytes })
}

/// The option if_tsresol: a power of ten, or of two; a million when there is none.
fn ticks(order: Order, block: &[u8]) -> u64 {
    let mut at = 16;
    while let (Some(code), Some(length)) = (order.u16(block, at), order.u16(block, at + 2)) {
        if code == 0 {
            break;
        }
        if let (9, Some(resolution)) = (code, block.get(at + 4)) {
            let base: u64 = if resolution & 0x80 == 0 { 10 } else { 2 };
            return base.checked_pow(u32::from(resolution & 0x7f)).filter(|ticks| *ticks > 0).unwrap_or(1_000_000);
        }
        at += 4 + usize::from(length).next_multiple_of(4);
    }
    1_000_000
}

#[derive(Clone, Copy)]
enum Order {
    Big,
    Little,
}

impl Order {
    fn u32(self, bytes: &[u8], at: usize) -> Option<u32> {
        let four = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(match self {
            Order::Big => u32::from_be_bytes(four),
            Order::Little => u32::from_le_bytes(four),
        })
    }

    fn u16(self, bytes: &[u8], at: usize) -> Option<u16> {
        let two = bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(match self {
            Order::Big => u16::from_be_bytes(two),
            Order::Little => u16::from_le_bytes(two),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn classic(magic: u32, order: fn(u32) -> [u8; 4]) -> Vec<u8> {
        let words = [magic, 0x0002_0004, 0, 0, 65_535, 101, 7, 500, 3, 3];
        let mut bytes: Vec<u8> = words.into_iter().flat_map(order).collect();
        bytes.extend(b"abc");
        bytes
    }

    #[test]
    fn both_byte_orders_and_both_clocks_of_pcap() {
        for order in [u32::to_be_bytes as fn(u32) -> [u8; 4], u32::to_le_bytes] {
            for (magic, part) in [(MICROSECONDS, 500_000), (NANOSECONDS, 500)] {
                let bytes = classic(magic, order);
                assert!(is_capture(&bytes));
                let time = Duration::new(7, part);
                assert_eq!(frames(&bytes).unwrap(), [Frame { time, link: 101, bytes: b"abc" }]);
                assert_eq!(frames(&bytes[..bytes.len() - 1]).unwrap(), [], "what is cut off is left out");
            }
        }
        assert!(!is_capture(b"\0\x01\0\0\x21\x12\xa4\x42"));
    }

    #[test]
    fn pcapng_with_interfaces_and_their_clocks() {
        let word = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
        let mut bytes = word(&[SECTION, 28, BYTE_ORDER, 1, u32::MAX, u32::MAX, 28]);
        bytes.extend(word(&[INTERFACE, 20, 1, 0, 20]));
        // if_tsresol = 9: nanoseconds
        bytes.extend(word(&[INTERFACE, 32, 113, 0, 9 | 1 << 16, 9, 0, 32]));
        bytes.extend(word(&[ENHANCED_PACKET, 36, 0, 0, 1_500_000, 3, 3]));
        bytes.extend(b"abc\0");
        bytes.extend(word(&[36]));
        bytes.extend(word(&[ENHANCED_PACKET, 36, 1, 0, 1_500_000, 3, 3]));
        bytes.extend(b"xyz\0");
        bytes.extend(word(&[36]));
        bytes.extend(word(&[SIMPLE_PACKET, 20, 2]));
        bytes.extend(b"hi\0\0");
        bytes.extend(word(&[20]));
        assert!(is_capture(&bytes));
        assert_eq!(
            frames(&bytes).unwrap(),
            [
                Frame { time: Duration::from_millis(1500), link: 1, bytes: b"abc" },
                Frame { time: Duration::from_micros(1500), link: 113, bytes: b"xyz" },
                Frame { time: Duration::ZERO, link: 1, bytes: b"hi" },
            ]
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_fail(magic in prop_oneof![Just(MICROSECONDS), Just(SECTION)], rest in prop::collection::vec(any::<u8>(), 0..200)) {
            let bytes = [&magic.to_be_bytes()[..], &rest].concat();
            let _ = frames(&bytes);
        }
    }
}
