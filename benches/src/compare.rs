//! Figures of several runs of two proxies, and what may be said of them together.

use serde::Serialize;

/// What one run of one proxy gave.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Sample {
    /// The figure compared: in the unit of its row.
    pub(crate) cost: f64,
    /// Operations a second.
    pub(crate) per_second: f64,
    /// 99 of 100 operations were no slower, microseconds.
    pub(crate) p99_us: f64,
    /// How much of its core the load took.
    pub(crate) load_busy: f64,
    /// Part of the time in which the proxy waited for a core others used.
    pub(crate) waited: f64,
}

/// Medians of a peer's samples, field by field.
pub(crate) fn medians(samples: &[Sample]) -> Sample {
    let median_of = |field: fn(&Sample) -> f64| quantile(&samples.iter().map(field).collect::<Vec<_>>(), 0.5);
    Sample {
        cost: median_of(|sample| sample.cost),
        per_second: median_of(|sample| sample.per_second),
        p99_us: median_of(|sample| sample.p99_us),
        load_busy: median_of(|sample| sample.load_busy),
        waited: median_of(|sample| sample.waited),
    }
}

/// Ours against the reference's: ratio of medians, and the middle half of the ratios pair by pair. The latter is what
/// shows whether the former means anything: pairs run side by side see the same weather.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Ratio {
    pub(crate) of_medians: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Ratio {
    /// From samples in the order of their pairs.
    pub(crate) fn new(ours: &[Sample], reference: &[Sample]) -> Self {
        let pairs: Vec<f64> = ours.iter().zip(reference).map(|(a, b)| a.cost / b.cost).collect();
        Self {
            of_medians: medians(ours).cost / medians(reference).cost,
            low: quantile(&pairs, 0.25),
            high: quantile(&pairs, 0.75),
        }
    }
}

/// Linear between neighbours; NaN of nothing.
pub(crate) fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted: Vec<f64> = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let place = share * last as f64;
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    sorted[below] + (sorted[above] - sorted[below]) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(costs: &[f64]) -> Vec<Sample> {
        costs.iter().map(|cost| Sample { cost: *cost, ..Sample::default() }).collect()
    }

    #[test]
    fn quantiles() {
        let check = |values: &[f64], share: f64, expected: f64| assert_eq!(quantile(values, share), expected);
        check(&[3.0, 1.0, 2.0], 0.5, 2.0);
        check(&[4.0, 1.0, 2.0, 3.0], 0.5, 2.5);
        check(&[1.0, 2.0, 3.0, 4.0, 5.0], 0.25, 2.0);
        check(&[7.0], 0.75, 7.0);
        assert!(quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn a_slow_moment_hits_both_of_a_pair() {
        let ratio = Ratio::new(&samples(&[9.0, 18.0, 9.0]), &samples(&[10.0, 20.0, 10.0]));
        assert_eq!((ratio.of_medians, ratio.low, ratio.high), (0.9, 0.9, 0.9));
    }
}
