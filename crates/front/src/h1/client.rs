//! One HTTP/1 client as handlers see it: the request body in, the response out.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use http::log::Level;
use http::output::Chunk;
use http::pool::Buf;
use http::{BodyError, Client, Gone, Request};
use wire::http1::{self, ChunkDecoder, LAST_CHUNK, Version};

use crate::deadline::Deadline;
use crate::h1::head::{self, Framing};
use crate::stream::Stream;

/// Bytes read from a client at once while a body is taken.
const READ: usize = 32 * 1024;
/// Most slices in one write.
const SLICES: usize = 16;

/// What of the request body is still to come.
pub(crate) enum BodyLeft {
    None,
    Length(u64),
    Chunks(ChunkDecoder),
}

/// A client and its connection's buffers. Empty buffers hold no memory.
pub(crate) struct H1Client {
    pub(crate) stream: Stream,
    /// Received and not yet used, from `in_at` on.
    pub(crate) input: Buf,
    pub(crate) in_at: usize,
    pub(crate) body: BodyLeft,
    /// `Expect: 100-continue` waits for an answer.
    expects: bool,
    /// Body bytes taken so far, for `client_max_body_size` of chunked bodies.
    body_bytes: u64,
    queue: VecDeque<Chunk>,
    queued: usize,
    framing: Framing,
    /// Body bytes promised by `Content-Length` and not yet queued.
    owed: u64,
    read_deadline: Deadline,
    write_deadline: Deadline,
    /// Bytes are waiting behind the request: its end cannot be seen before they are read.
    more_waits: bool,
    pub(crate) failed: bool,
    /// The client took nothing for `send_timeout`.
    pub(crate) timed_out: bool,
}

impl H1Client {
    pub(crate) fn new(stream: Stream) -> H1Client {
        H1Client {
            stream,
            input: Buf::default(),
            in_at: 0,
            body: BodyLeft::None,
            expects: false,
            body_bytes: 0,
            queue: VecDeque::new(),
            queued: 0,
            framing: Framing::None,
            owed: 0,
            read_deadline: Deadline::default(),
            write_deadline: Deadline::default(),
            more_waits: false,
            failed: false,
            timed_out: false,
        }
    }

    /// The socket alone, for the hand-over.
    pub(crate) fn into_stream(self) -> Stream {
        self.stream
    }

    /// Prepares for a request whose head was read.
    pub(crate) fn begin(&mut self, request: &Request) {
        let head = &request.head;
        self.body = if head.chunked {
            BodyLeft::Chunks(ChunkDecoder::new())
        } else {
            match head.content_length {
                Some(length) if length > 0 => BodyLeft::Length(length),
                _ => BodyLeft::None,
            }
        };
        self.expects = head.expect_continue && head.version >= Version::V11 && !self.body_is_read();
        self.body_bytes = 0;
        self.framing = Framing::None;
        self.owed = 0;
        self.more_waits = false;
    }

    /// Whether nothing of the request body is left.
    pub(crate) fn body_is_read(&self) -> bool {
        matches!(self.body, BodyLeft::None)
    }

    /// Received bytes that belong to nobody yet.
    pub(crate) fn unread(&self) -> &[u8] {
        &self.input[self.in_at..]
    }

    /// Takes them out.
    pub(crate) fn take_unread(&mut self) -> Vec<u8> {
        let unread = self.unread().to_vec();
        self.forget_input();
        unread
    }

    /// Gives the input buffer back.
    pub(crate) fn forget_input(&mut self) {
        self.input = Buf::default();
        self.in_at = 0;
    }

    /// Response bytes not yet taken by the socket.
    pub(crate) fn take_unsent(&mut self) -> Vec<u8> {
        let mut unsent = Vec::new();
        for chunk in self.queue.drain(..) {
            unsent.extend_from_slice(chunk.bytes());
        }
        self.queued = 0;
        unsent
    }

    fn push(&mut self, chunk: Chunk) {
        if !chunk.is_empty() {
            self.queued += chunk.len();
            self.queue.push_back(chunk);
        }
    }

    /// Reads more into the input buffer; ready with the count, 0 at the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_readable(cx))?;
            if self.in_at == self.input.len() {
                self.forget_input();
            }
            if self.input.capacity() == 0 {
                self.input = Buf::with_capacity(READ);
            } else if self.input.capacity() == self.input.len() {
                self.input.drain(..self.in_at);
                self.in_at = 0;
                self.input.reserve(READ / 4);
            }
            match self.stream.try_read(&mut self.input) {
                Ok(count) => return Poll::Ready(Ok(count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// A piece of the body from what was received; `None` when more must be read first.
    fn piece(&mut self) -> Result<Option<Chunk>, BodyError> {
        match &mut self.body {
            BodyLeft::None => Ok(None),
            BodyLeft::Length(left) => {
                let have = self.input.len() - self.in_at;
                if have == 0 {
                    return Ok(None);
                }
                let take = usize::try_from(*left).unwrap_or(usize::MAX).min(have);
                *left -= take as u64;
                if *left == 0 {
                    self.body = BodyLeft::None;
                }
                Ok(Some(self.cut(self.in_at, take)))
            }
            BodyLeft::Chunks(decoder) => loop {
                let rest = &self.input[self.in_at..];
                match decoder.step(rest).map_err(|_| BodyError::Malformed)? {
                    http1::Chunk::Data(range) => {
                        let start = self.in_at + range.start;
                        return Ok(Some(self.cut(start, range.len())));
                    }
                    http1::Chunk::More => {
                        self.in_at = self.input.len();
                        return Ok(None);
                    }
                    http1::Chunk::End(used) => {
                        self.in_at += used;
                        self.body = BodyLeft::None;
                        return Ok(None);
                    }
                }
            },
        }
    }

    /// Cuts body bytes out of the input: the buffer itself when nothing else is in it, else a copy.
    fn cut(&mut self, start: usize, len: usize) -> Chunk {
        let end = start + len;
        self.in_at = end;
        if end == self.input.len() && len > READ / 8 {
            self.in_at = 0;
            return Chunk::pooled(std::mem::take(&mut self.input), start..end);
        }
        let mut copy = Buf::with_capacity(len);
        copy.extend_from_slice(&self.input[start..end]);
        Chunk::pooled(copy, 0..len)
    }

    fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
        request: &mut Request,
    ) -> Poll<Result<Option<Chunk>, BodyError>> {
        loop {
            if let Some(chunk) = self.piece()? {
                self.body_bytes += chunk.len() as u64;
                request.received += chunk.len() as u64;
                let max = request.location().core.client_max_body_size;
                if max != 0 && self.body_bytes > max {
                    let bytes = self.body_bytes;
                    request.log(
                        Level::Error,
                        format_args!("client intended to send too large chunked body: {bytes} bytes"),
                    );
                    return Poll::Ready(Err(BodyError::TooLarge));
                }
                self.read_deadline.clear();
                return Poll::Ready(Ok(Some(chunk)));
            }
            if self.body_is_read() {
                self.read_deadline.clear();
                request.body_read = true;
                return Poll::Ready(Ok(None));
            }
            self.answer_expect(cx, request)?;
            match self.poll_fill(cx) {
                Poll::Ready(Ok(0)) => {
                    request.log(Level::Info, format_args!("client prematurely closed connection"));
                    self.failed = true;
                    return Poll::Ready(Err(BodyError::Gone));
                }
                Poll::Ready(Ok(_)) => self.read_deadline.set(request.location().core.client_body_timeout),
                Poll::Ready(Err(error)) => {
                    request.log(
                        Level::Info,
                        format_args!("recv() failed ({error}) while reading client request body"),
                    );
                    self.failed = true;
                    return Poll::Ready(Err(BodyError::Gone));
                }
                Poll::Pending => {
                    if !self.read_deadline.is_set() {
                        self.read_deadline.set(request.location().core.client_body_timeout);
                    }
                    ready!(self.read_deadline.poll(cx));
                    request.log(
                        Level::Info,
                        format_args!(
                            "client timed out (110: Connection timed out) while reading client request body"
                        ),
                    );
                    return Poll::Ready(Err(BodyError::Timeout));
                }
            }
        }
    }

    /// `100 Continue`, when the client waits for it and has sent nothing yet.
    fn answer_expect(&mut self, cx: &mut Context<'_>, request: &mut Request) -> Result<(), BodyError> {
        if !std::mem::take(&mut self.expects) || self.in_at < self.input.len() {
            return Ok(());
        }
        self.push(Chunk::fixed(b"HTTP/1.1 100 Continue\r\n\r\n"));
        match self.poll_flush(cx, request, 0) {
            Poll::Ready(Err(Gone)) => Err(BodyError::Gone),
            _ => Ok(()),
        }
    }

    fn write_some(&mut self) -> io::Result<usize> {
        let mut slices = [IoSlice::new(b""); SLICES];
        let mut count = 0;
        for chunk in self.queue.iter().take(SLICES) {
            slices[count] = IoSlice::new(chunk.bytes());
            count += 1;
        }
        self.stream.try_write(&slices[..count])
    }

    fn written(&mut self, mut count: usize) {
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

    fn lost(&mut self, request: &Request, what: std::fmt::Arguments<'_>) -> Poll<Result<(), Gone>> {
        request.log(Level::Info, what);
        self.failed = true;
        self.queue.clear();
        self.queued = 0;
        Poll::Ready(Err(Gone))
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
        self.poll_piece(cx, request)
    }

    fn head(&mut self, request: &mut Request) {
        let mut bytes = Buf::with_capacity(1024);
        self.framing = head::write(request, &mut bytes);
        if let Framing::Length(length) = self.framing {
            self.owed = length;
        }
        request.response.head_bytes += bytes.len() as u64;
        request.response.bytes_sent += bytes.len() as u64;
        let end = bytes.len();
        self.push(Chunk::pooled(bytes, 0..end));
    }

    fn body(&mut self, request: &mut Request, mut chunk: Chunk) {
        let last = chunk.last;
        match self.framing {
            Framing::None => return,
            Framing::Length(_) => {
                chunk.truncate(usize::try_from(self.owed).unwrap_or(usize::MAX));
                self.owed -= chunk.len() as u64;
            }
            Framing::Chunked | Framing::Close => {}
        }
        let before = self.queued;
        let len = chunk.len();
        if self.framing == Framing::Chunked && len > 0 {
            self.push(Chunk::owned(chunk_prefix(len)));
            self.push(chunk);
            self.push(Chunk::fixed(b"\r\n"));
        } else {
            self.push(chunk);
        }
        if last && self.framing == Framing::Chunked {
            if request.response.trailers.is_empty() {
                self.push(Chunk::fixed(LAST_CHUNK));
            } else {
                let mut end = b"0\r\n".to_vec();
                end.extend_from_slice(&request.response.trailers);
                end.extend_from_slice(b"\r\n");
                self.push(Chunk::owned(end));
            }
        }
        if last && self.owed > 0 {
            // Less than promised: the client must see that the body was cut.
            request.keepalive = false;
        }
        request.response.body_bytes += len as u64;
        request.response.bytes_sent += (self.queued - before) as u64;
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
        while self.queued > 0 {
            match self.write_some() {
                Ok(0) => {
                    return self
                        .lost(request, format_args!("client closed connection while sending to client"));
                }
                Ok(count) => {
                    self.written(count);
                    self.write_deadline.clear();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.stream.poll_writable(cx).is_ready() {
                        continue;
                    }
                    if !self.write_deadline.is_set() {
                        self.write_deadline.set(request.location().core.send_timeout);
                    }
                    if self.write_deadline.poll(cx).is_ready() {
                        self.timed_out = true;
                        return self.lost(
                            request,
                            format_args!(
                                "client timed out (110: Connection timed out) while sending to client"
                            ),
                        );
                    }
                    return if self.queued <= keep { Poll::Ready(Ok(())) } else { Poll::Pending };
                }
                Err(error) => {
                    let text = errno_text(&error);
                    return self
                        .lost(request, format_args!("writev() failed ({text}) while sending to client"));
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.failed {
            return Poll::Ready(());
        }
        while !self.more_waits {
            match self.stream.poll_readable(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(())) => {}
            }
            match self.stream.try_peek_end() {
                Ok(true) => return Poll::Ready(()),
                Ok(false) => self.more_waits = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }
}

/// `104: Connection reset by peer`, as nginx shows an error number.
fn errno_text(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => {
            let text = error.to_string();
            let text = text.split(" (os error").next().unwrap_or_default();
            format!("{number}: {text}")
        }
        None => error.to_string(),
    }
}

fn chunk_prefix(len: usize) -> Vec<u8> {
    format!("{len:x}\r\n").into_bytes()
}
