//! Tunnels with TLS to the client, to the upstream or to both, looked at from both ends: what comes early, how each
//! direction ends by itself, and that nothing is lost on the way.
#![forbid(unsafe_code)]

use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ServerConfig, SupportedProtocolVersion};
use tidegate_e2e::ask::open_descriptors;
use tidegate_e2e::certificates::{Authority, Kind};
use tidegate_e2e::proxy::{self, Place, Proxy, whole};
use tidegate_e2e::raw::{DEADLINE, End, Socket};
use tidegate_e2e::secure::{self, Tls};
use tidegate_e2e::ws::{self, Talk, client_frame, server_frame};

const CONFIG: &str = "
    log_format short '$status $uri $bytes_sent';
    access_log %%DIR%%/access.log short;
    proxy_read_timeout 1h;
    websocket_fin_timeout 1s;
    server {
        listen 127.0.0.1:%%PORT%%;
        listen 127.0.0.1:%%TLS%% ssl;
        ssl_certificate %%DIR%%/a.crt;
        ssl_certificate_key %%DIR%%/a.key;
        location /plain { proxy_pass http://127.0.0.1:%%U%%; }
        location /secure { proxy_pass https://127.0.0.1:%%U%%; }
    }";

/// Which ends have TLS, and which.
#[derive(Clone, Copy, Debug)]
struct Ends {
    client: bool,
    upstream: bool,
    version: &'static SupportedProtocolVersion,
}

/// All that there are but the plain ones.
const ENDS: [Ends; 5] = [
    Ends { client: true, upstream: false, version: &TLS13 },
    Ends { client: true, upstream: false, version: &TLS12 },
    Ends { client: false, upstream: true, version: &TLS13 },
    Ends { client: false, upstream: true, version: &TLS12 },
    Ends { client: true, upstream: true, version: &TLS13 },
];

/// A proxy, and us on both sides of it.
struct Scene {
    proxy: Proxy,
    listener: TcpListener,
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    ends: Ends,
}

impl Scene {
    fn start(ends: Ends) -> Scene {
        // Of a test that fails, this is shown.
        println!("{ends:?}");
        let authority = Authority::new("authority");
        let pair = authority.issue(Kind::Ecdsa, "a", &[]);
        let place = Place::new(&["PORT", "TLS", "U"]);
        pair.write(&place, "a");
        let mut proxy = Proxy::start(proxy::Kind::Tidegate, place, &whole(CONFIG));
        proxy.wait_listening("TLS");
        let listener = proxy.place.port("U").listen();
        let client = secure::client(&authority, &[ends.version], false);
        Scene { proxy, listener, client, server: secure::server(&pair, &[ends.version]), ends }
    }

    fn path(&self) -> &'static str {
        if self.ends.upstream { "/secure" } else { "/plain" }
    }

    fn connect(&self) -> Side {
        let port = if self.ends.client { "TLS" } else { "PORT" };
        let socket = self.proxy.connect(port).expect("it listens");
        match self.ends.client {
            true => Side::Secure(Box::new(Tls::client(socket, &self.client, "a").shaken())),
            false => Side::Plain(socket),
        }
    }

    fn accept(&self) -> Side {
        let socket = Socket::over(self.listener.accept().expect("the proxy connects").0).expect("a stream");
        match self.ends.upstream {
            true => Side::Secure(Box::new(Tls::server(socket, &self.server, None).shaken())),
            false => Side::Plain(socket),
        }
    }

    /// A tunnel, from both ends, with nothing unread.
    fn tunnel(&self) -> (Side, Side) {
        let mut client = self.connect();
        client.send(ws::handshake(self.path()).as_bytes());
        let mut upstream = self.accept();
        upstream.wait_for(b"\r\n\r\n");
        upstream.send(SWITCH);
        client.wait_for(b"HTTP/1.1 101 ");
        client.wait_for(b"\r\n\r\n");
        client.forget();
        upstream.forget();
        (client, upstream)
    }

    fn is_logged(&mut self) {
        let line = format!("101 {}", self.path());
        self.proxy.wait_until("a line of access log", |proxy| {
            proxy.place.dir.read("access.log").lines().any(|got| got.starts_with(&line))
        });
        for level in ["[emerg]", "[alert]", "[crit]", "[error]", "[warn]"] {
            assert_eq!(self.proxy.lines_with(level), 0, "{}", self.proxy.logs());
        }
    }
}

const SWITCH: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// One of our ends.
enum Side {
    Plain(Socket),
    Secure(Box<Tls>),
}

impl Side {
    /// Half close, as its protocol has it: TLS's own word, and the socket's if it is to be.
    fn half_close(&mut self, fin: bool) {
        match self {
            Side::Plain(socket) => socket.fin(),
            Side::Secure(tls) => {
                tls.notify();
                if fin {
                    tls.fin();
                }
            }
        }
    }

    /// A FIN that TLS knows nothing of.
    fn fin(&mut self) {
        match self {
            Side::Plain(socket) => socket.fin(),
            Side::Secure(tls) => tls.fin(),
        }
    }

    /// Waits until the other side closed its direction in order: under TLS it must have said so there, too.
    fn is_closed(&mut self) {
        match self {
            Side::Plain(socket) => assert_eq!(socket.wait_end(DEADLINE), End::Fin),
            Side::Secure(tls) => {
                tls.wait_notified();
                assert_eq!(tls.wait_end(DEADLINE), End::Fin);
            }
        }
    }

    fn stays_open(&mut self, time: Duration) {
        let end = match self {
            Side::Plain(socket) => socket.wait_end(time),
            Side::Secure(tls) => tls.wait_end(time),
        };
        assert_eq!(end, End::Open);
    }

    fn pump(&mut self) {
        match self {
            Side::Plain(socket) => socket.pump(),
            Side::Secure(tls) => tls.pump(),
        }
    }

    fn talk(&mut self) -> &mut dyn Talk {
        match self {
            Side::Plain(socket) => socket,
            Side::Secure(tls) => &mut **tls,
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.talk().send(bytes);
    }

    fn wait_for(&mut self, pattern: &[u8]) {
        self.talk().wait_for(pattern);
    }

    fn wait_len(&mut self, count: usize) {
        self.talk().wait_len(count);
    }

    fn received(&mut self) -> &[u8] {
        self.talk().received()
    }

    fn forget(&mut self) {
        self.talk().forget();
    }
}

/// What a client says together with its head, and an upstream together with its 101: in one record, in a record of its own
/// that comes in the same segment, or in one that comes later but before the other side's answer.
#[test]
fn early_bytes() {
    let early = [client_frame(b"early client"), client_frame(b"and more")];
    let answer = [server_frame(b"early upstream"), server_frame(b"and more")];
    for ends in ENDS {
        let mut scene = Scene::start(ends);
        for records in [1, 2, 3] {
            let split = |head: &[u8], frames: &[Vec<u8>; 2]| match records {
                1 => vec![[head, &frames.concat()].concat()],
                2 => vec![head.to_vec(), frames.concat()],
                _ => vec![[head, &frames[0][..3]].concat(), frames[0][3..].to_vec(), frames[1].clone()],
            };
            let mut client = scene.connect();
            for piece in split(ws::handshake(scene.path()).as_bytes(), &early) {
                client.send(&piece);
            }
            let mut upstream = scene.accept();
            upstream.wait_for(b"\r\n\r\n");
            for piece in split(SWITCH, &answer) {
                upstream.send(&piece);
            }
            upstream.wait_for(&early.concat());
            client.wait_for(b"HTTP/1.1 101 ");
            client.wait_for(&[b"\r\n\r\n", &answer.concat()[..]].concat());
            upstream.half_close(true);
            client.is_closed();
            client.half_close(true);
            upstream.is_closed();
            assert!(client.received().ends_with(&answer.concat()), "nothing follows");
            assert!(upstream.received().ends_with(&early.concat()), "nothing follows");
        }
        scene.is_logged();
    }
}

/// A direction ends by itself: its end reaches the other side in that side's words, and the other direction runs on.
#[test]
fn each_direction_ends_by_itself() {
    for ends in ENDS {
        let mut scene = Scene::start(ends);
        for client_first in [true, false] {
            for (notify, fin) in [(true, false), (true, true), (false, true)] {
                let (mut client, mut upstream) = scene.tunnel();
                let (first, second) = match client_first {
                    true => (&mut client, &mut upstream),
                    false => (&mut upstream, &mut client),
                };
                let words = [client_frame(b"the last word"), client_frame(b"not yet")];
                first.send(&words[0]);
                match notify {
                    true => first.half_close(fin),
                    false => first.fin(),
                }
                second.wait_for(&words[0]);
                second.is_closed();
                for _ in 0..3 {
                    second.send(&words[1]);
                    first.wait_for(&words[1]);
                }
                second.half_close(true);
                first.is_closed();
            }
        }
        scene.is_logged();
    }
}

/// `websocket_fin_timeout` counts from the last progress of the direction that is left.
#[test]
fn the_other_direction_has_its_time() {
    thread::scope(|scope| {
        for ends in ENDS {
            for client_first in [true, false] {
                scope.spawn(move || half_closed_for_long(&Scene::start(ends), client_first));
            }
        }
    });
}

fn half_closed_for_long(scene: &Scene, client_first: bool) {
    let (mut client, mut upstream) = scene.tunnel();
    let (first, second) = match client_first {
        true => (&mut client, &mut upstream),
        false => (&mut upstream, &mut client),
    };
    first.half_close(false);
    second.is_closed();
    let since = Instant::now();
    while since.elapsed() < Duration::from_millis(1300) {
        second.send(&client_frame(b"still here"));
        first.wait_for(&client_frame(b"still here"));
        // Progress, at a pace.
        first.stays_open(Duration::from_millis(100));
    }
    let silent = Instant::now();
    first.is_closed();
    let took = silent.elapsed();
    assert!(took > Duration::from_millis(500) && took < Duration::from_secs(5), "{took:?}");
}

/// Much at once in both directions, read at different paces, then the end: every byte comes out on the other side.
#[test]
fn nothing_is_lost() {
    const SIZE: usize = 3_000_000;
    let bytes = |seed: usize| (0..SIZE).map(|at| (at * seed + at / 251) as u8).collect::<Vec<u8>>();
    let (up, down) = (bytes(7), bytes(13));
    for ends in ENDS {
        let mut scene = Scene::start(ends);
        let (mut client, mut upstream) = scene.tunnel();
        for (up, down) in up.chunks(70_001).zip(down.chunks(70_001)) {
            client.send(up);
            upstream.send(down);
        }
        // As far as buffers go; then each reads a little at a time while the other waits.
        let deadline = Instant::now() + DEADLINE;
        client.half_close(false);
        upstream.half_close(false);
        while client.received().len() < SIZE || upstream.received().len() < SIZE {
            assert!(Instant::now() < deadline, "stuck");
            client.pump();
            upstream.pump();
        }
        assert!(client.received() == down && upstream.received() == up, "bytes came out otherwise");
        client.is_closed();
        upstream.is_closed();
        scene.is_logged();
    }
}

/// The proxy is told to go: the Close frame, then TLS's word, then the FIN.
#[test]
fn a_goodbye_is_said_under_tls() {
    for ends in ENDS {
        let mut scene = Scene::start(ends);
        let (mut client, mut upstream) = scene.tunnel();
        client.send(&client_frame(b"in place"));
        upstream.wait_for(&client_frame(b"in place"));
        upstream.forget();
        scene.proxy.signal(rustix::process::Signal::TERM);
        client.wait_len(4);
        client.is_closed();
        assert_eq!(client.received(), ws::server_close(1001));
        upstream.is_closed();
        assert_eq!(upstream.received()[0], 0x88, "a Close frame");
        assert!(scene.proxy.left(), "{}", scene.proxy.logs());
        scene.is_logged();
    }
}

/// A record that was changed on its way, a record that is none, one too long, a forbidden one: the connection is over, with
/// an alert to who sent it, a goodbye to the other side, and one line.
#[test]
fn a_bad_record_ends_the_tunnel() {
    let bad: [&[u8]; 4] =
        [&[23, 3, 3, 0, 20], &[0x47; 40], &[23, 3, 3, 0x48, 1], &[20, 3, 3, 0, 1, 2, 23, 3, 3, 0, 1, 0]];
    for ends in ENDS {
        let mut scene = Scene::start(ends);
        for (row, bad) in bad.iter().enumerate() {
            for from_client in [true, false] {
                // One of them never answers the goodbye: that is not what is logged.
                bad_record(&mut scene, bad, from_client, row > 0 || !from_client);
            }
        }
        let descriptors = open_descriptors(scene.proxy.serving_pid());
        let _one_more = scene.connect();
        assert!(descriptors < 60, "{descriptors} are open");
    }
}

fn bad_record(scene: &mut Scene, bad: &[u8], from_client: bool, answers: bool) {
    let has_tls = if from_client { scene.ends.client } else { scene.ends.upstream };
    if !has_tls {
        return;
    }
    let lines = |proxy: &Proxy| proxy.lines_with("while proxying upgraded connection");
    let before = lines(&scene.proxy);
    let (mut client, mut upstream) = scene.tunnel();
    let (sender, other) = match from_client {
        true => (&mut client, &mut upstream),
        false => (&mut upstream, &mut client),
    };
    let Side::Secure(tls) = sender else { return };
    tls.send(&client_frame(b"good"));
    // As long as its head says, so that there is something to find wrong.
    tls.send_raw(&[bad, &[9; 20]].concat());
    tls.wait_failure();
    let alert = tls.failure().map(ToString::to_string).unwrap_or_default();
    assert!(alert.starts_with("received fatal alert: "), "{bad:?}: {alert}");
    other.wait_for(&client_frame(b"good"));
    other.wait_for(&[0x88]);
    if answers {
        other.half_close(true);
    }
    other.is_closed();
    scene.proxy.wait_until("a line", |proxy| lines(proxy) > before);
    assert_eq!(lines(&scene.proxy), before + 1, "{}", scene.proxy.logs());
    let level = if from_client { "[info]" } else { "[error]" };
    let log = scene.proxy.error_log();
    let last = log.lines().last().unwrap_or_default();
    assert!(last.contains(level) && last.contains(": SSL_read() failed (SSL: "), "{bad:?}: {last}");
}
