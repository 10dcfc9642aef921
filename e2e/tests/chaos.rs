//! Everything at once: three hundred tunnels, requests and bad clients, while a driver reloads, rotates logs, kills and stops
//! processes and uses up descriptors, in an order that the seed tells.
//!
//! What must hold: no listener refuses; nothing is lost or out of order on a tunnel that lives; a tunnel lives unless its own
//! processes were killed; each that ended has its one line of access log; and in the end the serving process is as small as at
//! the start. `TIDEGATE_SEED` plays a run again, as far as the machine allows.
#![forbid(unsafe_code)]

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustls::ClientConfig;
use tidegate_e2e::ask::{anonymous_bytes, more_descriptors, open_descriptors, request};
use tidegate_e2e::certificates::{Authority, Kind as Key, Pair};
use tidegate_e2e::proxy::{Kind, Place, Proxy, roomy};
use tidegate_e2e::random::{self, Random};
use tidegate_e2e::raw::{End, Socket, wait_readable};
use tidegate_e2e::secure::{self, Cut, PROTOCOLS, Tls};
use tidegate_e2e::threads::OnDrop;
use tidegate_e2e::ws::{self, Echo};

const CREWS: usize = 3;
const TUNNELS_OF_A_CREW: usize = 100;
/// What the driver does before all is over.
const DEEDS: usize = 40;
/// Kills of the serving process, which is started anew ever later.
const KILLS_MAX: u64 = 2;
/// Of the proxy; the tunnels need some six hundred, and those that are half closed towards a peer that stands still as many.
const DESCRIPTORS: u32 = 1600;
/// How long nothing may move: shared machines stall.
const PATIENCE: Duration = Duration::from_secs(30);
/// What the allocator may keep, and a reload does.
const SLACK_BYTES: u64 = 8 * 1024 * 1024;

/// The peers of tunnels: the first one lives in this process, nothing happens to it.
const PEERS: [&str; 3] = ["A", "B", "C"];

fn config(has_second: bool, logs_twice: bool) -> String {
    let tunnels: String = PEERS
        .iter()
        .map(|peer| {
            format!(
                "location /{peer}/ {{ proxy_pass http://127.0.0.1:%%{peer}%%; proxy_read_timeout 1h; }}\n"
            )
        })
        .collect();
    let second = if has_second { "server { listen 127.0.0.1:%%PORT2%%; return 200 second; }" } else { "" };
    let log = if logs_twice { "access_log /dev/full short;" } else { "" };
    roomy(&format!(
        "log_format short '$status $uri';
         access_log %%DIR%%/access.log short;
         {log}
         ssl_certificate %%DIR%%/pair.pem;
         ssl_certificate_key %%DIR%%/pair.pem;
         upstream kept {{ server 127.0.0.1:%%A%%; keepalive 4; }}
         server {{
             listen 127.0.0.1:%%PORT%%;
             listen 127.0.0.1:%%TLS%% ssl;
             keepalive_requests 100;
             location /alive {{ access_log off; return 200 alive; }}
             location /proxied {{ access_log off; proxy_pass http://kept; proxy_set_header Connection ''; }}
             {tunnels}
         }}
         {second}"
    ))
    .replace("worker_processes 1", "worker_processes 2")
}

/// What everybody sees and counts.
struct Scene {
    proxy: Proxy,
    client: Arc<ClientConfig>,
    pairs: [Pair; 2],
    stop: AtomicBool,
    /// Of the serving process. This and the next two are counted when they begin and when they are over: odd in between.
    kills: AtomicU64,
    /// Times that each peer's process was down or stood still.
    troubles: [AtomicU64; PEERS.len()],
    /// Of clients: too many.
    crowds: AtomicU64,
    echoes: AtomicU64,
    requests: AtomicU64,
    ids: AtomicU64,
    ended: Mutex<Vec<Ended>>,
}

/// A tunnel that was open.
struct Ended {
    path: String,
    /// Of the serving process, when it was opened.
    kills: u64,
}

/// What has happened so far that may excuse something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Past {
    kills: u64,
    troubles: u64,
    crowds: u64,
}

impl Past {
    /// Whether something may have happened between that time and now that ends tunnels.
    fn excuses_an_end(self, now: Past) -> bool {
        [(self.kills, now.kills), (self.troubles, now.troubles)]
            .iter()
            .any(|(then, now)| then != now || now % 2 == 1)
    }

    /// The same for a request that is not answered as it should be.
    fn excuses_no_answer(self, now: Past) -> bool {
        self.excuses_an_end(now) || self.crowds != now.crowds || now.crowds % 2 == 1
    }
}

impl Scene {
    fn start() -> Scene {
        let authority = Authority::new("authority");
        let place = Place::new(&["PORT", "PORT2", "TLS", "A", "B", "C"]);
        let pairs = [authority.issue(Key::Ecdsa, "a", &[]), authority.issue(Key::Ecdsa, "b", &["a"])];
        write(&pairs[0], &place);
        let proxy = Proxy::start_limited(Kind::Tidegate, place, &config(false, false), DESCRIPTORS);
        Scene {
            proxy,
            client: secure::client(&authority, &PROTOCOLS, true),
            pairs,
            stop: AtomicBool::default(),
            kills: AtomicU64::default(),
            troubles: Default::default(),
            crowds: AtomicU64::default(),
            echoes: AtomicU64::default(),
            requests: AtomicU64::default(),
            ids: AtomicU64::default(),
            ended: Mutex::default(),
        }
    }

    /// Ends everybody's work when dropped.
    fn ends(&self) -> OnDrop<impl Fn()> {
        OnDrop(|| self.stop.store(true, Ordering::Relaxed))
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn past(&self, peer: usize) -> Past {
        Past {
            kills: self.kills.load(Ordering::SeqCst),
            troubles: self.troubles[peer].load(Ordering::SeqCst),
            crowds: self.crowds.load(Ordering::SeqCst),
        }
    }

    /// A connection with TLS or without: nobody is ever refused.
    fn connect(&self, secure: bool) -> Wire {
        let port = if secure { "TLS" } else { "PORT" };
        let socket = self.proxy.connect(port);
        let socket = socket.unwrap_or_else(|error| panic!("{port}: {error}\n{}", self.proxy.logs()));
        match secure {
            true => Wire::Secure(Box::new(Tls::client(socket, &self.client, "a"))),
            false => Wire::Plain(socket),
        }
    }
}

enum Wire {
    Plain(Socket),
    Secure(Box<Tls>),
}

impl Wire {
    fn socket(&self) -> &Socket {
        match self {
            Wire::Plain(socket) => socket,
            Wire::Secure(tls) => tls.socket(),
        }
    }

    fn pump(&mut self) {
        match self {
            Wire::Plain(socket) => socket.pump(),
            Wire::Secure(tls) => tls.pump(),
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        match self {
            Wire::Plain(socket) => socket.send(bytes),
            Wire::Secure(tls) => tls.send(bytes),
        }
    }

    /// Plain bytes that came since the last time.
    fn take(&mut self, into: &mut Vec<u8>) {
        match self {
            Wire::Plain(socket) => {
                into.extend_from_slice(socket.received());
                socket.forget();
            }
            Wire::Secure(tls) => {
                into.extend_from_slice(tls.received());
                tls.forget();
            }
        }
    }

    fn is_open(&self) -> bool {
        self.socket().end() == End::Open
    }

    fn fin(&mut self) {
        match self {
            Wire::Plain(socket) => socket.fin(),
            Wire::Secure(tls) => {
                tls.notify();
                tls.fin();
            }
        }
    }

    fn reset(self) {
        match self {
            Wire::Plain(socket) => socket.reset(),
            Wire::Secure(tls) => tls.reset(),
        }
    }

    fn wait(&self, limit: Duration) {
        wait_readable(&[self.socket()], &[], Instant::now() + limit);
    }
}

/// One tunnel, from its handshake on.
struct Tunnel {
    id: u64,
    peer: usize,
    wire: Wire,
    came: Vec<u8>,
    /// The 101 has come.
    live: bool,
    sent: u64,
    got: u64,
    opened: Past,
    /// When the last thing was sent that calls for an answer.
    asked: Instant,
}

impl Tunnel {
    fn open(scene: &Scene, random: &mut Random) -> Tunnel {
        let peer = random.below(PEERS.len());
        let opened = scene.past(peer);
        let id = scene.ids.fetch_add(1, Ordering::Relaxed);
        let mut wire = scene.connect(random.once_in(2));
        wire.send(ws::handshake(&path(peer, id)).as_bytes());
        Tunnel {
            id,
            peer,
            wire,
            came: Vec::new(),
            live: false,
            sent: 0,
            got: 0,
            opened,
            asked: Instant::now(),
        }
    }

    /// What came, and what it means; false when it has ended.
    fn turn(&mut self, scene: &Scene, random: &mut Random) -> bool {
        self.wire.pump();
        self.wire.take(&mut self.came);
        if !self.live {
            self.look_for_101(scene);
        }
        if self.live {
            self.look_for_echoes(scene);
            if self.sent < self.got + 3 && random.once_in(4) && self.wire.is_open() {
                self.wire.send(&ws::client_frame(payload(self.id, self.sent).as_bytes()));
                self.sent += 1;
                self.asked = Instant::now();
            }
        }
        if !self.wire.is_open() {
            self.over(scene);
            return false;
        }
        let waits = !self.live || self.got < self.sent;
        if !waits || self.asked.elapsed() < PATIENCE {
            return true;
        }
        self.is_excused(self.opened.excuses_no_answer(scene.past(self.peer)), "stands still", scene);
        if self.live {
            self.record(scene);
        }
        false
    }

    fn look_for_101(&mut self, scene: &Scene) {
        let Some(end) = self.came.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { return };
        if self.came.starts_with(b"HTTP/1.1 101 ") {
            self.came.drain(..end + 4);
            self.live = true;
        } else {
            let excused = self.opened.excuses_no_answer(scene.past(self.peer));
            self.is_excused(excused, "was not opened", scene);
            self.wire.fin();
        }
    }

    fn look_for_echoes(&mut self, scene: &Scene) {
        while let [0x82, len, rest @ ..] = &self.came[..] {
            let len = usize::from(*len);
            if rest.len() < len {
                return;
            }
            let expected = payload(self.id, self.got);
            assert_eq!(String::from_utf8_lossy(&rest[..len]), expected, "{}", self.describe());
            assert!(self.got < self.sent, "{}", self.describe());
            self.came.drain(..2 + len);
            self.got += 1;
            self.asked = Instant::now();
            scene.echoes.fetch_add(1, Ordering::Relaxed);
        }
        // A goodbye is the only other thing there is.
        assert!(matches!(self.came.first(), None | Some(0x88)), "{}", self.describe());
    }

    /// It was ended from the other side.
    fn over(&mut self, scene: &Scene) {
        let now = scene.past(self.peer);
        if self.live {
            self.is_excused(self.opened.excuses_an_end(now), "was ended", scene);
            self.record(scene);
        } else {
            self.is_excused(self.opened.excuses_no_answer(now), "was cut", scene);
        }
    }

    fn is_excused(&self, is: bool, what: &str, scene: &Scene) {
        assert!(is, "{} {what}\n{}", self.describe(), scene.proxy.logs());
    }

    fn record(&self, scene: &Scene) {
        let ended = Ended { path: path(self.peer, self.id), kills: self.opened.kills };
        scene.ended.lock().unwrap_or_else(PoisonError::into_inner).push(ended);
    }

    /// Ended by us, one way or another.
    fn leave(mut self, scene: &Scene, random: &mut Random) {
        if self.live && self.wire.is_open() {
            self.record(scene);
        }
        match random.below(3) {
            0 => self.wire.reset(),
            1 => self.wire.fin(),
            _ => {}
        }
    }

    fn describe(&self) -> String {
        let secure = matches!(self.wire, Wire::Secure(_));
        let Tunnel { id, peer, live, sent, got, opened, .. } = self;
        let came = self.came.escape_ascii();
        let end = self.wire.socket().end();
        format!(
            "tunnel {id} of {} (TLS: {secure}, live: {live}, sent {sent}, got {got}, {opened:?}, {end:?}, {came})",
            PEERS[*peer]
        )
    }
}

fn path(peer: usize, id: u64) -> String {
    format!("/{}/{id}", PEERS[peer])
}

fn payload(id: u64, number: u64) -> String {
    format!("{id}:{number}")
}

/// Keeps its number of tunnels busy.
fn crew(scene: &Scene, mut random: Random) {
    let mut tunnels: Vec<Tunnel> = Vec::new();
    while scene.goes_on() {
        if tunnels.len() < TUNNELS_OF_A_CREW {
            tunnels.push(Tunnel::open(scene, &mut random));
        }
        tunnels.retain_mut(|tunnel| tunnel.turn(scene, &mut random));
        if random.once_in(20) && !tunnels.is_empty() {
            let at = random.below(tunnels.len());
            tunnels.swap_remove(at).leave(scene, &mut random);
        }
        let sockets: Vec<&Socket> = tunnels.iter().map(|tunnel| tunnel.wire.socket()).collect();
        wait_readable(&sockets, &[], Instant::now() + Duration::from_millis(20));
    }
    for tunnel in tunnels {
        tunnel.leave(scene, &mut random);
    }
}

/// One request after the other, on connections of all kinds.
fn requests(scene: &Scene, mut random: Random) {
    while scene.goes_on() {
        let before = scene.past(0);
        let mut wire = scene.connect(random.once_in(2));
        for _ in 0..1 + random.below(3) {
            let (path, word) = if random.once_in(2) { ("/alive", "alive") } else { ("/proxied", "plain") };
            wire.send(request(path, "keep-alive").as_bytes());
            let since = Instant::now();
            let mut came = Vec::new();
            while !came.ends_with(word.as_bytes()) && wire.is_open() && since.elapsed() < PATIENCE {
                wire.wait(Duration::from_millis(100));
                wire.pump();
                wire.take(&mut came);
            }
            let answered = came.starts_with(b"HTTP/1.1 200 ") && came.ends_with(word.as_bytes());
            if !answered {
                let excused = before.excuses_no_answer(scene.past(0));
                let came = came.escape_ascii();
                assert!(excused, "{path}: {came} after {:?}\n{}", since.elapsed(), scene.proxy.logs());
                break;
            }
            scene.requests.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Clients that are slow, or break off where they should not.
fn bad_clients(scene: &Scene, mut random: Random) {
    let address = scene.proxy.place.port("TLS").address();
    let mut slow = Vec::new();
    while scene.goes_on() {
        match random.below(3) {
            0 => {
                let how = if random.once_in(2) { Cut::Fin } else { Cut::Rst };
                let mut tls = Tls::cut(address, &scene.client, random.below(400), how).expect("it listens");
                tls.wait_end(Duration::from_millis(20));
            }
            1 => {
                let mut wire = scene.connect(random.once_in(2));
                let head = ws::handshake("/A/bad");
                wire.send(&head.as_bytes()[..random.below(head.len())]);
                wire.pump();
                slow.push(wire);
            }
            _ => {
                let mut wire = scene.connect(random.once_in(2));
                wire.send(request("/proxied", "keep-alive").as_bytes());
                wire.pump();
                wire.reset();
            }
        }
        if slow.len() > 30 {
            slow.swap_remove(random.below(30)).reset();
        }
        if let Some(wire) = slow.last_mut() {
            wire.send(b"x");
            wire.wait(Duration::from_millis(10));
            wire.pump();
        }
    }
}

/// A peer in a process of its own.
struct Peer {
    name: usize,
    process: Child,
    stopped: bool,
}

impl Peer {
    fn start(scene: &Scene, name: usize) -> Peer {
        let process = Peer::spawn(scene, name);
        Peer { name, process, stopped: false }
    }

    fn spawn(scene: &Scene, name: usize) -> Child {
        let port = scene.proxy.place.port(PEERS[name]);
        let mut command = Command::new(env!("CARGO_BIN_EXE_echo"));
        let process = command.arg(port.number().to_string()).spawn().expect("cargo built it");
        scene.proxy.wait_within(PATIENCE, "the echo to listen", |_| Socket::connect(port.address()).is_ok());
        process
    }

    fn trouble(&self, scene: &Scene) {
        scene.troubles[self.name].fetch_add(1, Ordering::SeqCst);
    }

    fn kill(&mut self, scene: &Scene) {
        if !self.stopped {
            self.trouble(scene);
        }
        self.process.kill().and_then(|()| self.process.wait()).expect("our own child");
        self.process = Peer::spawn(scene, self.name);
        self.stopped = false;
        self.trouble(scene);
    }

    fn stop_or_go_on(&mut self, scene: &Scene) {
        let signal = if self.stopped { Signal::CONT } else { Signal::STOP };
        self.trouble(scene);
        kill_process(Pid::from_child(&self.process), signal).expect("our own child");
        self.stopped = !self.stopped;
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Does the deeds, one after the other, with some traffic between them.
fn drive(scene: &Scene, peers: &mut [Peer; 2], random: &mut Random) {
    let proxy = &scene.proxy;
    let log = |name: &str| proxy.place.dir.path().join(name);
    for number in 0..DEEDS {
        let deed = random.below(14);
        println!("{number}: {deed}");
        match deed {
            0..=2 => reload(scene, random),
            3 => (0..10).for_each(|_| reload(scene, random)),
            4 => {
                let broken = config(false, false).replace("return 200", "retrun 200");
                let taken = config(false, false).replace("%%PORT%%;", "%%PORT%%; listen 127.0.0.1:%%A%%;");
                proxy.rewrite(if random.once_in(2) { &broken } else { &taken });
                proxy.signal(Signal::HUP);
            }
            5 | 6 => {
                for name in ["access", "error"] {
                    // A file that could not be opened is not there.
                    let _ = fs::rename(log(&format!("{name}.log")), log(&format!("{name}.{number}")));
                }
                proxy.signal(Signal::USR1);
                let is_new = |name| log(name).exists();
                proxy.wait_within(PATIENCE, "new logs", |_| is_new("access.log") && is_new("error.log"));
            }
            7 => {
                // The new file can't be opened: lines go where they went, until the next one can. A rotation before may
                // not be over, so that the complaint is in the old log.
                let complaints = |proxy: &Proxy| {
                    texts(proxy, "error.").concat().matches("access.log\" failed (21: ").count()
                };
                let before = complaints(proxy);
                fs::rename(log("access.log"), log(&format!("access.{number}"))).expect("it is there");
                fs::create_dir(log("access.log")).expect("nothing is there");
                proxy.signal(Signal::USR1);
                proxy.wait_within(PATIENCE, "the complaint", |proxy| complaints(proxy) > before);
                fs::remove_dir(log("access.log")).expect("it is empty");
                proxy.signal(Signal::USR1);
                proxy.wait_within(PATIENCE, "the new log", |_| log("access.log").exists());
            }
            8 if scene.kills.load(Ordering::SeqCst) < 2 * KILLS_MAX => {
                let serving = proxy.serving_pid();
                scene.kills.fetch_add(1, Ordering::SeqCst);
                kill_process(serving, Signal::KILL).expect("it runs");
                proxy.wait_within(PATIENCE, "another process", |proxy| proxy.serving_pid() != serving);
                scene.kills.fetch_add(1, Ordering::SeqCst);
            }
            9 => peers[random.below(2)].kill(scene),
            10 | 11 => peers[random.below(2)].stop_or_go_on(scene),
            12 => crowd(scene),
            _ => {}
        }
        // As much as three times the tunnels of the peer that nothing happens to.
        let enough =
            scene.echoes.load(Ordering::Relaxed) + random.below(3 * CREWS * TUNNELS_OF_A_CREW) as u64;
        let requests = scene.requests.load(Ordering::Relaxed);
        proxy.wait_within(PATIENCE, "traffic to go on", |_| {
            scene.echoes.load(Ordering::Relaxed) >= enough
                && scene.requests.load(Ordering::Relaxed) > requests
        });
    }
}

fn reload(scene: &Scene, random: &mut Random) {
    write(&scene.pairs[random.below(2)], &scene.proxy.place);
    scene.proxy.rewrite(&config(random.once_in(2), random.once_in(2)));
    scene.proxy.signal(Signal::HUP);
}

/// Both in one file, and in one step: a reload may be reading it.
fn write(pair: &Pair, place: &Place) {
    let new = place.dir.write("pair.new", format!("{}{}", pair.certificate, pair.key).as_bytes());
    fs::rename(new, place.dir.path().join("pair.pem")).expect("our own directory");
}

/// More clients than descriptors.
fn crowd(scene: &Scene) {
    scene.crowds.fetch_add(1, Ordering::SeqCst);
    let left = |proxy: &Proxy| (DESCRIPTORS as usize).saturating_sub(open_descriptors(proxy.serving_pid()));
    let complaints = |proxy: &Proxy| texts(proxy, "error.").concat().matches("(24: ").count();
    let (before, mut crowd) = (complaints(&scene.proxy), Vec::new());
    scene.proxy.wait_within(PATIENCE, "out of descriptors", |proxy| {
        if crowd.len() < DESCRIPTORS as usize {
            crowd.extend((0..20).map(|_| proxy.client()));
        }
        complaints(proxy) > before
    });
    drop(crowd);
    scene.proxy.wait_within(PATIENCE, "room again", |proxy| left(proxy) > 100);
    scene.crowds.fetch_add(1, Ordering::SeqCst);
}

#[test]
fn whatever_happens() {
    more_descriptors(3000);
    let seed = random::seed();
    let mut random = Random::new(seed);
    let scene = Scene::start();
    let _echo = Echo::on(scene.proxy.place.port("A").listen());
    let mut peers = [Peer::start(&scene, 1), Peer::start(&scene, 2)];
    let before = open_descriptors(scene.proxy.serving_pid());
    let memory = anonymous_bytes(scene.proxy.serving_pid());
    thread::scope(|scope| {
        let _ends = scene.ends();
        let scene = &scene;
        let run = |client: fn(&Scene, Random), number: u64| {
            let random = Random::new(seed.wrapping_add(number));
            scope.spawn(move || {
                // One that fails ends all.
                let _ends = scene.ends();
                client(scene, random);
            });
        };
        (1..=CREWS as u64).for_each(|number| run(crew, number));
        run(requests, 10);
        run(bad_clients, 11);
        drive(scene, &mut peers, &mut random);
    });
    let counts = [&scene.ids, &scene.echoes, &scene.requests, &scene.kills];
    let [tunnels, echoes, requests, kills] = counts.map(|count| count.load(Ordering::Relaxed));
    println!("{tunnels} tunnels, {echoes} echoes, {requests} requests, {kills} kills");
    drop(peers);
    every_tunnel_has_its_line(&scene);
    comes_back(scene, before, memory);
}

/// One line for each tunnel, but for those whose process was killed, perhaps before it could write.
fn every_tunnel_has_its_line(scene: &Scene) {
    let ended = scene.ended.lock().expect("nobody panicked");
    let kills = scene.kills.load(Ordering::SeqCst);
    let mut missing: Vec<&str> =
        ended.iter().filter(|one| one.kills == kills).map(|one| one.path.as_str()).collect();
    println!("{} tunnels ended, {} of them must be in the log", ended.len(), missing.len());
    // Of a direction that stands still it comes only after a while.
    scene.proxy.wait_within(PATIENCE, "a line for each tunnel", |proxy| {
        let lines = lines(proxy);
        missing.retain(|path| !lines.contains_key(*path));
        missing.is_empty()
    });
    let twice: Vec<_> = lines(&scene.proxy).into_iter().filter(|(_, count)| *count > 1).collect();
    assert!(twice.is_empty(), "several lines: {twice:?}");
}

/// How often each path of a tunnel is in the log.
fn lines(proxy: &Proxy) -> HashMap<String, u32> {
    let mut lines = HashMap::new();
    for text in texts(proxy, "access.") {
        for path in text.lines().filter_map(|line| line.strip_prefix("101 ")) {
            *lines.entry(path.to_owned()).or_insert(0) += 1;
        }
    }
    lines
}

/// Everybody has left: nothing is open, and nothing kept.
fn comes_back(scene: Scene, descriptors: usize, memory: u64) {
    let mut proxy = scene.proxy;
    let serving = proxy.serving_pid();
    proxy.rewrite(&config(false, false));
    proxy.signal(Signal::HUP);
    proxy.wait_within(PATIENCE, "rid of the second listener", |proxy| proxy.connect("PORT2").is_err());
    proxy.wait_within(PATIENCE, "as few descriptors as before", |_| open_descriptors(serving) <= descriptors);
    // One look may meet anything; what is kept does not go away again.
    proxy.wait_within(PATIENCE, &format!("little more memory than {memory} bytes"), |_| {
        anonymous_bytes(serving) <= memory + SLACK_BYTES
    });
    old_generations_are_gone(&mut proxy, serving);
    assert!(proxy.stop(), "{}", proxy.logs());
}

/// Of those that this process has served, each but the newest has said goodbye; those that it refused have nothing to say.
fn old_generations_are_gone(proxy: &mut Proxy, serving: Pid) {
    proxy.signal(Signal::HUP);
    let word = format!("[notice] {0}#{0}: generation ", serving.as_raw_nonzero());
    let gone = |log: &str| {
        let numbers =
            log.lines().filter_map(|line| line.split_once(&word)?.1.split_once(" exited")?.0.parse().ok());
        numbers.collect::<BTreeSet<u64>>()
    };
    let before = gone(&proxy.error_log());
    proxy.wait_within(PATIENCE, "rid of the generation before", |proxy| {
        gone(&proxy.error_log()).last() > before.last()
    });
    proxy.wait_within(PATIENCE, "rid of all generations before", |proxy| {
        let log = texts(proxy, "error.").concat();
        // These were never served.
        let unserved = ["the new configuration is refused", "the new configuration was given up"];
        let unserved: usize = unserved.iter().map(|words| log.matches(words).count()).sum();
        let gone = gone(&log);
        let (first, last) = (gone.first().expect("one at least"), gone.last().expect("one at least"));
        (*first..=*last).filter(|number| !gone.contains(number)).count() <= unserved
    });
}

/// All there are of a log, however often it was rotated.
fn texts(proxy: &Proxy, prefix: &str) -> Vec<String> {
    let files = fs::read_dir(proxy.place.dir.path()).expect("our own directory");
    let names =
        files.map(|entry| entry.expect("our own directory").file_name().into_string().expect("a plain name"));
    names.filter(|name| name.starts_with(prefix)).map(|name| proxy.place.dir.read(&name)).collect()
}
