//! What upstreams answer: mostly right, bent as the requests are.

use super::parts::{Answer, Part, Then, scatter};
use crate::random::Random;

/// The accept value of the sample key.
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The plainest answer.
pub fn plain() -> Answer {
    let text = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    Answer { early: false, fits_head: true, parts: vec![Part::new(text)], then: Then::Stay }
}

/// Any answer.
pub fn answer(random: &mut Random) -> Answer {
    if random.percent(15) {
        return plain();
    }
    let mut parts = Vec::new();
    if random.percent(5) {
        interim(&mut parts, random);
    }
    let then = if random.percent(14) { switched(&mut parts, random) } else { response(&mut parts, random) };
    scatter(&mut parts, random);
    Answer { early: random.percent(4), fits_head: random.percent(85), parts, then }
}

fn interim(parts: &mut Vec<Part>, random: &mut Random) {
    for _ in 0..1 + random.below(2) {
        let status =
            random.pick(&["100 Continue", "102 Processing", "103 Early Hints", "103 Early Hints", "199 X"]);
        let field = random.pick(&[
            "",
            "Link: </a>\r\n",
            "X-A: 1\r\n",
            "Content-Length: 5\r\n",
            "Connection: close\r\n",
        ]);
        parts.push(Part::new(format!("HTTP/1.1 {status}\r\n{field}\r\n")));
    }
}

fn switched(parts: &mut Vec<Part>, random: &mut Random) -> Then {
    let mut push = |text: &str| parts.push(Part::new(latin(text)));
    push(random.mostly(
        85,
        &[
            "HTTP/1.1 101 Switching Protocols\r\n",
            "HTTP/1.0 101 X\r\n",
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 101\r\n",
            "HTTP/1.1 403 No\r\n",
        ],
    ));
    if random.percent(94) {
        push(random.mostly(
            85,
            &[
                "Upgrade: websocket\r\n",
                "Upgrade: WebSocket\r\n",
                "Upgrade: foo\r\n",
                "Upgrade: h2c\r\n",
                "Upgrade:\r\n",
            ],
        ));
    }
    if random.percent(92) {
        push(random.mostly(
            85,
            &[
                "Connection: Upgrade\r\n",
                "Connection: upgrade, close\r\n",
                "Connection: close\r\n",
                "Connection: keep-alive\r\n",
            ],
        ));
    }
    if random.percent(94) {
        push(&format!("Sec-WebSocket-Accept: {}\r\n", random.mostly(92, &[ACCEPT, "x", ""])));
    }
    for _ in 0..[0, 0, 0, 1, 2][random.below(5)] {
        push(&format!("{}\r\n", random.pick(FIELDS)));
    }
    push("\r\n");
    if random.percent(60) {
        push("\u{81}\u{02}hi");
    }
    random.mostly(70, &[Then::Stay, Then::Close])
}

fn response(parts: &mut Vec<Part>, random: &mut Random) -> Then {
    let mut push = |text: &str| parts.push(Part::new(latin(text)));
    let status = if random.percent(60) { "200 OK" } else { random.pick(STATUSES) };
    let version = if random.percent(93) { "HTTP/1.1" } else { random.pick(VERSIONS) };
    push(&format!("{version} {status}{}", random.mostly(97, &["\r\n", "\n", "\r\r\n"])));
    for _ in 0..[0, 0, 1, 1, 2, 3, 5][random.below(7)] {
        let end = random.mostly(98, &["\r\n", "\n", "\r\r\n", " \r\n", "\0\r\n"]);
        push(&format!("{}{end}", random.pick(FIELDS)));
    }
    if random.percent(1) {
        push(&format!("X-Long: {}\r\n", "v".repeat(random.pick(&[500, 900, 1000, 3000, 4090, 5000, 9000]))));
    }
    let body = body(random);
    let mut then = random.mostly(85, &[Then::Stay, Then::Close]);
    let bodiless = status.starts_with("204") || status.starts_with("304");
    let is_bare = bodiless && random.percent(70);
    match random.below(if is_bare { 1 } else { 20 }) {
        0 => push("\r\n"),
        1..=8 => {
            push(&format!("Content-Length: {}\r\n\r\n", body.len()));
            push(&body);
            if random.percent(4) {
                push(random.pick(&["extra", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbait", "\r\n"]));
            }
        }
        9..=13 => {
            push("Transfer-Encoding: chunked\r\n\r\n");
            chunks(parts, random);
        }
        14 | 15 => {
            then = Then::Close;
            push(&format!("\r\n{body}"));
        }
        16 => {
            push(&format!(
                "Content-Length: {}\r\n\r\n{body}",
                random.pick(&[
                    "0",
                    "1",
                    "5",
                    "+3",
                    "-1",
                    "3, 3",
                    "",
                    "x",
                    "03",
                    "3 ",
                    "99999999999999999999",
                    "0x3",
                    "18446744073709551615",
                    "9223372036854775807"
                ])
            ));
            then = Then::Close;
        }
        17 => {
            push(&format!(
                "Content-Length: 3\r\nContent-Length: {}\r\n\r\n{body}",
                random.pick(&["3", "4", "x"])
            ));
            then = random.pick(&[Then::Close, Then::Stay]);
        }
        18 => {
            push(&format!(
                "Transfer-Encoding: {}\r\n\r\n",
                random.pick(&[
                    "identity",
                    "gzip",
                    "gzip, chunked",
                    "Chunked",
                    "chunked ",
                    "chunked, chunked",
                    "",
                    "xchunked",
                    "chunked\r\nTransfer-Encoding: chunked",
                    "chunked\r\nTransfer-Encoding: gzip"
                ])
            ));
            chunks(parts, random);
            then = Then::Close;
        }
        _ => {
            push(random.pick(&[
                "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
                "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
            ]));
            chunks(parts, random);
        }
    }
    if random.percent(4) {
        let keep = random.below(parts.len()) + 1;
        parts.truncate(keep);
        then = Then::Close;
    }
    then
}

/// One char a byte.
fn latin(text: &str) -> Vec<u8> {
    text.chars().map(|char| char as u32 as u8).collect()
}

const VERSIONS: &[&str] = &[
    "HTTP/1.0",
    "HTTP/1.0",
    "HTTP/1.0",
    "HTTP/1.2",
    "HTTP/2.0",
    "HTTP/1.10",
    "HTTP/0.9",
    "HTTP/1.1 ",
    "http/1.1",
    "HTTP/1",
    "ICY",
];

const STATUSES: &[&str] = &[
    "200",
    "200 ",
    "200 Fine \u{e9}",
    "200  OK",
    "201 Created",
    "202 A",
    "203 N",
    "204 No Content",
    "204 No Content",
    "205 Reset Content",
    "206 Partial Content",
    "226 IM",
    "300 M",
    "301 Moved",
    "302 Found",
    "303 See",
    "304 Not Modified",
    "304 Not Modified",
    "307 T",
    "308 P",
    "400 Bad",
    "401 U",
    "403 F",
    "404 Not Found",
    "405 M",
    "412 P",
    "413 B",
    "416 R",
    "421 M",
    "429 T",
    "431 X",
    "444 N",
    "494 X",
    "497 X",
    "499 C",
    "500 Error",
    "500 Error",
    "502 Bad",
    "503 Busy",
    "504 T",
    "507 I",
    "599 X",
    "600 X",
    "999 X",
    "199 X",
    "100 Continue",
    "101 S",
    "103 E",
    "2000 X",
    "20 X",
    "200OK",
    "-200 X",
    "2x0 X",
    "",
    "299 X",
    "408 T",
    "415 U",
    "422 P",
];

const FIELDS: &[&str] = &[
    "Content-Type: text/plain",
    "Content-Type: text/html; charset=utf-8",
    "Content-Type: text/html; Charset=\"x\"",
    "Content-Type:",
    "content-type: TEXT/HTML",
    "Server: back",
    "Date: Mon, 01 Jan 2024 00:00:00 GMT",
    "Connection: close",
    "Connection: keep-alive",
    "Connection: x, close",
    "Connection: X-A",
    "Connection: upgrade",
    "Keep-Alive: timeout=5",
    "Location: http://127.0.0.1:%%U%%/x",
    "Location: /base/x",
    "Location: x",
    "Location: http://%%UP%%/x",
    "Location: http://%%UP%%/base/y?z",
    "Location: https://other/",
    "Location:",
    "Location: //other/",
    "Refresh: 3; url=http://%%UP%%/base/r",
    "Refresh: 3",
    "Set-Cookie: a=b; Domain=back; Path=/base/",
    "Set-Cookie: c=d",
    "Set-Cookie: e=f; secure; HttpOnly",
    "X-Accel-Redirect: /i/text.txt",
    "X-Accel-Redirect: /r/200?x=1",
    "X-Accel-Redirect: @named",
    "X-Accel-Redirect: /../x",
    "X-Accel-Redirect: /s/none",
    "X-Accel-Redirect:",
    "X-Accel-Redirect: /i/te%78t.txt",
    "X-Accel-Buffering: no",
    "X-Accel-Buffering: yes",
    "X-Accel-Expires: @1",
    "X-Accel-Expires: 0",
    "Last-Modified: Tue, 14 Nov 2023 22:13:20 GMT",
    "Last-Modified: x",
    "ETag: \"e\"",
    "ETag: W/\"e\"",
    "ETag: e",
    "Expires: 0",
    "Cache-Control: no-cache",
    "Cache-Control: max-age=1",
    "WWW-Authenticate: Basic",
    "Vary: *",
    "Vary: Accept",
    "Link: </a>",
    "Link: </b>",
    "Trailer: X-T",
    "Upgrade: websocket",
    "Content-Range: bytes 0-1/2",
    "Content-Encoding: gzip",
    "Content-Length: 2",
    "Pragma: x",
    "Age: 3",
    "Allow: GET",
    "Via: 1.1 x",
    "Status: 404 X",
    "P3P: x",
    "X-A: 1",
    "X-A: 2",
    "x_under: 1",
    "X A: 1",
    "X-A : 1",
    ": v",
    "X-A",
    "X-A:",
    "X-B:\t v \t",
    " folded",
    "X-Nul: a\0b",
    "X-Cr: a\rb",
    "X-Hi: \u{ff}",
    "X-\u{ff}: a",
    "X(A): 1",
    "X-D:  a  b  ",
    "X-Pad: a",
    "Expires: x",
    "Content-Disposition: a",
    "Retry-After: 1",
    "Content-Language: de",
    "MIME-Version: 1.0",
    "Transfer-Encoding: chunked",
    "Alt-Svc: x",
    "TE: x",
    "Set-Cookie2: x",
    "Strict-Transport-Security: x",
];

fn body(random: &mut Random) -> String {
    match random.below(14) {
        0 => String::new(),
        1 => "x".repeat(random.pick(&[100, 1000, 4000, 4096, 5000, 9000, 20000])),
        2 => "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbait".into(),
        3 => "0123456789abcdefghijklmnopqrstuvwxyz".into(),
        _ => "ok".into(),
    }
}

fn chunks(parts: &mut Vec<Part>, random: &mut Random) {
    let mut push = |text: String| parts.push(Part::new(latin(&text)));
    for _ in 0..random.below(4) {
        let data = body(random);
        if data.is_empty() {
            continue;
        }
        let size = if random.percent(96) {
            format!("{:x}", data.len())
        } else {
            random
                .pick(&[
                    "0x2",
                    "-1",
                    "g",
                    "",
                    " 2",
                    "fffffffffffffffff",
                    "2 ",
                    "02",
                    "+2",
                    "7fffffffffffffff",
                    "3",
                ])
                .into()
        };
        let extension = if random.percent(94) {
            ""
        } else {
            random.pick(&[";x", ";x=y", " ;x", ";a=\"b;c\"", ";\t", " ", ";\u{ff}", ";a\rb"])
        };
        let line_end = random.mostly(98, &["\r\n", "\n", "\r"]);
        let after = random.mostly(98, &["\r\n", "\n", "", "xx"]);
        push(format!("{size}{extension}{line_end}{data}{after}"));
    }
    if random.percent(92) {
        let trailers = if random.percent(85) {
            ""
        } else {
            random.pick(&[
                "X-T: 1\r\n",
                "Content-Length: 5\r\n",
                "X\r\n",
                ": a\r\n",
                "X-T: 1\n",
                "Set-Cookie: a=b\r\n",
                "X-T: \0\r\n",
            ])
        };
        push(format!(
            "{}\r\n{trailers}{}",
            random.mostly(95, &["0", "00", "0;x", "0 "]),
            random.mostly(
                96,
                &["\r\n", "\n", "", "\r\n\r\n", "\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbait"]
            )
        ));
    }
}
