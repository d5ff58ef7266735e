//! Token buckets that are one number each: the moment at which the bucket would be full again. Taking moves that
//! moment on; a bucket whose moment lies too far ahead is empty. Nothing is counted while nothing is taken.

use super::clock::Mono;

/// How much a bucket holds: what flows in during a second.
pub(super) const DEPTH: u64 = 1_000_000_000;

/// Fractions of a nanosecond in a price.
const FRACTION: u32 = 20;

/// The price of a byte, from a rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct BytePrice(u64);

impl BytePrice {
    /// At so many bits a second; `None` for 0, which is no limit.
    pub(super) fn at(bits_per_second: u64) -> Option<BytePrice> {
        let nanoseconds = 8_000_000_000_u64 << FRACTION;
        nanoseconds.checked_div(bits_per_second).map(BytePrice)
    }

    /// In nanoseconds of flow.
    pub(super) fn of(self, bytes: u64) -> u64 {
        self.0.saturating_mul(bytes) >> FRACTION
    }
}

/// Whether there is anything in a bucket.
pub(super) fn has(full_at: Mono, now: Mono, depth: u64) -> bool {
    full_at.0 <= now.0.saturating_add(depth)
}

/// Takes from a bucket that has something, perhaps more than it has: the next one waits for it then.
pub(super) fn take(full_at: &mut Mono, now: Mono, cost: u64) {
    full_at.0 = full_at.0.max(now.0).saturating_add(cost);
}
