//! A client's socket, TCP or unix, in a worker's loop.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::task::{Context, Poll};

use reactor::{Lent, Source};
use rustix::net::Shutdown;

/// A connected, non-blocking stream socket.
pub(crate) struct Stream {
    source: Source,
    unix: bool,
}

impl Stream {
    /// Takes a non-blocking socket into the loop of this thread.
    pub(crate) fn new(fd: OwnedFd, unix: bool) -> io::Result<Stream> {
        Ok(Stream { source: Source::stream(fd)?, unix })
    }

    /// Gives the socket to the tunnels.
    pub(crate) fn lend(self) -> Lent {
        self.source.lend()
    }

    /// Whether a read would tell something: bytes, the end, or an error.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.source.poll_readable(cx)
    }

    pub(crate) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.source.poll_writable(cx)
    }

    /// Reads into the spare room of `buf`, which must have some; 0 is the end of the stream.
    pub(crate) fn poll_read(&self, cx: &mut Context<'_>, buf: &mut Vec<u8>) -> Poll<io::Result<usize>> {
        self.source.poll_read(cx, buf)
    }

    pub(crate) fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.source.try_write(slices)
    }

    /// Ready when the peer has sent its FIN or reset the connection, also when bytes that nobody reads yet came before.
    pub(crate) fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.source.poll_gone(cx)
    }

    /// Sends a FIN.
    pub(crate) fn shutdown_write(&self) {
        let _ = rustix::net::shutdown(self, Shutdown::Write);
    }

    /// `tcp_nodelay off`: what the socket has of its listener is taken back.
    pub(crate) fn unset_nodelay(&self) {
        if !self.unix {
            let _ = sys::options::set_nodelay(self, false);
        }
    }

    /// The next close sends a RST (`reset_timedout_connection`, 444).
    pub(crate) fn reset_on_close(&self) {
        if !self.unix {
            let _ = sys::options::set_reset_on_close(self);
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.source.as_fd()
    }
}
