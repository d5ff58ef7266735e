//! Durations in buckets that are less than 1 % wide, in fixed memory.

use std::time::Duration;

/// 128 buckets for each power of two of nanoseconds, up to 73 minutes.
const PER_DOUBLING: u64 = 128;
const DOUBLINGS: u64 = 35;

/// Counts durations.
pub(super) struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    longest: Duration,
}

impl Histogram {
    pub(super) fn new() -> Histogram {
        let size = usize::try_from(PER_DOUBLING * (DOUBLINGS + 1)).unwrap_or(0);
        Histogram { buckets: vec![0; size], count: 0, longest: Duration::ZERO }
    }

    pub(super) fn add(&mut self, duration: Duration) {
        let last = self.buckets.len() - 1;
        if let Some(bucket) = self.buckets.get_mut(index(duration).min(last)) {
            *bucket += 1;
        }
        self.count += 1;
        self.longest = self.longest.max(duration);
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The duration that `share` (0 to 1) of all do not exceed; `None` when there are none.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts")]
    pub(super) fn quantile(&self, share: f64) -> Option<Duration> {
        let wanted = ((self.count as f64 * share).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        let bucket = self.buckets.iter().position(|count| {
            seen += count;
            seen >= wanted
        })?;
        Some(upper_edge(bucket).min(self.longest))
    }

    /// The longest duration.
    pub(super) fn longest(&self) -> Duration {
        self.longest
    }
}

fn index(duration: Duration) -> usize {
    let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let doubling = u64::from((nanoseconds / PER_DOUBLING).checked_ilog2().map_or(0, |log| log + 1));
    // Below 128 ns a bucket is a nanosecond; above, the top eight bits number it.
    let place = if doubling == 0 { nanoseconds } else { (nanoseconds >> (doubling - 1)) - PER_DOUBLING };
    usize::try_from(doubling * PER_DOUBLING + place).unwrap_or(usize::MAX)
}

fn upper_edge(bucket: usize) -> Duration {
    let (doubling, place) = (bucket as u64 / PER_DOUBLING, bucket as u64 % PER_DOUBLING);
    let nanoseconds = if doubling == 0 { place } else { ((place + PER_DOUBLING + 1) << (doubling - 1)) - 1 };
    Duration::from_nanos(nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_narrow_and_in_order() {
        let mut before = None;
        for nanoseconds in (0..20_000).chain((15..40).map(|power| 3u64 << power)) {
            let duration = Duration::from_nanos(nanoseconds);
            let edge = upper_edge(index(duration));
            assert!(edge >= duration, "{duration:?} {edge:?}");
            assert!((edge - duration).as_nanos() * 100 <= duration.as_nanos().max(100), "{duration:?} {edge:?}");
            assert!(before <= Some(edge));
            before = Some(edge);
        }
    }

    #[test]
    fn quantiles_of_a_thousand() {
        let mut histogram = Histogram::new();
        assert_eq!(histogram.quantile(0.5), None);
        for microseconds in 1..=1000 {
            histogram.add(Duration::from_micros(microseconds));
        }
        assert_eq!(histogram.count(), 1000);
        assert_eq!(histogram.longest(), Duration::from_micros(1000));
        assert_eq!(histogram.quantile(1.0), Some(Duration::from_micros(1000)));
        for share in [0.5, 0.9, 0.99] {
            let found = histogram.quantile(share).unwrap().as_secs_f64();
            assert!((found / (share / 1000.0) - 1.0).abs() < 0.01, "{share} {found}");
        }
        histogram.add(Duration::MAX);
        assert_eq!(histogram.quantile(1.0).map(|longest| longest > Duration::from_secs(4000)), Some(true));
    }
}
