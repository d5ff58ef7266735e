//! How often one may call: token buckets for each client, and for wrong keys for each source.
//!
//! A bucket is one number, the time at which it is full again, so that an idle one can be forgotten (GCRA).

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Sources whose failures are told apart; beyond them everybody shares one bucket.
const MOST_SOURCES: usize = 4096;
const CLIENT_BURST: u64 = 2;
const FAILURE_BURST: u64 = 4;
const SECOND: u64 = 1_000_000_000;

/// Where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Over TCP.
    Address(IpAddr),
    /// Over the Unix socket.
    Socket,
}

impl Source {
    pub(super) fn is_local(self) -> bool {
        match self {
            Source::Address(address) => address.is_loopback(),
            Source::Socket => true,
        }
    }

    /// What counts as one source: a whole /64 is one customer's.
    fn bucket(self) -> IpAddr {
        match self {
            Source::Address(IpAddr::V6(v6)) => match v6.to_ipv4_mapped() {
                Some(v4) => IpAddr::V4(v4),
                None => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
            },
            Source::Address(v4) => v4,
            Source::Socket => IpAddr::V4(Ipv4Addr::LOCALHOST),
        }
    }
}

/// All buckets.
pub(super) struct Limits {
    start: Instant,
    clients: Mutex<Buckets<Box<str>>>,
    failures: Mutex<Buckets<IpAddr>>,
}

impl Limits {
    pub(super) fn new() -> Limits {
        Limits { start: Instant::now(), clients: Mutex::default(), failures: Mutex::default() }
    }

    /// One request of a client; else how long it has to wait. Clients are as many as the configuration names.
    pub(super) fn request(&self, client: &str, rate: u32) -> Result<(), Duration> {
        let mut buckets = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.take(client.into(), self.now(), u64::from(rate), CLIENT_BURST)
    }

    /// One request without a valid key; else how long its source has to wait.
    pub(super) fn failure(&self, source: Source, rate: u32) -> Result<(), Duration> {
        let now = self.now();
        let mut buckets = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let mut source = source.bucket();
        if buckets.0.len() >= MOST_SOURCES && !buckets.0.contains_key(&source) {
            buckets.0.retain(|_, full| *full > now);
            if buckets.0.len() >= MOST_SOURCES {
                source = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
            }
        }
        buckets.take(source, now, u64::from(rate), FAILURE_BURST)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// When each bucket is full again, in nanoseconds.
struct Buckets<K>(HashMap<K, u64>);

impl<K> Default for Buckets<K> {
    fn default() -> Buckets<K> {
        Buckets(HashMap::new())
    }
}

impl<K: Eq + Hash> Buckets<K> {
    fn take(&mut self, key: K, now: u64, rate: u64, burst: u64) -> Result<(), Duration> {
        if rate == 0 {
            return Ok(());
        }
        let (each, room) = (SECOND / rate, SECOND * burst);
        let full = self.0.entry(key).or_default();
        let next = now.max(*full) + each;
        match next.checked_sub(now + room) {
            Some(early) if early > 0 => Err(Duration::from_nanos(early)),
            _ => {
                *full = next;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_then_its_rate() {
        let mut buckets = Buckets::default();
        let mut given = |now| (0..1000).take_while(|_| buckets.take("a", now, 10, 2).is_ok()).count();
        assert_eq!(given(0), 20);
        assert_eq!(given(0), 0);
        assert_eq!(given(SECOND / 2), 5);
        assert_eq!(given(100 * SECOND), 20);
        let wait = buckets.take("a", 100 * SECOND, 10, 2).unwrap_err();
        assert_eq!(wait, Duration::from_millis(100));
        assert!(buckets.take("b", 0, 10, 2).is_ok() && buckets.take("a", 0, 0, 2).is_ok());
    }

    #[test]
    fn sources_are_bounded_and_share_a_bucket_beyond() {
        let limits = Limits::new();
        let source = |n: u32| Source::Address(IpAddr::V4(Ipv4Addr::from_bits(n)));
        for n in 1..20_000 {
            let _ = limits.failure(source(n), 1);
        }
        assert!(limits.failures.lock().unwrap().0.len() <= MOST_SOURCES + 1);
        assert!(limits.failure(source(30_000), 1).is_err(), "the shared bucket is empty");
    }

    #[test]
    fn a_64_is_one_source() {
        let bucket = |text: &str| Source::Address(text.parse().unwrap()).bucket();
        assert_eq!(bucket("2001:db8::1"), bucket("2001:db8::2:1"));
        assert_ne!(bucket("2001:db8::1"), bucket("2001:db8:0:1::1"));
        assert_eq!(bucket("::ffff:10.0.0.1"), bucket("10.0.0.1"));
    }
}
