//! From a captured frame to what UDP or TCP carried: Ethernet with VLAN tags, Linux "cooked", loopback and raw IP.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What a frame carried.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Packet<'a> {
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
    pub(super) payload: &'a [u8],
    /// The number of the first byte, over TCP; and whether the connection begins with it (SYN).
    pub(super) tcp: Option<(u32, bool)>,
}

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
/// VLAN tags (IEEE 802.1Q, 802.1ad).
const TAGS: [u16; 3] = [0x8100, 0x88a8, 0x9100];
const TCP: u8 = 6;
const UDP: u8 = 17;

impl<'a> Packet<'a> {
    /// None for what is neither UDP nor TCP over IP, for fragments, and for what is cut off.
    pub(super) fn of(link: u32, frame: &'a [u8]) -> Option<Packet<'a>> {
        let (kind, ip) = match link {
            // LINKTYPE_NULL, LINKTYPE_LOOP: four bytes of address family in either byte order
            0 | 108 => (None, frame.get(4..)?),
            1 => ethernet(frame)?,
            // LINKTYPE_RAW and what systems wrote before it had a number; IPV4, IPV6
            12 | 14 | 101 | 228 | 229 => (None, frame),
            // LINKTYPE_LINUX_SLL, LINKTYPE_LINUX_SLL2
            113 => (Some(u16_at(frame, 14)?), frame.get(16..)?),
            276 => (Some(u16_at(frame, 0)?), frame.get(20..)?),
            _ => return None,
        };
        match (kind, ip.first()? >> 4) {
            (None | Some(IPV4), 4) => v4(ip),
            (None | Some(IPV6), 6) => v6(ip),
            (_, _) => None,
        }
    }
}

fn ethernet(frame: &[u8]) -> Option<(Option<u16>, &[u8])> {
    let mut at = 12;
    let mut kind = u16_at(frame, at)?;
    while TAGS.contains(&kind) {
        at += 4;
        kind = u16_at(frame, at)?;
    }
    Some((Some(kind), frame.get(at + 2..)?))
}

fn v4(ip: &[u8]) -> Option<Packet<'_>> {
    let header = usize::from(ip.first()? & 0x0f) * 4;
    // what is behind it is padding of the link
    let total = usize::from(u16_at(ip, 2)?);
    let ip = ip.get(..total).unwrap_or(ip);
    // neither a later fragment nor the first of several
    if u16_at(ip, 6)? & 0x3fff != 0 {
        return None;
    }
    let address = |at: usize| Some(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(ip.get(at..at + 4)?).ok()?)));
    transport(*ip.get(9)?, address(12)?, address(16)?, ip.get(header..)?)
}

fn v6(ip: &[u8]) -> Option<Packet<'_>> {
    let total = 40 + usize::from(u16_at(ip, 4)?);
    let ip = ip.get(..total).unwrap_or(ip);
    let address = |at: usize| Some(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(ip.get(at..at + 16)?).ok()?)));
    let (source, destination) = (address(8)?, address(24)?);
    let (mut next, mut rest) = (*ip.get(6)?, ip.get(40..)?);
    // hop-by-hop options, routing, destination options: each says how long it is and what follows
    while [0, 43, 60].contains(&next) {
        let length = 8 + 8 * usize::from(*rest.get(1)?);
        next = *rest.first()?;
        rest = rest.get(length..)?;
    }
    transport(next, source, destination, rest)
}

fn transport(protocol: u8, source: IpAddr, destination: IpAddr, segment: &[u8]) -> Option<Packet<'_>> {
    let (source, destination) =
        (SocketAddr::new(source, u16_at(segment, 0)?), SocketAddr::new(destination, u16_at(segment, 2)?));
    match protocol {
        UDP => {
            let length = usize::from(u16_at(segment, 4)?);
            Some(Packet { source, destination, payload: segment.get(8..length)?, tcp: None })
        }
        TCP => {
            let header = usize::from(segment.get(12)? >> 4) * 4;
            let number = u32::from(u16_at(segment, 4)?) << 16 | u32::from(u16_at(segment, 6)?);
            let begins = segment.get(13)? & 0x02 != 0;
            Some(Packet { source, destination, payload: segment.get(header..)?, tcp: Some((number, begins)) })
        }
        _ => None,
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// UDP or TCP over IPv4 from 10.0.0.1:1000 to 10.0.0.2:3478.
    pub(in super::super) fn ipv4(tcp: Option<(u32, bool)>, payload: &[u8]) -> Vec<u8> {
        let mut segment = [1000u16.to_be_bytes(), 3478u16.to_be_bytes()].concat();
        match tcp {
            None => segment.extend([&u16::try_from(8 + payload.len()).unwrap().to_be_bytes()[..], &[0, 0]].concat()),
            Some((number, begins)) => {
                segment.extend(number.to_be_bytes());
                segment.extend([0, 0, 0, 0, 0x50, if begins { 2 } else { 0x18 }, 0, 0, 0, 0, 0, 0]);
            }
        }
        segment.extend(payload);
        let total = u16::try_from(20 + segment.len()).unwrap().to_be_bytes();
        let protocol = if tcp.is_some() { TCP } else { UDP };
        let header = [0x45, 0, total[0], total[1], 0, 0, 0x40, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        [&header[..], &segment].concat()
    }

    fn ipv6(payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(8 + payload.len()).unwrap();
        let mut bytes = vec![0x60, 0, 0, 0];
        bytes.extend((length + 8).to_be_bytes());
        // hop-by-hop options of eight bytes before UDP
        bytes.extend([0, 64]);
        bytes.extend([[0u8; 15], [0; 15]].concat());
        bytes.extend([0, 1]);
        bytes.extend([UDP, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend([0, 1, 0, 2]);
        bytes.extend(length.to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn every_link_leads_to_the_same_datagram() {
        let ip = ipv4(None, b"hello");
        let mac = [0u8; 12];
        for (link, before) in [
            (101, vec![]),
            (1, [&mac[..], &IPV4.to_be_bytes()].concat()),
            (1, [&mac[..], &[0x81, 0, 0, 7], &IPV4.to_be_bytes()].concat()),
            (113, [&[0u8; 14][..], &IPV4.to_be_bytes()].concat()),
            (276, [&IPV4.to_be_bytes()[..], &[0; 18]].concat()),
            (0, vec![2, 0, 0, 0]),
        ] {
            // a short Ethernet frame is padded
            let frame = [&before[..], &ip, &[0; 6]].concat();
            let packet = Packet::of(link, &frame).unwrap();
            assert_eq!((packet.payload, packet.tcp), (&b"hello"[..], None), "{link}");
            assert_eq!(packet.source.to_string(), "10.0.0.1:1000");
        }
        let v6 = ipv6(b"hello");
        assert_eq!(Packet::of(101, &v6).unwrap().payload, b"hello");
        let tcp = ipv4(Some((7, true)), b"x");
        assert_eq!(Packet::of(101, &tcp).unwrap().tcp, Some((7, true)));
    }

    #[test]
    fn fragments_and_other_protocols_are_left_out() {
        let mut fragment = ipv4(None, b"hello");
        fragment[6] = 0x20;
        assert_eq!(Packet::of(101, &fragment), None);
        let mut icmp = ipv4(None, b"hello");
        icmp[9] = 1;
        assert_eq!(Packet::of(101, &icmp), None);
        assert_eq!(Packet::of(127, &icmp), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_fail(link in prop_oneof![Just(0u32), Just(1), Just(101), Just(113), Just(276)], bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = Packet::of(link, &bytes);
        }
    }
}
