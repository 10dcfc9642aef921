//! All of a serving process that touches clients: workers and listeners.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use http::Snapshot;
use http::config::ListenAddr;
use http::log::ErrorLog;
use reactor::Reactor;
use relay::{Budget, Goodbye, Leave, Remote, Tunnels};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use crate::accept::Peer;
use crate::shared::{Counts, Shared};
use crate::tunnel::{Closing, Relay};
use crate::worker::{self, Command, Worker};

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

/// Where workers send snapshots they let go of.
pub type Retired = Arc<dyn Fn(Arc<Snapshot>) + Send + Sync>;

/// A socket to accept on.
pub struct Listening {
    /// The same number means the same socket, over all calls of [`Fleet::listen`].
    pub id: u64,
    /// What it is bound to.
    pub addr: ListenAddr,
    /// The socket; `None` when a socket of that id is in use already.
    pub socket: Option<OwnedFd>,
    /// Where troubles of accepting are written.
    pub log: Arc<ErrorLog>,
    /// Whether accepted connections are spread over the workers.
    pub spread: bool,
    /// The worker that accepts, modulo their number.
    pub worker: usize,
}

/// The workers.
pub struct Fleet {
    workers: Vec<Handle>,
    shared: Arc<Shared>,
    closing: Arc<Closing>,
}

struct Handle {
    load: Arc<AtomicUsize>,
    commands: UnboundedSender<Command>,
    tunnels: Remote,
    thread: Option<JoinHandle<()>>,
}

impl Fleet {
    /// Starts the threads. They serve nothing until [`Fleet::listen`].
    ///
    /// # Errors
    /// No thread, epoll instance or descriptor can be had.
    pub fn start(options: &FleetOptions, snapshot: &Arc<Snapshot>) -> io::Result<Fleet> {
        let count = options.workers.max(1);
        let shared = Arc::<Shared>::default();
        let closing = Arc::<Closing>::default();
        let budget = Budget::new(options.buffers_total);
        let mut fleet = Fleet { workers: Vec::new(), shared, closing };
        fleet.limit(snapshot);
        let channels: Vec<_> = (0..count).map(|_| unbounded_channel()).collect();
        let loads: Vec<Arc<AtomicUsize>> = (0..count).map(|_| Arc::default()).collect();
        let senders: Vec<_> = channels.iter().map(|(sender, _)| sender.clone()).collect();
        let mut loops = Vec::with_capacity(count);
        for _ in 0..count {
            let reactor = Reactor::new()?;
            let (tunnels, remote) = Tunnels::new(budget.clone(), reactor.epoll())?;
            loops.push((reactor, tunnels, remote));
        }
        let remotes: Vec<_> = loops.iter().map(|(_, _, remote)| remote.clone()).collect();
        for (at, ((commands, receiver), (reactor, tunnels, remote))) in
            channels.into_iter().zip(loops).enumerate()
        {
            let relay = Relay {
                remote: remote.clone(),
                closing: fleet.closing.clone(),
                goodbye: options.lost.clone(),
            };
            let peers = (0..count)
                .filter(|other| *other != at)
                .map(|other| Peer {
                    load: loads[other].clone(),
                    tunnels: remotes[other].clone(),
                    commands: senders[other].clone(),
                })
                .collect();
            let make = make_worker(
                snapshot.clone(),
                options.retired.clone(),
                fleet.shared.clone(),
                relay,
                tunnels,
                loads[at].clone(),
            );
            let thread = std::thread::Builder::new()
                .name(format!("worker-{at}"))
                .spawn(move || worker::thread(make, receiver, peers, reactor))?;
            fleet.workers.push(Handle {
                load: loads[at].clone(),
                commands,
                tunnels: remote,
                thread: Some(thread),
            });
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
        for (handle, listening) in self.workers.iter().zip(of_worker) {
            let (done, wait) = oneshot::channel();
            if handle.commands.send(Command::Listen(listening, done)).is_ok() {
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
        for handle in &self.workers {
            handle.tunnels.shutdown(goodbye.clone());
        }
    }

    /// How much is going on.
    pub fn counts(&self) -> Counts {
        self.shared.counts()
    }

    /// Connections in each worker.
    pub fn loads(&self) -> Vec<usize> {
        self.workers.iter().map(|worker| worker.load.load(Ordering::Relaxed)).collect()
    }

    /// Tunnels in each worker, as of its last turn.
    pub fn tunnels(&self) -> Vec<u64> {
        self.workers.iter().map(|worker| worker.tunnels.counts().live).collect()
    }

    /// Ends everything now; tunnels write their log lines first.
    pub fn stop(mut self, goodbye: &Leave) {
        for handle in &self.workers {
            handle.tunnels.shutdown(goodbye.clone());
        }
        let until = Instant::now() + STOP_MAX;
        while self.counts().tunnels > 0 && Instant::now() < until {
            // The loops have no channel back, and this is the last thing the process does.
            std::thread::park_timeout(Duration::from_millis(5));
        }
        for handle in &self.workers {
            handle.tunnels.stop();
        }
        self.tell(|| Command::Stop);
        for handle in &mut self.workers {
            if let Some(thread) = handle.thread.take() {
                let _ = thread.join();
            }
        }
    }

    fn tell(&self, command: impl Fn() -> Command) {
        for handle in &self.workers {
            // A worker that ended serves nothing, so there is nothing to tell it.
            let _ = handle.commands.send(command());
        }
    }
}

/// How long `stop` waits for the tunnels' goodbyes.
const STOP_MAX: Duration = Duration::from_millis(500);

fn make_worker(
    snapshot: Arc<Snapshot>,
    retired: Retired,
    shared: Arc<Shared>,
    relay: Relay,
    tunnels: Tunnels,
    load: Arc<AtomicUsize>,
) -> impl FnOnce() -> std::rc::Rc<Worker> + Send + 'static {
    move || Worker::new(snapshot, retired, shared, relay, tunnels, load)
}
