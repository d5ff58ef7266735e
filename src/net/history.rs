//! What ended allocations leave behind: how long they lasted, and what each user moved. Kept by the worker, read by
//! the control plane on request.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::relay::{Mono, Record, Traffic};

/// Users that are told apart; the rest counts together. Bare time stamps are a user each, so there has to be an end.
const MOST_USERS: usize = 4096;

/// The upper bounds of [`Durations`], in seconds.
pub const DURATION_BOUNDS: [u64; 8] = [1, 10, 60, 300, 900, 3600, 14_400, 86_400];

/// How long ended allocations lasted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Durations {
    /// How many lasted at most each of [`DURATION_BOUNDS`], not counting those of a smaller bound; the last lasted
    /// longer.
    pub counts: [u64; DURATION_BOUNDS.len() + 1],
    /// All of them together.
    pub sum: Duration,
}

impl Durations {
    pub(super) fn add(&mut self, other: &Durations) {
        for (sum, more) in self.counts.iter_mut().zip(other.counts) {
            *sum += more;
        }
        self.sum += other.sum;
    }

    fn observe(&mut self, lasted: Duration) {
        let at = DURATION_BOUNDS.iter().position(|bound| lasted <= Duration::from_secs(*bound));
        if let Some(count) = self.counts.get_mut(at.unwrap_or(DURATION_BOUNDS.len())) {
            *count += 1;
        }
        self.sum += lasted;
    }
}

/// What a user's ended allocations came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UserUsage {
    /// How many.
    pub allocations: u64,
    /// How long, added up.
    pub lasted: Duration,
    /// What they relayed.
    pub traffic: Traffic,
}

impl UserUsage {
    /// Adds an allocation.
    pub fn add(&mut self, lasted: Duration, traffic: &Traffic) {
        self.allocations += 1;
        self.lasted += lasted;
        self.traffic.sent_packets += traffic.sent_packets;
        self.traffic.sent_bytes += traffic.sent_bytes;
        self.traffic.received_packets += traffic.received_packets;
        self.traffic.received_bytes += traffic.received_bytes;
    }

    /// Adds what another worker knows of the same user.
    pub fn merge(&mut self, other: &UserUsage) {
        let allocations = self.allocations + other.allocations;
        self.add(other.lasted, &other.traffic);
        self.allocations = allocations;
    }
}

/// Ended allocations of one worker.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// By user, up to a number of users.
    pub users: HashMap<Arc<str>, UserUsage>,
    /// Everybody else.
    pub others: UserUsage,
    pub(super) durations: Durations,
}

impl History {
    pub(super) fn ended(&mut self, record: &Record, now: Mono) {
        let lasted = now.since(record.created);
        self.durations.observe(lasted);
        let is_full = self.users.len() >= MOST_USERS;
        match self.users.get_mut(&record.user) {
            Some(usage) => usage.add(lasted, &record.traffic),
            None if is_full => self.others.add(lasted, &record.traffic),
            None => self.users.entry(record.user.clone()).or_default().add(lasted, &record.traffic),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::{FiveTuple, ListenerId};

    fn record(user: &str) -> Record {
        let address = "192.0.2.1:5".parse().unwrap();
        Record {
            user: user.into(),
            client: FiveTuple { client: address, listener: ListenerId(0), stream: None },
            relayed: address,
            created: Mono(0),
            traffic: Traffic { sent_packets: 1, sent_bytes: 10, received_packets: 2, received_bytes: 20 },
        }
    }

    #[test]
    fn durations_fall_into_the_first_bound_that_holds_them() {
        let mut history = History::default();
        for seconds in [0, 1, 2, 100_000] {
            history.ended(&record("a"), Mono(0).after(Duration::from_secs(seconds)));
        }
        assert_eq!(history.durations.counts, [2, 1, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(history.durations.sum.as_secs(), 100_003);
        let usage = history.users.get("a").copied().unwrap();
        assert_eq!((usage.allocations, usage.traffic.received_bytes), (4, 80));
    }

    #[test]
    fn users_beyond_the_limit_count_together() {
        let mut history = History::default();
        for user in 0..MOST_USERS + 5 {
            history.ended(&record(&user.to_string()), Mono(0));
        }
        assert_eq!((history.users.len(), history.others.allocations), (MOST_USERS, 5));
        history.ended(&record("0"), Mono(0));
        assert_eq!(history.users.get("0").map(|usage| usage.allocations), Some(2));
    }
}
