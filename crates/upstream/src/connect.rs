//! Connecting to a peer, with nginx's words for what can go wrong.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use http::log::Level;
use reactor::{Source, timeout};
use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket, Type};
use sys::errno;
use sys::options::{
    Keepalive, send_first_with_handshake, set_bind_address_no_port, set_keepalive, set_nodelay,
    set_transparent,
};

use crate::{Blame, Connection, PeerAddr};

/// How to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectOptions {
    /// `proxy_bind`: the local address; with port 0 the kernel chooses one. Ignored for unix sockets.
    pub local: Option<SocketAddr>,
    /// `proxy_connect_timeout` in milliseconds.
    pub timeout_ms: u64,
    /// `transparent`: `local` need not be an address of this machine. Wants `CAP_NET_RAW`.
    pub transparent: bool,
    /// `tcp_nodelay`.
    pub nodelay: bool,
    /// `proxy_socket_keepalive`: probe the connection when it is idle.
    pub keepalive: Option<Keepalive>,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        ConnectOptions { local: None, transparent: false, timeout_ms: 60_000, nodelay: true, keepalive: None }
    }
}

/// Why a connection could not be made. Prints in nginx's words, without its `while connecting to upstream, …` tail.
#[derive(Debug)]
pub enum ConnectError {
    /// No socket: out of descriptors or memory.
    Socket(io::Error),
    /// The local address of `proxy_bind` can't be used.
    Bind(SocketAddr, io::Error),
    /// The kernel refused at once; nginx then names the peer.
    Refused(PeerAddr, io::Error),
    /// The network answered, and it was no.
    Failed(io::Error),
    /// No answer within `timeout_ms`.
    TimedOut,
}

impl ConnectError {
    /// Whose fault it is. Running out of local ports is ours: marking a peer failed for it would only move the flood.
    pub fn blame(&self) -> Blame {
        match self {
            ConnectError::Socket(_) | ConnectError::Bind(..) => Blame::Us,
            ConnectError::Refused(_, error) if errno(error) == Some(Errno::ADDRNOTAVAIL) => Blame::Us,
            ConnectError::Refused(..) | ConnectError::Failed(_) | ConnectError::TimedOut => Blame::Upstream,
        }
    }

    /// The error log level nginx uses.
    pub fn level(&self) -> Level {
        match self {
            ConnectError::Socket(_) => Level::Alert,
            ConnectError::Bind(..) => Level::Crit,
            ConnectError::Refused(_, error) | ConnectError::Failed(error) => network_level(error),
            ConnectError::TimedOut => Level::Error,
        }
    }

    /// Whether another peer may be tried. nginx answers 500 at once where no socket could be made or bound.
    pub fn may_retry(&self) -> bool {
        !matches!(self, ConnectError::Socket(_) | ConnectError::Bind(..))
    }

    /// Whether the time ran out, which is 504 rather than 502, and `timeout` rather than `error` to
    /// `proxy_next_upstream`.
    pub fn is_timeout(&self) -> bool {
        matches!(self, ConnectError::TimedOut)
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectError::Socket(error) => write!(f, "socket() failed ({})", errno::text(error)),
            ConnectError::Bind(local, error) if local.port() == 0 => {
                write!(f, "bind({}) failed ({})", local.ip(), errno::text(error))
            }
            ConnectError::Bind(local, error) => write!(f, "bind({local}) failed ({})", errno::text(error)),
            ConnectError::Refused(addr, error) => {
                write!(f, "connect() to {addr} failed ({})", errno::text(error))
            }
            ConnectError::Failed(error) => write!(f, "connect() failed ({})", errno::text(error)),
            ConnectError::TimedOut => {
                write!(f, "upstream timed out ({})", errno::text(&Errno::TIMEDOUT.into()))
            }
        }
    }
}

impl std::error::Error for ConnectError {}

/// Connects to `addr`.
///
/// # Errors
/// See [`ConnectError`].
pub async fn connect(addr: &PeerAddr, options: &ConnectOptions) -> Result<Connection, ConnectError> {
    let socket = open(addr, options)?;
    let started = Instant::now();
    match begin(&socket, addr)? {
        Begun::Connected => Source::stream(OwnedFd::from(socket))
            .map(|socket| Connection::new(socket, started))
            .map_err(ConnectError::Socket),
        Begun::InProgress => {
            let socket = Source::connecting(OwnedFd::from(socket)).map_err(ConnectError::Socket)?;
            let connection = Connection::new(socket, started);
            let limit = Duration::from_millis(options.timeout_ms);
            timeout(limit, finish(connection)).await.unwrap_or(Err(ConnectError::TimedOut))
        }
    }
}

enum Begun {
    Connected,
    InProgress,
}

fn open(addr: &PeerAddr, options: &ConnectOptions) -> Result<Socket, ConnectError> {
    let domain = match addr {
        PeerAddr::Tcp(SocketAddr::V4(_)) => Domain::IPV4,
        PeerAddr::Tcp(SocketAddr::V6(_)) => Domain::IPV6,
        PeerAddr::Unix(_) => Domain::UNIX,
    };
    let socket = Socket::new(domain, Type::STREAM.nonblocking(), None).map_err(ConnectError::Socket)?;
    if let PeerAddr::Tcp(_) = addr {
        prepare_tcp(&socket, options)?;
    }
    Ok(socket)
}

fn prepare_tcp(socket: &Socket, options: &ConnectOptions) -> Result<(), ConnectError> {
    // A kernel that refuses an option costs delay, a packet or a port, not correctness: nginx logs and goes on.
    // We are the first to speak, with HTTP as with TLS.
    let _ = send_first_with_handshake(socket);
    if options.nodelay {
        let _ = set_nodelay(socket, true);
    }
    if options.keepalive.is_some() {
        let _ = set_keepalive(socket, options.keepalive);
    }
    let Some(local) = options.local else { return Ok(()) };
    let failed = |error| ConnectError::Bind(local, error);
    if options.transparent {
        set_transparent(socket, local.is_ipv6()).map_err(failed)?;
    }
    if local.port() == 0 {
        // Else bind would choose a port that is free towards everybody, and 28,000 connections are the end.
        let _ = set_bind_address_no_port(socket, true);
    }
    socket.bind(&local.into()).map_err(failed)
}

fn begin(socket: &Socket, addr: &PeerAddr) -> Result<Begun, ConnectError> {
    let refused = |error| ConnectError::Refused(addr.clone(), error);
    let target = match addr {
        PeerAddr::Tcp(addr) => SockAddr::from(*addr),
        PeerAddr::Unix(path) => SockAddr::unix(path).map_err(refused)?,
    };
    match socket.connect(&target) {
        Ok(()) => Ok(Begun::Connected),
        // On this machine the handshake is over before the call returns, though the kernel never says so.
        Err(error) if errno(&error) == Some(Errno::INPROGRESS) => {
            let over = is_loopback(addr) && socket.peer_addr().is_ok();
            Ok(if over { Begun::Connected } else { Begun::InProgress })
        }
        Err(error) => Err(refused(error)),
    }
}

fn is_loopback(addr: &PeerAddr) -> bool {
    matches!(addr, PeerAddr::Tcp(addr) if addr.ip().is_loopback())
}

/// Waits for the handshake.
async fn finish(connection: Connection) -> Result<Connection, ConnectError> {
    match connection.connected().await {
        Ok(()) => Ok(connection),
        Err(error) => Err(ConnectError::Failed(error)),
    }
}

fn errno(error: &io::Error) -> Option<Errno> {
    Errno::from_io_error(error)
}

/// What the network does every day is `[error]`; the rest (a missing unix socket, no permission) wants a person.
fn network_level(error: &io::Error) -> Level {
    match errno(error) {
        Some(
            Errno::CONNREFUSED
            | Errno::AGAIN
            | Errno::CONNRESET
            | Errno::NETDOWN
            | Errno::NETUNREACH
            | Errno::HOSTDOWN
            | Errno::HOSTUNREACH
            | Errno::TIMEDOUT
            | Errno::PIPE
            | Errno::NOTCONN,
        ) => Level::Error,
        _ => Level::Crit,
    }
}

#[cfg(test)]
mod tests;
