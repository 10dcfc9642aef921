//! A connection that speaks TLS: a socket, and a [`TlsEnd`] between it and the bytes.
//!
//! Buffers for records are the thread's, lent while bytes are in them: an idle connection holds its keys, and at most the
//! beginning of a record.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use reactor::Source;
use sys::errno;
use wire::tls::{State, TlsEnd, TlsError};

/// Why a TLS handshake failed. Prints in nginx's words, without its `while SSL handshaking to upstream, …` tail.
#[derive(Debug)]
pub enum HandshakeError {
    /// The rules were broken, or the certificate is not trusted.
    Tls(TlsError),
    /// The connection broke.
    Io(io::Error),
    /// The peer closed the connection.
    Closed,
}

impl HandshakeError {
    pub(crate) fn twice() -> HandshakeError {
        HandshakeError::Tls(TlsError::new("TLS has begun already"))
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const CLOSED: &str = "peer closed connection in SSL handshake";
        match self {
            HandshakeError::Tls(error) => {
                let text = error.to_string();
                match text.starts_with("upstream SSL certificate") {
                    true => f.write_str(&text),
                    false => write!(f, "SSL_do_handshake() failed (SSL: {text})"),
                }
            }
            HandshakeError::Io(error) => write!(f, "{CLOSED} ({})", errno::text(error)),
            HandshakeError::Closed => f.write_str(CLOSED),
        }
    }
}

impl std::error::Error for HandshakeError {}

/// nginx's words for a read that failed: `recv() failed (104: ...)`, or `SSL_read() failed (SSL: ...)`.
pub fn recv_failed(error: &io::Error) -> impl fmt::Display + use<> {
    failed("recv()", "SSL_read()", error)
}

/// The same for a write.
pub fn send_failed(error: &io::Error) -> impl fmt::Display + use<> {
    failed("writev()", "SSL_write()", error)
}

fn failed(plain: &str, tls: &str, error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) {
        Some(error) => format!("{tls} failed (SSL: {error})"),
        None => format!("{plain} failed ({})", errno::text(error)),
    }
}

/// A socket with TLS on it. Dropped, it says close_notify if the socket takes it at once, and does not wait for the peer's.
pub(crate) struct TlsStream {
    /// Nothing only once it was given up.
    socket: Option<Source>,
    end: Box<dyn TlsEnd>,
    /// Received and not decrypted: the start of a record.
    input: Vec<u8>,
    /// Decrypted and not taken, by those who read into a slice.
    plain: Vec<u8>,
    /// Encrypted and not sent, from `out_at`.
    out: Vec<u8>,
    out_at: usize,
    /// Plain bytes in `out` that the writer has not been told of.
    owed: usize,
}

/// Plain bytes encrypted at once: four records.
const WRITE_BYTES_MAX: usize = 64 * 1024;

impl TlsStream {
    pub(crate) fn new(socket: Source, end: Box<dyn TlsEnd>) -> TlsStream {
        TlsStream {
            socket: Some(socket),
            end,
            input: Vec::new(),
            plain: Vec::new(),
            out: Vec::new(),
            out_at: 0,
            owed: 0,
        }
    }

    pub(crate) fn socket(&self) -> &Source {
        self.socket.as_ref().expect(HAS_SOCKET)
    }

    pub(crate) fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), HandshakeError>> {
        loop {
            if self.end.state() == State::Handshake {
                // What comes right behind the handshake waits for the first read.
                let mut plain = std::mem::take(&mut self.plain);
                let decrypted = self.decrypt(&mut plain);
                self.plain = plain;
                if let Err(error) = decrypted {
                    // One try to send the alert.
                    let _ = self.poll_flush(cx);
                    return Poll::Ready(Err(HandshakeError::Tls(error)));
                }
            }
            ready!(self.poll_flush(cx)).map_err(HandshakeError::Io)?;
            if self.end.state() != State::Handshake {
                return Poll::Ready(Ok(()));
            }
            if ready!(self.poll_receive(cx)).map_err(HandshakeError::Io)? == 0 {
                return Poll::Ready(Err(HandshakeError::Closed));
            }
        }
    }

    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.plain.is_empty() {
            let mut plain = Vec::new();
            ready!(self.poll_read_buf(cx, &mut plain))?;
            self.plain = plain;
        }
        let count = self.plain.len().min(buf.len());
        buf[..count].copy_from_slice(&self.plain[..count]);
        self.plain.drain(..count);
        Poll::Ready(Ok(count))
    }

    pub(crate) fn poll_read_buf(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        if !self.plain.is_empty() {
            let count = self.plain.len();
            buf.append(&mut std::mem::take(&mut self.plain));
            return Poll::Ready(Ok(count));
        }
        let before = buf.len();
        loop {
            if self.end.state() == State::PeerClosed || ready!(self.poll_receive(cx))? == 0 {
                return Poll::Ready(Ok(0));
            }
            let decrypted = self.decrypt(buf);
            if !self.out.is_empty() {
                // An answer to a key update, or an alert. If the socket is full it goes with the next write.
                let _ = self.poll_flush(cx);
            }
            decrypted.map_err(io::Error::other)?;
            if buf.len() > before {
                return Poll::Ready(Ok(buf.len() - before));
            }
        }
    }

    /// After `Pending` the bytes are encrypted and kept; the caller shows them again and is told when they are sent, so that
    /// a timer of its own runs while the peer does not read.
    pub(crate) fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.owed == 0 {
            self.encrypt(bufs).map_err(io::Error::other)?;
        }
        ready!(self.poll_flush(cx))?;
        Poll::Ready(Ok(std::mem::take(&mut self.owed)))
    }

    /// Ready when an idle connection is not worth keeping: data that nobody asked for, or an end. Tickets and key updates are no
    /// reason to close.
    pub(crate) fn poll_stirred(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut plain = std::mem::take(&mut self.plain);
        loop {
            let rests = plain.is_empty() && self.owed == 0 && self.end.state() == State::Open;
            if !rests || !matches!(self.poll_flush(cx), Poll::Ready(Ok(()))) {
                return Poll::Ready(());
            }
            match self.poll_receive(cx) {
                Poll::Pending => {
                    self.input.shrink_to_fit();
                    return Poll::Pending;
                }
                Poll::Ready(Ok(1..)) if self.decrypt(&mut plain).is_ok() => {}
                Poll::Ready(_) => return Poll::Ready(()),
            }
        }
    }

    /// The socket, the state, and what was received and not decrypted.
    pub(crate) fn into_parts(mut self) -> io::Result<(Source, Box<dyn TlsEnd>, Vec<u8>)> {
        if self.owed > 0 || !self.out.is_empty() || !self.plain.is_empty() {
            return Err(io::Error::other("TLS has bytes left over"));
        }
        let socket = self.socket.take().expect(HAS_SOCKET);
        let end = std::mem::replace(&mut self.end, Box::new(GivenUp));
        let mut input = std::mem::take(&mut self.input);
        input.shrink_to_fit();
        Ok((socket, end, input))
    }

    /// Reads from the socket behind what is in `input`.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let socket = self.socket.as_mut().expect(HAS_SOCKET);
        if self.input.capacity() - self.input.len() < RECORD_BYTES_MAX {
            let mut input = take_spare();
            input.extend_from_slice(&self.input);
            give_spare(std::mem::replace(&mut self.input, input));
        }
        let polled = socket.poll_read(cx, &mut self.input);
        self.release();
        polled
    }

    fn decrypt(&mut self, plain: &mut Vec<u8>) -> Result<(), TlsError> {
        let done = self.end.decrypt(&mut self.input, plain, &mut self.out)?;
        match done.state {
            State::PeerClosed => self.input.clear(),
            State::Handshake | State::Open => drop(self.input.drain(..done.used)),
        }
        self.release();
        Ok(())
    }

    /// Encrypts what is to be written, small pieces in one record.
    fn encrypt(&mut self, bufs: &[IoSlice<'_>]) -> Result<(), TlsError> {
        if self.out.capacity() == 0 {
            self.out = take_spare();
        }
        if let [buf] = bufs {
            self.owed = buf.len().min(WRITE_BYTES_MAX);
            return self.end.encrypt(&buf[..self.owed], &mut self.out);
        }
        let mut plain = take_spare();
        for buf in bufs {
            let room = WRITE_BYTES_MAX - plain.len();
            plain.extend_from_slice(&buf[..buf.len().min(room)]);
        }
        self.owed = plain.len();
        let encrypted = self.end.encrypt(&plain, &mut self.out);
        give_spare(plain);
        encrypted
    }

    /// Ready when nothing is left to be sent.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = self.socket.as_mut().expect(HAS_SOCKET);
        while self.out_at < self.out.len() {
            match ready!(socket.poll_write(cx, &[IoSlice::new(&self.out[self.out_at..])]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.out_at += count,
            }
        }
        self.out_at = 0;
        give_spare(std::mem::take(&mut self.out));
        Poll::Ready(Ok(()))
    }

    /// An empty buffer goes back.
    fn release(&mut self) {
        if self.input.is_empty() {
            give_spare(std::mem::take(&mut self.input));
        }
    }
}

impl Drop for TlsStream {
    fn drop(&mut self) {
        // Behind the half of a record nothing more can be said.
        if let Some(socket) = &self.socket
            && self.out.is_empty()
            && self.end.close(&mut self.out).is_ok()
            && !self.out.is_empty()
        {
            let _ = socket.try_write(&[IoSlice::new(&self.out)]);
        }
        give_spare(std::mem::take(&mut self.out));
    }
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream").field("socket", &self.socket).finish_non_exhaustive()
    }
}

const HAS_SOCKET: &str = "giving the socket up takes the stream";

/// In the place of an end that was given up.
struct GivenUp;

impl TlsEnd for GivenUp {
    fn decrypt(
        &mut self,
        _: &mut [u8],
        _: &mut Vec<u8>,
        _: &mut Vec<u8>,
    ) -> Result<wire::tls::Decrypted, TlsError> {
        Err(TlsError::new("TLS was given up"))
    }

    fn encrypt(&mut self, _: &[u8], _: &mut Vec<u8>) -> Result<(), TlsError> {
        Err(TlsError::new("TLS was given up"))
    }

    fn close(&mut self, _: &mut Vec<u8>) -> Result<(), TlsError> {
        Ok(())
    }

    fn state(&self) -> State {
        State::PeerClosed
    }
}

/// A record at its longest, TLS 1.2's (RFC 5246 section 6.2.3): room for one must be behind what is kept.
const RECORD_BYTES_MAX: usize = 5 + (1 << 14) + 2048;

/// Room in a new buffer: two records.
const SPARE_BYTES: usize = 2 * RECORD_BYTES_MAX;

/// A buffer that has grown beyond this is not kept.
const SPARE_BYTES_MAX: usize = 4 * SPARE_BYTES;

/// Buffers a thread keeps.
const SPARES: usize = 8;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

fn take_spare() -> Vec<u8> {
    SPARE.with_borrow_mut(Vec::pop).unwrap_or_else(|| Vec::with_capacity(SPARE_BYTES))
}

fn give_spare(mut buf: Vec<u8>) {
    if (SPARE_BYTES..=SPARE_BYTES_MAX).contains(&buf.capacity()) {
        buf.clear();
        // A thread that ends takes its buffers with it.
        let _ = SPARE.try_with(|spare| {
            if let Ok(mut spare) = spare.try_borrow_mut()
                && spare.len() < SPARES
            {
                spare.push(buf);
            }
        });
    }
}
