//! The real engine: `http` loads with the modules, `front` serves.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use front::{FleetOptions, Goodbye, Leave, Listening};
use http::config::{self, Answer, ListenAddr, Module};
use sys::listen::{Address, ListenOptions};
use sys::options::Keepalive;
use wire::websocket::close_frame;

use super::{
    Counts, Engine, Fleet, FleetEvent, ListenSpec, LoadOptions, Loaded, ProcessConf, Snapshot, World,
};
use crate::mailbox::Sender;

/// Tunnels leave over this time when the process does (`websocket_drain`).
const DRAIN: Duration = Duration::from_secs(30);
/// How long a tunnel that was told to leave may take for its closing handshake.
const GOODBYE_MS: u64 = 5_000;
/// "Going away" (RFC 6455, 7.4.1).
const GOING_AWAY: u16 = 1001;
/// "Service restart" (the IANA registry of close codes).
const SERVICE_RESTART: u16 = 1012;

/// The engine, made of these modules.
pub struct House {
    /// In nginx's order.
    pub modules: &'static [&'static Module],
}

impl Engine for House {
    fn load(&self, options: &LoadOptions, generation: u64, world: &dyn World) -> Loaded {
        let loaded = config::load(
            &config::LoadOptions {
                main: options.main_file.clone(),
                prefix: options.prefix.clone(),
                command_line: options.directives.as_deref().map(str::as_bytes),
                modules: self.modules,
                generation,
                error_log: options.error_log.clone(),
            },
            world,
        );
        let snapshot = loaded.snapshot.map(|inner| Arc::new(outline(inner)));
        Loaded { snapshot, diagnostics: loaded.diagnostics, sources: loaded.sources }
    }

    fn start(&self, snapshot: &Arc<Snapshot>, events: Sender<FleetEvent>) -> io::Result<Box<dyn Fleet>> {
        let workers = snapshot.core.workers.max(1);
        let options = FleetOptions {
            workers,
            buffers_total: buffers_total(),
            lost: Arc::new(lost()),
            retired: retired(workers, events.clone()),
        };
        let fleet = front::Fleet::start(&options, &inner_of(snapshot))?;
        Ok(Box::new(HouseFleet { fleet: Some(fleet), events, sockets: Vec::new(), next_id: 0, fresh: true }))
    }

    fn directives(&self) -> Vec<&'static str> {
        let all = self.modules.iter().flat_map(|module| module.directives);
        all.filter(|directive| matches!(directive.answer, Answer::Works))
            .map(|directive| directive.name)
            .collect()
    }
}

struct HouseFleet {
    /// `None` once stopped.
    fleet: Option<front::Fleet>,
    events: Sender<FleetEvent>,
    /// Sockets in use, by address and the fleet's number.
    sockets: Vec<(Address, u64)>,
    next_id: u64,
    /// It still has the snapshot it was started with.
    fresh: bool,
}

impl Fleet for HouseFleet {
    fn install(
        &mut self,
        _generation: u64,
        snapshot: &Arc<Snapshot>,
        sockets: Vec<(Address, OwnedFd)>,
    ) -> Result<(), String> {
        let Some(fleet) = &self.fleet else { return Err("the workers are gone".into()) };
        let stays = |address: &Address| snapshot.listeners.iter().any(|spec| spec.address == *address);
        let (kept, removed): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.sockets).into_iter().partition(|(address, _)| stays(address));
        let mut all: Vec<_> = kept.into_iter().map(|(address, id)| (address, id, None)).collect();
        for (address, socket) in sockets {
            all.push((address, self.next_id, Some(socket)));
            self.next_id += 1;
        }
        self.sockets = all.iter().map(|(address, id, _)| (address.clone(), *id)).collect();
        if !std::mem::replace(&mut self.fresh, false) {
            fleet.install(&inner_of(snapshot));
        }
        fleet.listen(listening(snapshot, all));
        if !removed.is_empty() {
            let mut addresses: Vec<_> = removed.into_iter().map(|(address, _)| address).collect();
            addresses.dedup();
            self.events.send(FleetEvent::ListenersClosed(addresses));
        }
        Ok(())
    }

    fn retire(&mut self, generation: u64) {
        if let Some(fleet) = &self.fleet {
            fleet.retire(generation, &goodbye(0, GOODBYE_MS));
        }
    }

    fn quit(&mut self, within: Option<Duration>) {
        if let Some(fleet) = &self.fleet {
            let over = within.map_or(DRAIN, |within| within.min(DRAIN));
            fleet.quit(&goodbye(over.as_millis() as u64, GOODBYE_MS));
        }
    }

    fn stop(&mut self) {
        if let Some(fleet) = self.fleet.take() {
            fleet.stop(&goodbye(0, 0));
        }
    }

    fn counts(&self) -> Counts {
        let counts = self.fleet.as_ref().map(front::Fleet::counts).unwrap_or_default();
        Counts { connections: counts.connections, tunnels: counts.tunnels }
    }
}

/// Counts the workers that let go of each generation. Every snapshot goes to the control thread, since whichever is
/// dropped last frees it.
fn retired(workers: usize, events: Sender<FleetEvent>) -> front::Retired {
    let counts = Mutex::new(BTreeMap::<u64, usize>::new());
    Arc::new(move |snapshot: Arc<http::Snapshot>| {
        let generation = snapshot.generation;
        let mut counts = counts.lock().unwrap_or_else(|poison| poison.into_inner());
        let count = counts.entry(generation).or_default();
        *count += 1;
        let is_last = *count == workers;
        if is_last {
            counts.remove(&generation);
        }
        events.send(FleetEvent::Released { snapshot, retired: is_last.then_some(generation) });
    })
}

/// Sockets of a `reuseport` address belong to a worker each; connections of the others are spread.
fn listening(snapshot: &Snapshot, sockets: Vec<(Address, u64, Option<OwnedFd>)>) -> Vec<Listening> {
    let is_shared = |address: &Address| {
        snapshot.listeners.iter().any(|spec| spec.address == *address && spec.options.reuse_port)
    };
    let describe = |(address, id, socket): (Address, u64, Option<OwnedFd>)| Listening {
        id,
        spread: !is_shared(&address),
        addr: outer_address(address),
        socket,
        log: snapshot.core.error_log.clone(),
        // By its number, so that a socket that stays stays with its worker; those of one address have one each.
        worker: id as usize,
    };
    sockets.into_iter().map(describe).collect()
}

/// The part of a snapshot that processes need.
fn outline(inner: http::Snapshot) -> Snapshot {
    let listeners = inner.listeners.iter().map(|listener| ListenSpec {
        address: inner_address(&listener.addr),
        options: socket_options(&listener.options),
    });
    Snapshot {
        core: inner.core.clone(),
        process: ProcessConf::default(),
        listeners: listeners.collect(),
        inner: Arc::new(inner),
    }
}

fn inner_of(snapshot: &Snapshot) -> Arc<http::Snapshot> {
    snapshot.inner.clone().downcast().expect("this engine made the snapshot")
}

fn inner_address(addr: &ListenAddr) -> Address {
    match addr {
        ListenAddr::Tcp(addr) => Address::Inet(*addr),
        ListenAddr::Unix(path) => Address::Unix(path.clone()),
    }
}

fn outer_address(address: Address) -> ListenAddr {
    match address {
        Address::Inet(addr) => ListenAddr::Tcp(addr),
        Address::Unix(path) => ListenAddr::Unix(path),
    }
}

fn socket_options(options: &config::ListenOptions) -> ListenOptions {
    let seconds = |seconds: Option<u32>| seconds.map(|seconds| Duration::from_secs(seconds.into()));
    let keepalive = options.keepalive.map(|(on, idle, interval, count)| {
        on.then(|| Keepalive { idle: seconds(idle), interval: seconds(interval), count })
    });
    ListenOptions {
        backlog: options.backlog,
        reuse_port: options.reuseport,
        ipv6_only: options.ipv6only,
        deferred: options.deferred,
        fast_open: options.fastopen,
        receive_buffer: options.rcvbuf,
        send_buffer: options.sndbuf,
        keepalive,
        datagram: false,
    }
}

fn goodbye(over_ms: u64, grace_ms: u64) -> Leave {
    let mut leave = Leave { over_ms, grace_ms, ..Leave::default() };
    close_frame(GOING_AWAY, "", None, &mut leave.client_frame);
    // The mask hides nothing here; a client's frame must have one.
    close_frame(GOING_AWAY, "", Some([0; 4]), &mut leave.upstream_frame);
    leave
}

/// Close 1012, Service Restart: for a WebSocket whose other end was lost (`websocket_close lost`).
fn lost() -> Goodbye {
    let (mut client_frame, mut upstream_frame) = (Vec::new(), Vec::new());
    close_frame(SERVICE_RESTART, "", None, &mut client_frame);
    // To an upstream the client went away.
    close_frame(GOING_AWAY, "", Some([0; 4]), &mut upstream_frame);
    Goodbye { client_frame, upstream_frame, on_eof: false }
}

/// `websocket_buffers_total`: an eighth of the machine's memory.
fn buffers_total() -> usize {
    let memory = rustix::system::sysinfo();
    usize::try_from(memory.totalram / 8 * u64::from(memory.mem_unit.max(1))).unwrap_or(usize::MAX)
}
