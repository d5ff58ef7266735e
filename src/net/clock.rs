//! The two clocks that engines are told.

#![allow(clippy::disallowed_methods, reason = "the engine's clocks are read here and nowhere else")]

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::relay::{Mono, Now};

/// One beginning for all workers, so that they accept each other's nonces.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    start: Instant,
}

impl Clock {
    pub(super) fn start() -> Clock {
        Clock { start: Instant::now() }
    }

    pub(super) fn now(&self) -> Now {
        // A clock before 1970 lets every credential pass for not expired; the doctor warns of such clocks.
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Now { mono: Mono(0).after(self.start.elapsed()), unix }
    }
}
