//! Timers of tasks.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use sys::clock::monotonic_ms;

use crate::here;

const NEVER: u64 = u64::MAX;

/// A deadline that costs nothing to set, to push back or to clear: the loop is only told when it comes nearer than what the
/// loop waits for. It is off to begin with.
#[derive(Debug)]
pub struct Timer {
    at_ms: u64,
    /// When the loop wakes us to look at `at_ms`.
    looks_ms: u64,
    /// The entry in the loop's wheel.
    entry: Option<u32>,
}

impl Default for Timer {
    fn default() -> Timer {
        Timer { at_ms: NEVER, looks_ms: NEVER, entry: None }
    }
}

impl Timer {
    /// Fires `ms` milliseconds from now.
    pub fn set(&mut self, ms: u64) {
        self.set_at(monotonic_ms().saturating_add(ms));
    }

    /// Fires at a time of [`sys::clock::monotonic_ms`].
    pub fn set_at(&mut self, at_ms: u64) {
        self.at_ms = at_ms;
        if at_ms < self.looks_ms
            && let Some(entry) = self.entry
        {
            self.looks_ms = at_ms;
            here::with(|here| here.wheel.borrow_mut().advance(entry, at_ms));
        }
    }

    /// Fires no more.
    pub fn clear(&mut self) {
        self.at_ms = NEVER;
    }

    /// Whether it is on.
    pub fn is_set(&self) -> bool {
        self.at_ms != NEVER
    }

    /// Ready when the time has come, and from then on until it is set anew. Pending, it wakes the task then; never when it
    /// is off.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.at_ms == NEVER {
            return Poll::Pending;
        }
        if monotonic_ms() >= self.at_ms {
            return Poll::Ready(());
        }
        here::with(|here| {
            let mut wheel = here.wheel.borrow_mut();
            match self.entry {
                Some(entry) => self.looks_ms = wheel.update(entry, self.at_ms, cx.waker()),
                None => {
                    self.looks_ms = self.at_ms;
                    self.entry = Some(wheel.add(self.at_ms, cx.waker()));
                }
            }
        });
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if let Some(entry) = self.entry {
            here::with(|here| here.wheel.borrow_mut().remove(entry));
        }
    }
}

/// What [`sleep`] returns.
#[derive(Debug)]
pub struct Sleep(Timer);

/// Ready after so long, to 4 milliseconds. Polled on a loop's thread.
pub fn sleep(time: Duration) -> Sleep {
    let mut timer = Timer::default();
    timer.set(milliseconds(time));
    Sleep(timer)
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll(cx)
    }
}

/// The time of [`timeout`] was up first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time is up")
    }
}

impl std::error::Error for Elapsed {}

/// What the future comes to, if it does so in time.
///
/// # Errors
/// [`Elapsed`]; the future is dropped then.
pub async fn timeout<F: Future>(limit: Duration, future: F) -> Result<F::Output, Elapsed> {
    let mut future = pin!(future);
    let mut timer = Timer::default();
    timer.set(milliseconds(limit));
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Ok(output)),
        Poll::Pending => timer.poll(cx).map(|()| Err(Elapsed)),
    })
    .await
}

/// Rounded up: nobody wants half a millisecond to be none.
fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(NEVER - 1)
}
