//! A worker: one thread, one runtime, tasks that never leave it (D4).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::Waker;
use std::time::Duration;

use http::config::ListenAddr;
use http::log::Level;
use http::message::SnapshotRef;
use http::output::Chunk;
use http::{Connection, Request, Snapshot};
use rustix::event::{PollFd, PollFlags, Timespec};
use slab::Slab;
use tokio::runtime::LocalOptions;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;

use crate::accept::{Accepted, Acceptor, Load, Peer};
use crate::fleet::{Listening, Retired};
use crate::h1;
use crate::housekeeping;
use crate::shared::{Seat, Shared};
use crate::stream::Stream;
use crate::tunnel::Relay;

/// What the control thread and the acceptor say to a worker.
pub(crate) enum Command {
    /// Serve this from now on.
    Install(Arc<Snapshot>),
    /// No connection of a listener that left can arrive any more.
    Settled,
    /// Accept on exactly these; answered when removed ones were accepted empty and closed.
    Listen(Vec<Listening>, oneshot::Sender<()>),
    /// A connection another worker accepted.
    Serve(Accepted, Seat, Load),
    /// No new requests; idle connections close.
    Quit,
    /// Give up requests that run under generations before this.
    Retire(u64),
    /// Close so many idle connections: there is no room for new ones.
    Shed(usize),
    /// End now.
    Stop,
}

/// A worker from its own tasks' side.
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) relay: Relay,
    /// The relay loop, where it lives in this thread.
    inside: RefCell<Option<Rc<RefCell<relay::Loop>>>>,
    /// Connections in this worker; the acceptor looks for the lowest.
    pub(crate) load: Arc<AtomicUsize>,
    snapshot: RefCell<SnapshotRef>,
    /// Snapshots with listeners that the next ones lack, until their sockets are accepted empty.
    leaving: RefCell<Vec<SnapshotRef>>,
    /// A reload took a listener away: connections may be without a home.
    lost_listeners: Cell<bool>,
    retired: Retired,
    quitting: Cell<bool>,
    cutoff: Cell<u64>,
    sleepers: RefCell<Slab<Sleeping>>,
    /// Counts the waits for a request, which tells the older from the younger.
    waits: Cell<u64>,
    /// Requests that are not in use, with the memory they grew.
    #[expect(clippy::vec_box, reason = "a request is moved between tasks by its pointer")]
    spare: RefCell<Vec<Box<Request>>>,
    /// Response queues that are not in use.
    queues: RefCell<Vec<VecDeque<Chunk>>>,
    /// Requests there have been, and whether `housekeeping` watches their number.
    begun: Cell<u64>,
    looked_after: Cell<bool>,
    cleaned_ms: Cell<u64>,
}

/// Most requests kept for reuse.
const SPARE_MAX: usize = 64;
/// Slots of a response queue beyond which it is not kept.
const QUEUE_KEPT_MAX: usize = 64;

impl Worker {
    pub(crate) fn new(
        snapshot: Arc<Snapshot>,
        retired: Retired,
        shared: Arc<Shared>,
        relay: Relay,
        load: Arc<AtomicUsize>,
    ) -> Rc<Worker> {
        let held = hold(snapshot, &retired);
        Rc::new(Worker {
            shared,
            relay,
            inside: RefCell::default(),
            load,
            snapshot: RefCell::new(held),
            leaving: RefCell::default(),
            lost_listeners: Cell::new(false),
            retired,
            quitting: Cell::new(false),
            cutoff: Cell::new(0),
            sleepers: RefCell::default(),
            waits: Cell::new(0),
            spare: RefCell::default(),
            queues: RefCell::default(),
            begun: Cell::new(0),
            looked_after: Cell::new(false),
            cleaned_ms: Cell::new(0),
        })
    }

    /// The configuration for a request that begins now.
    pub(crate) fn snapshot(&self) -> SnapshotRef {
        self.snapshot.borrow().clone()
    }

    /// Whether connections without a request are to close.
    pub(crate) fn is_quitting(&self) -> bool {
        self.quitting.get()
    }

    /// Requests of generations below this are given up.
    pub(crate) fn cutoff(&self) -> u64 {
        self.cutoff.get()
    }

    /// The configuration for a connection that was accepted now on this listener.
    pub(crate) fn snapshot_with(&self, listener: &ListenAddr) -> SnapshotRef {
        let current = self.snapshot();
        if has_listener(&current, listener) {
            return current;
        }
        let leaving = self.leaving.borrow();
        leaving.iter().rev().find(|old| has_listener(old, listener)).cloned().unwrap_or(current)
    }

    /// Whether a reload took a listener away.
    pub(crate) fn lost_listeners(&self) -> bool {
        self.lost_listeners.get()
    }

    /// A request to fill.
    pub(crate) fn request(
        self: &Rc<Self>,
        snapshot: SnapshotRef,
        connection: Rc<Connection>,
    ) -> Box<Request> {
        self.begun.set(self.begun.get() + 1);
        if !self.looked_after.replace(true) {
            housekeeping::start(self);
        }
        let spare = self.spare.borrow_mut().pop();
        match spare {
            Some(mut request) => {
                request.snapshot = snapshot;
                request.connection = connection;
                request
            }
            None => Box::new(Request::new(snapshot, connection)),
        }
    }

    /// Requests there have been.
    pub(crate) fn requests_begun(&self) -> u64 {
        self.begun.get()
    }

    /// Requests kept for reuse: as many as there were at once since [`Worker::clean`].
    pub(crate) fn spare_requests(&self) -> usize {
        self.spare.borrow().len()
    }

    /// When [`Worker::clean`] was last called.
    pub(crate) fn cleaned_ms(&self) -> u64 {
        self.cleaned_ms.get()
    }

    /// Frees what is kept for reuse.
    pub(crate) fn clean(&self, now_ms: u64) {
        self.cleaned_ms.set(now_ms);
        self.spare.take();
        self.queues.take();
    }

    /// Whether `housekeeping` watches.
    pub(crate) fn looked_after(&self, is: bool) {
        self.looked_after.set(is);
    }

    /// An empty response queue.
    pub(crate) fn spare_queue(&self) -> VecDeque<Chunk> {
        self.queues.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes a response queue back for reuse.
    pub(crate) fn give_queue_back(&self, mut queue: VecDeque<Chunk>) {
        queue.clear();
        let mut queues = self.queues.borrow_mut();
        if queues.len() < SPARE_MAX && queue.capacity() <= QUEUE_KEPT_MAX {
            queues.push(queue);
        }
    }

    /// Gives a tunnel to the relay loop.
    ///
    /// # Errors
    /// The loop is gone; the tunnel comes back.
    pub(crate) fn insert(&self, handover: relay::Handover) -> Result<(), Box<relay::Handover>> {
        let inside = self.inside.borrow();
        match inside.as_ref().and_then(|inside| inside.try_borrow_mut().ok()) {
            Some(mut inside) => {
                inside.insert(handover);
                Ok(())
            }
            None => self.relay.remote.insert(handover),
        }
    }

    /// Takes a request back for reuse, unless it belongs to an old snapshot.
    pub(crate) fn give_back(&self, mut request: Box<Request>) {
        request.clear();
        let mut spare = self.spare.borrow_mut();
        if spare.len() < SPARE_MAX && request.snapshot.same(&self.snapshot.borrow()) {
            spare.push(request);
        }
    }

    fn install(&self, snapshot: Arc<Snapshot>) {
        let old = self.snapshot.replace(hold(snapshot, &self.retired));
        // Spare requests hold the old snapshot; they go first, so that it is given back now if nobody uses it.
        self.spare.borrow_mut().clear();
        let current = self.snapshot();
        if old.listeners.iter().all(|listener| has_listener(&current, &listener.addr)) {
            return;
        }
        self.lost_listeners.set(true);
        self.leaving.borrow_mut().push(old);
        // Idle connections of the listener that left close now rather than at their next request.
        self.wake_all();
    }

    fn settled(&self) {
        let leaving = self.leaving.take();
        drop(leaving);
    }

    /// Registers a task that wants to be woken when the worker's state changes.
    pub(crate) fn sleeper(self: &Rc<Self>, waker: Waker) -> Sleeper {
        let sleeping = Sleeping { waker, wait: 0, dismissed: false };
        Sleeper { key: self.sleepers.borrow_mut().insert(sleeping), worker: self.clone() }
    }

    fn wake_all(&self) {
        for (_, one) in self.sleepers.borrow().iter() {
            one.waker.wake_by_ref();
        }
    }

    /// Has so many idle connections close, those that wait for the longest time; how many there were.
    pub(crate) fn shed(&self, count: usize) -> usize {
        let mut sleepers = self.sleepers.borrow_mut();
        let idle = sleepers.iter().filter(|(_, one)| one.wait > 0 && !one.dismissed);
        let mut idle: Vec<(u64, usize)> = idle.map(|(key, one)| (one.wait, key)).collect();
        if idle.len() > count {
            idle.select_nth_unstable(count);
            idle.truncate(count);
        }
        for (_, key) in &idle {
            sleepers[*key].dismissed = true;
            sleepers[*key].waker.wake_by_ref();
        }
        idle.len()
    }

    /// Takes a connection in.
    pub(crate) fn serve(self: &Rc<Self>, accepted: Accepted, seat: Seat, load: Load) {
        let stream = match Stream::new(accepted.socket, accepted.unix) {
            Ok(stream) => stream,
            Err(error) => {
                let log = &self.snapshot().core.error_log;
                return log.write(Level::Alert, format_args!("a connection cannot be watched: {error}"));
            }
        };
        let connection = Connection::new(accepted.peer, accepted.local, accepted.listener);
        let arrival = h1::Arrival { stream, connection, seat, load };
        tokio::task::spawn_local(h1::run(self.clone(), arrival));
    }
}

fn has_listener(snapshot: &Snapshot, addr: &ListenAddr) -> bool {
    snapshot.listeners.iter().any(|listener| listener.addr == *addr)
}

fn hold(snapshot: Arc<Snapshot>, retired: &Retired) -> SnapshotRef {
    let retired = retired.clone();
    SnapshotRef::new(snapshot, move |snapshot| retired(snapshot))
}

/// A task that can be woken.
struct Sleeping {
    waker: Waker,
    /// Number of its wait for a request; 0: it has one.
    wait: u64,
    /// It is to close rather than wait.
    dismissed: bool,
}

/// A task's place among those to wake.
pub(crate) struct Sleeper {
    key: usize,
    worker: Rc<Worker>,
}

impl Sleeper {
    /// It waits for a request from now on.
    pub(crate) fn is_idle(&self) {
        let wait = self.worker.waits.get() + 1;
        self.worker.waits.set(wait);
        let mut sleepers = self.worker.sleepers.borrow_mut();
        sleepers[self.key].wait = wait;
        sleepers[self.key].dismissed = false;
    }

    /// It has one.
    pub(crate) fn is_busy(&self) {
        self.worker.sleepers.borrow_mut()[self.key].wait = 0;
    }

    /// Whether its place is needed.
    pub(crate) fn is_dismissed(&self) -> bool {
        self.worker.sleepers.borrow()[self.key].dismissed
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.worker.sleepers.borrow_mut().remove(self.key);
    }
}

/// Runs a worker until it is told to stop.
pub(crate) async fn run(worker: Rc<Worker>, mut commands: UnboundedReceiver<Command>, peers: Vec<Peer>) {
    let mut acceptor = Acceptor::new(worker.clone(), peers);
    while let Some(command) = commands.recv().await {
        match command {
            // Connections between requests notice at their next one.
            Command::Install(snapshot) => worker.install(snapshot),
            Command::Listen(listening, done) => acceptor.listen(listening, done),
            Command::Serve(accepted, seat, load) => worker.serve(accepted, seat, load),
            Command::Settled => worker.settled(),
            Command::Quit => {
                worker.quitting.set(true);
                worker.wake_all();
            }
            Command::Retire(generation) => {
                // A later reload may have had the shorter timeout.
                worker.cutoff.set(generation.max(worker.cutoff()));
                worker.wake_all();
            }
            Command::Shed(count) => {
                worker.shed(count);
            }
            Command::Stop => return,
        }
    }
}

/// A worker's thread: its runtime and the tasks on it, and the relay loop where it lives inside.
pub(crate) fn thread(
    make: impl FnOnce() -> Rc<Worker>,
    commands: UnboundedReceiver<Command>,
    peers: Vec<Peer>,
    relay_loop: Option<relay::Loop>,
) {
    // A runtime whose tasks need not be Send by itself: a LocalSet in one would queue every wake twice.
    let mut builder = tokio::runtime::Builder::new_current_thread();
    http::log::gather();
    builder.on_thread_park(http::log::end_of_turn);
    let runtime = match builder.enable_all().build_local(LocalOptions::default()) {
        Ok(runtime) => runtime,
        Err(error) => panic!("a worker needs an epoll instance: {error}"),
    };
    runtime.block_on(async move {
        let worker = make();
        if let Some(relay_loop) = relay_loop {
            let relay_loop = Rc::new(RefCell::new(relay_loop));
            worker.inside.replace(Some(relay_loop.clone()));
            tokio::task::spawn_local(turns(worker.clone(), relay_loop));
        }
        run(worker, commands, peers).await;
    });
}

/// Gives the relay loop its turns whenever its epoll instance has something, or one of its timers is due. A tunnel that
/// is inserted has room to write, which wakes this.
async fn turns(worker: Rc<Worker>, relay_loop: Rc<RefCell<relay::Loop>>) {
    let Ok(epoll) = relay_loop.borrow().as_fd().try_clone_to_owned() else { return };
    let Ok(watched) = crate::stream::watch(epoll) else { return };
    loop {
        let wait = relay_loop.borrow().timeout().unwrap_or(Duration::from_secs(3600));
        let ready = tokio::time::timeout(wait, watched.readable()).await;
        if !relay_loop.borrow_mut().turn(Some(Duration::ZERO)) {
            worker.inside.take();
            return;
        }
        if let Ok(Ok(mut ready)) = ready {
            // One turn takes no more than its table holds. What it left makes no new edge, so look before we wait.
            let _ = ready.try_io(|watched| match is_readable(watched.get_ref()) {
                true => Ok(()),
                false => Err(std::io::ErrorKind::WouldBlock.into()),
            });
        }
        tokio::task::yield_now().await;
    }
}

fn is_readable(fd: impl AsFd) -> bool {
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    rustix::event::poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|count| count > 0)
}
