//! Socket options that more than one room sets.

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use rustix::net::sockopt;

/// `TCP_NODELAY`.
///
/// # Errors
/// `EOPNOTSUPP` and the like for what is no TCP socket.
pub fn set_nodelay(socket: impl AsFd, on: bool) -> io::Result<()> {
    Ok(sockopt::set_tcp_nodelay(socket, on)?)
}

/// Before `connect`: the handshake's last packet waits for the first bytes we send, which must follow at once
/// (`TCP_QUICKACK` off; the kernel turns it on again by itself). One packet less, and one event less for the peer.
///
/// # Errors
/// `EOPNOTSUPP` and the like for what is no TCP socket.
pub fn send_first_with_handshake(socket: impl AsFd) -> io::Result<()> {
    Ok(sockopt::set_tcp_quickack(socket, false)?)
}

/// When TCP probes an idle connection; a `None` leaves the system's value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Keepalive {
    /// Idle time before the first probe, whole seconds (`TCP_KEEPIDLE`).
    pub idle: Option<Duration>,
    /// Between probes, whole seconds (`TCP_KEEPINTVL`).
    pub interval: Option<Duration>,
    /// Lost probes until the connection is dead (`TCP_KEEPCNT`).
    pub count: Option<u32>,
}

/// `SO_KEEPALIVE` and its three times, as in `so_keepalive=30m::10`.
///
/// # Errors
/// The kernel's, for values out of its range.
pub fn set_keepalive(socket: impl AsFd, keepalive: Option<Keepalive>) -> io::Result<()> {
    let socket = socket.as_fd();
    sockopt::set_socket_keepalive(socket, keepalive.is_some())?;
    let times = keepalive.unwrap_or_default();
    if let Some(idle) = times.idle {
        sockopt::set_tcp_keepidle(socket, idle)?;
    }
    if let Some(interval) = times.interval {
        sockopt::set_tcp_keepintvl(socket, interval)?;
    }
    if let Some(count) = times.count {
        sockopt::set_tcp_keepcnt(socket, count)?;
    }
    Ok(())
}

/// `IP_BIND_ADDRESS_NO_PORT`: a `bind` to an address with port 0 leaves the choice of port to `connect`, which can then
/// share a port between destinations (`proxy_bind`).
///
/// # Errors
/// The kernel's, for what is no IP socket.
pub fn set_bind_address_no_port(socket: impl AsFd, on: bool) -> io::Result<()> {
    set_int(socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, c_int::from(on))
}

/// `IP_TRANSPARENT` or `IPV6_TRANSPARENT` (`proxy_bind ... transparent`). Needs `CAP_NET_RAW`.
///
/// # Errors
/// `EPERM` without that capability.
pub fn set_transparent(socket: impl AsFd, ipv6: bool) -> io::Result<()> {
    match ipv6 {
        false => set_int(socket, libc::IPPROTO_IP, libc::IP_TRANSPARENT, 1),
        true => set_int(socket, libc::IPPROTO_IPV6, libc::IPV6_TRANSPARENT, 1),
    }
}

/// `SO_RCVBUF` in bytes (`rcvbuf=`); the kernel doubles it.
///
/// # Errors
/// The kernel's.
pub fn set_receive_buffer(socket: impl AsFd, bytes: usize) -> io::Result<()> {
    Ok(sockopt::set_socket_recv_buffer_size(socket, bytes)?)
}

/// `SO_SNDBUF` in bytes (`sndbuf=`); the kernel doubles it.
///
/// # Errors
/// The kernel's.
pub fn set_send_buffer(socket: impl AsFd, bytes: usize) -> io::Result<()> {
    Ok(sockopt::set_socket_send_buffer_size(socket, bytes)?)
}

/// `SO_LINGER` with 0 seconds: closing sends RST and forgets unsent bytes (`reset_timedout_connection`).
///
/// # Errors
/// The kernel's.
pub fn set_reset_on_close(socket: impl AsFd) -> io::Result<()> {
    Ok(sockopt::set_socket_linger(socket, Some(Duration::ZERO))?)
}

/// Sets an option whose value is an `int`.
pub(crate) fn set_int(socket: impl AsFd, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    let length = size_of::<c_int>() as libc::socklen_t;
    let value: *const c_int = &raw const value;
    // SAFETY: the descriptor is borrowed, hence open; `value` points at `length` readable bytes for the whole call.
    match unsafe { libc::setsockopt(socket.as_fd().as_raw_fd(), level, name, value.cast(), length) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn every_option_holds_on_a_tcp_socket() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        set_nodelay(&socket, true).unwrap();
        assert!(socket.nodelay().unwrap());
        let times = Keepalive {
            idle: Some(Duration::from_secs(90)),
            interval: Some(Duration::from_secs(7)),
            count: Some(3),
        };
        set_keepalive(&socket, Some(times)).unwrap();
        assert!(sockopt::socket_keepalive(&socket).unwrap());
        assert_eq!(sockopt::tcp_keepidle(&socket).unwrap(), Duration::from_secs(90));
        assert_eq!(sockopt::tcp_keepintvl(&socket).unwrap(), Duration::from_secs(7));
        assert_eq!(sockopt::tcp_keepcnt(&socket).unwrap(), 3);
        set_keepalive(&socket, None).unwrap();
        assert!(!sockopt::socket_keepalive(&socket).unwrap());
        set_bind_address_no_port(&socket, true).unwrap();
        set_receive_buffer(&socket, 8192).unwrap();
        set_send_buffer(&socket, 8192).unwrap();
        set_reset_on_close(&socket).unwrap();
    }

    #[test]
    fn accepted_sockets_have_nodelay_from_their_listener() {
        for on in [true, false] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            set_nodelay(&listener, on).unwrap();
            let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            assert_eq!(listener.accept().unwrap().0.nodelay().unwrap(), on);
        }
    }

    #[test]
    fn the_first_bytes_end_the_handshake() {
        let waits = || {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.set_nonblocking(true).unwrap();
            let (family, kind) = (rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM);
            let socket = rustix::net::socket(family, kind, None).unwrap();
            send_first_with_handshake(&socket).unwrap();
            rustix::net::connect(&socket, &listener.local_addr().unwrap()).unwrap();
            let waits = listener.accept().is_err();
            assert_eq!(crate::socket::send(&socket, b"x"), crate::socket::Moved::Bytes(1));
            waits
        };
        // The kernel itself waits for 200 ms, which may be less than this thread is kept waiting.
        assert!((0..20).any(|_| waits()));
    }
}
