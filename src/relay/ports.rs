//! Relay ports: which are free, drawn unpredictably (RFC 8656 §7.2, RFC 6056).
//!
//! Each engine owns a share of the range: pairs (even, odd) are dealt to the workers in turn, so that EVEN-PORT with a
//! reservation never needs another worker. A bitmap per address; memory is 1 bit a port, no start-up work.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use rand_chacha::ChaCha12Rng;
use rand_core::Rng;

/// One engine's part of the relay ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortShare {
    /// The whole range, as configured.
    pub range: RangeInclusive<u16>,
    /// This engine's number, below `of`.
    pub index: u16,
    /// How many engines share the range; at least 1.
    pub of: u16,
}

impl PortShare {
    /// A range that nobody else uses.
    pub fn whole(range: RangeInclusive<u16>) -> PortShare {
        PortShare { range, index: 0, of: 1 }
    }

    /// Which engine a port belongs to.
    pub fn owner(&self, port: u16) -> u16 {
        (port / 2) % self.of.max(1)
    }

    fn owns(&self, port: u16) -> bool {
        self.range.contains(&port) && self.owner(port) == self.index
    }
}

/// What a port must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parity {
    Any,
    /// EVEN-PORT with R = 0.
    Even,
    /// EVEN-PORT with R = 1: the next higher port is taken too.
    Pair,
}

/// The ports in use, per relay address.
#[derive(Debug)]
pub(super) struct Ports {
    share: PortShare,
    addresses: Vec<Pool>,
}

/// One bit a port of the whole range: set when in use, or when not ours.
#[derive(Debug)]
struct Pool {
    ip: IpAddr,
    taken: Vec<u64>,
    used: usize,
}

impl Ports {
    pub(super) fn new(share: PortShare) -> Ports {
        Ports { share, addresses: Vec::new() }
    }

    pub(super) fn share(&self) -> &PortShare {
        &self.share
    }

    /// Takes a free port on `ip`, or for `Pair` an even one with its successor; `None` when there is none.
    pub(super) fn draw(&mut self, ip: IpAddr, parity: Parity, random: &mut ChaCha12Rng) -> Option<u16> {
        let share = self.share.clone();
        let pool = self.pool(ip)?;
        let port = pool.find(&share, parity, random.next_u32())?;
        pool.set(&share, port, true);
        if parity == Parity::Pair {
            pool.set(&share, port + 1, true);
        }
        Some(port)
    }

    /// Gives a port back. `false` when it is another engine's.
    pub(super) fn release(&mut self, address: SocketAddr) -> bool {
        if !self.share.owns(address.port()) {
            return false;
        }
        let share = self.share.clone();
        if let Some(pool) = self.pool(address.ip()) {
            pool.set(&share, address.port(), false);
        }
        true
    }

    /// How many ports are in use, over all addresses.
    pub(super) fn used(&self) -> usize {
        self.addresses.iter().map(|pool| pool.used).sum()
    }

    fn pool(&mut self, ip: IpAddr) -> Option<&mut Pool> {
        if self.addresses.iter().all(|pool| pool.ip != ip) {
            let words = self.share.range.len().div_ceil(64);
            self.addresses.push(Pool { ip, taken: vec![0; words], used: 0 });
        }
        self.addresses.iter_mut().find(|pool| pool.ip == ip)
    }
}

impl Pool {
    /// The first suitable port from a random place on, wrapping once.
    fn find(&self, share: &PortShare, parity: Parity, random: u32) -> Option<u16> {
        let count = u32::try_from(share.range.len()).ok()?;
        // Without modulo bias: the upper half of a 32×32-bit product.
        let start = u32::try_from((u64::from(random) * u64::from(count)) >> 32).ok()?;
        let mut step = 0;
        while step < count {
            let at = (start + step) % count;
            // A full word of taken ports is skipped at once.
            if at.is_multiple_of(64)
                && step + 64 <= count
                && self.taken.get(usize::try_from(at / 64).ok()?) == Some(&u64::MAX)
            {
                step += 64;
                continue;
            }
            let port = share.range.start().checked_add(u16::try_from(at).ok()?)?;
            if self.suits(share, port, parity) {
                return Some(port);
            }
            step += 1;
        }
        None
    }

    fn suits(&self, share: &PortShare, port: u16, parity: Parity) -> bool {
        let free = |port: u16| share.owns(port) && !self.is_taken(share, port);
        match parity {
            Parity::Any => free(port),
            Parity::Even => port.is_multiple_of(2) && free(port),
            Parity::Pair => port.is_multiple_of(2) && free(port) && port.checked_add(1).is_some_and(free),
        }
    }

    fn is_taken(&self, share: &PortShare, port: u16) -> bool {
        let at = usize::from(port.saturating_sub(*share.range.start()));
        self.taken.get(at / 64).is_none_or(|word| word >> (at % 64) & 1 == 1)
    }

    fn set(&mut self, share: &PortShare, port: u16, taken: bool) {
        let at = usize::from(port.saturating_sub(*share.range.start()));
        let was = self.is_taken(share, port);
        if let Some(word) = self.taken.get_mut(at / 64) {
            let bit = 1 << (at % 64);
            *word = if taken { *word | bit } else { *word & !bit };
            self.used = self.used + usize::from(taken) - usize::from(was);
        }
    }
}

#[cfg(test)]
mod tests {
    use rand_core::SeedableRng;

    use super::*;

    const IP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn random() -> ChaCha12Rng {
        ChaCha12Rng::from_seed([1; 32])
    }

    #[test]
    fn every_port_is_drawn_once_and_comes_back() {
        let mut random = random();
        let mut ports = Ports::new(PortShare::whole(50_000..=50_199));
        for _ in 0..3 {
            let mut drawn: Vec<u16> = (0..200).filter_map(|_| ports.draw(IP, Parity::Any, &mut random)).collect();
            assert_eq!(ports.draw(IP, Parity::Any, &mut random), None);
            assert_ne!(drawn, (50_000..=50_199).collect::<Vec<_>>(), "drawn in order");
            drawn.sort_unstable();
            assert_eq!(drawn, (50_000..=50_199).collect::<Vec<_>>());
            assert_eq!(ports.used(), 200);
            assert!(drawn.into_iter().all(|port| ports.release(SocketAddr::new(IP, port))));
            assert_eq!(ports.used(), 0);
        }
    }

    #[test]
    fn shares_are_disjoint_and_cover_the_range() {
        let mut random = random();
        let mut all = Vec::new();
        for index in 0..3 {
            let mut ports = Ports::new(PortShare { range: 1001..=1100, index, of: 3 });
            all.extend(std::iter::from_fn(|| ports.draw(IP, Parity::Any, &mut random)));
        }
        all.sort_unstable();
        assert_eq!(all, (1001..=1100).collect::<Vec<_>>());
    }

    #[test]
    fn pairs_begin_even_and_take_both() {
        let mut random = random();
        let mut ports = Ports::new(PortShare::whole(1001..=1010));
        let mut pairs: Vec<u16> = std::iter::from_fn(|| ports.draw(IP, Parity::Pair, &mut random)).collect();
        pairs.sort_unstable();
        assert_eq!(pairs, [1002, 1004, 1006, 1008]);
        assert_eq!(ports.draw(IP, Parity::Even, &mut random), Some(1010));
        assert_eq!(ports.draw(IP, Parity::Even, &mut random), None);
        assert_eq!(ports.draw(IP, Parity::Any, &mut random), Some(1001));
    }

    #[test]
    fn the_last_port_of_all_is_usable() {
        let mut random = random();
        let mut ports = Ports::new(PortShare::whole(65_535..=65_535));
        assert_eq!(ports.draw(IP, Parity::Pair, &mut random), None);
        assert_eq!(ports.draw(IP, Parity::Any, &mut random), Some(65_535));
        assert_eq!(ports.draw(IP, Parity::Any, &mut random), None);
    }
}
