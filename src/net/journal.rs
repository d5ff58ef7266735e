//! What a worker logs of its clients: a line when an allocation begins, one when it ends, and at debug each refusal.
//! Nothing is logged per packet, and whatever a client can cause in numbers is limited: lines that were left out are
//! counted in the next one.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::{Level, debug, enabled, info, warn};

use super::stream::Transport;
use crate::relay::{EndReason, Mono, Record, Refusal};

/// Lines about allocations, which take a credential: far more than a worker sees unless somebody makes a game of it.
const ALLOCATIONS: Rate = Rate { per_second: 500, burst: 5000 };
/// Lines about refused requests, which anybody can cause.
const REFUSALS: Rate = Rate { per_second: 50, burst: 200 };
/// Lines about what the system refuses.
const TROUBLES: Rate = Rate { per_second: 1, burst: 5 };
/// Characters of a user name that are shown when names are shortened.
const SHORT: usize = 2;

/// A worker's lines.
#[derive(Debug)]
pub(super) struct Journal {
    /// Whether addresses and user names are shortened.
    shorten: Arc<AtomicBool>,
    allocations: Limiter,
    refusals: Limiter,
    troubles: Limiter,
}

impl Journal {
    pub(super) fn new(shorten: Arc<AtomicBool>) -> Journal {
        Journal {
            shorten,
            allocations: Limiter::new(ALLOCATIONS),
            refusals: Limiter::new(REFUSALS),
            troubles: Limiter::new(TROUBLES),
        }
    }

    pub(super) fn began(&mut self, now: Mono, record: &Record, transport: Transport) {
        let Some(left_out) = self.allocations.admit(now) else { return };
        let (user, client) = (self.user(&record.user), self.address(record.client.client));
        let (relayed, transport) = (self.address(record.relayed), transport.label());
        info!(user, client, relayed, transport, left_out = shown(left_out), "allocation began");
    }

    pub(super) fn ended(&mut self, now: Mono, record: &Record, reason: EndReason, transport: Transport) {
        let Some(left_out) = self.allocations.admit(now) else { return };
        let (user, client) = (self.user(&record.user), self.address(record.client.client));
        let (relayed, transport) = (self.address(record.relayed), transport.label());
        let traffic = &record.traffic;
        info!(
            user,
            client,
            relayed,
            transport,
            seconds = now.since(record.created).as_secs(),
            sent_packets = traffic.sent_packets,
            sent_bytes = traffic.sent_bytes,
            received_packets = traffic.received_packets,
            received_bytes = traffic.received_bytes,
            ?reason,
            left_out = shown(left_out),
            "allocation ended"
        );
    }

    pub(super) fn refused(&mut self, now: Mono, refusal: &Refusal) {
        if !enabled!(Level::DEBUG) {
            return;
        }
        let Some(left_out) = self.refusals.admit(now) else { return };
        let user = self.user(refusal.username.as_deref().unwrap_or_default());
        let client = self.address(refusal.client);
        let (method, code) = (refusal.method.number(), refusal.code.number());
        debug!(client, method, code, why = ?refusal.why, user, left_out = shown(left_out), "request refused");
    }

    /// A relay socket that the system refuses.
    pub(super) fn unopened(&mut self, now: Mono, error: &io::Error, address: SocketAddr) {
        if let Some(left_out) = self.troubles.admit(now) {
            warn!(%error, %address, left_out = shown(left_out), "a relay socket could not be opened");
        }
    }

    fn address(&self, address: SocketAddr) -> String {
        if self.shorten.load(Ordering::Relaxed) { short_address(address) } else { address.to_string() }
    }

    /// As a value that the log quotes and escapes.
    fn user(&self, user: &str) -> String {
        if self.shorten.load(Ordering::Relaxed) { short_user(user) } else { user.to_owned() }
    }
}

/// Lines left out, where there are any.
fn shown(left_out: u64) -> Option<u64> {
    (left_out > 0).then_some(left_out)
}

/// The network only: /24 of IPv4, /48 of IPv6, without the port.
fn short_address(address: SocketAddr) -> String {
    match address.ip() {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            format!("{a}.{b}.{c}.0/24")
        }
        IpAddr::V6(ip) => format!("{}/48", Ipv6Addr::from_bits(ip.to_bits() >> 80 << 80)),
    }
}

/// The first two characters and how many there are.
fn short_user(user: &str) -> String {
    let length = user.chars().count();
    if length <= SHORT {
        return user.to_owned();
    }
    let start: String = user.chars().take(SHORT).collect();
    format!("{start}…({length})")
}

/// How many lines there may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    /// In the long run.
    pub(super) per_second: u32,
    /// At once.
    pub(super) burst: u32,
}

/// Lets so many lines through and counts the others.
#[derive(Debug)]
pub(super) struct Limiter {
    rate: Rate,
    /// Lines that may be written now.
    left: u32,
    /// When `left` was last filled.
    filled: Mono,
    left_out: u64,
}

impl Limiter {
    pub(super) fn new(rate: Rate) -> Limiter {
        Limiter { rate, left: rate.burst, filled: Mono(0), left_out: 0 }
    }

    /// How many lines were left out before this one, which may be written; none: leave it out as well.
    pub(super) fn admit(&mut self, now: Mono) -> Option<u64> {
        let earned = now.since(self.filled).as_secs_f64() * f64::from(self.rate.per_second);
        if earned >= 1.0 {
            self.left = self.left.saturating_add(earned as u32).min(self.rate.burst);
            self.filled = now;
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Some(std::mem::take(&mut self.left_out))
            }
            None => {
                self.left_out += 1;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_left_out_is_counted_in_the_next_line() {
        let mut limiter = Limiter::new(Rate { per_second: 2, burst: 3 });
        let at = |millis| Mono(0).after(Duration::from_millis(millis));
        assert_eq!([0, 0, 0, 0, 0].map(|time| limiter.admit(at(time))), [Some(0), Some(0), Some(0), None, None]);
        assert_eq!(limiter.admit(at(400)), None);
        assert_eq!(limiter.admit(at(500)), Some(3));
        assert_eq!([10_000; 4].map(|time| limiter.admit(at(time))), [Some(0), Some(0), Some(0), None]);
    }

    #[test]
    fn a_flood_gets_the_rate_and_no_more() {
        let mut limiter = Limiter::new(Rate { per_second: 10, burst: 10 });
        let written = (0..100_000).filter(|n| limiter.admit(Mono(0).after(Duration::from_micros(n * 100))).is_some());
        // ten seconds, and what may come at once
        assert!((100..=110).contains(&written.count()));
    }

    #[test]
    fn short_forms_tell_networks_and_users_apart_but_no_person() {
        assert_eq!(short_address("192.0.2.77:5000".parse().unwrap()), "192.0.2.0/24");
        assert_eq!(short_address("[2001:db8:1:2::3]:5000".parse().unwrap()), "2001:db8:1::/48");
        assert_eq!(short_user("alice@example.org"), "al…(17)");
        assert_eq!((short_user("ab").as_str(), short_user("").as_str()), ("ab", ""));
        assert_eq!(short_user("éèà"), "éè…(3)");
    }
}
