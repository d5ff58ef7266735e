//! The messages in captured frames: each datagram one, and those that streams carry put together again.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use super::Found;
use super::packet::Packet;
use super::pcap::Frame as Captured;
use super::print::is_message;
use crate::wire::frame::LONGEST;
use crate::wire::{ChannelData, Frame, Kind};

/// Segments of one direction that wait for an earlier one.
const MOST_WAITING: usize = 256;

/// One direction of a connection.
#[derive(Default)]
struct Direction {
    /// The number of the next byte.
    next: Option<u32>,
    waiting: BTreeMap<u32, Vec<u8>>,
    bytes: Vec<u8>,
    /// What it carries is not STUN in the clear: TLS, HTTP, or joined in the middle.
    foreign: bool,
}

/// Every message, in the order in which they were whole.
pub(super) fn messages(frames: &[Captured<'_>]) -> Vec<Found> {
    let begin = frames.first().map(|frame| frame.time).unwrap_or_default();
    let mut directions: HashMap<(SocketAddr, SocketAddr), Direction> = HashMap::new();
    let mut found = Vec::new();
    for (number, frame) in frames.iter().enumerate() {
        let Some(packet) = Packet::of(frame.link, frame.bytes) else { continue };
        let after = frame.time.saturating_sub(begin);
        let messages = match packet.tcp {
            None => Some(packet.payload.to_vec()).filter(|bytes| is_ours(bytes)).into_iter().collect(),
            Some((sequence, begins)) => {
                let direction = directions.entry((packet.source, packet.destination)).or_default();
                direction.take(sequence, begins, packet.payload)
            }
        };
        found.extend(messages.into_iter().map(|bytes| Found { place: place(number + 1, after, &packet), bytes }));
    }
    found
}

fn place(number: usize, after: Duration, packet: &Packet<'_>) -> String {
    let protocol = if packet.tcp.is_some() { "TCP" } else { "UDP" };
    format!("{number} +{:.6} {protocol} {} → {}", after.as_secs_f64(), packet.source, packet.destination)
}

/// A STUN message, or ChannelData that fills its datagram but for padding.
fn is_ours(bytes: &[u8]) -> bool {
    match Kind::of(bytes) {
        Kind::Stun => is_message(bytes),
        Kind::ChannelData => ChannelData::parse(bytes).is_some_and(|found| bytes.len() - 4 - found.data.len() < 4),
        Kind::Foreign => false,
    }
}

impl Direction {
    /// Takes a segment in and gives the messages that are whole now.
    fn take(&mut self, sequence: u32, begins: bool, payload: &[u8]) -> Vec<Vec<u8>> {
        if begins {
            *self = Direction { next: Some(sequence.wrapping_add(1)), ..Direction::default() };
        }
        if payload.is_empty() || self.foreign {
            return Vec::new();
        }
        let next = *self.next.get_or_insert(sequence);
        let ahead = sequence.wrapping_sub(next);
        if ahead != 0 && ahead < 1 << 31 {
            if self.waiting.len() < MOST_WAITING {
                self.waiting.insert(sequence, payload.to_vec());
            }
            return Vec::new();
        }
        self.append(sequence, payload);
        while let Some(sequence) = self.waiting.keys().copied().find(|first| self.is_due(*first)) {
            let payload = self.waiting.remove(&sequence).unwrap_or_default();
            self.append(sequence, &payload);
        }
        self.cut()
    }

    fn is_due(&self, sequence: u32) -> bool {
        self.next.is_some_and(|next| next.wrapping_sub(sequence) < 1 << 31)
    }

    /// What of a segment was not there before.
    fn append(&mut self, sequence: u32, payload: &[u8]) {
        let next = self.next.unwrap_or(sequence);
        let known = next.wrapping_sub(sequence) as usize;
        let new = payload.get(known..).unwrap_or_default();
        self.bytes.extend_from_slice(new);
        // a segment is far shorter than the space of numbers
        self.next = Some(next.wrapping_add(new.len() as u32));
    }

    fn cut(&mut self) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        loop {
            match Frame::first(&self.bytes, LONGEST) {
                Ok(Frame::Whole { length, padding }) => {
                    found.push(self.bytes.iter().copied().take(length).collect());
                    self.bytes.drain(..length + padding);
                }
                Ok(Frame::Partial { .. }) => return found,
                Err(_) => {
                    self.foreign = true;
                    self.bytes = Vec::new();
                    return found;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::packet::tests::ipv4;
    use super::*;

    const BINDING: [u8; 20] = [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

    fn found(packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let frames: Vec<_> =
            packets.iter().map(|bytes| Captured { time: Duration::from_secs(9), link: 101, bytes }).collect();
        messages(&frames).into_iter().map(|found| found.bytes).collect()
    }

    #[test]
    fn datagrams_that_are_neither_stun_nor_channel_data_are_left_out() {
        let packets = [
            ipv4(None, &BINDING),
            ipv4(None, b"\x80rtp"),
            ipv4(None, &[0x40, 1, 0, 1, 9]),
            ipv4(None, &[0x40, 1, 0, 9]),
        ];
        assert_eq!(found(&packets), [BINDING.to_vec(), vec![0x40, 1, 0, 1, 9]]);
    }

    #[test]
    fn a_stream_is_put_together_whatever_the_order_of_its_segments() {
        let stream = [&BINDING[..], &[0x40, 1, 0, 1, 9, 0, 0, 0], &BINDING].concat();
        let segment =
            |from: usize, to: usize| ipv4(Some((u32::MAX.wrapping_add(from as u32), false)), &stream[from..to]);
        let whole = [BINDING.to_vec(), vec![0x40, 1, 0, 1, 9], BINDING.to_vec()];
        let syn = ipv4(Some((u32::MAX - 1, true)), &[]);
        for order in [
            vec![segment(0, 48)],
            vec![segment(0, 7), segment(7, 21), segment(21, 48)],
            // the last first, one twice, one that overlaps
            vec![segment(21, 48), segment(0, 7), segment(0, 7), segment(3, 21)],
        ] {
            assert_eq!(found(&[vec![syn.clone()], order].concat()), whole);
        }
        let tls = [syn, ipv4(Some((u32::MAX, false)), b"\x16\x03\x01\0\x05hello")];
        assert_eq!(found(&tls), Vec::<Vec<u8>>::new());
    }
}
