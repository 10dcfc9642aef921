//! A scripted upstream: each connection has its list of answers, and is closed behind the last.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

pub(super) struct Backend {
    pub(super) port: u16,
    received: Arc<Mutex<Vec<String>>>,
}

/// An answer that begins with this keeps the connection open behind it until the proxy closes.
pub(super) const STAY: &str = "STAY";
/// Nothing is answered; the connection stays open.
pub(super) const SILENT: &str = "STAY";

impl Backend {
    pub(super) fn new(connections: Vec<Vec<&'static str>>) -> Backend {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let received = Arc::new(Mutex::new(Vec::new()));
        let seen = received.clone();
        std::thread::spawn(move || {
            for answers in connections {
                let Ok((socket, _)) = listener.accept() else { return };
                let seen = seen.clone();
                std::thread::spawn(move || {
                    let mut socket = socket;
                    socket.set_read_timeout(Some(DEADLINE)).expect("a timeout can be set");
                    play(&mut socket, &answers, &seen);
                });
            }
        });
        Backend { port, received }
    }

    /// The same over TLS. What was agreed upon in each handshake is received as a line of its own.
    pub(super) fn secure(config: Arc<ServerConfig>, connections: Vec<Vec<&'static str>>) -> Backend {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let received = Arc::new(Mutex::new(Vec::new()));
        let seen = received.clone();
        std::thread::spawn(move || {
            for answers in connections {
                let Ok((mut socket, _)) = listener.accept() else { return };
                let (seen, config) = (seen.clone(), config.clone());
                std::thread::spawn(move || {
                    socket.set_read_timeout(Some(DEADLINE)).expect("a timeout can be set");
                    let mut tls = ServerConnection::new(config).expect("the configuration is sound");
                    while tls.is_handshaking() {
                        if let Err(error) = tls.complete_io(&mut socket) {
                            seen.lock().expect("no thread panics with it").push(format!("failed: {error}"));
                            return;
                        }
                    }
                    seen.lock().expect("no thread panics with it").push(agreed(&tls));
                    let mut stream = StreamOwned::new(tls, socket);
                    play(&mut stream, &answers, &seen);
                    stream.conn.send_close_notify();
                    let _ = stream.flush();
                });
            }
        });
        Backend { port, received }
    }

    /// The requests received so far.
    pub(super) fn received(&self) -> Vec<String> {
        self.received.lock().expect("no thread panics with it").clone()
    }
}

/// Longest time a peer waits for the proxy.
const DEADLINE: Duration = Duration::from_secs(10);

fn agreed(tls: &ServerConnection) -> String {
    let kind = tls.handshake_kind().map(|kind| format!("{kind:?}")).unwrap_or_default();
    let version = tls.protocol_version().map(|version| format!("{version:?}")).unwrap_or_default();
    let certificates = tls.peer_certificates().map_or(0, <[_]>::len);
    format!("{version} {kind} name={} certificates={certificates}", tls.server_name().unwrap_or("-"))
}

fn play(socket: &mut (impl Read + Write), answers: &[&str], seen: &Mutex<Vec<String>>) {
    let mut buf = Vec::new();
    for answer in answers {
        let Some(request) = request(socket, &mut buf) else { return };
        seen.lock().expect("no thread panics with it").push(request);
        let (stay, text) = match answer.strip_prefix(STAY) {
            Some(text) => (true, text),
            None => (false, *answer),
        };
        if socket.write_all(text.as_bytes()).and_then(|()| socket.flush()).is_err() {
            return;
        }
        if stay {
            // Until the proxy closes.
            let _ = socket.read_to_end(&mut Vec::new());
            return;
        }
    }
}

/// A request as it came: head, and body by its length or to the last chunk.
fn request(socket: &mut impl Read, buf: &mut Vec<u8>) -> Option<String> {
    let find = |buf: &[u8], what: &[u8]| buf.windows(what.len()).position(|part| part == what);
    loop {
        if let Some(end) = find(buf, b"\r\n\r\n") {
            let end = end + 4;
            let head = String::from_utf8_lossy(&buf[..end]).into_owned();
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            let length: usize = length.and_then(|text| text.parse().ok()).unwrap_or(0);
            let whole = if head.contains("Transfer-Encoding: chunked\r\n") {
                find(&buf[end..], b"0\r\n\r\n").map(|at| end + at + 5)
            } else {
                (buf.len() >= end + length).then_some(end + length)
            };
            if let Some(whole) = whole {
                let request = buf.drain(..whole).collect();
                return Some(String::from_utf8(request).expect("tests send text"));
            }
        }
        let mut more = [0; 65536];
        match socket.read(&mut more) {
            Ok(0) | Err(_) => return None,
            Ok(count) => buf.extend_from_slice(&more[..count]),
        }
    }
}

/// A port where nobody listens, and not one that the kernel may give to another test.
pub(super) const DEAD_PORT: u16 = 1;
