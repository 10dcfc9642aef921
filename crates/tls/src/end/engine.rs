//! What both sides of a connection have in common: rustls' unbuffered connection, taken from one point where it waits to the
//! next.

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    AppDataRecord, ConnectionState, EncodeError, EncodeTlsData, EncryptError, ReadEarlyData,
    UnbufferedStatus, WriteTraffic,
};
use rustls::{CommonState, Error};
use wire::tls::{Decrypted, State, TlsError};

use super::words::words;
use crate::signed::{self, Signed};

/// rustls' two kinds of unbuffered connection, which have this in common but no trait.
pub(super) trait Connection {
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
pub(super) struct End<C> {
    pub(super) connection: C,
    /// Plain bytes in a record at most.
    record_bytes_max: u16,
    /// Whole records that are part of a handshake message whose rest is to come, and what follows them.
    held: Vec<u8>,
    /// How much of that, in whole records, rustls has seen: it must not be shown less.
    held_seen: usize,
    pub(super) state: State,
    pub(super) signed: Signed,
    closed: bool,
    failed: Option<TlsError>,
}

/// What is held of a message at most. rustls takes 64 KB, which is more when it comes in many small records: in as many as
/// there are bytes, a megabyte and a half.
const HELD_BYTES_MAX: usize = 128 * 1024;

pub(super) const NOT_OPEN: &str = "TLS handshake is not complete";
const CLOSED: &str = "TLS is closed for sending";

/// Type, version and length in front of every record (RFC 8446 section 5.1).
const RECORD_HEADER_BYTES: usize = 5;

impl<C: Connection> End<C> {
    /// `fragment_bytes` is the most of a record as rustls' configurations count it.
    pub(super) fn new(connection: C, fragment_bytes: Option<usize>) -> End<C> {
        let record_bytes =
            fragment_bytes.map_or(RECORD_BYTES_MAX, |bytes| bytes.saturating_sub(RECORD_HEADER_BYTES));
        let record_bytes_max = record_bytes.clamp(1, RECORD_BYTES_MAX) as u16;
        End {
            connection,
            record_bytes_max,
            held: Vec::new(),
            held_seen: 0,
            state: State::Handshake,
            signed: Signed::default(),
            closed: false,
            failed: None,
        }
    }

    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.held.len()
    }

    pub(super) fn decrypt(
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
        if self.held.len() > HELD_BYTES_MAX {
            self.held = Vec::new();
            let error = TlsError::new("error:0A000098:SSL routines::excessive message size");
            self.failed = Some(error.clone());
            return Err(error);
        }
        Ok(Decrypted { used, state: self.state })
    }

    pub(super) fn encrypt(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), TlsError> {
        if self.state == State::Handshake || self.closed {
            return Err(TlsError::new(if self.closed { CLOSED } else { NOT_OPEN }));
        }
        if plain.is_empty() {
            return Ok(());
        }
        let room = self.encrypted_bytes_max(plain.len());
        self.write(out, room, |traffic, room| traffic.encrypt(plain, room))
    }

    pub(super) fn encrypted_bytes_max(&self, plain_bytes: usize) -> usize {
        let records = plain_bytes / usize::from(self.record_bytes_max) + 1;
        plain_bytes + records * RECORD_OVERHEAD_BYTES_MAX + KEY_UPDATE_BYTES_MAX
    }

    pub(super) fn close(&mut self, out: &mut Vec<u8>) -> Result<(), TlsError> {
        if self.closed || self.failed.is_some() || self.state == State::Handshake {
            return Ok(());
        }
        self.closed = true;
        self.write(out, CLOSE_BYTES_MAX, |traffic, room| traffic.queue_close_notify(room))
    }

    /// [`End::go_on`], and what was signed with on the way.
    fn work(
        &mut self,
        input: &mut [u8],
        plain: &mut Vec<u8>,
        reply: &mut Vec<u8>,
    ) -> Result<usize, TlsError> {
        let done = self.go_on(input, plain, reply);
        self.signed.add(signed::take());
        done
    }

    /// Takes the connection to where it waits for input. Says how many bytes at the front are done with, and leaves in
    /// `held_seen` how many from the front are whole records that rustls has seen.
    ///
    /// During the handshake rustls is shown one more record at a time, so that those it passes over can be taken away.
    fn go_on(
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
                Err(error) => Some(words(error, self.connection.common().protocol_version())),
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
                Err(error) => return Err(words(error, None)),
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
pub(super) fn holds_a_record(rest: &[u8]) -> bool {
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
    let record = record.map_err(|error| words(error, None))?;
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
