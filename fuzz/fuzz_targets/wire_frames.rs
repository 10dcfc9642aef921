//! The frame scanner: no panic, and the same figures however the bytes are split.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::websocket::{Counts, Scanner};

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

fuzz_target!(|data: &[u8]| {
    let [count, rest @ ..] = data else { return };
    let (sizes, input) = rest.split_at(usize::from(count % 16).min(rest.len()));
    let (mut scanner, mut counts) = (Scanner::new(), Counts::default());
    scanner.scan(input, &mut counts);
    let whole =
        (counts, scanner.at_boundary(), scanner.in_message(), scanner.is_lost(), scanner.left_bytes());
    assert_eq!(scan(input, sizes), whole);
});
