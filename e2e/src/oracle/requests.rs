//! What clients send: mostly right, bent in every place where parsers have disagreed before.

use super::parts::{Part, scatter};
use crate::random::Random;

/// The sample key of RFC 6455, so that answers can know its accept value.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// One to four requests of one connection.
pub fn conversation(random: &mut Random) -> Vec<Part> {
    let mut parts = Vec::new();
    let count = [1, 1, 1, 2, 2, 3, 4][random.below(7)];
    for at in 0..count {
        request(&mut parts, at + 1 == count, random);
    }
    scatter(&mut parts, random);
    parts
}

fn request(parts: &mut Vec<Part>, is_last: bool, random: &mut Random) {
    let mut push = |bytes: String| parts.push(Part::new(latin(&bytes)));
    if random.percent(3) {
        push(random.pick(&["\r\n", "\n", "\r\n\r\n", "\r", " ", "\0", "\t"]).into());
    }
    let end = if random.percent(97) { "\r\n" } else { random.pick(&["\n", "\r\r\n", "\r", "\n\n"]) };
    let handshake = random.percent(14);
    let method = if handshake { random.mostly(94, &["GET", "POST", "HEAD"]) } else { method(random) };
    let target = if method == "CONNECT" && random.percent(60) {
        random.pick(&["a:80", "a", "[::1]:443", "a:", "/p/x", "127.0.0.1:1"]).to_owned()
    } else if handshake && random.percent(85) {
        format!("{}{}", random.pick(&["/w/", "/p/", "/b/", "/o/", "/v/", "/k/"]), random.pick(TAILS))
    } else {
        target(random)
    };
    let space = if random.percent(98) { " " } else { random.pick(&["  ", "\t", " \t", ""]) };
    let version = if random.percent(90) { "HTTP/1.1" } else { random.pick(VERSIONS) };
    let gap = if version.is_empty() && random.percent(60) { "" } else { " " };
    push(format!("{method}{space}{target}{gap}{version}{end}"));
    if version.is_empty() && random.percent(70) {
        return;
    }
    for line in fields(handshake, is_last, random) {
        let end =
            if random.percent(99) { end } else { random.pick(&["\n", "\r\r\n", "\r", "\0\r\n", " \r\n"]) };
        push(format!("{line}{end}"));
    }
    let body = random.percent(if matches!(method, "POST" | "PUT" | "PATCH") { 85 } else { 6 });
    let framing = if body { body_parts(random) } else { Vec::new() };
    let (lines, content) = match framing.split_first() {
        Some((lines, content)) => (lines.clone(), content.to_vec()),
        None => (Vec::new(), Vec::new()),
    };
    for line in lines {
        push(format!("{line}{end}"));
    }
    push(end.to_owned());
    for piece in content.into_iter().flatten() {
        push(piece);
    }
    if handshake && random.percent(25) {
        push("\u{81}\u{81}\0\0\0\0x".into());
    }
}

/// One char a byte.
fn latin(text: &str) -> Vec<u8> {
    text.chars().map(|char| char as u32 as u8).collect()
}

fn method(random: &mut Random) -> &'static str {
    if random.percent(88) {
        return random.pick(&["GET", "GET", "GET", "GET", "POST", "POST", "HEAD", "PUT"]);
    }
    random.pick(&[
        "DELETE",
        "OPTIONS",
        "PATCH",
        "PROPFIND",
        "MKCOL",
        "MOVE",
        "LOCK",
        "QUERY",
        "TRACE",
        "CONNECT",
        "get",
        "GeT",
        "G-T",
        "GET_",
        "G",
        "POSTT",
        "PRI",
        "M-SEARCH",
        "GET\0",
        "G\u{e9}T",
        "PURGE",
        "COPY",
        "UNLOCK",
        "PROPPATCH",
        "A_B-C",
        "ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGHIJ",
    ])
}

const VERSIONS: &[&str] = &[
    "HTTP/1.0",
    "HTTP/1.0",
    "HTTP/1.0",
    "HTTP/1.0",
    "",
    "HTTP/0.9",
    "HTTP/1.2",
    "HTTP/1.9",
    "HTTP/2.0",
    "HTTP/1.11",
    "HTTP/01.1",
    "HTTP/1.01",
    "HTTP/1.001",
    "http/1.1",
    "HTTP/1.",
    "HTTP/1",
    "HTTP/3.7",
    "HTTP/1.1 ",
    "HTTP/1.1\t",
    "HTTP/1.1 x",
    "HTTP/.1",
    "HTTP/10.1",
    "HTTP/1.1\0",
    "HTTP/0.8",
    "HTTP/1.99",
    "HTTP/1.100",
    "HTTP//1.1",
    "HTTPS/1.1",
    " HTTP/1.1",
    "HTTP/1.0 ",
];

/// The places of the configuration.
const PLACES: &[&str] = &[
    "/p/", "/q/", "/b/", "/o/", "/k/", "/w/", "/e/", "/h/", "/n/", "/s/", "/s/", "/r/", "/v/", "/t/", "/i/",
    "/x/", "/c/", "/", "/d/", "/f/", "/z/", "/g/",
];

const TAILS: &[&str] = &[
    "a",
    "a",
    "b",
    "",
    "text.txt",
    "text.txt",
    "index.html",
    "dir/",
    "dir",
    "empty",
    "big.bin",
    "none",
    "y/z",
    "a.re",
    "A.RE",
    "loop",
    "last",
    "redirect",
    "permanent",
    "cond",
    "break",
    "200",
    "204",
    "301",
    "302",
    "404",
    "444",
    "500",
    "503",
    "host",
    "var",
    "relative",
    "html",
    "self",
    "named",
    "chain",
];

const ODDITIES: &[&str] = &[
    "..",
    ".",
    "%2e%2e",
    "%2E",
    "%2f",
    "%2F",
    "%00",
    "%20",
    "%41",
    "%zz",
    "%",
    "%4",
    "%%41",
    "+",
    "//",
    "/./",
    "/../",
    "/.",
    "/..",
    ";",
    "\u{c3}\u{a9}",
    "\\",
    "~",
    "'",
    "\"",
    "<",
    "|",
    "^",
    "{",
    "`",
    "#frag",
    "#",
    "?",
    "?a=b&c",
    "?x=%20",
    "??",
    "?x=1",
    "\u{1}",
    "\u{7f}",
    "\u{ff}",
    "%7f",
    "%25",
    "%2525",
    "%3f",
    "%3F",
    "%23",
    "%0d%0a",
    "%c3%a9",
    "?a#b",
    "/a/b/../../c",
    "///",
    "/...",
    "/.a",
    "a%",
    "?%",
    "%5c",
    ":",
    "@",
    "=",
    "&",
    "?a=1&a=2&x=y",
    "?q=/../",
    "%2e/",
    "/%2e%2e/",
    "..;/",
    "*",
    "?x=\u{e9}",
    "?_=\t",
    "%e9",
    "?a=%zz",
    "?\"",
    "text.txt",
    "dir/",
];

fn target(random: &mut Random) -> String {
    let mut path = format!("{}{}", random.pick(PLACES), random.pick(TAILS));
    for _ in 0..[0, 0, 0, 0, 0, 1, 1, 2, 3][random.below(9)] {
        let oddity = random.pick(ODDITIES);
        let at = if random.percent(70) { path.len() } else { random.below(path.len() + 1) };
        let at = (0..=at).rev().find(|at| path.is_char_boundary(*at)).unwrap_or(0);
        path.insert_str(at, oddity);
    }
    if random.percent(1) {
        path += &"l".repeat(random.pick(&[100, 300, 600, 1100, 5000, 9000]));
    }
    match random.below(40) {
        0..=2 => format!("{}{}{path}", random.pick(SCHEMES), random.pick(AUTHORITIES)),
        3 => random
            .pick(&[
                "*",
                "http://a",
                "http://a?x=1",
                "a",
                "",
                "?x",
                "a/b",
                "%2f",
                "http:/a",
                "http:",
                "://",
                "/",
                "//",
                "http://a#x",
            ])
            .into(),
        _ => path,
    }
}

const SCHEMES: &[&str] = &[
    "http://",
    "http://",
    "http://",
    "HTTP://",
    "https://",
    "ftp://",
    "h+t-t.p://",
    "ht_tp://",
    "http:///",
    "1http://",
    "ws://",
];

const AUTHORITIES: &[&str] = &[
    "a",
    "a",
    "a",
    "b",
    "a:80",
    "a:",
    "a:99999",
    "user@a",
    "[::1]",
    "[::1]:80",
    "[::1",
    "a b",
    "",
    "A",
    "a..b",
    "a.",
    "127.0.0.1",
    "cfoo",
    "x.b",
    "a_b",
    "a%41",
    "-",
    "[::g]",
    "[]",
    "a:8a",
    "a~b",
    "a!$&'()*+,;=b",
];

fn fields(handshake: bool, is_last: bool, random: &mut Random) -> Vec<String> {
    let mut lines =
        vec![if random.percent(85) { "Host: a".to_owned() } else { format!("Host: {}", random.pick(HOSTS)) }];
    if random.percent(2) {
        lines.clear();
    }
    if random.percent(1) {
        lines.push(format!("Host: {}", random.pick(HOSTS)));
    }
    if handshake {
        lines.extend(upgrade(random));
    }
    for _ in 0..[0, 0, 0, 1, 1, 2, 3, 6][random.below(8)] {
        let at = random.below(lines.len() + 1);
        lines.insert(at, field(random));
    }
    if is_last && !handshake && random.percent(80) {
        lines.push("Connection: close".into());
    }
    lines
}

const HOSTS: &[&str] = &[
    "b",
    "b:80",
    "A",
    "a:80",
    "a.",
    "a:",
    "x.b",
    "X.B",
    "cfoo",
    "C42",
    "[::1]",
    "[::1]:80",
    "a/b",
    "a b",
    "a\tb",
    "",
    "a..b",
    "a@b",
    "-",
    "127.0.0.1",
    "..",
    ".",
    "a:b",
    "\u{c3}\u{a9}",
    "a:80:80",
    "a:65536",
    "a%2f",
    "a\0",
    "[::1",
    "::1",
    "[::g]",
    "[v1.a]",
    "a,b",
    "a ",
    "b.",
    ".b",
    "a_b",
    "a\\b",
    "a;b",
    "a?b",
    "a#b",
    "[a]",
    "[]",
    "[]:1",
    "a:0080",
    "a\u{1}",
    "a:80a",
    "[::1]x",
    "[::1]:",
    "!$&'()*+,;=",
    "a\u{7f}",
    "unknown.example",
];

fn upgrade(random: &mut Random) -> Vec<String> {
    let mut lines = vec![
        format!(
            "Upgrade: {}",
            random.mostly(
                88,
                &[
                    "websocket",
                    "WebSocket",
                    "h2c",
                    "websocket, h2c",
                    "",
                    "TLS/1.0",
                    "foo",
                    "websocket/13",
                    " websocket "
                ]
            )
        ),
        format!(
            "Connection: {}",
            random.mostly(
                85,
                &[
                    "Upgrade",
                    "upgrade",
                    "keep-alive, Upgrade",
                    "Upgrade, X-A",
                    "close, upgrade",
                    "upgrade;x",
                    "keep-alive",
                    "close",
                    "",
                    "UPGRADE,",
                    ",upgrade",
                    "\"upgrade\""
                ]
            )
        ),
        format!("Sec-WebSocket-Version: {}", random.mostly(94, &["13", "8", "13, 8", "", "013", "99"])),
        format!(
            "Sec-WebSocket-Key: {}",
            random.mostly(94, &[KEY, "x", "", "dGhlIHNhbXBsZSBub25jZQ", "AAAAAAAAAAAAAAAAAAAAAA=="])
        ),
    ];
    if random.percent(8) {
        lines.remove(random.below(lines.len()));
    }
    if random.percent(5) {
        let again = lines[random.below(lines.len())].clone();
        lines.push(again);
    }
    if random.percent(10) {
        lines.push(
            random
                .pick(&[
                    "Sec-WebSocket-Protocol: chat",
                    "Origin: http://a",
                    "Sec-WebSocket-Extensions: permessage-deflate",
                    "Content-Length: 0",
                    "Content-Length: 3",
                    "Transfer-Encoding: chunked",
                    "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA",
                ])
                .into(),
        );
    }
    lines
}

const FIELDS: &[&str] = &[
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
    "\tfolded",
    "X-Nul: a\0b",
    "X-Cr: a\rb",
    "X-Hi: \u{ff}",
    "X-\u{ff}: a",
    "X(A): 1",
    "X\"A: 1",
    "X-C:1",
    "X-D:  a  b  ",
    "Cookie: a=b",
    "Cookie: c=d; e",
    "User-Agent: t",
    "User-Agent: Mozilla/4.0 (compatible; MSIE 6.0; Windows)",
    "Accept-Encoding: gzip",
    "Referer: http://r/?a=\"b\"",
    "Authorization: Basic YTpi",
    "X-Forwarded-For: 1.2.3.4",
    "X-Forwarded-For: 5.6.7.8, 9",
    "TE: trailers",
    "TE: x",
    "Trailer: X-T",
    "Proxy-Connection: keep-alive",
    "Keep-Alive: 300",
    "Via: 1.0 x",
    "Date: Mon, 01 Jan 2024 00:00:00 GMT",
    "Depth: 0",
    "Upgrade: h2c",
    "Upgrade: websocket",
    "HTTP2-Settings: AA",
    "Connection: keep-alive",
    "Connection: Keep-Alive",
    "Connection: close",
    "Connection: CLOSE",
    "Connection: close, x",
    "Connection: keep-alive, close",
    "Connection: upgrade",
    "Connection:",
    "Connection: closed",
    "Connection: x-keep-alive",
    "Expect: 100-continue",
    "Expect: 100-Continue",
    "Expect: x",
    "Expect:",
    "Expect: 100-continue, x",
    "Range: bytes=0-0",
    "Range: bytes=0-4",
    "Range: bytes=5-",
    "Range: bytes=-5",
    "Range: bytes=0-4,7-9",
    "Range: bytes=99999-",
    "Range: bytes=4-2",
    "Range: bytes=",
    "Range: bytes=-0",
    "Range: bytes= 0-1 , 3-4",
    "Range: bytes=0-0,-1",
    "Range: BYTES=0-1",
    "Range: bytes=0-18446744073709551616",
    "Range: items=0-1",
    "Range: bytes=0-,0-,0-",
    "Range: bytes=a-b",
    "Range: bytes=0-1,",
    "Range: bytes=,0-1",
    "Range: bytes 0-1",
    "Range: bytes=1-1000000",
    "Range: bytes=35-35,0-0",
    "Range: bytes=36-",
    "Range: bytes=0-1,999-",
    "Range: bytes=-1000",
    "Range: bytes=0--1",
    "Range: bytes=+1-2",
    "If-Modified-Since: Tue, 14 Nov 2023 22:13:20 GMT",
    "If-Modified-Since: Tue, 14 Nov 2023 22:13:21 GMT",
    "If-Modified-Since: Mon, 13 Nov 2023 22:13:20 GMT",
    "If-Modified-Since: x",
    "If-Modified-Since: Tuesday, 14-Nov-23 22:13:20 GMT",
    "If-Modified-Since: Tue Nov 14 22:13:20 2023",
    "If-Modified-Since: Tue, 14 Nov 2023 22:13:20 GMT; length=1",
    "If-Unmodified-Since: Tue, 14 Nov 2023 22:13:20 GMT",
    "If-Unmodified-Since: Mon, 13 Nov 2023 22:13:20 GMT",
    "If-Unmodified-Since: x",
    "If-None-Match: \"6553f100-24\"",
    "If-None-Match: W/\"6553f100-24\"",
    "If-None-Match: *",
    "If-None-Match: \"x\", \"6553f100-24\"",
    "If-None-Match: \"x\"",
    "If-None-Match:",
    "If-None-Match: 6553f100-24",
    "If-None-Match: \"e\"",
    "If-Match: \"6553f100-24\"",
    "If-Match: *",
    "If-Match: \"x\"",
    "If-Match: W/\"6553f100-24\"",
    "If-Match: \"x\" , \"6553f100-24\" ,",
    "If-Range: \"6553f100-24\"",
    "If-Range: Tue, 14 Nov 2023 22:13:20 GMT",
    "If-Range: \"x\"",
    "If-Range: W/\"6553f100-24\"",
    "If-Range: Mon, 13 Nov 2023 22:13:20 GMT",
    "Content-Type: text/plain",
    "Accept: */*",
    "Accept-Language: de",
    "X-Real-IP: 9.9.9.9",
    "X-Forwarded-Host: evil",
    "X-Original-URL: /i/",
    "Content-Encoding: gzip",
    "Overwrite: T",
    "Destination: /x",
    "Max-Forwards: 0",
    "Cache-Control: no-cache",
    "Pragma: no-cache",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: identity",
    "Content-Length: 0",
    "Content-Length: 5",
    "content-length: 0",
    "Accept-Encoding: gzip, br",
    "Sec-WebSocket-Key: x",
    "Priority: u=1",
    "X-A: \"q\\\"",
    "X-E: ${host}",
    "Forwarded: for=1",
    "Early-Data: 1",
];

fn field(random: &mut Random) -> String {
    if random.percent(1) {
        return format!(
            "X-Long: {}",
            "v".repeat(random.pick(&[100, 250, 500, 1000, 2100, 4200, 8300, 9000]))
        );
    }
    random.pick(FIELDS).to_owned()
}

/// Field lines first, then the content's pieces.
fn body_parts(random: &mut Random) -> Vec<Vec<String>> {
    match random.below(20) {
        0..=7 => {
            let body = content(random);
            vec![vec![format!("Content-Length: {}", body.len())], vec![body]]
        }
        8..=13 => vec![vec!["Transfer-Encoding: chunked".into()], chunks(random)],
        14 => vec![vec![format!("Content-Length: {}", random.pick(LENGTHS))], vec![content(random)]],
        15 => vec![
            vec![
                "Content-Length: 3".into(),
                format!("Content-Length: {}", random.pick(&["3", "4", "0", ""])),
            ],
            vec!["abc".into()],
        ],
        16 => {
            let mut lines = vec![
                format!("Content-Length: {}", random.pick(&["3", "0", "5", "x"])),
                format!("Transfer-Encoding: {}", random.mostly(60, CODINGS)),
            ];
            if random.percent(50) {
                lines.swap(0, 1);
            }
            vec![lines, chunks(random)]
        }
        17 | 18 => vec![vec![format!("Transfer-Encoding: {}", random.pick(CODINGS))], chunks(random)],
        _ => vec![
            vec!["Transfer-Encoding: chunked".into(), format!("Transfer-Encoding: {}", random.pick(CODINGS))],
            chunks(random),
        ],
    }
}

const LENGTHS: &[&str] = &[
    "+3",
    "-1",
    "0x3",
    "3 ",
    "3, 3",
    "3;",
    "",
    " ",
    "03",
    "00000000000000000000003",
    "18446744073709551616",
    "9223372036854775807",
    "9223372036854775808",
    "3.0",
    "3\t",
    "1e1",
    "\u{b2}",
    "3 3",
];

const CODINGS: &[&str] = &[
    "chunked",
    "Chunked",
    "CHUNKED",
    "chunked ",
    "chunked, chunked",
    "gzip, chunked",
    "gzip",
    "identity",
    "chunked, identity",
    "",
    "\u{b}chunked",
    "chunked;x",
    "xchunked",
    "\"chunked\"",
    ",chunked",
    "chunked,",
    "chunked\t",
];

fn content(random: &mut Random) -> String {
    match random.below(12) {
        0 => String::new(),
        1 => "GET /p/bait HTTP/1.1\r\nHost: a\r\n\r\n".into(),
        2 => "x".repeat(random.pick(&[15, 16, 17, 19, 20, 21, 63, 64, 65, 127, 1000, 5000])),
        3 => "0\r\n\r\n".into(),
        _ => "abc".into(),
    }
}

fn chunks(random: &mut Random) -> Vec<String> {
    let mut parts = Vec::new();
    for _ in 0..random.below(4) {
        let data = content(random);
        if data.is_empty() {
            continue;
        }
        let size = if random.percent(94) { format!("{:x}", data.len()) } else { size(data.len(), random) };
        let line_end = random.mostly(97, &["\r\n", "\n", "\r", " \r\n", "\r\r\n"]);
        let after = random.mostly(97, &["\r\n", "\n", "", "xx", "\r", " \r\n", "\r\r\n"]);
        let extension = if random.percent(90) { "" } else { random.pick(EXTENSIONS) };
        parts.push(format!("{size}{extension}{line_end}{data}{after}"));
    }
    if random.percent(95) {
        let last =
            random.mostly(92, &["0", "00", "000000000000000000000", "0;x", "0 ", "0\t;a=b", "-0", "0x0"]);
        let trailers = if random.percent(88) { "" } else { random.pick(TRAILERS) };
        let ends = random.mostly(95, &["\r\n", "\n", "\r\n\r\n", "\r", "", "x\r\n"]);
        parts.push(format!("{last}\r\n{trailers}{ends}"));
    }
    parts
}

const EXTENSIONS: &[&str] = &[
    ";x",
    ";x=y",
    " ;x",
    ";a=\"b\"",
    ";a=\"b;c\"",
    ";\t",
    ";a=\"\\\"",
    " ",
    "\t",
    ";a=\u{ff}",
    ";\0",
    ";a\rb",
    "; GET /p/bait",
    ";a=\"\n\"",
    ";a=\"b",
];

const TRAILERS: &[&str] = &[
    "X-T: 1\r\n",
    "Content-Length: 5\r\n",
    "Host: b\r\n",
    "X\r\n",
    ": a\r\n",
    " a\r\n",
    "X-T: 1\n",
    "Transfer-Encoding: chunked\r\n",
    "X-T: \0\r\n",
    "X T: 1\r\n",
    "X-T: 1\r\nX-U: 2\r\n",
    "X-T: a\rb\r\n",
    "X-T:\u{ff}\r\n",
];

fn size(length: usize, random: &mut Random) -> String {
    match random.below(10) {
        0 => format!("0{length:x}"),
        1 => format!("0x{length:x}"),
        2 => format!(" {length:x}"),
        3 => format!("{length:X}"),
        4 => format!("+{length:x}"),
        5 => "-1".into(),
        6 => random
            .pick(&[
                "g",
                "",
                "fffffffffffffffff",
                "7fffffffffffffff",
                "8000000000000000",
                "ffffffffffffffff",
                "_3",
                "3_",
            ])
            .into(),
        7 => format!("{length:x}{}", random.pick(&["g", "h", ",", "=", "\0", "\u{b}"])),
        8 => format!("{:x}", length + 1),
        _ => format!("{:x}", length.saturating_sub(1)),
    }
}
