//! Buffers lent by the worker: an idle connection holds none (D10).

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

/// The sizes there are: a head, what is read of a client at once, and what is read of a body.
const SIZES: [usize; 3] = [1024, 4 * 1024, 32 * 1024];
/// How many of each size are made at once: freed, neighbours make whole pages that go back to the kernel, where one alone
/// stays between things that live for long.
const MADE: [usize; 3] = [16, 8, 1];
/// Most buffers of each size a worker keeps for the next one who asks.
const KEPT_MAX: [usize; 3] = [128, 64, 64];

thread_local! {
    static FREE: RefCell<[Vec<Vec<u8>>; 3]> = const { RefCell::new([const { Vec::new() }; 3]) };
}

/// A byte buffer that goes back to its worker's pool when dropped.
#[derive(Default, Debug)]
pub struct Buf {
    bytes: Vec<u8>,
}

impl Buf {
    /// An empty buffer with room for at least `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Buf {
        let Some(class) = SIZES.iter().position(|size| capacity <= *size) else {
            return Buf { bytes: Vec::with_capacity(capacity) };
        };
        let free = FREE.with_borrow_mut(|free| free[class].pop());
        Buf { bytes: free.unwrap_or_else(|| make(class)) }
    }

    /// A buffer around bytes that were made elsewhere.
    pub fn from_vec(bytes: Vec<u8>) -> Buf {
        Buf { bytes }
    }

    /// The bytes, out of the pool's reach.
    pub fn into_vec(mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}

#[cold]
fn make(class: usize) -> Vec<u8> {
    let one = || Vec::with_capacity(SIZES[class]);
    FREE.with_borrow_mut(|free| free[class].extend((1..MADE[class]).map(|_| one())));
    one()
}

/// Frees the buffers of this thread that are not in use.
pub fn clear() {
    FREE.with_borrow_mut(|free| *free = Default::default());
}

impl Deref for Buf {
    type Target = Vec<u8>;
    fn deref(&self) -> &Vec<u8> {
        &self.bytes
    }
}

impl DerefMut for Buf {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

impl Drop for Buf {
    #[inline]
    fn drop(&mut self) {
        // Many are empty: their bytes moved on.
        if self.bytes.capacity() > 0 {
            give_back(std::mem::take(&mut self.bytes));
        }
    }
}

fn give_back(mut bytes: Vec<u8>) {
    let Some(class) = SIZES.iter().position(|size| bytes.capacity() == *size) else { return };
    bytes.clear();
    // A thread that ends has no pool any more; then the buffer is simply freed.
    let _ = FREE.try_with(|free| {
        if let Ok(mut free) = free.try_borrow_mut()
            && free[class].len() < KEPT_MAX[class]
        {
            free[class].push(bytes);
        }
    });
}
