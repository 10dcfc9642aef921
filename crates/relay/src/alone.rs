//! A loop with tunnels and nothing else, on a thread of its own: for tests, and to measure the engine without a proxy.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use sys::epoll::{Epoll, Events};

use crate::budget::Budget;
use crate::epoll::Tunnels;
use crate::remote::Remote;

const EVENTS_PER_TURN: usize = 512;

/// Tunnels and the loop around them.
pub struct Loop {
    pub(crate) epoll: Arc<Epoll>,
    pub(crate) events: Events,
    pub(crate) tunnels: Tunnels,
}

impl Loop {
    /// An empty loop and its handle. Slow readers borrow from `budget`.
    ///
    /// # Errors
    /// When the process or the system is out of descriptors.
    pub fn new(budget: Arc<Budget>) -> io::Result<(Loop, Remote)> {
        let epoll = Arc::new(Epoll::new()?);
        let (tunnels, remote) = Tunnels::new(budget, epoll.clone())?;
        Ok((Loop { epoll, events: Events::with_capacity(EVENTS_PER_TURN), tunnels }, remote))
    }

    /// Turns until [`Remote::stop`], then ends every tunnel that is left.
    pub fn run(mut self) {
        loop {
            match catch_unwind(AssertUnwindSafe(|| self.turn())) {
                Ok(true) => {}
                Ok(false) => return,
                Err(_) => self.tunnels.distrust(),
            }
        }
    }

    fn turn(&mut self) -> bool {
        let wait = self.tunnels.wait_ms().map(Duration::from_millis);
        // Waiting fails for no reason but a bug; then it's a turn without events, and the clock goes on.
        let happened = self.epoll.wait(&mut self.events, wait);
        self.tunnels.awake();
        for event in happened.into_iter().flatten() {
            self.tunnels.event(event);
        }
        self.tunnels.turn()
    }
}
