//! One TLS connection on rustls, as a [`TlsEnd`]: the only place that knows rustls' unbuffered connections.
//!
//! rustls works on the caller's input in place and owns no record buffers, so an end that waits is its keys and little more.
//! Three things it leaves to its user are done here:
//!
//! - A server must be chosen by the name in the ClientHello before there is a configuration. [`ServerEnd::choosing`] has an
//!   acceptor of rustls read the hello, asks, and starts the chosen connection on the same bytes.
//! - A handshake message may come in several records, and rustls wants those it has decrypted already to be shown again,
//!   whatever is called next. Such records are kept in the end, which keeps the promise that what a caller has left is less
//!   than a record.
//! - An error leaves an alert behind that has to be asked for.

use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::{Accepted, Acceptor, UnbufferedServerConnection};
use rustls::{ClientConfig, CommonState, HandshakeKind, ServerConfig};
use wire::tls::{Decrypted, State, TlsEnd, TlsError};

use crate::names;
use crate::signed::Signed;

mod engine;
mod words;

use engine::{End, NOT_OPEN};
use words::{UNSUPPORTED_PROTOCOL, words};

/// What a client says about itself before a server is chosen.
#[derive(Debug, Clone, Copy)]
pub struct Hello<'a> {
    /// The name it asks for, in lower case, if it sent a valid one.
    pub server_name: Option<&'a str>,
    /// Cipher suites it offers, by their numbers, in its order.
    pub ciphers: &'a [rustls::CipherSuite],
    /// Groups it offers, in its order (`$ssl_curves`).
    pub groups: &'a [rustls::NamedGroup],
    /// What it verifies signatures by, in its order (`$ssl_sigalgs`).
    pub signatures: &'a [rustls::SignatureScheme],
    /// Protocols it offers by ALPN, in its order.
    pub alpn: &'a [&'a [u8]],
}

/// What becomes of a connection once its ClientHello is known.
pub enum Choice {
    /// It goes on with this configuration.
    Serve(Arc<ServerConfig>),
    /// It is turned away with the alert unrecognized_name (`ssl_reject_handshake`).
    Reject,
    /// It is turned away with the alert internal_error: its certificate is not to be had.
    Fail,
    /// It waits until [`ServerEnd::decide`] says what becomes of it.
    Later,
}

/// Chooses the server for one connection; called at most once.
pub type Chooser = Box<dyn FnOnce(&Hello<'_>) -> Choice + Send>;

/// What was agreed upon, for variables and the log. All words are nginx's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts<'a> {
    /// `TLSv1.2` or `TLSv1.3`.
    pub protocol: &'static str,
    /// The cipher suite in OpenSSL's spelling.
    pub cipher: &'static str,
    /// The group of the key exchange, if one took place.
    pub curve: Option<&'static str>,
    /// Whether an earlier session was taken up.
    pub resumed: bool,
    /// What this side has signed the handshake with; nothing where it did not have to (`$ssl_sigalg`).
    pub signature: Option<&'static str>,
    /// The same of the other side (`$ssl_client_sigalg`).
    pub peer_signature: Option<&'static str>,
    /// The protocol agreed upon by ALPN.
    pub alpn: Option<&'a [u8]>,
    /// Whether the handshake is still under way: what has been read is early data that could have been replayed.
    pub early: bool,
}

/// The server's side of a connection.
pub struct ServerEnd {
    stage: Stage,
    server_name: Option<Box<str>>,
}

/// A connection is one thing before its server is known and another after.
enum Stage {
    /// The ClientHello isn't complete.
    Hello(Box<Greeting>),
    /// The ClientHello is known, and nobody has decided yet.
    Undecided,
    /// All the rest.
    Running(Box<End<UnbufferedServerConnection>>),
    /// Nothing more will come of it.
    Failed(TlsError),
}

impl Stage {
    fn start(config: Arc<ServerConfig>) -> Result<Stage, TlsError> {
        let fragment_bytes = config.max_fragment_size;
        let connection = UnbufferedServerConnection::new(config).map_err(|error| words(error, None))?;
        Ok(Stage::Running(Box::new(End::new(connection, fragment_bytes))))
    }
}

struct Greeting {
    acceptor: Acceptor,
    chooser: Chooser,
    /// Bytes at the front of the input that the acceptor has seen.
    seen: usize,
}

impl ServerEnd {
    /// A connection that follows one configuration whatever name the client asks for. Fails only for settings that can't
    /// be, such as a record size below 32 bytes.
    pub fn new(config: Arc<ServerConfig>) -> Result<ServerEnd, TlsError> {
        Ok(ServerEnd { stage: Stage::start(config)?, server_name: None })
    }

    /// A connection whose configuration depends on what its client says.
    pub fn choosing(chooser: Chooser) -> ServerEnd {
        let greeting = Greeting { acceptor: Acceptor::default(), chooser, seen: 0 };
        ServerEnd { stage: Stage::Hello(Box::new(greeting)), server_name: None }
    }

    /// What was agreed upon; nothing while the handshake is at its beginning.
    pub fn facts(&self) -> Option<Facts<'_>> {
        match &self.stage {
            Stage::Running(end) => facts(&end.connection, end.signed),
            Stage::Hello(_) | Stage::Undecided | Stage::Failed(_) => None,
        }
    }

    /// The name the client asked for (`$ssl_server_name`), if the server was chosen.
    pub fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// The client's certificate and what it sent to go with it; not verified but for the proof that it has the key. Whether
    /// it is trusted: [`crate::config::verify::Clients`].
    pub fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        self.common().and_then(CommonState::peer_certificates).unwrap_or_default()
    }

    #[cfg(test)]
    fn held_bytes(&self) -> usize {
        if let Stage::Running(end) = &self.stage { end.held_bytes() } else { 0 }
    }

    fn common(&self) -> Option<&CommonState> {
        match &self.stage {
            Stage::Running(end) => Some(&end.connection),
            Stage::Hello(_) | Stage::Undecided | Stage::Failed(_) => None,
        }
    }

    /// Shows the acceptor what is new and starts the connection when the hello is complete.
    fn greet(&mut self, input: &[u8], reply: &mut Vec<u8>) -> Result<(), TlsError> {
        let Stage::Hello(greeting) = &mut self.stage else { return Ok(()) };
        let accepted = match greeting.read(input, reply) {
            Ok(Some(accepted)) => accepted,
            Ok(None) => return Ok(()),
            Err(error) => return Err(self.fail(error)),
        };
        let stage = std::mem::replace(&mut self.stage, Stage::Failed(TlsError::new("not started")));
        let Stage::Hello(greeting) = stage else { return Ok(()) };
        let hello = accepted.client_hello();
        self.server_name = hello.server_name().map(Box::from);
        let alpn: Vec<&[u8]> = hello.alpn().into_iter().flatten().collect();
        let choice = (greeting.chooser)(&Hello {
            server_name: hello.server_name(),
            ciphers: hello.cipher_suites(),
            groups: hello.named_groups().unwrap_or_default(),
            signatures: hello.signature_schemes(),
            alpn: &alpn,
        });
        self.go_on(choice, reply)
    }

    /// Whether the ClientHello is known and [`Choice::Later`] was the answer to it.
    pub fn is_undecided(&self) -> bool {
        matches!(self.stage, Stage::Undecided)
    }

    /// Goes on after [`Choice::Later`]; the caller shows the same input again. An alert is appended to `reply`.
    ///
    /// # Errors
    /// When the connection is turned away.
    pub fn decide(&mut self, choice: Choice, reply: &mut Vec<u8>) -> Result<(), TlsError> {
        if self.is_undecided() { self.go_on(choice, reply) } else { Ok(()) }
    }

    fn go_on(&mut self, choice: Choice, reply: &mut Vec<u8>) -> Result<(), TlsError> {
        let started = match choice {
            Choice::Serve(config) => Stage::start(config),
            Choice::Later => Ok(Stage::Undecided),
            Choice::Reject => {
                reply.extend_from_slice(&alert(UNRECOGNIZED_NAME));
                Err(TlsError::new("handshake rejected"))
            }
            Choice::Fail => {
                reply.extend_from_slice(&alert(INTERNAL_ERROR));
                Err(TlsError::new("error:0A000179:SSL routines::cert cb error"))
            }
        };
        match started {
            Ok(stage) => self.stage = stage,
            Err(error) => return Err(self.fail(error)),
        }
        Ok(())
    }

    fn fail(&mut self, error: TlsError) -> TlsError {
        self.stage = Stage::Failed(error.clone());
        error
    }
}

const UNRECOGNIZED_NAME: u8 = 112;
const INTERNAL_ERROR: u8 = 80;
const PROTOCOL_VERSION: u8 = 70;

/// Whether this is the hello of a client that knows nothing newer than TLS 1.1, in which rustls misses what came with 1.2.
fn speaks_old(input: &[u8]) -> bool {
    const HANDSHAKE: u8 = 22;
    const CLIENT_HELLO: u8 = 1;
    matches!(input, [HANDSHAKE, _, _, _, _, CLIENT_HELLO, _, _, _, 3, 0..=2, ..])
}

/// A fatal alert (RFC 8446 section 6) in a record of its own, in the clear.
fn alert(description: u8) -> [u8; 7] {
    [21, 3, 3, 0, 2, 2, description]
}

impl Greeting {
    /// The hello, once all of it is in `input`.
    fn read(&mut self, input: &[u8], reply: &mut Vec<u8>) -> Result<Option<Accepted>, TlsError> {
        loop {
            let mut new = input.get(self.seen..).unwrap_or_default();
            // Takes a piece at a time and grows its buffer with what is in it.
            let taken = self.acceptor.read_tls(&mut new).map_err(|error| TlsError::new(error.to_string()))?;
            self.seen += taken;
            match self.acceptor.accept() {
                Ok(Some(accepted)) => return Ok(Some(accepted)),
                Ok(None) if taken == 0 || self.seen >= input.len() => return Ok(None),
                Ok(None) => {}
                Err(_) if speaks_old(input) => {
                    reply.extend_from_slice(&alert(PROTOCOL_VERSION));
                    return Err(TlsError::new(UNSUPPORTED_PROTOCOL));
                }
                Err((error, mut alert)) => {
                    // Writing to a vector cannot fail.
                    let _ = alert.write_all(reply);
                    return Err(words(error, None));
                }
            }
        }
    }
}

impl TlsEnd for ServerEnd {
    fn decrypt(
        &mut self,
        input: &mut [u8],
        plain: &mut Vec<u8>,
        reply: &mut Vec<u8>,
    ) -> Result<Decrypted, TlsError> {
        if !input.is_empty() {
            self.greet(input, reply)?;
        }
        match &mut self.stage {
            Stage::Running(end) => end.decrypt(input, plain, reply),
            Stage::Hello(_) | Stage::Undecided => Ok(Decrypted { used: 0, state: State::Handshake }),
            Stage::Failed(error) => Err(error.clone()),
        }
    }

    fn encrypt(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), TlsError> {
        match &mut self.stage {
            Stage::Running(end) => end.encrypt(plain, out),
            Stage::Hello(_) | Stage::Undecided => Err(TlsError::new(NOT_OPEN)),
            Stage::Failed(error) => Err(error.clone()),
        }
    }

    fn close(&mut self, out: &mut Vec<u8>) -> Result<(), TlsError> {
        match &mut self.stage {
            Stage::Running(end) => end.close(out),
            // Nobody to say goodbye to.
            Stage::Hello(_) | Stage::Undecided | Stage::Failed(_) => Ok(()),
        }
    }

    fn encrypted_bytes_max(&self, plain_bytes: usize) -> usize {
        match &self.stage {
            Stage::Running(end) => end.encrypted_bytes_max(plain_bytes),
            Stage::Hello(_) | Stage::Undecided | Stage::Failed(_) => 0,
        }
    }

    fn state(&self) -> State {
        match &self.stage {
            Stage::Running(end) => end.state,
            Stage::Hello(_) | Stage::Undecided | Stage::Failed(_) => State::Handshake,
        }
    }
}

/// The client's side of a connection: towards an upstream.
pub struct ClientEnd {
    end: Box<End<UnbufferedClientConnection>>,
}

impl ClientEnd {
    /// A connection to a server called `name`, which is what its certificate is verified for, and what it is asked for if
    /// the configuration says so. A name that is neither a host name nor an address is an error.
    pub fn new(config: Arc<ClientConfig>, name: &str) -> Result<ClientEnd, TlsError> {
        let invalid = |_| TlsError::new(format!("invalid server name \"{name}\""));
        let name = ServerName::try_from(name).map_err(invalid)?.to_owned();
        let fragment_bytes = config.max_fragment_size;
        let connection = UnbufferedClientConnection::new(config, name).map_err(|error| words(error, None))?;
        Ok(ClientEnd { end: Box::new(End::new(connection, fragment_bytes)) })
    }

    /// What was agreed upon; nothing while the handshake is at its beginning.
    pub fn facts(&self) -> Option<Facts<'_>> {
        facts(&self.end.connection, self.end.signed)
    }

    /// The server's certificate and what it sent to go with it.
    pub fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        self.end.connection.peer_certificates().unwrap_or_default()
    }
}

impl TlsEnd for ClientEnd {
    fn decrypt(
        &mut self,
        input: &mut [u8],
        plain: &mut Vec<u8>,
        reply: &mut Vec<u8>,
    ) -> Result<Decrypted, TlsError> {
        self.end.decrypt(input, plain, reply)
    }

    fn encrypt(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), TlsError> {
        self.end.encrypt(plain, out)
    }

    fn close(&mut self, out: &mut Vec<u8>) -> Result<(), TlsError> {
        self.end.close(out)
    }

    fn encrypted_bytes_max(&self, plain_bytes: usize) -> usize {
        self.end.encrypted_bytes_max(plain_bytes)
    }

    fn state(&self) -> State {
        self.end.state
    }
}

fn facts(common: &CommonState, signed: Signed) -> Option<Facts<'_>> {
    Some(Facts {
        protocol: names::protocol(common.protocol_version()?),
        cipher: names::cipher(common.negotiated_cipher_suite()?.suite()),
        curve: common.negotiated_key_exchange_group().map(|group| names::group(group.name())),
        resumed: common.handshake_kind() == Some(HandshakeKind::Resumed),
        signature: signed.own.and_then(names::signature),
        peer_signature: signed.peers.and_then(names::signature),
        alpn: common.alpn_protocol(),
        early: common.is_handshaking(),
    })
}

#[cfg(test)]
mod tests;
