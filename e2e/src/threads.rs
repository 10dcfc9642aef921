//! Threads beside a test's own, which must end whatever fails.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use crate::ws::{Talk, Tunnels};

/// Calls its function when dropped, by a panic too: a scope ends only when all its threads have.
#[derive(Debug)]
pub struct OnDrop<F: Fn()>(pub F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Rounds of tunnels on a thread of their own.
#[derive(Debug, Default)]
pub struct Rounds {
    count: AtomicU64,
    over: AtomicBool,
    stop: AtomicBool,
}

impl Rounds {
    /// How many there were.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether there were more than `before`; also when there will be no more, since one failed.
    pub fn moved_since(&self, before: u64) -> bool {
        self.count() > before || self.over.load(Ordering::Relaxed)
    }

    /// Keeps all tunnels busy while `work` is done; the number of rounds. Panics when a tunnel was not echoed to.
    pub fn beside<S: Talk + Send>(tunnels: &mut Tunnels<S>, work: impl FnOnce(&Rounds)) -> u64 {
        let rounds = Rounds::default();
        thread::scope(|scope| {
            let _ends = OnDrop(|| rounds.stop.store(true, Ordering::Relaxed));
            scope.spawn(|| {
                let _tells = OnDrop(|| rounds.over.store(true, Ordering::Relaxed));
                while !rounds.stop.load(Ordering::Relaxed) {
                    tunnels.round();
                    rounds.count.fetch_add(1, Ordering::Relaxed);
                }
            });
            work(&rounds);
        });
        rounds.count()
    }
}
