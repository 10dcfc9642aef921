//! What the relay and the front need of TLS, and nothing of how it is done.
//!
//! [`TlsEnd`] is one connection's TLS state without a socket and without buffers of its own: bytes received go in, plain
//! bytes come out, and the other way round, in buffers the caller owns and may lend to another connection the moment nothing
//! is left in them. It drives the handshake too, so that an end can move from the front to the relay without anyone noticing.
//!
//! The contract, the same for a server and a client:
//!
//! - *Input*: the caller keeps what it received and has not been used. [`TlsEnd::decrypt`] works on the front of it, in place,
//!   and says how much is done with. What is left is the start of a record; it must be shown again, at the same place or
//!   moved, with more bytes behind it. Nothing is remembered of unused bytes but what a handshake needs.
//! - *Reply*: reading may produce bytes to be sent: handshake messages, an alert, an answer to a key update. They are
//!   appended to `reply` and must go out in order, before anything that is encrypted later.
//! - *Plain text* is appended to `plain`, never more than there was input.
//! - *End*: [`State::PeerClosed`] means the peer sent close_notify: an orderly end of its direction, as a FIN is without TLS. A
//!   FIN without it is a truncation the caller sees as end of input while the state is not `PeerClosed`.

use std::fmt;

/// One connection's TLS, see the module's text for the contract.
pub trait TlsEnd: Send {
    /// Works through the records at the front of `input`.
    ///
    /// A client that has not begun sends its first message through this with an empty `input`. On an error the connection is
    /// over; what is in `reply` then is the alert that tells the peer, worth one try to send.
    fn decrypt(
        &mut self,
        input: &mut [u8],
        plain: &mut Vec<u8>,
        reply: &mut Vec<u8>,
    ) -> Result<Decrypted, TlsError>;

    /// Appends `plain` as records to `out`; all of it is taken. Not before [`State::Open`].
    fn encrypt(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), TlsError>;

    /// Appends close_notify to `out`, once: called again it adds nothing. Nothing may be encrypted afterwards; the other
    /// direction goes on.
    fn close(&mut self, out: &mut Vec<u8>) -> Result<(), TlsError>;

    /// The most bytes [`TlsEnd::encrypt`] appends for so many plain ones: what to have room for.
    fn encrypted_bytes_max(&self, plain_bytes: usize) -> usize {
        // A record takes 2^14 bytes; TLS 1.2 with CBC and an explicit IV is the greediest with 5 + 16 + 16 + 48.
        plain_bytes + (plain_bytes / (1 << 14) + 1) * 96
    }

    /// Where the connection stands.
    fn state(&self) -> State;
}

/// Where a TLS connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The handshake needs more input, or its reply to be sent; nothing can be encrypted yet.
    Handshake,
    /// Data flow.
    Open,
    /// The peer's close_notify has come: no more plain text will; ours may still be encrypted and sent.
    PeerClosed,
}

/// What [`TlsEnd::decrypt`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decrypted {
    /// Bytes at the front of the input that are done with. What is left is less than a record, unless the peer closed: then
    /// it is to be thrown away.
    pub used: usize,
    /// Where the connection stands now.
    pub state: State,
}

/// A TLS connection has failed: which of the RFC's rules was broken, in words for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsError {
    message: String,
}

impl TlsError {
    /// An error with the words of the TLS library.
    pub fn new(message: impl Into<String>) -> TlsError {
        TlsError { message: message.into() }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for TlsError {}

#[cfg(test)]
mod tests {
    use super::*;

    /// A toy with the shape of TLS: records are type, two bytes of length, and a payload under a one-byte key that a key
    /// update changes. A greeting each way is the handshake.
    struct Toy {
        state: State,
        is_client: bool,
        greeted: bool,
        read_key: u8,
        write_key: u8,
        close_sent: bool,
    }

    const GREETING: u8 = 1;
    const DATA: u8 = 2;
    const KEY_UPDATE: u8 = 3;
    const CLOSE: u8 = 4;
    const RECORD_BYTES_MAX: usize = 10;

    impl Toy {
        fn new(is_client: bool) -> Toy {
            let state = State::Handshake;
            Toy { state, is_client, greeted: false, read_key: 0x55, write_key: 0x55, close_sent: false }
        }

        fn record(&mut self, kind: u8, payload: &[u8], out: &mut Vec<u8>) {
            out.push(kind);
            out.extend_from_slice(&(payload.len() as u16).to_be_bytes());
            out.extend(payload.iter().map(|byte| byte ^ self.write_key));
        }

        fn greet(&mut self, out: &mut Vec<u8>) {
            if !self.greeted {
                self.greeted = true;
                self.record(GREETING, b"hi", out);
            }
        }

        fn update_key(&mut self, out: &mut Vec<u8>) {
            self.record(KEY_UPDATE, b"", out);
            self.write_key = self.write_key.wrapping_add(1);
        }
    }

    impl TlsEnd for Toy {
        fn decrypt(
            &mut self,
            input: &mut [u8],
            plain: &mut Vec<u8>,
            reply: &mut Vec<u8>,
        ) -> Result<Decrypted, TlsError> {
            if self.is_client {
                self.greet(reply);
            }
            let mut used = 0;
            while let [kind, high, low, rest @ ..] = &mut input[used..] {
                let len = usize::from(u16::from_be_bytes([*high, *low]));
                let Some(payload) = rest.get_mut(..len) else { break };
                used += 3 + len;
                payload.iter_mut().for_each(|byte| *byte ^= self.read_key);
                match *kind {
                    GREETING => {
                        self.greet(reply);
                        self.state = State::Open;
                    }
                    DATA => plain.extend_from_slice(payload),
                    KEY_UPDATE => {
                        self.read_key = self.read_key.wrapping_add(1);
                        if self.read_key > self.write_key {
                            self.update_key(reply);
                        }
                    }
                    CLOSE => {
                        self.state = State::PeerClosed;
                        break;
                    }
                    _ => return Err(TlsError::new("unknown record")),
                }
            }
            Ok(Decrypted { used, state: self.state })
        }

        fn encrypt(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), TlsError> {
            if self.state == State::Handshake || self.close_sent {
                return Err(TlsError::new("not open"));
            }
            for part in plain.chunks(RECORD_BYTES_MAX) {
                self.record(DATA, part, out);
            }
            Ok(())
        }

        fn close(&mut self, out: &mut Vec<u8>) -> Result<(), TlsError> {
            if !self.close_sent {
                self.close_sent = true;
                self.record(CLOSE, b"", out);
            }
            Ok(())
        }

        fn state(&self) -> State {
            self.state
        }
    }

    /// One side as a pump holds it: the end behind the trait, and buffers it could lend to others when they are empty.
    struct Side {
        end: Box<dyn TlsEnd>,
        input: Vec<u8>,
        plain: Vec<u8>,
        wire: Vec<u8>,
    }

    impl Side {
        fn new(toy: Toy) -> Side {
            Side { end: Box::new(toy), input: Vec::new(), plain: Vec::new(), wire: Vec::new() }
        }

        fn receive(&mut self, bytes: &[u8]) -> Result<State, TlsError> {
            self.input.extend_from_slice(bytes);
            let done = self.end.decrypt(&mut self.input, &mut self.plain, &mut self.wire)?;
            self.input.drain(..done.used);
            Ok(done.state)
        }
    }

    /// Carries bytes both ways in pieces of `piece` bytes until both are silent.
    fn run(a: &mut Side, b: &mut Side, piece: usize) {
        while !a.wire.is_empty() || !b.wire.is_empty() {
            for bytes in std::mem::take(&mut a.wire).chunks(piece) {
                b.receive(bytes).unwrap();
            }
            for bytes in std::mem::take(&mut b.wire).chunks(piece) {
                a.receive(bytes).unwrap();
            }
        }
    }

    #[test]
    fn a_pump_can_live_with_it() {
        for piece in [1, 2, 3, 5, 1000] {
            let (mut client, mut server) = (Side::new(Toy::new(true)), Side::new(Toy::new(false)));
            assert!(client.end.encrypt(b"too early", &mut Vec::new()).is_err());
            assert_eq!(client.receive(b""), Ok(State::Handshake));
            run(&mut client, &mut server, piece);
            assert_eq!((client.end.state(), server.end.state()), (State::Open, State::Open));

            let text = b"longer than one record is";
            client.end.encrypt(text, &mut client.wire).unwrap();
            run(&mut client, &mut server, piece);
            assert_eq!(server.plain, text);
            assert!(server.input.is_empty() && client.plain.is_empty());

            // Reading makes the server write: the answer to a key update goes before what it says next.
            let mut updated = Vec::new();
            let mut toy = Toy { state: State::Open, greeted: true, ..Toy::new(true) };
            toy.update_key(&mut updated);
            server.receive(&updated).unwrap();
            assert!(!server.wire.is_empty());
            server.end.encrypt(b"new key", &mut server.wire).unwrap();
            for bytes in std::mem::take(&mut server.wire).chunks(piece) {
                client.receive(bytes).unwrap();
            }
            assert_eq!(client.plain, b"new key");

            server.end.close(&mut server.wire).unwrap();
            server.end.close(&mut server.wire).unwrap();
            assert!(server.end.encrypt(b"x", &mut Vec::new()).is_err());
            assert_eq!(server.wire.len(), 3);
            client.wire.clear();
            run(&mut server, &mut client, piece);
            assert_eq!(client.end.state(), State::PeerClosed);
            assert!(client.end.encrypt(b"half-closed", &mut client.wire).is_ok());
        }
    }

    #[test]
    fn an_error_ends_it() {
        let mut side = Side::new(Toy::new(false));
        assert_eq!(side.receive(b"\x09\x00\x00").unwrap_err().to_string(), "unknown record");
    }
}
