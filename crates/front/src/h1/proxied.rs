//! The PROXY header in front of a connection's first request (`listen ... proxy_protocol`).

use std::rc::Rc;

use http::log::Level;
use wire::http1::Step;
use wire::proxy_protocol::{self, Received};

use crate::h1::session::{Proxied, ROOM, Session};
use crate::h1::socket::Socket;

impl Session {
    /// Reads the header; false when the connection is to close. `client_header_timeout` runs on.
    pub(super) async fn read_proxy_header(&mut self, socket: &mut Socket) -> bool {
        let Some(snapshot) = self.first.clone() else { return false };
        socket.align();
        loop {
            match proxy_protocol::read(socket.unread()) {
                Ok(Step::Done(header)) => {
                    let received = Received::new(header, socket.unread());
                    socket.consume(header.used);
                    if let Some(connection) = Rc::get_mut(&mut self.connection) {
                        connection.proxy_protocol = received.map(Box::new);
                    }
                    self.proxied = Proxied::Done;
                    return true;
                }
                Ok(Step::More) => {}
                Err(bad) => {
                    let text = bad.log_text(socket.unread());
                    let log = self.log_of(&snapshot);
                    log.write_for_connection(Level::Error, &self.connection, format_args!("{text}"));
                    return false;
                }
            }
            match self.in_time(snapshot.generation, |cx| socket.poll_fill(cx, ROOM)).await {
                Ok(count) if count > 0 => {}
                _ => return false,
            }
        }
    }
}
