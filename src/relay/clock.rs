//! Time as the core sees it: an argument.

use std::time::Duration;

/// A point on a monotonic clock of the host's choice, in nanoseconds. All points of one engine share that clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mono(pub u64);

impl Mono {
    /// The point `duration` later; saturates at the end of time.
    pub fn after(self, duration: Duration) -> Mono {
        Mono(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How long after `earlier` this is; zero when it is not.
    pub fn since(self, earlier: Mono) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Whole seconds since the clock's own start.
    pub fn seconds(self) -> u64 {
        self.0 / 1_000_000_000
    }
}

/// Both clocks at once: `mono` for everything that lasts, `unix` for what is written down as a date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The monotonic clock.
    pub mono: Mono,
    /// Seconds since the Unix epoch.
    pub unix: u64,
}
