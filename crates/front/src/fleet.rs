//! All of a serving process that touches clients: workers and listeners.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use http::Snapshot;
use reactor::Reactor;
use relay::{Budget, Goodbye, Leave, Tunnels};
use tokio::sync::mpsc::unbounded_channel;
use tokio::sync::oneshot;

use crate::handle::{Command, Handle, Listening, Load};
use crate::run::{self, Parts};
use crate::shared::{Counts, Shared};
use crate::snapshots::Retired;
use crate::tunnel::Closing;

/// How a fleet is made.
pub struct FleetOptions {
    /// Threads, each with a loop for its requests and its tunnels.
    pub workers: usize,
    /// Most bytes all tunnels together may hold for slow readers.
    pub buffers_total: usize,
    /// What one end of a WebSocket is told when the other was lost.
    pub lost: Arc<Goodbye>,
    /// Gets a snapshot from each worker that let go of it; called on that worker, so it must not free it there (D2).
    pub retired: Retired,
}

/// The workers.
pub struct Fleet {
    workers: Vec<Running>,
    shared: Arc<Shared>,
    closing: Arc<Closing>,
}

struct Running {
    handle: Handle,
    thread: JoinHandle<()>,
}

impl Fleet {
    /// Starts the threads. They serve nothing until [`Fleet::listen`].
    ///
    /// # Errors
    /// No thread, epoll instance or descriptor can be had.
    pub fn start(options: &FleetOptions, snapshot: &Arc<Snapshot>) -> io::Result<Fleet> {
        let mut fleet = Fleet { workers: Vec::new(), shared: Arc::default(), closing: Arc::default() };
        fleet.limit(snapshot);
        let budget = Budget::new(options.buffers_total);
        let mut engines = Vec::new();
        let mut handles = Vec::new();
        for _ in 0..options.workers.max(1) {
            let reactor = Reactor::new()?;
            let (tunnels, remote) = Tunnels::new(budget.clone(), reactor.epoll())?;
            let (sender, commands) = unbounded_channel();
            engines.push((reactor, tunnels, commands));
            handles.push(Handle { load: Load::default(), tunnels: remote, commands: sender });
        }
        for (at, (reactor, tunnels, commands)) in engines.into_iter().enumerate() {
            let mut others = handles.clone();
            let handle = others.remove(at);
            let parts = Parts {
                shared: fleet.shared.clone(),
                load: handle.load.clone(),
                snapshot: snapshot.clone(),
                retired: options.retired.clone(),
                reactor,
                tunnels,
                remote: handle.tunnels.clone(),
                closing: fleet.closing.clone(),
                goodbye: options.lost.clone(),
                commands,
                others,
            };
            let name = format!("worker-{at}");
            let thread = std::thread::Builder::new().name(name).spawn(move || run::thread(parts))?;
            fleet.workers.push(Running { handle, thread });
        }
        Ok(fleet)
    }

    fn limit(&self, snapshot: &Snapshot) {
        let limit = snapshot.core.connections.saturating_mul(snapshot.core.workers.max(1));
        self.shared.limit.store(limit, Ordering::Relaxed);
    }

    /// Serves `snapshot` from the next request on; what runs goes on under the old one. Tunnels of
    /// `websocket_reload close` locations get until `worker_shutdown_timeout`. When listeners differ, [`Fleet::listen`]
    /// must follow: until then the old snapshot is kept for connections of those that are gone.
    pub fn install(&self, snapshot: &Arc<Snapshot>) {
        self.limit(snapshot);
        self.tell(|| Command::Install(snapshot.clone()));
    }

    /// Accepts on exactly these sockets from now on, and waits until those that left were accepted empty and closed.
    pub fn listen(&self, listening: Vec<Listening>) {
        let count = self.workers.len();
        let mut of_worker: Vec<Vec<Listening>> = (0..count).map(|_| Vec::new()).collect();
        for socket in listening {
            of_worker[socket.worker % count].push(socket);
        }
        let mut waits = Vec::new();
        for (worker, listening) in self.workers.iter().zip(of_worker) {
            let (done, wait) = oneshot::channel();
            if worker.handle.tell(Command::Listen(listening, done)) {
                waits.push(wait);
            }
        }
        for wait in waits {
            // An error is a worker that ended: nothing accepts there any more either.
            let _ = wait.blocking_recv();
        }
        self.tell(|| Command::Settled);
    }

    /// Gives up requests that still run under generations before this (`worker_shutdown_timeout`), and closes the
    /// tunnels of `websocket_reload close` that were born there.
    pub fn retire(&self, generation: u64, goodbye: &Leave) {
        self.tell(|| Command::Retire(generation));
        self.closing.close_before(generation, goodbye);
    }

    /// Stops taking requests and drains the tunnels. Ready when [`Fleet::counts`] are all 0.
    pub fn quit(&self, goodbye: &Leave) {
        self.listen(Vec::new());
        self.tell(|| Command::Quit);
        for worker in &self.workers {
            worker.handle.tunnels.shutdown(goodbye.clone());
        }
    }

    /// How much is going on.
    pub fn counts(&self) -> Counts {
        self.shared.counts()
    }

    /// Connections in each worker.
    pub fn loads(&self) -> Vec<usize> {
        self.workers.iter().map(|worker| worker.handle.load.connections()).collect()
    }

    /// Tunnels in each worker, as of its last turn.
    pub fn tunnels(&self) -> Vec<u64> {
        self.workers.iter().map(|worker| worker.handle.tunnels.counts().live).collect()
    }

    /// Ends everything now; tunnels write their log lines first.
    pub fn stop(mut self, goodbye: &Leave) {
        for worker in &self.workers {
            worker.handle.tunnels.shutdown(goodbye.clone());
        }
        let until = Instant::now() + STOP_MAX;
        while self.counts().tunnels > 0 && Instant::now() < until {
            // The loops have no channel back, and this is the last thing the process does.
            std::thread::park_timeout(Duration::from_millis(5));
        }
        for worker in &self.workers {
            worker.handle.tunnels.stop();
        }
        self.tell(|| Command::Stop);
        for worker in self.workers.drain(..) {
            let _ = worker.thread.join();
        }
    }

    fn tell(&self, command: impl Fn() -> Command) {
        for worker in &self.workers {
            // One that ended serves nothing, so there is nothing to tell it.
            worker.handle.tell(command());
        }
    }
}

/// How long `stop` waits for the tunnels' goodbyes.
const STOP_MAX: Duration = Duration::from_millis(500);
