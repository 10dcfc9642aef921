//! Connections that break off, or were never TLS: garbage, plain HTTP, a ClientHello in pieces, and sessions cut off at
//! every boundary of a record and within the records. Each costs itself, one line of error log, and no descriptor.
#![forbid(unsafe_code)]

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use rustls::{ClientConfig, ServerConfig, SupportedProtocolVersion};
use tidegate_e2e::ask::{open_descriptors, request};
use tidegate_e2e::certificates::{Authority, Kind as Key};
use tidegate_e2e::proxy::{Kind, Place, Proxy, whole};
use tidegate_e2e::raw::{DEADLINE, End, Socket};
use tidegate_e2e::secure::{self, Cut, PROTOCOLS, Tls};
use tidegate_e2e::ws::{self, Echo, client_frame, server_frame};

const CONFIG: &str = "
    log_format short '$status $uri';
    access_log %%DIR%%/access.log short;
    proxy_read_timeout 1h;
    proxy_http_version 1.1;
    proxy_ssl_session_reuse off;
    server {
        listen 127.0.0.1:%%PORT%%;
        location / { access_log off; return 204; }
        location /secure { proxy_pass https://127.0.0.1:%%U%%; }
    }
    server {
        listen 127.0.0.1:%%TLS%% ssl;
        ssl_certificate %%DIR%%/a.crt;
        ssl_certificate_key %%DIR%%/a.key;
        location / { return 200 fine; }
        location /tunnel {
            proxy_pass http://127.0.0.1:%%U%%;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $http_connection;
        }
    }";

struct Scene {
    proxy: Proxy,
    authority: Authority,
    server: Arc<ServerConfig>,
    /// Lines of the error log seen so far.
    seen: usize,
    descriptors: usize,
}

impl Scene {
    fn start(kind: Kind) -> Scene {
        let authority = Authority::new("authority");
        let pair = authority.issue(Key::Ecdsa, "a", &[]);
        let place = Place::new(&["PORT", "TLS", "U"]);
        pair.write(&place, "a");
        let mut proxy = Proxy::start(kind, place, &whole(CONFIG));
        proxy.wait_listening("TLS");
        // Whoever looked whether it listens is in the log.
        proxy.wait_until("settled", |proxy| proxy.lines_with("client closed connection while SSL") > 0);
        assert!(proxy.get("/").starts_with("HTTP/1.1 204"));
        let descriptors = open_descriptors(proxy.serving_pid());
        let seen = proxy.reasons().len();
        // Of RSA, whose signatures are all of one length: offsets mean the same in every run.
        let server = secure::server(&authority.issue(Key::Rsa, "a", &[]), &PROTOCOLS);
        Scene { proxy, authority, server, seen, descriptors }
    }

    fn address(&self) -> SocketAddr {
        self.proxy.place.port("TLS").address()
    }

    fn client(&self, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
        secure::client(&self.authority, &[version], false)
    }

    /// New lines of the error log, when there are so many at least.
    fn lines(&mut self, least: usize) -> Vec<String> {
        let wanted = self.seen + least;
        self.proxy.wait_until("a line", |proxy| proxy.reasons().len() >= wanted);
        // Whoever has an answer here was served after everything that came before.
        assert!(self.proxy.get("/").starts_with("HTTP/1.1 204"));
        let lines = self.proxy.reasons().split_off(self.seen);
        self.seen += lines.len();
        lines
    }

    /// Nothing is left of all that broke, and the next one is served.
    fn check_whole(mut self) {
        let serving = self.proxy.serving_pid();
        let most = self.descriptors;
        self.proxy.wait_until("descriptors to be closed", |_| open_descriptors(serving) <= most);
        let client = self.client(PROTOCOLS[1]);
        let mut tls = Tls::connect(self.address(), &client, "a").expect("it listens").shaken();
        tls.send(request("/", "close").as_bytes());
        assert!(tls.comes(b"fine"));
    }

    /// A ClientHello.
    fn hello(&self) -> Vec<u8> {
        let tls = Tls::connect(self.address(), &self.client(PROTOCOLS[1]), "a").expect("it listens");
        tls.encrypted().to_vec()
    }
}

/// The alert a client got in the clear, the first line of a text, or how the connection ended.
fn outcome(received: &[u8], end: End) -> String {
    match received {
        [21, 3, _, 0, 2, 2, number, ..] => format!("alert {number}"),
        [] if end != End::Open => "the end".to_owned(),
        text => String::from_utf8_lossy(text).lines().next().unwrap_or_default().to_owned(),
    }
}

/// What is no TLS: what its sender gets, and the line for it. OpenSSL and rustls do not always agree.
fn not_tls(kind: Kind) {
    const BAD_REQUEST: &str = "HTTP/1.1 400 Bad Request";
    const METHOD: &str = "info: client sent invalid method while reading client request line";
    const VERSION: &str = "info: SSL_do_handshake() failed (SSL: error:0A00010B:SSL routines::wrong version number) \
                           while SSL handshaking";
    const CLOSED: &str = "info: peer closed connection in SSL handshake while SSL handshaking";
    const CORRUPT: &str = "info: SSL_do_handshake() failed (SSL: ";
    let mut scene = Scene::start(kind);
    let hello = scene.hello();
    scene.lines(1);
    let of = |parts: [&[u8]; 2]| parts.concat();
    let mut check = |sent: &[u8], ours: (&str, &str), nginx: (&str, &str)| {
        let mut socket = scene.proxy.connect("TLS").expect("it listens");
        socket.send(sent);
        socket.fin();
        socket.wait_end(DEADLINE);
        let came = outcome(socket.received(), socket.end());
        let (answer, line) = if kind == Kind::Nginx { nginx } else { ours };
        let lines = scene.lines(1);
        assert!(
            came == answer && lines.len() == 1 && lines[0].starts_with(line),
            "{sent:02x?}: {came}, {lines:?}"
        );
    };
    let mut both = |sent: &[u8], answer: &str, line: &str| check(sent, (answer, line), (answer, line));
    let plain = "info: client sent plain HTTP request to HTTPS port while reading client request headers";
    both(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", BAD_REQUEST, plain);
    both(b"hello\r\n\r\n", BAD_REQUEST, METHOD);
    both(&[21, 3, 1, 0, 2, 1, 0], BAD_REQUEST, METHOD);
    both(&[23, 3, 3, 0, 4, 1, 2, 3, 4], BAD_REQUEST, METHOD);
    both(b"", "the end", "info: client closed connection while SSL handshaking");
    for cut in [1, 4, 5, 6, 20, 100, hello.len() - 1] {
        both(&hello[..cut], "the end", CLOSED);
    }
    check(&[0x16; 600], ("alert 50", VERSION), ("the end", VERSION));
    check(&[0xff; 100], ("alert 50", VERSION), ("the end", VERSION));
    check(&of([&[22, 9, 9], &hello[3..]]), ("alert 50", VERSION), ("the end", VERSION));
    check(&[0x80, 0x2e, 1, 0, 2, 0, 0, 0, 0, 0, 0], ("alert 50", VERSION), ("the end", CLOSED));
    check(&[22, 3, 1, 0, 0], ("alert 50", CORRUPT), ("the end", CLOSED));
    check(&of([&[22, 3, 1, 0xff, 0xff], &[1; 300]]), ("alert 50", CORRUPT), ("alert 22", CORRUPT));
    check(&[22, 3, 1, 0, 4, 2, 0, 0, 0], ("alert 50", CORRUPT), ("alert 10", CORRUPT));
    check(&[22, 3, 1, 0, 4, 1, 0, 0, 0], ("alert 50", CORRUPT), ("alert 50", CORRUPT));
    let endless = [&hello[..5], &[1, 0xff, 0xff, 0xff], &hello[9..]].concat();
    check(&endless, ("the end", CORRUPT), ("alert 47", CORRUPT));
    scene.check_whole();
}

/// A handshake and a request sent to the proxy one byte at a time.
fn byte_by_byte(kind: Kind) {
    let scene = Scene::start(kind);
    let between = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = between.local_addr().expect("a bound socket");
    let mut tls = Tls::connect(address, &scene.client(PROTOCOLS[1]), "a").expect("our own listener");
    let mut near = Socket::over(between.accept().expect("just connected").0).expect("a stream");
    let mut far = scene.proxy.connect("TLS").expect("it listens");
    tls.send(request("/", "close").as_bytes());
    scene.proxy.wait_for("an answer", |_| {
        tls.pump();
        near.pump();
        for byte in near.received() {
            far.send(&[*byte]);
        }
        near.forget();
        far.pump();
        near.send(far.received());
        far.forget();
        tls.pump();
        tls.received().ends_with(b"fine")
    });
    drop((tls, near, far));
    scene.check_whole();
}

/// What a session has: one request and its answer, or a tunnel with two messages and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Request,
    Tunnel,
}

/// A session up to its end, or as far as it goes.
fn session(mut tls: Tls, what: What) -> Tls {
    if !tls.shakes() {
        return tls;
    }
    let (head, answer) = match what {
        What::Request => (request("/", "close"), "fine"),
        What::Tunnel => (ws::handshake("/tunnel"), "Switching"),
    };
    tls.send(head.as_bytes());
    if what == What::Tunnel && tls.comes(answer.as_bytes()) {
        for word in [b"one", b"two"] {
            tls.send(&client_frame(word));
            if !tls.comes(&server_frame(word)) {
                return tls;
            }
        }
        tls.notify();
    }
    tls
}

/// The client breaks off after each of its records and within them, with a FIN and with a RST.
fn a_client_breaks_off(kind: Kind) {
    let mut scene = Scene::start(kind);
    let _echo = Echo::on(scene.proxy.place.port("U").listen());
    for version in PROTOCOLS {
        for what in [What::Request, What::Tunnel] {
            let client = scene.client(version);
            let whole = session(Tls::connect(scene.address(), &client, "a").expect("it listens"), what);
            let records = whole.records().to_vec();
            drop(whole);
            wait_logged(&mut scene, 1);
            scene.lines(0);
            let head = records.iter().position(|(kind, _)| *kind == APPLICATION_DATA).expect("a request");
            // With TLS 1.3 the last message of the handshake looks like that, too.
            let head = head + usize::from(version == PROTOCOLS[1]);
            let mut at = 0;
            for (number, (_, length)) in records.iter().enumerate() {
                for cut in [at + 3, at + length / 2, at + length] {
                    for how in [Cut::Fin, Cut::Rst] {
                        println!(
                            "{version:?} {what:?}, record {number}, byte {} of {length}, {how:?}",
                            cut - at
                        );
                        let tls = Tls::cut(scene.address(), &client, cut, how).expect("it listens");
                        let mut tls = session(tls, what);
                        tls.wait_end(DEADLINE);
                        drop(tls);
                        let has_head = number > head || number == head && cut == at + length;
                        let shaking = number + 1 < head || number + 1 == head && cut < at + length;
                        broken_off(&mut scene, shaking, has_head);
                    }
                }
                at += length;
            }
        }
    }
    scene.check_whole();
}

/// TLS records of this type are for who speaks in them.
const APPLICATION_DATA: u8 = 23;

fn wait_logged(scene: &mut Scene, count: usize) {
    scene.proxy.wait_until("a line of access log", |proxy| {
        proxy.place.dir.read("access.log").lines().count() >= count
    });
    scene.proxy.place.dir.write("access.log", b"");
}

/// One line, at level info, for who broke off before a request was there; no more for who did later, whose request is in the
/// access log.
fn broken_off(scene: &mut Scene, shaking: bool, has_head: bool) {
    if has_head {
        wait_logged(scene, 1);
    }
    let lines = scene.lines(usize::from(!has_head));
    assert!(lines.len() <= 1 && lines.iter().all(|line| line.starts_with("info: ")), "{lines:?}");
    if !has_head {
        let handshake = lines[0].starts_with("info: peer closed connection in SSL handshake");
        let request = lines[0].ends_with(" while waiting for request");
        // A RST may overtake the last flight.
        assert!(handshake || request && !shaking, "{lines:?}");
    }
}

/// The upstream breaks off after each of its records and within them: 502 and one line, as long as there is no answer.
fn an_upstream_breaks_off(kind: Kind) {
    let mut scene = Scene::start(kind);
    let listener = scene.proxy.place.port("U").listen();
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine";
    for version in PROTOCOLS {
        let pair_server = scene.server.clone();
        let run = |scene: &Scene, cut: Option<(usize, Cut)>| {
            let mut client = scene.proxy.client();
            client.send(request("/secure", "close").as_bytes());
            let socket = Socket::over(listener.accept().expect("the proxy connects").0).expect("a stream");
            let mut tls = Tls::server(socket, &pair_server, cut);
            if tls.shakes() && tls.comes(b"\r\n\r\n") {
                tls.send(answer);
                tls.notify();
            }
            let text = client.read_to_end();
            (text.get(9..12).unwrap_or_default().to_owned(), tls.records().to_vec())
        };
        let (status, records) = run(&scene, None);
        assert_eq!(status, "200", "{version:?}");
        wait_logged(&mut scene, 1);
        scene.lines(0);
        let mut at = 0;
        for (number, (_, length)) in records.iter().enumerate() {
            for cut in [at + 3, at + length / 2, at + length] {
                for how in [Cut::Fin, Cut::Rst] {
                    let row = format!("{version:?}, record {number}, byte {} of {length}, {how:?}", cut - at);
                    let (status, _) = run(&scene, Some((cut, how)));
                    wait_logged(&mut scene, 1);
                    let lines = scene.lines(usize::from(status == "502"));
                    let whole =
                        number + 1 == records.len() || number + 2 == records.len() && cut == at + length;
                    // A RST may take along what was sent before it.
                    let is_lost = status == "502";
                    assert!(is_lost != whole || is_lost && how == Cut::Rst, "{row}: {status} {lines:?}");
                    assert_eq!(lines.len(), usize::from(is_lost), "{row}: {lines:?}");
                    assert!(lines.iter().all(|line| line.starts_with("error: ")), "{row}: {lines:?}");
                }
            }
            at += length;
        }
    }
    scene.check_whole();
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

with_both!(not_tls, byte_by_byte, a_client_breaks_off, an_upstream_breaks_off);
