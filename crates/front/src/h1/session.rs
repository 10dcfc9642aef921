//! What an HTTP/1 connection is between and during its requests. An idle one holds one of these, so its size matters.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::clock::monotonic_ms;
use http::config::{Listener, TlsServers};
use http::log::ErrorLog;
use http::message::SnapshotRef;
use http::{Connection, Request, Snapshot};
use reactor::Timer;

use crate::shared::Seat;
use crate::sleepers::Sleeper;
use crate::worker::Worker;

/// Room for the first read of a request.
pub(super) const ROOM: usize = 4 * 1024;

/// A connection.
pub(super) struct Session {
    pub(super) worker: Rc<Worker>,
    pub(super) connection: Rc<Connection>,
    pub(super) seat: Option<Seat>,
    pub(super) timer: Timer,
    pub(super) idle: Idle,
    /// The next request did not come together with the last one.
    pub(super) waited: bool,
    /// Requests served that came together.
    pub(super) in_a_row: u8,
    /// Until the first request: the configuration it was accepted under, in case a reload takes its listener away.
    pub(super) first: Option<SnapshotRef>,
    pub(super) proxied: Proxied,
    /// Whether a handshake comes first.
    pub(super) secured: Secured,
    /// Place of the connection's listener in the snapshot of that generation.
    listener: (u64, usize),
    /// Wakes the task when the worker's state changes; made by the first wait.
    pub(super) sleeper: Option<Sleeper>,
}

/// Why no head came.
pub(super) enum NoHead {
    /// Answer with this status and close.
    Status(u16),
    /// Nobody is left to answer, or nginx does not: log this status and close.
    Unanswered(u16),
    /// The worker gives up what is this old.
    Cut,
}

/// How a connection stands to TLS.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Secured {
    /// Plain, as it should be; or under TLS, with its handshake done.
    Settled,
    /// A handshake comes before anything else.
    Awaited,
    /// Plain, on a port for TLS: every request is answered 497.
    Missing,
}

/// How a connection stands to PROXY headers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Proxied {
    /// It has none, and was to have none when it came.
    No,
    /// One comes before anything else.
    Awaited,
    /// It has been read.
    Done,
}

/// How long a connection may stay without a request, milliseconds.
#[derive(Clone, Copy, Default)]
pub(super) struct Idle {
    /// `keepalive_timeout`; before the first request `client_header_timeout`.
    pub(super) max_ms: u64,
    /// `keepalive_min_timeout`
    pub(super) min_ms: u64,
}

impl Session {
    pub(super) fn new(worker: Rc<Worker>, connection: Connection, seat: Seat) -> Session {
        let snapshot = worker.snapshots.of_listener(&connection.listener);
        let mut session = Session {
            worker,
            connection: Rc::new(connection),
            seat: Some(seat),
            timer: Timer::default(),
            idle: Idle::default(),
            waited: false,
            in_a_row: 0,
            first: None,
            proxied: Proxied::No,
            secured: Secured::Settled,
            listener: (0, usize::MAX),
            sleeper: None,
        };
        if let Some(listener) = session.listener(&snapshot) {
            let server = listener.servers_for(&session.connection.local).default;
            let core = &snapshot.location(snapshot.server(server).root).core;
            session.idle.max_ms = core.client_header_timeout;
        }
        if session.wants_proxy_header(&snapshot) {
            session.proxied = Proxied::Awaited;
        }
        if session.tls_servers(&snapshot).is_some() {
            session.secured = Secured::Awaited;
        }
        session.first = Some(snapshot);
        session
    }

    /// The listener that accepted this connection, if the snapshot still has it.
    pub(super) fn listener<'s>(&mut self, snapshot: &'s Snapshot) -> Option<&'s Listener> {
        if self.listener.0 != snapshot.generation || self.listener.1 == usize::MAX {
            let is_ours = |listener: &Listener| listener.addr == self.connection.listener;
            let at = snapshot.listeners.iter().position(is_ours).unwrap_or(usize::MAX);
            self.listener = (snapshot.generation, at);
        }
        snapshot.listeners.get(self.listener.1)
    }

    /// Where what concerns the connection and no request is logged: with its default server, as on nginx.
    pub(super) fn log_of<'s>(&mut self, snapshot: &'s Snapshot) -> &'s ErrorLog {
        let Some(listener) = self.listener(snapshot) else { return &snapshot.core.error_log };
        let server = snapshot.server(listener.servers_for(&self.connection.local).default);
        &snapshot.location(server.root).core.error_log
    }

    /// The servers behind the connection's address, if that speaks TLS.
    pub(super) fn tls_servers(&mut self, snapshot: &SnapshotRef) -> Option<Arc<TlsServers>> {
        let local = self.connection.local.clone();
        self.listener(snapshot)?.servers_for(&local).tls.clone()
    }

    /// Whether the connection's address wants a PROXY header before anything else.
    pub(super) fn wants_proxy_header(&mut self, snapshot: &Snapshot) -> bool {
        let listener = self.listener(snapshot);
        listener.is_some_and(|listener| listener.servers_for(&self.connection.local).proxy_protocol)
    }

    /// Whether the connection's address speaks TLS.
    pub(super) fn wants_tls(&mut self, snapshot: &Snapshot) -> bool {
        let listener = self.listener(snapshot);
        listener.is_some_and(|listener| listener.servers_for(&self.connection.local).tls.is_some())
    }

    /// A request to read into, under the configuration that holds for it.
    pub(super) fn open(&mut self) -> Option<Box<Request>> {
        let mut snapshot = self.worker.snapshots.current();
        let first = self.first.take();
        if self.listener(&snapshot).is_none() {
            // A reload took the listener away. Who was accepted before is still served, once, as on an old worker of nginx.
            snapshot = first?;
        }
        let server = self.listener(&snapshot)?.servers_for(&self.connection.local).default;
        let mut request = self.worker.spare.request(snapshot, self.connection.clone());
        request.started_ms = monotonic_ms();
        request.server = server;
        request.location = request.server().root;
        Some(request)
    }

    /// Waits for the client. `TimedOut` is the running time, `Interrupted` a worker that gives up what is this old.
    pub(super) async fn in_time<T>(
        &mut self,
        generation: u64,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> io::Result<T> {
        poll_fn(|cx| {
            if let Poll::Ready(done) = poll(cx) {
                return Poll::Ready(done);
            }
            if generation < self.worker.snapshots.cutoff() {
                return Poll::Ready(Err(io::ErrorKind::Interrupted.into()));
            }
            ready!(self.timer.poll(cx));
            Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
        })
        .await
    }
}
