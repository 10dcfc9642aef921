//! Sockets as both ends of the load use them: nonblocking, edge triggered, registered once.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// Client connections made from one source address before the next is taken, well under the ephemeral range.
const CONNECTIONS_PER_ADDRESS: usize = 20_000;

/// What a read brought.
pub(crate) enum Received {
    /// So many bytes; `more` when another read is due.
    Bytes { count: usize, more: bool },
    /// Nothing there.
    Nothing,
    /// The peer is done, or the connection broke.
    End,
}

/// A nonblocking listener on a free loopback port.
pub(crate) fn listen_loopback() -> io::Result<(OwnedFd, u16)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let port = listener.local_addr()?.port();
    let fd = OwnedFd::from(listener);
    // A second listen() only changes the backlog; std's 128 would drop connections of a storm.
    rustix::net::listen(&fd, 4096)?;
    Ok((fd, port))
}

/// Whether an event tells of the end of the stream.
pub(crate) fn is_ending(flags: epoll::EventFlags) -> bool {
    flags.intersects(epoll::EventFlags::RDHUP | epoll::EventFlags::HUP | epoll::EventFlags::ERR)
}

/// Starts to connect; `index` spreads connections over source addresses.
pub(crate) fn connect(to: SocketAddr, index: usize) -> io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let fd = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    if index >= CONNECTIONS_PER_ADDRESS {
        let last = 1 + (index / CONNECTIONS_PER_ADDRESS).min(250) as u8;
        rustix::net::bind(&fd, &SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, last), 0))?;
    }
    rustix::net::sockopt::set_tcp_nodelay(&fd, true)?;
    match rustix::net::connect(&fd, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(fd),
        Err(error) => Err(error.into()),
    }
}

/// Registers once for everything, edge triggered.
pub(crate) fn watch(epoll: &OwnedFd, fd: &OwnedFd, token: u64) -> io::Result<()> {
    let flags =
        epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET | epoll::EventFlags::RDHUP;
    epoll::add(epoll, fd, epoll::EventData::new_u64(token), flags).map_err(io::Error::from)
}

/// One read. Less than a buffer means the socket is empty, and edge triggering will tell when it is not; unless the event
/// that led here told of the end too (`ending`), which it will not do again.
pub(crate) fn receive(fd: &OwnedFd, buffer: &mut [u8], ending: bool) -> Received {
    let size = buffer.len();
    match rustix::net::recv(fd, buffer, RecvFlags::empty()).map(|(count, _)| count) {
        Ok(0) => Received::End,
        Ok(count) => Received::Bytes { count, more: ending || count == size },
        Err(Errno::AGAIN) => Received::Nothing,
        Err(_) => Received::End,
    }
}

/// Sends, keeping in `unsent` what the socket does not take.
pub(crate) fn send(fd: &OwnedFd, unsent: &mut Vec<u8>, bytes: &[u8]) -> io::Result<()> {
    if !unsent.is_empty() {
        unsent.extend_from_slice(bytes);
        return flush(fd, unsent);
    }
    let sent = send_some(fd, bytes)?;
    unsent.extend_from_slice(&bytes[sent..]);
    Ok(())
}

/// Sends what is left from before.
pub(crate) fn flush(fd: &OwnedFd, unsent: &mut Vec<u8>) -> io::Result<()> {
    if unsent.is_empty() {
        return Ok(());
    }
    let sent = send_some(fd, unsent)?;
    unsent.drain(..sent);
    Ok(())
}

/// Closes with a reset, which leaves no TIME_WAIT behind: the next run needs the ports.
pub(crate) fn abort(fd: OwnedFd) {
    // Failing only means an orderly close.
    let _ = rustix::net::sockopt::set_socket_linger(&fd, Some(Duration::ZERO));
    drop(fd);
}

fn send_some(fd: &OwnedFd, bytes: &[u8]) -> io::Result<usize> {
    match rustix::net::send(fd, bytes, SendFlags::NOSIGNAL) {
        Ok(sent) => Ok(sent),
        Err(Errno::AGAIN) => Ok(0),
        Err(error) => Err(error.into()),
    }
}
