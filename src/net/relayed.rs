//! Which relay addresses and ports allocations have now, over all workers: one bit each for UDP and for TCP. An own relay port that nobody
//! has may be another service's of this machine, and is no peer (`Action::ToSibling`).

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::relay::Transport;

/// The bits. Each word changes by one atomic operation; who looks while a port changes hands may see either.
#[derive(Debug, Default)]
pub(super) struct Relayed {
    first_port: u16,
    addresses: Vec<(Transport, IpAddr, Box<[AtomicU64]>)>,
}

impl Relayed {
    /// Nothing relayed yet at these addresses and ports.
    pub(super) fn new(ips: impl Iterator<Item = IpAddr>, ports: RangeInclusive<u16>) -> Relayed {
        let words = ports.len().div_ceil(64);
        let empty = || std::iter::repeat_with(AtomicU64::default).take(words).collect();
        let both = ips.flat_map(|ip| [(Transport::Udp, ip, empty()), (Transport::Tcp, ip, empty())]);
        Relayed { first_port: *ports.start(), addresses: both.collect() }
    }

    pub(super) fn contains(&self, transport: Transport, address: SocketAddr) -> bool {
        self.place(transport, address).is_some_and(|(word, bit)| word.load(Ordering::Relaxed) & bit != 0)
    }

    pub(super) fn insert(&self, transport: Transport, address: SocketAddr) {
        if let Some((word, bit)) = self.place(transport, address) {
            word.fetch_or(bit, Ordering::Relaxed);
        }
    }

    pub(super) fn remove(&self, transport: Transport, address: SocketAddr) {
        if let Some((word, bit)) = self.place(transport, address) {
            word.fetch_and(!bit, Ordering::Relaxed);
        }
    }

    fn place(&self, transport: Transport, address: SocketAddr) -> Option<(&AtomicU64, u64)> {
        let found = self.addresses.iter().find(|(of, ip, _)| (*of, *ip) == (transport, address.ip()));
        let (_, _, words) = found?;
        let at = address.port().checked_sub(self.first_port)?;
        Some((words.get(usize::from(at / 64))?, 1 << (at % 64)))
    }
}
