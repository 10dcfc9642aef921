//! A connected socket towards a peer, TCP or unix, owned by one worker.

use std::future::Future;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use rustix::net::RecvFlags;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
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
    Plain(Socket),
    Tls(Box<TlsStream>),
}

/// A connection given up for the relay: its socket, still nonblocking, and with TLS its state and the bytes received that
/// are not decrypted yet.
pub type Parts = (OwnedFd, Option<(Box<dyn TlsEnd>, Vec<u8>)>);

#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// What a look at an idle connection found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Idle {
    /// Nothing to read; the waker is registered for the moment there is.
    Quiet,
    /// FIN, RST, or bytes nobody asked for.
    Stirred,
}

impl Connection {
    /// Takes over a connected TCP stream.
    pub fn tcp(stream: TcpStream, now: Instant) -> Self {
        Connection::new(Stream::Plain(Socket::Tcp(stream)), now)
    }

    /// Takes over a connected unix stream.
    pub fn unix(stream: UnixStream, now: Instant) -> Self {
        Connection::new(Stream::Plain(Socket::Unix(stream)), now)
    }

    fn new(stream: Stream, now: Instant) -> Self {
        Connection { stream, counters: Counters::new(now), unfit: false }
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
        // Through AsyncRead rather than try_read: after a read that didn't fill the buffer tokio knows the socket
        // to be empty, which saves the pool a system call when the connection goes idle.
        let mut buf = ReadBuf::new(buf);
        ready!(match &mut self.stream {
            Stream::Plain(Socket::Tcp(stream)) => Pin::new(stream).poll_read(cx, &mut buf),
            Stream::Plain(Socket::Unix(stream)) => Pin::new(stream).poll_read(cx, &mut buf),
            Stream::Tls(stream) => stream.poll_read(cx, &mut buf),
        })?;
        let count = buf.filled().len();
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
            Stream::Plain(socket) => socket.poll_read_buf(cx, buf),
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
        let count = ready!(match (&mut self.stream, bufs) {
            // A send is cheaper than a writev of one piece.
            (Stream::Plain(Socket::Tcp(stream)), [one]) => Pin::new(stream).poll_write(cx, one),
            (Stream::Plain(Socket::Tcp(stream)), many) => Pin::new(stream).poll_write_vectored(cx, many),
            (Stream::Plain(Socket::Unix(stream)), many) => Pin::new(stream).poll_write_vectored(cx, many),
            (Stream::Tls(stream), many) => stream.poll_write_vectored(cx, many),
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

    /// Gives up the socket: out of this worker's event loop, still nonblocking, ready for the relay.
    ///
    /// # Errors
    /// The event loop's, on deregistering; with TLS, bytes encrypted or decrypted that nobody took. The socket is then
    /// closed.
    pub fn into_parts(self) -> io::Result<Parts> {
        match self.stream {
            Stream::Plain(socket) => Ok((socket.into_fd()?, None)),
            Stream::Tls(stream) => {
                let (socket, end, input) = stream.into_parts()?;
                Ok((socket.into_fd()?, Some((end, input))))
            }
        }
    }

    /// Waits until a connect in progress has come to an end.
    pub(crate) async fn connected(&self) -> io::Result<()> {
        let error = match self.socket() {
            Socket::Tcp(stream) => {
                stream.writable().await?;
                stream.take_error()?
            }
            Socket::Unix(stream) => {
                stream.writable().await?;
                stream.take_error()?
            }
        };
        error.map_or(Ok(()), Err)
    }

    /// Looks whether an idle connection is still worth keeping. Of a plain one no bytes are taken; of one with TLS those
    /// that are the connection's own business, such as session tickets.
    pub(crate) fn poll_idle(&mut self, cx: &mut Context<'_>) -> Idle {
        match &mut self.stream {
            Stream::Plain(socket) => socket.poll_idle(cx),
            Stream::Tls(stream) => stream.poll_idle(cx),
        }
    }

    fn socket(&self) -> &Socket {
        match &self.stream {
            Stream::Plain(socket) => socket,
            Stream::Tls(stream) => stream.socket(),
        }
    }
}

impl Socket {
    pub(crate) fn poll_read_buf(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        match self {
            Socket::Tcp(stream) => pin!(stream.read_buf(buf)).poll(cx),
            Socket::Unix(stream) => pin!(stream.read_buf(buf)).poll(cx),
        }
    }

    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Socket::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Socket::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    /// Writes what the socket takes now.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.try_write(bytes),
            Socket::Unix(stream) => stream.try_write(bytes),
        }
    }

    fn into_fd(self) -> io::Result<OwnedFd> {
        match self {
            Socket::Tcp(stream) => Ok(stream.into_std()?.into()),
            Socket::Unix(stream) => Ok(stream.into_std()?.into()),
        }
    }

    fn poll_idle(&self, cx: &mut Context<'_>) -> Idle {
        loop {
            let readable = match self {
                Socket::Tcp(stream) => stream.poll_read_ready(cx),
                Socket::Unix(stream) => stream.poll_read_ready(cx),
            };
            match readable {
                Poll::Pending => return Idle::Quiet,
                Poll::Ready(Err(_)) => return Idle::Stirred,
                Poll::Ready(Ok(())) => {}
            }
            // Readiness may be left over from before; only the socket knows. A miss clears it, and the next turn of
            // the loop registers the waker.
            match self.peek() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                _ => return Idle::Stirred,
            }
        }
    }

    fn peek(&self) -> io::Result<usize> {
        let look = || Ok(rustix::net::recv(self, &mut [0u8; 1], RecvFlags::PEEK)?.1);
        match self {
            Socket::Tcp(stream) => stream.try_io(Interest::READABLE, look),
            Socket::Unix(stream) => stream.try_io(Interest::READABLE, look),
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket().as_fd()
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Tcp(stream) => stream.as_fd(),
            Socket::Unix(stream) => stream.as_fd(),
        }
    }
}

impl Counters {
    fn new(now: Instant) -> Self {
        Counters { created: now, requests: 0, received_bytes: 0, sent_bytes: 0 }
    }
}
