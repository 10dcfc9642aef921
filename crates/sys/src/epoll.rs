//! Readiness: an epoll set whose members are named by a caller's number.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

pub use rustix::event::epoll::EventFlags as Flags;

/// Edge-triggered reading, writing and the peer's FIN: what a tunnel's socket is registered for, once.
pub const EDGE: Flags = Flags::IN.union(Flags::OUT).union(Flags::RDHUP).union(Flags::ET);

/// An epoll instance. It doesn't own its members: closing a member's last descriptor removes it.
#[derive(Debug)]
pub struct Epoll(OwnedFd);

impl Epoll {
    /// An empty set.
    ///
    /// # Errors
    /// When the process or the system is out of descriptors.
    pub fn new() -> io::Result<Epoll> {
        Ok(Epoll(epoll::create(epoll::CreateFlags::CLOEXEC)?))
    }

    /// Adds a descriptor; its events carry `token`.
    ///
    /// # Errors
    /// `EEXIST` for a member, `EPERM` for what can't be polled, `ENOSPC` at the user's limit of watches.
    pub fn add(&self, fd: impl AsFd, token: u64, flags: Flags) -> io::Result<()> {
        Ok(epoll::add(&self.0, fd, epoll::EventData::new_u64(token), flags)?)
    }

    /// Changes what a member is watched for. With an edge-triggered set this also reports again what is ready now.
    ///
    /// # Errors
    /// `ENOENT` when it's no member.
    pub fn modify(&self, fd: impl AsFd, token: u64, flags: Flags) -> io::Result<()> {
        Ok(epoll::modify(&self.0, fd, epoll::EventData::new_u64(token), flags)?)
    }

    /// Removes a member.
    ///
    /// # Errors
    /// `ENOENT` when it's no member.
    pub fn delete(&self, fd: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.0, fd)?)
    }

    /// Waits until a member is ready or `timeout` (rounded up to a millisecond; `None`: for ever) has passed, and
    /// returns the events: at most the buffer's capacity. An interrupted wait returns none.
    ///
    /// # Errors
    /// None the kernel documents for a set and a buffer as they are here.
    pub fn wait<'a>(
        &self,
        events: &'a mut Events,
        timeout: Option<Duration>,
    ) -> io::Result<impl ExactSizeIterator<Item = Event> + use<'a>> {
        // epoll_wait counts milliseconds; rounded down, a wait for 0.9 ms would spin.
        let timeout = timeout.map(|time| Timespec {
            tv_sec: time.as_secs().min(i64::from(i32::MAX) as u64 / 1_000) as i64,
            tv_nsec: i64::from(time.subsec_nanos()),
        });
        let ready: &'a mut [epoll::Event] = match epoll::wait(&self.0, &mut events.0[..], timeout.as_ref()) {
            Ok((ready, _)) => ready,
            Err(Errno::INTR) => &mut [],
            Err(error) => return Err(error.into()),
        };
        Ok(ready.iter().map(|event| Event { token: event.data.u64(), flags: event.flags }))
    }
}

impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A reusable buffer for [`Epoll::wait`].
pub struct Events(Vec<MaybeUninit<epoll::Event>>);

// SAFETY: an event's data could be a pointer by its type, but `Epoll::add` and `modify` are the only way in, and they
// give numbers. Nothing else in an event is bound to a thread.
unsafe impl Send for Events {}

impl Events {
    /// Room for `count` events a wait; at least one.
    pub fn with_capacity(count: usize) -> Events {
        let mut events = Vec::new();
        events.resize_with(count.max(1), MaybeUninit::uninit);
        Events(events)
    }
}

/// One member is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// What [`Epoll::add`] was given.
    pub token: u64,
    /// Which of the wanted conditions hold, and `ERR` and `HUP` unasked.
    pub flags: Flags,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::waker::Waker;

    #[test]
    fn an_edge_is_reported_once_and_again_after_modify() {
        let (epoll, waker) = (Epoll::new().unwrap(), Waker::new().unwrap());
        let mut events = Events::with_capacity(4);
        let mut ready = |epoll: &Epoll| -> Vec<Event> {
            epoll.wait(&mut events, Some(Duration::ZERO)).unwrap().collect()
        };
        epoll.add(&waker, 7, Flags::IN | Flags::ET).unwrap();
        assert_eq!(ready(&epoll), []);
        waker.wake();
        assert_eq!(ready(&epoll), [Event { token: 7, flags: Flags::IN }]);
        assert_eq!(ready(&epoll), []);
        epoll.modify(&waker, 8, Flags::IN | Flags::ET).unwrap();
        assert_eq!(ready(&epoll), [Event { token: 8, flags: Flags::IN }]);
        epoll.delete(&waker).unwrap();
        waker.wake();
        assert_eq!(ready(&epoll), []);
    }
}
