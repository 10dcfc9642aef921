//! Listening addresses: `listen` as data.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// What a listener is bound to; also its identity over reloads.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ListenAddr {
    /// An IP address and port.
    Tcp(SocketAddr),
    /// `unix:/path`
    Unix(PathBuf),
}

impl ListenAddr {
    /// Whether it takes connections to any local address of its family.
    pub fn is_wildcard(&self) -> bool {
        matches!(self, ListenAddr::Tcp(addr) if addr.ip().is_unspecified())
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddr::Tcp(addr) => addr.fmt(f),
            ListenAddr::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// `so_keepalive=`: whether it is on; idle time and interval in seconds; count of probes.
pub type SocketKeepalive = (bool, Option<u32>, Option<u32>, Option<u32>);

/// Socket options of a `listen` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenOptions {
    /// `backlog=`: connections the kernel may queue.
    pub backlog: i32,
    /// `rcvbuf=`, bytes
    pub rcvbuf: Option<usize>,
    /// `sndbuf=`, bytes
    pub sndbuf: Option<usize>,
    /// `reuseport`: a socket for each worker.
    pub reuseport: bool,
    /// `ipv6only=`
    pub ipv6only: bool,
    /// `so_keepalive=`: off, on, or idle, interval (seconds) and count.
    pub keepalive: Option<SocketKeepalive>,
    /// `deferred`
    pub deferred: bool,
    /// `fastopen=`
    pub fastopen: Option<u32>,
    /// `bind`: a socket of its own beside a wildcard of the same port.
    pub bind: bool,
}

impl Default for ListenOptions {
    fn default() -> ListenOptions {
        ListenOptions {
            backlog: 511,
            rcvbuf: None,
            sndbuf: None,
            reuseport: false,
            ipv6only: true,
            keepalive: None,
            deferred: false,
            fastopen: None,
            bind: false,
        }
    }
}

/// One `listen` line of a server, one address of it.
#[derive(Clone, Debug)]
pub struct Listen {
    /// The address.
    pub addr: ListenAddr,
    /// `default_server`
    pub default_server: bool,
    /// `proxy_protocol`
    pub proxy_protocol: bool,
    /// `ssl`
    pub ssl: bool,
    /// Whether the line set socket options: a second line that does is an error.
    pub options: Option<ListenOptions>,
    /// Where it stands, for messages.
    pub span: conf::Span,
}
