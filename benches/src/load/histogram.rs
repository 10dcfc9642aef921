//! Latencies in buckets of about three per cent, so that a run of millions costs 8 KB and no allocation.

use std::time::Duration;

/// Buckets per doubling.
const STEPS: u64 = 32;
/// Doublings covered above `STEPS` microseconds; the last bucket (over half an hour) takes all that is slower.
const DOUBLINGS: u64 = 26;

/// Counts of latencies in microseconds.
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Histogram {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self { counts: vec![0; (STEPS * (DOUBLINGS + 1)) as usize], total: 0 }
    }

    /// Adds one latency.
    pub(crate) fn add(&mut self, latency: Duration) {
        let micros = latency.as_micros().min(u128::from(u64::MAX)) as u64;
        let last = self.counts.len() - 1;
        self.counts[bucket(micros).min(last)] += 1;
        self.total += 1;
    }

    /// How many were added.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// Upper edge, in microseconds, of the bucket that holds the given share (0.0..=1.0) of all; 0 when empty.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let wanted = (self.total as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return upper_edge(index as u64) as f64;
            }
        }
        0.0
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.counts.fill(0);
        self.total = 0;
    }
}

fn bucket(micros: u64) -> usize {
    if micros < STEPS {
        return micros as usize;
    }
    let doubling = u64::from(micros.ilog2() - STEPS.ilog2());
    let step = (micros >> doubling) - STEPS;
    (STEPS + doubling * STEPS + step) as usize
}

fn upper_edge(index: u64) -> u64 {
    if index < STEPS {
        return index;
    }
    let doubling = (index - STEPS) / STEPS;
    let step = (index - STEPS) % STEPS;
    ((STEPS + step + 1) << doubling) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_bucket() {
        for micros in (0..5_000).chain([60_000, 1_000_000, 59_999_999]) {
            let edge = upper_edge(bucket(micros) as u64);
            assert!(edge >= micros && edge <= micros + micros / 32 + 1, "{micros} -> {edge}");
        }
    }

    #[test]
    fn quantiles() {
        let check = |values: &[u64], share: f64, expected: f64| {
            let mut histogram = Histogram::new();
            values.iter().for_each(|value| histogram.add(Duration::from_micros(*value)));
            assert_eq!(histogram.quantile(share), expected, "{values:?} at {share}");
        };
        check(&[], 0.99, 0.0);
        check(&[7], 0.5, 7.0);
        check(&[1, 2, 3, 4], 0.5, 2.0);
        check(&[1, 2, 3, 4], 0.99, 4.0);
        check(&[5, 5, 5, 40_000_000_000_000], 1.0, upper_edge(STEPS * (DOUBLINGS + 1) - 1) as f64);
    }
}
