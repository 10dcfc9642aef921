//! What a loop has, reachable from everything that runs in it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

use sys::epoll::Epoll;

use crate::sources::Sources;
use crate::task::Tasks;
use crate::wheel::Wheel;

/// The loop of this thread.
pub(crate) struct Here {
    pub(crate) home: Arc<Home>,
    pub(crate) tasks: Tasks,
    pub(crate) sources: RefCell<Sources>,
    pub(crate) wheel: RefCell<Wheel>,
    /// How often the kernel was asked.
    pub(crate) turns: Cell<u64>,
    /// The turn before this one ended with tasks still waiting for their poll.
    pub(crate) behind: Cell<bool>,
    /// To be woken once the kernel was asked again.
    pub(crate) deferred: RefCell<Vec<Waker>>,
}

/// What other threads see of a loop.
pub(crate) struct Home {
    pub(crate) epoll: Arc<Epoll>,
    pub(crate) bell: sys::waker::Waker,
    /// Tasks woken by other threads.
    inbox: Mutex<Vec<u32>>,
}

thread_local! {
    static HERE: RefCell<Option<Rc<Here>>> = const { RefCell::new(None) };
    /// Reads that the task being polled may still do.
    static READS_LEFT: Cell<u32> = const { Cell::new(0) };
}

/// Calls `f` with this thread's loop, if it has one.
#[inline]
pub(crate) fn with<R>(f: impl FnOnce(&Here) -> R) -> Option<R> {
    // A thread that ends may drop its sockets and timers after its loop.
    HERE.try_with(|here| here.try_borrow().ok()?.as_deref().map(f)).ok()?
}

/// The number of this thread's turn: how often its loop has asked the kernel. 0 on a thread without a loop.
pub fn turn() -> u64 {
    with(|here| here.turns.get()).unwrap_or_default()
}

/// Whether this thread's loop has more tasks than it can poll in a turn, so that what is woken in one may run several later.
pub fn is_behind() -> bool {
    with(|here| here.behind.get()).unwrap_or_default()
}

/// Makes `here` this thread's loop; what was before comes back.
pub(crate) fn replace(here: Option<Rc<Here>>) -> Option<Rc<Here>> {
    HERE.with(|place| place.replace(here))
}

/// Begins the share of a task that is polled.
pub(crate) fn allow_reads(count: u32) {
    READS_LEFT.set(count);
}

/// Takes one read off the share of the task being polled; false when it is used up.
#[inline]
pub(crate) fn may_read() -> bool {
    let left = READS_LEFT.get();
    READS_LEFT.set(left.saturating_sub(1));
    left > 0
}

/// Wakes a task again after the kernel was asked.
pub(crate) fn defer(waker: &Waker) {
    if with(|here| here.deferred.borrow_mut().push(waker.clone())).is_none() {
        waker.wake_by_ref();
    }
}

impl Home {
    pub(crate) fn new(epoll: Arc<Epoll>, bell: sys::waker::Waker) -> Home {
        Home { epoll, bell, inbox: Mutex::default() }
    }

    /// Queues a task from another thread.
    pub(crate) fn send(&self, task: u32) {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        let first = inbox.is_empty();
        inbox.push(task);
        drop(inbox);
        if first {
            self.bell.wake();
        }
    }

    /// What other threads have queued.
    pub(crate) fn take(&self) -> Vec<u32> {
        std::mem::take(&mut *self.inbox.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
