//! A response whose head is here, passed on to the client with backpressure both ways.

use std::future::poll_fn;
use std::task::{Context, Poll};

use http::log::Level;
use http::output::{self, Chunk, QUEUE_MAX};
use http::pool::Buf;
use http::{Client, Flow, Request};
use upstream::recv_failed;
use wire::http1::FieldId;

use crate::proxy::Upstreamed;
use crate::proxy::body::SendError;
use crate::proxy::connect::Live;
use crate::proxy::exchange::Exchange;
use crate::proxy::reading::{BadBody, Reading, reading};
use crate::proxy::receive::{READ, Received, give_head};

/// What is done while the body comes.
const READING: &str = "reading upstream";

/// Why a body did not come to its end.
enum Cut {
    Upstream,
    Client,
}

impl Exchange<'_> {
    /// Passes the response on.
    pub(super) async fn respond(
        &mut self,
        mut live: Box<Live>,
        mut received: Box<Received>,
        request: &mut Request,
        client: &mut dyn Client,
    ) -> Flow {
        let mut reading = reading(&received.head, self.asks_for_head());
        let closes = received.head.connection_close;
        let keep_queued = if self.buffers(&received, request) { QUEUE_MAX } else { 0 };
        give_head(std::mem::take(&mut received.head));
        request.response.header_only |= http::is_head(request);
        output::head(request, client);
        if http::is_head(request) && !matches!(reading, Reading::Done) {
            // `proxy_method` made something else of a HEAD: nobody waits for what comes.
            self.close(live, false, request);
            return self.end(request, client).await;
        }
        let rate = self.conf.limit_rate.as_ref().filter(|_| keep_queued > 0);
        let rate = rate.and_then(|rate| conf::value::size(&rate.value(request))).unwrap_or_default();
        self.pace.start(rate, received.buf.len() - received.body_at);
        let mut at = received.body_at;
        let mut buf = std::mem::take(&mut received.buf);
        drop(received);
        self.timer.clear();
        // Without buffers nginx has not begun to read the body when it looks at what came with the head.
        let mut action = if keep_queued > 0 { READING } else { "reading response header from upstream" };
        loop {
            let was_chunked = matches!(reading, Reading::Chunks(_));
            let came = buf.len() - at;
            // As on nginx all that came counts.
            if !self.asks_for_head() {
                request.slots.of::<Upstreamed>().now().response_length += came as u64;
            }
            let taken = reading.take(&mut buf, at);
            let Ok((range, extra)) = taken else {
                if let Err(BadBody(good)) = taken
                    && !good.is_empty()
                {
                    output::body(request, client, Chunk::pooled(buf, good));
                }
                self.log(
                    request,
                    Level::Error,
                    format_args!("upstream sent invalid chunked response while {action}"),
                );
                return self.cut(live, request, client).await;
            };
            let done = matches!(reading, Reading::Done);
            if extra > 0 {
                self.say_extra(was_chunked, action, request);
            }
            action = READING;
            if done {
                self.close(live, extra == 0 && !closes, request);
                if !request.response.header_only {
                    output::body(request, client, Chunk::pooled(buf, range).last());
                }
                return self.end(request, client).await;
            }
            if !range.is_empty() {
                let mut chunk = Chunk::pooled(std::mem::take(&mut buf), range);
                chunk.flush = keep_queued == 0;
                output::body(request, client, chunk);
            }
            buf.clear();
            at = 0;
            if buf.capacity() == 0 {
                buf = Buf::with_capacity(READ);
            }
            match poll_fn(|cx| self.poll_body(cx, &mut live, &mut buf, keep_queued, request, client)).await {
                Ok(0) if matches!(reading, Reading::UntilClose) => {
                    self.close(live, false, request);
                    output::body(request, client, Chunk::end());
                    return self.end(request, client).await;
                }
                Ok(0) => {
                    self.log(
                        request,
                        Level::Error,
                        format_args!("upstream prematurely closed connection while reading upstream"),
                    );
                    return self.cut(live, request, client).await;
                }
                Ok(_) => {}
                Err(Cut::Upstream) => return self.cut(live, request, client).await,
                Err(Cut::Client) => {
                    self.close(live, false, request);
                    request.keepalive = false;
                    return Flow::Abort;
                }
            }
        }
    }

    async fn end(&mut self, request: &mut Request, client: &mut dyn Client) -> Flow {
        // The peer answered before it had all of the body: what the client still sends is not a request.
        request.keepalive &= !self.body.streams || request.body_read;
        if output::flush(request, client, 0).await.is_err() {
            return Flow::Abort;
        }
        request.response.complete = true;
        Flow::Done
    }

    fn say_extra(&self, was_chunked: bool, action: &str, request: &mut Request) {
        if self.asks_for_head() {
            return;
        }
        let what = match was_chunked {
            true => "upstream sent data after final chunk",
            false => "upstream sent more data than specified in \"Content-Length\" header",
        };
        self.log(request, Level::Warn, format_args!("{what} while {action}"));
    }

    /// Part of a response came: the client gets that part and then the end of its connection.
    async fn cut(&mut self, live: Box<Live>, request: &mut Request, client: &mut dyn Client) -> Flow {
        self.close(live, false, request);
        request.keepalive = false;
        let _ = output::flush(request, client, 0).await;
        Flow::Abort
    }

    /// `X-Accel-Limit-Rate`; also where an X-Accel-Redirect beside it leads.
    pub(super) fn limit_rate(&self, received: &Received, request: &mut Request) {
        if !self.conf.ignore_headers.limit_rate
            && let Some(rate) = received.head.fields.value(FieldId::XAccelLimitRate, &received.buf)
            && let Some(rate) = conf::value::number(rate)
        {
            request.limit_rate = Some(rate);
        }
    }

    /// Whether the client may be behind the upstream by a queue's length.
    fn buffers(&self, received: &Received, request: &Request) -> bool {
        let said = match self.conf.ignore_headers.buffering {
            true => None,
            false => received.head.fields.value(FieldId::XAccelBuffering, &received.buf),
        };
        let streamed = request.response.content_type.as_deref().is_some_and(|value| {
            value.get(..17).is_some_and(|head| head.eq_ignore_ascii_case(b"text/event-stream"))
        });
        match said {
            Some(value) if value.eq_ignore_ascii_case(b"yes") => true,
            Some(value) if value.eq_ignore_ascii_case(b"no") => false,
            _ => self.conf.buffering && !streamed,
        }
    }

    /// Reads more of the body, when the client is not too far behind.
    fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        live: &mut Live,
        buf: &mut Buf,
        keep_queued: usize,
        request: &mut Request,
        client: &mut dyn Client,
    ) -> Poll<Result<usize, Cut>> {
        match client.poll_flush(cx, request, keep_queued) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => return Poll::Ready(Err(Cut::Client)),
            Poll::Pending => {
                // The upstream is not slow, we do not read.
                self.timer.clear();
                return Poll::Pending;
            }
        }
        if !live.sender.is_done(&self.head, &self.body) {
            let polled = live.sender.poll(cx, &mut live.connection, &self.head, &self.body, request, client);
            if let Poll::Ready(Err(SendError::Client(_))) = polled {
                return Poll::Ready(Err(Cut::Client));
            }
        }
        let polled = match self.pace.poll(cx) {
            Poll::Pending => {
                self.timer.clear();
                return Poll::Pending;
            }
            Poll::Ready(None) => live.connection.poll_read_buf(cx, buf),
            Poll::Ready(Some(most)) => {
                let mut taken = Vec::with_capacity(most.min(READ));
                let polled = live.connection.poll_read_buf(cx, &mut taken);
                buf.extend_from_slice(&taken);
                polled
            }
        };
        match polled {
            Poll::Ready(Ok(count)) => {
                self.timer.clear();
                self.pace.took(count);
                return Poll::Ready(Ok(count));
            }
            Poll::Ready(Err(error)) => {
                let failed = recv_failed(&error);
                self.log(request, Level::Error, format_args!("{failed} while reading upstream"));
                return Poll::Ready(Err(Cut::Upstream));
            }
            Poll::Pending => {}
        }
        if !self.conf.ignore_client_abort && client.poll_gone(cx).is_ready() {
            self.say_gone(request, "reading upstream");
            return Poll::Ready(Err(Cut::Client));
        }
        if !self.timer.is_set() {
            self.timer.set(self.conf.read_timeout_ms);
        }
        if self.timer.poll(cx).is_ready() {
            self.log(
                request,
                Level::Error,
                format_args!("upstream timed out (110: Connection timed out) while reading upstream"),
            );
            return Poll::Ready(Err(Cut::Upstream));
        }
        Poll::Pending
    }
}
