//! What goes over the wire: the browser's handshake, the small GET, their answers, and WebSocket frames.

use base64::Engine as _;
use sha1::{Digest as _, Sha1};

/// RFC 6455 section 1.3: the text every server appends to the key.
const ACCEPT_SALT: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// One key for all: nothing here caches on it, and the answer is still checked.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// What `KEY` must be answered with.
pub(crate) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
/// Largest head either side may send before the run is called broken.
pub(crate) const HEAD_BYTES_MAX: usize = 16 * 1024;

/// A handshake as a browser sends it: 1 KB of headers, most of it cookies.
pub(crate) fn handshake(host: &str) -> Vec<u8> {
    let head = format!(
        "GET /ws/room?id=7 HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nPragma: no-cache\r\n\
         Cache-Control: no-cache\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
         Chrome/142.0.0.0 Safari/537.36\r\nUpgrade: websocket\r\nOrigin: http://{host}\r\nSec-WebSocket-Version: 13\r\n\
         Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-GB,en;q=0.9,de;q=0.8\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
    );
    let cookie_bytes = 1024usize.saturating_sub(head.len() + "Cookie: session=\r\n\r\n".len());
    format!("{head}Cookie: session={}\r\n\r\n", "c0ffee".repeat(200).split_at(cookie_bytes).0).into_bytes()
}

/// A small keep-alive GET.
pub(crate) fn get(host: &str) -> Vec<u8> {
    format!(
        "GET /small HTTP/1.1\r\nHost: {host}\r\nUser-Agent: tidegate-bench\r\nAccept: */*\r\n\
         Accept-Encoding: gzip\r\n\r\n"
    )
    .into_bytes()
}

/// The backend's answer to a GET: 200 and 100 bytes.
pub(crate) fn small_answer() -> Vec<u8> {
    let head = "HTTP/1.1 200 OK\r\nDate: Sun, 22 Nov 2026 12:00:00 GMT\r\nContent-Type: text/plain\r\n\
                Content-Length: 100\r\nConnection: keep-alive\r\n\r\n";
    format!("{head}{}", "x".repeat(100)).into_bytes()
}

/// The backend's 101 for a request head, or `None` when the head is no handshake.
pub(crate) fn switching(head: &[u8]) -> Option<Vec<u8>> {
    let key = header(head, "sec-websocket-key")?;
    header(head, "upgrade")?;
    let digest = Sha1::new().chain_update(key).chain_update(ACCEPT_SALT).finalize();
    let accept = base64::engine::general_purpose::STANDARD.encode(digest);
    Some(
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        )
        .into_bytes(),
    )
}

/// Length of the head including its blank line, once all of it is there.
pub(crate) fn head_length(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// Value of a header field (name in lower case) in a request or response head.
pub(crate) fn header<'a>(head: &'a [u8], name: &str) -> Option<&'a str> {
    let text = std::str::from_utf8(head).ok()?;
    text.split("\r\n").skip(1).find_map(|line| {
        let (field, value) = line.split_once(':')?;
        field.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// What a client's frame says of itself; RFC 6455 section 5.2.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) struct Frame {
    /// 1 text, 2 binary, 8 close, ...
    pub(crate) opcode: u8,
    /// Bytes of the frame's own header, mask included.
    pub(crate) header_bytes: usize,
    /// Bytes of the payload.
    pub(crate) payload_bytes: usize,
    /// The client's mask; servers send none.
    pub(crate) mask: Option<[u8; 4]>,
}

impl Frame {
    /// Reads a frame header; `None` until it is complete.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let (first, second) = (*bytes.first()?, *bytes.get(1)?);
        let (length_bytes, payload_bytes) = match second & 0x7f {
            126 => (2, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
            127 => (8, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?).try_into().ok()?),
            short => (0, usize::from(short)),
        };
        let masked = second & 0x80 != 0;
        let header_bytes = 2 + length_bytes + if masked { 4 } else { 0 };
        let mask = match masked {
            true => Some(bytes.get(header_bytes - 4..header_bytes)?.try_into().ok()?),
            false => None,
        };
        Some(Self { opcode: first & 0x0f, header_bytes, payload_bytes, mask })
    }
}

/// A masked binary (or close, with status 1000) frame as the client sends it. The mask is zero: allowed by the
/// receiver's rules, and it spares both ends the work that is not the proxy's.
pub(crate) fn client_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        short @ 0..126 => frame.push(0x80 | short as u8),
        middle @ 126..65_536 => {
            frame.push(0x80 | 126);
            frame.extend((middle as u16).to_be_bytes());
        }
        long => {
            frame.push(0x80 | 127);
            frame.extend((long as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_the_round() {
        for length in [0, 1, 125, 126, 16 * 1024, 65_535, 65_536] {
            let bytes = client_frame(2, &vec![b'm'; length]);
            let frame = Frame::parse(&bytes).expect("whole frame");
            assert_eq!((frame.opcode, frame.payload_bytes, frame.mask), (2, length, Some([0; 4])));
            assert_eq!(frame.header_bytes + length, bytes.len());
            assert_eq!(Frame::parse(&bytes[..frame.header_bytes - 1]), None, "{length}");
        }
    }

    #[test]
    fn handshake_is_one_kilobyte_and_answered() {
        let head = handshake("127.0.0.1:8000");
        assert_eq!(head.len(), 1024);
        assert_eq!(head_length(&head), Some(1024));
        let answer = switching(&head).expect("a handshake");
        assert_eq!(header(&answer, "sec-websocket-accept"), Some(ACCEPT));
        assert_eq!(switching(&get("a")), None);
    }
}
