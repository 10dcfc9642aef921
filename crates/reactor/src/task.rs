//! Tasks that stay on their thread.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use slab::Slab;

use crate::here::{self, Home};

/// Reads of one task before others get their turn.
const READS_PER_POLL: u32 = 64;

/// How long tasks run before the kernel is asked what has happened to others meanwhile.
const TIME: Duration = Duration::from_millis(2);
/// Polls between two looks at the clock.
const POLLS_PER_LOOK: usize = 4;

/// Starts a task on this thread's loop. It runs to its end or until the loop ends.
///
/// # Panics
/// On a thread that runs no loop.
pub fn spawn(future: impl Future<Output = ()> + 'static) {
    let spawned = here::with(|here| here.tasks.add(&here.home, Box::pin(future)));
    assert!(spawned.is_some(), "tasks are spawned on a loop's thread");
}

/// Lets everything else that is ready run first, also what the kernel has not told of yet.
pub async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| match std::mem::replace(&mut yielded, true) {
        true => Poll::Ready(()),
        false => {
            here::defer(cx.waker());
            Poll::Pending
        }
    })
    .await;
}

/// The key of the task that a loop runs for, which need not be of `'static` and stands elsewhere.
const MAIN: u32 = u32::MAX;

/// The main task's waker.
pub(crate) struct Main {
    handle: Arc<Handle>,
    waker: Waker,
}

impl Main {
    /// It is queued to begin with.
    pub(crate) fn new(home: &Arc<Home>, tasks: &Tasks) -> Main {
        let handle = Arc::new(Handle { home: home.clone(), key: MAIN, queued: AtomicBool::new(true) });
        tasks.queue.borrow_mut().push_back(MAIN);
        Main { waker: handle.clone().into(), handle }
    }

    pub(crate) fn poll<F: Future>(&self, future: Pin<&mut F>) -> Poll<F::Output> {
        self.handle.queued.swap(false, Ordering::AcqRel);
        here::allow_reads(READS_PER_POLL);
        future.poll(&mut Context::from_waker(&self.waker))
    }
}

/// All tasks of a loop.
pub(crate) struct Tasks {
    entries: RefCell<Slab<Entry>>,
    /// Those to be polled. One may stand here that is over, and its place have another tenant: who is polled for nothing.
    queue: RefCell<VecDeque<u32>>,
}

struct Entry {
    /// Taken out while it is polled.
    future: Option<Pin<Box<dyn Future<Output = ()>>>>,
    waker: Waker,
    handle: Arc<Handle>,
}

/// What a waker knows of its task.
struct Handle {
    home: Arc<Home>,
    key: u32,
    /// It stands in a queue, or is over.
    queued: AtomicBool,
}

impl Wake for Handle {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        let is_home = here::with(|here| {
            let is_home = Arc::ptr_eq(&here.home, &self.home);
            if is_home {
                here.tasks.queue.borrow_mut().push_back(self.key);
            }
            is_home
        });
        if is_home != Some(true) {
            self.home.send(self.key);
        }
    }
}

impl Tasks {
    pub(crate) fn new() -> Tasks {
        Tasks { entries: RefCell::default(), queue: RefCell::default() }
    }

    /// Enters a task, to be polled soon.
    pub(crate) fn add(&self, home: &Arc<Home>, future: Pin<Box<dyn Future<Output = ()>>>) {
        let mut entries = self.entries.borrow_mut();
        let place = entries.vacant_entry();
        let key = u32::try_from(place.key()).expect("memory ends before 2^32 tasks");
        let handle = Arc::new(Handle { home: home.clone(), key, queued: AtomicBool::new(true) });
        place.insert(Entry { future: Some(future), waker: handle.clone().into(), handle });
        self.queue.borrow_mut().push_back(key);
    }

    /// Queues what other threads have woken.
    pub(crate) fn queue(&self, keys: Vec<u32>) {
        self.queue.borrow_mut().extend(keys);
    }

    /// Whether something is to be polled.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.queue.borrow().is_empty()
    }

    /// Polls what is queued, also what is queued meanwhile, but no more than `most` and not for long; `main` polls the main
    /// task.
    pub(crate) fn run(&self, most: usize, mut main: impl FnMut()) {
        let began = Instant::now();
        for number in 1..=most {
            // Most polls take microseconds, those of TLS handshakes hundreds.
            if number % POLLS_PER_LOOK == 0 && began.elapsed() > TIME {
                return;
            }
            let next = self.queue.borrow_mut().pop_front();
            match next {
                Some(MAIN) => main(),
                Some(key) => self.poll(key),
                None => return,
            }
        }
    }

    fn poll(&self, key: u32) {
        let taken = {
            let mut entries = self.entries.borrow_mut();
            let Some(entry) = entries.get_mut(key as usize) else { return };
            entry.handle.queued.swap(false, Ordering::AcqRel);
            entry
                .future
                .take()
                .map(|future| (future, std::mem::replace(&mut entry.waker, Waker::noop().clone())))
        };
        let Some((mut future, waker)) = taken else { return };
        here::allow_reads(READS_PER_POLL);
        let mut cx = Context::from_waker(&waker);
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut cx))) {
            Ok(Poll::Pending) => {
                if let Some(entry) = self.entries.borrow_mut().get_mut(key as usize) {
                    (entry.future, entry.waker) = (Some(future), waker);
                }
                return;
            }
            // A panic ends this task alone; the panic hook has said so.
            Ok(Poll::Ready(())) | Err(_) => {}
        }
        self.end(key, future);
    }

    /// Drops a task: its future first, while its place is still its own.
    fn end(&self, key: u32, future: Pin<Box<dyn Future<Output = ()>>>) {
        let _ = catch_unwind(AssertUnwindSafe(|| drop(future)));
        let ended = self.entries.borrow_mut().try_remove(key as usize);
        if let Some(entry) = ended {
            // Wakers that are still about wake nobody.
            entry.handle.queued.store(true, Ordering::Release);
        }
    }

    /// Drops all tasks, and those they start while being dropped.
    pub(crate) fn end_all(&self) {
        loop {
            let key = self.entries.borrow().iter().next().map(|(key, _)| key);
            let Some(key) = key else { return };
            let future = self.entries.borrow_mut()[key].future.take();
            match future {
                Some(future) => self.end(key as u32, future),
                None => drop(self.entries.borrow_mut().try_remove(key)),
            }
        }
    }
}
