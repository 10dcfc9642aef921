//! Plain sockets that keep every byte they got and how the connection ended. Not one thread: whoever waits, pumps.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt;

/// Longest wait for anything the proxy owes us. Generous, because the machines are shared; a passing test never waits.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// How the other side left, as far as we have read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It has not.
    Open,
    /// It closed its direction in order (FIN).
    Fin,
    /// It reset the connection (RST).
    Rst,
    /// The script closed or reset it first, so nobody saw.
    Left,
}

/// One connection, seen from our side.
#[derive(Debug)]
pub struct Socket {
    stream: TcpStream,
    received: Vec<u8>,
    matched: usize,
    unsent: Vec<u8>,
    end: End,
}

impl Socket {
    /// Connects to a listener on this machine.
    pub fn connect(address: SocketAddr) -> io::Result<Socket> {
        Socket::over(TcpStream::connect(address)?)
    }

    /// Takes over a connected stream.
    pub fn over(stream: TcpStream) -> io::Result<Socket> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(Socket { stream, received: Vec::new(), matched: 0, unsent: Vec::new(), end: End::Open })
    }

    /// Every byte received so far.
    pub fn received(&self) -> &[u8] {
        &self.received
    }

    /// How the other side left, as far as we know.
    pub fn end(&self) -> End {
        self.end
    }

    /// Sends now what the kernel takes; the rest goes out while anybody waits.
    pub fn send(&mut self, bytes: &[u8]) {
        self.unsent.extend_from_slice(bytes);
        self.flush();
    }

    /// Moves what can be moved without waiting.
    pub fn pump(&mut self) {
        self.flush();
        let mut chunk = [0; 16 * 1024];
        while self.end == End::Open {
            match self.stream.read(&mut chunk) {
                Ok(0) => self.end = End::Fin,
                Ok(n) => self.received.extend_from_slice(&chunk[..n]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.end = End::Rst,
            }
        }
    }

    /// True when `pattern` has come after the last pattern found; moves behind it.
    pub fn found(&mut self, pattern: &[u8]) -> bool {
        let rest = &self.received[self.matched..];
        let at = rest.windows(pattern.len().max(1)).position(|window| window == pattern);
        at.is_some_and(|at| {
            self.matched += at + pattern.len();
            true
        })
    }

    /// Waits for `pattern` after the last one found. Panics at the deadline with what came instead.
    pub fn wait_for(&mut self, pattern: &[u8]) {
        let deadline = Instant::now() + DEADLINE;
        while !self.found(pattern) {
            let late = Instant::now() >= deadline || self.end != End::Open;
            assert!(!late, "waited for {:?}, have {}", escape(pattern), self.describe());
            wait_readable(&[&*self], &[], deadline);
            self.pump();
        }
    }

    /// Waits until `count` bytes have come in all. Panics at the deadline.
    pub fn wait_len(&mut self, count: usize) {
        let deadline = Instant::now() + DEADLINE;
        while self.received.len() < count {
            let late = Instant::now() >= deadline || self.end != End::Open;
            assert!(!late, "waited for {count} bytes, have {}", self.describe());
            wait_readable(&[&*self], &[], deadline);
            self.pump();
        }
    }

    /// Waits until the other side left, and says how; `Open` when it did not within `limit`.
    pub fn wait_end(&mut self, limit: Duration) -> End {
        let deadline = Instant::now() + limit;
        self.pump();
        while self.end == End::Open && Instant::now() < deadline {
            wait_readable(&[&*self], &[], deadline);
            self.pump();
        }
        self.end
    }

    /// Waits for the end and returns all that came, as text. Panics when there is no end in time.
    pub fn read_to_end(&mut self) -> String {
        assert_ne!(self.wait_end(DEADLINE), End::Open, "no end after {}", self.describe());
        String::from_utf8_lossy(&self.received).into_owned()
    }

    /// Drops what was received so far, so that a long test does not keep it all.
    pub fn forget(&mut self) {
        self.received.clear();
        self.matched = 0;
    }

    /// Half close: nothing more from us, the other direction stays.
    pub fn fin(&mut self) {
        self.flush();
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Makes the coming drop a reset instead of an orderly close.
    pub fn reset(self) {
        let _ = sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO));
    }

    /// The stream itself, for options no script needs a word for.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    fn flush(&mut self) {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(n) => drop(self.unsent.drain(..n)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The other side is gone: reading says how.
                Err(_) => self.unsent.clear(),
            }
        }
    }

    fn describe(&self) -> String {
        format!("{:?} ({:?})", escape(&self.received), self.end)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// Waits until something can be read on one of the sockets that are still open, a listener has somebody, an unsent rest can
/// go out, or the deadline comes.
pub fn wait_readable(sockets: &[&Socket], listeners: &[&TcpListener], deadline: Instant) {
    let open = sockets.iter().filter(|socket| socket.end == End::Open || !socket.unsent.is_empty());
    let mut fds: Vec<PollFd<'_>> = open.map(|socket| PollFd::new(socket, wanted(socket))).collect();
    fds.extend(listeners.iter().map(|listener| PollFd::new(listener, PollFlags::IN)));
    let left = deadline.saturating_duration_since(Instant::now());
    let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
    let _ = poll(&mut fds, Some(&timeout));
}

fn wanted(socket: &Socket) -> PollFlags {
    let read = if socket.end == End::Open { PollFlags::IN } else { PollFlags::empty() };
    if socket.unsent.is_empty() { read } else { read | PollFlags::OUT }
}

/// Bytes as a person reads them: printable ASCII as is, the rest escaped.
pub fn escape(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}
