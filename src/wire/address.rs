//! Addresses in the clear and in XOR form, both families (RFC 8489 §14.1, §14.2).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::message::{MAGIC_COOKIE, TransactionId};

/// The address families of RFC 8489 §14.1 and RFC 8656 §18.8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AddressFamily {
    /// 0x01
    Ipv4,
    /// 0x02
    Ipv6,
}

impl AddressFamily {
    /// The family of an address.
    pub fn of(ip: IpAddr) -> AddressFamily {
        match ip {
            IpAddr::V4(_) => AddressFamily::Ipv4,
            IpAddr::V6(_) => AddressFamily::Ipv6,
        }
    }

    /// The number on the wire.
    pub fn number(self) -> u8 {
        match self {
            AddressFamily::Ipv4 => 1,
            AddressFamily::Ipv6 => 2,
        }
    }

    /// The family of a number on the wire.
    pub fn from_number(number: u8) -> Option<AddressFamily> {
        match number {
            1 => Some(AddressFamily::Ipv4),
            2 => Some(AddressFamily::Ipv6),
            _ => None,
        }
    }
}

/// The longest value an address attribute has: four bytes, then an IPv6 address.
pub(super) const LONGEST: usize = 20;

/// An encoded value and how many of its bytes count.
pub(super) type Encoded = ([u8; LONGEST], usize);

pub(super) fn encode(address: SocketAddr) -> Encoded {
    let mut value = [0; LONGEST];
    let [_, family, port_high, port_low, ip @ ..] = &mut value;
    *family = AddressFamily::of(address.ip()).number();
    [*port_high, *port_low] = address.port().to_be_bytes();
    let octets = match address.ip() {
        IpAddr::V4(v4) => {
            let [a, b, c, d, ..] = ip;
            [*a, *b, *c, *d] = v4.octets();
            4
        }
        IpAddr::V6(v6) => {
            *ip = v6.octets();
            16
        }
    };
    (value, 4 + octets)
}

pub(super) fn encode_xor(address: SocketAddr, id: TransactionId) -> Encoded {
    encode(xor(address, id))
}

pub(super) fn decode(value: &[u8]) -> Option<SocketAddr> {
    let [_, family, port_high, port_low, ip @ ..] = value else {
        return None;
    };
    let ip = match AddressFamily::from_number(*family)? {
        AddressFamily::Ipv4 => IpAddr::from(<[u8; 4]>::try_from(ip).ok()?),
        AddressFamily::Ipv6 => IpAddr::from(<[u8; 16]>::try_from(ip).ok()?),
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes([*port_high, *port_low])))
}

pub(super) fn decode_xor(value: &[u8], id: TransactionId) -> Option<SocketAddr> {
    decode(value).map(|address| xor(address, id))
}

/// The port with the cookie's upper half, IPv4 with the cookie, IPv6 with cookie and transaction id; its own inverse.
fn xor(address: SocketAddr, id: TransactionId) -> SocketAddr {
    let port = address.port() ^ 0x2112;
    let ip = match address.ip() {
        IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() ^ MAGIC_COOKIE)),
        IpAddr::V6(v6) => {
            let id = id.0.iter().fold(0u128, |bits, byte| (bits << 8) | u128::from(*byte));
            let mask = (u128::from(MAGIC_COOKIE) << 96) | id;
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() ^ mask))
        }
    };
    SocketAddr::new(ip, port)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: TransactionId = TransactionId([0xb7, 0xe7, 0xa7, 1, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae]);

    #[test]
    fn rfc5769_addresses() {
        let (value, length) = encode_xor("192.0.2.1:32853".parse().unwrap(), ID);
        assert_eq!(value[..length], [0, 1, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43]);
        let v6 = "[2001:db8:1234:5678:11:2233:4455:6677]:32853".parse().unwrap();
        let (value, length) = encode_xor(v6, ID);
        assert_eq!(
            value[..length],
            [
                0, 2, 0xa1, 0x47, 1, 0x13, 0xa9, 0xfa, 0xa5, 0xd3, 0xf1, 0x79, 0xbc, 0x25, 0xf4, 0xb5, 0xbe, 0xd2,
                0xb9, 0xd9
            ]
        );
        assert_eq!(decode_xor(&value[..length], ID), Some(v6));
    }

    #[test]
    fn wrong_lengths_and_families_are_refused() {
        assert_eq!(decode(&[]), None);
        assert_eq!(decode(&[0, 1, 0, 80]), None);
        assert_eq!(decode(&[0, 1, 0, 80, 1, 2, 3]), None);
        assert_eq!(decode(&[0, 1, 0, 80, 1, 2, 3, 4, 5]), None);
        assert_eq!(decode(&[0, 2, 0, 80, 1, 2, 3, 4]), None);
        assert_eq!(decode(&[0, 3, 0, 80, 1, 2, 3, 4]), None);
        assert_eq!(decode(&[9, 1, 0, 80, 1, 2, 3, 4]), Some("1.2.3.4:80".parse().unwrap()));
    }
}
