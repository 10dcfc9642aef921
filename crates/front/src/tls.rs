//! TLS between a client's socket and its plain bytes. What waits holds keys and no buffer.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use ::tls::config::ServerConfig;
use ::tls::end::{Choice, Hello, ServerEnd};
use http::ServerId;
use http::config::{LateTls, ServerTls, TlsServers};
use http::message::{Judged, Tls};
use http::pool::Buf;
use wire::tls::{State, TlsEnd};

use crate::stream::Stream;

/// Plain bytes encrypted for one write at most: two records that fit a pooled buffer.
const WRITE_MAX: usize = 32 * 1024 - 256;
/// Slices shorter than this are put together to one record.
const SHORT: usize = 16 * 1024;
/// What is owed of a handshake, such as the tickets after it, waits for what is written next if it is no more than this.
const OWED_SHORT: usize = 4 * 1024;
/// Room for the server's flight of a handshake.
const FLIGHT: usize = 4 * 1024;
/// Room for encrypted input while a record is incomplete: the largest record and its header.
const RECORD: usize = 32 * 1024;

/// The TLS state of one connection and the encrypted bytes on their way in or out.
pub(crate) struct Layer {
    end: ServerEnd,
    /// Received and not decrypted: the start of a record.
    input: Buf,
    /// Encrypted and not sent, from `sent` on.
    output: Buf,
    sent: usize,
    /// No more plain bytes will come: close_notify or the end of the stream.
    ended: bool,
    /// It failed: nothing more can be said to the client.
    failed: bool,
    heard: Arc<OnceLock<Heard>>,
}

/// What the ClientHello said, and whom it was answered by.
struct Heard {
    tls: Arc<ServerTls>,
    /// Its certificates depend on who asks.
    late: Option<Arc<dyn LateTls>>,
    server: ServerId,
    server_name: Option<Box<str>>,
    named: bool,
    ciphers: Box<[u16]>,
    curves: Box<[u16]>,
    signatures: Box<[u16]>,
}

impl Layer {
    /// A connection that begins with these bytes.
    pub(crate) fn new(servers: Arc<TlsServers>, received: Buf) -> Layer {
        let heard = Arc::new(OnceLock::new());
        let hears = heard.clone();
        let end = ServerEnd::choosing(Box::new(move |hello| choose(&servers, hello, &hears)));
        Layer { end, input: received, output: Buf::default(), sent: 0, ended: false, failed: false, heard }
    }

    /// Whether the handshake is over.
    pub(crate) fn is_open(&self) -> bool {
        self.end.state() != State::Handshake
    }

    /// Whether the handshake waits for [`Layer::decide`], and for what: who makes its configuration, and for which server.
    pub(crate) fn undecided(&self) -> Option<(Arc<dyn LateTls>, ServerId)> {
        let heard = self.heard.get().filter(|_| self.end.is_undecided())?;
        Some((heard.late.clone()?, heard.server))
    }

    /// The server whose settings the handshake follows.
    pub(crate) fn server(&self) -> Option<Arc<ServerTls>> {
        self.heard.get().map(|heard| heard.tls.clone())
    }

    /// What the ClientHello said, while no more is known.
    pub(crate) fn greeting(&self) -> Option<Tls> {
        let heard = self.heard.get()?;
        Some(Tls {
            protocol: "",
            cipher: "",
            curve: None,
            signature: None,
            client_signature: None,
            resumed: false,
            alpn: None,
            server_name: heard.server_name.clone(),
            named: heard.named,
            ciphers: heard.ciphers.clone(),
            curves: heard.curves.clone(),
            signatures: heard.signatures.clone(),
            certificates: Box::default(),
            judged: Judged::default(),
            early: Cell::new(false),
        })
    }

    /// The configuration that was waited for; nothing turns the client away.
    pub(crate) fn decide(&mut self, stream: &Stream, config: Option<Arc<ServerConfig>>) -> io::Result<()> {
        let decided = self.end.decide(config.map_or(Choice::Fail, Choice::Serve), &mut self.output);
        decided.map_err(|error| {
            self.failed = true;
            let _ = self.flush(stream);
            io::Error::other(error)
        })
    }

    /// Goes on with the handshake; ready when it is over, or when it failed, or when it is [`Layer::undecided`]. Early data
    /// are appended to `plain`. Our last words may be owed still when the client has sent its request with its own last: then
    /// they go out with the answer.
    pub(crate) fn poll_handshake(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
        plain: &mut Buf,
    ) -> Poll<io::Result<()>> {
        self.digest_or_say(stream, plain)?;
        loop {
            let open = self.is_open();
            if !open || plain.is_empty() || self.is_early() {
                // The client may answer the first part of what we say before it has taken all of it.
                let _ = self.poll_flush(cx, stream)?;
            }
            if open || self.end.is_undecided() {
                return Poll::Ready(Ok(()));
            }
            if ready!(self.poll_receive(cx, stream, RECORD))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            self.digest_or_say(stream, plain)?;
        }
    }

    /// Whether what was read so far could have been replayed.
    pub(crate) fn is_early(&self) -> bool {
        self.end.facts().is_some_and(|facts| facts.early)
    }

    /// What was agreed upon, once the handshake is over; the client's certificate is not judged.
    pub(crate) fn facts(&self) -> Option<Tls> {
        let facts = self.end.facts()?;
        let heard = self.heard.get()?;
        Some(Tls {
            protocol: facts.protocol,
            cipher: facts.cipher,
            curve: facts.curve,
            signature: facts.signature,
            client_signature: facts.peer_signature,
            resumed: facts.resumed,
            alpn: facts.alpn.map(Box::from),
            server_name: self.end.server_name().map(Box::from),
            named: heard.named,
            ciphers: heard.ciphers.clone(),
            curves: heard.curves.clone(),
            signatures: heard.signatures.clone(),
            certificates: self.end.peer_certificates().iter().map(|der| Box::from(&**der)).collect(),
            judged: Judged::default(),
            early: Cell::new(facts.early),
        })
    }

    /// Reads more plain bytes behind those in `plain`; ready with the count, 0 at the end. `room` is what a new buffer has.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
        plain: &mut Buf,
        room: usize,
    ) -> Poll<io::Result<usize>> {
        loop {
            // Replies go out when they can; reading does not wait for them.
            let _ = self.poll_flush(cx, stream)?;
            if self.ended {
                return Poll::Ready(Ok(0));
            }
            let before = plain.len();
            if ready!(self.poll_receive(cx, stream, room))? == 0 {
                self.ended = true;
                return Poll::Ready(Ok(0));
            }
            self.digest_or_say(stream, plain)?;
            if plain.len() > before {
                let _ = self.poll_flush(cx, stream)?;
                return Poll::Ready(Ok(plain.len() - before));
            }
            if plain.is_empty() {
                *plain = Buf::default();
            }
        }
    }

    /// Encrypts and writes; the count is of plain bytes that were taken, all of which will be sent by later calls if the
    /// socket takes less now. An empty write sends what is left.
    pub(crate) fn write(&mut self, stream: &Stream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let Some(first) = slices.first() else { return self.flush(stream).map(|()| 0) };
        if self.owed() > OWED_SHORT {
            self.flush(stream)?;
        }
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        let count = if slices.len() == 1 || first.len() >= SHORT {
            let count = first.len().min(WRITE_MAX);
            self.encrypt(&first[..count])?;
            count
        } else {
            let mut joined = Buf::with_capacity(total.min(WRITE_MAX));
            for slice in slices {
                let left = WRITE_MAX - joined.len();
                joined.extend_from_slice(&slice[..slice.len().min(left)]);
            }
            self.encrypt(&joined)?;
            joined.len()
        };
        match self.flush(stream) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(count),
        }
    }

    /// Encrypted bytes the socket has not taken.
    pub(crate) fn owed(&self) -> usize {
        self.output.len() - self.sent
    }

    /// Says close_notify, if the socket takes it at once.
    pub(crate) fn goodbye(&mut self, stream: &Stream) {
        if !self.failed && self.is_open() && self.end.close(&mut self.output).is_ok() {
            let _ = self.flush(stream);
        }
    }

    /// What the relay goes on with: the state, input that is not decrypted, and bytes to send first, `unsent` encrypted
    /// among them.
    pub(crate) fn into_parts(mut self, unsent: &[u8]) -> io::Result<(relay::Tls, Vec<u8>)> {
        if !unsent.is_empty() {
            self.encrypt(unsent)?;
        }
        let mut owed = self.output.into_vec();
        owed.drain(..self.sent);
        Ok((relay::Tls { end: Box::new(self.end), input: self.input.to_vec() }, owed))
    }

    fn encrypt(&mut self, plain: &[u8]) -> io::Result<()> {
        let room = self.end.encrypted_bytes_max(plain.len());
        if self.output.capacity() - self.output.len() < room {
            let mut larger = Buf::with_capacity(self.owed() + room);
            larger.extend_from_slice(&self.output[self.sent..]);
            self.output = larger;
            self.sent = 0;
        }
        self.end.encrypt(plain, &mut self.output).map_err(io::Error::other)
    }

    /// Receives behind what is there.
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
        room: usize,
    ) -> Poll<io::Result<usize>> {
        if self.input.capacity() == 0 {
            // Not kept while nothing comes.
            let mut input = Buf::with_capacity(room);
            let count = ready!(stream.poll_read(cx, &mut input))?;
            self.input = input;
            return Poll::Ready(Ok(count));
        }
        if self.input.len() == self.input.capacity() {
            let mut larger = Buf::with_capacity(RECORD.max(self.input.len() * 2));
            larger.extend_from_slice(&self.input);
            self.input = larger;
        }
        stream.poll_read(cx, &mut self.input)
    }

    /// Decrypts what was received; the client is told what was wrong with it.
    fn digest_or_say(&mut self, stream: &Stream, plain: &mut Buf) -> io::Result<()> {
        let done = self.digest(plain);
        if done.is_err() {
            let _ = self.flush(stream);
        }
        done
    }

    /// Decrypts what was received.
    fn digest(&mut self, plain: &mut Buf) -> io::Result<()> {
        if plain.capacity() == 0 {
            *plain = Buf::with_capacity(self.input.len());
        }
        if self.output.capacity() == 0 && !self.is_open() {
            // A flight of the handshake, with a chain of two or three certificates; later replies are rare.
            self.output = Buf::with_capacity(FLIGHT);
        }
        match self.end.decrypt(&mut self.input, plain, &mut self.output) {
            Ok(done) => {
                self.ended |= done.state == State::PeerClosed;
                if done.used == self.input.len() || self.ended {
                    self.input = Buf::default();
                } else {
                    self.input.drain(..done.used);
                }
                Ok(())
            }
            Err(error) => {
                self.failed = true;
                self.input = Buf::default();
                Err(io::Error::other(error))
            }
        }
    }

    /// Sends what is owed as far as the socket takes it; pending when some is left.
    fn poll_flush(&mut self, cx: &mut Context<'_>, stream: &Stream) -> Poll<io::Result<()>> {
        loop {
            match self.flush(stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(stream.poll_writable(cx)),
                done => return Poll::Ready(done),
            }
        }
    }

    /// Sends what is owed.
    ///
    /// # Errors
    /// `WouldBlock` when some of it is left.
    pub(crate) fn flush(&mut self, stream: &Stream) -> io::Result<()> {
        while self.owed() > 0 {
            self.sent += stream.try_write(&[IoSlice::new(&self.output[self.sent..])])?;
        }
        self.output = Buf::default();
        self.sent = 0;
        Ok(())
    }
}

fn choose(servers: &TlsServers, hello: &Hello<'_>, heard: &OnceLock<Heard>) -> Choice {
    let Some(choice) = servers.choose(hello.server_name) else { return Choice::Reject };
    let late = choice.late.is_some();
    let _ = heard.set(Heard {
        tls: choice.tls,
        late: choice.late,
        server: choice.server,
        server_name: hello.server_name.filter(|_| late).map(Box::from),
        named: choice.named,
        ciphers: hello.ciphers.iter().map(|suite| u16::from(*suite)).collect(),
        curves: hello.groups.iter().map(|group| u16::from(*group)).collect(),
        signatures: hello.signatures.iter().map(|scheme| u16::from(*scheme)).collect(),
    });
    match choice.config {
        Some(config) => Choice::Serve(config),
        None if late => Choice::Later,
        None => Choice::Reject,
    }
}
