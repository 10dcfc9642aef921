//! The plain HTTP/1 half of the backend: reads a request's head, decides what it gets, writes an answer.

use std::{
    borrow::Cow,
    io::{self, Read, Write},
    net::TcpStream,
};

use tungstenite::handshake::derive_accept_key;

use super::page::{PAGE, PAGE_HEADERS};

/// Longest request head.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Header fields in a head.
const FIELDS_MAX: usize = 64;

/// One request, understood.
pub(super) struct Request {
    pub(super) target: Target,
    pub(super) kind: Kind,
}

/// What a request is for.
pub(super) enum Target {
    /// An upgrade, with the value of `Sec-WebSocket-Accept`.
    Echo(String),
    /// The same, into the room.
    Chat(String),
    /// The configuration's text, which the backend holds.
    Config,
    /// Anything that is already known.
    Plain(Answer),
}

/// How an answer goes out.
#[derive(Clone, Copy)]
pub(super) struct Kind {
    /// The connection takes another request afterwards.
    pub(super) keep: bool,
    /// The request was HEAD: the length, but no body.
    pub(super) head_only: bool,
}

impl Kind {
    /// A body, and nothing after it.
    pub(super) const LAST: Kind = Kind { keep: false, head_only: false };
}

/// Reads the next head. `None` when the client has left. Bytes past the head stay in `unread`.
pub(super) fn read_request(mut stream: &TcpStream, unread: &mut Vec<u8>) -> io::Result<Option<Request>> {
    let mut chunk = [0; 4096];
    loop {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut head = httparse::Request::new(&mut fields);
        match head.parse(unread) {
            Ok(httparse::Status::Complete(length)) => {
                let request = route(&head);
                unread.drain(..length);
                return Ok(Some(request));
            }
            Ok(httparse::Status::Partial) if unread.len() < HEAD_BYTES_MAX => {}
            Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
                let answer =
                    Answer::text("431 Request Header Fields Too Large", "The request's head is too large.\n");
                return Ok(Some(Request { target: Target::Plain(answer), kind: Kind::LAST }));
            }
            Err(_) => {
                let answer = Answer::text("400 Bad Request", "This is not an HTTP request.\n");
                return Ok(Some(Request { target: Target::Plain(answer), kind: Kind::LAST }));
            }
        }
        let read = stream.read(&mut chunk)?;
        if read == 0 {
            return Ok(None);
        }
        unread.extend_from_slice(&chunk[..read]);
    }
}

/// Decides what a request gets.
fn route(head: &httparse::Request<'_, '_>) -> Request {
    let method = head.method.unwrap_or_default();
    let path = head.path.unwrap_or_default().split('?').next().unwrap_or_default();
    let body = field(head, "content-length").is_some_and(|length| length != "0")
        || field(head, "transfer-encoding").is_some();
    // A body is never read here: after a request that has one the connection ends.
    let keep = head.version == Some(1) && !body && !lists(head, "connection", "close");
    let kind = Kind { keep, head_only: method == "HEAD" };
    let plain = |answer| Request { target: Target::Plain(answer), kind };
    if !matches!(method, "GET" | "HEAD") {
        let answer = Answer::text("405 Method Not Allowed", "Only GET is served here.\n");
        return plain(Answer { headers: "Allow: GET, HEAD\r\n", ..answer });
    }
    let upgrade: fn(String) -> Target = match path {
        "/" => return plain(Answer::page()),
        "/nginx.conf" => return Request { target: Target::Config, kind },
        "/ws/echo" => Target::Echo,
        "/ws/chat" => Target::Chat,
        _ => return plain(Answer::text("404 Not Found", "There is nothing here. The page is at /\n")),
    };
    match accept_key(head) {
        // Whatever follows the tunnel, it is not another request.
        Some(accept) if !body => Request { target: upgrade(accept), kind: Kind::LAST },
        _ => plain(Answer {
            headers: "Upgrade: websocket\r\n",
            ..Answer::text("426 Upgrade Required", NO_UPGRADE)
        }),
    }
}

const NO_UPGRADE: &str = "This address speaks WebSocket, and the request that arrived did not ask for it.\n\
    If a browser did, something in between dropped the Upgrade and Connection headers.\n";

/// `Sec-WebSocket-Accept` for a valid handshake (RFC 6455, section 4.2.1).
fn accept_key(head: &httparse::Request<'_, '_>) -> Option<String> {
    let key = field(head, "sec-websocket-key")?;
    let valid = head.method == Some("GET")
        && head.version == Some(1)
        && lists(head, "upgrade", "websocket")
        && lists(head, "connection", "upgrade")
        && field(head, "sec-websocket-version") == Some("13")
        && key.len() == 24; // 16 bytes in base64
    valid.then(|| derive_accept_key(key.as_bytes()))
}

fn field<'h>(head: &'h httparse::Request<'_, '_>, name: &str) -> Option<&'h str> {
    let found = head.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name))?;
    std::str::from_utf8(found.value).ok().map(str::trim)
}

/// Whether a comma-separated field holds `token`, in any case.
fn lists(head: &httparse::Request<'_, '_>, name: &str, token: &str) -> bool {
    let fields = head.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
    fields
        .flat_map(|field| field.value.split(|byte| *byte == b','))
        .any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

/// A status, a few headers and a body.
pub(super) struct Answer {
    status: &'static str,
    content_type: &'static str,
    /// Further header lines, each with its CRLF.
    headers: &'static str,
    body: Cow<'static, str>,
}

impl Answer {
    /// A plain text.
    pub(super) fn text(status: &'static str, body: &str) -> Answer {
        let body = Cow::Owned(body.to_owned());
        Answer { status, content_type: "text/plain; charset=utf-8", headers: "", body }
    }

    fn page() -> Answer {
        let content_type = "text/html; charset=utf-8";
        Answer { status: "200 OK", content_type, headers: PAGE_HEADERS, body: Cow::Borrowed(PAGE.as_str()) }
    }

    /// Writes it in one go.
    pub(super) fn send(&self, mut stream: &TcpStream, kind: Kind) -> io::Result<()> {
        let mut bytes = format!(
            "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
             X-Content-Type-Options: nosniff\r\n{}Connection: {}\r\n\r\n",
            self.status,
            self.content_type,
            self.body.len(),
            self.headers,
            if kind.keep { "keep-alive" } else { "close" },
        );
        if !kind.head_only {
            bytes.push_str(&self.body);
        }
        stream.write_all(bytes.as_bytes())
    }
}
