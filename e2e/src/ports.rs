//! Ports nobody else will take between choosing and using them.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket, sockopt};

/// A TCP port on 127.0.0.1 held by a bound socket that does not listen.
///
/// The socket allows address reuse only after it was bound: the kernel then gives the number to nobody who asks for any
/// port, nor to an outgoing connection, while a server that names the port (and sets `SO_REUSEADDR`, as all do) can
/// listen on it. Until one does, connecting is refused.
#[derive(Debug)]
pub struct Port {
    held: OwnedFd,
    number: u16,
}

impl Port {
    /// Holds a free port.
    pub fn reserve() -> Port {
        let held = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        rustix::io::fcntl_setfd(&held, rustix::io::FdFlags::CLOEXEC).expect("a flag on our own socket");
        let any = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
        bind(&held, &any).expect("a free port on 127.0.0.1");
        sockopt::set_socket_reuseaddr(&held, true).expect("an option on our own socket");
        let bound = getsockname(&held).expect("a bound socket has a name");
        let bound = SocketAddr::try_from(bound).expect("an IPv4 socket");
        Port { held, number: bound.port() }
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Where to connect.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.number))
    }

    /// Starts listening on it ourselves.
    pub fn listen(&self) -> TcpListener {
        listen(&self.held, 1024).expect("a bound socket can listen");
        TcpListener::from(self.held.try_clone().expect("a spare descriptor"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserved_port_refuses_until_a_server_takes_it() {
        let port = Port::reserve();
        assert!(std::net::TcpStream::connect(port.address()).is_err());
        let server = TcpListener::bind(port.address()).expect("std sets SO_REUSEADDR");
        assert!(std::net::TcpStream::connect(port.address()).is_ok());
        drop(server);
    }
}
