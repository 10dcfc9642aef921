//! Giving memory back after a peak.
//!
//! What requests need is kept for the next ones. When a worker that had many at once has fallen quiet, that is waste, and
//! what a crowd of new tunnels left free between them is too.

use std::rc::{Rc, Weak};
use std::time::Duration;

use http::clock::monotonic_ms;

use crate::worker::Worker;

/// A worker without a new request for so long is quiet.
const QUIET: Duration = Duration::from_millis(50);
/// Requests at once that make a peak.
const PEAK: usize = 8;
/// Least time between two cleanings, milliseconds.
const INTERVAL_MS: u64 = 10_000;

/// Looks after a worker for as long as it is busy; started by its first request after a quiet time.
pub(crate) fn start(worker: &Rc<Worker>) {
    reactor::spawn(look_after(Rc::downgrade(worker)));
}

async fn look_after(worker: Weak<Worker>) {
    let mut seen = 0;
    loop {
        reactor::sleep(QUIET).await;
        let Some(worker) = worker.upgrade() else { return };
        let requests = worker.requests_begun();
        if std::mem::replace(&mut seen, requests) != requests {
            continue;
        }
        let now_ms = monotonic_ms();
        if worker.spare_requests() >= PEAK && now_ms >= worker.cleaned_ms() + INTERVAL_MS {
            worker.clean(now_ms);
            http::pool::clear();
            sys::memory::trim();
        }
        return worker.looked_after(false);
    }
}
