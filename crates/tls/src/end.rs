//! One TLS connection on rustls, as a [`TlsEnd`]: the only file that knows rustls' unbuffered connections.
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

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::{Accepted, Acceptor, ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    AppDataRecord, ConnectionState, EncodeError, EncodeTlsData, EncryptError, ReadEarlyData,
    UnbufferedStatus, WriteTraffic,
};
use rustls::{CertificateError, ClientConfig, CommonState, Error, HandshakeKind, ServerConfig};
use wire::tls::{Decrypted, State, TlsEnd, TlsError};

use crate::names;

/// What a client says about itself before a server is chosen.
#[derive(Debug, Clone, Copy)]
pub struct Hello<'a> {
    /// The name it asks for, in lower case, if it sent a valid one.
    pub server_name: Option<&'a str>,
    /// Cipher suites it offers, by their numbers, in its order.
    pub ciphers: &'a [rustls::CipherSuite],
    /// Groups it offers, in its order (`$ssl_curves`).
    pub groups: &'a [rustls::NamedGroup],
    /// Protocols it offers by ALPN, in its order.
    pub alpn: &'a [&'a [u8]],
}

/// What becomes of a connection once its ClientHello is known.
pub enum Choice {
    /// It goes on with this configuration.
    Serve(Arc<ServerConfig>),
    /// It is turned away with the alert unrecognized_name (`ssl_reject_handshake`).
    Reject,
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
    /// All the rest.
    Running(Box<End<UnbufferedServerConnection>>),
    /// Nothing more will come of it.
    Failed(TlsError),
}

impl Stage {
    fn start(config: Arc<ServerConfig>) -> Result<Stage, TlsError> {
        let fragment_bytes = config.max_fragment_size;
        let connection = UnbufferedServerConnection::new(config).map_err(words)?;
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
        self.common().and_then(facts)
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

    fn common(&self) -> Option<&CommonState> {
        match &self.stage {
            Stage::Running(end) => Some(&end.connection),
            Stage::Hello(_) | Stage::Failed(_) => None,
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
            alpn: &alpn,
        });
        let started = match choice {
            Choice::Serve(config) => Stage::start(config),
            Choice::Reject => {
                reply.extend_from_slice(&UNRECOGNIZED_NAME);
                Err(TlsError::new("handshake rejected"))
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

/// A fatal alert (RFC 8446 section 6) of description 112 in a record of its own, in the clear.
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

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
                Err((error, mut alert)) => {
                    // Writing to a vector cannot fail.
                    let _ = alert.write_all(reply);
                    return Err(words(error));
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
            Stage::Hello(_) => Ok(Decrypted { used: 0, state: State::Handshake }),
            Stage::Failed(error) => Err(error.clone()),
        }
    }

    fn encrypt(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), TlsError> {
        match &mut self.stage {
            Stage::Running(end) => end.encrypt(plain, out),
            Stage::Hello(_) => Err(TlsError::new(NOT_OPEN)),
            Stage::Failed(error) => Err(error.clone()),
        }
    }

    fn close(&mut self, out: &mut Vec<u8>) -> Result<(), TlsError> {
        match &mut self.stage {
            Stage::Running(end) => end.close(out),
            // Nobody to say goodbye to.
            Stage::Hello(_) | Stage::Failed(_) => Ok(()),
        }
    }

    fn encrypted_bytes_max(&self, plain_bytes: usize) -> usize {
        match &self.stage {
            Stage::Running(end) => end.encrypted_bytes_max(plain_bytes),
            Stage::Hello(_) | Stage::Failed(_) => 0,
        }
    }

    fn state(&self) -> State {
        match &self.stage {
            Stage::Running(end) => end.state,
            Stage::Hello(_) | Stage::Failed(_) => State::Handshake,
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
        let connection = UnbufferedClientConnection::new(config, name).map_err(words)?;
        Ok(ClientEnd { end: Box::new(End::new(connection, fragment_bytes)) })
    }

    /// What was agreed upon; nothing while the handshake is at its beginning.
    pub fn facts(&self) -> Option<Facts<'_>> {
        facts(&self.end.connection)
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

/// rustls' two kinds of unbuffered connection, which have this in common but no trait.
trait Connection {
    type Data;
    fn common(&self) -> &CommonState;
    fn step<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;

    /// Takes data that came before the handshake was complete, which only a server is sent.
    fn read_early(
        _traffic: ReadEarlyData<'_, '_, Self::Data>,
        _plain: &mut Vec<u8>,
        _discard: &mut usize,
    ) -> Result<(), TlsError> {
        Ok(())
    }
}

impl Connection for UnbufferedServerConnection {
    type Data = ServerConnectionData;
    fn common(&self) -> &CommonState {
        self
    }

    fn step<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(input)
    }

    fn read_early(
        mut traffic: ReadEarlyData<'_, '_, Self::Data>,
        plain: &mut Vec<u8>,
        discard: &mut usize,
    ) -> Result<(), TlsError> {
        while let Some(record) = traffic.next_record() {
            take_record(record, plain, discard)?;
        }
        Ok(())
    }
}

impl Connection for UnbufferedClientConnection {
    type Data = ClientConnectionData;
    fn common(&self) -> &CommonState {
        self
    }

    fn step<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(input)
    }
}

/// What both sides have in common.
struct End<C> {
    connection: C,
    /// Plain bytes in a record at most.
    record_bytes_max: u16,
    /// Whole records that are part of a handshake message whose rest is to come, and what follows them.
    held: Vec<u8>,
    /// How much of that, in whole records, rustls has seen: it must not be shown less.
    held_seen: usize,
    state: State,
    closed: bool,
    failed: Option<TlsError>,
}

const NOT_OPEN: &str = "TLS handshake is not complete";
const CLOSED: &str = "TLS is closed for sending";

/// Type, version and length in front of every record (RFC 8446 section 5.1).
const RECORD_HEADER_BYTES: usize = 5;

impl<C: Connection> End<C> {
    /// `fragment_bytes` is the most of a record as rustls' configurations count it.
    fn new(connection: C, fragment_bytes: Option<usize>) -> End<C> {
        let record_bytes =
            fragment_bytes.map_or(RECORD_BYTES_MAX, |bytes| bytes.saturating_sub(RECORD_HEADER_BYTES));
        let record_bytes_max = record_bytes.clamp(1, RECORD_BYTES_MAX) as u16;
        End {
            connection,
            record_bytes_max,
            held: Vec::new(),
            held_seen: 0,
            state: State::Handshake,
            closed: false,
            failed: None,
        }
    }

    fn decrypt(
        &mut self,
        input: &mut [u8],
        plain: &mut Vec<u8>,
        reply: &mut Vec<u8>,
    ) -> Result<Decrypted, TlsError> {
        let used = if self.held.is_empty() {
            let used = self.work(input, plain, reply)?;
            match holds_a_record(&input[used..]) && self.state != State::PeerClosed {
                true => {
                    self.held = input[used..].to_vec();
                    input.len()
                }
                false => used,
            }
        } else {
            let mut held = std::mem::take(&mut self.held);
            held.extend_from_slice(input);
            let used = self.work(&mut held, plain, reply)?;
            if used < held.len() && self.state != State::PeerClosed {
                held.drain(..used);
                self.held = held;
            }
            input.len()
        };
        Ok(Decrypted { used, state: self.state })
    }

    fn encrypt(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), TlsError> {
        if self.state == State::Handshake || self.closed {
            return Err(TlsError::new(if self.closed { CLOSED } else { NOT_OPEN }));
        }
        if plain.is_empty() {
            return Ok(());
        }
        let room = self.encrypted_bytes_max(plain.len());
        self.write(out, room, |traffic, room| traffic.encrypt(plain, room))
    }

    fn encrypted_bytes_max(&self, plain_bytes: usize) -> usize {
        let records = plain_bytes / usize::from(self.record_bytes_max) + 1;
        plain_bytes + records * RECORD_OVERHEAD_BYTES_MAX + KEY_UPDATE_BYTES_MAX
    }

    fn close(&mut self, out: &mut Vec<u8>) -> Result<(), TlsError> {
        if self.closed || self.failed.is_some() || self.state == State::Handshake {
            return Ok(());
        }
        self.closed = true;
        self.write(out, CLOSE_BYTES_MAX, |traffic, room| traffic.queue_close_notify(room))
    }

    /// Takes the connection to where it waits for input. Says how many bytes at the front are done with, and leaves in
    /// `held_seen` how many from the front are whole records that rustls has seen.
    ///
    /// During the handshake rustls is shown one more record at a time, so that those it passes over can be taken away.
    fn work(
        &mut self,
        input: &mut [u8],
        plain: &mut Vec<u8>,
        reply: &mut Vec<u8>,
    ) -> Result<usize, TlsError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let (mut used, mut seen) = (0, self.held_seen);
        let mut end = self.next_end(input, seen);
        loop {
            let UnbufferedStatus { mut discard, state, .. } = self.connection.step(&mut input[used..end]);
            let mut waits = false;
            let failed = match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    let mut failed = None;
                    while let Some(record) = traffic.next_record() {
                        failed = failed.or(take_record(record, plain, &mut discard).err());
                    }
                    failed
                }
                Ok(ConnectionState::ReadEarlyData(traffic)) => {
                    C::read_early(traffic, plain, &mut discard).err()
                }
                Ok(ConnectionState::EncodeTlsData(mut message)) => encode(&mut message, reply).err(),
                Ok(ConnectionState::TransmitTlsData(sent)) => {
                    sent.done();
                    None
                }
                Ok(ConnectionState::PeerClosed) => {
                    self.state = State::PeerClosed;
                    None
                }
                Ok(ConnectionState::WriteTraffic(_)) => {
                    if self.state == State::Handshake {
                        self.state = State::Open;
                    }
                    waits = true;
                    None
                }
                // BlockedHandshake, Closed, and what a later version may add: nothing goes on without input.
                Ok(_) => {
                    waits = true;
                    None
                }
                Err(error) => Some(words(error)),
            };
            if let Some(error) = failed {
                self.failed = Some(error.clone());
                if !self.closed {
                    self.take_alert(reply);
                }
                return Err(error);
            }
            used += discard;
            if !waits {
                continue;
            }
            if self.is_handshaking() {
                if is_passed_over(&input[used..end]) {
                    used = end;
                }
                if holds_a_record(&input[seen..end]) {
                    seen = end;
                }
            }
            if end == input.len() {
                self.held_seen = seen.saturating_sub(used);
                return Ok(used);
            }
            end = self.next_end(input, end);
        }
    }

    /// How far rustls may look: during the handshake to the end of the record that begins at `from`.
    fn next_end(&self, input: &[u8], from: usize) -> usize {
        match self.is_handshaking() {
            true => (from + record_bytes(&input[from..]).unwrap_or(input.len())).min(input.len()),
            false => input.len(),
        }
    }

    fn is_handshaking(&self) -> bool {
        self.connection.common().is_handshaking()
    }

    /// After an error: the alert that explains it to the peer, if there is one. rustls must not get to its input again, as it
    /// may look for a part of a handshake message where nothing is any more.
    fn take_alert(&mut self, reply: &mut Vec<u8>) {
        while self.connection.common().wants_write() {
            let Ok(ConnectionState::EncodeTlsData(mut message)) = self.connection.step(&mut []).state else {
                return;
            };
            if encode(&mut message, reply).is_err() {
                return;
            }
        }
    }

    /// Appends what `write` makes to `out`, in room for `room` bytes or for as many as it asks for.
    fn write(
        &mut self,
        out: &mut Vec<u8>,
        mut room: usize,
        mut write: impl FnMut(&mut WriteTraffic<'_, C::Data>, &mut [u8]) -> Result<usize, EncryptError>,
    ) -> Result<(), TlsError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        loop {
            let start = out.len();
            match self.connection.step(&mut self.held).state {
                Ok(ConnectionState::EncodeTlsData(mut message)) => encode(&mut message, out)?,
                Ok(ConnectionState::TransmitTlsData(sent)) => sent.done(),
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    out.resize(start + room, 0);
                    let written = write(&mut traffic, &mut out[start..]);
                    out.truncate(start + written.as_ref().map_or(0, |written| *written));
                    match written {
                        Ok(_) => return Ok(()),
                        Err(EncryptError::InsufficientSize(needs)) => room = needs.required_size,
                        Err(error) => return Err(TlsError::new(error.to_string())),
                    }
                }
                Ok(_) => return Err(TlsError::new(NOT_OPEN)),
                Err(error) => return Err(words(error)),
            }
        }
    }
}

/// Room for an alert, and a key update that may have to go before it.
const CLOSE_BYTES_MAX: usize = 128;

/// The most plain bytes of a record (RFC 8446 section 5.1).
const RECORD_BYTES_MAX: usize = 1 << 14;

/// A header, a tag of 16 bytes, and the type of content (TLS 1.3) or an explicit nonce of 8 (TLS 1.2).
const RECORD_OVERHEAD_BYTES_MAX: usize = RECORD_HEADER_BYTES + 16 + 8;

/// A key update that may have to go first: a record of one small message.
const KEY_UPDATE_BYTES_MAX: usize = RECORD_OVERHEAD_BYTES_MAX + 8;

/// The length of the record at the front, if its header is there.
fn record_bytes(rest: &[u8]) -> Option<usize> {
    let [_, _, _, high, low, ..] = rest else { return None };
    Some(RECORD_HEADER_BYTES + usize::from(u16::from_be_bytes([*high, *low])))
}

/// Whether a whole record is at the front of what rustls has left: then it has taken it in and needs it again.
fn holds_a_record(rest: &[u8]) -> bool {
    record_bytes(rest).is_some_and(|bytes| bytes <= rest.len())
}

/// Whether rustls has tried to decrypt this record and passed it over: early data that was refused. It would try again with
/// every call and lose patience (it counts bytes), so such records are taken away. They are known by the zeros AWS-LC leaves
/// where decryption fails; a handshake message begins with its type, which is not zero.
fn is_passed_over(shown: &[u8]) -> bool {
    const APPLICATION_DATA: u8 = 23;
    record_bytes(shown) == Some(shown.len())
        && shown.len() > RECORD_HEADER_BYTES
        && shown[0] == APPLICATION_DATA
        && shown[RECORD_HEADER_BYTES..].iter().take(PROBED_BYTES).all(|byte| *byte == 0)
}

/// More than enough to tell zeros from a message or its ciphertext.
const PROBED_BYTES: usize = 16;

fn take_record(
    record: Result<AppDataRecord<'_>, Error>,
    plain: &mut Vec<u8>,
    discard: &mut usize,
) -> Result<(), TlsError> {
    let record = record.map_err(words)?;
    *discard += record.discard;
    plain.extend_from_slice(record.payload);
    Ok(())
}

/// Appends a handshake message.
fn encode<Data>(message: &mut EncodeTlsData<'_, Data>, out: &mut Vec<u8>) -> Result<(), TlsError> {
    let start = out.len();
    // Asked for nothing, it says how much it is.
    let Err(EncodeError::InsufficientSize(needs)) = message.encode(&mut []) else { return Ok(()) };
    out.resize(start + needs.required_size, 0);
    message.encode(&mut out[start..]).map(drop).map_err(|error| TlsError::new(error.to_string()))
}

fn facts(common: &CommonState) -> Option<Facts<'_>> {
    Some(Facts {
        protocol: names::protocol(common.protocol_version()?),
        cipher: names::cipher(common.negotiated_cipher_suite()?.suite()),
        curve: common.negotiated_key_exchange_group().map(|group| names::group(group.name())),
        resumed: common.handshake_kind() == Some(HandshakeKind::Resumed),
        alpn: common.alpn_protocol(),
        early: common.is_handshaking(),
    })
}

fn words(error: Error) -> TlsError {
    match error {
        // Our own verifier's: they say it all.
        Error::InvalidCertificate(CertificateError::Other(why)) => TlsError::new(why.to_string()),
        error => TlsError::new(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
