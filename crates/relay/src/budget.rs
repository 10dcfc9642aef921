//! Memory for slow readers: a process-wide bound, and the buffers borrowed under it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What all directions of all loops together may hold for slow readers, in bytes (`websocket_buffers_total`).
///
/// It is asked before reading, not charged for reading: a direction whose reader turns out slow keeps the rest of what
/// was read in any case. So the bound may be overdrawn, by at most [`READ_BYTES_MIN`] for each direction that stalls
/// while it is used up.
#[derive(Debug)]
pub struct Budget {
    total: usize,
    used: AtomicUsize,
}

/// The least a direction may read at a time, in bytes, whatever is left of its limit and of the budget.
pub(crate) const READ_BYTES_MIN: usize = 4096;

/// Buffers a loop keeps for the next slow reader, instead of giving them back to the allocator.
const SPARE_BUFFERS_MAX: usize = 16;
/// No buffer larger than this is kept.
const SPARE_BYTES_MAX: usize = 256 * 1024;

impl Budget {
    /// A budget of so many bytes.
    pub fn new(total: usize) -> Arc<Budget> {
        Arc::new(Budget { total, used: AtomicUsize::new(0) })
    }

    /// Bytes borrowed now.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn left(&self) -> usize {
        self.total.saturating_sub(self.used())
    }
}

/// A loop's view of the budget, with a few buffers at hand.
pub(crate) struct Pool {
    budget: Arc<Budget>,
    spare: Vec<Vec<u8>>,
}

/// Bytes that wait for a slow reader; borrowed from a [`Pool`], which must get it back. Boxed to cost an idle direction
/// one word.
pub(crate) struct Queue {
    bytes: Vec<u8>,
    /// Where the bytes that still wait begin.
    start: usize,
    /// What the budget counts for this queue: the capacity.
    charged: usize,
}

impl Pool {
    pub(crate) fn new(budget: Arc<Budget>) -> Pool {
        Pool { budget, spare: Vec::new() }
    }

    /// How much of `wanted` a direction may read that holds nothing yet.
    #[inline]
    pub(crate) fn grant(&self, wanted: usize) -> usize {
        wanted.min(self.budget.left().max(READ_BYTES_MIN))
    }

    /// How much of `wanted` a direction may read that holds bytes already.
    pub(crate) fn grant_more(&self, wanted: usize) -> usize {
        wanted.min(self.budget.left())
    }

    /// Adds bytes to a queue, borrowing it if there is none.
    pub(crate) fn append(&mut self, queue: &mut Option<Box<Queue>>, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let queue = queue.get_or_insert_with(|| {
            Box::new(Queue { bytes: self.spare.pop().unwrap_or_default(), start: 0, charged: 0 })
        });
        if queue.bytes.len() + bytes.len() > queue.bytes.capacity() && queue.start > 0 {
            queue.bytes.drain(..queue.start);
            queue.start = 0;
        }
        queue.bytes.extend_from_slice(bytes);
        self.charge(queue);
    }

    /// Takes `count` bytes off the front, and the queue back when none are left.
    pub(crate) fn consume(&mut self, queue: &mut Option<Box<Queue>>, count: usize) {
        if let Some(held) = queue {
            held.start += count.min(held.len());
            if held.len() == 0 {
                self.release(queue);
            }
        }
    }

    /// Takes the queue back with whatever is in it.
    pub(crate) fn release(&mut self, queue: &mut Option<Box<Queue>>) {
        let Some(queue) = queue.take() else { return };
        self.budget.used.fetch_sub(queue.charged, Ordering::Relaxed);
        let mut bytes = queue.bytes;
        if self.spare.len() < SPARE_BUFFERS_MAX && bytes.capacity() <= SPARE_BYTES_MAX {
            bytes.clear();
            self.spare.push(bytes);
        }
    }

    fn charge(&self, queue: &mut Queue) {
        let capacity = queue.bytes.capacity();
        if capacity > queue.charged {
            self.budget.used.fetch_add(capacity - queue.charged, Ordering::Relaxed);
            queue.charged = capacity;
        }
    }
}

impl Queue {
    /// The bytes that wait.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_charged_while_it_holds_and_free_when_drained() {
        let budget = Budget::new(100_000);
        let mut pool = Pool::new(budget.clone());
        let mut queue = None;
        pool.append(&mut queue, b"");
        assert!(queue.is_none());
        pool.append(&mut queue, b"hello ");
        pool.append(&mut queue, b"world");
        assert!(budget.used() >= 11);
        pool.consume(&mut queue, 6);
        assert_eq!(queue.as_ref().unwrap().bytes(), b"world");
        pool.consume(&mut queue, 5);
        assert!(queue.is_none());
        assert_eq!(budget.used(), 0);
        pool.append(&mut queue, b"abc");
        pool.append(&mut queue, b"def");
        assert_eq!(queue.as_ref().unwrap().bytes(), b"abcdef");
        pool.release(&mut queue);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_spent_budget_leaves_the_least_to_those_who_hold_nothing() {
        let budget = Budget::new(10_000);
        let mut pool = Pool::new(budget);
        assert_eq!(pool.grant(65_536), 10_000);
        let mut queue = None;
        pool.append(&mut queue, &[0; 9_999]);
        assert_eq!(pool.grant(65_536), READ_BYTES_MIN);
        assert!(pool.grant_more(65_536) <= 1);
        pool.release(&mut queue);
        assert_eq!(pool.grant_more(65_536), 10_000);
    }

    #[test]
    fn a_long_queue_moves_its_bytes_instead_of_growing() {
        let mut pool = Pool::new(Budget::new(1 << 20));
        let mut queue = None;
        for round in 0..1_000u32 {
            pool.append(&mut queue, &[round as u8; 1_000]);
            if round > 3 {
                pool.consume(&mut queue, 1_000);
            }
        }
        assert_eq!(queue.as_ref().unwrap().len(), 4_000);
        assert!(queue.as_ref().unwrap().charged < 32_000);
    }
}
