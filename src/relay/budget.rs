//! How many replies a source gets before it has shown that its address is its own: nobody is to be flooded with this
//! server's answers to requests that somebody else has sent in his name.
//!
//! A valid nonce is that proof, and so is a connection; replies after it cost nothing here. A source is an IPv4 address
//! or a /64 of IPv6. The table has a fixed size, whatever the number of sources: of those that share a set, the one
//! that has used least gives its place, with what it has used, to a newcomer. So the whole never answers more than
//! its places allow, and newcomers are muted only when there are more busy sources than places.

use std::hash::BuildHasher;
use std::net::IpAddr;

use super::action::{FiveTuple, Why};
use super::clock::Mono;
use super::rate;
use super::table::Seed;

/// Sets, a power of two, and places in each.
const SETS: u64 = 4096;
const PLACES: usize = 4;

/// A budget holds what flows in during so many seconds.
const SECONDS: u64 = 2;

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// Of the source's hash; 0 is nobody.
    tag: u32,
    full_at: Mono,
}

/// The budgets of all sources.
#[derive(Debug)]
pub(super) struct ReplyBudget {
    seed: Seed,
    /// What a reply takes, in nanoseconds of flow; 0 is no limit.
    price: u64,
    sets: Vec<[Place; PLACES]>,
}

impl ReplyBudget {
    pub(super) fn new(seed: Seed) -> ReplyBudget {
        ReplyBudget { seed, price: 0, sets: Vec::new() }
    }

    /// So many replies a second to one source, shared by so many engines; 0 is no limit.
    pub(super) fn set(&mut self, per_second: u32, engines: u16) {
        let share = rate::DEPTH.saturating_mul(u64::from(engines.max(1)));
        self.price = share.checked_div(u64::from(per_second)).map_or(0, |price| price.max(1));
        if self.price != 0 && self.sets.is_empty() {
            self.sets = vec![[Place::default(); PLACES]; usize::try_from(SETS).unwrap_or(1)];
        }
    }

    /// Takes one reply. `false` when the source has had as many as it gets.
    pub(super) fn take(&mut self, now: Mono, from: &FiveTuple) -> bool {
        if self.price == 0 || from.stream.is_some() {
            return true;
        }
        let hash = self.seed.hash_one(source(from.client.ip()));
        let tag = u32::try_from(hash & 0xffff_ffff).unwrap_or(0) | 1;
        let set = usize::try_from((hash >> 32) % SETS).ok().and_then(|at| self.sets.get_mut(at));
        let Some(set) = set else { return true };
        let known = set.iter().position(|place| place.tag == tag);
        let place = match known {
            Some(at) => set.get_mut(at),
            None => set.iter_mut().min_by_key(|place| place.full_at),
        };
        let Some(place) = place else { return true };
        place.tag = tag;
        let has = rate::has(place.full_at, now, SECONDS * rate::DEPTH);
        if has {
            rate::take(&mut place.full_at, now, self.price);
        }
        has
    }
}

/// One number for everything that counts as one source. No network has an IPv6 prefix that looks like an IPv4 address.
fn source(ip: IpAddr) -> u64 {
    match ip {
        IpAddr::V4(v4) => u64::from(v4.to_bits()),
        IpAddr::V6(v6) => u64::try_from(v6.to_bits() >> 64).unwrap_or(0),
    }
}

impl Why {
    /// Whether a refused request showed that its source address is its own: its nonce was good.
    pub(super) fn is_after_nonce(self) -> bool {
        !matches!(self, Why::Challenge | Why::NoCredentials | Why::Malformed | Why::Unknown | Why::StaleNonce)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

    use super::super::action::{ListenerId, StreamId};
    use super::*;

    fn from(ip: impl Into<IpAddr>) -> FiveTuple {
        FiveTuple { client: SocketAddr::new(ip.into(), 5000), listener: ListenerId(0), stream: None }
    }

    fn at(milliseconds: u64) -> Mono {
        Mono(1_000_000_000_000 + milliseconds * 1_000_000)
    }

    fn budget(per_second: u32, engines: u16) -> ReplyBudget {
        let mut budget = ReplyBudget::new(Seed::with_seed(7));
        budget.set(per_second, engines);
        budget
    }

    /// How many of `count` replies at once a source gets.
    fn gets(budget: &mut ReplyBudget, now: Mono, from: &FiveTuple, count: usize) -> usize {
        (0..count).filter(|_| budget.take(now, from)).count()
    }

    #[test]
    fn a_source_gets_two_seconds_worth_at_once_and_its_rate_from_then_on() {
        let mut budget = budget(100, 1);
        let source = from([198, 51, 100, 1]);
        assert_eq!(gets(&mut budget, at(0), &source, 1000), 201);
        assert_eq!(gets(&mut budget, at(0), &source, 10), 0);
        assert_eq!(gets(&mut budget, at(500), &source, 1000), 50);
        assert_eq!(gets(&mut budget, at(60_000), &source, 1000), 201, "it never holds more");
        assert_eq!(gets(&mut budget, at(60_000), &from([198, 51, 100, 2]), 10), 10, "the neighbour has his own");
    }

    #[test]
    fn engines_share_the_rate() {
        let mut budget = budget(100, 4);
        assert_eq!(gets(&mut budget, at(0), &from([198, 51, 100, 1]), 1000), 51);
        assert_eq!(gets(&mut budget, at(1000), &from([198, 51, 100, 1]), 1000), 25);
    }

    #[test]
    fn a_64_is_one_source_and_a_connection_needs_no_budget() {
        let mut budget = budget(1, 1);
        let v6 = |low: u64| from(Ipv6Addr::from_bits((0x2001_0db8_0000_0001_u128 << 64) | u128::from(low)));
        let first: usize = (0..100).map(|low| gets(&mut budget, at(0), &v6(low), 1)).sum();
        assert_eq!(first, 3);
        let stream = FiveTuple { stream: std::num::NonZeroU32::new(1).map(StreamId), ..v6(1) };
        assert_eq!(gets(&mut budget, at(0), &stream, 100), 100);
    }

    #[test]
    fn zero_is_no_limit() {
        let mut budget = budget(0, 1);
        assert_eq!(gets(&mut budget, at(0), &from([198, 51, 100, 1]), 10_000), 10_000);
        assert!(budget.sets.is_empty(), "and costs no memory");
    }

    /// A flood of sources takes no more than the table has, and a newcomer in the midst of it is answered.
    #[test]
    fn a_million_sources_neither_grow_it_nor_mute_a_newcomer() {
        let mut budget = budget(100, 1);
        let victim = from([198, 51, 100, 1]);
        let before = gets(&mut budget, at(0), &victim, 1000);
        assert_eq!(before, 201);
        for number in 0..1_000_000_u32 {
            // 100,000 a second
            let now = at(u64::from(number / 100));
            assert!(budget.take(now, &from(Ipv4Addr::from_bits(0x0b00_0000 + number))), "{number}");
        }
        assert_eq!(budget.sets.len() * PLACES, 16_384);
        assert_eq!(gets(&mut budget, at(10_000), &from([203, 0, 113, 9]), 10), 10);
    }

    /// Whoever has used up his budget gets no new one by others pushing him out.
    #[test]
    fn a_muted_source_stays_muted_in_a_flood() {
        let mut budget = budget(1, 1);
        let victim = from([198, 51, 100, 1]);
        assert_eq!(gets(&mut budget, at(0), &victim, 10), 3);
        let mut more = 0;
        for number in 0..1_000_000_u32 {
            budget.take(at(0), &from(Ipv4Addr::from_bits(0x0b00_0000 + number)));
            more += gets(&mut budget, at(0), &victim, 1);
        }
        assert_eq!(more, 0);
    }
}
