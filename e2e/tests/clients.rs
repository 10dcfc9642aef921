//! Everybody's clients and servers through both configurations of nginx's WebSocket page, and a real browser on the demo.
#![forbid(unsafe_code)]

use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::{fs, thread};

use serde_json::json;
use tidegate_e2e::browser::Browser;
use tidegate_e2e::places;
use tidegate_e2e::programs::{Dialogue, Running, node, python, says_ok, script, wait_until};
use tidegate_e2e::proxy::{Kind, Place, Proxy, whole};
use tidegate_e2e::temp::TempDir;
use tidegate_e2e::ws::KEY;
use tungstenite::{Message, accept, connect};

/// The page's first example.
const PLAIN: &str = "
    server {
        listen 127.0.0.1:%%PORT%%;
        location /chat/ {
            proxy_pass http://127.0.0.1:%%U%%;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection \"upgrade\";
        }
    }";

/// The page's second example: the map, and an upstream block.
const MAP: &str = "
    map $http_upgrade $connection_upgrade {
        default upgrade;
        ''      close;
    }
    upstream backend { server 127.0.0.1:%%U%%; }
    server {
        listen 127.0.0.1:%%PORT%%;
        location /chat/ {
            proxy_pass http://backend;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
        }
    }";

fn start(kind: Kind, config: &str) -> Proxy {
    Proxy::start(kind, Place::new(&["PORT", "U"]), &whole(config))
}

fn url(proxy: &Proxy) -> String {
    format!("ws://127.0.0.1:{}/chat/", proxy.place.port("PORT").number())
}

fn tungstenite(kind: Kind, config: &str) {
    let proxy = start(kind, config);
    let listener = proxy.place.port("U").listen();
    thread::spawn(move || tungstenite_echo(&listener));
    let (mut socket, response) = connect(url(&proxy)).expect("a tunnel");
    assert_eq!(response.status(), 101);
    for size in [0, 1, 125, 126, 65_535, 65_536, 1_000_000] {
        let message = Message::binary(vec![size as u8; size]);
        socket.send(message.clone()).expect("an open tunnel");
        assert!(socket.read().expect("an echo") == message, "{size} bytes came back otherwise");
    }
    socket.close(None).expect("an open tunnel");
    while let Ok(message) = socket.read() {
        assert!(message.is_close(), "only the answer to our Close is left: {message:?}");
    }
}

fn tungstenite_echo(listener: &TcpListener) {
    let (stream, _) = listener.accept().expect("the proxy connects");
    let mut socket = accept(stream).expect("a handshake");
    while let Ok(message) = socket.read() {
        if message.is_binary() {
            socket.send(message).expect("an open tunnel");
        }
    }
}

fn python_websockets(kind: Kind, config: &str) {
    let proxy = start(kind, config);
    let server = Running::start(python().arg(script("echo_server.py")), &proxy);
    says_ok(python().arg(script("echo_client.py")).arg(url(&proxy)));
    drop(server);
}

fn node_ws(kind: Kind, config: &str) {
    let proxy = start(kind, config);
    let server = Running::start(node().arg(script("echo_server.cjs")), &proxy);
    says_ok(node().arg(script("echo_client.cjs")).arg(url(&proxy)));
    drop(server);
}

/// A client of one library, a server of another.
fn python_client_node_server(kind: Kind, config: &str) {
    let proxy = start(kind, config);
    let server = Running::start(node().arg(script("echo_server.cjs")), &proxy);
    says_ok(python().arg(script("echo_client.py")).arg(url(&proxy)));
    drop(server);
}

/// Requests first and the upgrade then, and the handshake alone.
fn socket_io(kind: Kind, config: &str) {
    let proxy = start(kind, config);
    let server = Running::start(node().arg(script("socket_io_server.cjs")), &proxy);
    let mut client = Dialogue::start(node().arg(script("socket_io_client.cjs")));
    for transports in [json!(["polling", "websocket"]), json!(["websocket"])] {
        let said = client.ask(&json!({ "url": url(&proxy), "transports": transports }));
        assert_eq!(said, json!({ "status": 101, "transport": "websocket" }), "{transports}");
    }
    drop(server);
}

/// curl has no frames of its own here: it shows the handshake, which is what people try first.
fn curl_handshake(kind: Kind, config: &str) {
    let proxy = start(kind, config);
    let listener = proxy.place.port("U").listen();
    thread::spawn(move || tungstenite_echo(&listener));
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--include", "--no-buffer", "--max-time", "2", "--http1.1"]);
    for header in ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"] {
        curl.args(["--header", header]);
    }
    curl.args(["--header", &format!("Sec-WebSocket-Key: {KEY}")]);
    let output = curl.arg(url(&proxy).replace("ws://", "http://")).output().expect("curl runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{text}");
    assert!(text.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{text}");
}

macro_rules! with_both {
    ($($name:ident),*) => {
        mod tidegate {
            use super::{Kind, MAP, PLAIN};
            mod plain { $(#[test] fn $name() { crate::$name(super::Kind::Tidegate, super::PLAIN); })* }
            mod map { $(#[test] fn $name() { crate::$name(super::Kind::Tidegate, super::MAP); })* }
        }
        mod nginx {
            use super::{Kind, MAP, PLAIN};
            mod plain { $(#[test] fn $name() { crate::$name(super::Kind::Nginx, super::PLAIN); })* }
            mod map { $(#[test] fn $name() { crate::$name(super::Kind::Nginx, super::MAP); })* }
        }
    };
}

with_both!(tungstenite, python_websockets, node_ws, python_client_node_server, socket_io, curl_handshake);

/// `tidegate proxy LISTEN BACKEND` serves, and so does the file it prints, which nginx's own `-t` words approve.
#[test]
fn proxy_without_a_file() {
    let place = Place::new(&["PORT", "U"]);
    let listener = place.port("U").listen();
    thread::spawn(move || {
        loop {
            tungstenite_echo(&listener)
        }
    });
    let (listen, backend) = (
        format!("127.0.0.1:{}", place.port("PORT").number()),
        format!("localhost:{}", place.port("U").number()),
    );
    let proxy = |more: &[&str]| {
        let mut proxy = Command::new(places::tidegate());
        proxy.current_dir(place.dir.path()).arg("proxy").args(more).args([&listen, &backend]);
        proxy
    };
    let works = || {
        wait_until("the proxy to listen", || TcpStream::connect(place.port("PORT").address()).is_ok());
        let (mut socket, _) = connect(format!("ws://{listen}/any/path")).expect("a tunnel");
        socket.send(Message::binary("hello")).expect("an open tunnel");
        assert_eq!(socket.read().expect("an echo"), Message::binary("hello"));
    };
    let said = fs::File::create(place.dir.path().join("said")).expect("our own directory");
    let mut command = proxy(&[]);
    command.stdin(Stdio::null()).stdout(said.try_clone().expect("a spare descriptor")).stderr(said);
    let running = Running(command.spawn().expect("it starts"));
    works();
    // It may say so a moment after it serves.
    let line = format!("tidegate: {listen} -> http://{backend}");
    wait_until("its line", || place.dir.read("said").contains(&line));
    drop(running);

    let printed = proxy(&["--print-config"]).output().expect("it runs");
    assert!(printed.status.success() && printed.stderr.is_empty(), "{printed:?}");
    place.dir.write("printed.conf", &printed.stdout);
    let mut command = Command::new(places::tidegate());
    command.args(["-e", "stderr", "-p"]).arg(place.dir.path()).args(["-c", "printed.conf"]);
    let tested = command.arg("-t").output().expect("it runs");
    assert!(String::from_utf8_lossy(&tested.stderr).contains("test is successful"), "{tested:?}");
    let mut command = Command::new(places::tidegate());
    command.args(["-e", "stderr", "-p"]).arg(place.dir.path()).args(["-c", "printed.conf"]);
    command.args(["-g", "pid own.pid;"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let running = Running(command.spawn().expect("it starts"));
    works();
    drop(running);
}

/// What the README shows: every address of the machine, and a host name.
#[test]
fn proxy_prints_what_the_readme_says() {
    let mut command = Command::new(places::tidegate());
    let printed =
        command.args(["proxy", "--print-config", ":8080", "localhost:3000"]).output().expect("it runs");
    let text = String::from_utf8(printed.stdout).expect("ASCII");
    assert!(printed.status.success(), "{text}");
    for line in ["listen 8080;", "proxy_pass http://localhost:3000;"] {
        assert!(text.lines().any(|got| got.trim() == line), "no {line} in {text}");
    }
}

/// `tidegate` without a word: a browser opens the page it tells about, and the page's own echo becomes live.
#[test]
fn chromium_shows_the_demo_live() {
    let dir = TempDir::new();
    let banner = dir.path().join("banner");
    let mut demo = Command::new(places::tidegate());
    demo.current_dir(dir.path()).stdin(Stdio::null());
    let output = fs::File::create(&banner).expect("our own directory");
    demo.stdout(output.try_clone().expect("a spare descriptor")).stderr(output);
    let _demo = Running(demo.spawn().expect("it starts"));
    let mut url = None;
    wait_until("the demo's address", || {
        url = address_in(&fs::read_to_string(&banner).unwrap_or_default());
        url.is_some()
    });
    let mut browser = Browser::open(&url.expect("just found"), &dir);
    wait_until("the page to say live", || browser.evaluate("document.title").starts_with("live"));
    assert_eq!(browser.evaluate("document.getElementById('status').dataset.state"), "live");
    browser.screenshot(&places::target().join("demo.png"));
}

/// The first `http://127.0.0.1:PORT/` in a text.
fn address_in(text: &str) -> Option<String> {
    let from = &text[text.find("http://127.0.0.1:")?..];
    Some(from[..=from.find("/ ").or(from.find("/\n"))?].trim().to_owned())
}
