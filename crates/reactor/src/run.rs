//! The loop itself.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use sys::clock::{self, monotonic_ms};
use sys::epoll::{Epoll, Events, Flags};
use sys::waker::Waker;

use crate::guest::Guest;
use crate::here::{self, Here, Home};
use crate::sources::{self, Sources};
use crate::task::{Main, Tasks};
use crate::wheel::Wheel;

/// Events taken from the kernel at once.
const EVENTS_PER_TURN: usize = 256;
/// Polls of tasks before the kernel is asked again.
const POLLS_PER_TURN: usize = 256;
/// Of the eventfd that other threads ring. No socket has it: their places are counted from 0.
const BELL: u64 = Reactor::GUEST - 1;

/// A loop that was not started yet.
pub struct Reactor {
    home: Arc<Home>,
}

impl Reactor {
    /// The bit that tells a guest's tokens from others.
    pub const GUEST: u64 = 1 << 63;

    /// An epoll instance with nothing in it.
    ///
    /// # Errors
    /// When the process or the system is out of descriptors.
    pub fn new() -> io::Result<Reactor> {
        let (epoll, bell) = (Epoll::new()?, Waker::new()?);
        epoll.add(&bell, BELL, Flags::IN)?;
        Ok(Reactor { home: Arc::new(Home::new(Arc::new(epoll), bell)) })
    }

    /// The epoll instance, for a guest.
    pub fn epoll(&self) -> Arc<Epoll> {
        self.home.epoll.clone()
    }

    /// Turns until `main` is over; then every task is dropped.
    ///
    /// # Panics
    /// On a thread whose loop runs already; and when `main` does.
    pub fn run<T>(self, guest: &impl Guest, main: impl Future<Output = T>) -> T {
        let here = Rc::new(Here {
            home: self.home,
            tasks: Tasks::new(),
            sources: RefCell::new(Sources::default()),
            wheel: RefCell::new(Wheel::new(monotonic_ms())),
            turns: Cell::new(0),
            behind: Cell::new(false),
            deferred: RefCell::default(),
        });
        let before = here::replace(Some(here.clone()));
        assert!(before.is_none(), "one loop a thread");
        let _leaves = Leaves(here.clone());
        let mut main = pin!(main);
        let task = Main::new(&here.home, &here.tasks);
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        loop {
            let mut over = None;
            let poll =
                |over: &mut Option<std::thread::Result<T>>| match catch_unwind(AssertUnwindSafe(|| {
                    task.poll(main.as_mut())
                })) {
                    Ok(Poll::Pending) => {}
                    Ok(Poll::Ready(result)) => *over = Some(Ok(result)),
                    Err(panic) => *over = Some(Err(panic)),
                };
            // Tasks and guests catch their own panics; one that gets here is ours.
            if catch_unwind(AssertUnwindSafe(|| here.turn(guest, &mut events, &mut over, poll))).is_err() {
                sources::distrust_all(&here.sources);
                // The bell may have been silenced, and it rings for the first in the inbox only.
                here.tasks.queue(here.home.take());
                let _ = catch_unwind(AssertUnwindSafe(|| guest.distrust()));
            }
            match over {
                Some(Ok(result)) => return result,
                Some(Err(panic)) => resume_unwind(panic),
                None => {}
            }
        }
    }
}

/// Ends the tasks of a loop while their thread still has it.
struct Leaves(Rc<Here>);

impl Drop for Leaves {
    fn drop(&mut self) {
        self.0.tasks.end_all();
        here::replace(None);
        clock::turns_end();
    }
}

impl Here {
    fn turn<O>(
        &self,
        guest: &impl Guest,
        events: &mut Events,
        over: &mut Option<O>,
        mut main: impl FnMut(&mut Option<O>),
    ) {
        self.tasks.run(POLLS_PER_TURN, || main(over));
        self.behind.set(self.tasks.is_waiting());
        guest.tasks_ran();
        if over.is_some() {
            return;
        }
        let wait = self.wait_ms(guest).map(Duration::from_millis);
        let mut rung = false;
        // Waiting fails for no reason but a bug; then it's a turn without events, and the clock goes on.
        let happened = self.home.epoll.wait(events, wait);
        self.turns.set(self.turns.get() + 1);
        clock::turn();
        guest.awake();
        if let Ok(events) = happened {
            for event in events {
                match event.token {
                    BELL => rung = self.home.bell.clear(),
                    token if token & Reactor::GUEST != 0 => guest.event(event),
                    _ => sources::tell(&self.sources, event, guest),
                }
            }
        }
        guest.turn();
        if rung {
            self.tasks.queue(self.home.take());
        }
        for waker in self.deferred.take() {
            waker.wake();
        }
        self.wheel.borrow_mut().fire(monotonic_ms());
    }

    /// How long nothing is to be done, in milliseconds; `None`: for ever.
    fn wait_ms(&self, guest: &impl Guest) -> Option<u64> {
        if self.tasks.is_waiting() || !self.deferred.borrow().is_empty() {
            return Some(0);
        }
        let timers = self.wheel.borrow().next_ms().map(|at| at.saturating_sub(monotonic_ms()));
        timers.into_iter().chain(guest.wait_ms()).min()
    }
}
