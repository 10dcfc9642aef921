//! From "socket N became readable" to the watcher: a queue of slot numbers.
//!
//! Wakers must be `Send`, so this much of the pool is. The event loop of the same thread wakes them; the locks are
//! never contended.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

#[derive(Default)]
pub(super) struct Ready {
    queue: Mutex<VecDeque<Arc<SlotWaker>>>,
    watcher: Mutex<Option<Waker>>,
}

/// The waker of one slot.
pub(super) struct SlotWaker {
    index: usize,
    queued: AtomicBool,
    ready: std::sync::Weak<Ready>,
}

impl SlotWaker {
    pub(super) fn waker(index: usize, ready: &Arc<Ready>) -> Waker {
        let queued = AtomicBool::new(false);
        Waker::from(Arc::new(SlotWaker { index, queued, ready: Arc::downgrade(ready) }))
    }
}

impl Wake for SlotWaker {
    fn wake(self: Arc<Self>) {
        if self.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Some(ready) = self.ready.upgrade() {
            lock(&ready.queue).push_back(self);
            ready.wake_watcher();
        }
    }
}

impl Ready {
    /// How many slots are queued now.
    pub(super) fn len(&self) -> usize {
        lock(&self.queue).len()
    }

    /// The slot whose waker fired first since it was last popped.
    pub(super) fn pop(&self) -> Option<usize> {
        let slot = lock(&self.queue).pop_front()?;
        slot.queued.store(false, Ordering::Release);
        Some(slot.index)
    }

    pub(super) fn set_watcher(&self, waker: &Waker) {
        let mut watcher = lock(&self.watcher);
        if !watcher.as_ref().is_some_and(|old| old.will_wake(waker)) {
            *watcher = Some(waker.clone());
        }
    }

    pub(super) fn wake_watcher(&self) {
        if let Some(waker) = &*lock(&self.watcher) {
            waker.wake_by_ref();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
