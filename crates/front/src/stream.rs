//! A client's socket, TCP or unix, in a worker's runtime.

use std::cell::Cell;
use std::future::Future;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::pin;
use std::task::{Context, Poll};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{RecvFlags, Shutdown};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, Interest};
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
pub(crate) struct Stream {
    kind: Kind,
    /// The runtime was told that nothing can be read, though bytes are waiting: see [`Stream::poll_gone`].
    set_aside: Cell<bool>,
}

enum Kind {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Takes a non-blocking socket into the current runtime.
    pub(crate) fn new(fd: OwnedFd, unix: bool) -> io::Result<Stream> {
        let kind = if unix {
            UnixStream::from_std(fd.into()).map(Kind::Unix)
        } else {
            TcpStream::from_std(fd.into()).map(Kind::Tcp)
        };
        Ok(Stream { kind: kind?, set_aside: Cell::new(false) })
    }

    /// Gives the socket up: the runtime forgets it.
    pub(crate) fn into_fd(self) -> io::Result<OwnedFd> {
        match self.kind {
            Kind::Tcp(tcp) => tcp.into_std().map(OwnedFd::from),
            Kind::Unix(unix) => unix.into_std().map(OwnedFd::from),
        }
    }

    /// Whether a read would tell something: bytes, the end, or an error.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.set_aside.get() {
            return Poll::Ready(Ok(()));
        }
        self.poll_read_ready(cx)
    }

    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.kind {
            Kind::Tcp(tcp) => tcp.poll_read_ready(cx),
            Kind::Unix(unix) => unix.poll_read_ready(cx),
        }
    }

    pub(crate) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.kind {
            Kind::Tcp(tcp) => tcp.poll_write_ready(cx),
            Kind::Unix(unix) => unix.poll_write_ready(cx),
        }
    }

    /// Reads into the spare room of `buf`, which must have some; 0 is the end of the stream.
    ///
    /// A read that does not fill the room counts as having emptied the socket, so that waiting for the next request
    /// costs no read that finds nothing.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut Vec<u8>) -> Poll<io::Result<usize>> {
        debug_assert!(buf.len() < buf.capacity());
        if self.set_aside.take() {
            let room = buf.capacity() - buf.len();
            let spare = rustix::buffer::spare_capacity(buf);
            match rustix::net::recv(self.as_fd(), spare, RecvFlags::empty()) {
                Ok((count, _)) => {
                    // A full buffer says nothing about what is left, and the runtime won't tell either.
                    self.set_aside.set(count == room);
                    return Poll::Ready(Ok(count));
                }
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
        match &mut self.kind {
            Kind::Tcp(tcp) => pin!(tcp.read_buf(buf)).poll(cx),
            Kind::Unix(unix) => pin!(unix.read_buf(buf)).poll(cx),
        }
    }

    pub(crate) fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match (&self.kind, slices) {
            (Kind::Tcp(tcp), [one]) => tcp.try_write(one),
            (Kind::Tcp(tcp), many) => tcp.try_write_vectored(many),
            (Kind::Unix(unix), many) => unix.try_write_vectored(many),
        }
    }

    /// Ready when the peer has sent its FIN or reset the connection, also when bytes that nobody reads yet came before.
    pub(crate) fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match self.poll_read_ready(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(())) => {}
            }
            if self.is_hung_up() {
                return Poll::Ready(());
            }
            // Bytes: they stay where they are, and the next thing that happens wakes us again. Whoever reads next must
            // not ask the runtime, which has forgotten them.
            self.set_aside.set(true);
            let forget = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
            let _ = match &self.kind {
                Kind::Tcp(tcp) => tcp.try_io(Interest::READABLE, forget),
                Kind::Unix(unix) => unix.try_io(Interest::READABLE, forget),
            };
        }
    }

    fn is_hung_up(&self) -> bool {
        let mut fds = [PollFd::new(self, PollFlags::RDHUP)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::event::poll(&mut fds, Some(&now)).is_ok_and(|count| count > 0)
    }

    /// Sends a FIN.
    pub(crate) fn shutdown_write(&self) {
        let _ = rustix::net::shutdown(self.as_fd(), Shutdown::Write);
    }

    /// `tcp_nodelay`
    pub(crate) fn set_nodelay(&self) {
        if let Kind::Tcp(tcp) = &self.kind {
            let _ = tcp.set_nodelay(true);
        }
    }

    /// The next close sends a RST (`reset_timedout_connection`, 444).
    pub(crate) fn reset_on_close(&self) {
        if let Kind::Tcp(tcp) = &self.kind {
            let _ = socket2::SockRef::from(tcp).set_linger(Some(std::time::Duration::ZERO));
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.kind {
            Kind::Tcp(tcp) => tcp.as_fd(),
            Kind::Unix(unix) => unix.as_fd(),
        }
    }
}
