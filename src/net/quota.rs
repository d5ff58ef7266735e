//! How many allocations there may be: per user, per source, in all. Shared by the workers, asked once an allocation.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use crate::relay::OpenError;

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
}

#[derive(Debug, Default)]
struct Held {
    quotas: Quotas,
    users: HashMap<Arc<str>, u32>,
    sources: HashMap<IpAddr, u32>,
    total: u32,
}

/// One allocation's place; given back when dropped.
#[derive(Debug)]
pub(super) struct Permit {
    ledger: Arc<Ledger>,
    user: Arc<str>,
    source: IpAddr,
}

impl Ledger {
    pub(super) fn new(quotas: Quotas) -> Ledger {
        Ledger { held: Mutex::new(Held { quotas, ..Held::default() }) }
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
        if full(quotas.per_user, held.users.get(&user).copied().unwrap_or(0)) {
            return Err(OpenError::UserQuota);
        }
        if full(quotas.per_source, held.sources.get(&source).copied().unwrap_or(0)) {
            return Err(OpenError::SourceQuota);
        }
        if full(quotas.total, held.total) {
            return Err(OpenError::TotalQuota);
        }
        *held.users.entry(user.clone()).or_default() += 1;
        *held.sources.entry(source).or_default() += 1;
        held.total += 1;
        Ok(Permit { ledger: self.clone(), user, source })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut held = self.ledger.held.lock().unwrap_or_else(PoisonError::into_inner);
        release(&mut held.users, &self.user);
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
        let ledger = Arc::new(Ledger::new(Quotas { per_user: 1, per_source: 2, total: 3 }));
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
        let ledger = Arc::new(Ledger::new(Quotas { per_user: 2, ..Quotas::default() }));
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
        let ledger = Arc::new(Ledger::new(Quotas { per_source: 1, ..Quotas::default() }));
        let _one = ledger.acquire("a", ip("2001:db8::1")).unwrap();
        assert_eq!(ledger.acquire("a", ip("2001:db8::2:1")).unwrap_err(), OpenError::SourceQuota);
        assert!(ledger.acquire("a", ip("2001:db8:0:1::1")).is_ok());
    }
}
