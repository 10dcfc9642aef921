//! Bytes through connected sockets, never blocking and never raising `SIGPIPE`.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, socketpair};

pub use rustix::net::Shutdown;

/// What one attempt to move bytes came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// So many bytes; a read's 0 is the peer's FIN.
    Bytes(usize),
    /// The kernel has no bytes, or no room, now.
    Blocked,
    /// The connection is gone; the errno.
    Failed(i32),
}

impl Moved {
    fn of(answer: Result<usize, Errno>) -> Moved {
        match answer {
            Ok(count) => Moved::Bytes(count),
            // WOULDBLOCK is the same number on Linux.
            Err(Errno::AGAIN) => Moved::Blocked,
            Err(error) => Moved::Failed(error.raw_os_error()),
        }
    }
}

/// Receives what is there, at most the buffer (`recv` with `MSG_DONTWAIT`).
#[inline]
pub fn recv(socket: impl AsFd, buffer: &mut [u8]) -> Moved {
    let socket = socket.as_fd();
    Moved::of(uninterrupted(|| rustix::net::recv(socket, &mut *buffer, RecvFlags::DONTWAIT).map(|(_, n)| n)))
}

/// Receives what is there behind the bytes of `buffer`, at most its spare capacity, which is not cleared first.
#[inline]
pub fn recv_into(socket: impl AsFd, buffer: &mut Vec<u8>) -> Moved {
    let socket = socket.as_fd();
    Moved::of(uninterrupted(|| {
        let spare = rustix::buffer::spare_capacity(buffer);
        rustix::net::recv(socket, spare, RecvFlags::DONTWAIT).map(|(count, _)| count)
    }))
}

/// Looks at the next byte and leaves it where it is.
pub fn peek(socket: impl AsFd) -> Moved {
    let socket = socket.as_fd();
    let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK;
    Moved::of(uninterrupted(|| rustix::net::recv(socket, &mut [0u8; 1], flags).map(|(_, count)| count)))
}

/// Sends what fits (`send` with `MSG_DONTWAIT | MSG_NOSIGNAL`).
#[inline]
pub fn send(socket: impl AsFd, bytes: &[u8]) -> Moved {
    let socket = socket.as_fd();
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    Moved::of(uninterrupted(|| rustix::net::send(socket, bytes, flags)))
}

/// The same for bytes that more will follow at once, if only the FIN (`MSG_MORE`): a TCP socket keeps what does not fill a
/// packet until then, or for 200 ms.
#[inline]
pub fn send_more(socket: impl AsFd, bytes: &[u8]) -> Moved {
    let socket = socket.as_fd();
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL | SendFlags::MORE;
    Moved::of(uninterrupted(|| rustix::net::send(socket, bytes, flags)))
}

/// Sends from several buffers (`sendmsg` with `MSG_DONTWAIT | MSG_NOSIGNAL`, which `writev` can't express).
pub fn writev(socket: impl AsFd, buffers: &[IoSlice<'_>]) -> Moved {
    let socket = socket.as_fd();
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    Moved::of(uninterrupted(|| rustix::net::sendmsg(socket, buffers, &mut Default::default(), flags)))
}

/// Closes one or both directions. A connection that is gone already is no error.
pub fn shutdown(socket: impl AsFd, how: Shutdown) {
    let _ = rustix::net::shutdown(socket, how);
}

/// The error the kernel keeps for this socket (`SO_ERROR`), read once; `None` when there is none.
pub fn take_error(socket: impl AsFd) -> Option<i32> {
    match rustix::net::sockopt::socket_error(socket) {
        Ok(Ok(())) => None,
        Ok(Err(error)) | Err(error) => Some(error.raw_os_error()),
    }
}

/// Two connected unix stream sockets, non-blocking and closed on exec.
///
/// # Errors
/// When the process or the system is out of descriptors.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

#[inline]
fn uninterrupted<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => continue,
            answer => return answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_blocks_fins_and_broken_pipes_are_told_apart() {
        let (a, b) = pair().unwrap();
        let mut buffer = [0u8; 16];
        assert_eq!(recv(&b, &mut buffer), Moved::Blocked);
        assert_eq!(send(&a, b"hello"), Moved::Bytes(5));
        assert_eq!(writev(&a, &[IoSlice::new(b" wor"), IoSlice::new(b"ld")]), Moved::Bytes(6));
        assert_eq!(peek(&b), Moved::Bytes(1));
        assert_eq!(recv(&b, &mut buffer[..5]), Moved::Bytes(5));
        let mut grown = Vec::with_capacity(64);
        grown.extend_from_slice(b"hello");
        assert_eq!(recv_into(&b, &mut grown), Moved::Bytes(6));
        assert_eq!(grown, b"hello world");
        assert_eq!((recv_into(&b, &mut grown), peek(&b)), (Moved::Blocked, Moved::Blocked));
        assert_eq!(send(&a, b"hello world"), Moved::Bytes(11));
        assert_eq!(recv(&b, &mut buffer), Moved::Bytes(11));
        assert_eq!(&buffer[..11], b"hello world");
        shutdown(&a, Shutdown::Write);
        assert_eq!(recv(&b, &mut buffer), Moved::Bytes(0));
        assert_eq!(send(&b, b"x"), Moved::Bytes(1));
        assert_eq!(recv(&a, &mut buffer), Moved::Bytes(1));
        drop(a);
        assert_eq!(send(&b, b"x"), Moved::Failed(libc::EPIPE));
        assert_eq!(take_error(&b), None);
    }

    #[test]
    fn what_more_will_follow_waits_for_it() {
        let waits = || {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let a = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (mut b, _) = listener.accept().unwrap();
            let mut buffer = [0u8; 16];
            assert_eq!(send_more(&a, b"last"), Moved::Bytes(4));
            let waits = peek(&b) == Moved::Blocked;
            drop(a);
            assert_eq!(std::io::Read::read(&mut b, &mut buffer).unwrap(), 4);
            assert_eq!(std::io::Read::read(&mut b, &mut buffer).unwrap(), 0);
            waits
        };
        // The kernel itself waits for 200 ms, which may be less than this thread is kept waiting.
        assert!((0..20).any(|_| waits()));
    }

    #[test]
    fn a_reader_that_never_reads_blocks_the_writer() {
        let (a, _b) = pair().unwrap();
        let chunk = vec![0u8; 65536];
        let mut sent = 0;
        while let Moved::Bytes(count) = send(&a, &chunk) {
            sent += count;
            assert!(sent < 64 << 20, "a socket buffer is bounded");
        }
        assert_eq!(send(&a, &chunk), Moved::Blocked);
    }
}
