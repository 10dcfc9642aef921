//! A connected socket towards a peer, TCP or unix, owned by one worker.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use reactor::Source;
use wire::tls::TlsEnd;

use crate::tls::{HandshakeError, TlsStream};

/// A connection to a peer. Dropping it closes the socket.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    /// What limits and logs want to know.
    pub counters: Counters,
    unfit: bool,
}

/// What a connection has done so far.
#[derive(Clone, Copy, Debug)]
pub struct Counters {
    /// When it was made.
    pub created: Instant,
    /// Requests sent over it, the current one included. The caller counts, when it begins one.
    pub requests: u64,
    /// Bytes received over its life.
    pub received_bytes: u64,
    /// Bytes sent over its life.
    pub sent_bytes: u64,
}

#[derive(Debug)]
enum Stream {
    Plain(Source),
    Tls(Box<TlsStream>),
}

/// A connection given up for the relay: its socket, and with TLS its state and the bytes received that
/// are not decrypted yet.
pub type Parts = (Source, Option<(Box<dyn TlsEnd>, Vec<u8>)>);

impl Connection {
    /// Takes over a connected stream of this thread's loop.
    pub fn new(stream: Source, now: Instant) -> Self {
        Connection { stream: Stream::Plain(stream), counters: Counters::new(now), unfit: false }
    }

    /// Begins TLS with `end` and goes through its handshake; all that is read and written from then on is encrypted, and
    /// counted as plain bytes. Takes as long as the peer: the caller has the clock.
    ///
    /// # Errors
    /// See [`HandshakeError`]; the connection is closed.
    pub async fn secure(self, end: Box<dyn TlsEnd>) -> Result<Self, HandshakeError> {
        let Stream::Plain(socket) = self.stream else { return Err(HandshakeError::twice()) };
        let mut stream = Box::new(TlsStream::new(socket, end));
        std::future::poll_fn(|cx| stream.poll_handshake(cx)).await?;
        Ok(Connection { stream: Stream::Tls(stream), ..self })
    }

    /// Reads what is there; 0 is the peer's FIN.
    ///
    /// # Errors
    /// The socket's.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let count = ready!(match &mut self.stream {
            Stream::Plain(socket) => socket.poll_read_slice(cx, buf),
            Stream::Tls(stream) => stream.poll_read(cx, buf),
        })?;
        self.counters.received_bytes += count as u64;
        Poll::Ready(Ok(count))
    }

    /// Reads into the spare room of `buf`, without clearing it first; 0 is the peer's FIN (or a full buffer), with TLS also
    /// its close_notify. With TLS `buf` may grow.
    ///
    /// # Errors
    /// The socket's; with TLS [`wire::tls::TlsError`] inside an error of no errno.
    pub fn poll_read_buf(&mut self, cx: &mut Context<'_>, buf: &mut Vec<u8>) -> Poll<io::Result<usize>> {
        let count = ready!(match &mut self.stream {
            Stream::Plain(socket) => socket.poll_read(cx, buf),
            Stream::Tls(stream) => stream.poll_read_buf(cx, buf),
        })?;
        self.counters.received_bytes += count as u64;
        Poll::Ready(Ok(count))
    }

    /// Writes as much of the buffers as the socket takes. With TLS, after `Pending` it must be called again with the same
    /// bytes at the front: they are encrypted already.
    ///
    /// # Errors
    /// The socket's.
    pub fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(match &mut self.stream {
            Stream::Plain(socket) => socket.poll_write(cx, bufs),
            Stream::Tls(stream) => stream.poll_write_vectored(cx, bufs),
        })?;
        self.counters.sent_bytes += count as u64;
        Poll::Ready(Ok(count))
    }

    /// Reads what is there, waiting until there is something; 0 is the peer's FIN.
    ///
    /// # Errors
    /// The socket's.
    pub async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.poll_read(cx, buf)).await
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// The socket's; `WriteZero` if it takes nothing.
    pub async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let bufs = [IoSlice::new(bytes)];
            match std::future::poll_fn(|cx| self.poll_write_vectored(cx, &bufs)).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => bytes = &bytes[count..],
            }
        }
        Ok(())
    }

    /// Marks the connection as never to be kept: Upgrade or CONNECT was sent over it, whatever the answer, or a
    /// message was left unfinished. There is no way back.
    pub fn never_keep(&mut self) {
        self.unfit = true;
    }

    /// Whether [`never_keep`](Self::never_keep) was called.
    pub fn is_unfit(&self) -> bool {
        self.unfit
    }

    /// Gives up the socket, ready for the relay.
    ///
    /// # Errors
    /// With TLS, bytes encrypted or decrypted that nobody took. The socket is then
    /// closed.
    pub fn into_parts(self) -> io::Result<Parts> {
        match self.stream {
            Stream::Plain(socket) => Ok((socket, None)),
            Stream::Tls(stream) => {
                let (socket, end, input) = stream.into_parts()?;
                Ok((socket, Some((end, input))))
            }
        }
    }

    /// Waits until a connect in progress has come to an end.
    pub(crate) async fn connected(&self) -> io::Result<()> {
        let socket = self.socket();
        std::future::poll_fn(|cx| socket.poll_writable(cx)).await;
        // A failed connect shows as an error or a hang-up beside the room to write; without them there is nothing to ask.
        match socket.is_gone().then(|| sys::socket::take_error(socket)).flatten() {
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
            None => Ok(()),
        }
    }

    /// Ready when an idle connection is not worth keeping: a FIN, a RST, or bytes nobody asked for. Of a plain one no bytes are taken; of one with TLS those
    /// that are the connection's own business, such as session tickets.
    pub(crate) fn poll_stirred(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.stream {
            Stream::Plain(socket) => socket.poll_stirred(cx),
            Stream::Tls(stream) => stream.poll_stirred(cx),
        }
    }

    fn socket(&self) -> &Source {
        match &self.stream {
            Stream::Plain(socket) => socket,
            Stream::Tls(stream) => stream.socket(),
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket().as_fd()
    }
}

impl Counters {
    fn new(now: Instant) -> Self {
        Counters { created: now, requests: 0, received_bytes: 0, sent_bytes: 0 }
    }
}
