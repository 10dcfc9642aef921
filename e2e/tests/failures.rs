//! What goes wrong around a proxy, and the one line its error log has for it.
#![forbid(unsafe_code)]

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use tidegate_e2e::proxy::{Kind, Place, Proxy, whole};
use tidegate_e2e::raw::{DEADLINE, End, Socket};
use tidegate_e2e::ws::{self, Echo, Tunnels};

/// Proxies everything to `%%U%%`, as nginx's WebSocket page says.
const CONFIG: &str = "
    log_format short '$status $uri';
    access_log %%DIR%%/access.log short;
    server {
        listen 127.0.0.1:%%PORT%%;
        client_header_timeout 2s;
        location / {
            proxy_pass http://127.0.0.1:%%U%%;
            proxy_read_timeout 1s;
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

fn start(kind: Kind) -> Proxy {
    Proxy::start(kind, Place::new(&["PORT", "U"]), &whole(CONFIG))
}

fn get(proxy: &Proxy, path: &str) -> String {
    let mut client = Socket::connect(proxy.place.port("PORT").address()).expect("the proxy listens");
    client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes());
    client.wait_end(DEADLINE);
    String::from_utf8_lossy(client.received()).into_owned()
}

/// Exactly one line of the error log has all these words.
fn one_line(proxy: &Proxy, words: &[&str]) {
    let log = proxy.error_log();
    let count = log.lines().filter(|line| words.iter().all(|word| line.contains(word))).count();
    assert_eq!(count, 1, "lines with {words:?}\n{}", proxy.logs());
}

fn refused(kind: Kind) {
    let proxy = start(kind);
    assert!(get(&proxy, "/x").starts_with("HTTP/1.1 502 "));
    one_line(&proxy, &["[error]", REFUSED, "upstream: \"http://127.0.0.1:", "/x\"", "host: \"a\""]);
}

fn never_answers(kind: Kind) {
    let proxy = start(kind);
    let _backend = proxy.place.port("U").listen();
    assert!(get(&proxy, "/x").starts_with("HTTP/1.1 504 "));
    one_line(&proxy, &["[error]", "upstream", TIMED_OUT, "while reading response header from upstream"]);
}

fn one_byte_a_second(kind: Kind) {
    let proxy = start(kind);
    let mut client = Socket::connect(proxy.place.port("PORT").address()).expect("the proxy listens");
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
    one_line(&proxy, &["[info]", "client", TIMED_OUT, "while reading client request headers"]);
}

/// The backend is killed under live tunnels: all end, the proxy lives, the next request is refused and says so once.
fn backend_killed(kind: Kind) {
    let mut proxy = start(kind);
    let mut backend = echo_process(&proxy);
    let mut tunnels = Tunnels::new();
    tunnels.open(50, proxy.place.port("PORT").address(), "/tunnel");
    tunnels.round();
    backend.kill().and_then(|()| backend.wait()).expect("our own child");
    for socket in tunnels.sockets() {
        assert_ne!(socket.wait_end(DEADLINE), End::Open, "a tunnel outlived its backend");
    }
    drop(tunnels);
    proxy.wait_until("50 lines of access log", |proxy| access_lines(proxy, "101 /tunnel") == 50);
    assert!(get(&proxy, "/after").starts_with("HTTP/1.1 502 "));
    one_line(&proxy, &["[error]", REFUSED]);
    assert!(get(&proxy, "/alive").ends_with("alive"));
}

fn access_lines(proxy: &Proxy, line: &str) -> usize {
    proxy.place.dir.read("access.log").lines().filter(|got| *got == line).count()
}

/// The echo as a process, once it listens.
fn echo_process(proxy: &Proxy) -> Child {
    let port = proxy.place.port("U");
    let echo = Command::new(env!("CARGO_BIN_EXE_echo"))
        .arg(port.number().to_string())
        .spawn()
        .expect("cargo built it");
    let deadline = Instant::now() + DEADLINE;
    while Socket::connect(port.address()).is_err() {
        assert!(Instant::now() < deadline, "the echo does not listen");
        // A refused connection cannot be waited for.
        std::thread::sleep(Duration::from_millis(5));
    }
    echo
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
    assert!(get(&proxy, "/alive").ends_with("alive"), "no room again\n{}", proxy.logs());
    tunnels.round();
    let complaints = proxy.error_log().lines().filter(|line| line.contains("(24: ")).count();
    assert!((1..100).contains(&complaints), "{complaints} complaints\n{}", proxy.logs());
}

fn tunnel_idle(kind: Kind) {
    let mut proxy = start(kind);
    let _echo = Echo::on(proxy.place.port("U").listen());
    let mut tunnel = ws::connect(proxy.place.port("PORT").address(), "/");
    assert_ne!(tunnel.wait_end(DEADLINE), End::Open, "proxy_read_timeout ends a silent tunnel");
    proxy.wait_until("a line of access log", |proxy| access_lines(proxy, "101 /") == 1);
    one_line(&proxy, &["[info]", "upstream", TIMED_OUT, "while proxying upgraded connection"]);
}

macro_rules! with_both {
    ($($name:ident),*) => {
        mod tidegate {
            $(#[test] fn $name() { super::$name(super::Kind::Tidegate); })*
        }
        mod nginx {
            $(#[test] fn $name() { super::$name(super::Kind::Nginx); })*
        }
    };
}

with_both!(refused, never_answers, one_byte_a_second, backend_killed, descriptors_used_up, tunnel_idle);
