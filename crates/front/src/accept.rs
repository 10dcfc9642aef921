//! Accepting: one worker accepts and hands connections to the worker that has the fewest (D4).

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::clock::monotonic_ms;
use http::config::ListenAddr;
use http::log::{ErrorLog, Level};
use reactor::{Source, Timer};
use rustix::io::Errno;
use sys::listen::Address;
use tokio::sync::oneshot;

use crate::h1;
use crate::handle::{Accepted, Command, Handle, Listening};
use crate::worker::Worker;

/// How long to wait before accepting again when descriptors or memory ran out (nginx's `accept_mutex_delay`).
const PAUSE: Duration = Duration::from_millis(500);
/// How often the log is told that idle connections close for new ones, milliseconds.
const COMPLAINT_PAUSE_MS: u64 = 1000;
/// Most connections accepted before other tasks get their turn.
const BATCH_MAX: usize = 64;

/// The listeners of one worker.
pub(crate) struct Acceptor {
    worker: Rc<Worker>,
    others: Rc<[Handle]>,
    tasks: Vec<(u64, Rc<Desk>)>,
}

/// What a listener's task is told while it runs.
struct Desk {
    /// Where troubles of accepting are written; a reload may change it.
    log: RefCell<Arc<ErrorLog>>,
    /// Accept what is queued and close.
    told_to_leave: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    /// Dropped when the task is over; the last drop answers who waits.
    done: RefCell<Option<Rc<Done>>>,
}

struct Done(Cell<Option<oneshot::Sender<()>>>);

impl Drop for Done {
    fn drop(&mut self) {
        if let Some(done) = self.0.take() {
            let _ = done.send(());
        }
    }
}

impl Acceptor {
    pub(crate) fn new(worker: Rc<Worker>, others: Vec<Handle>) -> Acceptor {
        Acceptor { worker, others: others.into(), tasks: Vec::new() }
    }

    /// Accepts on exactly these from now on. A listener that stays keeps its task and its socket; the descriptor that
    /// came for it again is closed. `done` is answered when those that leave are closed.
    pub(crate) fn listen(&mut self, listening: Vec<Listening>, done: oneshot::Sender<()>) {
        let done = Rc::new(Done(Cell::new(Some(done))));
        let stays = |id: u64| listening.iter().any(|new| new.id == id);
        let (stay, leave): (Vec<_>, Vec<_>) = self.tasks.drain(..).partition(|(id, _)| stays(*id));
        self.tasks = stay;
        for (_, desk) in leave {
            desk.told_to_leave.set(true);
            *desk.done.borrow_mut() = Some(done.clone());
            if let Some(waker) = desk.waker.borrow_mut().take() {
                waker.wake();
            }
        }
        for new in listening {
            match self.tasks.iter().find(|(id, _)| *id == new.id) {
                Some((_, desk)) => *desk.log.borrow_mut() = new.log,
                None => self.start(new),
            }
        }
    }

    fn start(&mut self, new: Listening) {
        let cannot = |why: &dyn std::fmt::Display| {
            new.log.write(Level::Alert, format_args!("cannot accept on {}: {why}", new.addr));
        };
        let Some(socket) = new.socket else { return cannot(&"its socket is not there") };
        let socket = match Source::listener(socket) {
            Ok(socket) => socket,
            Err(error) => return cannot(&error),
        };
        if !matches!(new.addr, ListenAddr::Unix(_)) {
            // Accepted sockets have it from here, and most keep it (`tcp_nodelay`): one system call less for each.
            let _ = sys::options::set_nodelay(&socket, true);
        }
        let desk = Rc::new(Desk {
            log: RefCell::new(new.log),
            told_to_leave: Cell::new(false),
            waker: RefCell::default(),
            done: RefCell::default(),
        });
        self.tasks.push((new.id, desk.clone()));
        let task = Accepting {
            unix: matches!(new.addr, ListenAddr::Unix(_)),
            addr: new.addr,
            spread: new.spread,
            worker: self.worker.clone(),
            others: self.others.clone(),
            socket,
            desk,
            batch: Cell::new((0, 0)),
            exhausted: Cell::new(false),
            complained_ms: Cell::new(0),
        };
        reactor::spawn(task.run());
    }
}

/// One listener's task.
struct Accepting {
    addr: ListenAddr,
    unix: bool,
    /// Hand connections to other workers; not for `reuseport`, where each has its own socket.
    spread: bool,
    worker: Rc<Worker>,
    others: Rc<[Handle]>,
    socket: Source,
    desk: Rc<Desk>,
    /// How many connections were accepted at most in the turn of this number. In the next one it is twice as many, until the
    /// queue is found empty: a connection that comes alone costs one call and not two, and a storm is not taken in one by one.
    batch: Cell<(u64, usize)>,
    /// Descriptors or memory ran out, and this was logged.
    exhausted: Cell<bool>,
    /// When the log was last told that idle connections close for new ones.
    complained_ms: Cell<u64>,
}

enum Woken {
    Readable,
    Leave,
}

impl Accepting {
    async fn run(self) {
        loop {
            match self.wait().await {
                Woken::Readable => match self.accept_batch() {
                    // The kernel says in the next turn if there are more; until then the others are served.
                    Ok(()) => self.socket.forget_readable(),
                    Err(error) => self.pause(&error).await,
                },
                Woken::Leave => {
                    // What the kernel has accepted for us already is served; then the socket closes.
                    loop {
                        match self.accept_one() {
                            Ok(true) => {}
                            Err(error) if is_of_the_network(&error) => {}
                            _ => return,
                        }
                    }
                }
            }
        }
    }

    async fn wait(&self) -> Woken {
        poll_fn(|cx| {
            if self.is_told_to_leave(cx) {
                return Poll::Ready(Woken::Leave);
            }
            self.socket.poll_readable(cx).map(|()| Woken::Readable)
        })
        .await
    }

    fn is_told_to_leave(&self, cx: &Context<'_>) -> bool {
        if self.desk.told_to_leave.get() {
            return true;
        }
        *self.desk.waker.borrow_mut() = Some(cx.waker().clone());
        false
    }

    fn accept_batch(&self) -> io::Result<()> {
        let (turn, (last, count)) = (reactor::turn(), self.batch.get());
        // Where tasks wait for several turns, so did this one, and connections came meanwhile.
        let batch =
            if turn == last + 1 || reactor::is_behind() { (count * 2).clamp(1, BATCH_MAX) } else { 1 };
        self.batch.set((turn, batch));
        for taken in 0..batch {
            // Room is made for a connection that is there: of the first of a turn the kernel has said so. Who was told to
            // close does so before the next turn.
            if taken == 0 && self.makes_room() || taken > 0 && self.worker.shared.short_by() > 0 {
                return Ok(());
            }
            match self.accept_one() {
                Ok(true) => self.exhausted.set(false),
                Ok(false) => {
                    self.batch.set((turn, 0));
                    return Ok(());
                }
                Err(error) if is_of_the_network(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// When hardly any connection is left, has idle ones closed as nginx does; true when some of this worker's are to.
    fn makes_room(&self) -> bool {
        let count = self.worker.shared.short_by();
        if count == 0 {
            return false;
        }
        let here = self.worker.sleepers.shed(count);
        if here < count {
            let each = (count - here).div_ceil(self.others.len().max(1));
            for other in self.others.iter() {
                other.tell(Command::Shed(each));
            }
        }
        let now_ms = monotonic_ms();
        if here > 0 && now_ms >= self.complained_ms.get() + COMPLAINT_PAUSE_MS {
            self.complained_ms.set(now_ms);
            let limit = self.worker.shared.limit.load(Ordering::Relaxed);
            let text = format_args!("{limit} worker_connections are not enough, reusing connections");
            self.desk.log.borrow().write(Level::Warn, text);
        }
        here > 0
    }

    /// Takes one connection; false when none is queued.
    fn accept_one(&self) -> io::Result<bool> {
        let Some(accepted) = sys::listen::accept(&self.socket)? else { return Ok(false) };
        let Some(seat) = self.worker.shared.seat() else {
            let limit = self.worker.shared.limit.load(Ordering::Relaxed);
            let text = format_args!("{limit} worker_connections are not enough");
            self.desk.log.borrow().write(Level::Alert, text);
            return Ok(true);
        };
        self.worker.shared.accepted.fetch_add(1, Ordering::Relaxed);
        let peer = match accepted.peer {
            Address::Inet(peer) => Some(peer),
            Address::Unix(_) => None,
        };
        let local = self.local_address(&accepted.socket);
        let least = self.least_loaded();
        let accepted = Accepted {
            socket: accepted.socket,
            unix: self.unix,
            peer,
            local,
            listener: self.addr.clone(),
            seat,
            burden: least.map_or(&self.worker.load, |other| &other.load).add(),
        };
        match least {
            Some(other) => {
                // If it ended, the connection closes, and seat and burden are given back.
                other.tell(Command::Serve(accepted));
            }
            None => h1::serve(&self.worker, accepted),
        }
        Ok(true)
    }

    /// The address the client connected to, when the listener's own does not say it.
    fn local_address(&self, socket: &OwnedFd) -> ListenAddr {
        if self.addr.is_wildcard()
            && let Ok(Address::Inet(local)) = sys::listen::local_address(socket)
        {
            return ListenAddr::Tcp(local);
        }
        self.addr.clone()
    }

    /// The worker with the fewest connections and tunnels; `None`: this one.
    fn least_loaded(&self) -> Option<&Handle> {
        if !self.spread {
            return None;
        }
        let own = self.worker.load.weight(&self.worker.relay.remote);
        let weighed = self.others.iter().map(|other| (other.weight(), other));
        let (least, other) = weighed.min_by_key(|(weight, _)| *weight)?;
        (least < own).then_some(other)
    }

    /// Waits before accepting again, or until it is told to leave. One line says so, until an accept works again.
    async fn pause(&self, error: &io::Error) {
        if !self.exhausted.replace(true) {
            let text = sys::errno::text(error);
            self.desk.log.borrow().write(
                Level::Crit,
                format_args!(
                    "accept4() failed ({text}) on {}, trying again every {} ms",
                    self.addr,
                    PAUSE.as_millis()
                ),
            );
        }
        // The kernel would say in every turn that connections wait.
        let muted = self.socket.mute();
        let mut timer = Timer::default();
        timer.set(PAUSE.as_millis() as u64);
        poll_fn(|cx| match self.is_told_to_leave(cx) {
            true => Poll::Ready(()),
            false => timer.poll(cx),
        })
        .await;
        if muted.and_then(|()| self.socket.unmute()).is_ok() {
            self.socket.forget_readable();
        }
    }
}

/// Errors that belong to the one connection that was to be accepted, see accept(2).
fn is_of_the_network(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    errno.is_some_and(|errno| NETWORK_ERRORS.contains(&errno))
}

const NETWORK_ERRORS: [Errno; 9] = [
    Errno::NETDOWN,
    Errno::PROTO,
    Errno::NOPROTOOPT,
    Errno::HOSTDOWN,
    Errno::NONET,
    Errno::HOSTUNREACH,
    Errno::OPNOTSUPP,
    Errno::NETUNREACH,
    Errno::PERM,
];
