//! Accepting: one worker accepts and hands connections to the worker that has the fewest (D4).

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;

use http::config::ListenAddr;
use http::log::{ErrorLog, Level};
use sys::listen::Address;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use crate::fleet::Listening;
use crate::worker::{Command, Worker};

/// How long to wait before accepting again when descriptors or memory ran out (nginx's `accept_mutex_delay`).
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(500);
/// Most connections accepted before other tasks get their turn.
const BATCH: usize = 64;

/// A connection on its way to a worker.
pub(crate) struct Accepted {
    pub(crate) socket: OwnedFd,
    pub(crate) unix: bool,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) local: ListenAddr,
    pub(crate) listener: ListenAddr,
}

/// A worker as the acceptor sees it.
pub(crate) struct Peer {
    pub(crate) load: Arc<AtomicUsize>,
    pub(crate) commands: UnboundedSender<Command>,
}

/// The listeners of one worker.
pub(crate) struct Acceptor {
    worker: Rc<Worker>,
    peers: Rc<[Peer]>,
    tasks: Vec<(u64, Rc<Leaving>)>,
}

/// How a listener's task is told to accept what is queued and close.
#[derive(Default)]
struct Leaving {
    told: Cell<bool>,
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
    pub(crate) fn new(worker: Rc<Worker>, peers: Vec<Peer>) -> Acceptor {
        Acceptor { worker, peers: peers.into(), tasks: Vec::new() }
    }

    /// Accepts on exactly these from now on. A listener that stays keeps its task and its socket; the descriptor that
    /// came for it again is closed. `done` is answered when those that leave are closed.
    pub(crate) fn listen(&mut self, listening: Vec<Listening>, done: oneshot::Sender<()>) {
        let done = Rc::new(Done(Cell::new(Some(done))));
        let stays = |id: u64| listening.iter().any(|new| new.id == id);
        let (stay, leave): (Vec<_>, Vec<_>) = self.tasks.drain(..).partition(|(id, _)| stays(*id));
        self.tasks = stay;
        for (_, leaving) in leave {
            leaving.told.set(true);
            *leaving.done.borrow_mut() = Some(done.clone());
            if let Some(waker) = leaving.waker.borrow_mut().take() {
                waker.wake();
            }
        }
        for new in listening {
            if self.tasks.iter().all(|(id, _)| *id != new.id) {
                self.start(new);
            }
        }
    }

    fn start(&mut self, new: Listening) {
        let Some(socket) = new.socket else { return };
        let Ok(socket) = crate::stream::watch(socket) else { return };
        let leaving = Rc::new(Leaving::default());
        self.tasks.push((new.id, leaving.clone()));
        let task = Accepting {
            unix: matches!(new.addr, ListenAddr::Unix(_)),
            addr: new.addr,
            log: new.log,
            spread: new.spread,
            worker: self.worker.clone(),
            peers: self.peers.clone(),
            socket,
            leaving,
        };
        tokio::task::spawn_local(task.run());
    }
}

/// One listener's task.
struct Accepting {
    addr: ListenAddr,
    unix: bool,
    log: Arc<ErrorLog>,
    /// Hand connections to other workers; not for `reuseport`, where each has its own socket.
    spread: bool,
    worker: Rc<Worker>,
    peers: Rc<[Peer]>,
    socket: AsyncFd<OwnedFd>,
    leaving: Rc<Leaving>,
}

enum Woken {
    Readable,
    Leave,
}

impl Accepting {
    async fn run(self) {
        loop {
            match self.wait().await {
                Woken::Readable => {
                    if let Err(error) = self.accept_batch() {
                        self.exhausted(&error).await;
                    }
                }
                Woken::Leave => {
                    // What the kernel has accepted for us already is served; then the socket closes.
                    while matches!(self.accept_one(), Ok(true)) {}
                    return;
                }
            }
        }
    }

    async fn wait(&self) -> Woken {
        poll_fn(|cx| {
            if self.leaving.told.get() {
                return Poll::Ready(Woken::Leave);
            }
            *self.leaving.waker.borrow_mut() = Some(cx.waker().clone());
            match self.socket.poll_read_ready(cx) {
                Poll::Ready(Ok(mut guard)) => {
                    guard.retain_ready();
                    Poll::Ready(Woken::Readable)
                }
                Poll::Ready(Err(_)) => Poll::Ready(Woken::Leave),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    fn accept_batch(&self) -> io::Result<()> {
        for _ in 0..BATCH {
            let more = self.socket.try_io(tokio::io::Interest::READABLE, |_| {
                if self.accept_one()? { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
            });
            match more {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes one connection; false when none is queued.
    fn accept_one(&self) -> io::Result<bool> {
        let Some(accepted) = sys::listen::accept(self.socket.get_ref())? else { return Ok(false) };
        let Some(seat) = self.worker.shared.seat() else {
            let limit = self.worker.shared.limit.load(Ordering::Relaxed);
            self.log.write(Level::Alert, format_args!("{limit} worker_connections are not enough"));
            return Ok(true);
        };
        self.worker.shared.accepted.fetch_add(1, Ordering::Relaxed);
        let peer = match accepted.peer {
            Address::Inet(peer) => Some(peer),
            Address::Unix(_) => None,
        };
        let local = match &self.addr {
            wild if wild.is_wildcard() => match sys::listen::local_address(&accepted.socket) {
                Ok(Address::Inet(local)) => ListenAddr::Tcp(local),
                _ => wild.clone(),
            },
            addr => addr.clone(),
        };
        let accepted =
            Accepted { socket: accepted.socket, unix: self.unix, peer, local, listener: self.addr.clone() };
        match self.least_loaded() {
            Some(peer) => {
                peer.load.fetch_add(1, Ordering::Relaxed);
                if let Err(lost) = peer.commands.send(Command::Serve(accepted, seat)) {
                    drop(lost);
                }
            }
            None => self.worker.serve(accepted, seat),
        }
        Ok(true)
    }

    /// The worker with the fewest connections; `None`: this one.
    fn least_loaded(&self) -> Option<&Peer> {
        if !self.spread {
            return None;
        }
        let own = self.worker.load.load(Ordering::Relaxed);
        let peer = self.peers.iter().min_by_key(|peer| peer.load.load(Ordering::Relaxed))?;
        (peer.load.load(Ordering::Relaxed) < own).then_some(peer)
    }

    async fn exhausted(&self, error: &io::Error) {
        let text = error.to_string();
        let text = text.split(" (os error").next().unwrap_or_default();
        let number = error.raw_os_error().unwrap_or_default();
        self.log.write(
            Level::Crit,
            format_args!(
                "accept4() failed ({number}: {text}) on {}, accepting again in {} ms",
                self.addr,
                EXHAUSTED_PAUSE.as_millis()
            ),
        );
        tokio::time::sleep(EXHAUSTED_PAUSE).await;
    }
}
