//! What all workers of a process share: counts and limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// How much is going on, for the control thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections that are no tunnels.
    pub connections: usize,
    /// Requests being answered.
    pub requests: usize,
    /// Tunnels in the workers' loops.
    pub tunnels: usize,
}

/// The process's counts.
#[derive(Default)]
pub(crate) struct Shared {
    /// Connections in use, a tunnel counting two (D12).
    used: AtomicUsize,
    /// `worker_connections` x workers.
    pub(crate) limit: AtomicUsize,
    pub(crate) requests: AtomicUsize,
    pub(crate) tunnels: AtomicUsize,
    /// Connections accepted since the start.
    pub(crate) accepted: AtomicU64,
}

impl Shared {
    /// A seat for a connection; `None` when all are taken.
    pub(crate) fn seat(self: &Arc<Self>) -> Option<Seat> {
        let used = self.used.fetch_add(1, Ordering::Relaxed);
        let seat = Seat(self.clone());
        (used < self.limit.load(Ordering::Relaxed)).then_some(seat)
    }

    /// How many seats to free so that an eighth is free; 0 while more than a sixteenth is, nginx's mark for it.
    pub(crate) fn short_by(&self) -> usize {
        let limit = self.limit.load(Ordering::Relaxed);
        let free = limit.saturating_sub(self.used.load(Ordering::Relaxed));
        if free > limit / 16 { 0 } else { (limit / 8).max(1).saturating_sub(free) }
    }

    pub(crate) fn counts(&self) -> Counts {
        let tunnels = self.tunnels.load(Ordering::Relaxed);
        Counts {
            connections: self.used.load(Ordering::Relaxed).saturating_sub(2 * tunnels),
            requests: self.requests.load(Ordering::Relaxed),
            tunnels,
        }
    }
}

/// A connection's place in the count, given back when dropped.
pub(crate) struct Seat(Arc<Shared>);

impl Seat {
    /// The seats of a tunnel that a connection becomes; its second half is let in beyond the limit.
    pub(crate) fn for_tunnel(self) -> TunnelSeats {
        self.0.used.fetch_add(1, Ordering::Relaxed);
        self.0.tunnels.fetch_add(1, Ordering::Relaxed);
        TunnelSeats(self)
    }
}

/// A tunnel's two places in the count of connections, and its one in that of tunnels.
pub(crate) struct TunnelSeats(Seat);

impl Drop for TunnelSeats {
    fn drop(&mut self) {
        let shared = &self.0.0;
        shared.tunnels.fetch_sub(1, Ordering::Relaxed);
        shared.used.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.used.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts one up for as long as it lives.
pub(crate) struct Tally<'a>(pub(crate) &'a AtomicUsize);

impl<'a> Tally<'a> {
    pub(crate) fn new(count: &'a AtomicUsize) -> Tally<'a> {
        count.fetch_add(1, Ordering::Relaxed);
        Tally(count)
    }
}

impl Drop for Tally<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
