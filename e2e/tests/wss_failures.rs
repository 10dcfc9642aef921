//! What goes wrong around wss tunnels, beside nginx on the same configuration: processes killed, clients that are slow or
//! silent in a handshake, descriptors used up.
#![forbid(unsafe_code)]

use std::process::{Child, Command};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustls::ClientConfig;
use tidegate_e2e::ask::{more_descriptors, request};
use tidegate_e2e::certificates::{Authority, Kind as Key};
use tidegate_e2e::proxy::{Kind, Place, Proxy, whole};
use tidegate_e2e::raw::{DEADLINE, End, Socket};
use tidegate_e2e::secure::{self, PROTOCOLS, Tls};
use tidegate_e2e::ws::{Echo, Tunnels, opened};

const CONFIG: &str = "
    log_format short '$status $uri';
    access_log %%DIR%%/access.log short;
    client_header_timeout 2s;
    ssl_certificate %%DIR%%/a.crt;
    ssl_certificate_key %%DIR%%/a.key;
    proxy_http_version 1.1;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection $http_connection;
    proxy_read_timeout 1h;
    server { listen 127.0.0.1:%%PORT%%; return 200 alive; }
    server {
        listen 127.0.0.1:%%TLS%% ssl;
        location /plain { proxy_pass http://127.0.0.1:%%U%%; }
        location /secure { proxy_pass https://127.0.0.1:%%W%%; }
        location /alive { return 200 'alive$ssl_session_reused'; }
    }
    server {
        listen 127.0.0.1:%%KEPT%% ssl;
        ssl_session_ticket_key %%DIR%%/ticket.key;
        return 200 'alive$ssl_session_reused';
    }
    server {
        listen 127.0.0.1:%%STORED%% ssl;
        ssl_session_tickets off;
        ssl_session_cache shared:sessions:1m;
        return 200 'alive$ssl_session_reused';
    }";

const TIMED_OUT: &str = "client timed out (110: ";

struct Scene {
    proxy: Proxy,
    client: Arc<ClientConfig>,
    /// With a memory of sessions, for `TLS`, `KEPT` and `STORED`.
    resuming: [Arc<ClientConfig>; 3],
}

impl Scene {
    fn start(kind: Kind) -> Scene {
        Scene::limited(kind, None)
    }

    fn limited(kind: Kind, descriptors: Option<u32>) -> Scene {
        let authority = Authority::new("authority");
        let place = Place::new(&["PORT", "TLS", "KEPT", "STORED", "U", "W"]);
        authority.issue(Key::Ecdsa, "a", &[]).write(&place, "a");
        place.dir.write("ticket.key", &(0..80).collect::<Vec<u8>>());
        let config = whole(CONFIG);
        let mut proxy = match descriptors {
            Some(count) => Proxy::start_limited(kind, place, &config, count),
            None => Proxy::start(kind, place, &config),
        };
        proxy.wait_listening("STORED");
        let client = |resumes| secure::client(&authority, &PROTOCOLS, resumes);
        Scene { proxy, client: client(false), resuming: [(); 3].map(|()| client(true)) }
    }

    fn tls(&self) -> Tls {
        let address = self.proxy.place.port("TLS").address();
        Tls::connect(address, &self.client, "a").expect("it listens").shaken()
    }

    fn tunnels(&self, count: usize, path: &str) -> Tunnels<Tls> {
        let mut tunnels = Tunnels::new();
        (0..count).for_each(|_| tunnels.add(opened(self.tls(), path)));
        tunnels.round();
        tunnels
    }

    /// What a new connection gets, and whether it took up a session; nothing when the connection broke.
    fn ask(&self, port: &str, config: &Arc<ClientConfig>) -> Option<bool> {
        let address = self.proxy.place.port(port).address();
        let mut tls = Tls::connect(address, config, "a").expect("the listener never goes away");
        if !tls.shakes() {
            return None;
        }
        tls.send(request("/alive", "close").as_bytes());
        let came = tls.comes(b"alive.") || tls.received().ends_with(b"aliver");
        came.then(|| tls.is_resumed())
    }
}

/// The echo as a process, gone with the test.
struct Backend(Child);

impl Backend {
    fn start(scene: &Scene, port: &str, tls: bool) -> Backend {
        let port = scene.proxy.place.port(port);
        let mut command = Command::new(env!("CARGO_BIN_EXE_echo"));
        command.arg(port.number().to_string());
        if tls {
            command.arg(scene.proxy.place.dir.path().join("a"));
        }
        let backend = Backend(command.spawn().expect("cargo built it"));
        scene.proxy.wait_for("the echo to listen", |_| Socket::connect(port.address()).is_ok());
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

/// Killed by force: its tunnels are lost, nobody is ever refused, and the next one takes handshakes. Sessions in
/// tickets outlive it, whose keys are the monitor's or a file's; those in a store do on nginx only, which has it in shared memory.
fn serving_process_killed(kind: Kind) {
    let mut scene = Scene::start(kind);
    let _echo = Echo::on(scene.proxy.place.port("U").listen());
    for round in 1..=2 {
        let mut tunnels = scene.tunnels(20, "/plain");
        let [ticket, kept, stored] = scene.resuming.clone();
        for (port, config) in [("TLS", &ticket), ("KEPT", &kept), ("STORED", &stored)] {
            scene.ask(port, config).expect("an answer");
            assert_eq!(scene.ask(port, config), Some(true), "{port}");
        }
        let killed = scene.proxy.serving_pid();
        kill_process(killed, Signal::KILL).expect("it runs");
        for _ in 0..10 {
            let answer = scene.ask("TLS", &scene.client);
            let dying = scene.proxy.lines_with("exited on signal 9") < round;
            assert!(answer == Some(false) || dying, "not served\n{}", scene.proxy.logs());
        }
        for tunnel in tunnels.sockets() {
            assert_ne!(tunnel.wait_end(DEADLINE), End::Open, "a tunnel outlived its process");
        }
        let pid = |pid: Pid| pid.as_raw_nonzero().to_string();
        let line = format!(
            "[alert] {0}#{0}: worker process {1} exited on signal 9",
            pid(scene.proxy.pid()),
            pid(killed)
        );
        scene.proxy.wait_until("a line about it", |proxy| proxy.lines_with(&line) == 1);
        scene.proxy.wait_until("another process", |proxy| proxy.serving_pid() != killed);
        assert_eq!(scene.ask("KEPT", &kept), Some(true), "the key is from a file");
        assert_eq!(scene.ask("TLS", &ticket), Some(true), "the monitor has the key");
        assert_eq!(scene.ask("STORED", &stored), Some(kind == Kind::Nginx), "the store is gone");
        assert_eq!(scene.ask("STORED", &stored), Some(true), "a session of the new process");
    }
    assert!(scene.proxy.stop(), "{}", scene.proxy.logs());
}

/// The backend is killed under live tunnels, plain and under TLS: all end in order, the next request is refused.
fn backend_killed(kind: Kind) {
    let mut scene = Scene::start(kind);
    let mut backends = [Backend::start(&scene, "U", false), Backend::start(&scene, "W", true)];
    let mut tunnels = [scene.tunnels(20, "/plain"), scene.tunnels(20, "/secure")];
    backends.iter_mut().for_each(Backend::kill);
    for tunnel in tunnels.iter_mut().flat_map(|tunnels| tunnels.sockets()) {
        tunnel.wait_notified();
        assert_ne!(tunnel.wait_end(DEADLINE), End::Open, "a tunnel outlived its backend");
    }
    drop(tunnels);
    for path in ["/plain", "/secure"] {
        let line = format!("101 {path}");
        scene.proxy.wait_until("20 lines of access log", |proxy| proxy.access_lines(&line) == 20);
        let mut tls = scene.tls();
        tls.send(request(path, "close").as_bytes());
        assert!(tls.comes(b"HTTP/1.1 502 "), "{path}");
    }
    let refused = "connect() failed (111: Connection refused) while connecting to upstream";
    assert_eq!(scene.proxy.lines_with(refused), 2, "{}", scene.proxy.logs());
    assert_eq!(scene.ask("TLS", &scene.client), Some(false));
}

/// `client_header_timeout` is for all of the handshake: neither silence nor a byte now and then puts it off.
fn slow_and_silent_clients(kind: Kind) {
    let mut scene = Scene::start(kind);
    let address = scene.proxy.place.port("TLS").address();
    let bytes = Tls::connect(address, &scene.client, "a").expect("it listens").encrypted().to_vec();
    thread::scope(|scope| {
        for silent in [true, false] {
            let bytes = &bytes;
            scope.spawn(move || {
                let mut client = Socket::connect(address).expect("it listens");
                let started = Instant::now();
                for byte in bytes {
                    if !silent {
                        client.send(&[*byte]);
                    }
                    if client.wait_end(Duration::from_secs(1)) != End::Open {
                        break;
                    }
                }
                let took = started.elapsed();
                assert_ne!(client.end(), End::Open, "each byte must not start the timer anew");
                assert!(took >= Duration::from_millis(1900) && took < Duration::from_secs(6), "{took:?}");
            });
        }
    });
    scene.proxy.wait_until("a line for each", |proxy| proxy.lines_with(TIMED_OUT) == 2);
    let log = scene.proxy.error_log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains(TIMED_OUT)).collect();
    let right = |line: &&str| line.contains("[info]") && line.contains(" while SSL handshaking");
    assert!(lines.iter().all(right), "{lines:?}");
    assert_eq!(scene.ask("TLS", &scene.client), Some(false));
}

/// More clients than descriptors: those inside go on, and when some leave there is room for handshakes again.
fn descriptors_used_up(kind: Kind) {
    more_descriptors(500);
    let scene = Scene::limited(kind, Some(100));
    let _echo = Echo::on(scene.proxy.place.port("U").listen());
    let mut tunnels = scene.tunnels(10, "/plain");
    let address = scene.proxy.place.port("TLS").address();
    let crowd: Vec<Tls> =
        (0..150).map(|_| Tls::connect(address, &scene.client, "a").expect("the backlog has room")).collect();
    scene.proxy.wait_for("out of descriptors", |proxy| proxy.lines_with("(24: ") > 0);
    for _ in 0..10 {
        tunnels.round();
    }
    drop(crowd);
    assert_eq!(scene.ask("TLS", &scene.client), Some(false), "no room again\n{}", scene.proxy.logs());
    tunnels.round();
    let complaints = scene.proxy.lines_with("(24: ");
    assert!((1..100).contains(&complaints), "{complaints} complaints\n{}", scene.proxy.logs());
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

with_both!(serving_process_killed, backend_killed, slow_and_silent_clients, descriptors_used_up);
