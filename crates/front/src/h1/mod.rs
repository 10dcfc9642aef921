//! One HTTP/1 connection: wait, read a head, serve, log, again.
//!
//! While it waits for a request it holds no buffer, and no snapshot once it has served a request. A panic while a request
//! is served costs this connection alone (D13).

mod body;
mod client;
mod closing;
mod head;
mod proxied;
mod reading;
mod secured;
mod serving;
mod socket;

use std::future::{Future, poll_fn};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::task::{Poll, ready};

use http::clock::monotonic_ms;
use http::config::Listener;
use http::log::Level;
use http::message::SnapshotRef;
use http::{Connection, Outcome, Request, Snapshot};
use reactor::Timer;

use crate::accept::Load;
use crate::h1::client::H1Client;
use crate::h1::reading::NoHead;
use crate::h1::secured::Secured;
use crate::h1::socket::Socket;
use crate::shared::Seat;
use crate::stream::Stream;
use crate::worker::{Sleeper, Worker};

/// Requests that came together and are served before others get their turn: a fraction of a millisecond's work.
const PIPELINED_MAX: u8 = 16;

/// A client that was accepted.
pub(crate) struct Arrival {
    pub(crate) stream: Stream,
    pub(crate) connection: Connection,
    pub(crate) seat: Seat,
    pub(crate) load: Load,
}

/// Serves a connection until it closes or becomes a tunnel.
pub(crate) fn run(worker: Rc<Worker>, arrival: Arrival) -> impl Future<Output = ()> {
    let mut socket = Socket::new(arrival.stream);
    let load = arrival.load;
    let mut session = Session::new(worker, arrival.connection, arrival.seat);
    // A block and not an `async fn`: that would keep room for its arguments beside the variables they move to.
    async move {
        let _load = load;
        while session.wait(&mut socket).await {
            // All that only a running request needs is in this future, so that an idle connection is small.
            match guarded(Box::pin(session.one(socket))).await {
                Ok(Some(back)) => socket = back,
                Ok(None) => return,
                Err(what) => return session.say_panic(&what),
            }
        }
        socket.goodbye();
    }
}

/// Runs a future to its end; a panic inside is an error with its message, and the future is not touched again.
async fn guarded<T>(mut future: std::pin::Pin<Box<impl Future<Output = T>>>) -> Result<T, String> {
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(poll) => poll.map(Ok),
        Err(what) => {
            let text = what.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| what.downcast_ref::<String>().cloned());
            Poll::Ready(Err(text.unwrap_or_else(|| "without a message".to_owned())))
        }
    })
    .await
}

struct Session {
    worker: Rc<Worker>,
    connection: Rc<Connection>,
    seat: Option<Seat>,
    timer: Timer,
    idle: Idle,
    /// The next request did not come together with the last one.
    waited: bool,
    /// Requests served that came together.
    in_a_row: u8,
    /// Until the first request: the configuration it was accepted under, in case a reload takes its listener away.
    first: Option<SnapshotRef>,
    /// A PROXY header comes before the first request.
    wants_proxy_header: bool,
    /// Whether a handshake comes first.
    secured: Secured,
    /// Place of the connection's listener in the snapshot of that generation.
    listener: (u64, usize),
    /// Wakes the task when the worker's state changes; made by the first wait.
    sleeper: Option<Sleeper>,
}

/// How long a connection may stay without a request, milliseconds.
#[derive(Clone, Copy, Default)]
struct Idle {
    /// `keepalive_timeout`; before the first request `client_header_timeout`.
    max_ms: u64,
    /// `keepalive_min_timeout`
    min_ms: u64,
}

impl Session {
    fn new(worker: Rc<Worker>, connection: Connection, seat: Seat) -> Session {
        let snapshot = worker.snapshot_with(&connection.listener);
        let mut session = Session {
            worker,
            connection: Rc::new(connection),
            seat: Some(seat),
            timer: Timer::default(),
            idle: Idle::default(),
            waited: false,
            in_a_row: 0,
            first: None,
            wants_proxy_header: false,
            secured: Secured::Settled,
            listener: (0, usize::MAX),
            sleeper: None,
        };
        if let Some(listener) = session.listener(&snapshot) {
            let server = listener.servers_for(&session.connection.local).default;
            let core = &snapshot.location(snapshot.server(server).root).core;
            session.idle.max_ms = core.client_header_timeout;
        }
        session.wants_proxy_header = session.wants_proxy_header(&snapshot);
        if session.tls_servers(&snapshot).is_some() {
            session.secured = Secured::Awaited;
        }
        session.first = Some(snapshot);
        session
    }

    /// The listener that accepted this connection, if the snapshot still has it.
    fn listener<'s>(&mut self, snapshot: &'s Snapshot) -> Option<&'s Listener> {
        if self.listener.0 != snapshot.generation || self.listener.1 == usize::MAX {
            let is_ours = |listener: &Listener| listener.addr == self.connection.listener;
            let at = snapshot.listeners.iter().position(is_ours).unwrap_or(usize::MAX);
            self.listener = (snapshot.generation, at);
        }
        snapshot.listeners.get(self.listener.1)
    }

    /// Waits for the first bytes of a request; false when the connection is to close.
    async fn wait(&mut self, socket: &mut Socket) -> bool {
        if !socket.unread().is_empty() {
            self.in_a_row += 1;
            if self.in_a_row == PIPELINED_MAX {
                self.in_a_row = 0;
                reactor::yield_now().await;
            }
            return true;
        }
        self.waited = true;
        self.in_a_row = 0;
        socket.forget();
        let since = monotonic_ms();
        // Before the first request one time is for all: a PROXY header, a handshake, and the head.
        if self.first.is_none() || !self.timer.is_set() {
            self.timer.set(self.idle.max_ms);
        }
        if let Some(sleeper) = &self.sleeper {
            sleeper.is_idle();
        }
        let has_request = poll_fn(|cx| {
            if self.sleeper.is_none() {
                let sleeper = self.worker.sleeper(cx.waker().clone());
                sleeper.is_idle();
                self.sleeper = Some(sleeper);
            }
            if let Poll::Ready(read) = socket.poll_fill(cx, reading::ROOM) {
                if !matches!(read, Ok(1..)) {
                    self.say_no_request(&read);
                }
                return Poll::Ready(read.is_ok_and(|count| count > 0));
            }
            if let Some(left) = self.dismissed_in(since) {
                if left == 0 {
                    return Poll::Ready(false);
                }
                self.timer.set(left);
            }
            ready!(self.timer.poll(cx));
            self.say_no_request(&Err(io::ErrorKind::TimedOut.into()));
            Poll::Ready(false)
        })
        .await;
        if let Some(sleeper) = &self.sleeper {
            sleeper.is_busy();
        }
        has_request
    }

    /// How long a connection that has waited `since` may still wait, when the worker wants to be rid of it.
    fn dismissed_in(&mut self, since: u64) -> Option<u64> {
        if self.sleeper.as_ref().is_some_and(Sleeper::is_dismissed) {
            return Some(0);
        }
        if let Some(first) = &self.first {
            // As nginx, a connection that has not sent anything yet gets its time, also when the worker quits.
            return (first.generation < self.worker.cutoff()).then_some(0);
        }
        let worker = self.worker.clone();
        let mut homeless = || self.listener(&worker.snapshot()).is_none();
        if !(worker.is_quitting() || worker.lost_listeners() && homeless()) {
            return None;
        }
        Some((since + self.idle.min_ms).saturating_sub(monotonic_ms()))
    }

    /// One request, from its head to its log line and what follows; the socket comes back when another may come on it.
    async fn one(&mut self, mut socket: Socket) -> Option<Socket> {
        if self.wants_proxy_header {
            return self.read_proxy_header(&mut socket).await.then_some(socket);
        }
        if self.secured == Secured::Awaited {
            return self.shake_hands(&mut socket).await.then_some(socket);
        }
        let worker = self.worker.clone();
        self.connection.requests.set(self.connection.requests.get() + 1);
        let mut request = self.open(&worker)?;
        // Bytes that no wait of this connection brought.
        request.pipelined = !std::mem::take(&mut self.waited);
        // Boxed: the future would keep room for it in each of the steps it is handed to.
        let mut client = Box::new(H1Client::new(socket, worker.clone()));
        let head = self.read_head(&mut client, &mut request).await;
        self.timer.clear();
        let outcome = match head {
            Ok(()) => self.serve(&mut client, &mut request).await,
            Err(NoHead::Status(status)) => http::refuse(&mut request, &mut *client, status).await,
            Err(NoHead::Unanswered(status)) => {
                request.response.status = status;
                Outcome::Abort
            }
            Err(NoHead::Cut) => return None,
        };
        let snapshot = request.snapshot.clone();
        let core = &*snapshot.location(request.location).core;
        self.idle = Idle { max_ms: core.keepalive_timeout, min_ms: core.keepalive_min_timeout };
        match outcome {
            Outcome::Tunnel(plan) => {
                self.hand_over(client, request, *plan).await;
                None
            }
            outcome => {
                let back = self.close_or_keep(client, &mut request, core, outcome).await;
                worker.give_back(request);
                back
            }
        }
    }

    /// A request to read into, under the configuration that holds for it.
    fn open(&mut self, worker: &Rc<Worker>) -> Option<Box<Request>> {
        let mut snapshot = worker.snapshot();
        let first = self.first.take();
        if self.listener(&snapshot).is_none() {
            // A reload took the listener away. Who was accepted before is still served, once, as on an old worker of nginx.
            snapshot = first?;
        }
        let server = self.listener(&snapshot)?.servers_for(&self.connection.local).default;
        let mut request = worker.request(snapshot, self.connection.clone());
        request.started_ms = monotonic_ms();
        request.server = server;
        request.location = request.server().root;
        Some(request)
    }

    fn say_panic(&self, what: &str) {
        let snapshot = self.worker.snapshot();
        let text = format_args!("a panic ended the connection: {what}");
        snapshot.core.error_log.write_for_connection(Level::Alert, &self.connection, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an idle connection costs beside its socket, timer and task; a wider field in a running request is free.
    #[test]
    fn an_idle_connection_is_small() {
        assert!(size_of::<Session>() <= 160, "{}", size_of::<Session>());
        assert!(size_of::<Socket>() <= 88, "{}", size_of::<Socket>());
        fn size<A, B, F: Future>(_: impl Fn(A, B) -> F) -> usize {
            size_of::<F>()
        }
        let future = size(run);
        assert!(future <= 400, "{future}");
    }
}
