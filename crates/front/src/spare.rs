//! What requests need is kept for the next ones, and given back after a peak: when a worker that had many requests at once
//! has fallen quiet, what it keeps is waste, and what a crowd of new tunnels left free between them is too.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::time::Duration;

use http::clock::monotonic_ms;
use http::message::SnapshotRef;
use http::output::Chunk;
use http::{Connection, Request};

/// Most requests kept for reuse.
const SPARE_MAX: usize = 64;
/// Slots of a response queue beyond which it is not kept.
const QUEUE_KEPT_MAX: usize = 64;
/// A worker without a new request for so long is quiet.
const QUIET: Duration = Duration::from_millis(50);
/// Requests at once that make a peak.
const PEAK: usize = 8;
/// Least time between two cleanings, milliseconds.
const INTERVAL_MS: u64 = 10_000;

/// Requests and response queues of a worker that are not in use, with the memory they grew.
#[derive(Default)]
pub(crate) struct Spare {
    #[expect(clippy::vec_box, reason = "a request is moved between tasks by its pointer")]
    requests: RefCell<Vec<Box<Request>>>,
    queues: RefCell<Vec<VecDeque<Chunk>>>,
    /// Requests there have been, and whether [`look_after`] watches their number.
    begun: Cell<u64>,
    looked_after: Cell<bool>,
    cleaned_ms: Cell<u64>,
}

impl Spare {
    /// A request to fill.
    pub(crate) fn request(
        self: &Rc<Self>,
        snapshot: SnapshotRef,
        connection: Rc<Connection>,
    ) -> Box<Request> {
        self.begun.set(self.begun.get() + 1);
        if !self.looked_after.replace(true) {
            reactor::spawn(look_after(Rc::downgrade(self)));
        }
        let spare = self.requests.borrow_mut().pop();
        match spare {
            Some(mut request) => {
                request.snapshot = snapshot;
                request.connection = connection;
                request
            }
            None => Box::new(Request::new(snapshot, connection)),
        }
    }

    /// Keeps a cleared request. It holds its snapshot, so it must be of the current one.
    pub(crate) fn keep_request(&self, request: Box<Request>) {
        let mut requests = self.requests.borrow_mut();
        if requests.len() < SPARE_MAX {
            requests.push(request);
        }
    }

    /// Drops the requests, and with them their hold on the snapshot.
    pub(crate) fn drop_requests(&self) {
        self.requests.borrow_mut().clear();
    }

    /// An empty response queue.
    pub(crate) fn queue(&self) -> VecDeque<Chunk> {
        self.queues.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes a response queue back.
    pub(crate) fn keep_queue(&self, mut queue: VecDeque<Chunk>) {
        queue.clear();
        let mut queues = self.queues.borrow_mut();
        if queues.len() < SPARE_MAX && queue.capacity() <= QUEUE_KEPT_MAX {
            queues.push(queue);
        }
    }

    /// After a peak, frees all that is kept here and by this thread's buffer pool, unless that was done a moment ago.
    fn clean(&self) {
        let now_ms = monotonic_ms();
        if self.requests.borrow().len() < PEAK || now_ms < self.cleaned_ms.get() + INTERVAL_MS {
            return;
        }
        self.cleaned_ms.set(now_ms);
        self.requests.take();
        self.queues.take();
        http::pool::clear();
        sys::memory::trim();
    }
}

/// Waits until no request has come for a while; the first one after that starts it again.
async fn look_after(spare: Weak<Spare>) {
    let mut seen = 0;
    loop {
        reactor::sleep(QUIET).await;
        let Some(spare) = spare.upgrade() else { return };
        let begun = spare.begun.get();
        if std::mem::replace(&mut seen, begun) != begun {
            continue;
        }
        spare.clean();
        return spare.looked_after.set(false);
    }
}
