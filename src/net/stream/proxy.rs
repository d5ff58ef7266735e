//! The header by which a proxy says whose connection it passes on: PROXY protocol, versions 1 and 2 (HAProxy's
//! `proxy-protocol.txt`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest line of version 1, with its end (§2.1).
const LONGEST_LINE: usize = 107;
/// More than any known sender's version 2 header with its extensions.
const LONGEST_BINARY: usize = 4096;
const LINE: &[u8] = b"PROXY ";
const BINARY: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// What stands at the beginning of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Header {
    /// Whether it is a header cannot be said yet, or its end is missing.
    Partial,
    /// No header.
    None,
    /// It begins like a header, but is none.
    Malformed,
    /// A header of `length` bytes. Without a source the proxy speaks for itself: a health check.
    Whole {
        /// Bytes to skip.
        length: usize,
        /// The client's address.
        source: Option<SocketAddr>,
    },
}

/// Whether the beginning of a connection looks like a header, from a sender that has no business to send one.
pub(super) fn announced(bytes: &[u8]) -> bool {
    bytes.len() >= 4
        && [LINE, BINARY]
            .iter()
            .any(|start| start.starts_with(bytes.get(..start.len().min(bytes.len())).unwrap_or(bytes)))
}

/// Reads the header at the beginning of a connection.
pub(super) fn read(bytes: &[u8]) -> Header {
    if bytes.starts_with(BINARY) {
        return binary(bytes);
    }
    if bytes.starts_with(LINE) {
        return line(bytes);
    }
    if LINE.starts_with(bytes) || BINARY.starts_with(bytes) { Header::Partial } else { Header::None }
}

/// Version 1: `PROXY TCP4 192.0.2.1 198.51.100.1 56324 443`, CR, LF (§2.1).
fn line(bytes: &[u8]) -> Header {
    let known = bytes.get(..bytes.len().min(LONGEST_LINE)).unwrap_or(bytes);
    let Some(end) = known.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() < LONGEST_LINE { Header::Partial } else { Header::Malformed };
    };
    let words = bytes.get(LINE.len()..end).and_then(|line| std::str::from_utf8(line).ok());
    let source = words.and_then(|words| match words.split(' ').collect::<Vec<_>>().as_slice() {
        ["UNKNOWN", ..] => Some(None),
        ["TCP4", source, to, port, to_port] => {
            let (source, _) = (source.parse::<Ipv4Addr>().ok()?, to.parse::<Ipv4Addr>().ok()?);
            ports(port, to_port).map(|port| Some(SocketAddr::new(IpAddr::V4(source), port)))
        }
        ["TCP6", source, to, port, to_port] => {
            let (source, _) = (source.parse::<Ipv6Addr>().ok()?, to.parse::<Ipv6Addr>().ok()?);
            ports(port, to_port).map(|port| Some(SocketAddr::new(IpAddr::V6(source), port)))
        }
        _ => None,
    });
    source.map_or(Header::Malformed, |source| Header::Whole { length: end + 2, source: source.map(canonical) })
}

fn ports(from: &str, to: &str) -> Option<u16> {
    to.parse::<u16>().ok()?;
    from.parse().ok()
}

/// Version 2: signature, version and command, family and protocol, length, addresses, extensions (§2.2).
fn binary(bytes: &[u8]) -> Header {
    let Some([command, family, high, low]) = bytes.get(BINARY.len()..BINARY.len() + 4) else {
        return Header::Partial;
    };
    let body = usize::from(u16::from_be_bytes([*high, *low]));
    let start = BINARY.len() + 4;
    let length = start + body;
    if length > LONGEST_BINARY || command >> 4 != 2 {
        return Header::Malformed;
    }
    let Some(addresses) = bytes.get(start..length) else { return Header::Partial };
    let source = match (command & 0xf, family) {
        // LOCAL: the proxy's own connection.
        (0, _) => Some(None),
        (1, 0x11) => address::<4>(addresses).map(|(ip, port)| Some(SocketAddr::new(IpAddr::from(ip), port))),
        (1, 0x21) => address::<16>(addresses).map(|(ip, port)| Some(SocketAddr::new(IpAddr::from(ip), port))),
        // PROXY of something that has no IP address.
        (1, 0x00 | 0x31) => Some(None),
        _ => None,
    };
    source.map_or(Header::Malformed, |source| Header::Whole { length, source: source.map(canonical) })
}

/// Source and destination address, source and destination port.
fn address<const N: usize>(bytes: &[u8]) -> Option<([u8; N], u16)> {
    let ip = bytes.get(..N)?.try_into().ok()?;
    let port = bytes.get(2 * N..2 * N + 4)?;
    Some((ip, u16::from_be_bytes(port.get(..2)?.try_into().ok()?)))
}

/// A proxy that listens on `[::]` writes IPv4 clients as mapped addresses.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binary_header(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let length = u16::try_from(addresses.len()).unwrap().to_be_bytes();
        [BINARY, &[command, family], &length, addresses].concat()
    }

    fn whole(bytes: &[u8]) -> Option<SocketAddr> {
        for cut in 0..bytes.len() {
            assert_eq!(read(&bytes[..cut]), Header::Partial, "{cut} bytes");
        }
        let Header::Whole { length, source } = read(&[bytes, b"rest"].concat()) else { panic!("{bytes:?}") };
        assert_eq!(length, bytes.len());
        source
    }

    #[test]
    fn both_versions_name_the_client() {
        let v4 = Some("192.0.2.1:56324".parse().unwrap());
        let v6 = Some("[2001:db8::1]:4".parse().unwrap());
        assert_eq!(whole(b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n"), v4);
        assert_eq!(whole(b"PROXY TCP6 2001:db8::1 2001:db8::2 4 443\r\n"), v6);
        assert_eq!(whole(b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:198.51.100.1 56324 443\r\n"), v4);
        assert_eq!(whole(b"PROXY UNKNOWN\r\n"), None);
        assert_eq!(whole(b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n"), None);
        let four = [192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 0x04, 1, 0xbb];
        assert_eq!(whole(&binary_header(0x21, 0x11, &four)), v4);
        assert_eq!(whole(&binary_header(0x21, 0x11, &[&four[..], &[4, 0, 1, 0]].concat())), v4);
        let mut six = [0; 36];
        six[..16].copy_from_slice(&"2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
        six[33] = 4;
        assert_eq!(whole(&binary_header(0x21, 0x21, &six)), v6);
        assert_eq!(whole(&binary_header(0x20, 0, &[])), None);
    }

    #[test]
    fn what_is_no_header_is_told_apart_from_a_broken_one() {
        for bytes in [&b"\x00\x01\x00\x00"[..], b"\x16\x03\x01", b"POST / HTTP/1.1", b"\r\n\r\n\0\r\nQUIX"] {
            assert_eq!(read(bytes), Header::None);
        }
        let long = [&b"PROXY TCP4 "[..], &[b'1'; 200]].concat();
        for bytes in [
            &b"PROXY TCP4 192.0.2.1 198.51.100.1 56324\r\n"[..],
            b"PROXY TCP4 192.0.2.1 198.51.100.1 70000 443\r\n",
            b"PROXY TCP4 2001:db8::1 2001:db8::2 1 443\r\n",
            b"PROXY TCP5 192.0.2.1 198.51.100.1 1 2\r\n",
            b"PROXY \xff\r\n",
            &long,
            &binary_header(0x11, 0x11, &[0; 12]),
            &binary_header(0x22, 0x11, &[0; 12]),
            &binary_header(0x21, 0x12, &[0; 12]),
            &binary_header(0x21, 0x11, &[0; 11]),
            &binary_header(0x21, 0x11, &[0; 5000]),
        ] {
            assert_eq!(read(bytes), Header::Malformed, "{bytes:?}");
        }
    }

    #[test]
    fn a_header_is_recognised_by_its_beginning() {
        assert!(announced(b"PROX") && announced(b"PROXY TCP4 1.2.3.4") && announced(b"\r\n\r\n\0\r\nQUIT\n!"));
        assert!(!announced(b"PRO") && !announced(b"\0\x01\0\0!\x12") && !announced(b"\x16\x03\x01\x02"));
    }
}
