//! The frame scanner: no panic, and the same figures however the bytes are split.

use wire::websocket::{Counts, Scanner};

use crate::{Target, texts};

pub(crate) const TARGET: Target =
    Target { name: "wire_frames", run, samples: || texts(SAMPLES), words: WORDS };

fn run(data: &[u8]) {
    let [count, rest @ ..] = data else { return };
    let (sizes, input) = rest.split_at(usize::from(count % 16).min(rest.len()));
    let (mut scanner, mut counts) = (Scanner::new(), Counts::default());
    scanner.scan(input, &mut counts);
    let whole =
        (counts, scanner.at_boundary(), scanner.in_message(), scanner.is_lost(), scanner.left_bytes());
    assert_eq!(scan(input, sizes), whole);
}

fn scan(input: &[u8], sizes: &[u8]) -> (Counts, bool, bool, bool, u64) {
    let (mut scanner, mut counts) = (Scanner::new(), Counts::default());
    let mut rest = input;
    for size in sizes {
        let (piece, after) = rest.split_at(usize::from(*size).min(rest.len()));
        scanner.scan(piece, &mut counts);
        rest = after;
    }
    while !rest.is_empty() {
        // Stopping at every frame is one more way to divide the bytes.
        let used = scanner.scan_frames(rest, &mut counts, |frame| frame.payload_bytes % 2 == 0);
        assert!(used > 0);
        rest = &rest[used..];
    }
    (counts, scanner.at_boundary(), scanner.in_message(), scanner.is_lost(), scanner.left_bytes())
}

const SAMPLES: &[&[u8]] = &[
    b"\0\x81\x05Hello",
    b"\x03\x01\x02\x05\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58",
    b"\x01\x04\x01\x03Hel\x89\x02hi\x80\x02lo\x88\x02\x03\xe8",
    b"\0\x82\x7e\x01\0",
    b"\0\x82\x7f\0\0\0\0\0\x01\0\0",
];

const WORDS: &[&[u8]] = &[
    b"\x81\x00",
    b"\x01\x01a",
    b"\x80\x00",
    b"\x89\x00",
    b"\x8a\x80mask",
    b"\x88\x00",
    b"\x82\x7e\x00\x7e",
    b"\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\x82\x7f\0\0\0\0\0\0\0\x02ab",
    b"\xc1\x02zz",
    b"\x83\x00",
    b"\x0f",
];
