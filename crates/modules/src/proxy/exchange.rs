//! One request's exchange with its upstream: pick a peer, connect, send, read the head; what comes of it.

use std::cell::Cell;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::clock::monotonic_ms;
use http::log::{Level, UpstreamInUse};
use http::pool::Buf;
use http::{BodyError, Client, Flow, Redirect, Request};
use reactor::{Timer, timeout};
use upstream::{
    Attempt, ConnectError, ConnectOptions, Connection, Failure, Group, HandshakeError, Health, Peer,
    PeerAddr, PeerGuard, PickContext, PoolKey, connect, recv_failed, send_failed,
};
use wire::http1::{FieldId, ResponseHead, ResponseLimits, Resume, Step, response as parse};
use wire::tls::TlsEnd;

use crate::proxy::aim::aim;
use crate::proxy::body::{NoBody, RequestBody, SendError, Sender};
use crate::proxy::next::{is_named, status_of};
use crate::proxy::pace::Pace;
use crate::proxy::pass::Target;
use crate::proxy::reading::{Reading, reading};
use crate::proxy::ssl::{Towards, Unbegun};
use crate::proxy::state::AttemptState;
use crate::proxy::upgrade::{self, Switch, Upgrade};
use crate::proxy::{Conf, Site, Upstreamed, local_address, pool, request as head_of, response};

/// Bytes read from a peer at once: most responses are one read, head and body.
pub(super) const READ: usize = 32 * 1024;
/// The same for what answers an upgrade, to begin with.
const UPGRADE_READ: usize = 1024;

/// Most 1xx heads before the response: who sends them without end would hold a request for ever.
const INTERIM_MAX: u32 = 64;

/// Passes a request on and its response back.
pub(crate) async fn run(site: &Site, request: &mut Request, client: &mut dyn Client) -> Flow {
    let (group, target) = match aim(site, request).await {
        Ok(aim) => aim,
        Err(status) => return Flow::Status(status),
    };
    let redirected = {
        let upstreamed = request.slots.of::<Upstreamed>();
        upstreamed.target = target.clone();
        upstreamed.head = None;
        !upstreamed.attempts.is_empty()
    };
    // Behind the slot, whose target `$proxy_host` shows.
    let secure = site
        .secure
        .as_ref()
        .filter(|_| target.tls)
        .map(|secure| Towards::new(secure, &site.conf.ssl_texts, group.name_shared(), &target, request));
    if target.tls && secure.is_none() {
        return Flow::Status(500);
    }
    let body = match RequestBody::read(&site.conf, request, client).await {
        Ok(body) => body,
        Err(NoBody::Client(BodyError::Gone)) => return client_is_gone(request),
        Err(NoBody::Gone) => {
            let text = "the request body cannot be sent again: part of it was streamed to another upstream";
            request.log(Level::Error, format_args!("{text}"));
            request.keepalive = false;
            return Flow::Status(502);
        }
        Err(NoBody::Client(error)) => {
            request.keepalive = false;
            return Flow::Status(error.status());
        }
    };
    match Exchange::new(site, group, &target, secure, body, request) {
        Ok(mut exchange) => {
            exchange.redirected = redirected;
            exchange.run(request, client).await
        }
        Err(status) => Flow::Status(status),
    }
}

/// 499: written to the log only, there is nobody to read it.
fn client_is_gone(request: &mut Request) -> Flow {
    request.response.status = 499;
    request.keepalive = false;
    Flow::Abort
}

pub(super) struct Exchange<'a> {
    pub(super) site: &'a Site,
    pub(super) conf: &'a Conf,
    pub(super) attempt: Attempt,
    /// TLS towards the peer.
    secure: Option<Towards>,
    /// The request head, sent as it is to every peer.
    pub(super) head: Buf,
    pub(super) body: RequestBody,
    pub(super) upgrade: Upgrade,
    pub(super) started_ms: u64,
    pub(super) timer: Timer,
    pub(super) pace: Pace,
    /// Another exchange came before an internal redirect.
    pub(super) redirected: bool,
    /// Something of the request reached a peer.
    pub(super) was_sent: bool,
}

/// How an attempt on one peer went on after it failed.
enum Then {
    Again,
    Answer(Flow),
}

/// A connection under a request. Boxed, and [`Received`] too: a future keeps room for each of its own copies of a value
/// that goes through its hands, and all of them together are allocated anew with every request.
pub(super) struct Live {
    pub(super) connection: Connection,
    pub(super) peer: Arc<Peer>,
    pub(super) guard: PeerGuard,
    pub(super) key: PoolKey,
    /// It served a request before.
    pub(super) reused: bool,
    pub(super) sender: Sender,
    pub(super) received_before: u64,
    pub(super) sent_before: u64,
}

/// A response head, and the buffer it and the first body bytes stand in.
pub(super) struct Received {
    pub(super) head: ResponseHead,
    pub(super) buf: Buf,
    /// Where the body begins in `buf`.
    pub(super) body_at: usize,
}

/// Why no head came.
enum Lost {
    Failed(Failure),
    ClientGone,
    BadBody(BodyError),
}

impl<'a> Exchange<'a> {
    /// Writes the request's head and gets ready to pick a peer; an error is the status to answer.
    fn new(
        site: &'a Site,
        group: Arc<Group>,
        target: &Target,
        secure: Option<Towards>,
        body: RequestBody,
        request: &mut Request,
    ) -> Result<Exchange<'a>, u16> {
        let upgrade = Upgrade::plan(&site.conf, request);
        let mut head = Buf::with_capacity(1024);
        if head_of::write(&site.conf, target, body.framing(), &upgrade, request, &mut head).is_err() {
            request.log(Level::Error, format_args!("zero length URI to proxy"));
            return Err(500);
        }
        let mut attempt =
            group.start(&PickContext { client: request.connection.peer, ..PickContext::default() });
        attempt.limit_tries(site.conf.next_tries);
        Ok(Exchange {
            site,
            conf: &site.conf,
            attempt,
            secure,
            head,
            body,
            upgrade,
            started_ms: monotonic_ms(),
            timer: Timer::default(),
            pace: Pace::default(),
            redirected: false,
            was_sent: false,
        })
    }

    async fn run(&mut self, request: &mut Request, client: &mut dyn Client) -> Flow {
        let flow = loop {
            match self.try_peer(request, client).await {
                Then::Again => {}
                Then::Answer(flow) => break flow,
            }
        };
        if !matches!(flow, Flow::Tunnel(_)) {
            let time = self.since_start(request);
            request.slots.of::<Upstreamed>().now().response_ms.get_or_insert(time);
        }
        flow
    }

    async fn try_peer(&mut self, request: &mut Request, client: &mut dyn Client) -> Then {
        let now = Instant::now();
        self.begin_attempt(request);
        let Ok(picked) = self.attempt.next(now) else {
            let upstreamed = request.slots.of::<Upstreamed>();
            let state = upstreamed.now();
            state.group = Some(self.attempt.group().name_shared().clone());
            state.status = 502;
            (state.connect_ms, state.response_ms) = (None, Some(0));
            let name = format!("{}{}{}", self.scheme(), self.attempt.group().name(), self.uri(request));
            name_upstream(request, name);
            request.log(Level::Error, format_args!("no live upstreams while connecting to upstream"));
            return Then::Answer(Flow::Status(502));
        };
        request.slots.of::<Upstreamed>().now().peer = Some(picked.peer.clone());
        let mut live = match self.connect(request, client, picked.peer, picked.guard).await {
            Ok(live) => live,
            Err(then) => return then,
        };
        request.slots.of::<Upstreamed>().now().connect_ms = Some(self.since_start(request));
        live.connection.counters.requests += 1;
        if self.upgrade.is_sent() || self.head.starts_with(b"CONNECT ") {
            live.connection.never_keep();
        }
        let mut received = match self.read_head(&mut live, request, client).await {
            Ok(received) => received,
            Err(lost) => return self.lost(lost, &live, request),
        };
        self.count(&live, request);
        let time = self.since_start(request);
        let state = request.slots.of::<Upstreamed>().now();
        state.header_ms = Some(time);
        state.status = received.head.status;
        let status = received.head.status;
        if status >= 300
            && is_named(status)
            && self.goes_on(Failure::Status(status), request)
            && self.attempt.tries_left() > 1
        {
            return self.failed(Failure::Status(status), live.reused, request);
        }
        self.attempt.succeeded();
        if self.site.keep_head {
            let mut copy = Buf::with_capacity(received.body_at);
            copy.extend_from_slice(&received.buf[..received.body_at]);
            request.slots.of::<Upstreamed>().head = Some((received.head.clone(), copy));
        }
        for ignored in &received.head.ignored {
            let text = ResponseHead::ignored_text(ignored, &received.buf);
            self.log(
                request,
                Level::Warn,
                format_args!("{text} while reading response header from upstream"),
            );
        }
        if status == 101 {
            return Then::Answer(self.switch(live, &received, request));
        }
        upgrade::explain_refusal(self.conf, &self.upgrade, status, request);
        if self.conf.intercept_errors && self.intercepts(&received, request) {
            self.finish(live, &mut received, request);
            return Then::Answer(Flow::Status(status));
        }
        self.limit_rate(&received, request);
        if let Some(flow) = self.redirects(&received, request) {
            self.finish(live, &mut received, request);
            return Then::Answer(flow);
        }
        response::translate(self.conf, &received.head, &received.buf, request);
        Then::Answer(self.respond(live, received, request, client).await)
    }

    fn begin_attempt(&mut self, request: &mut Request) {
        let after_redirect = std::mem::take(&mut self.redirected);
        let state = AttemptState { after_redirect, started_ms: monotonic_ms(), ..AttemptState::default() };
        let attempts = &mut request.slots.of::<Upstreamed>().attempts;
        if attempts.is_empty() {
            // One is the rule.
            attempts.reserve_exact(1);
        }
        attempts.push(state);
    }

    fn since_start(&self, request: &mut Request) -> u64 {
        monotonic_ms().saturating_sub(request.slots.of::<Upstreamed>().now().started_ms)
    }

    /// A connection from the pool, or a new one.
    async fn connect(
        &mut self,
        request: &mut Request,
        client: &mut dyn Client,
        peer: Arc<Peer>,
        guard: PeerGuard,
    ) -> Result<Box<Live>, Then> {
        let location = (request.snapshot.generation << 32) | u64::from(request.location.0);
        let (local, transparent) = local_address(&self.conf.bind, request);
        let mut key = PoolKey::new(self.attempt.group(), &peer, location);
        key.local = local;
        key.tls = self.secure.as_ref().map_or(0, Towards::key);
        let kept = match self.attempt.group().keepalive().connections {
            0 => None,
            _ => pool::of_this_thread().take(&key),
        };
        let sender = Sender::new(&self.body);
        if let Some(connection) = kept {
            let (received_before, sent_before) =
                (connection.counters.received_bytes, connection.counters.sent_bytes);
            return Ok(Box::new(Live {
                connection,
                peer,
                guard,
                key,
                reused: true,
                sender,
                received_before,
                sent_before,
            }));
        }
        let options = ConnectOptions {
            local,
            transparent,
            timeout_ms: self.conf.connect_timeout_ms,
            nodelay: request.location().core.tcp_nodelay,
            keepalive: self.conf.socket_keepalive.then(Default::default),
        };
        let watch = !self.conf.ignore_client_abort && request.is_main();
        let (secure, handshaking) = (self.secure.clone(), Cell::new(false));
        // In a box of its own: most requests find a connection that is kept, and should not carry room for this.
        let mut connecting = Box::pin(dial(&peer.spec.addr, &options, secure.as_ref(), &handshaking));
        let connected = poll_fn(|cx| {
            if let Poll::Ready(done) = connecting.as_mut().poll(cx) {
                return Poll::Ready(Some(done));
            }
            if watch && !self.body.streams && client.poll_gone(cx).is_ready() {
                return Poll::Ready(None);
            }
            Poll::Pending
        })
        .await;
        match connected {
            Some(Ok(connection)) => Ok(Box::new(Live {
                connection,
                peer: peer.clone(),
                guard,
                key,
                reused: false,
                sender,
                received_before: 0,
                sent_before: 0,
            })),
            Some(Err(Undialed::Connect(error))) => Err(self.not_connected(&error, request)),
            Some(Err(Undialed::Certificate(why))) => {
                self.log(request, Level::Error, format_args!("{why} while SSL handshaking to upstream"));
                let _ = self.attempt.failed(Failure::Ours, Instant::now());
                Err(Then::Answer(Flow::Status(500)))
            }
            Some(Err(Undialed::Handshake(error))) => {
                self.log(request, Level::Error, format_args!("{error} while SSL handshaking to upstream"));
                Err(self.failed(Failure::Error, false, request))
            }
            Some(Err(Undialed::TimedOut)) => {
                self.log(
                    request,
                    Level::Error,
                    format_args!(
                        "upstream timed out (110: Connection timed out) while SSL handshaking to upstream"
                    ),
                );
                Err(self.failed(Failure::Timeout, false, request))
            }
            None => {
                let action = match handshaking.get() {
                    true => "SSL handshaking to upstream",
                    false => "connecting to upstream",
                };
                self.say_gone(request, action);
                Err(Then::Answer(client_is_gone(request)))
            }
        }
    }

    fn not_connected(&mut self, error: &ConnectError, request: &mut Request) -> Then {
        let level = match error.level() {
            upstream::Level::Warn => Level::Warn,
            upstream::Level::Error => Level::Error,
            upstream::Level::Crit => Level::Crit,
            upstream::Level::Alert => Level::Alert,
        };
        self.log(request, level, format_args!("{error} while connecting to upstream"));
        if !error.may_retry() {
            let _ = self.attempt.failed(Failure::Ours, Instant::now());
            return Then::Answer(Flow::Status(500));
        }
        let failure = match (error.is_timeout(), error.blame()) {
            (true, _) => Failure::Timeout,
            (false, upstream::Blame::Us) => Failure::Ours,
            (false, _) => Failure::Error,
        };
        self.failed(failure, false, request)
    }

    /// Sends the request and reads until the head is complete.
    async fn read_head(
        &mut self,
        live: &mut Live,
        request: &mut Request,
        client: &mut dyn Client,
    ) -> Result<Box<Received>, Lost> {
        let room = match self.conf.limit_rate {
            // What answers an upgrade is a small head and little more.
            _ if self.upgrade.is_sent() => UPGRADE_READ,
            // What comes with the head comes at any rate.
            Some(_) => self.conf.buffer_size,
            None => READ.max(self.conf.buffer_size),
        };
        let mut received =
            Box::new(Received { head: take_head(), buf: Buf::with_capacity(room), body_at: 0 });
        let mut resume = Resume::default();
        let mut interim = 0;
        let limits = ResponseLimits { head_bytes_max: self.conf.buffer_size };
        self.timer.clear();
        loop {
            let read = poll_fn(|cx| self.poll_exchange(cx, live, &mut received.buf, request, client)).await?;
            if live.reused && !live.sender.has_begun {
                // The end of a kept connection, or bytes nobody asked for: never the answer to this request.
                let what = if read == 0 { "closed kept connection" } else { "sent data nobody asked for" };
                self.log(
                    request,
                    Level::Info,
                    format_args!("upstream {what} while sending request to upstream"),
                );
                return Err(Lost::Failed(Failure::Error));
            }
            if read == 0 {
                self.log(
                    request,
                    Level::Error,
                    format_args!(
                        "upstream prematurely closed connection while reading response header from upstream"
                    ),
                );
                return Err(Lost::Failed(Failure::Error));
            }
            loop {
                match parse(&received.buf, &mut received.head, &mut resume, &limits) {
                    Ok(Step::More) => break,
                    Ok(Step::Done(used)) if received.head.is_interim() => {
                        // We sent no Expect; early hints are the client's, once it asks for them.
                        received.buf.drain(..used);
                        resume = Resume::default();
                        interim += 1;
                        if interim > INTERIM_MAX {
                            self.log(
                                request,
                                Level::Error,
                                format_args!(
                                    "upstream sent too many interim responses while reading response header from upstream"
                                ),
                            );
                            return Err(Lost::Failed(Failure::InvalidHeader));
                        }
                    }
                    Ok(Step::Done(_)) if received.head.status < 100 => {
                        // No client knows where such a response ends.
                        let status = received.head.status;
                        self.log(
                            request,
                            Level::Error,
                            format_args!(
                                "upstream sent invalid status {status:03} while reading response header from upstream"
                            ),
                        );
                        return Err(Lost::Failed(Failure::InvalidHeader));
                    }
                    Ok(Step::Done(used)) => {
                        received.body_at = used;
                        return Ok(received);
                    }
                    Err(error) => {
                        let text = error.log_text(&received.buf);
                        self.log(request, Level::Error, format_args!("{text}"));
                        return Err(Lost::Failed(Failure::InvalidHeader));
                    }
                }
            }
        }
    }

    /// Sends what can be sent and reads once.
    fn poll_exchange(
        &mut self,
        cx: &mut Context<'_>,
        live: &mut Live,
        buf: &mut Buf,
        request: &mut Request,
        client: &mut dyn Client,
    ) -> Poll<Result<usize, Lost>> {
        // An answer may come before the request is sent, and an upstream that refuses a body closes behind it: what it
        // said is worth more than the failed write.
        if buf.len() == buf.capacity() {
            // The parser ends what is larger than this.
            buf.reserve_exact(self.conf.buffer_size.max(UPGRADE_READ));
        }
        match live.connection.poll_read_buf(cx, buf) {
            Poll::Ready(Ok(count)) => return Poll::Ready(Ok(count)),
            Poll::Ready(Err(error)) => return Poll::Ready(Err(self.not_read(error, request))),
            Poll::Pending => {}
        }
        if !live.sender.is_done(&self.head, &self.body) {
            let polled = live.sender.poll(cx, &mut live.connection, &self.head, &self.body, request, client);
            self.was_sent |= live.sender.has_begun;
            match polled {
                Poll::Ready(Ok(())) => self.timer.set(self.conf.read_timeout_ms),
                Poll::Ready(Err(SendError::Client(error))) => return Poll::Ready(Err(Lost::BadBody(error))),
                Poll::Ready(Err(SendError::Upstream(error))) => {
                    if let Poll::Ready(Ok(count @ 1..)) = live.connection.poll_read_buf(cx, buf) {
                        return Poll::Ready(Ok(count));
                    }
                    let failed = send_failed(&error);
                    self.log(
                        request,
                        Level::Error,
                        format_args!("{failed} while sending request to upstream"),
                    );
                    return Poll::Ready(Err(Lost::Failed(Failure::Error)));
                }
                Poll::Pending if live.sender.is_blocked && !self.timer.is_set() => {
                    self.timer.set(self.conf.send_timeout_ms);
                }
                Poll::Pending if live.sender.is_blocked => {}
                Poll::Pending => self.timer.clear(),
            }
        }
        if !self.conf.ignore_client_abort
            && request.is_main()
            && live.sender.is_done(&self.head, &self.body)
            && client.poll_gone(cx).is_ready()
        {
            return Poll::Ready(Err(Lost::ClientGone));
        }
        if self.timer.poll(cx).is_ready() {
            self.timer.clear();
            let action = if live.sender.is_done(&self.head, &self.body) {
                "reading response header from upstream"
            } else {
                "sending request to upstream"
            };
            self.log(
                request,
                Level::Error,
                format_args!("upstream timed out (110: Connection timed out) while {action}"),
            );
            return Poll::Ready(Err(Lost::Failed(Failure::Timeout)));
        }
        Poll::Pending
    }

    fn not_read(&self, error: std::io::Error, request: &mut Request) -> Lost {
        let failed = recv_failed(&error);
        self.log(request, Level::Error, format_args!("{failed} while reading response header from upstream"));
        Lost::Failed(Failure::Error)
    }

    fn lost(&mut self, lost: Lost, live: &Live, request: &mut Request) -> Then {
        self.count(live, request);
        match lost {
            Lost::Failed(failure) => self.failed(failure, live.reused, request),
            Lost::ClientGone => {
                let action = "reading response header from upstream";
                self.say_gone(request, action);
                Then::Answer(client_is_gone(request))
            }
            Lost::BadBody(BodyError::Gone) => Then::Answer(client_is_gone(request)),
            Lost::BadBody(error) => {
                request.keepalive = false;
                Then::Answer(Flow::Status(error.status()))
            }
        }
    }

    /// Reports a failure and says whether another peer is tried.
    fn failed(&mut self, failure: Failure, reused: bool, request: &mut Request) -> Then {
        if self.attempt.failed(failure, Instant::now()) == Health::Disabled {
            self.log(request, Level::Warn, format_args!("upstream server temporarily disabled"));
        }
        if reused && failure == Failure::Error {
            self.attempt.give_back_try();
        }
        let status = status_of(failure);
        let time = self.since_start(request);
        let state = request.slots.of::<Upstreamed>().now();
        state.response_ms = Some(time);
        state.status = status;
        if self.attempt.tries_left() > 0 && self.goes_on(failure, request) {
            return Then::Again;
        }
        request.response.reset_head();
        Then::Answer(Flow::Status(status))
    }

    /// Whether `proxy_next_upstream` sends the request on after this failure.
    fn goes_on(&self, failure: Failure, request: &Request) -> bool {
        let limit = self.conf.next_timeout_ms;
        self.conf.next.allows(failure, request.method, self.was_sent)
            && !(self.was_sent && self.body.streams)
            && (limit == 0 || monotonic_ms().saturating_sub(self.started_ms) < limit)
    }

    /// Adds up what went over the connection for this request.
    fn count(&self, live: &Live, request: &mut Request) {
        let counters = &live.connection.counters;
        let state = request.slots.of::<Upstreamed>().now();
        state.received = counters.received_bytes - live.received_before;
        state.sent = counters.sent_bytes - live.sent_before;
    }

    /// `proxy_intercept_errors`: a status that has an error page here.
    fn intercepts(&self, received: &Received, request: &mut Request) -> bool {
        let status = received.head.status;
        let pages = request.location().core.error_pages.clone();
        if status < 300 || !pages.iter().any(|page| page.code == status) {
            return false;
        }
        if status == 401 {
            for field in received.head.fields.all(FieldId::WwwAuthenticate) {
                request.response.carry(field.id, b"WWW-Authenticate", field.value.of(&received.buf));
            }
        }
        true
    }

    /// `X-Accel-Redirect`
    fn redirects(&self, received: &Received, request: &mut Request) -> Option<Flow> {
        if self.conf.ignore_headers.redirect {
            return None;
        }
        let to = received.head.fields.value(FieldId::XAccelRedirect, &received.buf)?.to_vec();
        response::carry(&received.head, &received.buf, request);
        if request.method != wire::http1::Method::Head && !to.starts_with(b"@") {
            request.method = wire::http1::Method::Get;
        }
        if to.starts_with(b"@") {
            return Some(Flow::Redirect(Redirect::Named(to)));
        }
        match response::internal_uri(&to) {
            Some((uri, args)) => Some(Flow::Redirect(Redirect::Uri(uri, args))),
            None => {
                let to = String::from_utf8_lossy(&to);
                self.log(request, Level::Error, format_args!("unsafe URI \"{to}\" was detected"));
                Some(Flow::Status(404))
            }
        }
    }

    /// The connection after a response whose body is not passed on: kept if the body is here whole.
    fn finish(&mut self, live: Box<Live>, received: &mut Received, request: &mut Request) {
        let mut reading = reading(&received.head, self.asks_for_head());
        let rest = reading.take(&mut received.buf, received.body_at);
        let is_whole = matches!(reading, Reading::Done) && rest.is_ok_and(|(_, extra)| extra == 0);
        self.close(live, is_whole && !received.head.connection_close, request);
        give_head(std::mem::take(&mut received.head));
    }

    /// Ends the use of a connection: back to the pool, or closed.
    pub(super) fn close(&mut self, live: Box<Live>, keep: bool, request: &mut Request) {
        self.count(&live, request);
        let time = self.since_start(request);
        request.slots.of::<Upstreamed>().now().response_ms = Some(time);
        let spec = self.attempt.group().keepalive();
        let whole = live.sender.is_done(&self.head, &self.body);
        let live = *live;
        if keep && whole && spec.connections > 0 && self.conf.version >= wire::http1::Version::V11 {
            // Why it may be refused is the pool's business.
            let _ = pool::of_this_thread().put(live.key, live.connection, spec, Instant::now());
        }
        drop(live.guard);
    }

    /// A 101.
    fn switch(&mut self, live: Box<Live>, received: &Received, request: &mut Request) -> Flow {
        let switch = match live.sender.is_done(&self.head, &self.body) {
            true => upgrade::switch(self.conf, &self.upgrade, &received.head, &received.buf, request),
            // What is left of the body would go down the tunnel as if it were its first bytes.
            false => Switch::Bad("upstream switched protocols before it had the request body".into()),
        };
        let is_websocket = match switch {
            Switch::Bad(why) => {
                self.log(
                    request,
                    Level::Error,
                    format_args!("{why} while reading response header from upstream"),
                );
                self.close(live, false, request);
                request.slots.of::<Upstreamed>().now().status = 502;
                return Flow::Status(502);
            }
            Switch::Relay => {
                response::translate(self.conf, &received.head, &received.buf, request);
                request.response.header_only = true;
                request.keepalive = false;
                self.close(live, false, request);
                return Flow::Respond;
            }
            Switch::Tunnel(is_websocket) => is_websocket,
        };
        response::translate(self.conf, &received.head, &received.buf, request);
        request.response.upgrade = true;
        self.count(&live, request);
        let state = request.slots.of::<Upstreamed>().now();
        let (upstream_received, upstream_sent, upstream_started_ms) =
            (state.received, state.sent, state.started_ms);
        let name = format!("{}{}{}", self.scheme(), live.peer.text, self.uri(request));
        let live = *live;
        let (fd, tls) = match live.connection.into_parts() {
            Ok(parts) => parts,
            Err(error) => {
                self.log(
                    request,
                    Level::Alert,
                    format_args!("the runtime does not give a socket up: {error}"),
                );
                return Flow::Status(500);
            }
        };
        let mut plan = upgrade::tunnel_plan(self.conf, request, fd);
        plan.leftover = received.buf[received.body_at..].to_vec();
        plan.upstream_tls = tls.map(|(end, input)| (end as Box<dyn TlsEnd + Send>, input));
        plan.websocket = is_websocket;
        (plan.upstream_received, plan.upstream_sent) = (upstream_received, upstream_sent);
        plan.upstream_started_ms = upstream_started_ms;
        plan.upstream_name = name.into();
        plan.guards.push(Box::new(live.guard));
        Flow::Tunnel(Box::new(plan))
    }

    /// Whether the request as sent is a HEAD (`proxy_method` may have changed it).
    pub(super) fn asks_for_head(&self) -> bool {
        self.head.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"HEAD "))
    }

    pub(super) fn say_gone(&self, request: &mut Request, action: &str) {
        self.log(
            request,
            Level::Info,
            format_args!(
                "client prematurely closed connection, so upstream connection is closed too while {action}"
            ),
        );
    }

    /// Writes to the error log, with the upstream's URL among what follows the message.
    pub(super) fn log(&self, request: &mut Request, level: Level, message: std::fmt::Arguments<'_>) {
        if !request.location().core.error_log.takes(level) {
            return;
        }
        let uri = self.uri(request);
        let peer = request.slots.of::<Upstreamed>().now().name().to_owned();
        // nginx puts a colon between a socket's path and the URI.
        let colon = if peer.starts_with("unix:") { ":" } else { "" };
        name_upstream(request, format!("{}{peer}{colon}{uri}", self.scheme()));
        request.log(level, message);
    }

    fn scheme(&self) -> &'static str {
        if self.secure.is_some() { "https://" } else { "http://" }
    }

    fn uri(&self, request: &mut Request) -> String {
        let range = request.slots.of::<Upstreamed>().uri.clone();
        String::from_utf8_lossy(self.head.get(range).unwrap_or_default()).into_owned()
    }
}

/// Why there is no connection.
enum Undialed {
    Connect(ConnectError),
    Certificate(String),
    Handshake(HandshakeError),
    TimedOut,
}

/// Connects, and goes through the handshake of TLS in what is left of the time.
async fn dial(
    addr: &PeerAddr,
    options: &ConnectOptions,
    secure: Option<&Towards>,
    handshaking: &Cell<bool>,
) -> Result<Connection, Undialed> {
    let connection = connect(addr, options).await.map_err(Undialed::Connect)?;
    let Some(secure) = secure else { return Ok(connection) };
    handshaking.set(true);
    let end = secure.begin(addr).map_err(|unbegun| match unbegun {
        Unbegun::Certificate(why) => Undialed::Certificate(why),
        Unbegun::Tls(error) => Undialed::Handshake(HandshakeError::Tls(error)),
    })?;
    let limit =
        Duration::from_millis(options.timeout_ms).saturating_sub(connection.counters.created.elapsed());
    // In a box: plain connections need no room for it.
    match Box::pin(timeout(limit, connection.secure(Box::new(end)))).await {
        Ok(done) => done.map_err(Undialed::Handshake),
        Err(_) => Err(Undialed::TimedOut),
    }
}

fn name_upstream(request: &mut Request, name: String) {
    request.slots.of::<UpstreamInUse>().0 = name;
}

thread_local! {
    static HEADS: std::cell::RefCell<Vec<ResponseHead>> = const { std::cell::RefCell::new(Vec::new()) };
}

/// Response heads keep the memory of their field lists from request to request.
fn take_head() -> ResponseHead {
    HEADS.with_borrow_mut(Vec::pop).unwrap_or_default()
}

pub(super) fn give_head(mut head: ResponseHead) {
    head.clear();
    HEADS.with_borrow_mut(|heads| {
        if heads.len() < 64 {
            heads.push(head);
        }
    });
}
