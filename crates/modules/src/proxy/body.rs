//! The request body on its way upstream: read whole when it is small, so that it can be sent again to the next peer;
//! streamed when it is not.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use http::message::HeldBody;
use http::output::Chunk;
use http::pool::Buf;
use http::{BodyError, Client, Request};
use upstream::Connection;
use wire::http1::{ChunkPrefix, LAST_CHUNK, Version};

use crate::proxy::Conf;
use crate::proxy::request::Framing;

/// The body of one request, as far as it was read before the first peer was picked.
#[derive(Debug, Default)]
pub(crate) struct RequestBody {
    /// Bytes read; all there are, unless `streams`.
    held: Option<Rc<Buf>>,
    /// More is to be read from the client.
    pub(crate) streams: bool,
    framing: Option<Framing>,
}

/// A body that is streamed. An error page or `X-Accel-Redirect` may lead to another location before it has ended: what
/// was held can be sent again, what was passed on is gone.
#[derive(Debug, Default)]
struct Streamed {
    held: Option<Rc<Buf>>,
    passed_on: bool,
}

/// Why there is no body to send.
#[derive(Debug)]
pub(crate) enum NoBody {
    Client(BodyError),
    /// Part of it went to another location's upstream.
    Gone,
}

impl From<BodyError> for NoBody {
    fn from(error: BodyError) -> NoBody {
        NoBody::Client(error)
    }
}

impl RequestBody {
    fn held(&self) -> &[u8] {
        self.held.as_ref().map_or(&[], |held| held)
    }

    /// How it is framed upstream.
    pub(crate) fn framing(&self) -> Framing {
        self.framing.unwrap_or(Framing::None)
    }

    /// Reads what is read before a peer is picked.
    pub(crate) async fn read(
        conf: &Conf,
        request: &mut Request,
        client: &mut dyn Client,
    ) -> Result<RequestBody, NoBody> {
        if conf.body.is_some() || !conf.pass_request_body {
            read_aside(request, client).await?;
        }
        if let Some(template) = &conf.body {
            let text = template.value(request);
            let framing = Some(Framing::Length(text.len() as u64));
            return Ok(RequestBody { held: Some(Rc::new(Buf::from_vec(text))), streams: false, framing });
        }
        let head = &request.head;
        let (length, chunked) = (head.content_length, head.chunked);
        if !conf.pass_request_body {
            // nginx sends the client's Content-Length all the same; with it a peer would wait for ever.
            return Ok(RequestBody::default());
        }
        if request.head.expect_continue && !request.head.has_body() && request.is_main() {
            // A client may wait for leave to send nothing: asking for a body gives it.
            poll_fn(|cx| client.poll_body(cx, request)).await?;
        }
        if !request.head.has_body() || !request.is_main() {
            let framing = length.filter(|length| *length == 0).map(Framing::Length);
            return Ok(RequestBody { framing, ..RequestBody::default() });
        }
        if let Some(streamed) = request.slots.find::<Streamed>()
            && let Some(held) = &streamed.held
        {
            let mut body = RequestBody { held: Some(held.clone()), streams: true, framing: None };
            let whole_first = chunked && conf.version < Version::V11;
            if streamed.passed_on || whole_first {
                // A request that became a GET on the way here goes without.
                let goes_without = request.method != request.head.method;
                return if goes_without { Ok(RequestBody::default()) } else { Err(NoBody::Gone) };
            }
            body.framing = Some(length.map_or(Framing::Chunked, Framing::Length));
            return Ok(body);
        }
        if request.body_read {
            // An error page or X-Accel-Redirect led here: the body was read for the first location.
            let Some(HeldBody(held)) = request.slots.find::<HeldBody>().cloned() else {
                return Ok(RequestBody::default());
            };
            let framing = Some(Framing::Length(held.len() as u64));
            return Ok(RequestBody { held: Some(held), streams: false, framing });
        }
        let whole_first = conf.request_buffering || (chunked && conf.version < Version::V11);
        // Of a body that may be streamed what is here already is taken too: often that is all of it, and one write less.
        let most = match chunked && conf.version < Version::V11 {
            true => usize::MAX,
            false => request.location().core.client_body_buffer_size,
        };
        let mut body = RequestBody { streams: true, ..RequestBody::default() };
        let waits = whole_first && length.is_none_or(|length| length <= most as u64);
        body.fill(waits, most, request, client).await?;
        body.framing = Some(match (length, body.streams) {
            (Some(length), true) => Framing::Length(length),
            // What is announced must come, whatever was said.
            (_, false) => Framing::Length(body.held().len() as u64),
            (None, true) => Framing::Chunked,
        });
        Ok(body)
    }

    /// Takes up to `most` bytes; all of them when it `waits`, else those that are here.
    async fn fill(
        &mut self,
        waits: bool,
        most: usize,
        request: &mut Request,
        client: &mut dyn Client,
    ) -> Result<(), BodyError> {
        let mut held = Buf::default();
        while held.len() <= most {
            let chunk = poll_fn(|cx| match client.poll_body(cx, request) {
                Poll::Pending if !waits => Poll::Ready(None),
                polled => polled.map(Some),
            })
            .await;
            let Some(chunk) = chunk else { break };
            let Some(chunk) = chunk? else {
                self.streams = false;
                break;
            };
            if held.capacity() == 0 {
                let length = request.head.content_length.and_then(|length| usize::try_from(length).ok());
                held = Buf::with_capacity(length.unwrap_or(chunk.len()).min(most).max(chunk.len()));
            }
            held.extend_from_slice(chunk.bytes());
        }
        let held = Rc::new(held);
        self.held = Some(held.clone());
        if self.streams {
            *request.slots.of::<Streamed>() = Streamed { held: Some(held), passed_on: false };
        } else {
            *request.slots.of::<HeldBody>() = HeldBody(held);
        }
        Ok(())
    }
}

/// Reads the client's body though it is not sent: its variables may be, a bad one is refused before a peer hears of the
/// request, and the next request begins behind it.
async fn read_aside(request: &mut Request, client: &mut dyn Client) -> Result<(), BodyError> {
    let is_read = request.body_read || request.slots.find::<Streamed>().is_some();
    if is_read || !request.is_main() || !(request.head.has_body() || request.head.expect_continue) {
        return Ok(());
    }
    let most = request.location().core.client_body_buffer_size;
    let mut body = RequestBody { streams: true, ..RequestBody::default() };
    body.fill(true, most, request, client).await?;
    while body.streams {
        request.slots.of::<Streamed>().passed_on = true;
        body.streams = poll_fn(|cx| client.poll_body(cx, request)).await?.is_some();
    }
    Ok(())
}

/// Why a request could not be sent.
#[derive(Debug)]
pub(crate) enum SendError {
    Upstream(io::Error),
    Client(BodyError),
}

/// Sends one request over one connection.
#[derive(Debug)]
pub(crate) struct Sender {
    head_at: usize,
    held_at: usize,
    queue: VecDeque<Chunk>,
    /// Nothing more comes from the client.
    ended: bool,
    chunked: bool,
    /// The connection takes no more for the moment.
    pub(crate) is_blocked: bool,
    /// Something was written.
    pub(crate) has_begun: bool,
}

/// Most slices in one write.
const SLICES: usize = 8;
/// Most body bytes queued for an upstream before they are written.
const GATHER_MAX: usize = 64 * 1024;

impl Sender {
    pub(crate) fn new(body: &RequestBody) -> Sender {
        let mut sender = Sender {
            head_at: 0,
            held_at: 0,
            queue: VecDeque::new(),
            ended: !body.streams,
            chunked: body.framing() == Framing::Chunked,
            is_blocked: false,
            has_begun: false,
        };
        if sender.chunked && !body.held().is_empty() {
            sender.held_at = body.held().len();
            sender.push(vec![Chunk::owned(body.held().to_vec())], body.held().len());
        }
        sender
    }

    /// Whether the whole request was given to the socket.
    pub(crate) fn is_done(&self, head: &[u8], body: &RequestBody) -> bool {
        self.ended && self.head_at == head.len() && self.held_at == body.held().len() && self.queue.is_empty()
    }

    /// Writes on; ready when the whole request was written.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        connection: &mut Connection,
        head: &[u8],
        body: &RequestBody,
        request: &mut Request,
        client: &mut dyn Client,
    ) -> Poll<Result<(), SendError>> {
        self.is_blocked = false;
        loop {
            if let Err(error) = ready!(self.poll_write(cx, connection, head, body)) {
                return Poll::Ready(Err(SendError::Upstream(error)));
            }
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_gather(cx, request, client)).map_err(SendError::Client)?;
        }
    }

    /// Queues what the client has sent by now: one chunk upstream, however many the client made of it.
    fn poll_gather(
        &mut self,
        cx: &mut Context<'_>,
        request: &mut Request,
        client: &mut dyn Client,
    ) -> Poll<Result<(), BodyError>> {
        let mut pieces = Vec::new();
        let mut gathered = 0;
        while gathered < GATHER_MAX && !self.ended {
            match client.poll_body(cx, request) {
                Poll::Ready(Ok(Some(chunk))) => {
                    request.slots.of::<Streamed>().passed_on = true;
                    gathered += chunk.len();
                    pieces.push(chunk);
                }
                Poll::Ready(Ok(None)) => {
                    request.slots.of::<Streamed>().passed_on = true;
                    self.ended = true;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if gathered == 0 => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        self.push(pieces, gathered);
        if self.ended && self.chunked {
            self.queue.push_back(Chunk::fixed(LAST_CHUNK));
        }
        Poll::Ready(Ok(()))
    }

    fn push(&mut self, pieces: Vec<Chunk>, len: usize) {
        let framed = self.chunked && len > 0;
        if framed {
            self.queue.push_back(Chunk::owned(ChunkPrefix::new(len as u64).as_bytes().to_vec()));
        }
        self.queue.extend(pieces.into_iter().filter(|piece| !piece.is_empty()));
        if framed {
            self.queue.push_back(Chunk::fixed(b"\r\n"));
        }
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        connection: &mut Connection,
        head: &[u8],
        body: &RequestBody,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut slices = [IoSlice::new(b""); SLICES];
            let mut count = 0;
            let parts = [&head[self.head_at..], &body.held()[self.held_at..]];
            let parts = parts.into_iter().chain(self.queue.iter().map(Chunk::bytes));
            for part in parts.filter(|part| !part.is_empty()).take(SLICES) {
                slices[count] = IoSlice::new(part);
                count += 1;
            }
            if count == 0 {
                return Poll::Ready(Ok(()));
            }
            match connection.poll_write_vectored(cx, &slices[..count]) {
                Poll::Pending => {
                    self.is_blocked = true;
                    return Poll::Pending;
                }
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => self.written(written, head, body),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn written(&mut self, mut count: usize, head: &[u8], body: &RequestBody) {
        self.has_begun = true;
        for (at, len) in [(&mut self.head_at, head.len()), (&mut self.held_at, body.held().len())] {
            let part = count.min(len - *at);
            *at += part;
            count -= part;
        }
        while count > 0 {
            let Some(front) = self.queue.front_mut() else { return };
            let part = count.min(front.len());
            front.advance(part);
            count -= part;
            if front.is_empty() {
                self.queue.pop_front();
            }
        }
    }
}
