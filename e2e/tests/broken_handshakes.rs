//! Ten thousand handshakes that break off, at every stage there is and from either side: the serving process keeps no
//! descriptor and no memory of them. `TIDEGATE_SEED` plays a run again.
#![forbid(unsafe_code)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::net::sockopt;
use rustls::ClientConfig;
use tidegate_e2e::ask::{anonymous_bytes, more_descriptors, open_descriptors};
use tidegate_e2e::certificates::{Authority, Kind as Key};
use tidegate_e2e::proxy::{Kind, Place, Proxy, whole};
use tidegate_e2e::random::{self, Random};
use tidegate_e2e::raw::{DEADLINE, End, Socket};
use tidegate_e2e::secure::{self, Cut, PROTOCOLS, Tls};
use tidegate_e2e::threads::OnDrop;
use tidegate_e2e::ws;

/// Handshakes between two looks at memory.
const BATCH: usize = 1_000;
const BATCHES: u64 = 10;
const THREADS: usize = 4;
const BACKENDS: usize = 2;
/// What two runs of the allocator may differ by.
const SLACK_BYTES: u64 = 512 * 1024;

/// `%%V%%` takes nobody.
const CONFIG: &str = "
    log_format short '$status $uri';
    access_log %%DIR%%/access.log short;
    ssl_certificate %%DIR%%/a.crt;
    ssl_certificate_key %%DIR%%/a.key;
    server {
        listen 127.0.0.1:%%PORT%%;
        listen 127.0.0.1:%%TLS%% ssl;
        location / { proxy_pass http://127.0.0.1:%%U%%; }
        location /refused { proxy_pass http://127.0.0.1:%%V%%; }
    }";

struct Scene {
    proxy: Proxy,
    client: Arc<ClientConfig>,
}

impl Scene {
    fn start() -> Scene {
        let authority = Authority::new("authority");
        let place = Place::new(&["PORT", "TLS", "U", "V"]);
        authority.issue(Key::Ecdsa, "a", &[]).write(&place, "a");
        let proxy = Proxy::start(Kind::Tidegate, place, &whole(CONFIG).replace("cesses 1", "cesses 2"));
        Scene { proxy, client: secure::client(&authority, &PROTOCOLS, true) }
    }

    /// So many, on several threads.
    fn break_off(&self, count: usize, seed: u64) {
        thread::scope(|scope| {
            for number in 0..THREADS {
                let mut random = Random::new(seed.wrapping_add(number as u64));
                scope.spawn(move || (0..count / THREADS).for_each(|_| self.one(&mut random)));
            }
        });
    }

    fn one(&self, random: &mut Random) {
        let address = self.proxy.place.port("TLS").address();
        let head = ws::handshake(UPSTREAMS[random.below(UPSTREAMS.len())]);
        let head = head.as_bytes();
        let how = if random.once_in(2) { Cut::Fin } else { Cut::Rst };
        match random.below(8) {
            // Before a byte, and within the head.
            0 => ends(self.proxy.client(), &[], how),
            1 => ends(self.proxy.client(), &head[..random.below(head.len())], how),
            // With the head sent: before the backend has answered, or at any time after.
            2 => ends(self.proxy.client(), head, how),
            // The backend breaks off, or both do.
            3 | 4 => answered(self.proxy.client(), head, how),
            // Within TLS's handshake, and right behind it.
            5 | 6 => {
                let mut tls = Tls::cut(address, &self.client, random.below(800), how).expect("it listens");
                tls.wait_end(Duration::from_millis(random.below(5) as u64));
            }
            _ => {
                let mut tls = Tls::connect(address, &self.client, "a").expect("it listens").shaken();
                tls.send(&head[..random.below(head.len() + 1)]);
                match how {
                    Cut::Fin => tls.fin(),
                    Cut::Rst => tls.reset(),
                }
            }
        }
    }
}

/// Says so much and no more.
fn ends(mut client: Socket, bytes: &[u8], how: Cut) {
    client.send(bytes);
    match how {
        Cut::Fin => {
            client.fin();
            assert_ne!(client.wait_end(DEADLINE), End::Open, "behind {}", bytes.escape_ascii());
        }
        Cut::Rst => client.reset(),
    }
}

/// Waits for the beginning of an answer, if one comes.
fn answered(mut client: Socket, head: &[u8], how: Cut) {
    client.send(head);
    let mut left = DEADLINE;
    while client.received().is_empty() && client.end() == End::Open && !left.is_zero() {
        let some = Duration::from_millis(20);
        client.wait_end(some);
        left = left.saturating_sub(some);
    }
    assert!(!left.is_zero(), "no answer to {}", head.escape_ascii());
    ends(client, &ws::client_frame(b"and on"), how);
}

/// What the backend does is in the path.
const UPSTREAMS: [&str; 8] =
    ["/close", "/reset", "/half", "/bad", "/page", "/tunnel-close", "/tunnel-reset", "/refused"];

const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Breaks off in as many ways.
fn backend(listener: &TcpListener, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        // The last one comes to end this.
        let Ok((stream, _)) = listener.accept() else { continue };
        let _ = break_off(stream);
    }
}

fn break_off(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(DEADLINE))?;
    let mut head = Vec::new();
    let mut chunk = [0; 1024];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut chunk)? {
            0 => return Ok(()),
            count => head.extend_from_slice(&chunk[..count]),
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let answer = match head.split(' ').nth(1).unwrap_or_default() {
        "/half" => SWITCH[..40].to_owned(),
        "/bad" => SWITCH.replace("s3p", "bad"),
        "/page" => "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf".to_owned(),
        "/tunnel-close" | "/tunnel-reset" => SWITCH.to_owned() + "\u{1}",
        _ => String::new(),
    };
    stream.write_all(answer.as_bytes())?;
    if head.contains("reset") {
        sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
    }
    Ok(())
}

#[test]
fn nothing_is_kept_of_them() {
    more_descriptors(500);
    let seed = random::seed();
    let scene = Scene::start();
    let (listener, address) = (scene.proxy.place.port("U").listen(), scene.proxy.place.port("U").address());
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        (0..BACKENDS).for_each(|_| drop(scope.spawn(|| backend(&listener, &stop))));
        let _ends = OnDrop(|| {
            stop.store(true, Ordering::Relaxed);
            (0..BACKENDS).for_each(|_| drop(TcpStream::connect(address)));
        });
        let serving = scene.proxy.serving_pid();
        let before = open_descriptors(serving);
        let few = |proxy: &Proxy| open_descriptors(proxy.serving_pid()) <= before;
        let memory: Vec<u64> = (0..BATCHES)
            .map(|batch| {
                scene.break_off(BATCH, seed.wrapping_add(batch * THREADS as u64));
                scene.proxy.wait_for("as few descriptors as before", few);
                anonymous_bytes(serving)
            })
            .collect();
        // One look may meet anything; what is kept does not go away again.
        let least = |some: &[u64]| *some.iter().min().expect("several");
        let (early, late) = (least(&memory[1..4]), least(&memory[7..]));
        println!("{early} bytes early, {late} late");
        assert!(late <= early + SLACK_BYTES, "memory grew from {early} to {late} bytes: {memory:?}");
        assert_eq!(scene.proxy.serving_pid(), serving, "one process served them all");
        for level in ["[alert]", "[crit]", "[emerg]"] {
            assert_eq!(scene.proxy.lines_with(level), 0, "{}", scene.proxy.logs());
        }
    });
    let mut proxy = scene.proxy;
    assert!(proxy.stop(), "{}", proxy.logs());
}
