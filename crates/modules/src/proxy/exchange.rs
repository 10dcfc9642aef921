//! One request's exchange with its upstream: pick a peer, connect, send, read the head; what comes of it.
//!
//! The straight story stands here. `connect.rs` has the connection, `receive.rs` the response head, `failover.rs` what
//! follows when there is none, `divert.rs` and `switch.rs` the heads that lead elsewhere, `respond.rs` the body.

use http::log::{Level, UpstreamInUse};
use http::pool::Buf;
use http::{BodyError, Client, Flow, Request};
use reactor::Timer;
use sys::clock::{self, monotonic_ms};
use upstream::{Attempt, Failure, Group, PickContext};

use crate::proxy::aim::aim;
use crate::proxy::body::{NoBody, RequestBody};
use crate::proxy::connect::Live;
use crate::proxy::failover::{Then, body_is_cut};
use crate::proxy::next::is_named;
use crate::proxy::pace::Pace;
use crate::proxy::pass::Target;
use crate::proxy::reading::{Reading, reading};
use crate::proxy::receive::{Received, give_head};
use crate::proxy::ssl::Towards;
use crate::proxy::state::AttemptState;
use crate::proxy::upgrade::{self, Upgrade};
use crate::proxy::{Conf, Site, Upstreamed, pool, request as head_of, response};

/// Passes a request on and its response back.
pub(crate) async fn run(site: &Site, request: &mut Request, client: &mut dyn Client) -> Flow {
    let varying;
    let (group, target) = match &site.fixed {
        Some((group, target)) => (group, target),
        // Boxed: it may ask a resolver, for which requests to a fixed place should not carry room.
        None => match Box::pin(aim(site, request)).await {
            Ok(aim) => {
                varying = aim;
                (&varying.0, &varying.1)
            }
            Err(status) => return Flow::Status(status),
        },
    };
    let upstreamed = request.slots.of::<Upstreamed>();
    upstreamed.target = Some(target.clone());
    upstreamed.head = None;
    let redirected = !upstreamed.attempts.is_empty();
    // Behind the slot, whose target `$proxy_host` shows.
    let secure = site
        .secure
        .as_ref()
        .filter(|_| target.tls)
        .map(|secure| Towards::new(secure, &site.conf.ssl_texts, group.name_shared(), target, request));
    if target.tls && secure.is_none() {
        return Flow::Status(500);
    }
    let body = match RequestBody::read(&site.conf, request, client).await {
        Ok(body) => body,
        Err(NoBody::Client(BodyError::Gone)) => return body_is_cut(request),
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
    // Not matched around the rest: the future would hold it twice.
    let mut exchange = match Exchange::new(site, group, target, secure, body, request) {
        Ok(exchange) => exchange,
        Err(status) => return Flow::Status(status),
    };
    exchange.redirected = redirected;
    let flow = loop {
        match exchange.try_peer(request, client).await {
            Then::Again => {}
            Then::Answer(flow) => break flow,
        }
    };
    if !matches!(flow, Flow::Tunnel(_)) {
        let state = request.slots.of::<Upstreamed>().now();
        state.response_ms.get_or_insert(state.since_start());
    }
    flow
}

pub(super) struct Exchange<'a> {
    pub(super) site: &'a Site,
    pub(super) conf: &'a Conf,
    pub(super) attempt: Attempt<'a>,
    /// TLS towards the peer.
    pub(super) secure: Option<Towards>,
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

impl<'a> Exchange<'a> {
    /// Writes the request's head and gets ready to pick a peer; an error is the status to answer.
    fn new(
        site: &'a Site,
        group: &'a Group,
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

    async fn try_peer(&mut self, request: &mut Request, client: &mut dyn Client) -> Then {
        self.begin_attempt(request);
        let Ok(picked) = self.attempt.next(clock::instant()) else {
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
        let state = request.slots.of::<Upstreamed>().now();
        state.connect_ms = Some(state.since_start());
        live.connection.counters.requests += 1;
        if self.upgrade.is_sent() || self.head.starts_with(b"CONNECT ") {
            live.connection.never_keep();
        }
        let mut received = match self.read_head(&mut live, request, client).await {
            Ok(received) => received,
            Err(lost) => return self.lost(lost, &live, request),
        };
        let status = received.head.status;
        let state = self.count(&live, request);
        state.header_ms = Some(state.since_start());
        state.status = status;
        if status >= 300
            && is_named(status)
            && self.goes_on(Failure::Status(status), request)
            && self.attempt.tries_left() > 1
        {
            return self.failed(Failure::Status(status), live.reused, request);
        }
        self.attempt.succeeded();
        self.keep_head(&received, received.body_at, request);
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
        request.slots.of::<Upstreamed>().attempts.push(state);
    }

    /// Adds up what went over the connection for this request.
    pub(super) fn count<'r>(&self, live: &Live, request: &'r mut Request) -> &'r mut AttemptState {
        let counters = &live.connection.counters;
        let state = request.slots.of::<Upstreamed>().now();
        state.received = counters.received_bytes - live.received_before;
        state.sent = counters.sent_bytes - live.sent_before;
        state
    }

    /// Keeps a head, or the good part of a bad one, for `$upstream_http_...`.
    pub(super) fn keep_head(&self, received: &Received, len: usize, request: &mut Request) {
        if self.site.keep_head {
            let mut copy = Buf::with_capacity(len);
            copy.extend_from_slice(&received.buf[..len]);
            request.slots.of::<Upstreamed>().head = Some((received.head.clone(), copy));
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
        let state = self.count(&live, request);
        state.response_ms = Some(state.since_start());
        let spec = self.attempt.group().keepalive();
        let whole = live.sender.is_done(&self.head, &self.body);
        let live = *live;
        if keep && whole && spec.connections > 0 && self.conf.version >= wire::http1::Version::V11 {
            // Why it may be refused is the pool's business.
            let _ = pool::of_this_thread().put(live.key, live.connection, spec, clock::instant());
        }
        drop(live.guard);
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
                "epoll_wait() reported that client prematurely closed connection, \
                 so upstream connection is closed too while {action}"
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

    pub(super) fn scheme(&self) -> &'static str {
        if self.secure.is_some() { "https://" } else { "http://" }
    }

    pub(super) fn uri(&self, request: &mut Request) -> String {
        String::from_utf8_lossy(self.uri_bytes(request)).into_owned()
    }

    pub(super) fn uri_bytes(&self, request: &mut Request) -> &[u8] {
        let range = request.slots.of::<Upstreamed>().uri.clone();
        self.head.get(range).unwrap_or_default()
    }
}

fn name_upstream(request: &mut Request, name: String) {
    request.slots.of::<UpstreamInUse>().0 = name;
}
