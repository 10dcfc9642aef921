//! A queue whose receiver can wait in `poll(2)` beside other descriptors.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc;

use rustix::event::{EventfdFlags, eventfd};

/// The end that puts in; clones go to other threads.
pub struct Sender<T> {
    queue: mpsc::Sender<T>,
    bell: Arc<OwnedFd>,
}

/// The end that takes out.
pub struct Receiver<T> {
    queue: mpsc::Receiver<T>,
    bell: Arc<OwnedFd>,
}

/// A new, empty queue.
pub fn mailbox<T>() -> io::Result<(Sender<T>, Receiver<T>)> {
    let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
    let (put, take) = mpsc::channel();
    Ok((Sender { queue: put, bell: bell.clone() }, Receiver { queue: take, bell }))
}

impl<T> Sender<T> {
    /// Put one in and wake the receiver. Without a receiver it is dropped.
    pub fn send(&self, letter: T) {
        if self.queue.send(letter).is_ok() {
            // Fails only when the counter is full, and then the bell rings anyway.
            let _ = rustix::io::write(&*self.bell, &1u64.to_ne_bytes());
        }
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), bell: self.bell.clone() }
    }
}

impl<T> Receiver<T> {
    /// The next letter, if there is one. Quietens the bell first, so none is missed.
    pub fn next(&self) -> Option<T> {
        self.hush();
        self.queue.try_recv().ok()
    }

    /// Quietens the bell: what is there is looked for at another time.
    pub fn hush(&self) {
        let _ = rustix::io::read(&*self.bell, &mut [0u8; 8]);
    }
}

impl<T> AsFd for Receiver<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_from_another_thread_makes_the_receiver_readable() {
        let (sender, receiver) = mailbox().unwrap();
        std::thread::spawn(move || sender.clone().send(7)).join().unwrap();
        let mut fds = [rustix::event::PollFd::new(&receiver, rustix::event::PollFlags::IN)];
        assert_eq!(rustix::event::poll(&mut fds, None).unwrap(), 1);
        assert_eq!((receiver.next(), receiver.next()), (Some(7), None));
    }
}
