//! The pool's one task.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use reactor::Timer;

use crate::pool::WeakShared;
use crate::pool::ready::Ready;

/// Closes connections that stirred or expired; done when the pool is gone.
pub(super) struct Watch {
    pool: WeakShared,
    ready: Arc<Ready>,
    timer: Timer,
}

impl Watch {
    pub(super) fn new(pool: WeakShared, ready: Arc<Ready>) -> Self {
        Watch { pool, ready, timer: Timer::default() }
    }
}

impl Future for Watch {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.ready.set_watcher(cx.waker());
        let Some(shared) = self.pool.upgrade() else { return Poll::Ready(()) };
        let mut state = shared.state.borrow_mut();
        state.close_stirred(&self.ready);
        loop {
            let now = Instant::now();
            let due = state.alarm.is_some_and(|alarm| alarm <= now);
            let alarm = if due { state.close_expired(now) } else { state.alarm };
            let Some(alarm) = alarm else { return Poll::Pending };
            // Rounded up, so that it has passed when we look again.
            let left = alarm.saturating_duration_since(now).as_millis() as u64 + 1;
            self.timer.set(left);
            if self.timer.poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}
