//! How many allocations there may be: per user, per source, in all; and what each is known by to all workers. Asked once
//! an allocation, never per packet.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use super::relayed::Relayed;
use super::share::Share;
use crate::relay::{OpenError, Transport};

/// Concurrent allocations; 0 is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quotas {
    /// Of one user.
    pub per_user: u32,
    /// From one source: an IPv4 address, or a /64 of IPv6.
    pub per_source: u32,
    /// Of everybody.
    pub total: u32,
}

/// Counts the allocations that exist.
#[derive(Debug)]
pub(super) struct Ledger {
    held: Mutex<Held>,
    relayed: Relayed,
}

#[derive(Debug, Default)]
struct Held {
    quotas: Quotas,
    users: HashMap<Arc<str>, User>,
    sources: HashMap<IpAddr, u32>,
    total: u32,
}

#[derive(Debug, Default)]
struct User {
    allocations: u32,
    share: Arc<Share>,
}

/// One allocation's place; given back when dropped.
#[derive(Debug)]
pub(super) struct Permit {
    ledger: Arc<Ledger>,
    user: Arc<str>,
    source: IpAddr,
    share: Arc<Share>,
    relayed: Option<(Transport, SocketAddr)>,
}

impl Ledger {
    /// For allocations at these relay addresses.
    pub(super) fn new(quotas: Quotas, relayed: Relayed) -> Ledger {
        Ledger { held: Mutex::new(Held { quotas, ..Held::default() }), relayed }
    }

    /// Changes the limits. Whoever holds more than the new ones keeps it, and gets no more.
    pub(super) fn set(&self, quotas: Quotas) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).quotas = quotas;
    }

    /// Takes a place in every count, or in none.
    pub(super) fn acquire(self: &Arc<Ledger>, user: &str, client: IpAddr) -> Result<Permit, OpenError> {
        let source = prefix(client);
        let user: Arc<str> = user.into();
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |limit: u32, count: u32| limit != 0 && count >= limit;
        let quotas = held.quotas;
        if full(quotas.per_user, held.users.get(&user).map_or(0, |user| user.allocations)) {
            return Err(OpenError::UserQuota);
        }
        if full(quotas.per_source, held.sources.get(&source).copied().unwrap_or(0)) {
            return Err(OpenError::SourceQuota);
        }
        if full(quotas.total, held.total) {
            return Err(OpenError::TotalQuota);
        }
        let of_user = held.users.entry(user.clone()).or_default();
        of_user.allocations += 1;
        let share = of_user.share.clone();
        *held.sources.entry(source).or_default() += 1;
        held.total += 1;
        Ok(Permit { ledger: self.clone(), user, source, share, relayed: None })
    }

    /// Whether an allocation has this relay address and port now.
    pub(super) fn is_relayed(&self, transport: Transport, address: SocketAddr) -> bool {
        self.relayed.contains(transport, address)
    }
}

impl Permit {
    /// The relayed transport address of the allocation; nobody's again when the permit is dropped.
    pub(super) fn at(mut self, transport: Transport, address: SocketAddr) -> Permit {
        self.ledger.relayed.insert(transport, address);
        self.relayed = Some((transport, address));
        self
    }

    /// What all allocations of the user share.
    pub(super) fn share(&self) -> &Share {
        &self.share
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some((transport, address)) = self.relayed {
            self.ledger.relayed.remove(transport, address);
        }
        let mut held = self.ledger.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(user) = held.users.get_mut(&self.user) {
            user.allocations -= 1;
            if user.allocations == 0 {
                held.users.remove(&self.user);
            }
        }
        release(&mut held.sources, &self.source);
        held.total = held.total.saturating_sub(1);
    }
}

/// Counts one down; a count of zero leaves no entry behind.
fn release<K: Eq + Hash>(counts: &mut HashMap<K, u32>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

/// What counts as one source: a whole /64 is one customer's.
pub(super) fn prefix(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_limit_is_told_apart_and_places_come_back() {
        let ledger = Arc::new(Ledger::new(Quotas { per_user: 1, per_source: 2, total: 3 }, Relayed::default()));
        let a = ledger.acquire("a", ip("10.0.0.1")).unwrap();
        assert_eq!(ledger.acquire("a", ip("10.0.0.2")).unwrap_err(), OpenError::UserQuota);
        let b = ledger.acquire("b", ip("10.0.0.1")).unwrap();
        assert_eq!(ledger.acquire("c", ip("10.0.0.1")).unwrap_err(), OpenError::SourceQuota);
        let c = ledger.acquire("c", ip("2001:db8::1")).unwrap();
        assert_eq!(ledger.acquire("d", ip("10.0.0.9")).unwrap_err(), OpenError::TotalQuota);
        drop((a, b, c));
        let held = ledger.held.lock().unwrap();
        assert!(held.users.is_empty() && held.sources.is_empty() && held.total == 0);
    }

    #[test]
    fn lower_limits_take_nothing_away_and_higher_ones_give_at_once() {
        let ledger = Arc::new(Ledger::new(Quotas { per_user: 2, ..Quotas::default() }, Relayed::default()));
        let held = [ledger.acquire("a", ip("10.0.0.1")).unwrap(), ledger.acquire("a", ip("10.0.0.1")).unwrap()];
        ledger.set(Quotas { per_user: 1, ..Quotas::default() });
        assert_eq!(ledger.acquire("a", ip("10.0.0.1")).unwrap_err(), OpenError::UserQuota);
        ledger.set(Quotas { per_user: 3, ..Quotas::default() });
        assert!(ledger.acquire("a", ip("10.0.0.1")).is_ok());
        drop(held);
        assert!(ledger.held.lock().unwrap().users.is_empty());
    }

    #[test]
    fn a_64_is_one_source_and_zero_is_no_limit() {
        let ledger = Arc::new(Ledger::new(Quotas { per_source: 1, ..Quotas::default() }, Relayed::default()));
        let _one = ledger.acquire("a", ip("2001:db8::1")).unwrap();
        assert_eq!(ledger.acquire("a", ip("2001:db8::2:1")).unwrap_err(), OpenError::SourceQuota);
        assert!(ledger.acquire("a", ip("2001:db8:0:1::1")).is_ok());
    }

    #[test]
    fn a_relayed_address_is_one_for_as_long_as_its_permit_lives() {
        let (udp, tcp) = (Transport::Udp, Transport::Tcp);
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let relayed = Relayed::new([ip("10.0.0.1"), ip("::1")].into_iter(), 50_000..=50_100);
        let ledger = Arc::new(Ledger::new(Quotas::default(), relayed));
        let one = ledger.acquire("a", ip("10.9.9.9")).unwrap().at(udp, at("10.0.0.1:50100"));
        let other = ledger.acquire("a", ip("10.9.9.9")).unwrap().at(tcp, at("[::1]:50000"));
        assert!(ledger.is_relayed(udp, at("10.0.0.1:50100")) && ledger.is_relayed(tcp, at("[::1]:50000")));
        assert!(!ledger.is_relayed(tcp, at("10.0.0.1:50100")) && !ledger.is_relayed(udp, at("[::1]:50000")));
        for text in ["10.0.0.1:50000", "10.0.0.1:50099", "10.0.0.2:50100", "[::1]:50100", "10.0.0.1:49999"] {
            assert!(!ledger.is_relayed(udp, at(text)) && !ledger.is_relayed(tcp, at(text)), "{text}");
        }
        drop(one);
        assert!(!ledger.is_relayed(udp, at("10.0.0.1:50100")) && ledger.is_relayed(tcp, at("[::1]:50000")));
        drop(other);
        assert!(!ledger.is_relayed(tcp, at("[::1]:50000")));
    }

    #[test]
    fn all_allocations_of_a_user_have_one_share() {
        let ledger = Arc::new(Ledger::new(Quotas::default(), Relayed::default()));
        let [one, other] = [0, 1].map(|_| ledger.acquire("a", ip("10.0.0.1")).unwrap());
        let foreign = ledger.acquire("b", ip("10.0.0.1")).unwrap();
        assert!(std::ptr::eq(one.share(), other.share()) && !std::ptr::eq(one.share(), foreign.share()));
    }
}
