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
        Connection { stream: Stream::Tcp(stream), counters: Counters::new(now), unfit: false }
    }

    /// Takes over a connected unix stream.
    pub fn unix(stream: UnixStream, now: Instant) -> Self {
        Connection { stream: Stream::Unix(stream), counters: Counters::new(now), unfit: false }
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
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, &mut buf),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, &mut buf),
        })?;
        let count = buf.filled().len();
        self.counters.received_bytes += count as u64;
        Poll::Ready(Ok(count))
    }

    /// Reads into the spare room of `buf`, without clearing it first; 0 is the peer's FIN (or a full buffer).
    ///
    /// # Errors
    /// The socket's.
    pub fn poll_read_buf(&mut self, cx: &mut Context<'_>, buf: &mut Vec<u8>) -> Poll<io::Result<usize>> {
        let count = ready!(match &mut self.stream {
            Stream::Tcp(stream) => pin!(stream.read_buf(buf)).poll(cx),
            Stream::Unix(stream) => pin!(stream.read_buf(buf)).poll(cx),
        })?;
        self.counters.received_bytes += count as u64;
        Poll::Ready(Ok(count))
    }

    /// Reads what is there now; `WouldBlock` when there is nothing.
    ///
    /// # Errors
    /// `WouldBlock`, and the socket's.
    pub fn try_read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = match &self.stream {
            Stream::Tcp(stream) => stream.try_read(buf),
            Stream::Unix(stream) => stream.try_read(buf),
        }?;
        self.counters.received_bytes += count as u64;
        Ok(count)
    }

    /// Writes as much of the buffers as the socket takes.
    ///
    /// # Errors
    /// The socket's.
    pub fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
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
    /// The event loop's, on deregistering. The socket is then closed.
    pub fn into_fd(self) -> io::Result<OwnedFd> {
        match self.stream {
            Stream::Tcp(stream) => Ok(stream.into_std()?.into()),
            Stream::Unix(stream) => Ok(stream.into_std()?.into()),
        }
    }

    /// Waits until a connect in progress has come to an end.
    pub(crate) async fn connected(&self) -> io::Result<()> {
        let error = match &self.stream {
            Stream::Tcp(stream) => {
                stream.writable().await?;
                stream.take_error()?
            }
            Stream::Unix(stream) => {
                stream.writable().await?;
                stream.take_error()?
            }
        };
        error.map_or(Ok(()), Err)
    }

    /// Looks whether an idle connection is still worth keeping, without taking bytes from it.
    pub(crate) fn poll_idle(&self, cx: &mut Context<'_>) -> Idle {
        loop {
            let readable = match &self.stream {
                Stream::Tcp(stream) => stream.poll_read_ready(cx),
                Stream::Unix(stream) => stream.poll_read_ready(cx),
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
        match &self.stream {
            Stream::Tcp(stream) => stream.try_io(Interest::READABLE, look),
            Stream::Unix(stream) => stream.try_io(Interest::READABLE, look),
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.stream {
            Stream::Tcp(stream) => stream.as_fd(),
            Stream::Unix(stream) => stream.as_fd(),
        }
    }
}

impl Counters {
    fn new(now: Instant) -> Self {
        Counters { created: now, requests: 0, received_bytes: 0, sent_bytes: 0 }
    }
}
