//! What a user may still relay, over all workers and allocations: these draw slices from it, a few times a second.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::relay::{Direction, Mono};

/// In nanoseconds.
const SECOND: u128 = 1_000_000_000;

/// A bucket each way that holds what flows in during a second, kept as the moment at which it is full again.
#[derive(Debug, Default)]
pub(super) struct Share {
    to_peer: AtomicU64,
    to_client: AtomicU64,
}

impl Share {
    /// Takes up to so many bytes, and says how many there were.
    pub(super) fn draw(&self, now: Mono, direction: Direction, bytes: u64, bits_per_second: u64) -> u64 {
        let full_at = match direction {
            Direction::ToPeer => &self.to_peer,
            Direction::ToClient => &self.to_client,
        };
        let rate = u128::from(bits_per_second.max(1));
        let mut drawn = 0;
        let take = |full_at: u64| {
            let ahead = u128::from(full_at.saturating_sub(now.0));
            let left = SECOND.saturating_sub(ahead) * rate / (8 * SECOND);
            drawn = bytes.min(u64::try_from(left).unwrap_or(u64::MAX));
            let cost = u64::try_from(u128::from(drawn) * 8 * SECOND / rate).unwrap_or(u64::MAX);
            Some(full_at.max(now.0).saturating_add(cost))
        };
        // The closure always names a new moment, so this cannot fail.
        let _ = full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        drawn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UP: Direction = Direction::ToPeer;
    /// 10,000 bytes a second.
    const RATE: u64 = 80_000;

    fn at(milliseconds: u64) -> Mono {
        Mono(5_000_000_000_000 + milliseconds * 1_000_000)
    }

    #[test]
    fn a_share_holds_a_second_and_flows_in_at_its_rate() {
        let share = Share::default();
        assert_eq!(share.draw(at(0), UP, 6000, RATE), 6000);
        assert_eq!(share.draw(at(0), UP, 6000, RATE), 4000, "what is left");
        assert_eq!(share.draw(at(0), UP, 6000, RATE), 0);
        assert_eq!(share.draw(at(0), Direction::ToClient, 6000, RATE), 6000, "the other way has its own");
        assert_eq!(share.draw(at(500), UP, 6000, RATE), 5000);
        assert_eq!(share.draw(at(60_000), UP, u64::MAX, RATE), 10_000, "it never holds more");
    }

    #[test]
    fn another_limit_counts_from_its_first_use_on() {
        let share = Share::default();
        assert_eq!(share.draw(at(0), UP, 10_000, RATE), 10_000);
        assert_eq!(share.draw(at(500), UP, u64::MAX, 10 * RATE), 50_000, "half a second at the new rate");
        assert_eq!(share.draw(at(500), UP, 1, 1), 0);
    }

    #[test]
    fn threads_together_draw_no_more_than_there_is() {
        let share = Share::default();
        #[allow(clippy::disallowed_methods, reason = "several workers are what is tried")]
        let drawn: u64 = std::thread::scope(|scope| {
            let draw = || (0..1000).map(|_| share.draw(at(0), UP, 7, RATE)).sum::<u64>();
            let threads = [(); 4].map(|()| scope.spawn(draw));
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(drawn, 10_000);
    }
}
