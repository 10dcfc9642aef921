//! A client's socket, TCP or unix, in a worker's runtime.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::task::{Context, Poll};

use rustix::net::{RecvFlags, Shutdown};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::{TcpStream, UnixStream};

/// Watches a descriptor that tokio has no type for.
#[expect(
    deprecated,
    reason = "an OwnedFd stays the same descriptor until it is dropped: all the unsafe successor asks for"
)]
pub(crate) fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(fd)
}

/// A connected, non-blocking stream socket.
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Takes a non-blocking socket into the current runtime.
    pub(crate) fn new(fd: OwnedFd, unix: bool) -> io::Result<Stream> {
        if unix {
            return UnixStream::from_std(fd.into()).map(Stream::Unix);
        }
        TcpStream::from_std(fd.into()).map(Stream::Tcp)
    }

    /// Gives the socket up: the runtime forgets it.
    pub(crate) fn into_fd(self) -> io::Result<OwnedFd> {
        match self {
            Stream::Tcp(tcp) => tcp.into_std().map(OwnedFd::from),
            Stream::Unix(unix) => unix.into_std().map(OwnedFd::from),
        }
    }

    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Tcp(tcp) => tcp.poll_read_ready(cx),
            Stream::Unix(unix) => unix.poll_read_ready(cx),
        }
    }

    pub(crate) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Tcp(tcp) => tcp.poll_write_ready(cx),
            Stream::Unix(unix) => unix.poll_write_ready(cx),
        }
    }

    /// Reads into the spare room of `buf`; 0 is the end of the stream.
    pub(crate) fn try_read(&self, buf: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Stream::Tcp(tcp) => tcp.try_read_buf(buf),
            Stream::Unix(unix) => unix.try_read_buf(buf),
        }
    }

    pub(crate) fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match (self, slices) {
            (Stream::Tcp(tcp), [one]) => tcp.try_write(one),
            (Stream::Tcp(tcp), many) => tcp.try_write_vectored(many),
            (Stream::Unix(unix), many) => unix.try_write_vectored(many),
        }
    }

    /// Looks for a byte or the end without taking anything; true at the end of the stream.
    pub(crate) fn try_peek_end(&self) -> io::Result<bool> {
        let peek = || {
            let mut byte = [0u8; 1];
            rustix::net::recv(self.as_fd(), &mut byte[..], RecvFlags::PEEK)
                .map(|(_, count)| count == 0)
                .map_err(io::Error::from)
        };
        match self {
            Stream::Tcp(tcp) => tcp.try_io(Interest::READABLE, peek),
            Stream::Unix(unix) => unix.try_io(Interest::READABLE, peek),
        }
    }

    /// Sends a FIN.
    pub(crate) fn shutdown_write(&self) {
        let _ = rustix::net::shutdown(self.as_fd(), Shutdown::Write);
    }

    /// `tcp_nodelay`
    pub(crate) fn set_nodelay(&self) {
        if let Stream::Tcp(tcp) = self {
            let _ = tcp.set_nodelay(true);
        }
    }

    /// The next close sends a RST (`reset_timedout_connection`, 444).
    pub(crate) fn reset_on_close(&self) {
        if let Stream::Tcp(tcp) = self {
            let _ = socket2::SockRef::from(tcp).set_linger(Some(std::time::Duration::ZERO));
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Stream::Tcp(tcp) => tcp.as_fd(),
            Stream::Unix(unix) => unix.as_fd(),
        }
    }
}
