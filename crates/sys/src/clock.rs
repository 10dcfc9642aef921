//! The monotonic clock, cheap enough to be read once a turn.

use rustix::time::{ClockId, clock_gettime};

/// Milliseconds since an arbitrary start, from `CLOCK_MONOTONIC_COARSE`: no system call, up to one kernel tick
/// (1 to 10 ms) behind.
pub fn coarse_ms() -> u64 {
    milliseconds(ClockId::MonotonicCoarse)
}

/// Milliseconds since the same start as [`coarse_ms`], exact.
pub fn monotonic_ms() -> u64 {
    milliseconds(ClockId::Monotonic)
}

fn milliseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    // Neither field is negative on a monotonic clock.
    time.tv_sec as u64 * 1_000 + time.tv_nsec as u64 / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coarse_clock_follows_the_exact_one() {
        let before = coarse_ms();
        let exact = monotonic_ms();
        assert!(exact >= before, "the coarse clock is never ahead: {before} {exact}");
        assert!(exact - before < 1_000, "both count from one start: {before} {exact}");
    }
}
