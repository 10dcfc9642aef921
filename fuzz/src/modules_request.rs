//! Any request through a configuration that does much with what a client sends: no panic, one line in the log, and no bytes of
//! the client's become a field or a line of their own.

use std::cell::RefCell;

use http::testing::TestServer;
use modules::MODULES;

use crate::{Target, texts};

pub(crate) const TARGET: Target =
    Target { name: "modules_request", run, samples: || texts(SAMPLES), words: WORDS };

/// Requests before a server is made anew, so that its log stays short.
const REQUESTS_MAX: u32 = 200;

thread_local! {
    static SERVER: RefCell<Option<(TestServer, u32)>> = const { RefCell::new(None) };
}

fn run(data: &[u8]) {
    // Taken out: after a panic the next request gets another.
    let served = SERVER.take().filter(|(_, count)| *count < REQUESTS_MAX);
    let (server, count) = served.unwrap_or_else(|| (TestServer::new(&config(), MODULES), 0));
    let before = server.world.log(LOG);
    let answer = server.ask(&framed(data));
    let log = server.world.log(LOG);

    // Location is a value here, which the front escapes as it writes it; the fields behind it are whole lines.
    let head = answer.text.split("\n\n").next().unwrap_or_default();
    let fields = head.find("X-Echo: ").map_or("", |at| &head[at..]);
    assert!(!fields.lines().any(|line| line.starts_with("Injected")), "{head}");
    assert!((200..600).contains(&answer.status) || answer.end == "abort", "{}", answer.status);
    let line = log.strip_prefix(&before).expect("a log grows at its end");
    assert!(line.ends_with('\n') && line.lines().count() == 1, "{line:?}");
    assert!(!line.trim_end().contains(|char: char| char.is_control()), "{line:?}");
    SERVER.set(Some((server, count + 1)));
}

/// Most changes break the frame of a request, about which other targets care: here it is put around what has none.
fn framed(data: &[u8]) -> Vec<u8> {
    let (line, rest) = data.split_at(data.iter().position(|byte| *byte == b'\r').unwrap_or(data.len()));
    let mut request = match line.windows(8).any(|part| part == b" HTTP/1.") {
        true => data.to_vec(),
        false => {
            let target = line.iter().filter(|byte| **byte > b' ' && **byte != 0x7f).copied();
            let target = b"GET /".iter().copied().chain(target);
            target.chain(*b" HTTP/1.1\r\nHost: a.test").chain(rest.iter().copied()).collect()
        }
    };
    if !request.windows(4).any(|part| part == b"\r\n\r\n") {
        request.extend_from_slice(b"\r\n\r\n");
    }
    request
}

const LOG: &str = "/log/access";

/// The files are those beside this one.
fn config() -> String {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
    format!(
        r#"
        log_format all '$remote_addr "$request" $status $body_bytes_sent $request_length "$http_referer" "$uri" "$args" '
            '"$host" "$arg_a" "$cookie_b" "$http_x_y" "$request_filename" "$document_uri" "$is_args" "$mapped" "$made" '
            '"$content_type" "$content_length" "$request_method" "$server_protocol" "$query_string" "$https" "$scheme"';
        access_log {LOG} all;
        error_log /log/error info;
        map $arg_a $mapped {{ default $http_x_y; ~^(?<word>[a-z]+)-(\d+) "$word/$2"; "" none; }}
        server {{
            listen 80; server_name a.test *.b.test ~^(?<sub>.+)\.c\.test$;
            root {root}; index lib.rs;
            add_header X-Echo "$uri|$args|$http_x_y|$mapped" always;
            set $made "$arg_a.$http_host";
            error_page 404 /page; error_page 403 =200 /page?$args; error_page 405 @named;
            location / {{ try_files $uri $uri.rs @named; }}
            location /page {{ return 200 "page $uri $args"; }}
            location @named {{ return 404 "$request_uri"; }}
            location /to {{ return 302 http://$host$uri?$args; }}
            location ~ ^/re/(?<name>.+?)/(\d*) {{ rewrite ^/re/(.*)$ /page?$1&n=$name break; return 200 "$name $2 $uri"; }}
            location ^~ /files/ {{ alias {root}/; expires 1h; add_trailer X-T "$uri"; }}
            location = /deny {{ return 403; }}
            location /if {{
                if ($http_x_y ~* "(a|b)+c") {{ return 200 "$1 $http_x_y"; }}
                if ($request_method = POST) {{ set $made $cookie_b; return 405; }}
                rewrite ^/if/(.*)$ /$1 last;
            }}
            location /limits {{ client_max_body_size 4; return 204; }}
            location /websocket {{ websocket off; }}
        }}
        server {{ listen 80; server_name other.test; merge_slashes off; absolute_redirect off; location /a/ {{ return 200 $uri; }}
                 return 301 $scheme://$http_host$request_uri; }}"#
    )
}

const SAMPLES: &[&[u8]] = &[
    b"GET /lib.rs HTTP/1.1\r\nHost: a.test\r\nRange: bytes=0-9,20-\r\nX-Y: aac\r\n\r\n",
    b"GET /files/play.rs?a=word-7 HTTP/1.1\r\nHost: x.b.test\r\nIf-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\nTE: trailers\r\n\r\n",
    b"POST /if/re/%2e%2e/7 HTTP/1.1\r\nHost: y.c.test:8080\r\nCookie: b=%0d%0aInjected: 1; c\r\nContent-Length: 5\r\n\r\nhello",
    b"GET /to/%0d%0aInjected:%201?a=%0aInjected HTTP/1.0\r\n\r\n",
    b"HEAD //a/../b//?x HTTP/1.1\r\nHost: other.test\r\nConnection: close\r\nReferer: \"x\"\r\n\r\n",
    b"PUT /limits HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"GET /websocket HTTP/1.1\r\nHost: a.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    b"GET /re/a%0Ab/12 HTTP/1.1\r\nHost: [::1]\r\nIf-None-Match: W/\"1-2\", *\r\nIf-Range: \"x\"\r\nRange: bytes=-5\r\n\r\n",
    b"GET /deny?%0D%0AInjected:1 HTTP/1.1\r\nHost: a.test\r\nX-Y: \xff\x01\"\\\r\n\r\n",
];

const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b" ",
    b"/",
    b"//",
    b"/..",
    b"%2e",
    b"%0d%0aInjected: 1",
    b"%00",
    b"%",
    b"?",
    b"&",
    b"=",
    b"#",
    b"a",
    b"-7",
    b"/re/",
    b"/if/",
    b"/to",
    b"/files/",
    b"/limits",
    b"/page",
    b"/deny",
    b".rs",
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"Host: a.test\r\n",
    b"Range: bytes=",
    b"0-",
    b",",
    b"18446744073709551615",
    b"If-None-Match: ",
    b"If-Modified-Since: ",
    b"If-Unmodified-Since: ",
    b"Cookie: b=",
    b"X-Y: ",
    b"aabbc",
    b"Content-Length: 3\r\n",
    b"Expect: 100-continue\r\n",
    b"\xc3\xa9",
    b"\x7f",
    b"\"",
];
