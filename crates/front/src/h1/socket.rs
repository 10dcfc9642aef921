//! A client's socket and what was received from it. While nothing was, it holds no buffer.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::config::{ServerTls, TlsServers};
use http::message::Tls;
use http::output::Chunk;
use http::pool::Buf;

use crate::stream::Stream;
use crate::tls::Layer;

/// A stream, and received bytes that nobody used yet.
pub(crate) struct Socket {
    pub(crate) stream: Stream,
    input: Buf,
    /// Bytes of `input` before this are used.
    at: usize,
    /// TLS between the stream and `input`.
    tls: Option<Box<Layer>>,
}

impl Socket {
    pub(crate) fn new(stream: Stream) -> Socket {
        Socket { stream, input: Buf::default(), at: 0, tls: None }
    }

    /// Puts TLS below: what was received is the start of a handshake.
    pub(crate) fn secure(&mut self, servers: Arc<TlsServers>) {
        self.align();
        let received = std::mem::take(&mut self.input);
        self.tls = Some(Box::new(Layer::new(servers, received)));
    }

    /// Goes on with the handshake; ready when it is over or failed.
    pub(crate) fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.tls {
            Some(layer) => layer.poll_handshake(cx, &mut self.stream, &mut self.input),
            None => Poll::Ready(Ok(())),
        }
    }

    /// TLS, while the handshake waits for a certificate.
    pub(crate) fn undecided(&mut self) -> Option<(&mut Layer, &Stream)> {
        let layer = self.tls.as_mut().filter(|layer| layer.undecided().is_some())?;
        Some((layer, &self.stream))
    }

    /// The server whose settings the handshake followed.
    pub(crate) fn tls_server(&self) -> Option<Arc<ServerTls>> {
        self.tls.as_ref().and_then(|layer| layer.server())
    }

    /// What the handshake came to.
    pub(crate) fn tls_facts(&self) -> Option<Tls> {
        self.tls.as_ref().and_then(|layer| layer.facts())
    }

    /// Whether what was read so far came as early data.
    pub(crate) fn is_early(&self) -> bool {
        self.tls.as_ref().is_some_and(|layer| layer.is_early())
    }

    /// Writes; the count is of plain bytes taken. An empty write sends what TLS has taken and the socket has not.
    pub(crate) fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match &mut self.tls {
            Some(layer) => layer.write(&self.stream, slices),
            None => self.stream.try_write(slices),
        }
    }

    /// Bytes TLS has taken and the socket has not.
    pub(crate) fn owed(&self) -> usize {
        self.tls.as_ref().map_or(0, |layer| layer.owed())
    }

    /// Says that nothing more will be sent, where TLS can.
    pub(crate) fn goodbye(&mut self) {
        if let Some(layer) = &mut self.tls {
            layer.goodbye(&self.stream);
        }
    }

    /// The stream and the TLS below it, if any, when what was received is taken out.
    pub(crate) fn into_parts(self) -> (Stream, Option<Box<Layer>>) {
        (self.stream, self.tls)
    }

    /// Received bytes that belong to nobody yet.
    pub(crate) fn unread(&self) -> &[u8] {
        &self.input[self.at..]
    }

    /// Marks bytes at the front as used.
    pub(crate) fn consume(&mut self, count: usize) {
        self.at = (self.at + count).min(self.input.len());
    }

    /// Drops what was received and gives the buffer back.
    pub(crate) fn forget(&mut self) {
        self.input = Buf::default();
        self.at = 0;
    }

    /// Takes the unread bytes out.
    pub(crate) fn take_unread(&mut self) -> Vec<u8> {
        let unread = self.unread().to_vec();
        self.forget();
        unread
    }

    /// Takes the first `count` unread bytes out as a buffer that starts with them; what follows them stays.
    pub(crate) fn take_front(&mut self, count: usize) -> Buf {
        self.align();
        let mut rest = Buf::default();
        if self.input.len() > count {
            rest = Buf::with_capacity(self.input.len() - count);
            rest.extend_from_slice(&self.input[count..]);
        }
        let mut front = std::mem::replace(&mut self.input, rest);
        front.truncate(count);
        front
    }

    /// Takes the first `count` unread bytes out as a piece of a body: the buffer itself when nothing follows them and
    /// a copy would cost more than it saves.
    pub(crate) fn cut(&mut self, count: usize) -> Chunk {
        let range = self.at..self.at + count;
        if range.end == self.input.len() && count > COPIED_MAX {
            self.at = 0;
            return Chunk::pooled(std::mem::take(&mut self.input), range);
        }
        let mut copy = Buf::with_capacity(count);
        copy.extend_from_slice(&self.input[range]);
        self.at += count;
        Chunk::pooled(copy, 0..count)
    }

    /// Moves the unread bytes to the front of their buffer.
    pub(crate) fn align(&mut self) {
        if self.at > 0 {
            self.input.drain(..self.at);
            self.at = 0;
        }
    }

    /// Reads more behind what is unread; ready with the count, 0 at the end. `room` is what a new buffer has, and how far
    /// a full one grows.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>, room: usize) -> Poll<io::Result<usize>> {
        if self.at == self.input.len() {
            self.forget();
        }
        if let Some(layer) = &mut self.tls {
            if self.at > 0 {
                self.input.drain(..self.at);
                self.at = 0;
            }
            return layer.poll_read(cx, &mut self.stream, &mut self.input, room);
        }
        if self.input.capacity() == 0 {
            let mut input = Buf::with_capacity(room);
            // Not kept while nothing comes: most polls of an idle connection find nothing.
            let count = ready!(self.stream.poll_read(cx, &mut input))?;
            self.input = input;
            return Poll::Ready(Ok(count));
        }
        if self.input.len() == self.input.capacity() {
            self.align();
        }
        if self.input.len() == self.input.capacity() {
            self.input.reserve_exact(room.max(1));
        }
        self.stream.poll_read(cx, &mut self.input)
    }
}

/// Body pieces up to this many bytes are copied out of their buffer rather than taking it along.
const COPIED_MAX: usize = 4 * 1024;

/// nginx's words for a read that failed, on the socket or in TLS.
pub(super) fn receive_failed(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(_) => format!("recv() failed ({})", sys::errno::text(error)),
        None => format!("SSL_read() failed (SSL: {error})"),
    }
}
