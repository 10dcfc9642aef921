//! Reloads while requests and handshakes come: none is refused, cut or answered wrongly, whether the new configuration is
//! good or bad.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use rustix::process::Signal;
use tidegate_e2e::ask::{anonymous_bytes, open_descriptors, request};
use tidegate_e2e::proxy::{Kind, Place, Proxy, whole};
use tidegate_e2e::threads::OnDrop;
use tidegate_e2e::ws::{self, Echo, Tunnels};

const RELOADS: u32 = 200;
/// Growth over the last hundred and forty reloads that is noise; two kilobytes kept by each would show.
const SLACK_BYTES: u64 = 256 * 1024;

/// The word tells which one answers.
fn config(word: &str) -> String {
    whole(&format!(
        "upstream back {{ server 127.0.0.1:%%U%%; keepalive 4; }}
         server {{
             listen 127.0.0.1:%%PORT%%;
             keepalive_requests 1000000000;
             location /word {{ return 200 {word}.; }}
             location /proxied {{ proxy_pass http://back; proxy_set_header Connection ''; }}
             location /tunnel {{ proxy_pass http://back; proxy_read_timeout 1h; }}
         }}"
    ))
    .replace("worker_processes 1", "worker_processes 2")
}

/// Clients of every kind, until told to stop; each panics at the first thing that is not as it should be.
struct Load<'p> {
    proxy: &'p Proxy,
    stop: AtomicBool,
    done: [AtomicU64; CLIENTS.len()],
}

type Client = fn(&Load<'_>, &AtomicU64);

const CLIENTS: [(&str, Client); 4] =
    [("short", short), ("kept alive", kept_alive), ("tunnels", handshakes), ("long", long)];

impl<'p> Load<'p> {
    /// Runs `work` while all clients are busy. `proxy` is looked at, and signalled, by both.
    fn beside(proxy: &'p Proxy, work: impl FnOnce(&Load<'p>)) {
        let load = Load { proxy, stop: AtomicBool::new(false), done: Default::default() };
        thread::scope(|scope| {
            let clients: Vec<_> = CLIENTS
                .iter()
                .zip(&load.done)
                .map(|((_, client), done)| scope.spawn(|| client(&load, done)))
                .collect();
            let stopper = OnDrop(|| load.stop.store(true, Ordering::Relaxed));
            work(&load);
            drop(stopper);
            for (client, (name, _)) in clients.into_iter().zip(CLIENTS) {
                assert!(client.join().is_ok(), "the {name} client failed\n{}", proxy.logs());
            }
        });
        for ((name, _), done) in CLIENTS.iter().zip(&load.done) {
            println!("{name}: {} done", done.load(Ordering::Relaxed));
        }
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// Every client has done something more since `before`.
    fn moved_since(&self, before: &[u64]) -> bool {
        self.counts().iter().zip(before).all(|(now, before)| now > before)
    }

    fn counts(&self) -> Vec<u64> {
        self.done.iter().map(|done| done.load(Ordering::Relaxed)).collect()
    }
}

/// A connection for every request, to a page and to the backend in turn.
fn short(load: &Load<'_>, done: &AtomicU64) {
    while load.goes_on() {
        is_a_word(&load.proxy.get("/word"));
        let answer = load.proxy.get("/proxied");
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("plain"), "{answer:?}");
        done.fetch_add(1, Ordering::Relaxed);
    }
}

/// One connection for all.
fn kept_alive(load: &Load<'_>, done: &AtomicU64) {
    let mut client = load.proxy.client();
    while load.goes_on() {
        client.send(request("/word", "keep-alive").as_bytes());
        client.wait_for(b"\r\n\r\n");
        client.wait_for(b".");
        is_a_word(&String::from_utf8_lossy(client.received()));
        client.forget();
        done.fetch_add(1, Ordering::Relaxed);
    }
}

/// A tunnel for every message.
fn handshakes(load: &Load<'_>, done: &AtomicU64) {
    while load.goes_on() {
        let mut tunnel = ws::connect(load.proxy.place.port("PORT").address(), "/tunnel");
        tunnel.send(&ws::client_frame(b"once"));
        tunnel.wait_for(&ws::server_frame(b"once"));
        done.fetch_add(1, Ordering::Relaxed);
    }
}

/// The same tunnels all the time.
fn long(load: &Load<'_>, done: &AtomicU64) {
    let mut tunnels = Tunnels::new();
    tunnels.open(20, load.proxy.place.port("PORT").address(), "/tunnel");
    while load.goes_on() {
        tunnels.round();
        done.fetch_add(1, Ordering::Relaxed);
    }
}

fn is_a_word(answer: &str) {
    let word = answer.split_once("\r\n\r\n").map(|(_, body)| body);
    let known = answer.starts_with("HTTP/1.1 200 ") && matches!(word, Some("even." | "odd."));
    assert!(known, "{answer:?}");
}

fn start() -> (Proxy, Echo) {
    let proxy = Proxy::start(Kind::Tidegate, Place::new(&["PORT", "PORT2", "U"]), &config("even"));
    let echo = Echo::on(proxy.place.port("U").listen());
    (proxy, echo)
}

#[test]
fn two_hundred_reloads() {
    let (mut proxy, _echo) = start();
    let serving = proxy.serving_pid();
    let descriptors = open_descriptors(serving);
    let mut memory = Vec::new();
    Load::beside(&proxy, |load| {
        for number in 1..=RELOADS {
            let before = load.counts();
            let word = if number % 2 == 1 { "odd" } else { "even" };
            proxy.rewrite(&config(word));
            proxy.signal(Signal::HUP);
            proxy.wait_for(&format!("answers of reload {number} to everybody"), |proxy| {
                load.moved_since(&before) && proxy.get("/word").ends_with(&format!("{word}."))
            });
            memory.push(anonymous_bytes(serving));
        }
    });
    assert_eq!(proxy.serving_pid(), serving, "one process serves all along");
    proxy.wait_until("as few descriptors as before", |_| open_descriptors(serving) <= descriptors);
    // Two runs of the allocator differ; what a reload leaves behind does not go away again.
    let least = |some: &[u64]| *some.iter().min().expect("as many as reloads");
    let (early, late) = (least(&memory[20..60]), least(&memory[RELOADS as usize - 40..]));
    println!("{early} bytes early, {late} late");
    assert!(late <= early + SLACK_BYTES, "memory grew from {early} to {late} bytes: {memory:?}");
    for level in ["[error]", "[crit]", "[alert]", "[emerg]"] {
        assert_eq!(proxy.lines_with(level), 0, "{}", proxy.logs());
    }
    proxy.wait_until("every old generation to go", |proxy| {
        proxy.lines_with(" exited with code 0") == RELOADS as usize
    });
}

/// Reloads that come faster than they can be done: as many as there is time for are, and the last one surely.
#[test]
fn reloads_in_a_heap() {
    let (mut proxy, _echo) = start();
    Load::beside(&proxy, |load| {
        for round in 0..5 {
            let before = load.counts();
            for number in 0..20 {
                proxy.rewrite(&config(if number % 2 == 0 { "odd" } else { "even" }));
                proxy.signal(Signal::HUP);
            }
            proxy.rewrite(&config(if round % 2 == 0 { "odd" } else { "even" }));
            proxy.signal(Signal::HUP);
            let word = if round % 2 == 0 { "odd." } else { "even." };
            proxy.wait_for("the last one", |proxy| {
                load.moved_since(&before) && proxy.get("/word").ends_with(word)
            });
        }
    });
    proxy.wait_until("all old generations to go", |proxy| {
        // The signal's own line ends otherwise.
        let reloads = proxy.lines_with(": reconfiguring");
        reloads >= 5 && proxy.lines_with(" exited with code 0") == reloads
    });
}

/// What is wrong is said, with its place; the old configuration serves on.
#[test]
fn a_bad_configuration() {
    let (mut proxy, _echo) = start();
    let serving = proxy.serving_pid();
    let taken = proxy.place.port("U").number();
    let path = proxy.place.dir.path().join("nginx.conf").display().to_string();
    let base = config("odd");
    let bad = |from: &str, to: &str| base.replace(from, to);
    let cases = [
        (
            bad("return 200", "retrun 200"),
            format!("[emerg] PID#PID: unknown directive \"retrun\" in {path}:14"),
        ),
        (
            bad("keepalive 4;", "keepalive no;"),
            format!("[emerg] PID#PID: invalid value \"no\" in \"keepalive\" directive in {path}:10"),
        ),
        (bad("location /proxied {", "location /proxied"), "[emerg] PID#PID: unexpected ".to_owned()),
        (
            bad("proxy_pass http://back", "proxy_pass http://nowhere.invalid"),
            "host not found in upstream".to_owned(),
        ),
        (
            bad("listen 127.0.0.1:%%PORT%%;", "listen 127.0.0.1:%%PORT%%; listen 127.0.0.1:%%U%%;"),
            format!("bind() to 127.0.0.1:{taken} failed (98: Address already in use)"),
        ),
    ];
    let pid = proxy.pid().as_raw_nonzero().to_string();
    Load::beside(&proxy, |load| {
        for (config, complaint) in &cases {
            let before = load.counts();
            proxy.rewrite(config);
            proxy.signal(Signal::HUP);
            let complaint = complaint.replace("PID", &pid);
            proxy.wait_for(&format!("the complaint {complaint:?}"), |proxy| proxy.lines_with(&complaint) > 0);
            proxy.wait_for("traffic to go on", |_| load.moved_since(&before));
            assert!(proxy.get("/word").ends_with("even."), "the old one answers");
        }
        proxy.rewrite(&base);
        proxy.signal(Signal::HUP);
        proxy.wait_for("the good one", |proxy| proxy.get("/word").ends_with("odd."));
    });
    assert_eq!(proxy.serving_pid(), serving, "one process serves all along");
    assert!(proxy.stop(), "{}", proxy.logs());
}
