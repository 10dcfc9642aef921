//! The clocks, cheap enough to be asked for every deadline: coarse, and standing still while a worker's turn lasts.

use std::cell::Cell;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// What the clocks showed in this turn; 0: not asked yet.
#[derive(Clone, Copy)]
struct Turn {
    monotonic_ms: u64,
    unix_ms: u64,
}

thread_local! {
    /// `None` on threads that have no turns.
    static TURN: Cell<Option<Turn>> = const { Cell::new(None) };
}

/// Says that a turn of this thread's loop begins: until the next one both clocks show what they show now. A thread that
/// calls this once must go on to, whenever it has waited, until [`turns_end`].
pub fn turn() {
    TURN.set(Some(Turn { monotonic_ms: 0, unix_ms: 0 }));
}

/// Says that this thread has no more turns: the clocks go on as for everybody.
pub fn turns_end() {
    TURN.set(None);
}

/// Milliseconds on the monotonic clock, up to one kernel tick (1 to 10 ms) behind; only differences mean anything.
pub fn monotonic_ms() -> u64 {
    let Some(turn) = TURN.get() else { return coarse_ms(ClockId::MonotonicCoarse) };
    if turn.monotonic_ms != 0 {
        return turn.monotonic_ms;
    }
    let monotonic_ms = coarse_ms(ClockId::MonotonicCoarse);
    TURN.set(Some(Turn { monotonic_ms, ..turn }));
    monotonic_ms
}

/// The time as std has it, behind by as much as [`monotonic_ms`].
pub fn instant() -> Instant {
    static ORIGIN: OnceLock<(Instant, u64)> = OnceLock::new();
    let (origin, origin_ms) = ORIGIN.get_or_init(|| (Instant::now(), monotonic_ms()));
    *origin + Duration::from_millis(monotonic_ms().saturating_sub(*origin_ms))
}

/// Milliseconds since 1970, up to one kernel tick behind.
pub fn unix_ms() -> u64 {
    let Some(turn) = TURN.get() else { return coarse_ms(ClockId::RealtimeCoarse) };
    if turn.unix_ms != 0 {
        return turn.unix_ms;
    }
    let unix_ms = coarse_ms(ClockId::RealtimeCoarse);
    TURN.set(Some(Turn { unix_ms, ..turn }));
    unix_ms
}

/// No system call: the kernel keeps these clocks in memory that every process sees.
fn coarse_ms(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    // Before 1970 is as good as 1970.
    u64::try_from(time.tv_sec).unwrap_or_default() * 1000
        + u64::try_from(time.tv_nsec).unwrap_or_default() / 1_000_000
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    fn passes(clock: fn() -> u64) -> bool {
        let (before, deadline) = (clock(), Instant::now() + Duration::from_millis(200));
        while Instant::now() < deadline {
            if clock() > before {
                return true;
            }
        }
        false
    }

    #[test]
    fn the_clocks_run_but_for_a_turn() {
        assert!(passes(monotonic_ms) && passes(unix_ms));
        turn();
        assert!(!passes(monotonic_ms) && !passes(unix_ms));
        let before = (monotonic_ms(), unix_ms());
        turn();
        assert!(monotonic_ms() > before.0 && unix_ms() > before.1);
    }

    #[test]
    fn an_instant_is_near_that_of_std() {
        let (before, now, behind) = (Instant::now(), instant(), Instant::now());
        let slack = Duration::from_secs(1);
        assert!(now + slack > before && now < behind + slack);
    }

    #[test]
    fn unix_time_is_that_of_std() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64;
        assert!(now.abs_diff(unix_ms()) < 1000);
    }
}
