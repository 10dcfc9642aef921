//! Connections that wait for a request: woken when the worker's state changes, and closed, the oldest first, when room runs
//! short.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;

use slab::Slab;

/// The connections of a worker.
#[derive(Default)]
pub(crate) struct Sleepers {
    all: RefCell<Slab<Sleeping>>,
    /// Counts the waits for a request, which tells the older from the younger.
    waits: Cell<u64>,
}

/// A task that can be woken.
struct Sleeping {
    waker: Waker,
    /// Number of its wait for a request; 0: it has one.
    wait: u64,
    /// It is to close rather than wait.
    dismissed: bool,
}

impl Sleepers {
    /// Registers a task that wants to be woken when the worker's state changes.
    pub(crate) fn add(self: &Rc<Self>, waker: Waker) -> Sleeper {
        let sleeping = Sleeping { waker, wait: 0, dismissed: false };
        Sleeper { key: self.all.borrow_mut().insert(sleeping), sleepers: self.clone() }
    }

    pub(crate) fn wake_all(&self) {
        for (_, one) in self.all.borrow().iter() {
            one.waker.wake_by_ref();
        }
    }

    /// Has so many idle connections close, those that wait for the longest time; how many there were.
    pub(crate) fn shed(&self, count: usize) -> usize {
        let mut all = self.all.borrow_mut();
        let idle = all.iter().filter(|(_, one)| one.wait > 0 && !one.dismissed);
        let mut idle: Vec<(u64, usize)> = idle.map(|(key, one)| (one.wait, key)).collect();
        if idle.len() > count {
            idle.select_nth_unstable(count);
            idle.truncate(count);
        }
        for (_, key) in &idle {
            all[*key].dismissed = true;
            all[*key].waker.wake_by_ref();
        }
        idle.len()
    }
}

/// A task's place among those to wake.
pub(crate) struct Sleeper {
    key: usize,
    sleepers: Rc<Sleepers>,
}

impl Sleeper {
    /// It waits for a request from now on.
    pub(crate) fn is_idle(&self) {
        let wait = self.sleepers.waits.get() + 1;
        self.sleepers.waits.set(wait);
        let mut all = self.sleepers.all.borrow_mut();
        all[self.key].wait = wait;
        all[self.key].dismissed = false;
    }

    /// It has one.
    pub(crate) fn is_busy(&self) {
        self.sleepers.all.borrow_mut()[self.key].wait = 0;
    }

    /// Whether its place is needed.
    pub(crate) fn is_dismissed(&self) -> bool {
        self.sleepers.all.borrow()[self.key].dismissed
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.sleepers.all.borrow_mut().remove(self.key);
    }
}
