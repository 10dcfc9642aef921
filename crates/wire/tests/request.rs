//! Request heads, row by row: what comes out, that splitting the input changes nothing, and that noise does no harm.

use tidegate_wire::Span;
use tidegate_wire::http1::{HeadLimits, Method, RequestError, RequestHead, Resume, Step, Version, request};

/// The outcome in one line.
fn outcome(buf: &[u8], head: &RequestHead, result: Result<Step<usize>, RequestError>) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match result {
        Ok(Step::More) => "more".to_string(),
        Err(error) => format!("{} {}", error.status(), error.log_text(buf)),
        Ok(Step::Done(used)) => {
            let mut host = Vec::new();
            if let Some(found) = head.host {
                found.lower_to(buf, &mut host);
            }
            let fields: Vec<String> = head
                .fields
                .iter()
                .map(|field| format!("{}={}", text(field.name.of(buf)), text(field.value.of(buf))))
                .collect();
            format!(
                "{used} {} {} path={} args={} host={} keep={} body={:?}/{} [{}]",
                text(head.method_name.of(buf)),
                text(head.target.of(buf)),
                text(head.path(buf)),
                text(head.args(buf)),
                text(&host),
                head.keepalive(),
                head.content_length,
                head.chunked,
                fields.join("|"),
            )
        }
    }
}

fn whole(input: &[u8], limits: &HeadLimits) -> String {
    let mut head = RequestHead::default();
    let result = request(input, &mut head, &mut Resume::default(), limits);
    outcome(input, &head, result)
}

/// Feeds `input` in two pieces, or byte by byte; stops at the first answer.
fn in_steps(input: &[u8], ends: impl Iterator<Item = usize>, limits: &HeadLimits) -> String {
    let mut head = RequestHead::default();
    let mut resume = Resume::default();
    let mut last = String::new();
    for end in ends {
        let result = request(&input[..end], &mut head, &mut resume, limits);
        let is_more = matches!(result, Ok(Step::More));
        // The rest of the buffer is shown so that a message may quote the line as it would in one piece.
        last = outcome(&input[..end], &head, result);
        if !is_more {
            break;
        }
    }
    last
}

#[track_caller]
fn check_with(limits: &HeadLimits, input: &[u8], expected: &str) {
    let shown = String::from_utf8_lossy(input);
    assert_eq!(whole(input, limits), expected, "{shown:?}");
    assert_eq!(in_steps(input, 0..=input.len(), limits), expected, "byte by byte: {shown:?}");
    for split in 0..input.len() {
        assert_eq!(
            in_steps(input, [split, input.len()].into_iter(), limits),
            expected,
            "split {split}: {shown:?}"
        );
    }
}

#[track_caller]
fn check(input: &str, expected: &str) {
    check_with(&HeadLimits::default(), input.as_bytes(), expected);
}

#[test]
fn targets() {
    check(
        "GET / HTTP/1.1\r\nHost: A.example:80\r\n\r\nrest",
        "38 GET / path=/ args= host=a.example keep=true body=None/false [Host=A.example:80]",
    );
    check(
        "\r\n\r\nGET /a/../b%20c?d=%20e#f HTTP/1.0\n\n",
        "39 GET /a/../b%20c?d=%20e#f path=/b c args=d=%20e host= keep=false body=None/false []",
    );
    check(
        "GET http://Host.example:8080/x?y HTTP/1.1\r\nHost: other\r\n\r\n",
        "58 GET /x?y path=/x args=y host=host.example keep=true body=None/false [Host=other]",
    );
    check("GET http://h HTTP/1.0\r\n\r\n", "25 GET / path=/ args= host=h keep=false body=None/false []");
    check("GET http://h?x HTTP/1.0\r\n\r\n", "27 GET ?x path=/ args=x host=h keep=false body=None/false []");
    check("GET /x\r\nHost: a\r\n\r\n", "8 GET /x path=/x args= host= keep=false body=None/false []");
    check("GET /x  \n", "9 GET /x path=/x args= host= keep=false body=None/false []");
    check("GET /x HT", "more");
    check("\r\n", "more");
}

#[test]
fn refused_lines() {
    let line = "while reading client request line";
    check("get / HTTP/1.1\r\n", &format!("400 client sent invalid method {line}"));
    check("\x16\x03\x01", &format!("400 client sent invalid method {line}"));
    check("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &format!("400 client sent invalid request {line}"));
    check("GET / HTTP/2.0\r\n", &format!("505 client sent invalid version {line}"));
    check("GET / HTTP/10", &format!("505 client sent invalid version {line}"));
    check("POST /x\r\n", &format!("400 client sent invalid method in HTTP/0.9 request {line}"));
    check("GET /../x HTTP/1.1\r\n", &format!("400 client sent invalid request {line}"));
    check("GET http:///x HTTP/1.1\r\n", &format!("400 client sent invalid host in request line {line}"));
    check("GET / HTTP/1.1\rX", &format!("400 client sent invalid request {line}"));
}

#[test]
fn refused_fields() {
    let row = |fields: &str, expected: &str| {
        let expected = format!("{expected} while reading client request headers");
        check(&format!("GET / HTTP/1.1\r\n{fields}\r\n\r\n"), &expected);
    };
    row("X: 1", "400 client sent HTTP/1.1 request without \"Host\" header");
    row("Host:", "400 client sent invalid host header");
    row(
        "Host: a\r\nhost: b",
        "400 client sent duplicate host header: \"host: b\", previous value: \"Host: a\"",
    );
    row("Host: a\r\n fold", "400 client sent invalid header line: \"\\x20...\"");
    row("Host: a\r\nX: y\rz", "400 client sent invalid header line: \"X: y\\x0d...\"");
    row("Host: a\r\nX: y\0z", "400 client sent invalid header line: \"X: y\\x00...\"");
    row("Host: a\r\n: y", "400 client sent invalid header line: \"\\x3a...\"");
    row("Host: a\r\nX : y", "400 client sent invalid header line: \"X\\x20...\"");
    row(
        "Host: a\r\nContent-Length: 1\r\nContent-Length: 1",
        "400 client sent duplicate header line: \"Content-Length: 1\", previous value: \"Content-Length: 1\"",
    );
    row("Host: a\r\nContent-Length: +1", "400 client sent invalid \"Content-Length\" header");
    row(
        "Host: a\r\nContent-Length: 9223372036854775808",
        "400 client sent invalid \"Content-Length\" header",
    );
    row("Host: a\r\nTransfer-Encoding: gzip", "501 client sent unknown \"Transfer-Encoding\": \"gzip\"");
    row(
        "Host: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1",
        "400 client sent \"Content-Length\" and \"Transfer-Encoding\" headers at the same time",
    );
}

#[test]
fn kept_fields() {
    check(
        "GET / HTTP/1.1\nHost: a\nX-A:  b c \t \r\r\nEmpty:\r\nNoColon\r\nunder_score: 1\r\nodd(name: 2\r\n\r\n",
        "86 GET / path=/ args= host=a keep=true body=None/false [Host=a|X-A=b c \t|Empty=|NoColon=]",
    );
    let limits = HeadLimits { underscores: true, ignore_invalid: false, ..HeadLimits::default() };
    check_with(
        &limits,
        b"GET / HTTP/1.0\nunder_score: 1\r\nodd(name: 2\r\n\r\n",
        "46 GET / path=/ args= host= keep=false body=None/false [under_score=1|odd(name=2]",
    );
}

#[test]
fn connection() {
    let row = |fields: &str, expected: bool| {
        let input = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n");
        let mut head = RequestHead::default();
        let step = request(input.as_bytes(), &mut head, &mut Resume::default(), &HeadLimits::default());
        assert!(matches!(step, Ok(Step::Done(_))));
        assert_eq!(head.keepalive(), expected, "{fields}");
        head.connection_upgrade
    };
    assert!(!row("Connection: keep-alive", true));
    assert!(!row("Connection: x-Close-y", false));
    assert!(!row("Connection: close\r\nConnection: keep-alive", true));
    assert!(row("Connection: close\r\nConnection: Upgrade", false));
    assert!(row("Connection: keep-alive, upgrade", true));
}

#[test]
fn heads_of_other_protocols_fill_the_same_form() {
    let buf = b"/a/../b?c=dhosth.examplecontent-length7";
    let span = |start: u32, len: u32| Span { start, len };
    let limits = HeadLimits::default();
    let mut head = RequestHead::default();
    (head.method, head.version) = (Method::Post, Version::V20);
    head.set_target(buf, span(0, 11), &limits).unwrap();
    head.push_field(buf, span(11, 4), span(15, 9), &limits).unwrap();
    head.push_field(buf, span(24, 14), span(38, 1), &limits).unwrap();
    head.finish(buf, &limits).unwrap();
    assert_eq!((head.path(buf), head.args(buf)), (&b"/b"[..], &b"c=d"[..]));
    assert_eq!(head.content_length, Some(7));
    assert_eq!(head.host.map(|host| host.name), Some(span(15, 9)));
    for bad in ["", "x", "/a b", "/a\n", "/..", "/\x7f"] {
        let result = head.set_target(bad.as_bytes(), span(0, bad.len() as u32), &limits);
        assert_eq!(result, Err(RequestError::InvalidRequest), "{bad:?}");
    }
}

#[test]
fn limits() {
    let limits = HeadLimits {
        first_buffer_bytes: 20,
        line_bytes_max: 30,
        buffers_max: 2,
        count_max: 2,
        ..HeadLimits::default()
    };
    let line = |len: usize| format!("GET /{} HTTP/1.1\r\n", "x".repeat(len - 16));
    let too_long = "414 client sent too long URI while reading client request line";
    check_with(&limits, line(31).as_bytes(), too_long);
    check_with(&limits, &line(31).as_bytes()[..30], too_long);
    check_with(&limits, line(30).as_bytes(), "more");
    let x = "x".repeat(25);
    let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{x}: 1\r\n");
    let too_long = format!(
        "494 client sent too long header line: \"{x}: 1\r\n...\" while reading client request headers"
    );
    check_with(&limits, text.as_bytes(), &too_long);
    let text = "GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 2\r\n\r\n";
    let too_many = "494 client sent too many header lines while reading client request headers";
    check_with(&limits, text.as_bytes(), too_many);
}

#[test]
fn noise_does_no_harm() {
    let seeds: [&[u8]; 3] = [
        b"GET /a/../b?c=d HTTP/1.1\r\nHost: x.example:80\r\nConnection: keep-alive, Upgrade\r\nContent-Length: 5\r\n\r\nhello",
        b"CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]\r\n\r\n",
        b"POST http://h:1/%41?x#y HTTP/1.0\nTransfer-Encoding: chunked\n\n",
    ];
    let mut random = 0x9e3779b97f4a7c15u64;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % below as u64) as usize
    };
    let limits = HeadLimits { first_buffer_bytes: 40, line_bytes_max: 60, ..HeadLimits::default() };
    for round in 0..20_000 {
        let mut input = seeds[round % seeds.len()].to_vec();
        for _ in 0..=next(4) {
            let at = next(input.len());
            match next(4) {
                0 => input[at] = next(256) as u8,
                1 => input[at] = b"\r\n \0:/.%#?_"[next(11)],
                2 => {
                    input.remove(at);
                }
                _ => input.insert(at, b"\r\n \0:/.%#?_"[next(11)]),
            }
        }
        let limits = if round % 2 == 0 { &limits } else { &HeadLimits::default() };
        let expected = whole(&input, limits);
        let split = next(input.len());
        let stepped = in_steps(&input, [split, input.len()].into_iter(), limits);
        assert_eq!(stepped, expected, "round {round} split {split}: {input:?}");
    }
}
