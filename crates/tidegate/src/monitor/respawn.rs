//! A serving process that died is replaced: at once, unless it died at once; then ever slower, but always.

use std::time::{Duration, Instant};

/// A serving process that lived this long died of something else than its start.
const HEALTHY: Duration = Duration::from_secs(10);
const FIRST: Duration = Duration::from_millis(100);
const SLOWEST: Duration = Duration::from_secs(10);

/// When to start the next serving process.
#[derive(Default)]
pub(super) struct Respawn {
    /// The moment, while one is planned.
    pub(super) at: Option<Instant>,
    delay: Duration,
}

impl Respawn {
    /// Plan the next start after one that lived `lived`: at once, unless it died at once.
    pub(super) fn after(&mut self, lived: Duration) {
        if lived >= HEALTHY {
            self.delay = Duration::ZERO;
        }
        self.at = Some(Instant::now() + self.delay);
        self.delay = (self.delay * 2).clamp(FIRST, SLOWEST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_dies_at_once_is_started_ever_slower_but_always() {
        let mut respawn = Respawn::default();
        let mut delays = Vec::new();
        for _ in 0..10 {
            delays.push(respawn.delay.as_millis());
            respawn.after(Duration::from_millis(5));
            assert!(respawn.at.is_some());
        }
        assert_eq!(delays, [0, 100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        respawn.after(HEALTHY);
        assert_eq!(respawn.delay, FIRST);
    }
}
