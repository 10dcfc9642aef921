//! The request goes out and a response head comes in.

use std::future::poll_fn;
use std::task::{Context, Poll};

use http::log::Level;
use http::pool::Buf;
use http::{Client, Request};
use upstream::{Failure, recv_failed, send_failed};
use wire::http1::{ResponseHead, ResponseLimits, Resume, Step, response as parse};

use crate::proxy::body::SendError;
use crate::proxy::connect::Live;
use crate::proxy::exchange::Exchange;
use crate::proxy::failover::Lost;

/// Bytes read from a peer at once: most responses are one read, head and body.
pub(super) const READ: usize = 32 * 1024;
/// The same for what answers an upgrade, to begin with.
const UPGRADE_READ: usize = 1024;

/// Most 1xx heads before the response: who sends them without end would hold a request for ever.
const INTERIM_MAX: u32 = 64;

/// A response head, and the buffer it and the first body bytes stand in.
pub(super) struct Received {
    pub(super) head: ResponseHead,
    pub(super) buf: Buf,
    /// Where the body begins in `buf`.
    pub(super) body_at: usize,
}

impl Exchange<'_> {
    /// Sends the request and reads until the head is complete.
    pub(super) async fn read_head(
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
            if self.parse(&mut received, &mut resume, &mut interim, request)? {
                return Ok(received);
            }
        }
    }

    /// Goes on with the head; false when more of it must come.
    fn parse(
        &self,
        received: &mut Received,
        resume: &mut Resume,
        interim: &mut u32,
        request: &mut Request,
    ) -> Result<bool, Lost> {
        let limits = ResponseLimits { head_bytes_max: self.conf.buffer_size };
        let invalid = |request: &mut Request, what: std::fmt::Arguments<'_>| {
            self.log(
                request,
                Level::Error,
                format_args!("upstream sent {what} while reading response header from upstream"),
            );
            Lost::Failed(Failure::InvalidHeader)
        };
        loop {
            let step = parse(&received.buf, &mut received.head, resume, &limits);
            if !matches!(step, Ok(Step::More)) {
                self.say_ignored(received, request);
            }
            match step {
                Ok(Step::More) => return Ok(false),
                Ok(Step::Done(used)) if received.head.is_interim() => {
                    // We sent no Expect; early hints are the client's, once it asks for them.
                    received.buf.drain(..used);
                    *resume = Resume::default();
                    *interim += 1;
                    if *interim > INTERIM_MAX {
                        return Err(invalid(request, format_args!("too many interim responses")));
                    }
                }
                Ok(Step::Done(_)) if received.head.status < 100 => {
                    // No client knows where such a response ends.
                    let status = received.head.status;
                    return Err(invalid(request, format_args!("invalid status {status:03}")));
                }
                Ok(Step::Done(used)) => {
                    received.body_at = used;
                    return Ok(true);
                }
                Err(error) => {
                    self.keep_head(received, received.buf.len(), request);
                    let text = error.log_text(&received.buf);
                    self.log(request, Level::Error, format_args!("{text}"));
                    return Err(Lost::Failed(Failure::InvalidHeader));
                }
            }
        }
    }

    /// The fields that came a second time.
    fn say_ignored(&self, received: &Received, request: &mut Request) {
        for ignored in &received.head.ignored {
            let text = ResponseHead::ignored_text(ignored, &received.buf);
            self.log(
                request,
                Level::Warn,
                format_args!("{text} while reading response header from upstream"),
            );
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
