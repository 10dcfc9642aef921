//! The backend against a real WebSocket client, and against bytes that are none.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use serde_json::Value;
use tungstenite::{Error, Message, WebSocket, client::IntoClientRequest, protocol::frame::coding::CloseCode};

use super::{Backend, banner, config, page::PAGE};

/// Longer than anything here takes; reached only when something is broken.
const DEADLINE: Duration = Duration::from_secs(20);

#[test]
fn configuration_holds_the_lines_of_the_websocket_page() {
    let text = config("127.0.0.1:8080", "127.0.0.1:4001");
    let squeezed: Vec<&str> = text.split_whitespace().collect();
    let squeezed = squeezed.join(" ");
    for part in [
        "map $http_upgrade $connection_upgrade { default upgrade; '' close; }",
        "listen 127.0.0.1:8080;",
        "upstream demo { server 127.0.0.1:4001; }",
        "location /ws/ { proxy_pass http://demo; proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; \
         proxy_set_header Connection $connection_upgrade; }",
    ] {
        assert!(squeezed.contains(part), "{part:?} is not in\n{text}");
    }
}

#[test]
fn banner_names_the_url_and_the_next_steps() {
    let text = banner("http://127.0.0.1:8081/");
    for part in ["http://127.0.0.1:8081/", "tidegate -t -c", "tidegate proxy :8080 localhost:3000"] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    assert!(text.lines().all(|line| line.len() < 80), "fits a terminal");
}

#[test]
fn page_is_one_small_file_that_needs_nothing_else() {
    assert!(PAGE.len() < 30_000, "{} bytes", PAGE.len());
    for absent in ["/*page.css*/", "/*page.js*/", "src=\"http", "href=\"http", "@import", "url(", "innerHTML"]
    {
        assert!(!PAGE.contains(absent), "{absent:?} is in the page");
    }
}

#[test]
fn every_line_of_the_configuration_is_explained() {
    let notes = include_str!("page.js").split("const NOTES").nth(1).expect("the page has notes");
    for line in include_str!("demo.conf").lines().map(str::trim) {
        let name = line.split_whitespace().next().unwrap_or("}");
        let known =
            matches!(name, "#" | "}" | "events" | "http" | "''") || notes.contains(&format!("['{name}"));
        assert!(known, "no note for {line:?}");
    }
}

#[test]
fn plain_requests() {
    let backend = Backend::start().unwrap();
    backend.publish("# mine\n");
    let check = |request: &str, status: &str, part: &str| {
        let answer = exchange(&backend, request.as_bytes());
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request:?} got {answer:?}");
        assert!(answer.contains(part), "{request:?}: {part:?} is not in {answer:?}");
    };
    let end = "Host: demo\r\nConnection: close\r\n\r\n";
    check(&format!("GET / HTTP/1.1\r\n{end}"), "200", "<title>");
    check("GET /?a=b HTTP/1.0\r\n\r\n", "200", "Connection: close");
    check(&format!("GET /nginx.conf HTTP/1.1\r\n{end}"), "200", "\r\n\r\n# mine\n");
    check(&format!("GET /else HTTP/1.1\r\n{end}"), "404", "text/plain");
    check(&format!("POST / HTTP/1.1\r\n{end}"), "405", "Allow: GET, HEAD");
    check("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", "405", "Connection: close");
    check(&format!("GET /ws/echo HTTP/1.1\r\n{end}"), "426", "dropped the Upgrade");
    check(
        "GET /ws/echo HTTP/1.1\r\nUpgrade: websocket\r\nConnection: close, upgrade\r\n\r\n",
        "426",
        "Upgrade: websocket",
    );
    check("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /else HTTP/1.0\r\n\r\n", "200", "HTTP/1.1 404");
    check("\u{16}\u{3}\u{1}\u{2}\r\n\r\n", "400", "not an HTTP request");
    check(&format!("GET / HTTP/1.1\r\nLong: {}", "x".repeat(17 * 1024)), "431", "too large");
    check(&format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(65)), "431", "too large");

    let head = exchange(&backend, format!("HEAD / HTTP/1.1\r\n{end}").as_bytes());
    assert!(
        head.contains(&format!("Content-Length: {}\r\n", PAGE.len())) && head.ends_with("\r\n\r\n"),
        "{head:?}"
    );
}

#[test]
fn echo_returns_what_it_got() {
    let backend = Backend::start().unwrap();
    let mut client = connect(&backend, "/ws/echo");
    for message in [
        Message::text("tide"),
        Message::text(""),
        Message::binary(vec![7; 126]),
        Message::binary(vec![0; 70_000]),
        Message::binary(vec![255; 1024 * 1024]),
    ] {
        client.send(message.clone()).unwrap();
        assert!(client.read().unwrap() == message, "{} bytes came back different", message.len());
    }
    client.send(Message::Ping("are you there".into())).unwrap();
    assert_eq!(client.read().unwrap(), Message::Pong("are you there".into()));
    client.close(None).unwrap();
    assert!(matches!(client.read(), Ok(Message::Close(_))));
    assert!(matches!(client.read(), Err(Error::ConnectionClosed)));
}

#[test]
fn bytes_sent_with_the_handshake_are_not_lost() {
    let backend = Backend::start().unwrap();
    let mut both = HANDSHAKE.as_bytes().to_vec();
    both.extend([0x81, 0x82, 0, 0, 0, 0, b'h', b'i', 0x88, 0x80, 0, 0, 0, 0]);
    let answer = exchange(&backend, &both);
    assert!(
        answer.starts_with("HTTP/1.1 101") && answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        "{answer:?}"
    );
    assert!(answer.ends_with("\r\n\r\n\u{fffd}\u{2}hi\u{fffd}\u{0}"), "{answer:?}");
}

#[test]
fn broken_rules_end_with_their_close_code() {
    let backend = Backend::start().unwrap();
    let check = |bytes: &[u8], code: CloseCode| {
        let mut client = connect(&backend, "/ws/echo");
        client.get_mut().write_all(bytes).unwrap();
        match client.read() {
            Ok(Message::Close(Some(close))) => assert_eq!(close.code, code, "for {bytes:x?}"),
            other => panic!("{bytes:x?} got {other:?}"),
        }
    };
    check(&[0x82, 0xff, 0, 0, 0, 0, 1, 0, 0, 0, 1, 2, 3, 4], CloseCode::Size);
    check(&[0x81, 0x01, b'a'], CloseCode::Protocol); // not masked
    check(&[0xf1, 0x80, 0, 0, 0, 0], CloseCode::Protocol); // reserved bits
    check(&[0x81, 0x81, 0, 0, 0, 0, 0xff], CloseCode::Invalid); // not UTF-8
    check(&[0x83, 0x80, 0, 0, 0, 0], CloseCode::Protocol); // reserved opcode
}

#[test]
fn random_bytes_end_one_connection_and_nothing_else() {
    let backend = Backend::start().unwrap();
    let mut seed = 0x2545_f491_4f6c_dd1d_u64; // xorshift: the same bytes in every run
    let mut random = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for round in 0..200 {
        let noise: Vec<u8> = (0..random() % 300).map(|_| random() as u8).collect();
        let mut stream = dial(&backend);
        if round % 2 == 0 {
            let path = if round % 4 == 0 { "/ws/chat" } else { "/ws/echo" };
            stream.write_all(HANDSHAKE.replace("/ws/echo", path).as_bytes()).unwrap();
        }
        // The backend may be gone before it has taken or read everything.
        let _ = stream.write_all(&noise).and_then(|()| stream.shutdown(std::net::Shutdown::Write));
        let _ = stream.read_to_end(&mut Vec::new());
    }
    let mut client = connect(&backend, "/ws/echo");
    client.send(Message::text("still here")).unwrap();
    assert_eq!(client.read().unwrap(), Message::text("still here"));
}

#[test]
fn one_connection_too_many_is_told_so() {
    let backend = Backend::start().unwrap();
    let crowd: Vec<TcpStream> = (0..256).map(|_| dial(&backend)).collect();
    assert!(exchange(&backend, b"").starts_with("HTTP/1.1 503"));
    drop(crowd);
    let until = Instant::now() + DEADLINE;
    let served = |answer: io::Result<String>| answer.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"));
    // Refused before it was read, a request may end in a reset instead of the 503.
    while !served(try_exchange(&backend, b"GET /nginx.conf HTTP/1.0\r\n\r\n")) {
        assert!(Instant::now() < until, "the seats were not given back");
    }
}

#[test]
fn chat_carries_lines_from_tab_to_tab() {
    let backend = Backend::start().unwrap();
    let mut first = connect(&backend, "/ws/chat");
    let hello = event(&mut first, "welcome");
    assert_eq!((&hello["here"], &hello["history"]), (&1.into(), &Value::Array(vec![])));

    let mut second = connect(&backend, "/ws/chat");
    let welcome = event(&mut second, "welcome");
    assert_eq!(welcome["here"], 2);
    assert_ne!(welcome["name"], hello["name"]);
    assert_eq!(event(&mut first, "joined")["name"], welcome["name"]);

    second.send(Message::text("  <b>hi</b> \u{1f30a} ")).unwrap();
    for client in [&mut first, &mut second] {
        let said = event(client, "say");
        assert_eq!((&said["name"], said["text"].as_str()), (&welcome["name"], Some("<b>hi</b> \u{1f30a}")));
    }
    second.send(Message::text("x".repeat(2000))).unwrap();
    assert_eq!(event(&mut first, "say")["text"].as_str().map(str::len), Some(500));

    second.close(None).unwrap();
    assert_eq!(event(&mut first, "left")["here"], 1);
    let mut third = connect(&backend, "/ws/chat");
    assert_eq!(event(&mut third, "welcome")["history"].as_array().map(Vec::len), Some(2));
}

#[test]
fn a_member_that_never_reads_is_put_out() {
    let backend = Backend::start().unwrap();
    let mut sleeper = connect(&backend, "/ws/chat");
    event(&mut sleeper, "welcome");
    let mut speaker = connect(&backend, "/ws/chat");
    let line = "\u{1f30a}".repeat(500);
    let until = Instant::now() + DEADLINE;
    loop {
        assert!(Instant::now() < until, "the sleeper is still seated");
        speaker.send(Message::text(line.as_str())).unwrap();
        let Message::Text(text) = speaker.read().unwrap() else { continue };
        if text.contains("\"left\"") {
            return;
        }
    }
}

#[test]
fn dropping_the_backend_ends_its_tunnels() {
    let backend = Backend::start().unwrap();
    let addr = backend.addr();
    let mut client = connect(&backend, "/ws/echo");
    drop(backend);
    assert!(client.read().is_err());
    assert!(TcpStream::connect(addr).is_err(), "nobody listens any more");
}

const HANDSHAKE: &str = "GET /ws/echo HTTP/1.1\r\nHost: demo\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

fn dial(backend: &Backend) -> TcpStream {
    let stream = TcpStream::connect(backend.addr()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// Sends bytes and reads to the end; what is not UTF-8 becomes U+FFFD.
fn exchange(backend: &Backend, bytes: &[u8]) -> String {
    try_exchange(backend, bytes).unwrap()
}

fn try_exchange(backend: &Backend, bytes: &[u8]) -> io::Result<String> {
    let mut stream = dial(backend);
    stream.write_all(bytes)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn connect(backend: &Backend, path: &str) -> WebSocket<TcpStream> {
    let request = format!("ws://{}{path}", backend.addr()).into_client_request().unwrap();
    tungstenite::client(request, dial(backend)).unwrap().0
}

/// The next chat event, which must be of this type.
fn event(client: &mut WebSocket<TcpStream>, expected: &str) -> Value {
    let text = client.read().unwrap().into_text().unwrap();
    let event: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(event["type"], expected, "in {text}");
    event
}
