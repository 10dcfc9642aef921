//! The handshake in front of a connection's first request (`listen ... ssl`), and whom TLS lets ask for what.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use ::tls::config::verify::Verdict;
use http::Request;
use http::config::ServerTls;
use http::log::Level;
use http::message::{Judged, SnapshotRef};

use crate::h1::session::{NoHead, Proxied, Secured, Session};
use crate::h1::socket::{Socket, receive_failed};

/// What is done while a request is refused for its TLS.
const HEADERS: &str = "while reading client request headers";
/// What [`::tls`] says of a handshake that `ssl_reject_handshake` turns away.
const REJECTED: &str = "handshake rejected";

/// First byte of a TLS record that holds a handshake.
const HANDSHAKE: u8 = 22;
/// First bit of an SSLv2 hello: no HTTP either.
const SSL2: u8 = 0x80;

impl Session {
    /// Makes the handshake; false when the connection is to close. `client_header_timeout` runs on.
    pub(super) async fn shake_hands(&mut self, socket: &mut Socket) -> bool {
        // Who was silent until after a reload is shown the new certificate, if the listener is still there.
        let mut snapshot = self.worker.snapshots.current();
        let mut servers = self.tls_servers(&snapshot);
        if servers.is_none() {
            let Some(first) = self.first.clone() else { return false };
            servers = self.tls_servers(&first);
            snapshot = first;
        }
        let Some(servers) = servers else { return false };
        if socket.unread().first().is_some_and(|byte| *byte != HANDSHAKE && *byte & SSL2 == 0) {
            self.secured = Secured::Missing;
            return true;
        }
        socket.secure(servers);
        let mut done = self.in_time(snapshot.generation, |cx| socket.poll_handshake(cx)).await;
        if done.is_ok() && socket.undecided().is_some() {
            // In a box: most handshakes need no room for it.
            done = Box::pin(self.find_certificate(socket, &snapshot)).await;
            if done.is_ok() {
                done = self.in_time(snapshot.generation, |cx| socket.poll_handshake(cx)).await;
            }
        }
        if let Err(error) = done {
            self.say_no_handshake(&snapshot, &error);
            return false;
        }
        let mut facts = socket.tls_facts().map(Box::new);
        if let (Some(tls), Some(server)) = (&mut facts, socket.tls_server()) {
            match self.judge(&snapshot, &server, &tls.certificates).await {
                Ok(verdict) => tls.judged = Judged::first(&server, verdict),
                Err(error) => {
                    self.say_no_handshake(&snapshot, &error);
                    return false;
                }
            }
        }
        if let Some(connection) = Rc::get_mut(&mut self.connection) {
            connection.tls = facts;
        }
        self.secured = Secured::Settled;
        true
    }

    /// What a client's certificates are worth to a server: by its authorities, and by who knows which are revoked.
    async fn judge(
        &mut self,
        snapshot: &SnapshotRef,
        server: &ServerTls,
        certificates: &[Box<[u8]>],
    ) -> io::Result<Verdict> {
        let verdict =
            server.clients.as_ref().map_or(Verdict::None, |clients| clients.check_now(certificates));
        let (Verdict::Success, Some(status)) = (verdict, &server.status) else { return Ok(verdict) };
        let mut checking = status.check(certificates);
        let known = self.in_time(snapshot.generation, |cx| checking.as_mut().poll(cx).map(Ok)).await?;
        Ok(known.map_or_else(Verdict::Failed, |()| verdict))
    }

    /// The certificate's name depends on who asks: a request that is none gives its variables their values.
    async fn find_certificate(&mut self, socket: &mut Socket, snapshot: &SnapshotRef) -> io::Result<()> {
        let Some((layer, _)) = socket.undecided() else { return Ok(()) };
        let (Some((late, server)), greeting) = (layer.undecided(), layer.greeting()) else { return Ok(()) };
        if let Some(connection) = Rc::get_mut(&mut self.connection) {
            connection.tls = greeting.map(Box::new);
        }
        let mut request = self.worker.spare.request(snapshot.clone(), self.connection.clone());
        request.server = server;
        request.location = request.server().root;
        let mut config = late.config(&mut request);
        // Not given back: a spare request would hold the connection, which is to be changed once more.
        drop(request);
        let config = self.in_time(snapshot.generation, |cx| config.as_mut().poll(cx).map(Ok)).await?;
        if let Err(why) = &config {
            let text = format_args!("{why} while SSL handshaking");
            self.log_of(snapshot).write_for_connection(Level::Error, &self.connection, text);
        }
        match socket.undecided() {
            Some((layer, stream)) => layer.decide(stream, config.ok()),
            None => Ok(()),
        }
    }

    fn say_no_handshake(&mut self, snapshot: &SnapshotRef, error: &io::Error) {
        let log = self.log_of(snapshot);
        let say = |text: std::fmt::Arguments<'_>| {
            log.write_for_connection(Level::Info, &self.connection, text);
        };
        match error.kind() {
            io::ErrorKind::Interrupted => {}
            io::ErrorKind::TimedOut => {
                say(format_args!("client timed out (110: Connection timed out) while SSL handshaking"));
            }
            io::ErrorKind::UnexpectedEof => {
                say(format_args!("peer closed connection in SSL handshake while SSL handshaking"));
            }
            _ if error.raw_os_error().is_some() => {
                let text = sys::errno::text(error);
                say(format_args!("peer closed connection in SSL handshake ({text}) while SSL handshaking"));
            }
            _ if error.to_string() == REJECTED => say(format_args!("{REJECTED} while SSL handshaking")),
            _ => say(format_args!("SSL_do_handshake() failed (SSL: {error}) while SSL handshaking")),
        }
    }

    /// A connection that ended or was silent for too long before its first byte, or ended between two requests.
    pub(super) fn say_no_request(&mut self, read: &io::Result<usize>) {
        let snapshot = self.worker.snapshots.current();
        let log = self.log_of(&snapshot);
        let doing = match self.secured {
            Secured::Awaited => "SSL handshaking",
            Secured::Settled | Secured::Missing => "waiting for request",
        };
        let say = |what: std::fmt::Arguments<'_>| {
            log.write_for_connection(Level::Info, &self.connection, format_args!("{what} while {doing}"));
        };
        match read {
            Ok(_) if self.connection.requests.get() > 0 => log.write(
                Level::Info,
                format_args!(
                    "*{} client {} closed keepalive connection",
                    self.connection.serial,
                    self.connection.peer_text()
                ),
            ),
            // As on nginx: whose connection breaks or idles out between two requests is not worth a word.
            _ if self.connection.requests.get() > 0 => {}
            Ok(_) => say(format_args!("client closed connection")),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                say(format_args!("client timed out (110: Connection timed out)"));
            }
            Err(error) => say(format_args!("{}", receive_failed(error))),
        }
    }

    /// Whether a request may be served, or why not: 497 for plain HTTP where TLS belongs, 495 and 496 where a certificate is
    /// wrong or missing, 421 for a name behind another one's handshake.
    pub(super) async fn check_tls(&mut self, socket: &Socket, request: &Request) -> Result<(), NoHead> {
        // A reload may have put a PROXY header or TLS in front of what a connection without them goes on to ask for.
        if self.proxied == Proxied::No && self.wants_proxy_header(&request.snapshot) {
            request.log(Level::Info, format_args!("client has sent no PROXY header {HEADERS}"));
            return Err(NoHead::Cut);
        }
        if self.connection.tls.is_none() && self.wants_tls(&request.snapshot) {
            self.secured = Secured::Missing;
        }
        if self.secured == Secured::Missing {
            request.log(Level::Info, format_args!("client sent plain HTTP request to HTTPS port {HEADERS}"));
            return Err(NoHead::Status(497));
        }
        let Some(tls) = &self.connection.tls else { return Ok(()) };
        if tls.early.get() {
            tls.early.set(socket.is_early());
        }
        match &request.server().tls {
            Some(server) if server.clients.is_some() => self.check_client(server, request).await,
            _ => Ok(()),
        }
    }

    /// The same in a server that asks clients for certificates.
    async fn check_client(&mut self, server: &Arc<ServerTls>, request: &Request) -> Result<(), NoHead> {
        let connection = self.connection.clone();
        let (Some(tls), Some(clients)) = (&connection.tls, &server.clients) else { return Ok(()) };
        let other = tls.server_name.as_ref().is_some_and(|name| name.as_bytes() != &request.host[..]);
        if tls.named && other {
            let text =
                "client attempted to request the server name different from the one that was negotiated";
            request.log(Level::Info, format_args!("{text} {HEADERS}"));
            return Err(NoHead::Status(421));
        }
        let verdict = match tls.judged.by(server) {
            Some(verdict) => verdict,
            // The handshake was another server's, say because the client named none, or this one is of a later generation. In
            // a box: few requests need room for it.
            None => match Box::pin(self.judge(&request.snapshot, server, &tls.certificates)).await {
                Ok(verdict) => {
                    tls.judged.put(server, verdict);
                    verdict
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(NoHead::Cut),
                Err(_) => return Err(NoHead::Unanswered(408)),
            },
        };
        if clients.accepts(verdict) {
            return Ok(());
        }
        match verdict {
            Verdict::Failed(reason) => {
                request.log(
                    Level::Info,
                    format_args!("client SSL certificate verify error: {reason} {HEADERS}"),
                );
                Err(NoHead::Status(495))
            }
            _ => {
                request.log(Level::Info, format_args!("client sent no required SSL certificate {HEADERS}"));
                Err(NoHead::Status(496))
            }
        }
    }
}
