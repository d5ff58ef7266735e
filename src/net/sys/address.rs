//! `SocketAddr` to and from the kernel's `sockaddr_in` and `sockaddr_in6`.

use std::mem::size_of;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// What an address looks like before the kernel has written one.
pub(super) const NOWHERE: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));

/// Room for an address of either family. Only sockets of these two families exist here, so it need not be a
/// `sockaddr_storage` of 128 bytes.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) union RawAddress {
    family: libc::sa_family_t,
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

/// The size of the room, as the kernel wants it.
#[allow(clippy::cast_possible_truncation, reason = "28 bytes")]
pub(super) const CAPACITY: libc::socklen_t = size_of::<RawAddress>() as libc::socklen_t;

impl RawAddress {
    /// No address: every byte is zero.
    pub(super) const fn zeroed() -> RawAddress {
        RawAddress {
            v6: libc::sockaddr_in6 {
                sin6_family: 0,
                sin6_port: 0,
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr { s6_addr: [0; 16] },
                sin6_scope_id: 0,
            },
        }
    }

    /// The kernel's form and its length.
    #[allow(clippy::cast_possible_truncation, reason = "the two families' numbers and structure sizes are small")]
    pub(super) fn encode(address: SocketAddr) -> (RawAddress, libc::socklen_t) {
        let mut raw = RawAddress::zeroed();
        match address {
            SocketAddr::V4(address) => {
                raw.v4 = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: address.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
                    sin_zero: [0; 8],
                };
                (raw, size_of::<libc::sockaddr_in>() as libc::socklen_t)
            }
            SocketAddr::V6(address) => {
                raw.v6 = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: address.port().to_be(),
                    sin6_flowinfo: address.flowinfo(),
                    sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                    sin6_scope_id: address.scope_id(),
                };
                (raw, size_of::<libc::sockaddr_in6>() as libc::socklen_t)
            }
        }
    }

    /// What the kernel wrote into `length` bytes; `None` for another family or a length that cannot hold it.
    pub(super) fn decode(&self, length: libc::socklen_t) -> Option<SocketAddr> {
        let length = length as usize;
        // SAFETY: every bit pattern is a valid value of each of the union's fields, which are plain integers, and
        // the union was fully initialised by `zeroed`; what the kernel did not overwrite is still initialised.
        let family = libc::c_int::from(unsafe { self.family });
        match family {
            libc::AF_INET if length >= size_of::<libc::sockaddr_in>() => {
                // SAFETY: as above; the family says which field the kernel wrote.
                let v4 = unsafe { self.v4 };
                let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
                Some(SocketAddr::V4(SocketAddrV4::new(ip, u16::from_be(v4.sin_port))))
            }
            libc::AF_INET6 if length >= size_of::<libc::sockaddr_in6>() => {
                // SAFETY: as above.
                let v6 = unsafe { self.v6 };
                let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
                let port = u16::from_be(v6.sin6_port);
                Some(SocketAddr::V6(SocketAddrV6::new(ip, port, v6.sin6_flowinfo, v6.sin6_scope_id)))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_survive_the_round_trip() {
        let scoped = SocketAddrV6::new("fe80::1:2".parse().unwrap(), 65535, 0, 7);
        for address in [
            "192.0.2.1:80".parse().unwrap(),
            "0.0.0.0:0".parse().unwrap(),
            "[2001:db8::1]:3478".parse().unwrap(),
            SocketAddr::V6(scoped),
        ] {
            let (raw, length) = RawAddress::encode(address);
            assert!(length <= CAPACITY);
            assert_eq!(raw.decode(length), Some(address));
        }
    }

    #[test]
    fn short_or_unknown_addresses_are_refused() {
        let (raw, length) = RawAddress::encode("192.0.2.1:80".parse().unwrap());
        assert_eq!(raw.decode(length - 1), None);
        assert_eq!(raw.decode(0), None);
        assert_eq!(RawAddress::zeroed().decode(CAPACITY), None);
    }
}
