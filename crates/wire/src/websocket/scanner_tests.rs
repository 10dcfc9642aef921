use super::super::frame::{close_frame, frame, ping_frame};
use super::*;

const MASK: Option<[u8; 4]> = Some([0x12, 0x34, 0x56, 0x78]);

/// Everything that can be seen of a scan, in one line.
fn shown(scanner: &Scanner, counts: &Counts) -> String {
    let [continuation, text, binary] = counts.data;
    let [close, ping, pong] = counts.control;
    format!(
        "{continuation}/{text}/{binary} {close}/{ping}/{pong} messages={} payload={} code={:?} {}{}{}{}",
        counts.messages,
        counts.payload_bytes,
        counts.close_code,
        if scanner.at_boundary() { "boundary" } else { "inside" },
        if scanner.in_message() { " message" } else { "" },
        if scanner.close_seen() { " closed" } else { "" },
        if scanner.is_lost() { " lost" } else { "" },
    )
}

fn scan(pieces: &[&[u8]]) -> String {
    let (mut scanner, mut counts) = (Scanner::new(), Counts::default());
    for piece in pieces {
        scanner.scan(piece, &mut counts);
    }
    shown(&scanner, &counts)
}

#[track_caller]
fn check(bytes: &[u8], expected: &str) {
    assert_eq!(scan(&[bytes]), expected);
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(scan(&single), expected, "byte by byte");
    for split in 0..=bytes.len().min(400) {
        assert_eq!(scan(&[&bytes[..split], &bytes[split..]]), expected, "split at {split}");
    }
}

fn bytes(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

#[test]
fn a_direction() {
    let all = bytes(|out| {
        frame(Opcode::Text, b"hello", MASK, out);
        frame(Opcode::Binary, &[0; 126], None, out);
        frame(Opcode::Binary, &[0; 70_000], MASK, out);
        frame(Opcode::Text, b"", None, out);
        ping_frame(b"are you there", None, out);
        frame(Opcode::Pong, b"", MASK, out);
        close_frame(1001, "bye", MASK, out);
    });
    check(&all, "0/2/2 1/1/1 messages=4 payload=70149 code=Some(1001) boundary closed");
    let without_code = bytes(|out| frame(Opcode::Close, b"", None, out));
    check(&without_code, "0/0/0 1/0/0 messages=0 payload=0 code=Some(1005) boundary closed");
    check(b"\x88\x01x", "0/0/0 1/0/0 messages=0 payload=1 code=None boundary closed");
    check(b"\x88\x02\x03", "0/0/0 1/0/0 messages=0 payload=1 code=None inside closed");
}

#[test]
fn fragments() {
    check(b"\x01\x03abc", "0/1/0 0/0/0 messages=0 payload=3 code=None boundary message");
    check(b"\x01\x03abc\x89\x00\x00\x01d", "1/1/0 0/1/0 messages=0 payload=4 code=None boundary message");
    check(b"\x01\x03abc\x80\x01d", "1/1/0 0/0/0 messages=1 payload=4 code=None boundary");
    check(b"\xc1\x03abc", "0/1/0 0/0/0 messages=1 payload=3 code=None boundary");
    check(b"\x81\x03ab", "0/1/0 0/0/0 messages=0 payload=2 code=None inside message");
    check(b"\x81", "0/0/0 0/0/0 messages=0 payload=0 code=None inside");
    check(b"", "0/0/0 0/0/0 messages=0 payload=0 code=None boundary");
}

#[test]
fn nonsense() {
    let lost = |head: &[u8]| check(&[head, b"some more bytes"].concat(), NOTHING);
    lost(b"\x83\x01");
    lost(b"\x8b\x01");
    lost(b"\x8f\x01");
    lost(b"\xa1\x01");
    lost(b"\x91\x01");
    lost(b"\x09\x01");
    lost(b"\x89\x7e\x00\x7e");
    lost(b"\x82\x7f\x80\x00\x00\x00\x00\x00\x00\x00");
    lost(b"\x80\x00");
    lost(b"\x00\x00");
    lost(b"GET / HTTP/1.1\r\n\r\n");
    check(b"\x01\x00\x81\x00\x81\x00", "0/1/0 0/0/0 messages=0 payload=0 code=None inside message lost");
}

const NOTHING: &str = "0/0/0 0/0/0 messages=0 payload=0 code=None inside lost";

#[test]
fn frames_are_shown_and_can_stop_the_scan() {
    let all = bytes(|out| {
        frame(Opcode::Text, b"abc", MASK, out);
        ping_frame(b"x", None, out);
    });
    let (mut scanner, mut counts) = (Scanner::new(), Counts::default());
    assert_eq!(scanner.scan_frames(&all, &mut counts, |_| false), 6);
    assert_eq!(scanner.left_bytes(), 3);
    let mut seen = Vec::new();
    let rest = &all[6..];
    let used = scanner.scan_frames(rest, &mut counts, |frame| {
        seen.push(*frame);
        true
    });
    assert_eq!(used, rest.len());
    let ping = Frame {
        opcode: Opcode::Ping,
        is_final: true,
        mask: None,
        payload_bytes: 1,
        header_bytes: 2,
        payload_start: 5,
    };
    assert_eq!(seen, [ping]);
    assert_eq!(counts.messages, 1);
}

#[test]
fn it_is_small() {
    assert!(size_of::<Scanner>() <= 64, "{}", size_of::<Scanner>());
}

#[test]
fn noise_does_no_harm_however_it_is_split() {
    let mut random = 0x2545f4914f6cdd1du64;
    let mut next = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    for _ in 0..5_000 {
        let mut input = bytes(|out| {
            frame(Opcode::Text, b"hello", MASK, out);
            frame(Opcode::Binary, &[3; 130], None, out);
            close_frame(1000, "", MASK, out);
        });
        for _ in 0..next(4) {
            let at = next(input.len() as u64) as usize;
            input[at] = next(256) as u8;
        }
        let whole = scan(&[&input]);
        let first = next(input.len() as u64) as usize;
        let second = first + next((input.len() - first) as u64) as usize;
        let pieces = scan(&[&input[..first], &input[first..second], &input[second..]]);
        assert_eq!(pieces, whole, "{input:?} at {first}, {second}");
    }
}
