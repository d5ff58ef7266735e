//! How far an address reaches.

use std::net::IpAddr;

/// How far packets to an address get; the further, the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scope {
    /// This machine.
    Machine,
    /// One link.
    Link,
    /// A private network, or one behind a carrier's NAT.
    Site,
    /// The Internet.
    Global,
}

impl Scope {
    pub(super) fn of(ip: IpAddr) -> Scope {
        match ip {
            IpAddr::V4(v4) if v4.is_loopback() || v4.is_unspecified() => Scope::Machine,
            IpAddr::V4(v4) if v4.is_link_local() => Scope::Link,
            IpAddr::V4(v4) if v4.is_private() || is_shared(v4.octets()) => Scope::Site,
            IpAddr::V4(_) => Scope::Global,
            IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
                Some(v4) => Scope::of(IpAddr::V4(v4)),
                None if v6.is_loopback() || v6.is_unspecified() => Scope::Machine,
                None if v6.is_unicast_link_local() => Scope::Link,
                None if v6.is_unique_local() => Scope::Site,
                None => Scope::Global,
            },
        }
    }

    /// In words, for a sentence "… is a … address".
    pub(super) fn words(self) -> &'static str {
        match self {
            Scope::Machine => "loopback",
            Scope::Link => "link-local",
            Scope::Site => "private",
            Scope::Global => "public",
        }
    }
}

/// 100.64.0.0/10, between a carrier's NAT and its customers (RFC 6598).
fn is_shared(octets: [u8; 4]) -> bool {
    octets[0] == 100 && octets[1] & 0xc0 == 64
}

/// The gateway of a container engine's bridge, as Docker and Podman number them.
pub(super) fn is_bridge_gateway(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            d == 1
                && ((a == 172 && (17..=31).contains(&b))
                    || (a == 10 && b == 88)
                    || (a == 192 && b == 168 && c >= 16 && c % 16 == 0))
        }
        IpAddr::V6(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_reach_as_far_as_the_registries_say() {
        for (text, scope) in [
            ("127.0.0.1", Scope::Machine),
            ("::1", Scope::Machine),
            ("169.254.1.1", Scope::Link),
            ("fe80::1", Scope::Link),
            ("10.0.0.1", Scope::Site),
            ("100.64.0.1", Scope::Site),
            ("100.128.0.1", Scope::Global),
            ("fd00::1", Scope::Site),
            ("::ffff:10.0.0.1", Scope::Site),
            ("8.8.8.8", Scope::Global),
            ("2600::1", Scope::Global),
        ] {
            assert_eq!(Scope::of(text.parse().unwrap()), scope, "{text}");
        }
        for (text, is) in [
            ("172.17.0.1", true),
            ("10.88.0.1", true),
            ("172.16.0.1", false),
            ("10.0.0.1", false),
            ("192.168.16.1", true),
            ("192.168.1.1", false),
        ] {
            assert_eq!(is_bridge_gateway(text.parse().unwrap()), is, "{text}");
        }
    }
}
