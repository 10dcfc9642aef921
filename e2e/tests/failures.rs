//! What goes wrong around a proxy, and the one line its error log has for it.
#![forbid(unsafe_code)]

use std::io::{Read as _, Write as _};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tidegate_e2e::ask::{request, unread_bytes};
use tidegate_e2e::proxy::{Kind, Place, Proxy, whole};
use tidegate_e2e::raw::{DEADLINE, End, Socket};
use tidegate_e2e::ws::{self, Echo, Tunnels};

/// Proxies everything to `%%U%%`, as nginx's WebSocket page says.
const CONFIG: &str = "
    log_format short '$status $uri';
    access_log %%DIR%%/access.log short;
    server {
        listen 127.0.0.1:%%PORT%% sndbuf=32k;
        client_header_timeout 2s;
        send_timeout 1s;
        location / {
            proxy_pass http://127.0.0.1:%%U%%;
            proxy_read_timeout 1s;
            # nginx would write what nobody reads to a file of up to 1 GiB.
            proxy_max_temp_file_size 0;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection \"upgrade\";
        }
        location /tunnel {
            proxy_pass http://127.0.0.1:%%U%%;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection \"upgrade\";
        }
        location /alive { return 200 alive; }
    }";

/// The errno; its text is the C library's.
const TIMED_OUT: &str = "timed out (110: ";
const REFUSED: &str = "connect() failed (111: Connection refused) while connecting to upstream";
/// Service restart: what a client is told whose upstream was lost.
const RESTART: u16 = 1012;

fn start(kind: Kind) -> Proxy {
    Proxy::start(kind, Place::new(&["PORT", "U"]), &whole(CONFIG))
}

fn refused(kind: Kind) {
    let proxy = start(kind);
    assert!(proxy.get("/x").starts_with("HTTP/1.1 502 "));
    proxy.has_one_line(&["[error]", REFUSED, "upstream: \"http://127.0.0.1:", "/x\"", "host: \"a\""]);
}

fn never_answers(kind: Kind) {
    let proxy = start(kind);
    let _backend = proxy.place.port("U").listen();
    assert!(proxy.get("/x").starts_with("HTTP/1.1 504 "));
    proxy.has_one_line(&["[error]", "upstream", TIMED_OUT, "while reading response header from upstream"]);
    assert!(proxy.get("/alive").ends_with("alive"));
}

/// A backend that says nothing to a handshake: no tunnel, and no waiting for ever.
fn never_answers_a_handshake(kind: Kind) {
    let proxy = start(kind);
    let _backend = proxy.place.port("U").listen();
    let mut client = proxy.client();
    client.send(ws::handshake("/x").as_bytes());
    client.wait_for(b"HTTP/1.1 504 ");
    proxy.has_one_line(&["[error]", "upstream", TIMED_OUT, "while reading response header from upstream"]);
}

fn one_byte_a_second(kind: Kind) {
    let proxy = start(kind);
    let mut client = proxy.client();
    let started = Instant::now();
    client.send(b"GET / HTTP/1.1\r\n");
    for byte in "Host: a\r\n".bytes() {
        client.send(&[byte]);
        if client.wait_end(Duration::from_secs(1)) != End::Open {
            break;
        }
    }
    assert_ne!(client.end(), End::Open, "each byte must not start the timer anew");
    assert!(started.elapsed() >= Duration::from_secs(1), "that was too early");
    proxy.has_one_line(&["[info]", "client", TIMED_OUT, "while reading client request headers"]);
    assert!(proxy.get("/alive").ends_with("alive"));
}

/// A client that asks for much and reads nothing of it.
fn never_reads(kind: Kind) {
    let mut proxy = start(kind);
    let backend = proxy.place.port("U").listen();
    let flood = std::thread::spawn(move || {
        let (mut stream, _) = backend.accept().expect("the proxy connects");
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
        // Until the proxy gives up.
        while stream.write_all(&[b'x'; 64 * 1024]).is_ok() {}
    });
    let mut client = proxy.client();
    client.send(b"GET /much HTTP/1.1\r\nHost: a\r\n\r\n");
    proxy.wait_until("the request in the access log", |proxy| proxy.access_lines("200 /much") == 1);
    flood.join().expect("the proxy let go of the backend");
    proxy.has_one_line(&["[info]", "client", TIMED_OUT, "/much"]);
    drop(client);
    assert!(proxy.get("/alive").ends_with("alive"));
}

/// The backend is killed under live tunnels: all end, the proxy lives, the next request is refused and says so once.
fn backend_killed(kind: Kind) {
    let mut proxy = start(kind);
    let mut backend = Backend::start(&proxy);
    let mut tunnels = Tunnels::new();
    tunnels.open(50, proxy.place.port("PORT").address(), "/tunnel");
    tunnels.round();
    backend.kill();
    for socket in tunnels.sockets() {
        assert_ne!(socket.wait_end(DEADLINE), End::Open, "a tunnel outlived its backend");
    }
    drop(tunnels);
    proxy.wait_until("50 lines of access log", |proxy| proxy.access_lines("101 /tunnel") == 50);
    assert!(proxy.get("/after").starts_with("HTTP/1.1 502 "));
    proxy.has_one_line(&["[error]", REFUSED]);
    assert!(proxy.get("/alive").ends_with("alive"));
}

/// It dies with bytes unread, so that its kernel resets: a client of ours is told in a Close frame to come again.
fn backend_killed_amid_messages(kind: Kind) {
    const TUNNELS: usize = 20;
    let mut proxy = start(kind);
    let mut backend = Backend::start(&proxy);
    let port = proxy.place.port("U").number();
    let mut tunnels = Tunnels::new();
    tunnels.open(TUNNELS, proxy.place.port("PORT").address(), "/tunnel");
    tunnels.round();
    let pid = Pid::from_child(&backend.0);
    kill_process(pid, Signal::STOP).expect("our own child");
    let message = ws::client_frame(b"into the void");
    for socket in tunnels.sockets() {
        socket.send(&message);
    }
    let all = (message.len() * TUNNELS) as u64;
    proxy.wait_until("every message at the backend", |_| unread_bytes(port) == all);
    backend.kill();
    for socket in tunnels.sockets() {
        assert_ne!(socket.wait_end(DEADLINE), End::Open, "a tunnel outlived its backend");
        if kind == Kind::Tidegate {
            assert_eq!(socket.received(), ws::server_close(RESTART));
        }
    }
    drop(tunnels);
    proxy.wait_until("a line for each tunnel", |proxy| proxy.access_lines("101 /tunnel") == TUNNELS);
    let resets = proxy.lines_with("(104: Connection reset by peer)");
    assert_eq!(resets, TUNNELS, "one line for each tunnel\n{}", proxy.logs());
}

/// The echo as a process, gone with the test.
struct Backend(Child);

impl Backend {
    /// Starts it, and waits until it listens.
    fn start(proxy: &Proxy) -> Backend {
        let port = proxy.place.port("U");
        let mut command = Command::new(env!("CARGO_BIN_EXE_echo"));
        let backend = Backend(command.arg(port.number().to_string()).spawn().expect("cargo built it"));
        proxy.wait_for("the echo to listen", |_| Socket::connect(port.address()).is_ok());
        backend
    }

    fn kill(&mut self) {
        self.0.kill().and_then(|()| self.0.wait()).expect("our own child");
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The serving process is killed: its connections are lost, nobody is ever refused, and another one serves.
fn serving_process_killed(kind: Kind) {
    let mut proxy = start(kind);
    let _echo = Echo::on(proxy.place.port("U").listen());
    for round in 1..=3 {
        let mut tunnels = Tunnels::new();
        tunnels.open(20, proxy.place.port("PORT").address(), "/tunnel");
        tunnels.round();
        let killed = proxy.serving_pid();
        kill_process(killed, Signal::KILL).expect("it runs");
        // Whoever comes now waits in the listener's queue and is served by the next one.
        for _ in 0..20 {
            let mut client = proxy.connect("PORT").expect("the listener never goes away");
            client.send(b"GET /alive HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            client.wait_end(DEADLINE);
            let got = String::from_utf8_lossy(client.received()).into_owned();
            let dying = got.is_empty() && proxy.lines_with("exited on signal 9") < round;
            assert!(got.ends_with("alive") || dying, "not served: {got:?}\n{}", proxy.logs());
        }
        for socket in tunnels.sockets() {
            assert_ne!(socket.wait_end(DEADLINE), End::Open, "a tunnel outlived its process");
        }
        let line =
            format!("[alert] {0}#{0}: worker process {1} exited on signal 9", pid(proxy.pid()), pid(killed));
        proxy.wait_until("a line about it", |proxy| proxy.lines_with(&line) == 1);
        proxy.wait_until("another process", |proxy| proxy.serving_pid() != killed);
        assert!(proxy.get("/alive").ends_with("alive"));
    }
    assert_eq!(proxy.place.dir.read("proxy.pid").trim(), pid(proxy.pid()));
    assert!(proxy.stop(), "{}", proxy.logs());
}

fn pid(pid: Pid) -> String {
    pid.as_raw_nonzero().to_string()
}

/// More clients than descriptors: those inside go on, the log is not flooded, and when some leave there is room again.
fn descriptors_used_up(kind: Kind) {
    let place = Place::new(&["PORT", "U"]);
    let proxy = Proxy::start_limited(kind, place, &whole(CONFIG), 100);
    let address = proxy.place.port("PORT").address();
    let _echo = Echo::on(proxy.place.port("U").listen());
    let mut tunnels = Tunnels::new();
    tunnels.open(10, address, "/tunnel");
    let crowd: Vec<Socket> =
        (0..150).map(|_| Socket::connect(address).expect("the backlog has room")).collect();
    for _ in 0..20 {
        tunnels.round();
    }
    drop(crowd);
    assert!(proxy.get("/alive").ends_with("alive"), "no room again\n{}", proxy.logs());
    tunnels.round();
    let complaints = proxy.lines_with("(24: ");
    assert!((1..100).contains(&complaints), "{complaints} complaints\n{}", proxy.logs());
}

/// The same, met on the way to a backend: this client gets its answer.
fn no_descriptor_for_the_backend(kind: Kind) {
    let place = Place::new(&["PORT", "U"]);
    let mut proxy = Proxy::start_limited(kind, place, &whole(CONFIG), 100);
    let address = proxy.place.port("PORT").address();
    let _echo = Echo::on(proxy.place.port("U").listen());
    let mut client = proxy.client();
    let mut ask = |path: &str, expected: &[u8]| {
        client.send(request(path, "keep-alive").as_bytes());
        client.wait_for(expected);
    };
    ask("/alive", b"alive");
    let crowd: Vec<Socket> =
        (0..150).map(|_| Socket::connect(address).expect("the backlog has room")).collect();
    proxy.wait_until("out of descriptors", |proxy| proxy.lines_with("(24: ") > 0);
    ask("/proxied", b"Internal Server Error");
    proxy.has_one_line(&["(24: ", "while connecting to upstream", "GET /proxied"]);
    drop(crowd);
    assert!(proxy.get("/proxied").ends_with("plain"), "no room again\n{}", proxy.logs());
}

/// More clients than `worker_connections`: who only waits makes room for who comes, and the log says so, not often.
fn connections_used_up(kind: Kind) {
    let config = whole(CONFIG).replace("worker_connections 1024", "worker_connections 40");
    let proxy = Proxy::start(kind, Place::new(&["PORT", "U"]), &config);
    let _echo = Echo::on(proxy.place.port("U").listen());
    let mut tunnels = Tunnels::new();
    tunnels.open(5, proxy.place.port("PORT").address(), "/tunnel");
    let mut crowd = Vec::new();
    for _ in 0..100 {
        let mut client = proxy.client();
        client.send(request("/alive", "keep-alive").as_bytes());
        client.wait_for(b"alive");
        crowd.push(client);
    }
    tunnels.round();
    assert_ne!(crowd[0].wait_end(DEADLINE), End::Open, "the first that waited was the first to go");
    let complaints = proxy.lines_with("40 worker_connections are not enough, reusing connections");
    assert!((1..10).contains(&complaints), "{complaints} complaints\n{}", proxy.logs());
    assert_eq!(proxy.lines_with("[alert]"), 0, "{}", proxy.logs());
}

fn tunnel_idle(kind: Kind) {
    let mut proxy = start(kind);
    let _echo = Echo::on(proxy.place.port("U").listen());
    let mut tunnel = ws::connect(proxy.place.port("PORT").address(), "/");
    tunnel.forget();
    assert_ne!(tunnel.wait_end(DEADLINE), End::Open, "proxy_read_timeout ends a silent tunnel");
    let last = if kind == Kind::Tidegate { ws::server_close(RESTART) } else { Vec::new() };
    assert_eq!(tunnel.received(), last);
    proxy.wait_until("a line of access log", |proxy| proxy.access_lines("101 /") == 1);
    proxy.has_one_line(&["[info]", "upstream", TIMED_OUT, "while proxying upgraded connection"]);
}

/// A tunnel whose backend resets: told apart from one that closes.
fn backend_resets(kind: Kind) {
    let mut proxy = start(kind);
    let listener = proxy.place.port("U").listen();
    let mut client = proxy.client();
    client.send(ws::handshake("/tunnel").as_bytes());
    let mut backend = Socket::over(listener.accept().expect("the proxy connects").0).expect("a stream");
    backend.wait_for(b"\r\n\r\n");
    backend.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n");
    backend.send(b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n");
    backend.send(&ws::server_frame(b"hello"));
    client.wait_for(&ws::server_frame(b"hello"));
    client.forget();
    backend.reset();
    assert_ne!(client.wait_end(DEADLINE), End::Open);
    let last = if kind == Kind::Tidegate { ws::server_close(RESTART) } else { Vec::new() };
    assert_eq!(client.received(), last);
    drop(client);
    proxy.wait_until("a line of access log", |proxy| proxy.access_lines("101 /tunnel") == 1);
    proxy.has_one_line(&[
        "recv() failed (104: Connection reset by peer)",
        "while proxying upgraded connection",
    ]);
}

/// A client's reset and the backend's 101 are there at once: one line says so, and one is in the access log.
#[test]
fn a_client_resets_while_the_101_comes() {
    let mut proxy = start(Kind::Tidegate);
    let listener = proxy.place.port("U").listen();
    for round in 1..=5 {
        let mut client = proxy.client();
        client.send(ws::handshake("/tunnel").as_bytes());
        let mut backend = Socket::over(listener.accept().expect("the proxy connects").0).expect("a stream");
        backend.wait_for(b"\r\n\r\n");
        let serving = proxy.serving_pid();
        kill_process(serving, Signal::STOP).expect("it runs");
        backend.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n");
        backend.send(b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n");
        client.reset();
        kill_process(serving, Signal::CONT).expect("it stands still");
        assert_ne!(backend.wait_end(DEADLINE), End::Open);
        proxy.wait_until("a line of access log", |proxy| {
            proxy.place.dir.read("access.log").lines().count() == round
        });
        assert_eq!(proxy.lines_with("GET /tunnel"), round, "{}", proxy.logs());
    }
}

macro_rules! with_both {
    ($($name:ident),* $(,)?) => {
        mod tidegate {
            $(#[test] fn $name() { super::$name(super::Kind::Tidegate); })*
        }
        mod nginx {
            $(#[test] fn $name() { super::$name(super::Kind::Nginx); })*
        }
    };
}

with_both!(
    refused,
    never_answers,
    never_answers_a_handshake,
    one_byte_a_second,
    never_reads,
    backend_killed,
    backend_killed_amid_messages,
    backend_resets,
    serving_process_killed,
    descriptors_used_up,
    no_descriptor_for_the_backend,
    connections_used_up,
    tunnel_idle,
);
