//! A worker as the others see it: how much it has to do, and what it is told.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::Snapshot;
use http::config::ListenAddr;
use http::log::ErrorLog;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use crate::shared::Seat;

/// A worker from outside: from the control thread, and from the worker that accepts for it.
#[derive(Clone)]
pub(crate) struct Handle {
    pub(crate) load: Load,
    pub(crate) tunnels: relay::Remote,
    pub(crate) commands: UnboundedSender<Command>,
}

impl Handle {
    /// Whether it was told: a worker that ended takes no command.
    pub(crate) fn tell(&self, command: Command) -> bool {
        self.commands.send(command).is_ok()
    }

    /// Its connections, and the tunnels that some of them have become.
    pub(crate) fn weight(&self) -> u64 {
        self.load.weight(&self.tunnels)
    }
}

/// What the control thread and the acceptor say to a worker.
pub(crate) enum Command {
    /// Serve this from now on.
    Install(Arc<Snapshot>),
    /// No connection of a listener that left can arrive any more.
    Settled,
    /// Accept on exactly these; answered when removed ones were accepted empty and closed.
    Listen(Vec<Listening>, oneshot::Sender<()>),
    /// A connection another worker accepted.
    Serve(Accepted),
    /// No new requests; idle connections close.
    Quit,
    /// Give up requests that run under generations before this.
    Retire(u64),
    /// Close so many idle connections: there is no room for new ones.
    Shed(usize),
    /// End now.
    Stop,
}

/// A socket to accept on.
pub struct Listening {
    /// The same number means the same socket, over all calls of [`crate::Fleet::listen`].
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

/// A connection on its way to the worker that will serve it.
pub(crate) struct Accepted {
    pub(crate) socket: OwnedFd,
    pub(crate) unix: bool,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) local: ListenAddr,
    pub(crate) listener: ListenAddr,
    pub(crate) seat: Seat,
    pub(crate) burden: Burden,
}

/// How many connections a worker has.
#[derive(Clone, Default)]
pub(crate) struct Load(Arc<AtomicUsize>);

impl Load {
    /// One connection more, for as long as the answer lives.
    pub(crate) fn add(&self) -> Burden {
        self.0.fetch_add(1, Ordering::Relaxed);
        Burden(self.0.clone())
    }

    pub(crate) fn connections(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// What a worker has to do: these connections, and the tunnels that some of them have become.
    pub(crate) fn weight(&self, tunnels: &relay::Remote) -> u64 {
        self.connections() as u64 + tunnels.counts().live
    }
}

/// One connection in a worker's [`Load`].
pub(crate) struct Burden(Arc<AtomicUsize>);

impl Drop for Burden {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
