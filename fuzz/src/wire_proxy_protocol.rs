//! PROXY headers: no panic, and what a prefix could not decide the whole decides the same.

use wire::http1::Step;
use wire::proxy_protocol::read;

use crate::{Target, texts};

pub(crate) const TARGET: Target =
    Target { name: "wire_proxy_protocol", run, samples: || texts(SAMPLES), words: WORDS };

fn run(data: &[u8]) {
    let whole = read(data);
    match &whole {
        Ok(Step::Done(header)) => {
            assert!(header.used <= data.len());
            assert_eq!(read(&data[..header.used]), whole);
            let _ = (header.tlv("ssl_cn", data), header.tlv("0xe0", data), header.ssl_verify(data));
        }
        Ok(Step::More) => {}
        Err(error) => {
            let _ = error.log_text(data);
        }
    }
}

const SAMPLES: &[&[u8]] = &[
    b"PROXY TCP4 192.0.2.1 198.51.100.7 51000 443\r\nGET /",
    b"PROXY TCP6 2001:db8::1 ::1 1 65535\r\n",
    b"PROXY UNKNOWN any words\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc6\x33\x64\x07\xc7\x38\x01\xbb",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x23\xc0\0\x02\x01\xc6\x33\x64\x07\xc7\x38\x01\xbb\x20\0\x0e\x07\0\0\0\0\x22\0\x06a.test\xe0\0\x03abc",
    b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
];

const WORDS: &[&[u8]] = &[
    b"PROXY ",
    b"TCP4 ",
    b"TCP6 ",
    b"UNKNOWN",
    b" ",
    b"\r\n",
    b"1.2.3.4",
    b"::",
    b"65536",
    b"0",
    b"\r\n\r\n\0\r\nQUIT\n",
    b"\x21",
    b"\x11",
    b"\x21\x21",
    b"\0\x0c",
    b"\xff\xff",
    b"\x20\0\x05",
    b"\x22\0\x01",
    b"\0",
];
