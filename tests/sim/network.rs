//! What lies between two sockets: a link that loses, repeats, delays and reorders, and address translators.

use std::net::{IpAddr, SocketAddr};

use crate::random::Random;

/// Milliseconds since the simulation began.
pub(crate) type Time = u64;

pub(crate) const SECOND: Time = 1000;

/// A translator forgets a mapping that nobody used for so long (RFC 4787 §4.3 asks for two minutes at least).
const MAPPING_LASTS: Time = 120 * SECOND;

/// What happens to each packet.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) loss_permille: u64,
    pub(crate) repeat_permille: u64,
    /// Each packet, and each repetition, takes a time of its own: what leaves later may arrive earlier.
    pub(crate) shortest: Time,
    pub(crate) longest: Time,
}

impl Link {
    /// A link that is as bad as the seed has it.
    pub(crate) fn bad(random: &mut Random) -> Link {
        let shortest = random.within(1..100);
        Link {
            loss_permille: [0, 10, 100, 300, 500][random.below(5)],
            repeat_permille: [0, 10, 200][random.below(3)],
            shortest,
            longest: shortest + [1, 30, 300, 3000][random.below(4)],
        }
    }

    pub(crate) fn good() -> Link {
        Link { loss_permille: 0, repeat_permille: 0, shortest: 10, longest: 40 }
    }

    /// How long each copy that arrives was on its way.
    pub(crate) fn delays(&self, random: &mut Random) -> Vec<Time> {
        let copies = 1 + usize::from(random.permille(self.repeat_permille));
        let arriving = (0..copies).filter(|_| !random.permille(self.loss_permille)).count();
        (0..arriving).map(|_| random.within(self.shortest..self.longest)).collect()
    }
}

struct Mapping {
    inside: u16,
    /// Where it is for, when it is for one destination only.
    destination: Option<SocketAddr>,
    port: u16,
    contacted: Vec<SocketAddr>,
    used: Time,
}

/// A translator in front of one host.
pub(crate) struct Nat {
    external: IpAddr,
    /// Each destination sees another port (RFC 4787 §4.1, address and port-dependent mapping).
    symmetric: bool,
    /// Only who has been written to may write (RFC 4787 §5).
    filters: bool,
    mappings: Vec<Mapping>,
    next_port: u16,
}

impl Nat {
    pub(crate) fn new(external: &str, random: &mut Random) -> Nat {
        Nat {
            external: external.parse().unwrap(),
            symmetric: random.permille(500),
            filters: random.permille(700),
            mappings: Vec::new(),
            next_port: 20_000,
        }
    }

    pub(crate) fn is(&self, ip: IpAddr) -> bool {
        self.external == ip
    }

    /// The address from which a packet of the socket `inside` arrives at `to`.
    pub(crate) fn outbound(&mut self, now: Time, inside: u16, to: SocketAddr) -> SocketAddr {
        self.mappings.retain(|mapping| now < mapping.used + MAPPING_LASTS);
        let destination = Some(to).filter(|_| self.symmetric);
        let known = self.mappings.iter().position(|known| known.inside == inside && known.destination == destination);
        let at = known.unwrap_or_else(|| {
            self.next_port += 1;
            let port = self.next_port;
            self.mappings.push(Mapping { inside, destination, port, contacted: Vec::new(), used: now });
            self.mappings.len() - 1
        });
        let mapping = &mut self.mappings[at];
        mapping.used = now;
        if !mapping.contacted.contains(&to) {
            mapping.contacted.push(to);
        }
        SocketAddr::new(self.external, mapping.port)
    }

    /// The socket that gets what comes `from` somewhere to a port of the outside.
    pub(crate) fn inbound(&self, now: Time, port: u16, from: SocketAddr) -> Option<u16> {
        let mapping =
            self.mappings.iter().find(|mapping| mapping.port == port && now < mapping.used + MAPPING_LASTS)?;
        (!self.filters || mapping.contacted.contains(&from)).then_some(mapping.inside)
    }

    /// It forgets everything, and gives other ports from now on.
    pub(crate) fn reboot(&mut self) {
        self.mappings.clear();
    }
}
