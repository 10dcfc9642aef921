//! Just enough of RFC 6455 for a thousand tunnels on one thread: small frames, and an echo backend that answers them.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use rustix::event::{Timespec, epoll};
use rustls::{ServerConfig, ServerConnection};
use tungstenite::handshake::derive_accept_key;

use crate::raw::Socket;

/// The key every client here sends; the accept value is computed all the same.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// A whole handshake for a path.
pub fn handshake(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    )
}

/// A binary frame of fewer than 126 bytes, as a client sends it.
pub fn client_frame(payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x11, 0x22, 0x33, 0x44];
    let mut frame = vec![0x82, 0x80 | short(payload)];
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// The same as a server sends it.
pub fn server_frame(payload: &[u8]) -> Vec<u8> {
    [&[0x82, short(payload)], payload].concat()
}

/// A Close frame without a reason, as a server sends it.
pub fn server_close(code: u16) -> Vec<u8> {
    let [high, low] = code.to_be_bytes();
    vec![0x88, 2, high, low]
}

fn short(payload: &[u8]) -> u8 {
    u8::try_from(payload.len()).ok().filter(|len| *len < 126).expect("frames here are short")
}

/// A connection that bytes go into and come out of, plain or under TLS; [`Socket`] says what each does.
pub trait Talk {
    /// Sends plain bytes.
    fn send(&mut self, bytes: &[u8]);
    /// Every plain byte received since the last [`Talk::forget`].
    fn received(&self) -> &[u8];
    /// Waits for `pattern` after the last one found. Panics at the deadline.
    fn wait_for(&mut self, pattern: &[u8]);
    /// Waits until `count` bytes have come in all. Panics at the deadline.
    fn wait_len(&mut self, count: usize);
    /// Drops what was received so far.
    fn forget(&mut self);
}

impl Talk for Socket {
    fn send(&mut self, bytes: &[u8]) {
        Socket::send(self, bytes);
    }

    fn received(&self) -> &[u8] {
        Socket::received(self)
    }

    fn wait_for(&mut self, pattern: &[u8]) {
        Socket::wait_for(self, pattern);
    }

    fn wait_len(&mut self, count: usize) {
        Socket::wait_len(self, count);
    }

    fn forget(&mut self) {
        Socket::forget(self);
    }
}

impl<T: Talk + ?Sized> Talk for Box<T> {
    fn send(&mut self, bytes: &[u8]) {
        T::send(self, bytes);
    }

    fn received(&self) -> &[u8] {
        T::received(self)
    }

    fn wait_for(&mut self, pattern: &[u8]) {
        T::wait_for(self, pattern);
    }

    fn wait_len(&mut self, count: usize) {
        T::wait_len(self, count);
    }

    fn forget(&mut self) {
        T::forget(self);
    }
}

/// Opens a tunnel and waits for the 101.
pub fn connect(address: SocketAddr, path: &str) -> Socket {
    let socket = Socket::connect(address);
    opened(socket.unwrap_or_else(|error| panic!("cannot connect to {address}: {error}")), path)
}

/// Makes a tunnel of a connection: sends the handshake and waits for the 101.
pub fn opened<S: Talk>(mut socket: S, path: &str) -> S {
    socket.send(handshake(path).as_bytes());
    socket.wait_for(b"HTTP/1.1 101 ");
    socket.wait_for(b"\r\n\r\n");
    socket
}

/// An echo backend on a thread of its own; stops when dropped.
#[derive(Debug)]
pub struct Echo {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    /// Serves whoever comes to the listener.
    pub fn on(listener: TcpListener) -> Echo {
        Echo::serving(listener, None)
    }

    /// The same under TLS.
    pub fn secure(listener: TcpListener, tls: Arc<ServerConfig>) -> Echo {
        Echo::serving(listener, Some(tls))
    }

    fn serving(listener: TcpListener, tls: Option<Arc<ServerConfig>>) -> Echo {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = stop.clone();
        let thread =
            std::thread::spawn(move || serve(&listener, tls, &seen).expect("an echo on our own sockets"));
        Echo { stop, thread: Some(thread) }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Accepts, answers handshakes and echoes frames until told to stop.
pub fn serve(listener: &TcpListener, tls: Option<Arc<ServerConfig>>, stop: &AtomicBool) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&poll, listener, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
    let mut ends: HashMap<u64, EchoEnd> = HashMap::new();
    let mut next = 1;
    let turn = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
    while !stop.load(Ordering::Relaxed) {
        let mut events = Vec::with_capacity(256);
        epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), Some(&turn))
            .or_else(ignore_interrupt)?;
        for event in events {
            let id = event.data.u64();
            if id == 0 {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true)?;
                    stream.set_nodelay(true)?;
                    epoll::add(
                        &poll,
                        stream.as_fd(),
                        epoll::EventData::new_u64(next),
                        epoll::EventFlags::IN,
                    )?;
                    let tls = tls.clone().map(|tls| ServerConnection::new(tls).expect("settings"));
                    ends.insert(next, EchoEnd { stream, tls, input: Vec::new(), open: false });
                    next += 1;
                }
            } else if ends.get_mut(&id).is_some_and(|end| !end.turn()) {
                ends.remove(&id);
            }
        }
    }
    Ok(())
}

fn ignore_interrupt(error: rustix::io::Errno) -> io::Result<usize> {
    if error == rustix::io::Errno::INTR { Ok(0) } else { Err(error.into()) }
}

struct EchoEnd {
    stream: TcpStream,
    tls: Option<ServerConnection>,
    input: Vec<u8>,
    open: bool,
}

impl EchoEnd {
    /// Reads and answers what there is; false at the end.
    fn turn(&mut self) -> bool {
        let mut chunk = [0; 4096];
        match self.stream.read(&mut chunk) {
            Ok(0) => return false,
            Ok(n) if self.receive(&chunk[..n]) => {}
            Ok(_) => return false,
            Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
        }
        let mut output = Vec::new();
        if !self.open {
            let Some(answer) = self.accept() else { return true };
            self.open = true;
            output.extend_from_slice(answer.as_bytes());
        }
        while let Some(payload) = self.frame() {
            output.extend(server_frame(&payload));
        }
        self.send(&output)
    }

    /// Takes bytes in; false when the connection is over.
    fn receive(&mut self, mut bytes: &[u8]) -> bool {
        let Some(tls) = &mut self.tls else {
            self.input.extend_from_slice(bytes);
            return true;
        };
        while !bytes.is_empty() {
            if tls.read_tls(&mut bytes).is_err() || tls.process_new_packets().is_err() {
                // The alert.
                let _ = tls.write_tls(&mut self.stream);
                return false;
            }
            // "Would block" when all was read.
            let _ = tls.reader().read_to_end(&mut self.input);
        }
        // The handshake's answers.
        self.send(&[])
    }

    /// Answers are a few bytes and the proxy reads them: a socket buffer that is full means that something is broken.
    fn send(&mut self, output: &[u8]) -> bool {
        let Some(tls) = &mut self.tls else { return self.stream.write_all(output).is_ok() };
        let mut records = Vec::new();
        let written = tls.writer().write_all(output).is_ok();
        while tls.wants_write() && tls.write_tls(&mut records).is_ok() {}
        written && self.stream.write_all(&records).is_ok()
    }

    /// The answer to a handshake, once its head is whole. A plain request gets its target back, and the close.
    fn accept(&mut self) -> Option<String> {
        let end = self.input.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let head = String::from_utf8_lossy(&self.input[..end]).into_owned();
        self.input.drain(..end);
        let field = |name: &str| {
            head.lines()
                .filter_map(|line| line.split_once(": "))
                .find(|(key, _)| key.eq_ignore_ascii_case(name))
        };
        Some(match field("Sec-WebSocket-Key") {
            Some((_, key)) => format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: {}\r\n\r\n",
                derive_accept_key(key.as_bytes())
            ),
            None => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nplain".into(),
        })
    }

    /// The payload of the next whole masked frame.
    fn frame(&mut self) -> Option<Vec<u8>> {
        let len = usize::from(self.input.get(1)? & 0x7f);
        let whole = 6 + len;
        if self.input.len() < whole {
            return None;
        }
        let frame: Vec<u8> = self.input.drain(..whole).collect();
        let mask = &frame[2..6];
        Some(frame[6..].iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect())
    }
}

/// Many tunnels driven by one thread: every round sends one message on each and waits for all the echoes.
#[derive(Debug)]
pub struct Tunnels<S = Socket> {
    sockets: Vec<S>,
    expected: Vec<usize>,
    round: u32,
}

impl Tunnels<Socket> {
    /// Opens that many more.
    pub fn open(&mut self, count: usize, address: SocketAddr, path: &str) {
        for _ in 0..count {
            self.add(connect(address, path));
        }
    }
}

impl<S: Talk> Tunnels<S> {
    /// None yet.
    pub fn new() -> Tunnels<S> {
        Tunnels { sockets: Vec::new(), expected: Vec::new(), round: 0 }
    }

    /// One more, whose 101 came.
    pub fn add(&mut self, socket: S) {
        self.expected.push(socket.received().len());
        self.sockets.push(socket);
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.sockets.len()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }

    /// Sends a message of its own on every tunnel and checks that exactly this came back on it. Panics with the tunnel's
    /// number when bytes are missing, wrong or too many, or when it was closed.
    pub fn round(&mut self) {
        self.round += 1;
        for (number, socket) in self.sockets.iter_mut().enumerate() {
            let payload = payload(number, self.round);
            self.expected[number] += server_frame(&payload).len();
            socket.send(&client_frame(&payload));
        }
        for (number, socket) in self.sockets.iter_mut().enumerate() {
            socket.wait_len(self.expected[number]);
            let frame = server_frame(&payload(number, self.round));
            let got = socket.received();
            assert!(
                got.ends_with(&frame) && got.len() == self.expected[number],
                "tunnel {number}: not its own echo"
            );
            socket.forget();
            self.expected[number] = 0;
        }
    }

    /// The sockets, to look at how they ended.
    pub fn sockets(&mut self) -> &mut [S] {
        &mut self.sockets
    }
}

impl<S: Talk> Default for Tunnels<S> {
    fn default() -> Self {
        Tunnels::new()
    }
}

fn payload(tunnel: usize, round: u32) -> Vec<u8> {
    format!("tunnel {tunnel} round {round}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::Port;

    #[test]
    fn echoes_reach_their_own_tunnels() {
        let port = Port::reserve();
        let _echo = Echo::on(port.listen());
        let mut tunnels = Tunnels::new();
        tunnels.open(20, port.address(), "/");
        tunnels.round();
        tunnels.round();
        assert_eq!(tunnels.len(), 20);
    }
}
