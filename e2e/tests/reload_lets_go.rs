//! What a reload retires goes: at once where nothing runs, at `worker_shutdown_timeout` otherwise. What lives on holds
//! nothing of the old configuration.
#![forbid(unsafe_code)]

use std::net::TcpListener;

use rustix::process::Signal;
use tidegate_e2e::ask::request;
use tidegate_e2e::proxy::{Kind, Place, Proxy, whole};
use tidegate_e2e::raw::{DEADLINE, End, Socket};
use tidegate_e2e::ws::{self, Echo};

/// Going away: what a client is told whose tunnel has to end.
const GOING_AWAY: u16 = 1001;

/// `%%V%%` is a backend that says nothing by itself.
fn config(top: &str, word: &str, more: &str) -> String {
    let text = whole(&format!(
        "log_format short '$status $uri';
         access_log %%DIR%%/access.log short;
         upstream back {{ server 127.0.0.1:%%U%%; keepalive 4; }}
         server {{
             listen 127.0.0.1:%%PORT%%;
             location /word {{ return 200 {word}.; }}
             location /proxied {{ proxy_pass http://back; proxy_set_header Connection ''; }}
             location /tunnel {{ proxy_pass http://back; proxy_read_timeout 1h; }}
             location /slow {{ proxy_pass http://127.0.0.1:%%V%%; proxy_read_timeout 1h; }}
             location /leaves {{ proxy_pass http://back; proxy_read_timeout 1h; websocket_reload close; }}
         }}
         {more}"
    ));
    format!("{top}\n{}", text.replace("worker_processes 1", "worker_processes 2"))
}

struct Scene {
    proxy: Proxy,
    _echo: Echo,
    slow: TcpListener,
}

impl Scene {
    fn start(top: &str, more: &str) -> Scene {
        let place = Place::new(&["PORT", "PORT2", "U", "V"]);
        let proxy = Proxy::start(Kind::Tidegate, place, &config(top, "old", more));
        let echo = Echo::on(proxy.place.port("U").listen());
        let slow = proxy.place.port("V").listen();
        Scene { proxy, _echo: echo, slow }
    }

    fn reload(&mut self, top: &str) {
        self.proxy.rewrite(&config(top, "new", ""));
        self.proxy.signal(Signal::HUP);
        self.proxy.wait_until("answering anew", |proxy| proxy.get("/word").ends_with("new."));
    }

    /// An open connection comes to the new configuration: its worker may hear of it a moment after the one that was asked.
    fn comes_along(&mut self, client: &mut Socket) {
        self.proxy
            .wait_until("answering anew on an old connection", |_| ask(client, "/word").ends_with("new."));
    }

    fn wait_gone(&mut self) {
        self.proxy.wait_until("rid of the old generation", |proxy| {
            proxy.lines_with("generation 1 exited with code 0") == 1
        });
    }

    fn tunnel(&self, path: &str) -> Socket {
        let mut tunnel = ws::connect(self.proxy.place.port("PORT").address(), path);
        echoes(&mut tunnel);
        tunnel
    }

    /// A request that the backend has and does not answer.
    fn in_flight(&self, path: &str) -> (Socket, Socket) {
        let mut client = self.proxy.client();
        client.send(request(path, "keep-alive").as_bytes());
        let mut backend = Socket::over(self.slow.accept().expect("the proxy connects").0).expect("a stream");
        backend.wait_for(b"\r\n\r\n");
        (client, backend)
    }

    /// A connection that had an answer and waits.
    fn idle(&self, path: &str) -> Socket {
        let mut client = self.proxy.client();
        ask(&mut client, path);
        client
    }
}

/// One more request on an open connection, and its answer.
fn ask(client: &mut Socket, path: &str) -> String {
    client.forget();
    client.send(request(path, "keep-alive").as_bytes());
    client.wait_for(b"\r\n\r\n");
    let is_word = path == "/word";
    client.wait_for(if is_word { b"." } else { b"plain" });
    String::from_utf8_lossy(client.received()).into_owned()
}

fn echoes(tunnel: &mut Socket) {
    tunnel.forget();
    tunnel.send(&ws::client_frame(b"still there?"));
    tunnel.wait_for(&ws::server_frame(b"still there?"));
    tunnel.forget();
}

/// The answer to a request that was in flight, whole.
fn finishes(client: &mut Socket, mut backend: Socket) {
    backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate");
    client.wait_for(b"HTTP/1.1 200 ");
    client.wait_for(b"\r\n\r\nlate");
}

/// Idle connections of all kinds, on both sides, and tunnels: none keeps the old configuration, and none is closed.
#[test]
fn nothing_idle_holds_a_generation() {
    let mut scene = Scene::start("", "");
    let mut fresh = scene.proxy.client();
    let mut waiting = [scene.idle("/word"), scene.idle("/proxied")];
    let mut tunnels = [scene.tunnel("/tunnel"), scene.tunnel("/leaves")];
    scene.reload("");
    // Without a request so far it keeps the configuration it was accepted under, in case its listener goes.
    scene.comes_along(&mut fresh);
    scene.wait_gone();
    for client in &mut waiting {
        assert!(
            ask(client, "/word").ends_with("new."),
            "the connection lives on, under the new configuration"
        );
    }
    tunnels.iter_mut().for_each(echoes);
}

/// A request in flight ends under the configuration it began with, which stays as long.
#[test]
fn a_request_in_flight_ends_as_it_began() {
    let mut scene = Scene::start("", "");
    let (mut client, backend) = scene.in_flight("/slow");
    let mut half = scene.proxy.client();
    half.send(b"GET /word HTTP/1.1\r\n");
    scene.reload("");
    assert_eq!(scene.proxy.lines_with("exited with code"), 0, "a request still runs there");
    finishes(&mut client, backend);
    scene.comes_along(&mut client);
    half.send(b"Host: a\r\nConnection: close\r\n\r\n");
    assert!(half.read_to_end().starts_with("HTTP/1.1 200 "));
    scene.wait_gone();
}

/// The listener goes; who is connected there is served to the end of the request, and idle connections close.
#[test]
fn a_removed_listener() {
    let more = "server {
        listen 127.0.0.1:%%PORT2%%;
        location /word { return 200 gone.; }
        location / { proxy_pass http://127.0.0.1:%%V%%; }
    }";
    let mut scene = Scene::start("", more);
    let mut idle = scene.proxy.connect("PORT2").expect("it listens");
    ask(&mut idle, "/word");
    let mut fresh = scene.proxy.connect("PORT2").expect("it listens");
    let mut client = scene.proxy.connect("PORT2").expect("it listens");
    client.send(request("/", "keep-alive").as_bytes());
    let mut backend = Socket::over(scene.slow.accept().expect("the proxy connects").0).expect("a stream");
    backend.wait_for(b"\r\n\r\n");
    scene.reload("");
    scene.proxy.wait_until("the old port refused", |proxy| proxy.connect("PORT2").is_err());
    assert_eq!(idle.wait_end(DEADLINE), End::Fin, "an idle connection has nowhere to send a request");
    assert!(ask(&mut fresh, "/word").ends_with("gone."), "accepted is as good as asked");
    assert_eq!(fresh.wait_end(DEADLINE), End::Fin);
    finishes(&mut client, backend);
    assert_eq!(client.wait_end(DEADLINE), End::Fin);
    scene.wait_gone();
}

/// nginx's `worker_shutdown_timeout` on HUP: requests of before are given up, and connections that never sent one;
/// tunnels only where `websocket_reload close` says so.
#[test]
fn worker_shutdown_timeout() {
    let top = "worker_shutdown_timeout 500ms;";
    let mut scene = Scene::start(top, "");
    let mut unused = scene.proxy.client();
    let mut half = scene.proxy.client();
    half.send(b"GET /word HTTP/1.1\r\n");
    let mut idle = scene.idle("/word");
    let (mut client, mut backend) = scene.in_flight("/slow");
    let mut stays = scene.tunnel("/tunnel");
    let mut leaving: Vec<Socket> = (0..8).map(|_| scene.tunnel("/leaves")).collect();
    scene.reload(top);
    // Begun after the reload: not concerned.
    let mut later = scene.tunnel("/leaves");
    let mut unused_later = scene.proxy.client();
    let (mut client_later, backend_later) = scene.in_flight("/slow");
    for tunnel in &mut leaving {
        tunnel.wait_for(&ws::server_close(GOING_AWAY));
        tunnel.send(&ws::client_frame(b"too late"));
        assert_eq!(tunnel.received(), ws::server_close(GOING_AWAY), "nothing after the Close frame");
    }
    drop(leaving);
    assert_ne!(unused.wait_end(DEADLINE), End::Open);
    assert_ne!(half.wait_end(DEADLINE), End::Open);
    assert_ne!(client.wait_end(DEADLINE), End::Open);
    assert_ne!(backend.wait_end(DEADLINE), End::Open);
    assert_eq!([unused, half, client].map(|socket| socket.received().len()), [0; 3], "no answer to give");
    scene.wait_gone();
    scene.comes_along(&mut idle);
    echoes(&mut stays);
    echoes(&mut later);
    scene.comes_along(&mut unused_later);
    finishes(&mut client_later, backend_later);
    scene.proxy.wait_until("eight lines of access log", |proxy| proxy.access_lines("101 /leaves") == 8);
    scene.proxy.has_one_line(&["worker_shutdown_timeout", "request: \"GET /slow HTTP/1.1\""]);
}

/// Without a `worker_shutdown_timeout` there is no hurry, as with nginx: those tunnels stay too.
#[test]
fn without_a_timeout_nothing_is_closed() {
    let mut scene = Scene::start("", "");
    let mut tunnel = scene.tunnel("/leaves");
    for _ in 0..3 {
        scene.reload("");
    }
    echoes(&mut tunnel);
}
