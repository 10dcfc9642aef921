//! Idle connections of one worker, lent again to requests that would have made the very same connection.
//!
//! Each upstream keeps at most `keepalive` of them, most recently used first. A kept connection that becomes readable
//! (the peer's FIN, or bytes nobody asked for) is closed at once by [`Pool::watch`], one task for the whole pool: a
//! kept connection costs a slot, no task, and no allocation once the pool has seen its busiest moment.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::hash::BuildQuickHasher;

use crate::{Connection, Group, KeepaliveSpec, Peer, PeerAddr};

mod ready;
mod slots;
#[cfg(test)]
mod tests;
mod watch;

use ready::Ready;
use slots::{List, Slots};

/// The idle connections of one worker. Cheap to clone; all clones are the same pool.
#[derive(Clone)]
pub struct Pool {
    shared: Rc<Shared>,
}

/// Everything a connection was made with. Two requests may share a connection only if all of it is equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolKey {
    /// The upstream's name.
    pub upstream: Arc<str>,
    /// The peer.
    pub addr: PeerAddr,
    /// The `proxy_bind` address.
    pub local: Option<SocketAddr>,
    /// Hash of the TLS settings and the server name; 0 is plain text.
    pub tls: u64,
    /// HTTP version times ten: 10, 11, 20.
    pub http: u8,
    /// Whether the connection began with a PROXY protocol header.
    pub proxy_header: bool,
    /// The location it belongs to; `None` where an upstream shares among locations (`keepalive N` without `local`).
    pub location: Option<u64>,
}

impl PoolKey {
    /// The key of a plain HTTP/1.1 connection of `group` to `peer`, made in `location`; the caller changes what else
    /// the connection has.
    pub fn new(group: &Group, peer: &Peer, location: u64) -> Self {
        PoolKey {
            upstream: Arc::clone(group.name_shared()),
            addr: peer.spec.addr.clone(),
            local: None,
            tls: 0,
            http: 11,
            proxy_header: false,
            location: group.keepalive().local.then_some(location),
        }
    }
}

/// Why a connection was closed rather than kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The upstream keeps none, or the pool is closed.
    Off,
    /// Something was sent over it (Upgrade, CONNECT, half a body) that makes its state unsure.
    Unfit,
    /// `keepalive_requests` is reached.
    Requests,
    /// `keepalive_time` is reached.
    Age,
    /// The peer closed it, or sent bytes nobody asked for.
    Stirred,
}

struct Shared {
    state: RefCell<State>,
    closed: Cell<bool>,
    ready: Arc<Ready>,
}

#[derive(Default)]
struct State {
    slots: Slots,
    /// By upstream.
    lists: HashMap<Arc<str>, List, BuildQuickHasher>,
    /// When the watcher must look for connections that were idle too long.
    alarm: Option<Instant>,
}

impl Pool {
    /// An empty pool. Its owner runs [`watch`](Self::watch) on the same worker.
    pub fn new() -> Self {
        let ready = Arc::new(Ready::default());
        Pool { shared: Rc::new(Shared { state: RefCell::default(), closed: Cell::new(false), ready }) }
    }

    /// The most recently used connection that was made with exactly `key`.
    pub fn take(&self, key: &PoolKey) -> Option<Connection> {
        let mut state = self.shared.state.borrow_mut();
        // What the event loop has noticed but the watcher had no turn to close.
        state.close_stirred(&self.shared.ready);
        let State { slots, lists, .. } = &mut *state;
        slots.take(lists.get_mut(&key.upstream)?, key)
    }

    /// Keeps a connection whose request and response are complete; beyond `connections` the longest idle one of the
    /// same upstream is closed for it.
    ///
    /// # Errors
    /// [`Refused`] says why the connection was closed instead.
    pub fn put(
        &self,
        key: PoolKey,
        connection: Connection,
        spec: &KeepaliveSpec,
        now: Instant,
    ) -> Result<(), Refused> {
        self.admit(&connection, spec, now)?;
        let mut state = self.shared.state.borrow_mut();
        let deadline = now + Duration::from_millis(spec.timeout_ms);
        let State { slots, lists, .. } = &mut *state;
        let list = lists.entry(Arc::clone(&key.upstream)).or_default();
        while list.len() >= spec.connections {
            slots.close_oldest(list);
        }
        let index = slots.insert(list, key, connection, deadline);
        if !state.check(index, &self.shared.ready) {
            return Err(Refused::Stirred);
        }
        if state.alarm.is_none_or(|alarm| deadline < alarm) {
            state.alarm = Some(deadline);
            self.shared.ready.wake_watcher();
        }
        Ok(())
    }

    /// How many connections are kept.
    pub fn len(&self) -> usize {
        self.shared.state.borrow().slots.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Closes all kept connections.
    pub fn clear(&self) {
        let state = std::mem::take(&mut *self.shared.state.borrow_mut());
        drop(state);
    }

    /// Closes all kept connections and keeps none from now on: the worker is leaving.
    pub fn close(&self) {
        self.shared.closed.set(true);
        self.clear();
    }

    /// The task that closes kept connections when their peer does or their time is up. Ends when the pool is dropped.
    pub fn watch(&self) -> impl Future<Output = ()> + 'static {
        watch::Watch::new(Rc::downgrade(&self.shared), Arc::clone(&self.shared.ready))
    }

    fn admit(&self, connection: &Connection, spec: &KeepaliveSpec, now: Instant) -> Result<(), Refused> {
        let age = now.saturating_duration_since(connection.counters.created);
        if spec.connections == 0 || self.shared.closed.get() {
            Err(Refused::Off)
        } else if connection.is_unfit() {
            Err(Refused::Unfit)
        } else if connection.counters.requests >= spec.requests {
            Err(Refused::Requests)
        } else if age > Duration::from_millis(spec.time_ms) {
            Err(Refused::Age)
        } else {
            Ok(())
        }
    }
}

impl Default for Pool {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.ready.wake_watcher();
    }
}

type WeakShared = Weak<Shared>;

impl State {
    /// Looks at the connections whose waker fired.
    fn close_stirred(&mut self, ready: &Arc<Ready>) {
        // No more than are queued now: a task that has used up its turn gets its wakers fired instead of answers,
        // and such slots are for the watcher's next turn.
        for _ in 0..ready.len() {
            let Some(index) = ready.pop() else { break };
            // The slot may be empty by now, or hold another connection; looking at that one does no harm.
            self.check(index, ready);
        }
    }

    /// Registers for the moment the connection stirs. False if it has already, and is closed.
    fn check(&mut self, index: usize, ready: &Arc<Ready>) -> bool {
        let State { slots, lists, .. } = self;
        let Some(key) = slots.stirred(index, ready) else { return true };
        if let Some(list) = lists.get_mut(&key) {
            slots.remove(list, index);
        }
        false
    }

    /// Closes what was idle too long, and says when to look again.
    fn close_expired(&mut self, now: Instant) -> Option<Instant> {
        let State { slots, lists, alarm } = self;
        lists.retain(|_, list| {
            while slots.oldest(list).is_some_and(|deadline| deadline <= now) {
                slots.close_oldest(list);
            }
            list.len() > 0
        });
        // The oldest of a list is the next to expire, unless a reload shortened `keepalive_timeout`: then connections
        // kept before the reload may shield newer ones for the rest of their own time.
        *alarm = lists.values().filter_map(|list| slots.oldest(list)).min();
        *alarm
    }
}
