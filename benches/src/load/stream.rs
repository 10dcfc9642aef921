//! One kind of operation over a run: when the next is due, which connection may take it, how long each took.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::histogram::Histogram;
use super::orders::{Latencies, Pace};

/// A paced load starts its operations in small bursts, once in this time.
pub(crate) const TICK: Duration = Duration::from_millis(1);

/// Operations of one kind.
pub(crate) struct Stream {
    pace: Pace,
    started: Instant,
    ticks: u64,
    issued: u64,
    /// Due, but no connection was free yet.
    due: VecDeque<Instant>,
    /// Connections that may take an operation, longest idle first.
    pub(crate) idle: VecDeque<usize>,
    latencies: Histogram,
}

impl Stream {
    /// A stream whose clock starts now.
    pub(crate) fn new(pace: Pace, now: Instant) -> Self {
        Self {
            pace,
            started: now,
            ticks: 0,
            issued: 0,
            due: VecDeque::new(),
            idle: VecDeque::new(),
            latencies: Histogram::new(),
        }
    }

    /// Brings the list of due operations up to `now`.
    pub(crate) fn advance(&mut self, now: Instant) {
        let Pace::PerSecond(rate) = self.pace else { return };
        let ticks = (now.duration_since(self.started).as_nanos() / TICK.as_nanos()) as u64;
        while self.ticks < ticks {
            self.ticks += 1;
            let at = self.started + TICK * self.ticks as u32;
            let wanted = (rate * TICK.as_secs_f64() * self.ticks as f64) as u64;
            while self.issued < wanted {
                self.issued += 1;
                self.due.push_back(at);
            }
        }
    }

    /// The next operation that may start: the moment it was due.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Instant> {
        match self.pace {
            Pace::Off => None,
            Pace::Closed => Some(now),
            Pace::PerSecond(_) => self.due.pop_front(),
        }
    }

    /// The next operation together with the connection that takes it.
    pub(crate) fn next_idle(&mut self, now: Instant) -> Option<(usize, Instant)> {
        if self.idle.is_empty() {
            return None;
        }
        let due = self.next(now)?;
        Some((self.idle.pop_front()?, due))
    }

    /// Counts an operation that ended now.
    pub(crate) fn ended(&mut self, due: Instant) {
        self.latencies.add(due.elapsed());
    }

    /// Starts the measured stretch.
    pub(crate) fn clear(&mut self) {
        self.latencies.clear();
    }

    /// What was measured.
    pub(crate) fn latencies(&self) -> Latencies {
        Latencies {
            count: self.latencies.total(),
            p50_us: self.latencies.quantile(0.5),
            p99_us: self.latencies.quantile(0.99),
            max_us: self.latencies.quantile(1.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kept_whatever_the_ticks_were() {
        let start = Instant::now();
        let mut stream = Stream::new(Pace::PerSecond(2_500.0), start);
        let mut count_at = |ms: u64| {
            stream.advance(start + Duration::from_millis(ms));
            std::iter::from_fn(|| stream.next(start)).count()
        };
        let counts = [count_at(0), count_at(1), count_at(2), count_at(3), count_at(1000)];
        assert_eq!(counts, [0, 2, 3, 2, 2_493]);
    }

    #[test]
    fn an_operation_waits_for_a_free_connection_and_keeps_its_due_time() {
        let start = Instant::now();
        let mut stream = Stream::new(Pace::PerSecond(1_000.0), start);
        stream.advance(start + Duration::from_millis(2));
        assert_eq!(stream.next_idle(start), None);
        stream.idle.push_back(7);
        assert_eq!(stream.next_idle(start), Some((7, start + TICK)));
    }
}
