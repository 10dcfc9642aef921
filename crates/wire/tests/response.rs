//! Response heads, chunks and trailers: rows, every split, and noise.

use tidegate_wire::http1::{
    Body, Chunk, ChunkDecoder, ChunkPrefix, Fields, ResponseError, ResponseHead, ResponseLimits, Resume,
    Step, Trailers, response,
};

fn outcome(buf: &[u8], head: &ResponseHead, result: Result<Step<usize>, ResponseError>) -> String {
    match result {
        Ok(Step::More) => "more".to_string(),
        Err(error) => error.message(buf),
        Ok(Step::Done(used)) => {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let fields: Vec<String> = head
                .fields
                .iter()
                .map(|field| format!("{}={}", text(field.name.of(buf)), text(field.value.of(buf))))
                .collect();
            let ignored: String = head
                .ignored
                .iter()
                .map(|pair| format!(" ({})", ResponseHead::ignored_text(pair, buf)))
                .collect();
            format!(
                "{used} {} {:?} {:?} close={} [{}]{ignored}",
                head.version.0,
                text(head.status_text.of(buf)),
                head.body(false),
                head.connection_close,
                fields.join("|"),
            )
        }
    }
}

fn in_steps(input: &[u8], ends: impl Iterator<Item = usize>, bytes_max: usize) -> String {
    let (mut head, mut resume) = (ResponseHead::default(), Resume::default());
    let limits = ResponseLimits { head_bytes_max: bytes_max };
    let mut last = String::new();
    for end in ends {
        let result = response(&input[..end], &mut head, &mut resume, &limits);
        let is_more = matches!(result, Ok(Step::More));
        last = outcome(&input[..end], &head, result);
        if !is_more {
            break;
        }
    }
    last
}

#[track_caller]
fn check(input: &str, expected: &str) {
    let input = input.as_bytes();
    assert_eq!(in_steps(input, [input.len()].into_iter(), 4096), expected);
    assert_eq!(in_steps(input, 0..=input.len(), 4096), expected, "byte by byte");
    for split in 0..input.len() {
        assert_eq!(in_steps(input, [split, input.len()].into_iter(), 4096), expected, "split {split}");
    }
}

#[test]
fn status_lines() {
    let row = |line: &str, expected: &str| check(&format!("{line}\r\n\r\n"), expected);
    row("HTTP/1.1 200 OK", "19 1001 \"200 OK\" UntilClose close=false []");
    row("HTTP/1.0 200", "16 1000 \"200\" UntilClose close=true []");
    row("HTTP/1.1   404 Not  Found ", "30 1001 \"404 Not  Found \" UntilClose close=false []");
    row("HTTP/1.1 403.1 IIS", "22 1001 \"403.1 IIS\" UntilClose close=false []");
    row("HTTP/1.12 304 x", "19 1012 \"304 x\" None close=false []");
    row("HTTP/2.0 204 x", "18 2000 \"204 x\" None close=false []");
    row("HTTP/80.1 204 x", "19 50001 \"204 x\" None close=false []");
    row("HTTP/999.999 204 x", "22 60999 \"204 x\" None close=false []");
    for bad in [
        "HTP/1.1 200",
        "HTTP/1.1 20x",
        "HTTP/1.1 2000",
        "HTTP/0.9 200",
        "HTTP/1000.0 200",
        "HTTP/1.1000 200",
        "HTTP/1 200",
        "HTTP/1.1\t200",
        "HTTP/1.1 200\rx",
    ] {
        row(bad, "upstream sent no valid HTTP/1.0 header");
    }
    check("HTTP/1.1 200 OK\n\n", "17 1001 \"200 OK\" UntilClose close=false []");
    check(
        "HTTP/1.1 103 x\r\nServer: a\r\nServer: b\r\n\r\n",
        "40 1001 \"103 x\" None close=false [Server=a|Server=b]",
    );
    check("HTTP/1.0 103 x\r\n\r\n", "upstream sent HTTP/1.0 response with early hints");
}

#[test]
fn fields() {
    let row = |fields: &str, expected: &str| check(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n"), expected);
    row("Content-Length: 5", "38 1001 \"200 OK\" Length(5) close=false [Content-Length=5]");
    row("content-length:0", "37 1001 \"200 OK\" None close=false [content-length=0]");
    row("Transfer-Encoding: Chunked", "47 1001 \"200 OK\" Chunked close=false [Transfer-Encoding=Chunked]");
    row("Connection: x, Close", "41 1001 \"200 OK\" UntilClose close=true [Connection=x, Close]");
    row("a_b: 1\r\no(dd: 2\r\nHTTP/1.1 200 OK", "53 1001 \"200 OK\" UntilClose close=false [a_b=1|o(dd=2]");
    row(
        "Server: a\r\nserver: b",
        "41 1001 \"200 OK\" UntilClose close=false [Server=a] \
         (upstream sent duplicate header line: \"server: b\", previous value: \"Server: a\", ignored)",
    );
    row(
        "Content-Length: 5\r\nContent-Length: 5",
        "upstream sent duplicate header line: \"Content-Length: 5\", previous value: \"Content-Length: 5\"",
    );
    row("Content-Length: 5x", "upstream sent invalid \"Content-Length\" header: \"Content-Length: 5x\"");
    let both = "upstream sent \"Content-Length\" and \"Transfer-Encoding\" headers at the same time";
    row("Content-Length: 5\r\nTransfer-Encoding: chunked", both);
    row("Transfer-Encoding: chunked\r\nContent-Length: 5", both);
    row("Transfer-Encoding: gzip, chunked", "upstream sent unknown \"Transfer-Encoding\": \"gzip, chunked\"");
    row("A: b\0c", "upstream sent invalid header: \"A: b\\x00...\"");
    row(" a: b", "upstream sent invalid header: \"\\x20...\"");
}

#[test]
fn a_head_too_big() {
    let text = b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n";
    for split in 0..text.len() {
        let with = |bytes_max| in_steps(text, [split, text.len()].into_iter(), bytes_max);
        assert!(with(text.len()).starts_with("25 "), "{split}");
        assert_eq!(with(text.len() - 1), "upstream sent too big header", "{split}");
    }
}

#[test]
fn bodies() {
    let with = |status| ResponseHead { status, content_length: Some(5), ..ResponseHead::default() };
    assert_eq!(with(200).body(true), Body::None);
    assert_eq!(with(200).body(false), Body::Length(5));
    for status in [100, 101, 103, 204, 304] {
        assert_eq!(with(status).body(false), Body::None);
    }
    assert!(with(100).is_interim() && with(103).is_interim());
    assert!(!with(101).is_interim() && !with(200).is_interim());
}

/// Decodes `input` in pieces: the data and how it ended.
fn decode(input: &[u8], pieces: &[usize], mut decoder: ChunkDecoder) -> String {
    let mut data = Vec::new();
    let mut start = 0;
    for &end in pieces {
        let mut at = start;
        loop {
            match decoder.step(&input[at..end]) {
                Err(_) => return format!("{} bad", String::from_utf8_lossy(&data)),
                Ok(Chunk::More) => break,
                Ok(Chunk::End(used)) => {
                    return format!("{} end {}", String::from_utf8_lossy(&data), at + used);
                }
                Ok(Chunk::Data(range)) => {
                    data.extend_from_slice(&input[at..end][range.clone()]);
                    at += range.end;
                }
            }
        }
        start = end;
    }
    format!("{} more", String::from_utf8_lossy(&data))
}

#[track_caller]
fn check_chunks(input: &str, expected: &str) {
    let input = input.as_bytes();
    assert_eq!(decode(input, &[input.len()], ChunkDecoder::new()), expected);
    let every: Vec<usize> = (0..=input.len()).collect();
    assert_eq!(decode(input, &every, ChunkDecoder::new()), expected, "byte by byte");
    for split in 0..input.len() {
        assert_eq!(decode(input, &[split, input.len()], ChunkDecoder::new()), expected, "split {split}");
    }
}

#[test]
fn chunks() {
    check_chunks("5\r\nhello\r\n0\r\n\r\nrest", "hello end 15");
    check_chunks(
        "A;x=\"y\"\r\n0123456789\r\n1 \t\r\n!\r\n000;z\r\nT: u\r\nV: w\r\n\r\n",
        "0123456789! end 50",
    );
    check_chunks("", " more");
    check_chunks("5\r\nhel", "hel more");
    check_chunks("5\nhello\r\n", " bad");
    check_chunks("5;x\nhello", " bad");
    check_chunks("5\r\nhello\n", "hello bad");
    check_chunks("5\r\nhello!", "hello bad");
    check_chunks("0\r\n\n", " bad");
    check_chunks("0\r\nT: u\n\r\n", " bad");
    check_chunks("0\n\r\n", " bad");
    check_chunks(" 5\r\n", " bad");
    check_chunks("-5\r\n", " bad");
    check_chunks("0x5\r\n", " bad");
    check_chunks("5x\r\n", " bad");
    check_chunks("7fffffffffffffff\r\nx", " bad");
    check_chunks("7ffffffffffffff0\r\nx", "x more");
    check_chunks("10000000000000005\r\nhello", " bad");
    let endless = format!("1;{}", "x".repeat(70_000));
    assert_eq!(decode(endless.as_bytes(), &[endless.len()], ChunkDecoder::new()), " bad");
}

#[test]
fn prefixes_are_read_again() {
    for size in [1, 9, 10, 15, 16, 255, 4096, 65536, u64::from(u32::MAX), 1 << 60] {
        let prefix = ChunkPrefix::new(size);
        let mut decoder = ChunkDecoder::new();
        assert_eq!(decoder.step(prefix.as_bytes()), Ok(Chunk::More));
        assert_eq!(decoder.left_in_chunk(), size);
    }
}

#[test]
fn trailers() {
    let input = b"1\r\nx\r\n0\r\nT: u\r\nETag: w\r\n\r\nnext";
    assert_eq!(decode(input, &[input.len()], ChunkDecoder::keep_trailers()), "x end 9");
    let rest = &input[9..];
    for split in 0..rest.len() {
        let (mut trailers, mut fields) = (Trailers::default(), Fields::default());
        let mut step = trailers.read(&rest[..split], &mut fields, 100);
        if step == Ok(Step::More) {
            step = trailers.read(rest, &mut fields, 100);
        }
        assert_eq!(step, Ok(Step::Done(rest.len() - 4)));
        let named: Vec<&[u8]> = fields.iter().map(|field| field.name.of(rest)).collect();
        assert_eq!(named, [&b"T"[..], b"ETag"]);
    }
    let too_big = Trailers::default().read(rest, &mut Fields::default(), 10);
    assert_eq!(too_big, Err(ResponseError::TooBigTrailers));
    let bad = Trailers::default().read(b"T: \0", &mut Fields::default(), 10).unwrap_err();
    assert_eq!(bad.message(b"T: \0"), "upstream sent invalid trailer: \"T: \\x00...\"");
}

#[test]
fn noise_does_no_harm() {
    let head = b"HTTP/1.1 200 OK\r\nServer: a\r\nContent-Length: 5\r\nConnection: close\r\n\r\n";
    let body = b"5\r\nhello\r\n3;x=y\r\nabc\r\n0\r\nT: u\r\n\r\n";
    let mut random = 0x9e3779b97f4a7c15u64;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % below as u64) as usize
    };
    for round in 0..20_000 {
        let mut input = if round % 2 == 0 { head.to_vec() } else { body.to_vec() };
        for _ in 0..=next(3) {
            let at = next(input.len());
            match next(3) {
                0 => input[at] = next(256) as u8,
                1 => input[at] = b"\r\n \0:;0f"[next(8)],
                _ => {
                    input.remove(at);
                }
            }
        }
        let split = next(input.len());
        let pieces = [split, input.len()];
        if round % 2 == 0 {
            let whole = in_steps(&input, [input.len()].into_iter(), 60);
            assert_eq!(
                in_steps(&input, pieces.into_iter(), 60),
                whole,
                "{} at {split}",
                input.escape_ascii()
            );
        } else {
            let whole = decode(&input, &[input.len()], ChunkDecoder::new());
            assert_eq!(
                decode(&input, &pieces, ChunkDecoder::new()),
                whole,
                "{} at {split}",
                input.escape_ascii()
            );
        }
    }
}
