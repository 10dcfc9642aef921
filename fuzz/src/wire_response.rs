//! Response heads, chunks and trailers: no panic, and the same answer however the bytes are split.

use wire::http1::{
    Chunk, ChunkDecoder, Fields, ResponseError, ResponseHead, ResponseLimits, Resume, Step, Trailers,
    response,
};

use crate::{Target, texts};

pub(crate) const TARGET: Target =
    Target { name: "wire_response", run, samples: || texts(SAMPLES), words: WORDS };

fn run(data: &[u8]) {
    let [split, input @ ..] = data else { return };
    let split = usize::from(*split).min(input.len());
    let (whole, head) = read(input, &[input.len()]);
    assert_eq!(whole, read(input, &[split, input.len()]).0);
    if let Ok(Step::Done(used)) = whole {
        assert!(head.fields.iter().all(|field| field.name.end() <= used && field.value.end() <= used));
        let _ = wire::websocket::check_101(&head, input, b"dGhlIHNhbXBsZSBub25jZQ==");
    }
    if let Err(error) = whole {
        let _ = error.log_text(input);
    }
    assert_eq!(decode(input, &[input.len()]), decode(input, &[split, input.len()]));
    let _ = Trailers::default().read(input, &mut Fields::default(), 128);
}

fn read(input: &[u8], ends: &[usize]) -> (Result<Step<usize>, ResponseError>, ResponseHead) {
    let (mut head, mut resume) = (ResponseHead::default(), Resume::default());
    let limits = ResponseLimits { head_bytes_max: 256 };
    let mut last = Ok(Step::More);
    for &end in ends {
        last = response(&input[..end], &mut head, &mut resume, &limits);
        if last != Ok(Step::More) {
            break;
        }
    }
    (last, head)
}

/// The data, and how it ended: -1 bad, -2 more, else the offset of the end.
fn decode(input: &[u8], ends: &[usize]) -> (Vec<u8>, i64) {
    let mut decoder = ChunkDecoder::new();
    let (mut data, mut at) = (Vec::new(), 0);
    for &end in ends {
        loop {
            match decoder.step(&input[at..end]) {
                Err(_) => return (data, -1),
                Ok(Chunk::End(used)) => return (data, (at + used) as i64),
                Ok(Chunk::More) => break,
                Ok(Chunk::Data(range)) => {
                    data.extend_from_slice(&input[at..end][range.clone()]);
                    at += range.end;
                }
            }
        }
        at = end;
    }
    (data, -2)
}

const SAMPLES: &[&[u8]] = &[
    b"\x08HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
    b"\x03HTTP/1.0 200 OK\nContent-Length: 5\nX-Accel-Expires: @1\n\nhello",
    b"\x094;a=b\r\nWiki\r\n5\r\npedia\r\n0\r\nX-Trailer: y\r\n\r\n",
    b"\x02X-Trailer: y\r\nZ: 1\r\n\r\n",
    b"\x04HTTP/80.1 204 x\n\n",
];

const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b" ",
    b"\0",
    b":",
    b";",
    b"=",
    b"\"",
    b"0",
    b"1",
    b"f",
    b"FFFFFFFFFFFFFFFF",
    b"8000000000000000",
    b"HTTP/1.1 200 ",
    b"HTTP/1.1 ",
    b"099",
    b"HTTP/99",
    b"HTTP/1.9",
    b"Content-Length: ",
    b"Transfer-Encoding: chunked\r\n",
    b"0\r\n\r\n",
    b"18446744073709551616",
    b"\x80",
];
