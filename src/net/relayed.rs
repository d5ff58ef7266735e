//! Which relay addresses and ports allocations have now, over all workers: one bit each. An own relay port that nobody
//! has may be another service's of this machine, and is no peer (`Action::ToSibling`).

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};

/// The bits. Each word changes by one atomic operation; who looks while a port changes hands may see either.
#[derive(Debug, Default)]
pub(super) struct Relayed {
    first_port: u16,
    addresses: Vec<(IpAddr, Box<[AtomicU64]>)>,
}

impl Relayed {
    /// Nothing relayed yet at these addresses and ports.
    pub(super) fn new(ips: impl Iterator<Item = IpAddr>, ports: RangeInclusive<u16>) -> Relayed {
        let words = ports.len().div_ceil(64);
        let empty = || std::iter::repeat_with(AtomicU64::default).take(words).collect();
        Relayed { first_port: *ports.start(), addresses: ips.map(|ip| (ip, empty())).collect() }
    }

    pub(super) fn contains(&self, address: SocketAddr) -> bool {
        self.place(address).is_some_and(|(word, bit)| word.load(Ordering::Relaxed) & bit != 0)
    }

    pub(super) fn insert(&self, address: SocketAddr) {
        if let Some((word, bit)) = self.place(address) {
            word.fetch_or(bit, Ordering::Relaxed);
        }
    }

    pub(super) fn remove(&self, address: SocketAddr) {
        if let Some((word, bit)) = self.place(address) {
            word.fetch_and(!bit, Ordering::Relaxed);
        }
    }

    fn place(&self, address: SocketAddr) -> Option<(&AtomicU64, u64)> {
        let (_, words) = self.addresses.iter().find(|(ip, _)| *ip == address.ip())?;
        let at = address.port().checked_sub(self.first_port)?;
        Some((words.get(usize::from(at / 64))?, 1 << (at % 64)))
    }
}
