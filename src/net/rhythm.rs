//! When to let packets gather before looking again.
//!
//! Under a steady stream of packets a worker that is faster than they come goes to sleep and is woken for each of
//! them, and that costs more than relaying it. Once naps turn out short the worker rests a moment on purpose and finds
//! several packets at once. It stops as soon as a rest brings too little, and never rests on a backlog, so neither a
//! quiet nor a saturated server pays.

use std::time::Duration;

/// How long packets may gather: far below anything a call notices, a few times what a wake-up costs.
pub(super) const REST: Duration = Duration::from_micros(40);
/// A wait that took less did not sleep.
const ASLEEP: Duration = Duration::from_micros(2);
/// So many short naps in a row are a steady stream.
const STREAK: u32 = 8;
/// A rest that brought fewer packets was not worth it.
const WORTH: u64 = 3;

/// What the last turns were like.
#[derive(Debug, Default)]
pub(super) struct Rhythm {
    naps: u32,
    rested: bool,
    backlog: bool,
}

impl Rhythm {
    /// Whether to rest before the next wait.
    pub(super) fn rests(&mut self) -> bool {
        self.rested = self.naps >= STREAK && !self.backlog;
        self.rested
    }

    /// A turn is over: how long its wait took, how many packets it brought, whether some were left behind.
    pub(super) fn turned(&mut self, waited: Duration, packets: u64, backlog: bool) {
        self.backlog = backlog;
        if self.rested {
            if packets < WORTH {
                self.naps = 0;
            }
        } else if waited > REST {
            self.naps = 0;
        } else if waited >= ASLEEP {
            self.naps = self.naps.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naps(rhythm: &mut Rhythm, count: u32) {
        for _ in 0..count {
            assert!(!rhythm.rests());
            rhythm.turned(Duration::from_micros(10), 1, false);
        }
    }

    #[test]
    fn a_steady_stream_is_let_gather_until_it_thins_out() {
        let mut rhythm = Rhythm::default();
        naps(&mut rhythm, STREAK);
        for _ in 0..100 {
            assert!(rhythm.rests());
            rhythm.turned(Duration::ZERO, 5, false);
        }
        assert!(rhythm.rests());
        rhythm.turned(Duration::ZERO, 1, false);
        assert!(!rhythm.rests());
    }

    #[test]
    fn quiet_and_saturated_servers_never_rest() {
        let mut rhythm = Rhythm::default();
        naps(&mut rhythm, STREAK - 1);
        rhythm.turned(Duration::from_millis(1), 1, false);
        naps(&mut rhythm, STREAK - 1);
        assert!(!rhythm.rests());
        for _ in 0..100 {
            rhythm.turned(Duration::ZERO, 128, true);
            assert!(!rhythm.rests());
        }
        rhythm.turned(Duration::from_micros(10), 1, false);
        assert!(rhythm.rests());
        rhythm.turned(Duration::ZERO, 128, true);
        assert!(!rhythm.rests());
    }
}
