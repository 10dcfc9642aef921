//! Deadlines for requests: one sleeping task a thread for all of them, so that a request makes no timer of its own.
//!
//! A deadline is a number in a slot. The task sleeps until the earliest, looks at all slots, and sleeps again; nearly all
//! deadlines are cleared long before, which costs nothing but the write of the number.

use std::cell::RefCell;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::clock::monotonic_ms;
use tokio::time::sleep;

/// Least time between two looks, milliseconds: how late a deadline may be noticed.
const STEP_MS: u64 = 20;
const NEVER: u64 = u64::MAX;

/// One deadline.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    at_ms: Option<u64>,
    slot: Option<usize>,
}

impl Timer {
    /// Fires `ms` from now.
    pub(crate) fn set(&mut self, ms: u64) {
        let at_ms = monotonic_ms().saturating_add(ms);
        self.at_ms = Some(at_ms);
        if let Some(slot) = self.slot {
            WHEEL.with_borrow_mut(|wheel| wheel.set(slot, at_ms));
        }
    }

    /// Fires no more.
    pub(crate) fn clear(&mut self) {
        self.at_ms = None;
        if let Some(slot) = self.slot {
            WHEEL.with_borrow_mut(|wheel| wheel.slots[slot].at_ms = NEVER);
        }
    }

    /// Whether a deadline is set.
    pub(crate) fn is_set(&self) -> bool {
        self.at_ms.is_some()
    }

    /// Ready when it has passed.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at_ms) = self.at_ms else { return Poll::Pending };
        if monotonic_ms() >= at_ms {
            return Poll::Ready(());
        }
        WHEEL.with_borrow_mut(|wheel| {
            let slot = *self.slot.get_or_insert_with(|| wheel.take());
            wheel.wait(slot, at_ms, cx.waker());
        });
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let Some(slot) = self.slot else { return };
        // A thread that ends takes its wheel with it.
        let _ = WHEEL.try_with(|wheel| {
            if let Ok(mut wheel) = wheel.try_borrow_mut() {
                wheel.give_back(slot);
            }
        });
    }
}

#[derive(Default)]
struct Wheel {
    slots: Vec<Slot>,
    free: Vec<usize>,
    /// When the task looks next; 0: there is no task.
    looks_ms: u64,
    task: Option<Waker>,
}

struct Slot {
    at_ms: u64,
    waker: Option<Waker>,
}

thread_local! {
    static WHEEL: RefCell<Wheel> = RefCell::default();
}

impl Wheel {
    fn take(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { at_ms: NEVER, waker: None });
            self.slots.len() - 1
        })
    }

    fn give_back(&mut self, slot: usize) {
        self.slots[slot] = Slot { at_ms: NEVER, waker: None };
        self.free.push(slot);
    }

    fn wait(&mut self, slot: usize, at_ms: u64, waker: &Waker) {
        match &mut self.slots[slot].waker {
            Some(have) => have.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        self.set(slot, at_ms);
    }

    fn set(&mut self, slot: usize, at_ms: u64) {
        self.slots[slot].at_ms = at_ms;
        if self.looks_ms == 0 {
            self.looks_ms = at_ms;
            tokio::task::spawn_local(look(Ended));
        } else if at_ms < self.looks_ms {
            self.looks_ms = at_ms;
            if let Some(task) = self.task.take() {
                task.wake();
            }
        }
    }

    /// Wakes who is late; when to look again, `None` when nobody waits.
    fn turn(&mut self, now_ms: u64) -> Option<u64> {
        let mut next = NEVER;
        for slot in &mut self.slots {
            if slot.at_ms <= now_ms {
                slot.at_ms = NEVER;
                if let Some(waker) = &slot.waker {
                    waker.wake_by_ref();
                }
            }
            next = next.min(slot.at_ms);
        }
        (next != NEVER).then_some(next)
    }
}

/// The task: ends when nobody waits, is started again by the next who does.
async fn look(_ended: Ended) {
    loop {
        let until = WHEEL.with_borrow(|wheel| wheel.looks_ms);
        let left = until.saturating_sub(monotonic_ms()).max(STEP_MS);
        let mut nap = std::pin::pin!(sleep(Duration::from_millis(left)));
        let mut first = true;
        std::future::poll_fn(|cx| {
            WHEEL.with_borrow_mut(|wheel| wheel.task = Some(cx.waker().clone()));
            // Woken by an earlier deadline: sleep again, for less.
            let earlier = !std::mem::take(&mut first) && WHEEL.with_borrow(|wheel| wheel.looks_ms) < until;
            if earlier { Poll::Ready(()) } else { std::future::Future::poll(nap.as_mut(), cx) }
        })
        .await;
        let now = monotonic_ms();
        let more = WHEEL.with_borrow_mut(|wheel| match wheel.turn(now) {
            Some(next) => {
                wheel.looks_ms = next;
                true
            }
            None => false,
        });
        if !more {
            return;
        }
    }
}

/// However the task ends (its runtime may be dropped), the wheel knows that it has none.
struct Ended;

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = WHEEL.try_with(|wheel| {
            if let Ok(mut wheel) = wheel.try_borrow_mut() {
                wheel.looks_ms = 0;
                wheel.task = None;
            }
        });
    }
}
