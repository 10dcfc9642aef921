//! One HTTP/1 client as handlers see it: the request body in, the response out.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use http::clock::monotonic_ms;
use http::log::Level;
use http::output::Chunk;
use http::pool::Buf;
use http::{BodyError, Client, Gone, Request};
use reactor::Timer;
use sys::errno;
use wire::http1::{ChunkPrefix, LAST_CHUNK, Version};

use crate::h1::body::{BadBody, RequestBody};
use crate::h1::head::{self, Framing};
use crate::h1::socket::{Socket, receive_failed};
use crate::worker::Worker;

/// Bytes read from a client at once while a body is taken.
const READ: usize = 32 * 1024;
/// Response pieces up to this many bytes are copied behind the piece before them, where it has room: one slice less.
const COPIED_MAX: usize = 1024;
/// Most slices in one write.
const SLICES: usize = 16;

/// A client while one of its requests runs.
pub(crate) struct H1Client {
    pub(crate) socket: Socket,
    worker: Rc<Worker>,
    pub(crate) body: RequestBody,
    /// `Expect: 100-continue` waits for an answer.
    expects: bool,
    /// Nobody wants the rest of the body: it is dropped while the response is sent.
    dropping: bool,
    /// Its body is broken or too large, and that was said.
    refused: bool,
    queue: VecDeque<Chunk>,
    queued: usize,
    framing: Framing,
    /// Body bytes promised by `Content-Length` and not yet queued.
    owed: u64,
    /// The end of the response was queued.
    ended: bool,
    read_deadline: Timer,
    write_deadline: Timer,
    /// `limit_rate`: nothing is written before.
    pause: Timer,
    failed: bool,
    /// The client sent or took nothing for too long.
    pub(crate) timed_out: bool,
}

impl H1Client {
    pub(crate) fn new(socket: Socket, worker: Rc<Worker>) -> H1Client {
        H1Client {
            socket,
            queue: worker.spare.queue(),
            worker,
            body: RequestBody::none(),
            expects: false,
            dropping: false,
            refused: false,
            queued: 0,
            framing: Framing::None,
            owed: 0,
            ended: false,
            read_deadline: Timer::default(),
            write_deadline: Timer::default(),
            pause: Timer::default(),
            failed: false,
            timed_out: false,
        }
    }

    /// The socket alone, when the request is over.
    pub(crate) fn into_socket(self) -> Socket {
        self.worker.spare.keep_queue(self.queue);
        self.socket
    }

    /// Prepares for a request whose head was read.
    pub(crate) fn begin(&mut self, request: &Request) {
        let head = &request.head;
        self.body = RequestBody::of(head);
        self.expects = head.expect_continue && head.version >= Version::V11;
    }

    /// Whether the client got a whole response: only then can another follow.
    pub(crate) fn is_answered(&self) -> bool {
        let ended = self.ended || matches!(self.framing, Framing::Length(_));
        ended && self.owed == 0 && self.unsent() == 0 && !self.failed
    }

    /// Bytes of the response that wait for the socket.
    fn unsent(&self) -> usize {
        self.queued + self.socket.owed()
    }

    /// Response bytes not yet taken by the socket.
    pub(crate) fn take_unsent(&mut self) -> Vec<u8> {
        let mut unsent = Vec::with_capacity(self.queued);
        for chunk in self.queue.drain(..) {
            unsent.extend_from_slice(chunk.bytes());
        }
        self.queued = 0;
        unsent
    }

    /// Reads and drops what is left of the body; ready at its end, with false when it cannot come to its end.
    pub(crate) fn poll_drop_body(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        loop {
            if self.body.skip(&mut self.socket).is_err() {
                return Poll::Ready(false);
            }
            if self.body.is_read() {
                return Poll::Ready(true);
            }
            match ready!(self.socket.poll_fill(cx, READ)) {
                Ok(0) | Err(_) => return Poll::Ready(false),
                Ok(_) => {}
            }
        }
    }

    fn push(&mut self, chunk: Chunk) {
        if chunk.is_empty() {
            return;
        }
        self.queued += chunk.len();
        if chunk.len() <= COPIED_MAX && self.queue.back_mut().is_some_and(|back| back.append(chunk.bytes())) {
            return;
        }
        self.queue.push_back(chunk);
    }

    fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
        request: &mut Request,
    ) -> Poll<Result<Option<Chunk>, BodyError>> {
        // Before the body is looked at, as nginx: also to a client that did not wait for it.
        self.answer_expect(cx, request)?;
        loop {
            let before = self.body.received;
            let piece = self.body.piece(&mut self.socket, request.location().core.client_max_body_size);
            request.received += self.body.received - before;
            match piece {
                Ok(Some(chunk)) => {
                    self.read_deadline.clear();
                    return Poll::Ready(Ok(Some(chunk)));
                }
                Ok(None) if self.body.is_read() => {
                    self.read_deadline.clear();
                    request.body_read = true;
                    return Poll::Ready(Ok(None));
                }
                Ok(None) => {}
                Err(bad) => {
                    self.refused = true;
                    return Poll::Ready(Err(refused(request, bad)));
                }
            }
            ready!(self.poll_more_body(cx, request))?;
        }
    }

    fn poll_more_body(&mut self, cx: &mut Context<'_>, request: &mut Request) -> Poll<Result<(), BodyError>> {
        match self.socket.poll_fill(cx, READ) {
            Poll::Ready(Ok(0)) => {
                request.log(Level::Info, format_args!("client prematurely closed connection"));
                self.failed = true;
                Poll::Ready(Err(BodyError::Gone))
            }
            Poll::Ready(Ok(_)) => {
                self.read_deadline.clear();
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => {
                let text = receive_failed(&error);
                request.log(Level::Info, format_args!("{text} while reading client request body"));
                self.failed = true;
                Poll::Ready(Err(BodyError::Gone))
            }
            Poll::Pending => {
                if !self.read_deadline.is_set() {
                    self.read_deadline.set(request.location().core.client_body_timeout);
                }
                ready!(self.read_deadline.poll(cx));
                let text = "client timed out (110: Connection timed out) while reading client request body";
                request.log(Level::Info, format_args!("{text}"));
                self.timed_out = true;
                Poll::Ready(Err(BodyError::Timeout))
            }
        }
    }

    /// `100 Continue`, when the client waits for it.
    fn answer_expect(&mut self, cx: &mut Context<'_>, request: &mut Request) -> Result<(), BodyError> {
        if !std::mem::take(&mut self.expects) {
            return Ok(());
        }
        self.push(Chunk::fixed(b"HTTP/1.1 100 Continue\r\n\r\n"));
        match self.poll_flush(cx, request, 0) {
            Poll::Ready(Err(Gone)) => Err(BodyError::Gone),
            _ => Ok(()),
        }
    }

    /// Writes at most so much of the queue.
    fn write_some(&mut self, mut most: usize) -> io::Result<usize> {
        let mut slices = [IoSlice::new(b""); SLICES];
        let mut count = 0;
        for chunk in self.queue.iter().take(SLICES) {
            let bytes = chunk.bytes();
            let part = bytes.len().min(most);
            slices[count] = IoSlice::new(&bytes[..part]);
            count += 1;
            most -= part;
            if most == 0 {
                break;
            }
        }
        self.socket.write(&slices[..count])
    }

    /// `limit_rate`: waits until something may be written, and says how much. As nginx it counts whole seconds: each allows
    /// `rate` bytes more.
    fn poll_rate(&mut self, cx: &mut Context<'_>, request: &Request) -> Poll<usize> {
        let rate = request.limit_rate.filter(|_| request.response.head_sent).unwrap_or_default();
        if rate == 0 {
            return Poll::Ready(usize::MAX);
        }
        loop {
            if self.pause.is_set() {
                ready!(self.pause.poll(cx));
                self.pause.clear();
            }
            let seconds = monotonic_ms().saturating_sub(request.started_ms) / 1000 + 1;
            let allowed = rate.saturating_mul(seconds).saturating_add(request.limit_rate_after);
            let sent = request.response.bytes_sent;
            if allowed > sent {
                return Poll::Ready(usize::try_from(allowed - sent).unwrap_or(usize::MAX));
            }
            self.pause.set((sent - allowed).saturating_mul(1000) / rate + 1);
        }
    }

    fn written(&mut self, request: &mut Request, mut count: usize) {
        let response = &mut request.response;
        response.bytes_sent += count as u64;
        response.body_bytes = response.bytes_sent.saturating_sub(response.head_bytes);
        self.write_deadline.clear();
        self.queued -= count;
        while let Some(front) = self.queue.front_mut() {
            if count < front.len() {
                front.advance(count);
                return;
            }
            count -= front.len();
            self.queue.pop_front();
        }
    }

    /// The socket takes nothing now: ready when it does after all, or when the client was too slow.
    fn poll_writable(&mut self, cx: &mut Context<'_>, request: &Request) -> Poll<Result<(), Gone>> {
        if self.dropping {
            // A client may send all of its body before it reads a byte of the answer.
            self.dropping = self.poll_drop_body(cx).is_pending();
        }
        if self.socket.stream.poll_writable(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        if !self.write_deadline.is_set() {
            self.write_deadline.set(request.location().core.send_timeout);
        }
        ready!(self.write_deadline.poll(cx));
        self.timed_out = true;
        let text = "client timed out (110: Connection timed out) while sending to client";
        Poll::Ready(Err(self.lost(request, format_args!("{text}"))))
    }

    fn lost(&mut self, request: &Request, what: std::fmt::Arguments<'_>) -> Gone {
        request.log(Level::Info, what);
        self.failed = true;
        self.queue.clear();
        self.queued = 0;
        Gone
    }
}

impl Client for H1Client {
    fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        request: &mut Request,
    ) -> Poll<Result<Option<Chunk>, BodyError>> {
        if self.failed {
            return Poll::Ready(Err(BodyError::Gone));
        }
        if self.refused {
            return Poll::Ready(Ok(None));
        }
        self.poll_piece(cx, request)
    }

    fn drop_body(&mut self, cx: &mut Context<'_>, request: &mut Request) -> Result<(), BodyError> {
        if self.failed || self.dropping || self.refused {
            return Ok(());
        }
        // Not before an error page, unless that is shown as a success.
        if request.error_status.is_none_or(|status| matches!(status, 0 | 200)) {
            self.answer_expect(cx, request)?;
        }
        self.expects = false;
        if self.body.is_read() {
            return Ok(());
        }
        if let Err(bad) = self.body.skip(&mut self.socket) {
            self.refused = true;
            return Err(refused(request, bad));
        }
        self.dropping = self.poll_drop_body(cx).is_pending();
        Ok(())
    }

    fn head(&mut self, request: &mut Request) {
        // What the client waits for is the answer now.
        self.expects = false;
        if self.worker.is_quitting() {
            request.keepalive = false;
        }
        let mut bytes = Buf::with_capacity(HEAD);
        if head::is_interim(request) {
            head::write_interim(request, &mut bytes);
        } else {
            self.framing = head::write(request, &mut bytes);
            self.owed = if let Framing::Length(length) = self.framing { length } else { 0 };
            self.ended = self.framing == Framing::None;
            request.response.head_bytes = bytes.len() as u64;
        }
        let end = bytes.len();
        self.push(Chunk::pooled(bytes, 0..end));
    }

    fn body(&mut self, request: &mut Request, mut chunk: Chunk) {
        let last = chunk.last;
        if self.ended || self.failed {
            return;
        }
        if let Framing::Length(_) = self.framing {
            chunk.truncate(usize::try_from(self.owed).unwrap_or(usize::MAX));
            self.owed -= chunk.len() as u64;
        }
        if self.framing == Framing::Chunked && !chunk.is_empty() {
            self.push(Chunk::prefix(&ChunkPrefix::new(chunk.len() as u64)));
            self.push(chunk);
            self.push(Chunk::fixed(b"\r\n"));
        } else {
            self.push(chunk);
        }
        if !last {
            return;
        }
        self.ended = true;
        if self.owed > 0 {
            // Less than promised: the client must see that the body was cut.
            request.keepalive = false;
        }
        if self.framing == Framing::Chunked {
            self.push(last_chunk(&request.response.trailers));
        }
    }

    fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        request: &mut Request,
        keep: usize,
    ) -> Poll<Result<(), Gone>> {
        if self.failed {
            return Poll::Ready(Err(Gone));
        }
        while self.unsent() > 0 {
            let most = match self.poll_rate(cx, request) {
                // What TLS has taken already was counted then.
                _ if self.queued == 0 => 0,
                Poll::Ready(most) => most,
                Poll::Pending if self.unsent() <= keep => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            };
            match self.write_some(most) {
                Ok(0) if self.queued == 0 => {}
                Ok(0) => {
                    let text = "client closed connection while sending to client";
                    return Poll::Ready(Err(self.lost(request, format_args!("{text}"))));
                }
                Ok(count) => {
                    self.written(request, count);
                    if let Some(rate @ 1..) = request.limit_rate {
                        // What is beyond the free part takes the time it should.
                        let free = request
                            .limit_rate_after
                            .saturating_sub(request.response.bytes_sent - count as u64);
                        self.pause.set((count as u64).saturating_sub(free).saturating_mul(1000) / rate);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    match self.poll_writable(cx, request) {
                        Poll::Ready(Ok(())) => {}
                        Poll::Ready(Err(Gone)) => return Poll::Ready(Err(Gone)),
                        Poll::Pending if self.unsent() <= keep => return Poll::Ready(Ok(())),
                        Poll::Pending => return Poll::Pending,
                    }
                }
                Err(error) => {
                    let text = errno::text(&error);
                    let gone =
                        self.lost(request, format_args!("writev() failed ({text}) while sending to client"));
                    return Poll::Ready(Err(gone));
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.failed {
            return Poll::Ready(());
        }
        self.socket.stream.poll_gone(cx)
    }

    fn is_gone(&self) -> bool {
        self.failed
    }
}

/// Room for a response head; most are smaller.
const HEAD: usize = 1024;

/// An error page that goes upstream goes without what is left of it.
fn refused(request: &mut Request, bad: BadBody) -> BodyError {
    match bad {
        BadBody::Malformed => {
            request.log(Level::Error, format_args!("client sent invalid chunked body"));
        }
        BadBody::TooLarge(taken, size) => request.log(
            Level::Error,
            format_args!("client intended to send too large chunked body: {taken}+{size} bytes"),
        ),
    }
    (request.head.content_length, request.head.chunked) = (None, false);
    bad.into()
}

/// The end of a chunked body.
fn last_chunk(trailers: &[u8]) -> Chunk {
    if trailers.is_empty() {
        return Chunk::fixed(LAST_CHUNK);
    }
    let mut end = b"0\r\n".to_vec();
    end.extend_from_slice(trailers);
    end.extend_from_slice(b"\r\n");
    Chunk::owned(end)
}
