//! Everybody's clients and servers through both configurations of nginx's WebSocket page, and a real browser on the demo.
#![forbid(unsafe_code)]

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use tidegate_e2e::places;
use tidegate_e2e::proxy::{Kind, Place, Proxy, whole};
use tidegate_e2e::raw::DEADLINE;
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
    let python = places::tools().join("venv/bin/python");
    let server = Running::start(Command::new(&python).arg(script("echo_server.py")), &proxy);
    says_ok(Command::new(&python).arg(script("echo_client.py")).arg(url(&proxy)));
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
    let python = places::tools().join("venv/bin/python");
    says_ok(Command::new(python).arg(script("echo_client.py")).arg(url(&proxy)));
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

fn node() -> Command {
    let mut node = Command::new("node");
    node.env("NODE_PATH", places::tools().join("node/node_modules"));
    node
}

fn script(name: &str) -> std::path::PathBuf {
    places::workspace().join("e2e/scripts").join(name)
}

fn says_ok(command: &mut Command) {
    let output = command.output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.trim() == "ok", "{said}\n{errors}");
}

/// A backend process on the port `U`, killed when dropped.
struct Running(Child);

impl Running {
    fn start(command: &mut Command, proxy: &Proxy) -> Running {
        let port = proxy.place.port("U");
        let running = Running(command.arg(port.number().to_string()).spawn().expect("it starts"));
        wait_until("the backend to listen", || TcpStream::connect(port.address()).is_ok());
        running
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_until(what: &str, mut met: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE * 3;
    while !met() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        // Another process, which tells nobody when it is ready.
        thread::sleep(Duration::from_millis(20));
    }
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

with_both!(tungstenite, python_websockets, node_ws, python_client_node_server, curl_handshake);

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
    drop(running);
    let said = place.dir.read("said");
    assert!(said.contains(&format!("tidegate: {listen} -> http://{backend}")), "{said}");

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

/// Headless Chromium on one page, asked through its DevTools socket.
struct Browser {
    _process: Running,
    socket: tungstenite::WebSocket<tungstenite::stream::MaybeTlsStream<TcpStream>>,
    asked: u64,
}

impl Browser {
    fn open(url: &str, dir: &TempDir) -> Browser {
        let profile = dir.path().join("profile");
        let mut chromium = Command::new("chromium");
        chromium.args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
        ]);
        chromium.args(["--disable-background-networking", "--disable-component-update", "--disable-sync"]);
        chromium.args(["--disable-dev-shm-usage", "--remote-debugging-port=0", "--remote-allow-origins=*"]);
        chromium.arg(format!("--user-data-dir={}", profile.display())).arg(url);
        chromium.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = Running(chromium.spawn().expect("chromium starts"));
        let mut port = None;
        wait_until("Chromium's DevTools port", || {
            let text = fs::read_to_string(profile.join("DevToolsActivePort")).unwrap_or_default();
            port = text.lines().next().and_then(|line| line.parse::<u16>().ok());
            port.is_some()
        });
        let port = port.expect("just found");
        let mut page = None;
        wait_until("Chromium's page", || {
            page = page_socket(port, url);
            page.is_some()
        });
        let (socket, _) = connect(page.expect("just found")).expect("Chromium answers");
        Browser { _process: process, socket, asked: 0 }
    }

    /// The value of an expression in the page, as text.
    fn evaluate(&mut self, expression: &str) -> String {
        let params = serde_json::json!({ "expression": expression, "returnByValue": true });
        let answer = self.ask("Runtime.evaluate", &params);
        answer["result"]["value"].as_str().unwrap_or_default().to_owned()
    }

    /// Keeps a picture of the page, for a person to look at.
    fn screenshot(&mut self, path: &Path) {
        let params = serde_json::json!({ "format": "png", "captureBeyondViewport": true });
        let answer = self.ask("Page.captureScreenshot", &params);
        let picture = base64(answer["data"].as_str().expect("a picture"));
        assert!(picture.starts_with(b"\x89PNG"));
        fs::write(path, picture).expect("the target directory is ours");
        println!("the page: {}", path.display());
    }

    /// One question of the DevTools protocol, and its result.
    fn ask(&mut self, method: &str, params: &serde_json::Value) -> serde_json::Value {
        self.asked += 1;
        let question = serde_json::json!({ "id": self.asked, "method": method, "params": params });
        self.socket.send(Message::text(question.to_string())).expect("Chromium listens");
        loop {
            let message = self.socket.read().expect("Chromium answers");
            let mut answer: serde_json::Value =
                serde_json::from_str(message.to_text().unwrap_or("{}")).unwrap_or_default();
            if answer["id"] == self.asked {
                return answer["result"].take();
            }
        }
    }
}

/// The bytes of a base64 text (RFC 4648, section 4).
fn base64(text: &str) -> Vec<u8> {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let groups = text.trim_end_matches('=').as_bytes().chunks(4);
    groups
        .flat_map(|group| {
            let bits = group.iter().fold(0_u32, |bits, byte| bits << 6 | u32::from(value(*byte)));
            let bytes = (bits << (6 * (4 - group.len()))).to_be_bytes();
            bytes[1..group.len()].to_vec()
        })
        .collect()
}

/// The DevTools address of the tab that shows `url`, from Chromium's own list.
fn page_socket(port: u16, url: &str) -> Option<String> {
    let mut list = tidegate_e2e::raw::Socket::connect(([127, 0, 0, 1], port).into()).ok()?;
    list.send(
        format!("GET /json/list HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n").as_bytes(),
    );
    list.wait_end(DEADLINE);
    let text = String::from_utf8_lossy(list.received()).into_owned();
    let pages: serde_json::Value = serde_json::from_str(text.split_once("\r\n\r\n")?.1).ok()?;
    let page =
        pages.as_array()?.iter().find(|page| page["url"].as_str().is_some_and(|at| at.starts_with(url)))?;
    Some(page["webSocketDebuggerUrl"].as_str()?.to_owned())
}
