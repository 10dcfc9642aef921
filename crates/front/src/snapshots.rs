//! Which configuration holds: the newest, and older ones while connections of their listeners may still come.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use http::Snapshot;
use http::config::ListenAddr;
use http::message::SnapshotRef;

/// Where workers send snapshots they let go of.
pub type Retired = Arc<dyn Fn(Arc<Snapshot>) + Send + Sync>;

/// The snapshots a worker holds.
pub(crate) struct Snapshots {
    current: RefCell<SnapshotRef>,
    /// Snapshots with listeners that the next ones lack, until their sockets are accepted empty.
    leaving: RefCell<Vec<SnapshotRef>>,
    lost_listeners: Cell<bool>,
    cutoff: Cell<u64>,
    retired: Retired,
}

impl Snapshots {
    pub(crate) fn new(first: Arc<Snapshot>, retired: Retired) -> Snapshots {
        Snapshots {
            current: RefCell::new(hold(first, &retired)),
            leaving: RefCell::default(),
            lost_listeners: Cell::new(false),
            cutoff: Cell::new(0),
            retired,
        }
    }

    /// The configuration for a request that begins now.
    pub(crate) fn current(&self) -> SnapshotRef {
        self.current.borrow().clone()
    }

    /// Whether a request that begins now would get this one.
    pub(crate) fn is_current(&self, snapshot: &SnapshotRef) -> bool {
        snapshot.same(&self.current.borrow())
    }

    /// The configuration for a connection that was accepted now on this listener.
    pub(crate) fn of_listener(&self, listener: &ListenAddr) -> SnapshotRef {
        let current = self.current();
        if has_listener(&current, listener) {
            return current;
        }
        let leaving = self.leaving.borrow();
        leaving.iter().rev().find(|old| has_listener(old, listener)).cloned().unwrap_or(current)
    }

    /// Makes this the current one; true when it lacks a listener of the last.
    pub(crate) fn install(&self, snapshot: Arc<Snapshot>) -> bool {
        let old = self.current.replace(hold(snapshot, &self.retired));
        let current = self.current();
        if old.listeners.iter().all(|listener| has_listener(&current, &listener.addr)) {
            return false;
        }
        self.lost_listeners.set(true);
        self.leaving.borrow_mut().push(old);
        true
    }

    /// No connection of a listener that left can arrive any more.
    pub(crate) fn settled(&self) {
        let leaving = self.leaving.take();
        drop(leaving);
    }

    /// Whether a reload took a listener away: connections may be without a home.
    pub(crate) fn lost_listeners(&self) -> bool {
        self.lost_listeners.get()
    }

    /// Requests of generations below this are given up.
    pub(crate) fn cutoff(&self) -> u64 {
        self.cutoff.get()
    }

    /// Gives up requests of generations before this.
    pub(crate) fn retire(&self, generation: u64) {
        // A later reload may have had the shorter timeout.
        self.cutoff.set(generation.max(self.cutoff()));
    }
}

fn has_listener(snapshot: &Snapshot, addr: &ListenAddr) -> bool {
    snapshot.listeners.iter().any(|listener| listener.addr == *addr)
}

fn hold(snapshot: Arc<Snapshot>, retired: &Retired) -> SnapshotRef {
    let retired = retired.clone();
    SnapshotRef::new(snapshot, move |snapshot| retired(snapshot))
}
