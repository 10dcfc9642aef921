//! Listening sockets and what arrives on them.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use crate::errno;
use crate::options::{self, Keepalive};

/// Where a listener listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// An IPv4 or IPv6 address and port.
    Inet(SocketAddr),
    /// The path of a unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Inet(address) => address.fmt(f),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The parameters of `listen` that belong to the socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenOptions {
    /// `backlog=`; nginx's default on Linux is 511.
    pub backlog: i32,
    /// `reuseport`: this socket is one of several on the address, the kernel spreads connections over them.
    pub reuse_port: bool,
    /// `ipv6only=`; without effect on other families. nginx's default is on.
    pub ipv6_only: bool,
    /// `deferred`: wake only when data is there (`TCP_DEFER_ACCEPT`).
    pub deferred: bool,
    /// `fastopen=`: length of the queue of connections without a finished handshake.
    pub fast_open: Option<u32>,
    /// `rcvbuf=`, bytes.
    pub receive_buffer: Option<usize>,
    /// `sndbuf=`, bytes.
    pub send_buffer: Option<usize>,
    /// `so_keepalive=`; the outer `None` leaves the system's setting.
    pub keepalive: Option<Option<Keepalive>>,
    /// A datagram socket (`quic`): bound, not listening.
    pub datagram: bool,
}

impl Default for ListenOptions {
    fn default() -> ListenOptions {
        ListenOptions {
            backlog: 511,
            reuse_port: false,
            ipv6_only: true,
            deferred: false,
            fast_open: None,
            receive_buffer: None,
            send_buffer: None,
            keepalive: None,
            datagram: false,
        }
    }
}

/// Which call refused; nginx's message is `bind() to 0.0.0.0:80 failed (98: Address already in use)`.
#[derive(Debug)]
pub struct ListenError {
    /// The call by its C name, `bind()`.
    pub call: &'static str,
    /// Where it was to listen.
    pub address: Address,
    /// The kernel's answer.
    pub source: io::Error,
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (call, address) = (self.call, &self.address);
        write!(f, "{call} {}{address} failed ({})", preposition(call), errno::text(&self.source))
    }
}

impl std::error::Error for ListenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Opens a non-blocking listener that is closed on exec.
///
/// `SO_REUSEADDR` is set, as nginx does. A unix socket's file gets mode 0666 and must not exist before.
///
/// # Errors
/// The first call that failed, by name.
pub fn listen(address: &Address, options: &ListenOptions) -> Result<OwnedFd, ListenError> {
    let named = |call| move |error: io::Error| ListenError { call, address: address.clone(), source: error };
    let socket = open(address, options).map_err(named("socket()"))?;
    set_options(&socket, address, options).map_err(named("setsockopt()"))?;
    bind(&socket, address).map_err(named("bind()"))?;
    if !options.datagram {
        rustix::net::listen(&socket, options.backlog).map_err(|e| named("listen()")(e.into()))?;
    }
    Ok(socket)
}

/// Sets the backlog of a socket that listens already, as a reload may.
///
/// # Errors
/// The kernel's.
pub fn set_backlog(listener: impl AsFd, backlog: i32) -> io::Result<()> {
    Ok(rustix::net::listen(listener, backlog)?)
}

/// The address a socket is bound to; for a port 0 the one the kernel chose. An unnamed unix socket has an empty path.
///
/// # Errors
/// The kernel's, and `InvalidInput` for another family.
pub fn local_address(socket: impl AsFd) -> io::Result<Address> {
    from_kernel(rustix::net::getsockname(socket)?)
}

/// A connection and who made it.
#[derive(Debug)]
pub struct Accepted {
    /// Non-blocking and closed on exec.
    pub socket: OwnedFd,
    /// The other side; a unix client usually has no name: an empty path.
    pub peer: Address,
}

/// Takes one connection; `None` when the queue is empty. Connections that died in the queue are skipped.
///
/// # Errors
/// `EMFILE` and `ENFILE` when descriptors ran out: the connection stays in the queue. Others as documented in `accept(2)`.
pub fn accept(listener: impl AsFd) -> io::Result<Option<Accepted>> {
    let listener = listener.as_fd();
    loop {
        match rustix::net::acceptfrom_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok((socket, peer)) => {
                let peer = match peer {
                    Some(peer) => from_kernel(peer)?,
                    None => Address::Unix(PathBuf::new()),
                };
                return Ok(Some(Accepted { socket, peer }));
            }
            Err(Errno::AGAIN) => return Ok(None),
            Err(Errno::INTR | Errno::CONNABORTED) => continue,
            Err(error) => return Err(error.into()),
        }
    }
}

fn open(address: &Address, options: &ListenOptions) -> io::Result<OwnedFd> {
    let family = match address {
        Address::Inet(SocketAddr::V4(_)) => AddressFamily::INET,
        Address::Inet(SocketAddr::V6(_)) => AddressFamily::INET6,
        Address::Unix(_) => AddressFamily::UNIX,
    };
    let kind = if options.datagram { SocketType::DGRAM } else { SocketType::STREAM };
    Ok(rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?)
}

fn set_options(socket: &OwnedFd, address: &Address, options: &ListenOptions) -> io::Result<()> {
    if let Some(bytes) = options.receive_buffer {
        options::set_receive_buffer(socket, bytes)?;
    }
    if let Some(bytes) = options.send_buffer {
        options::set_send_buffer(socket, bytes)?;
    }
    let Address::Inet(address) = address else { return Ok(()) };
    sockopt::set_socket_reuseaddr(socket, true)?;
    if options.reuse_port {
        sockopt::set_socket_reuseport(socket, true)?;
    }
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(socket, options.ipv6_only)?;
    }
    if options.datagram {
        return Ok(());
    }
    if let Some(keepalive) = options.keepalive {
        options::set_keepalive(socket, keepalive)?;
    }
    if options.deferred {
        options::set_int(socket, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, 1)?;
    }
    if let Some(queue) = options.fast_open {
        let queue = i32::try_from(queue).unwrap_or(i32::MAX);
        options::set_int(socket, libc::IPPROTO_TCP, libc::TCP_FASTOPEN, queue)?;
    }
    Ok(())
}

fn bind(socket: &OwnedFd, address: &Address) -> io::Result<()> {
    match address {
        Address::Inet(address) => rustix::net::bind(socket, address)?,
        Address::Unix(path) => {
            rustix::net::bind(socket, &SocketAddrUnix::new(path.as_path())?)?;
            std::fs::set_permissions(path, PermissionsExt::from_mode(0o666))?;
        }
    }
    Ok(())
}

fn from_kernel(address: rustix::net::SocketAddrAny) -> io::Result<Address> {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    if address.address_family() != AddressFamily::UNIX {
        return Ok(Address::Inet(SocketAddr::try_from(address)?));
    }
    let unix = SocketAddrUnix::try_from(address)?;
    let path = unix.path_bytes().unwrap_or_default();
    Ok(Address::Unix(PathBuf::from(OsStr::from_bytes(path))))
}

fn preposition(call: &str) -> &'static str {
    match call {
        "bind()" | "listen()" => "to ",
        _ => "for ",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, Instant};

    fn accept_within_deadline(listener: &OwnedFd) -> Accepted {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(accepted) = accept(listener).unwrap() {
                return accepted;
            }
            assert!(Instant::now() < deadline, "no connection");
            std::thread::yield_now();
        }
    }

    fn loopback(text: &str) -> Address {
        Address::Inet(text.parse().unwrap())
    }

    #[test]
    fn a_tcp_listener_accepts_and_names_both_sides() {
        let options = ListenOptions {
            fast_open: Some(16),
            receive_buffer: Some(65536),
            send_buffer: Some(65536),
            keepalive: Some(Some(Keepalive::default())),
            ..ListenOptions::default()
        };
        let listener = listen(&loopback("127.0.0.1:0"), &options).unwrap();
        assert!(accept(&listener).unwrap().is_none());
        let Address::Inet(address) = local_address(&listener).unwrap() else { panic!("not inet") };
        let client = TcpStream::connect(address).unwrap();
        let accepted = accept_within_deadline(&listener);
        assert_eq!(accepted.peer, Address::Inet(client.local_addr().unwrap()));
        set_backlog(&listener, 7).unwrap();
    }

    #[test]
    fn reuseport_shares_an_address_and_its_absence_does_not() {
        let shared = ListenOptions { reuse_port: true, ..ListenOptions::default() };
        let first = listen(&loopback("127.0.0.1:0"), &shared).unwrap();
        let address = local_address(&first).unwrap();
        let _second = listen(&address, &shared).unwrap();
        let error = listen(&address, &ListenOptions::default()).unwrap_err();
        let wanted = format!("bind() to {address} failed (98: Address already in use)");
        assert_eq!(error.to_string(), wanted);
    }

    #[test]
    fn a_unix_listener_is_open_to_all_and_its_clients_have_no_name() {
        let path = std::env::temp_dir().join(format!("tidegate-listen-{}.sock", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let address = Address::Unix(path.clone());
        let listener = listen(&address, &ListenOptions::default()).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o666);
        assert_eq!(local_address(&listener).unwrap(), address);
        let _client = UnixStream::connect(&path).unwrap();
        assert_eq!(accept_within_deadline(&listener).peer, Address::Unix(PathBuf::new()));
        let error = listen(&address, &ListenOptions::default()).unwrap_err();
        assert_eq!(error.call, "bind()");
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_datagram_socket_is_bound_without_a_queue() {
        let options = ListenOptions { datagram: true, ..ListenOptions::default() };
        let socket = listen(&loopback("127.0.0.1:0"), &options).unwrap();
        assert!(matches!(local_address(&socket).unwrap(), Address::Inet(address) if address.port() != 0));
    }
}
