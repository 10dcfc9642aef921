//! A worker: one thread, one loop for its tasks and its tunnels (D4, D5).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::Waker;

use ::relay::Tunnels;
use http::config::ListenAddr;
use http::log::Level;
use http::message::SnapshotRef;
use http::output::Chunk;
use http::{Connection, Request, Snapshot};
use reactor::{Guest, Reactor};
use slab::Slab;
use sys::epoll::{Event, Flags};
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
    /// Its tunnels.
    tunnels: Rc<House>,
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
        tunnels: Tunnels,
        load: Arc<AtomicUsize>,
    ) -> Rc<Worker> {
        let held = hold(snapshot, &retired);
        Rc::new(Worker {
            shared,
            relay,
            tunnels: Rc::new(House(RefCell::new(tunnels))),
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

    /// Gives the loop a tunnel. Called from a task, so never within a tunnel's own step.
    pub(crate) fn insert(&self, handover: relay::Handover) {
        self.tunnels.0.borrow_mut().insert(handover);
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
        reactor::spawn(h1::run(self.clone(), arrival));
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

/// A worker's thread: its loop, the tasks in it, and the tunnels as its guests.
pub(crate) fn thread(
    make: impl FnOnce() -> Rc<Worker>,
    commands: UnboundedReceiver<Command>,
    peers: Vec<Peer>,
    reactor: Reactor,
) {
    let worker = make();
    let tunnels = worker.tunnels.clone();
    http::log::gather();
    reactor.run(&*tunnels, run(worker, commands, peers));
    http::log::end_of_turn();
}

/// The tunnels of a worker, in its loop.
struct House(RefCell<Tunnels>);

const _: () =
    assert!(Tunnels::TOKENS == Reactor::GUEST, "the loop tells a tunnel's events from others by this bit");

impl Guest for House {
    fn awake(&self) {
        self.0.borrow_mut().awake();
    }

    #[inline]
    fn event(&self, event: Event) {
        self.0.borrow_mut().event(event);
    }

    #[inline]
    fn lent_event(&self, name: u32, flags: Flags) {
        self.0.borrow_mut().passed(name, flags);
    }

    fn turn(&self) {
        self.0.borrow_mut().turn();
    }

    fn wait_ms(&self) -> Option<u64> {
        self.0.borrow().wait_ms()
    }

    /// The lines of a turn, those of tunnels among them, are written before the loop waits.
    fn tasks_ran(&self) {
        http::log::end_of_turn();
    }

    fn distrust(&self) {
        self.0.borrow_mut().distrust();
    }
}
