//! The WebSocket half of the backend: an echo and a seat in the chat room.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    sync::{Arc, mpsc::Receiver},
    thread,
    time::Duration,
};

use tungstenite::{
    Bytes, Error, Message, WebSocket,
    protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
};

use super::room::{Outbox, Room};

/// Stack of a connection's thread: the buffers are on the heap.
pub(super) const STACK_BYTES: usize = 256 * 1024;
/// Longest message the echo returns; a longer one ends the tunnel with 1009.
const ECHO_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Longest chat message, in bytes. The room cuts the line shorter still.
const CHAT_BYTES_MAX: usize = 8 * 1024;
/// Silence after which we ping, well under the 60 seconds a proxy allows by default. A second silence of this length ends
/// the tunnel.
const PING_AFTER: Duration = Duration::from_secs(25);

/// Upgrades, then sends every message back as it came. `accept` is the handshake's answer, `unread` what the client sent
/// past its head.
///
/// # Errors
/// When the 101 can't be written. How the tunnel ended is nobody's concern.
pub(super) fn echo(stream: &TcpStream, accept: &str, unread: Vec<u8>) -> io::Result<()> {
    switch(stream, accept)?;
    let mut socket =
        WebSocket::from_partially_read(stream, unread, Role::Server, Some(limits(ECHO_BYTES_MAX)));
    converse(&mut socket, Some);
    Ok(())
}

/// Upgrades and seats the client in the room: this thread reads, a second one writes what the room puts in the outbox.
///
/// # Errors
/// When the 101 can't be written or no thread started.
pub(super) fn chat(stream: &Arc<TcpStream>, accept: &str, unread: Vec<u8>, room: &Room) -> io::Result<()> {
    switch(stream, accept)?; // before the room can speak
    let (seat, outbox, frames) = room.join(Arc::clone(stream));
    thread::scope(|scope| {
        let writer = thread::Builder::new().name("demo chat".into()).stack_size(STACK_BYTES);
        let writing = writer.spawn_scoped(scope, move || write_frames(stream, &frames));
        if writing.is_ok() {
            let line = Line { stream, outbox };
            let config = Some(limits(CHAT_BYTES_MAX));
            let mut socket = WebSocket::from_partially_read(line, unread, Role::Server, config);
            converse(&mut socket, |message| {
                if let Message::Text(text) = message {
                    room.say(seat, &text);
                }
                None
            });
        }
        room.leave(seat); // with the last outbox gone the writer ends
        writing.map(drop)
    })
}

/// Reads until the tunnel ends. `heard` gets each message and may answer it.
fn converse<S: Read + Write>(socket: &mut WebSocket<S>, mut heard: impl FnMut(Message) -> Option<Message>) {
    let mut pinged = false;
    loop {
        let answer = match socket.read() {
            Ok(message) => {
                pinged = false;
                let data = matches!(message, Message::Text(_) | Message::Binary(_));
                if data { heard(message) } else { None }
            }
            Err(Error::Io(error)) if is_timeout(&error) && !pinged => {
                pinged = true;
                Some(Message::Ping(Bytes::new()))
            }
            Err(error) => return say_goodbye(socket, &error),
        };
        if answer.is_some_and(|answer| socket.send(answer).is_err()) {
            return;
        }
    }
}

/// Writes until every outbox of the member is dropped.
fn write_frames(mut stream: &TcpStream, frames: &Receiver<Bytes>) {
    for frame in frames {
        if stream.write_all(&frame).is_err() {
            let _ = stream.shutdown(Shutdown::Both); // wakes the reader
            return;
        }
    }
}

/// A chat member's connection as tungstenite sees it: read from the socket, write to the outbox. Frames of the room and of
/// the protocol (pongs, close) meet in that one queue, so they never interleave.
struct Line<'a> {
    stream: &'a TcpStream,
    outbox: Outbox,
}

impl Read for Line<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Full means that the client floods us and does not read; then it has to go.
        let sent = self.outbox.try_send(Bytes::copy_from_slice(bytes));
        sent.map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn switch(mut stream: &TcpStream, accept: &str) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    stream.set_read_timeout(Some(PING_AFTER))
}

fn limits(message_bytes_max: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(16 * 1024)
        .write_buffer_size(0)
        .max_message_size(Some(message_bytes_max))
        .max_frame_size(Some(message_bytes_max))
}

/// Tells a client that broke a rule which one, as a Close frame. One that left is not answered.
fn say_goodbye<S: Read + Write>(socket: &mut WebSocket<S>, error: &Error) {
    let (code, reason) = match error {
        Error::Capacity(_) => (CloseCode::Size, "message too big"),
        Error::Protocol(_) | Error::AttackAttempt => (CloseCode::Protocol, "protocol error"),
        Error::Utf8(_) => (CloseCode::Invalid, "text is not UTF-8"),
        _ => return,
    };
    let _ = socket.close(Some(CloseFrame { code, reason: reason.into() }));
    let _ = socket.flush();
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
