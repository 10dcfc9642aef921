//! `proxy_limit_rate`: how fast a response is read from its upstream.

use std::task::{Context, Poll, ready};

use http::clock::unix_ms;
use reactor::Timer;

/// Counts whole seconds, as nginx does: every second since the start allows `rate` bytes more.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Bytes a second; 0 is no limit.
    rate: u64,
    started_s: u64,
    taken: u64,
    timer: Timer,
}

impl Pace {
    /// Begins with a response of which `taken` bytes are here already.
    pub(crate) fn start(&mut self, rate: u64, taken: usize) {
        (self.rate, self.started_s, self.taken) = (rate, unix_ms() / 1000, taken as u64);
        self.timer.clear();
    }

    /// Waits until something may be read; how much, `None` for any amount.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<usize>> {
        if self.rate == 0 {
            return Poll::Ready(None);
        }
        loop {
            if self.timer.is_set() {
                ready!(self.timer.poll(cx));
                self.timer.clear();
            }
            let seconds = (unix_ms() / 1000).saturating_sub(self.started_s) + 1;
            let allowed = self.rate.saturating_mul(seconds);
            if allowed > self.taken {
                return Poll::Ready(Some(usize::try_from(allowed - self.taken).unwrap_or(usize::MAX)));
            }
            self.timer.set((self.taken - allowed).saturating_mul(1000) / self.rate + 1);
        }
    }

    /// So much was read: the time it should take passes before the next read.
    pub(crate) fn took(&mut self, count: usize) {
        if let Some(time_ms) = (count as u64).saturating_mul(1000).checked_div(self.rate) {
            self.taken += count as u64;
            self.timer.set(time_ms);
        }
    }
}
