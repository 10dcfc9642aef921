//! TLS over a plain socket, with every record in hand: what was sent can be counted, cut off, or sent byte by byte.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, Connection, HandshakeKind, ServerConfig, ServerConnection};
use rustls::{ProtocolVersion, SupportedProtocolVersion};

use crate::certificates::{Authority, Pair};
use crate::raw::{DEADLINE, End, Socket, escape, wait_readable};

/// Both protocols there are.
pub const PROTOCOLS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// A client's settings: whom it trusts, what it speaks, and whether it takes up sessions.
pub fn client(
    authority: &Authority,
    versions: &[&'static SupportedProtocolVersion],
    resumes: bool,
) -> Arc<ClientConfig> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(versions)
        .expect("versions rustls has")
        .with_root_certificates(authority.roots())
        .with_no_client_auth();
    if !resumes {
        config.resumption = Resumption::disabled();
    }
    Arc::new(config)
}

/// A server's settings: its certificate.
pub fn server(pair: &Pair, versions: &[&'static SupportedProtocolVersion]) -> Arc<ServerConfig> {
    let (chain, key) = pair.der();
    let config = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(versions)
        .expect("versions rustls has")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a key that fits");
    Arc::new(config)
}

/// X25519, and P-256 for certificates: whoever counts records and bytes wants the same ones every time, and a thousand
/// handshakes take less time.
fn provider() -> CryptoProvider {
    CryptoProvider { kx_groups: vec![kx_group::X25519, kx_group::SECP256R1], ..default_provider() }
}

/// How a connection is broken off once so many of its encrypted bytes are out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// With a FIN; the other direction is read on.
    Fin,
    /// With a RST.
    Rst,
}

/// One TLS connection, seen from our side.
#[derive(Debug)]
pub struct Tls {
    /// `None` once it was reset.
    socket: Option<Socket>,
    connection: Connection,
    received: Vec<u8>,
    matched: usize,
    /// Type and length of every record sent, header included.
    records: Vec<(u8, usize)>,
    encrypted: Vec<u8>,
    sent: usize,
    cut: Option<(usize, Cut)>,
    notified: bool,
    failed: Option<rustls::Error>,
}

impl Tls {
    /// A client's end of a new connection; the handshake is under way.
    pub fn connect(address: SocketAddr, config: &Arc<ClientConfig>, name: &str) -> io::Result<Tls> {
        Ok(Tls::client(Socket::connect(address)?, config, name))
    }

    /// The same on a connection that is there.
    pub fn client(socket: Socket, config: &Arc<ClientConfig>, name: &str) -> Tls {
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let connection = ClientConnection::new(config.clone(), name).expect("settings");
        Tls::over(socket, connection.into(), None)
    }

    /// A client's end that is broken off when it has sent so many bytes.
    pub fn cut(address: SocketAddr, config: &Arc<ClientConfig>, at: usize, how: Cut) -> io::Result<Tls> {
        let name = ServerName::try_from("a").expect("a name");
        let connection = ClientConnection::new(config.clone(), name).expect("settings");
        Ok(Tls::over(Socket::connect(address)?, connection.into(), Some((at, how))))
    }

    /// A server's end on an accepted connection, perhaps broken off when it has sent so many bytes.
    pub fn server(socket: Socket, config: &Arc<ServerConfig>, cut: Option<(usize, Cut)>) -> Tls {
        Tls::over(socket, ServerConnection::new(config.clone()).expect("settings").into(), cut)
    }

    fn over(socket: Socket, mut connection: Connection, cut: Option<(usize, Cut)>) -> Tls {
        connection.set_buffer_limit(None);
        let mut tls = Tls {
            socket: Some(socket),
            connection,
            received: Vec::new(),
            matched: 0,
            records: Vec::new(),
            encrypted: Vec::new(),
            sent: 0,
            cut,
            notified: false,
            failed: None,
        };
        tls.flush();
        tls
    }

    /// Waits for the end of the handshake. Panics when there is none.
    pub fn shaken(mut self) -> Tls {
        self.wait("the end of the handshake", |tls| !tls.connection.is_handshaking());
        self
    }

    /// Waits until the handshake is over or failed; whether it is over.
    pub fn shakes(&mut self) -> bool {
        self.settle(|tls| !tls.connection.is_handshaking());
        !self.connection.is_handshaking() && self.failed.is_none()
    }

    /// Sends plain bytes: in one record, if it is fewer than 16 KB and the handshake is over.
    pub fn send(&mut self, bytes: &[u8]) {
        self.connection.writer().write_all(bytes).expect("no limit");
        self.flush();
    }

    /// Sends bytes that are no record of ours.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.socket.as_mut().expect("not reset").send(bytes);
    }

    /// Says that nothing more will come, and nothing else.
    pub fn notify(&mut self) {
        self.connection.send_close_notify();
        self.flush();
    }

    /// A FIN without a word of it in TLS.
    pub fn fin(&mut self) {
        self.socket.as_mut().expect("not reset").fin();
    }

    /// Makes the coming drop a reset.
    pub fn reset(mut self) {
        self.socket.take().expect("not reset").reset();
    }

    /// Takes no notice of what TLS is: the socket.
    pub fn socket(&self) -> &Socket {
        self.socket.as_ref().expect("not reset")
    }

    /// Plain bytes received.
    pub fn received(&self) -> &[u8] {
        &self.received
    }

    /// Drops what was received so far.
    pub fn forget(&mut self) {
        self.received.clear();
        self.matched = 0;
    }

    /// Type and length of each record sent, header included.
    pub fn records(&self) -> &[(u8, usize)] {
        &self.records
    }

    /// Every encrypted byte sent.
    pub fn encrypted(&self) -> &[u8] {
        &self.encrypted
    }

    /// Whether the other side said close_notify.
    pub fn is_notified(&self) -> bool {
        self.notified
    }

    /// What was wrong, in rustls' words.
    pub fn failure(&self) -> Option<&rustls::Error> {
        self.failed.as_ref()
    }

    /// Whether an earlier session was taken up.
    pub fn is_resumed(&self) -> bool {
        self.connection.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// What is spoken.
    pub fn version(&self) -> Option<ProtocolVersion> {
        self.connection.protocol_version()
    }

    /// The other side's certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.connection.peer_certificates().expect("a certificate")[0]
    }

    /// Moves what can be moved without waiting.
    pub fn pump(&mut self) {
        let Some(socket) = &mut self.socket else { return };
        socket.pump();
        let mut input = socket.received();
        while !input.is_empty() && self.failed.is_none() {
            if self.connection.read_tls(&mut input).is_err() {
                break;
            }
            match self.connection.process_new_packets() {
                Ok(state) => self.notified |= state.peer_has_closed(),
                Err(error) => self.failed = Some(error),
            }
            let mut chunk = [0; 16 * 1024];
            while let Ok(count @ 1..) = self.connection.reader().read(&mut chunk) {
                self.received.extend_from_slice(&chunk[..count]);
            }
        }
        socket.forget();
        self.flush();
    }

    /// Waits for `pattern` after the last one found. Panics at the deadline with what came instead.
    pub fn wait_for(&mut self, pattern: &[u8]) {
        self.wait(&escape(pattern), |tls| {
            let rest = &tls.received[tls.matched..];
            let at = rest.windows(pattern.len().max(1)).position(|window| window == pattern);
            at.is_some_and(|at| {
                tls.matched += at + pattern.len();
                true
            })
        });
    }

    /// Waits for `pattern` among all that came; whether it came before the connection was over.
    pub fn comes(&mut self, pattern: &[u8]) -> bool {
        self.settle(|tls| tls.received.windows(pattern.len().max(1)).any(|window| window == pattern))
    }

    /// Waits until `count` plain bytes have come in all. Panics at the deadline.
    pub fn wait_len(&mut self, count: usize) {
        self.wait(&format!("{count} bytes"), |tls| tls.received.len() >= count);
    }

    /// Waits for close_notify. Panics at the deadline.
    pub fn wait_notified(&mut self) {
        self.wait("close_notify", |tls| tls.notified);
    }

    /// Waits for an alert, or for something else that is wrong. Panics at the deadline.
    pub fn wait_failure(&mut self) {
        self.settle(|tls| tls.failed.is_some());
        assert!(self.failed.is_some(), "waited for a failure, have {}", self.describe());
    }

    /// Waits until the other side closed or reset the socket; `Open` when it did not within `limit`.
    pub fn wait_end(&mut self, limit: Duration) -> End {
        let deadline = Instant::now() + limit;
        self.pump();
        while self.end() == End::Open && Instant::now() < deadline {
            self.turn(deadline);
        }
        self.end()
    }

    /// How the other side left its socket, as far as we know.
    pub fn end(&self) -> End {
        self.socket.as_ref().map_or(End::Left, Socket::end)
    }

    fn wait(&mut self, what: &str, met: impl FnMut(&mut Tls) -> bool) {
        assert!(self.settle(met), "waited for {what}, have {}", self.describe());
    }

    /// Until it is met, true, or can't be any more.
    fn settle(&mut self, mut met: impl FnMut(&mut Tls) -> bool) -> bool {
        let deadline = Instant::now() + DEADLINE;
        self.pump();
        while !met(self) {
            if Instant::now() >= deadline || self.end() != End::Open || self.failed.is_some() {
                return false;
            }
            self.turn(deadline);
        }
        true
    }

    fn turn(&mut self, deadline: Instant) {
        if let Some(socket) = &self.socket {
            wait_readable(&[socket], &[], deadline);
        }
        self.pump();
    }

    /// Sends what rustls has to send, up to the cut.
    fn flush(&mut self) {
        let mut out = Vec::new();
        while self.connection.wants_write() {
            self.connection.write_tls(&mut out).expect("a vector takes all");
        }
        let Some(socket) = self.socket.as_mut().filter(|_| !out.is_empty()) else { return };
        self.records.extend(records(&out));
        self.encrypted.extend_from_slice(&out);
        let before = self.sent;
        self.sent += out.len();
        match self.cut {
            None => socket.send(&out),
            Some((at, how)) if before <= at && self.sent >= at => {
                socket.send(&out[..at - before]);
                match how {
                    Cut::Fin => socket.fin(),
                    Cut::Rst => self.socket.take().expect("just seen").reset(),
                }
                self.sent = usize::MAX / 2;
            }
            Some((at, _)) if self.sent < at => socket.send(&out),
            Some(_) => {}
        }
    }

    fn describe(&self) -> String {
        format!("{:?} ({:?}, {:?})", escape(&self.received), self.end(), self.failed)
    }
}

/// Type and length of the whole records in some bytes.
fn records(mut bytes: &[u8]) -> Vec<(u8, usize)> {
    let mut found = Vec::new();
    while let [kind, _, _, high, low, ..] = bytes {
        let length = 5 + usize::from(u16::from_be_bytes([*high, *low]));
        found.push((*kind, length));
        bytes = bytes.get(length..).unwrap_or_default();
    }
    found
}

impl crate::ws::Talk for Tls {
    fn send(&mut self, bytes: &[u8]) {
        Tls::send(self, bytes);
    }

    fn received(&self) -> &[u8] {
        Tls::received(self)
    }

    fn wait_for(&mut self, pattern: &[u8]) {
        Tls::wait_for(self, pattern);
    }

    fn wait_len(&mut self, count: usize) {
        Tls::wait_len(self, count);
    }

    fn forget(&mut self) {
        Tls::forget(self);
    }
}
