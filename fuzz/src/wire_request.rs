//! Request heads: no panic, spans inside the buffer, and the same answer however the bytes are split.

use wire::http1::{HeadLimits, RequestError, RequestHead, Resume, Step, request};

use crate::{Target, texts};

pub(crate) const TARGET: Target =
    Target { name: "wire_request", run, samples: || texts(SAMPLES), words: WORDS };

fn run(data: &[u8]) {
    let [split, lenient, input @ ..] = data else { return };
    let mut limits = HeadLimits { first_buffer_bytes: 64, line_bytes_max: 128, ..HeadLimits::default() };
    if lenient & 1 == 1 {
        limits = HeadLimits { underscores: true, ignore_invalid: false, merge_slashes: false, ..limits };
    }
    let split = usize::from(*split).min(input.len());
    let (whole, head) = read(input, &[input.len()], &limits);
    let (stepped, other) = read(input, &[split, input.len()], &limits);
    assert_eq!(whole, stepped);
    if let Ok(Step::Done(used)) = whole {
        assert!(used <= input.len());
        assert_eq!(head.path(input), other.path(input));
        assert_eq!(head.fields.as_slice(), other.fields.as_slice());
        assert!(head.fields.iter().all(|field| field.name.end() <= used && field.value.end() <= used));
        let _ = wire::websocket::handshake(&head, input);
    }
    if let Err(error) = whole {
        let _ = error.log_text(input);
    }
}

type Outcome = Result<Step<usize>, RequestError>;

fn read(input: &[u8], ends: &[usize], limits: &HeadLimits) -> (Outcome, RequestHead) {
    let (mut head, mut resume) = (RequestHead::default(), Resume::default());
    let mut last = Ok(Step::More);
    for &end in ends {
        last = request(&input[..end], &mut head, &mut resume, limits);
        if last != Ok(Step::More) {
            break;
        }
    }
    (last, head)
}

const SAMPLES: &[&[u8]] = &[
    b"\x10\0GET /a/../b?c=d HTTP/1.1\r\nHost: x.example:80\r\nConnection: keep-alive, Upgrade\r\nContent-Length: 5\r\n\r\nhello",
    b"\x20\x01GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    b"\x07\0POST http://h:1/%41?x#y HTTP/1.0\nTransfer-Encoding: chunked\n\n",
    b"\x05\x01\r\n\r\nCONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]\r\nA_b: c\r\n\r\n",
    b"\0\0GET /\r\n",
];

const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b" ",
    b"\0",
    b":",
    b"/",
    b"//",
    b".",
    b"..",
    b"/../",
    b"%2e",
    b"%2F",
    b"%",
    b"%0",
    b"#",
    b"?",
    b"_",
    b"HTTP/1.1",
    b"HTTP/2.0",
    b"HTTP/1.",
    b"Host: ",
    b"Content-Length: ",
    b"Transfer-Encoding: chunked",
    b"Connection: ",
    b"close",
    b"upgrade",
    b",",
    b"websocket",
    b"Expect: 100-continue\r\n",
    b"[::1]",
    b"18446744073709551616",
    b"-1",
    b"\x80",
];
