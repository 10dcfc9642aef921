//! Reloads under TLS: a thousand tunnels through fifty of them with nothing lost, and a hundred new certificates under a
//! load of handshakes, each of which sees the newest. The memory of the process that serves does not grow.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread;

use rustix::process::Signal;
use rustls::ClientConfig;
use rustls::version::{TLS12, TLS13};
use tidegate_e2e::ask::{anonymous_bytes, more_descriptors, open_descriptors, request};
use tidegate_e2e::certificates::{Authority, Kind, Pair};
use tidegate_e2e::proxy::{self, Place, Proxy, roomy, whole};
use tidegate_e2e::raw::{DEADLINE, End, Socket};
use tidegate_e2e::secure::{self, PROTOCOLS, Tls};
use tidegate_e2e::threads::{OnDrop, Rounds};
use tidegate_e2e::ws::{Echo, Talk, Tunnels, opened};

/// Growth from the tenth to the last reload that is noise: allocator pages that two runs place differently.
const SLACK_BYTES: u64 = 256 * 1024;

const TUNNELS: usize = 1000;
const RELOADS: u32 = 50;

/// What both configurations have. `%%W%%` speaks TLS.
const COMMON: &str = "
    location /tunnel { proxy_pass http://back; proxy_read_timeout 1h; }
    location /secure { proxy_pass https://secure; proxy_read_timeout 1h; proxy_ssl_session_reuse %%REUSE%%; }";

const PAIR: &str = "ssl_certificate %%DIR%%/a.crt; ssl_certificate_key %%DIR%%/a.key;";

fn first() -> String {
    let common = COMMON.replace("%%REUSE%%", "on");
    roomy(&format!(
        "upstream back {{ server 127.0.0.1:%%U%%; }}
         upstream secure {{ server 127.0.0.1:%%W%%; }}
         ssl_session_cache shared:s:32k;
         server {{ listen 127.0.0.1:%%PORT%%; listen 127.0.0.1:%%TLS%% ssl; {PAIR} {common}
                   location /which {{ return 200 first; }} }}"
    ))
}

/// With a peer, a map, a header, a server by name with a certificate of its own and a listener more, and other settings of
/// TLS on both sides.
fn second() -> String {
    let common = COMMON.replace("%%REUSE%%", "off; proxy_ssl_server_name on; proxy_ssl_name a");
    roomy(&format!(
        "upstream back {{ server 127.0.0.1:%%U%%; server 127.0.0.1:%%V%%; }}
         upstream secure {{ server 127.0.0.1:%%W%%; keepalive 4; }}
         map $ssl_protocol $answer {{ default second; TLSv1.2 third; }}
         ssl_session_cache shared:s:32k; ssl_session_tickets off; ssl_buffer_size 4k;
         server {{ listen 127.0.0.1:%%PORT%%; listen 127.0.0.1:%%TLS%% ssl; {PAIR} {common}
                   add_header X-Second $answer; location /which {{ return 200 $answer; }} }}
         server {{ listen 127.0.0.1:%%TLS%% ssl; listen 127.0.0.1:%%TLS2%% ssl; server_name two;
                   ssl_certificate %%DIR%%/two.crt; ssl_certificate_key %%DIR%%/two.key; return 200 two; }}"
    ))
}

struct Scene {
    proxy: Proxy,
    client: Arc<ClientConfig>,
    /// The certificates of both configurations.
    pairs: [Pair; 2],
}

impl Scene {
    fn start(authority: &Authority) -> Scene {
        let place = Place::new(&["PORT", "TLS", "TLS2", "U", "V", "W"]);
        let pairs = [
            authority.issue(Kind::Ecdsa, "a", &[]),
            // Another kind of key, and another name beside the common one.
            authority.issue(Kind::Rsa, "b", &["a"]),
        ];
        pairs[0].write(&place, "a");
        authority.issue(Kind::Ecdsa, "two", &[]).write(&place, "two");
        let mut proxy = Proxy::start(proxy::Kind::Tidegate, place, &first());
        proxy.wait_listening("TLS");
        Scene { proxy, client: secure::client(authority, &PROTOCOLS, false), pairs }
    }

    fn tls(&self) -> Tls {
        let address = self.proxy.place.port("TLS").address();
        Tls::connect(address, &self.client, "a").expect("it listens").shaken()
    }

    /// Of each four, two have TLS to the client, one to both ends, and one to the upstream.
    fn open(&self, count: usize, tunnels: &mut Tunnels<Box<dyn Talk + Send>>) {
        for number in 0..count {
            let path = if number % 4 < 2 { "/tunnel" } else { "/secure" };
            match number % 4 {
                3 => tunnels.add(Box::new(opened(self.proxy.client(), path))),
                _ => tunnels.add(Box::new(opened(self.tls(), path))),
            }
        }
    }

    /// HUP with the other configuration, and waits until it answers: even numbers are the first one.
    fn reload(&mut self, number: u32) {
        let second_now = number % 2 == 1;
        self.pairs[usize::from(second_now)].write(&self.proxy.place, "a");
        self.proxy.rewrite(&if second_now { second() } else { first() });
        self.proxy.signal(Signal::HUP);
        let word = if second_now { "second" } else { "first" };
        self.proxy.wait_until(&format!("answering as {word}"), |proxy| {
            let mut client = proxy.client();
            client.send(request("/which", "close").as_bytes());
            client.wait_end(DEADLINE);
            client.received().ends_with(word.as_bytes())
        });
        // The listener of TLS is under the new configuration as soon as the other one is.
        let mut tls = self.tls();
        assert_eq!(subject(&tls), if second_now { "CN=b" } else { "CN=a" }, "reload {number}");
        tls.send(request("/which", "close").as_bytes());
        tls.wait_notified();
        assert!(tls.received().ends_with(word.as_bytes()));
        // The other certificates are not for this name.
        let address = self.proxy.place.port("TLS").address();
        let mut two = Tls::connect(address, &self.client, "two").expect("it listens");
        assert_eq!(two.shakes(), second_now, "reload {number}");
        self.proxy.wait_until("the other listener to come or go", |proxy| {
            let client = Socket::connect(proxy.place.port("TLS2").address());
            client.is_ok() == second_now
        });
    }
}

fn subject(tls: &Tls) -> String {
    tls::subject::subject(tls.certificate()).expect("a subject")
}

#[test]
fn a_thousand_tunnels_through_fifty_reloads() {
    more_descriptors(3000);
    let authority = Authority::new("authority");
    let mut scene = Scene::start(&authority);
    let port = |name: &str| scene.proxy.place.port(name).listen();
    let server = secure::server(&authority.issue(Kind::Ecdsa, "a", &[]), &PROTOCOLS);
    let _backends = [Echo::on(port("U")), Echo::on(port("V")), Echo::secure(port("W"), server)];
    let mut tunnels = Tunnels::new();
    scene.open(TUNNELS / 2, &mut tunnels);
    scene.reload(1);
    scene.open(TUNNELS / 2, &mut tunnels);

    let serving = scene.proxy.serving_pid();
    let mut memory = Vec::new();
    let rounds = Rounds::beside(&mut tunnels, |rounds| {
        for number in 2..=RELOADS {
            let before = rounds.count();
            scene.reload(number);
            assert_eq!(scene.proxy.serving_pid(), serving, "reload {number} changed the serving process");
            scene.proxy.wait_until("echoing after a reload", |_| rounds.moved_since(before));
            memory.push(anonymous_bytes(serving));
        }
    });
    tunnels.round();
    println!("{TUNNELS} tunnels, {RELOADS} reloads, {rounds} rounds");
    is_flat(&memory);
    old_generations_are_gone(&mut scene.proxy, RELOADS);
    is_quiet(&scene.proxy);
    // A tunnel ends in order at last, whatever it has been through.
    let descriptors = open_descriptors(serving);
    drop(tunnels);
    scene.proxy.wait_until("the tunnels' descriptors to be closed", |_| {
        open_descriptors(serving) + 2 * TUNNELS == descriptors
    });
}

/// What a process had after each reload: no more after the last ones than around the tenth. The least of a few counts, as
/// two snapshots are there while one leaves.
fn is_flat(memory: &[u64]) {
    let least = |part: &[u64]| part.iter().copied().min().expect("a few reloads");
    let (before, after) = (least(&memory[4..10]), least(&memory[memory.len() - 6..]));
    println!("{before} bytes after ten reloads, {after} at last");
    assert!(after <= before + before / 50 + SLACK_BYTES, "memory grew: {memory:?}");
}

/// All but the newest said goodbye: nothing of a tunnel or a session holds an old snapshot.
fn old_generations_are_gone(proxy: &mut Proxy, count: u32) {
    let gone = |proxy: &Proxy| proxy.lines_with(" exited with code 0");
    proxy.wait_until("the last old generation to go", |proxy| gone(proxy) >= count as usize);
    assert_eq!(gone(proxy), count as usize, "one line for each that went\n{}", proxy.logs());
}

/// Nothing went wrong that anybody should look at.
fn is_quiet(proxy: &Proxy) {
    for level in ["[emerg]", "[alert]", "[crit]", "[error]", "[warn]"] {
        assert_eq!(proxy.lines_with(level), 0, "{}", proxy.logs());
    }
}

const CERTIFICATES: u32 = 100;

/// A connection that was there before the reload and says its first word after it is shown the new certificate.
#[test]
fn a_client_that_waits_sees_the_new_certificate() {
    let authority = Authority::new("authority");
    let mut scene = Scene::start(&authority);
    let early = Socket::connect(scene.proxy.place.port("TLS").address()).expect("it listens");
    scene.reload(1);
    let mut tls = Tls::client(early, &scene.client, "a").shaken();
    assert_eq!(subject(&tls), "CN=b");
    tls.send(request("/which", "close").as_bytes());
    tls.wait_notified();
    assert!(tls.received().ends_with(b"second"));
    old_generations_are_gone(&mut scene.proxy, 1);
}

/// Every handshake begun after a reload was complete sees its certificate, also one that takes up a session: those of
/// another certificate are not taken up, as on nginx.
#[test]
fn a_hundred_certificates_under_handshakes() {
    let authority = Authority::new("authority");
    let issue = |number: u32| authority.issue(Kind::Ecdsa, &format!("r{number}"), &["a"]);
    let place = Place::new(&["PORT", "TLS"]);
    issue(0).write(&place, "a");
    let text = whole(&format!(
        "ssl_session_cache shared:s:32k;
         server {{ listen 127.0.0.1:%%PORT%%; return 204; }}
         server {{ listen 127.0.0.1:%%TLS%% ssl; {PAIR} return 200 'fine'; }}"
    ))
    .replace("worker_processes 1", "worker_processes 2");
    let mut proxy = Proxy::start(proxy::Kind::Tidegate, place, &text);
    proxy.wait_listening("TLS");
    let serving = proxy.serving_pid();
    let address = proxy.place.port("TLS").address();
    let (stop, newest) = (AtomicBool::new(false), AtomicU32::new(0));
    let counts = [const { AtomicU64::new(0) }; 4];
    let mut memory = Vec::new();
    thread::scope(|scope| {
        // Two protocols, with and without sessions.
        let load = (0..4).map(|number| {
            let (version, resumes) = ([&TLS12, &TLS13][number % 2], number < 2);
            let client = secure::client(&authority, &[version], resumes);
            let (stop, newest, count) = (&stop, &newest, &counts[number]);
            scope.spawn(move || {
                let mut resumed = 0;
                while !stop.load(Ordering::Relaxed) {
                    let least = newest.load(Ordering::Acquire);
                    let mut tls = Tls::connect(address, &client, "a").expect("it listens").shaken();
                    tls.send(request("/", "close").as_bytes());
                    tls.wait_notified();
                    assert!(tls.received().ends_with(b"fine"));
                    assert_ne!(tls.wait_end(DEADLINE), End::Open);
                    let seen = subject(&tls)["CN=r".len()..].parse::<u32>().expect("a number");
                    assert!(seen >= least, "{version:?}: certificate {seen} after reload {least}");
                    resumed += u64::from(tls.is_resumed());
                    count.fetch_add(1, Ordering::Relaxed);
                }
                assert_eq!(resumed > 0, resumes, "sessions are taken up where they are kept");
            })
        });
        let load: Vec<_> = load.collect();
        let stopper = OnDrop(|| stop.store(true, Ordering::Relaxed));
        for number in 1..=CERTIFICATES {
            assert!(!load.iter().any(|load| load.is_finished()), "a client failed before reload {number}");
            let before = counts.each_ref().map(|count| count.load(Ordering::Relaxed));
            issue(number).write(&proxy.place, "a");
            proxy.signal(Signal::HUP);
            // Complete when no worker has the old configuration any more: they take the new one each in its time.
            let gone = format!("generation {number} exited with code 0");
            proxy.wait_until(&gone, |proxy| proxy.lines_with(&gone) == 1);
            newest.store(number, Ordering::Release);
            proxy.wait_until("handshakes after the reload", |_| {
                let moved = counts.iter().zip(before).all(|(count, was)| count.load(Ordering::Relaxed) > was);
                moved || load.iter().any(|load| load.is_finished())
            });
            memory.push(anonymous_bytes(serving));
        }
        drop(stopper);
        for load in load {
            load.join().expect("no handshake failed");
        }
    });
    println!("{CERTIFICATES} reloads, {:?} handshakes", counts.map(|count| count.into_inner()));
    is_flat(&memory);
    assert_eq!(proxy.serving_pid(), serving, "one process served all along");
    old_generations_are_gone(&mut proxy, CERTIFICATES);
    is_quiet(&proxy);
}
