//! The real engine: `http` compiles, `modules` give meaning, `front` serves.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use front::{FleetOptions, Leave, Listening, Placement};
use http::config::ListenAddr;
use sys::listen::{Address, ListenOptions};
use wire::websocket;

use super::{
    Core, Counts, Engine, ErrorLogSpec, Fleet, FleetEvent, FleetPlan, ListenSpec, LoadOptions, Loaded, Snapshot, World,
};
use crate::mailbox::Sender;

/// The engine.
pub struct House;

/// Numbers snapshots in the order they were loaded; what workers compare.
static LOADS: AtomicU64 = AtomicU64::new(1);

/// Tunnels leave spread over this long when the process quits (`websocket_drain`).
const DRAIN_OVER: Duration = Duration::from_secs(30);
/// How long a tunnel may take to answer a Close frame.
const GOODBYE_MS: u64 = 2_000;
/// How often a process that quits looks whether it is done.
const IDLE_LOOK: Duration = Duration::from_millis(10);

impl Engine for House {
    fn load(&self, options: &LoadOptions, world: &dyn World) -> Loaded {
        let loaded = http::config::load(
            &http::config::LoadOptions {
                main: options.main_file.clone(),
                prefix: options.prefix.clone(),
                error_log: options.error_log.clone(),
                command_line: options.directives.as_ref().map(|text| text.as_bytes()),
                modules: modules::MODULES,
                generation: LOADS.fetch_add(1, Ordering::Relaxed),
            },
            world,
        );
        let snapshot = loaded.snapshot.map(|snapshot| Arc::new(outer(snapshot)));
        Loaded { snapshot, diagnostics: loaded.diagnostics, sources: loaded.sources }
    }

    fn start(&self, plan: FleetPlan) -> io::Result<Box<dyn Fleet>> {
        Ok(Box::new(HouseFleet {
            workers: plan.workers,
            generations: Arc::new(Generations { live: Mutex::default(), events: plan.events.clone() }),
            events: plan.events,
            front: None,
            served: None,
            listeners: HashMap::new(),
            next_listener: 0,
        }))
    }

    fn modules(&self) -> Vec<&'static str> {
        modules::names()
    }
}

/// What the process model needs of a snapshot, beside the snapshot.
fn outer(snapshot: http::Snapshot) -> Snapshot {
    let core = &snapshot.core;
    let core = Core {
        workers: core.workers,
        user: core.user.clone(),
        pid: core.pid.clone(),
        daemon: core.daemon,
        master_process: core.master_process,
        worker_connections: core.connections,
        rlimit_nofile: core.rlimit_nofile,
        rlimit_core: None,
        shutdown_timeout: core.shutdown_timeout_ms.map(Duration::from_millis),
        working_directory: None,
        env: Vec::new(),
        error_logs: core.error_log.sinks().map(|(level, file)| ErrorLogSpec { file: file.clone(), level }).collect(),
    };
    let listeners = snapshot
        .listeners
        .iter()
        .map(|listener| ListenSpec { address: address(&listener.addr), options: options(&listener.options) })
        .collect();
    Snapshot { core, listeners, temp_paths: Vec::new(), inner: Arc::new(snapshot) }
}

fn address(addr: &ListenAddr) -> Address {
    match addr {
        ListenAddr::Tcp(addr) => Address::Inet(*addr),
        ListenAddr::Unix(path) => Address::Unix(path.clone()),
    }
}

fn options(from: &http::config::ListenOptions) -> ListenOptions {
    ListenOptions {
        backlog: from.backlog,
        reuse_port: from.reuseport,
        ipv6_only: from.ipv6only,
        deferred: from.deferred,
        fast_open: from.fastopen.map(|queue| queue as i32),
        receive_buffer: from.rcvbuf,
        send_buffer: from.sndbuf,
        ..ListenOptions::default()
    }
}

/// Which generations workers still hold.
struct Generations {
    /// By load number.
    live: Mutex<HashMap<u64, Held>>,
    events: Sender<FleetEvent>,
}

/// A snapshot that workers hold.
struct Held {
    generation: u64,
    snapshot: Arc<Snapshot>,
    /// How many workers have it.
    workers: usize,
}

impl Generations {
    fn add(&self, load: u64, held: Held) {
        self.lock().insert(load, held);
    }

    /// A worker let go. The last one's goes to the control thread, to be freed there.
    fn let_go(&self, load: u64) {
        let mut live = self.lock();
        let Some(held) = live.get_mut(&load) else { return };
        held.workers -= 1;
        if held.workers == 0
            && let Some(held) = live.remove(&load)
        {
            drop(live);
            self.events.send(FleetEvent::Retired(held.generation, held.snapshot));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Held>> {
        self.live.lock().unwrap_or_else(|poison| poison.into_inner())
    }
}

struct HouseFleet {
    workers: usize,
    generations: Arc<Generations>,
    events: Sender<FleetEvent>,
    front: Option<Running>,
    served: Option<Arc<Snapshot>>,
    listeners: HashMap<Address, Vec<u64>>,
    next_listener: u64,
}

/// The threads, and the one that watches the clock for them.
struct Running {
    fleet: Arc<front::Fleet>,
    alarms: mpsc::Sender<Alarm>,
    clock: Option<thread::JoinHandle<()>>,
}

enum Alarm {
    /// `worker_shutdown_timeout` of what a reload retired: all that was loaded before.
    Retire { at: Instant, load: u64 },
    /// The process quits; everything is cut at the deadline.
    Quit { deadline: Option<Instant> },
}

impl Fleet for HouseFleet {
    fn install(
        &mut self,
        generation: u64,
        snapshot: Arc<Snapshot>,
        sockets: Vec<(Address, OwnedFd)>,
    ) -> Result<(), String> {
        let inner = inner_of(&snapshot);
        let before = self.served.replace(snapshot.clone());
        let held = Held { generation, snapshot: snapshot.clone(), workers: self.workers };
        self.generations.add(inner.generation, held);
        match &self.front {
            None => self.begin(&inner).map_err(|error| format!("workers can't start: {error}"))?,
            Some(running) => running.fleet.install(&inner),
        }
        self.listen(&inner, sockets);
        if let (Some(running), Some(_)) = (&self.front, before)
            && let Some(timeout) = snapshot.core.shutdown_timeout
        {
            let alarm = Alarm::Retire { at: Instant::now() + timeout, load: inner.generation };
            // The clock thread lives as long as the fleet.
            let _ = running.alarms.send(alarm);
        }
        Ok(())
    }

    fn quit(&mut self, deadline: Option<Instant>) {
        let Some(running) = &self.front else {
            self.events.send(FleetEvent::Idle);
            return;
        };
        let over = deadline.map_or(DRAIN_OVER, |at| at.saturating_duration_since(Instant::now()).min(DRAIN_OVER));
        running.fleet.quit(&goodbye(over));
        let _ = running.alarms.send(Alarm::Quit { deadline });
    }

    fn stop(&mut self) {
        let Some(running) = self.front.take() else { return };
        drop(running.alarms);
        if let Some(clock) = running.clock {
            let _ = clock.join();
        }
        if let Ok(fleet) = Arc::try_unwrap(running.fleet) {
            fleet.stop(&Leave { grace_ms: 0, ..goodbye(Duration::ZERO) });
        }
    }

    fn flush_logs(&mut self) {
        if let Some(snapshot) = &self.served {
            let inner = inner_of(snapshot);
            for log in inner.locations.iter().flat_map(|location| &location.access_log) {
                log.file.flush();
            }
        }
    }

    fn counts(&self) -> Counts {
        let counts = self.front.as_ref().map(|running| running.fleet.counts()).unwrap_or_default();
        Counts { connections: counts.connections, tunnels: counts.tunnels }
    }
}

impl HouseFleet {
    fn begin(&mut self, snapshot: &Arc<http::Snapshot>) -> io::Result<()> {
        let generations = self.generations.clone();
        let fleet = front::Fleet::start(
            &FleetOptions {
                workers: self.workers,
                placement: placement(),
                buffers_total: buffers_total(),
                retired: Arc::new(move |snapshot| generations.let_go(snapshot.generation)),
            },
            snapshot,
        )?;
        let fleet = Arc::new(fleet);
        let (alarms, inbox) = mpsc::channel();
        let clock = Clock { fleet: fleet.clone(), inbox, events: self.events.clone(), retire: Vec::new(), quit: None };
        let clock = thread::Builder::new().name("clock".into()).spawn(move || clock.run())?;
        self.front = Some(Running { fleet, alarms, clock: Some(clock) });
        Ok(())
    }

    /// Accepts on what the snapshot names: sockets that are new, and those that stay.
    fn listen(&mut self, snapshot: &http::Snapshot, sockets: Vec<(Address, OwnedFd)>) {
        let Some(running) = &self.front else { return };
        let mut fresh: HashMap<Address, Vec<OwnedFd>> = HashMap::new();
        for (address, socket) in sockets {
            fresh.entry(address).or_default().push(socket);
        }
        let mut listening = Vec::new();
        let mut now = HashMap::new();
        for listener in &snapshot.listeners {
            let address = address(&listener.addr);
            let log = snapshot.location(snapshot.server(listener.addresses[0].1.default).root).core.error_log.clone();
            let mut ids = Vec::new();
            let sockets = match fresh.remove(&address) {
                Some(sockets) => sockets.into_iter().map(Some).collect(),
                None => self.listeners.get(&address).map_or_else(Vec::new, |ids| ids.iter().map(|_| None).collect()),
            };
            for (at, socket) in sockets.into_iter().enumerate() {
                let id = match (&socket, self.listeners.get(&address).and_then(|ids| ids.get(at))) {
                    (None, Some(id)) => *id,
                    _ => {
                        self.next_listener += 1;
                        self.next_listener
                    }
                };
                ids.push(id);
                listening.push(Listening {
                    id,
                    addr: listener.addr.clone(),
                    socket,
                    log: log.clone(),
                    spread: !listener.options.reuseport,
                    worker: if listener.options.reuseport { at } else { 0 },
                });
            }
            now.insert(address, ids);
        }
        running.fleet.listen(listening);
        let gone: Vec<Address> = self.listeners.keys().filter(|have| !now.contains_key(*have)).cloned().collect();
        self.listeners = now;
        if !gone.is_empty() {
            self.events.send(FleetEvent::ListenersClosed(gone));
        }
    }
}

/// Cuts what outstays its time, and notices when a process that quits is done.
struct Clock {
    fleet: Arc<front::Fleet>,
    inbox: mpsc::Receiver<Alarm>,
    events: Sender<FleetEvent>,
    retire: Vec<(Instant, u64)>,
    quit: Option<Option<Instant>>,
}

impl Clock {
    fn run(mut self) {
        loop {
            let next = match (self.quit, self.retire.iter().map(|(at, _)| *at).min()) {
                (Some(_), _) => IDLE_LOOK,
                (None, Some(at)) => at.saturating_duration_since(Instant::now()),
                (None, None) => Duration::from_secs(3600),
            };
            match self.inbox.recv_timeout(next) {
                Ok(Alarm::Retire { at, load }) => self.retire.push((at, load)),
                Ok(Alarm::Quit { deadline }) => self.quit = Some(deadline),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => self.look(),
            }
        }
    }

    fn look(&mut self) {
        let now = Instant::now();
        let due = self.retire.iter().filter(|(at, _)| *at <= now).map(|(_, load)| *load).max();
        if let Some(load) = due {
            self.retire.retain(|(at, _)| *at > now);
            self.fleet.retire(load, &goodbye(Duration::ZERO));
        }
        let Some(deadline) = self.quit else { return };
        let counts = self.fleet.counts();
        if counts.connections == 0 && counts.tunnels == 0 {
            self.quit = None;
            self.events.send(FleetEvent::Idle);
        } else if deadline.is_some_and(|at| at <= now) {
            self.quit = Some(None);
            self.fleet.retire(u64::MAX, &goodbye(Duration::ZERO));
            self.fleet.quit(&Leave { grace_ms: 0, ..goodbye(Duration::ZERO) });
        }
    }
}

/// Close 1001, Going Away, to both sides (RFC 6455, 7.4.1).
fn goodbye(over: Duration) -> Leave {
    let (mut client_frame, mut upstream_frame) = (Vec::new(), Vec::new());
    websocket::close_frame(GOING_AWAY, b"", None, &mut client_frame);
    // A mask hides nothing from the server it is sent to; it only must be there (RFC 6455, 5.3).
    websocket::close_frame(GOING_AWAY, b"", Some(MASK), &mut upstream_frame);
    let over_ms = u64::try_from(over.as_millis()).unwrap_or(u64::MAX);
    Leave { over_ms, client_frame, upstream_frame, grace_ms: GOODBYE_MS }
}

const GOING_AWAY: u16 = 1001;
const MASK: [u8; 4] = [0x5a, 0x17, 0xc3, 0x9e];

/// An internal switch for the measurement of DESIGN D5.
fn placement() -> Placement {
    match std::env::var("TIDEGATE_RELAY").as_deref() {
        Ok("worker") => Placement::Worker,
        Ok("thread") => Placement::Thread,
        _ => Placement::default(),
    }
}

/// An eighth of the machine's memory (`websocket_buffers_total`).
fn buffers_total() -> usize {
    let info = rustix::system::sysinfo();
    let total = (info.totalram as u64).saturating_mul(u64::from(info.mem_unit));
    usize::try_from(total / 8).unwrap_or(usize::MAX / 8)
}

fn inner_of(snapshot: &Snapshot) -> Arc<http::Snapshot> {
    snapshot.inner.clone().downcast().unwrap_or_else(|_| unreachable!("this engine loads no other snapshots"))
}
