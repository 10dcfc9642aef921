//! Work that may block, on threads beside the loops.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

/// Most threads at once, for all loops together; more work waits.
const THREADS_MAX: usize = 64;
/// A thread with nothing to do for so long ends.
const IDLE: Duration = Duration::from_secs(10);

/// The work panicked, or there was no thread for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Died;

impl fmt::Display for Died {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("work on another thread did not come to its end")
    }
}

impl std::error::Error for Died {}

/// Runs `work` on a thread that may block, and gives what it comes to. Dropped before, the work goes on unheard.
///
/// # Errors
/// [`Died`].
pub fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> impl Future<Output = Result<T, Died>> {
    let shared = Arc::new(Mutex::new(Answer { result: None, waker: None }));
    let answer = shared.clone();
    let job = move || {
        let result = catch_unwind(AssertUnwindSafe(work)).map_err(|_| Died);
        let mut answer = lock(&answer);
        answer.result = Some(result);
        if let Some(waker) = answer.waker.take() {
            drop(answer);
            waker.wake();
        }
    };
    if !POOL.take_on(Box::new(job)) {
        lock(&shared).result = Some(Err(Died));
    }
    poll_fn(move |cx| {
        let mut answer = lock(&shared);
        if let Some(result) = answer.result.take() {
            return Poll::Ready(result);
        }
        answer.waker = Some(cx.waker().clone());
        Poll::Pending
    })
}

struct Answer<T> {
    result: Option<Result<T, Died>>,
    waker: Option<Waker>,
}

type Job = Box<dyn FnOnce() + Send>;

struct Pool {
    jobs: Mutex<Jobs>,
    more: Condvar,
}

struct Jobs {
    waiting: VecDeque<Job>,
    threads: usize,
    idle: usize,
}

static POOL: Pool =
    Pool { jobs: Mutex::new(Jobs { waiting: VecDeque::new(), threads: 0, idle: 0 }), more: Condvar::new() };

impl Pool {
    /// False when nobody will ever do it.
    fn take_on(&'static self, job: Job) -> bool {
        let mut jobs = lock(&self.jobs);
        jobs.waiting.push_back(job);
        if jobs.idle >= jobs.waiting.len() || jobs.threads >= THREADS_MAX {
            drop(jobs);
            self.more.notify_one();
            return true;
        }
        jobs.threads += 1;
        drop(jobs);
        if std::thread::Builder::new().name("blocking".into()).spawn(|| self.work()).is_ok() {
            return true;
        }
        let mut jobs = lock(&self.jobs);
        jobs.threads -= 1;
        // Others will come to it, if there are any.
        jobs.threads > 0 || jobs.waiting.pop_back().is_none()
    }

    fn work(&self) {
        let mut jobs = lock(&self.jobs);
        loop {
            if let Some(job) = jobs.waiting.pop_front() {
                drop(jobs);
                job();
                jobs = lock(&self.jobs);
                continue;
            }
            jobs.idle += 1;
            let (back, waited) = self.more.wait_timeout(jobs, IDLE).unwrap_or_else(PoisonError::into_inner);
            jobs = back;
            jobs.idle -= 1;
            if waited.timed_out() && jobs.waiting.is_empty() {
                jobs.threads -= 1;
                return;
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
