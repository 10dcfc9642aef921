//! The pool's one task.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep, sleep_until};

use crate::pool::WeakShared;
use crate::pool::ready::Ready;

/// Closes connections that stirred or expired; done when the pool is gone.
pub(super) struct Watch {
    pool: WeakShared,
    ready: Arc<Ready>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Watch {
    pub(super) fn new(pool: WeakShared, ready: Arc<Ready>) -> Self {
        Watch { pool, ready, sleep: None }
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
            let due = state.alarm.is_some_and(|alarm| alarm <= Instant::now().into_std());
            let alarm = if due { state.close_expired(Instant::now().into_std()) } else { state.alarm };
            let Some(alarm) = alarm else { return Poll::Pending };
            let alarm = Instant::from_std(alarm);
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(alarm)));
            if sleep.deadline() != alarm {
                sleep.as_mut().reset(alarm);
            }
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}
