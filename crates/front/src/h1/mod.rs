//! One HTTP/1 connection: wait, read a head, serve, log, again.
//!
//! While it waits for a request it holds no buffer and no snapshot. A panic while a request is served costs this
//! connection alone (D13): tokio catches it at the task.

mod client;
mod head;

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use http::config::{CoreConf, Lingering};
use http::log::Level;
use http::pool::Buf;
use http::{Connection, Outcome, Request};
use wire::http1::{self, HeadLimits, RequestError, Resume, Step, Version};

use crate::deadline::Deadline;
use crate::h1::client::H1Client;
use crate::shared::{Seat, Tally};
use crate::stream::Stream;
use crate::tunnel::GivenUp;
use crate::worker::{Sleeper, Worker};

/// Serves a connection until it closes or becomes a tunnel.
pub(crate) async fn run(worker: Rc<Worker>, stream: Stream, connection: Connection, seat: Seat) {
    let load = worker.load.clone();
    let _load = Unload(&load);
    let sleeper = poll_fn(|cx| Poll::Ready(worker.sleeper(cx.waker().clone()))).await;
    let core = listener_core(&worker, &connection);
    let session = Session {
        worker,
        client: H1Client::new(stream),
        connection: Rc::new(connection),
        seat: Some(seat),
        timer: Deadline::default(),
        core,
        _sleeper: sleeper,
    };
    session.run().await;
}

/// Takes a connection off its worker's load, however its task ends.
struct Unload<'a>(&'a std::sync::atomic::AtomicUsize);

impl Drop for Unload<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Session {
    worker: Rc<Worker>,
    client: H1Client,
    connection: Rc<Connection>,
    seat: Option<Seat>,
    timer: Deadline,
    /// What held for the last request; before the first, at the listener's default server.
    core: Arc<CoreConf>,
    _sleeper: Sleeper,
}

/// What a connection does after a request.
enum After {
    Next,
    Close,
    Linger,
    Tunnel(Box<Request>, Box<http::TunnelPlan>),
}

/// Why no head came.
enum NoHead {
    /// Nothing was received: close without a word.
    Idle,
    /// Answer with this status and close.
    Status(u16),
    /// Nobody is left to answer, or nginx does not: log this status and close.
    Unanswered(u16),
}

impl Session {
    async fn run(mut self) {
        loop {
            if !self.wait().await {
                return;
            }
            match self.one().await {
                After::Next => {}
                After::Close => return,
                After::Linger => return self.linger().await,
                After::Tunnel(request, plan) => return self.hand_over(request, *plan),
            }
        }
    }

    /// Waits for the first byte of a request; false when the connection is to close.
    async fn wait(&mut self) -> bool {
        if !self.client.unread().is_empty() {
            return true;
        }
        self.client.forget_input();
        let first = self.connection.requests.get() == 0;
        self.timer.set(if first { self.core.client_header_timeout } else { self.core.keepalive_timeout });
        let (worker, client, timer) = (&self.worker, &self.client, &mut self.timer);
        poll_fn(|cx| {
            match client.stream.poll_readable(cx) {
                Poll::Ready(Ok(())) => return Poll::Ready(true),
                Poll::Ready(Err(_)) => return Poll::Ready(false),
                Poll::Pending => {}
            }
            if worker.is_quitting() {
                return Poll::Ready(false);
            }
            timer.poll(cx).map(|()| false)
        })
        .await
    }

    /// One request, from its head to its log line.
    async fn one(&mut self) -> After {
        let worker = self.worker.clone();
        let mut request = worker.request(self.connection.clone());
        request.snapshot = worker.snapshot();
        request.started_ms = http::clock::monotonic_ms();
        if !self.choose_default_server(&mut request) {
            // A reload took the listener away: this connection has no server any more.
            return After::Close;
        }
        let head = self.read_head(&mut request).await;
        self.timer.clear();
        let outcome = match head {
            Ok(()) => {
                let _tally = Tally::new(&worker.shared.requests);
                self.serve(&mut request).await
            }
            Err(NoHead::Idle) => return After::Close,
            Err(NoHead::Unanswered(status)) => {
                request.response.status = status;
                Outcome::Abort
            }
            Err(NoHead::Status(status)) => {
                self.connection.requests.set(self.connection.requests.get() + 1);
                http::refuse(&mut request, &mut self.client, status).await
            }
        };
        if let Outcome::Tunnel(plan) = outcome {
            self.answer_101(&mut request).await;
            return After::Tunnel(request, plan);
        }
        let after = self.after(&mut request, outcome).await;
        worker.give_back(request);
        after
    }

    fn choose_default_server(&self, request: &mut Request) -> bool {
        let snapshot = request.snapshot.clone();
        let Some(listener) =
            snapshot.listeners.iter().find(|listener| listener.addr == self.connection.listener)
        else {
            return false;
        };
        request.server = listener.servers_for(&self.connection.local).default;
        request.location = snapshot.server(request.server).root;
        true
    }

    async fn serve(&mut self, request: &mut Request) -> Outcome {
        let (worker, client) = (&self.worker, &mut self.client);
        let generation = request.snapshot.generation;
        let mut serve = pin!(http::serve(request, client));
        poll_fn(|cx| {
            if worker.cutoff() > generation {
                return Poll::Ready(Outcome::Abort);
            }
            serve.as_mut().poll(cx)
        })
        .await
    }

    /// Reads a head and chooses its server.
    async fn read_head(&mut self, request: &mut Request) -> Result<(), NoHead> {
        let core = request.location().core.clone();
        let limits = limits(&core);
        let mut resume = Resume::default();
        self.timer.set(core.client_header_timeout);
        let room = core.client_header_buffer_size.max(1024);
        if self.client.input.capacity() == 0 {
            self.client.input = Buf::with_capacity(room);
        } else if self.client.in_at > 0 {
            self.client.input.drain(..self.client.in_at);
            self.client.in_at = 0;
        }
        loop {
            let step = http1::request(&self.client.input, &mut request.head, &mut resume, &limits);
            match step {
                Ok(Step::Done(used)) => return self.head_done(request, used),
                Ok(Step::More) => {}
                Err(error) => return Err(self.bad_head(request, &error)),
            }
            self.more(request, &resume, limits.head_bytes_max()).await?;
        }
    }

    /// Waits for more bytes of a head.
    async fn more(&mut self, request: &mut Request, resume: &Resume, max: usize) -> Result<(), NoHead> {
        let started = resume.is_started();
        let (worker, client, timer) = (&self.worker, &mut self.client, &mut self.timer);
        let read = poll_fn(|cx| poll_head(worker, client, timer, cx, max, started)).await;
        match read {
            Ok(0) if started => {
                request.log(
                    Level::Info,
                    format_args!("client prematurely closed connection while reading client request headers"),
                );
                self.keep_head(request);
                Err(NoHead::Unanswered(400))
            }
            Ok(0) => Err(NoHead::Idle),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                if !started {
                    return Err(NoHead::Idle);
                }
                request.log(
                    Level::Info,
                    format_args!(
                        "client timed out (110: Connection timed out) while reading client request headers"
                    ),
                );
                self.keep_head(request);
                Err(NoHead::Unanswered(408))
            }
            Err(_) => Err(NoHead::Idle),
        }
    }

    fn head_done(&mut self, request: &mut Request, used: usize) -> Result<(), NoHead> {
        self.connection.requests.set(self.connection.requests.get() + 1);
        // The head stays where it is; what follows it moves to a buffer of its own, which is usually nothing.
        let mut rest = Buf::default();
        if self.client.input.len() > used {
            rest = Buf::with_capacity((self.client.input.len() - used).max(1024));
            rest.extend_from_slice(&self.client.input[used..]);
        }
        request.bytes = std::mem::replace(&mut self.client.input, rest);
        request.bytes.truncate(used);
        self.client.in_at = 0;
        request.received = used as u64;
        request.head_is_read();
        self.choose_server(request);
        for line in &request.head.dropped {
            let text = http1::RequestHead::dropped_text(*line, &request.bytes);
            request.log(Level::Info, format_args!("{text} while reading client request headers"));
        }
        self.client.begin(request);
        self.decide_keepalive(request);
        let core = &request.location().core;
        if core.tcp_nodelay && self.connection.requests.get() == 1 {
            self.client.stream.set_nodelay();
        }
        Ok(())
    }

    fn choose_server(&self, request: &mut Request) {
        let snapshot = request.snapshot.clone();
        let listener = snapshot.listeners.iter().find(|listener| listener.addr == self.connection.listener);
        let Some(listener) = listener else { return };
        let servers = listener.servers_for(&self.connection.local);
        let mut captures = std::mem::take(&mut request.captures);
        request.server = servers.lookup(&request.host, &mut captures);
        request.captures = captures;
        request.location = snapshot.server(request.server).root;
    }

    fn decide_keepalive(&self, request: &mut Request) {
        let core = &request.location().core;
        let age_ms = http::clock::monotonic_ms().saturating_sub(self.connection.started_ms);
        request.keepalive = request.head.keepalive()
            && core.keepalive_timeout > 0
            && self.connection.requests.get() < core.keepalive_requests
            && age_ms < core.keepalive_time
            && !self.worker.is_quitting();
    }

    /// Keeps what was received of a bad head, for the log.
    fn keep_head(&mut self, request: &mut Request) {
        request.received = self.client.input.len() as u64;
        request.bytes = std::mem::take(&mut self.client.input);
        self.client.in_at = 0;
    }

    fn bad_head(&mut self, request: &mut Request, error: &RequestError) -> NoHead {
        self.keep_head(request);
        let text = error.log_text(&request.bytes);
        request.log(Level::Info, format_args!("{text}"));
        if request.head.version == Version::default() {
            // The line itself is bad: nginx answers it as HTTP/1.0 would be.
            request.head.version = Version::V10;
        }
        NoHead::Status(error.status())
    }

    /// Ends a request: log line, rest of the body, what comes next.
    async fn after(&mut self, request: &mut Request, outcome: Outcome) -> After {
        self.core = request.location().core.clone();
        match outcome {
            Outcome::Tunnel(_) | Outcome::Abort => {
                self.log(request);
                if self.client.timed_out && request.location().core.reset_timedout_connection {
                    self.client.stream.reset_on_close();
                }
                After::Close
            }
            Outcome::Finished => {
                self.log(request);
                if request.keepalive && !self.client.body_is_read() {
                    self.discard(request).await
                } else if request.keepalive {
                    After::Next
                } else {
                    self.close_kindly(request)
                }
            }
        }
    }

    /// Sends the 101: what the socket takes at once. The relay sends the rest, and finds out when the client is gone.
    async fn answer_101(&mut self, request: &mut Request) {
        let client = &mut self.client;
        http::output::head(request, client);
        let _ = poll_fn(|cx| http::Client::poll_flush(client, cx, request, usize::MAX)).await;
    }

    /// Gives both sockets to the relay. The connection ends here as far as this room is concerned.
    fn hand_over(mut self, mut request: Box<Request>, plan: http::TunnelPlan) {
        let unsent = self.client.take_unsent();
        let leftover = self.client.take_unread();
        let Some(seat) = self.seat.take() else { return };
        match self.client.into_stream().into_fd() {
            Ok(client) => {
                let relay = &self.worker.relay;
                relay.hand_over(&mut request, GivenUp { client, unsent, leftover, seat }, plan);
                self.worker.give_back(request);
            }
            Err(error) => {
                request.log(Level::Alert, format_args!("the runtime does not give a socket up: {error}"));
            }
        }
    }

    fn log(&self, request: &mut Request) {
        let snapshot = request.snapshot.clone();
        for program in &snapshot.location(request.location).access_log {
            program.write(request);
        }
    }

    /// Reads and drops what is left of a body so that the connection can go on, for at most `lingering_time`.
    async fn discard(&mut self, request: &mut Request) -> After {
        let core = request.location().core.clone();
        self.timer.set(core.lingering_time);
        loop {
            let (client, timer) = (&mut self.client, &mut self.timer);
            let piece = poll_fn(|cx| {
                if timer.poll(cx).is_ready() {
                    return Poll::Ready(None);
                }
                http::Client::poll_body(client, cx, request).map(Some)
            })
            .await;
            match piece {
                Some(Ok(Some(_))) => {}
                Some(Ok(None)) => return After::Next,
                Some(Err(_)) | None => return After::Close,
            }
        }
    }

    /// Whether to wait for the client's end before closing, so that it surely reads the response.
    fn close_kindly(&self, request: &Request) -> After {
        let core = &request.location().core;
        let may_send = !self.client.body_is_read() || !self.client.unread().is_empty();
        match core.lingering_close {
            Lingering::Off => After::Close,
            Lingering::Always => After::Linger,
            // After these statuses the rest of what the client sends was not understood, so more may be on its way.
            Lingering::On if may_send || matches!(request.response.status, 400 | 413 | 414 | 501 | 505) => {
                After::Linger
            }
            Lingering::On => After::Close,
        }
    }

    /// Sends a FIN, then drops what comes until the client closes (`lingering_timeout`, `lingering_time`).
    async fn linger(&mut self) {
        let core = self.core.clone();
        self.client.stream.shutdown_write();
        self.client.forget_input();
        let until = http::clock::monotonic_ms() + core.lingering_time;
        loop {
            let left = until.saturating_sub(http::clock::monotonic_ms());
            self.timer.set(core.lingering_timeout.min(left));
            let (client, timer) = (&mut self.client, &mut self.timer);
            let read = poll_fn(|cx| {
                match client.stream.poll_readable(cx) {
                    Poll::Ready(Ok(())) => return Poll::Ready(true),
                    Poll::Ready(Err(_)) => return Poll::Ready(false),
                    Poll::Pending => {}
                }
                timer.poll(cx).map(|()| false)
            })
            .await;
            if !read || left == 0 {
                return;
            }
            let mut scrap = Buf::with_capacity(4096);
            match client.stream.try_read(&mut scrap) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }
}

/// The limits that hold before a host is known: the default server's.
fn listener_core(worker: &Worker, connection: &Connection) -> Arc<CoreConf> {
    let snapshot = worker.snapshot();
    match snapshot.listeners.iter().find(|listener| listener.addr == connection.listener) {
        Some(listener) => {
            let server = listener.servers_for(&connection.local).default;
            snapshot.location(snapshot.server(server).root).core.clone()
        }
        None => Arc::default(),
    }
}

/// Reads head bytes; an error of kind `TimedOut` is `client_header_timeout`.
fn poll_head(
    worker: &Worker,
    client: &mut H1Client,
    timer: &mut Deadline,
    cx: &mut Context<'_>,
    max: usize,
    started: bool,
) -> Poll<io::Result<usize>> {
    loop {
        match client.stream.poll_readable(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => {
                if worker.is_quitting() && !started {
                    return Poll::Ready(Ok(0));
                }
                return timer.poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()));
            }
        }
        let input = &mut client.input;
        if input.len() == input.capacity() {
            // The parser refuses a head over its limits before the buffer is larger than them by a read.
            let grow = input.capacity().clamp(1024, max.max(1024));
            input.reserve_exact(grow);
        }
        match client.stream.try_read(&mut client.input) {
            Ok(count) => return Poll::Ready(Ok(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Poll::Ready(Err(error)),
        }
    }
}

fn limits(core: &CoreConf) -> HeadLimits {
    let (buffers_max, line_bytes_max) = core.large_client_header_buffers;
    HeadLimits {
        first_buffer_bytes: core.client_header_buffer_size,
        line_bytes_max,
        buffers_max,
        count_max: core.max_headers,
        underscores: core.underscores_in_headers,
        ignore_invalid: core.ignore_invalid_headers,
        merge_slashes: core.merge_slashes,
        allow_connect: false,
    }
}
