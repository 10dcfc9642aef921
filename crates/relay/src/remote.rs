//! Speaking to a loop from other threads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sys::waker::Waker;

use crate::handover::{Handover, Progress, Side, Token};

/// A handle to a loop, to be cloned freely.
#[derive(Clone)]
pub struct Remote(pub(crate) Arc<Shared>);

/// How tunnels are asked to leave.
#[derive(Debug, Clone, Default)]
pub struct Leave {
    /// Over how long they are spread, evenly, in milliseconds; 0: all at once (`websocket_drain over=`).
    pub over_ms: u64,
    /// Written to the client at a frame boundary: a whole Close frame, not masked. Empty: nothing is said.
    pub client_frame: Vec<u8>,
    /// Written to the upstream at a frame boundary: a whole Close frame, masked. Empty: nothing is said.
    pub upstream_frame: Vec<u8>,
    /// How long after that a tunnel may still live, in milliseconds, to finish the closing handshake. With 0 it is cut
    /// as soon as the frames were offered once.
    pub grace_ms: u64,
}

/// A loop's figures, as of its last turn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tunnels in the loop now.
    pub live: u64,
    /// Tunnels there have been.
    pub started: u64,
    /// Bytes received from either side of all of them.
    pub bytes_received: u64,
}

pub(crate) struct Shared {
    pub(crate) waker: Waker,
    inbox: Mutex<Inbox>,
    live: AtomicU64,
    started: AtomicU64,
    bytes_received: AtomicU64,
}

#[derive(Default)]
struct Inbox {
    commands: Vec<Command>,
    /// The loop is gone.
    closed: bool,
}

pub(crate) enum Command {
    Insert(Box<Handover>),
    Inject { token: Token, to: Side, frame: Vec<u8> },
    Leave { which: Option<Token>, how: Arc<Leave> },
    Progress { which: Option<Token>, tell: Tell },
    Stop,
}

/// Takes the answer to [`Remote::progress`], on the loop's thread.
pub(crate) type Tell = Box<dyn FnOnce(Vec<(Token, Progress)>) + Send>;

impl Remote {
    /// Gives a tunnel to the loop. It counts as the loop's from now on: whatever happens, its keep is told once.
    ///
    /// # Errors
    /// The tunnel comes back when the loop is gone.
    pub fn insert(&self, handover: Handover) -> Result<(), Box<Handover>> {
        match self.0.send(Command::Insert(Box::new(handover))) {
            Err(Command::Insert(handover)) => Err(handover),
            _ => Ok(()),
        }
    }

    /// Writes a whole frame to one side of a tunnel at the next frame boundary. Nothing happens when the tunnel is gone,
    /// isn't scanned, or has too much waiting already.
    pub fn inject(&self, token: Token, to: Side, frame: Vec<u8>) {
        let _ = self.0.send(Command::Inject { token, to, frame });
    }

    /// Asks every tunnel to leave: those in the loop now over a time, those that still come at once.
    pub fn shutdown(&self, how: Leave) {
        let _ = self.0.send(Command::Leave { which: None, how: Arc::new(how) });
    }

    /// Asks one tunnel to leave.
    pub fn close(&self, token: Token, how: Leave) {
        let _ = self.0.send(Command::Leave { which: Some(token), how: Arc::new(how) });
    }

    /// Asks what one tunnel, or every one (`None`), has been so far. `tell` runs on the loop's thread and should only pass
    /// the answer on; it is dropped unheard when the loop is gone.
    pub fn progress(&self, which: Option<Token>, tell: impl FnOnce(Vec<(Token, Progress)>) + Send + 'static) {
        let _ = self.0.send(Command::Progress { which, tell: Box::new(tell) });
    }

    /// Ends every tunnel at once and has [`crate::Loop::run`] return.
    pub fn stop(&self) {
        let _ = self.0.send(Command::Stop);
    }

    /// The loop's figures.
    pub fn counts(&self) -> Counts {
        Counts {
            live: self.0.live.load(Ordering::Relaxed),
            started: self.0.started.load(Ordering::Relaxed),
            bytes_received: self.0.bytes_received.load(Ordering::Relaxed),
        }
    }
}

impl Shared {
    pub(crate) fn new(waker: Waker) -> Shared {
        Shared {
            waker,
            inbox: Mutex::default(),
            live: AtomicU64::new(0),
            started: AtomicU64::new(0),
            bytes_received: AtomicU64::new(0),
        }
    }

    /// What has been sent since the last time.
    pub(crate) fn take(&self) -> Vec<Command> {
        std::mem::take(&mut self.lock().commands)
    }

    /// As [`Shared::take`], and nothing can be sent afterwards.
    pub(crate) fn close(&self) -> Vec<Command> {
        let mut inbox = self.lock();
        inbox.closed = true;
        std::mem::take(&mut inbox.commands)
    }

    /// Only the loop's thread writes these, so plain stores do.
    pub(crate) fn publish(&self, counts: Counts) {
        self.live.store(counts.live, Ordering::Relaxed);
        self.started.store(counts.started, Ordering::Relaxed);
        self.bytes_received.store(counts.bytes_received, Ordering::Relaxed);
    }

    fn send(&self, command: Command) -> Result<(), Command> {
        let mut inbox = self.lock();
        if inbox.closed {
            return Err(command);
        }
        let first = inbox.commands.is_empty();
        inbox.commands.push(command);
        drop(inbox);
        if first {
            self.waker.wake();
        }
        Ok(())
    }

    /// No code of ours that can panic runs under the lock.
    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
