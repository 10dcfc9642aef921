//! A worker from its own tasks' side: what all connections of one thread share.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use http::{Request, Snapshot};

use crate::handle::Load;
use crate::shared::Shared;
use crate::sleepers::Sleepers;
use crate::snapshots::Snapshots;
use crate::spare::Spare;
use crate::tunnel::Relay;

/// What the connections of one thread share.
pub(crate) struct Worker {
    /// With the other workers.
    pub(crate) shared: Arc<Shared>,
    /// Connections here; the acceptor looks for the worker with the fewest.
    pub(crate) load: Load,
    pub(crate) snapshots: Snapshots,
    pub(crate) sleepers: Rc<Sleepers>,
    pub(crate) spare: Rc<Spare>,
    pub(crate) relay: Relay,
    quitting: Cell<bool>,
}

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>, load: Load, snapshots: Snapshots, relay: Relay) -> Worker {
        Worker {
            shared,
            load,
            snapshots,
            sleepers: Rc::default(),
            spare: Rc::default(),
            relay,
            quitting: Cell::new(false),
        }
    }

    /// Whether connections without a request are to close.
    pub(crate) fn is_quitting(&self) -> bool {
        self.quitting.get()
    }

    /// Takes a request back for reuse, unless it belongs to an old snapshot.
    pub(crate) fn give_back(&self, mut request: Box<Request>) {
        request.clear();
        if self.snapshots.is_current(&request.snapshot) {
            self.spare.keep_request(request);
        }
    }

    /// Serves this from the next request on.
    pub(crate) fn install(&self, snapshot: Arc<Snapshot>) {
        let lost_listeners = self.snapshots.install(snapshot);
        // These hold the old snapshot: it is given back now if nobody else uses it.
        self.spare.drop_requests();
        if lost_listeners {
            // Idle connections of the listener that left close now rather than at their next request.
            self.sleepers.wake_all();
        }
    }

    /// Takes no new requests; idle connections close.
    pub(crate) fn quit(&self) {
        self.quitting.set(true);
        self.sleepers.wake_all();
    }

    /// Gives up requests that run under generations before this.
    pub(crate) fn retire(&self, generation: u64) {
        self.snapshots.retire(generation);
        self.sleepers.wake_all();
    }
}
