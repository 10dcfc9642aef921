//! A timer that costs nothing to push back: traffic only notes the new time, the sleep is moved when it fires.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::clock::monotonic_ms;
use tokio::time::{Instant, Sleep, sleep_until};

/// A deadline in milliseconds of the monotonic clock.
#[derive(Default)]
pub(crate) struct Deadline {
    at_ms: Option<u64>,
    sleep: Option<(u64, Pin<Box<Sleep>>)>,
}

impl Deadline {
    /// Fires `ms` from now.
    pub(crate) fn set(&mut self, ms: u64) {
        self.at_ms = Some(monotonic_ms().saturating_add(ms));
    }

    /// Fires no more.
    pub(crate) fn clear(&mut self) {
        self.at_ms = None;
    }

    /// Whether a deadline is set.
    pub(crate) fn is_set(&self) -> bool {
        self.at_ms.is_some()
    }

    /// Ready when the deadline has passed.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.at_ms else { return Poll::Pending };
        loop {
            match &mut self.sleep {
                // It fires no later than needed: when it does, look again.
                Some((fires, sleep)) if *fires <= at => {
                    if sleep.as_mut().poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                    let now = monotonic_ms();
                    if now >= at {
                        self.sleep = None;
                        return Poll::Ready(());
                    }
                    *fires = at;
                    sleep.as_mut().reset(instant(at - now));
                }
                Some((fires, sleep)) => {
                    *fires = at;
                    sleep.as_mut().reset(instant(at.saturating_sub(monotonic_ms())));
                }
                None => {
                    let left = at.saturating_sub(monotonic_ms());
                    self.sleep = Some((at, Box::pin(sleep_until(instant(left)))));
                }
            }
        }
    }
}

/// One tick of the coarse clock later, so that it has surely passed.
fn instant(left_ms: u64) -> Instant {
    Instant::now() + Duration::from_millis(left_ms.min(FAR_MS) + 4)
}

/// Nothing waits longer at once than ten years; an `Instant` has an end.
const FAR_MS: u64 = 10 * 366 * 86_400_000;
