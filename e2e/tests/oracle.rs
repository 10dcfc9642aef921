//! Random configurations, clients and upstreams, with nginx beside us. A failure prints seed and number of the trial:
//! `TIDEGATE_SEED=1 TIDEGATE_TRIAL=17` plays that one, `TIDEGATE_TRIALS=5000` as many.
#![forbid(unsafe_code)]

use tidegate_e2e::{oracle, places};

/// Trials without asking for more.
const TRIALS: u64 = 2 * oracle::ROUND;
/// So many of a hundred, in a whole round, are compared in everything.
const COMPARED_PERCENT: usize = 80;

/// Named so that `cargo xtask test` says that it is skipped where there is no nginx.
mod nginx {
    use super::*;

    #[test]
    fn does_the_same() {
        if places::nginx().is_none() {
            println!("no nginx to compare with");
            return;
        }
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
        let seed = number("TIDEGATE_SEED").unwrap_or(1);
        let numbers = match number("TIDEGATE_TRIAL") {
            Some(one) => one..one + 1,
            None => 0..number("TIDEGATE_TRIALS").unwrap_or(TRIALS),
        };
        let is_much = numbers.end - numbers.start >= oracle::ROUND;
        let tally = oracle::run(seed, numbers);
        println!("{tally:#?}");
        assert_eq!(tally.found, 0, "nginx does something else, seed {seed}");
        let compared = tally.played - tally.excused;
        assert!(
            !is_much || compared * 100 >= tally.played * COMPARED_PERCENT,
            "excused too much: {tally:#?}"
        );
    }
}
