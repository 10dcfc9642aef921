//! Signals as a descriptor: blocked in every thread, read by one.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

pub use rustix::process::Signal;

/// Signals that no longer interrupt anything; each waits here to be read.
#[derive(Debug)]
pub struct Signals(OwnedFd);

/// One signal and its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Which.
    pub signal: Signal,
    /// The sender's process id; 0 when the kernel sent it.
    pub pid: u32,
}

impl Signals {
    /// Blocks these signals for this thread and those it starts, and opens the descriptor they are read from. To be
    /// called before the first thread. A process started by `std::process::Command` has none blocked.
    ///
    /// # Errors
    /// When the process or the system is out of descriptors.
    pub fn block(signals: &[Signal]) -> io::Result<Signals> {
        let set = signal_set(signals);
        // SAFETY: the set is initialised; a null old set is allowed.
        let error = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
        // SAFETY: the set is initialised; -1 asks for a new descriptor.
        let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just opened it and nobody else knows it.
        Ok(Signals(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The next signal, if one is waiting.
    ///
    /// # Errors
    /// None the kernel documents for this descriptor.
    pub fn try_next(&self) -> io::Result<Option<Received>> {
        let mut info = MaybeUninit::<libc::signalfd_siginfo>::uninit();
        let length = size_of::<libc::signalfd_siginfo>();
        // SAFETY: the descriptor is ours and `info` is `length` writable bytes.
        let count = unsafe { libc::read(self.0.as_raw_fd(), info.as_mut_ptr().cast(), length) };
        if count == length as isize {
            // SAFETY: the kernel wrote all of it, and every bit pattern is a value of its integers.
            let info = unsafe { info.assume_init() };
            let signal = Signal::from_named_raw(info.ssi_signo as i32);
            return Ok(signal.map(|signal| Received { signal, pid: info.ssi_pid }));
        }
        match io::Error::last_os_error() {
            error if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(None)
            }
            error => Err(error),
        }
    }

    /// Waits for the next signal.
    ///
    /// # Errors
    /// As [`Signals::try_next`].
    pub fn next(&self) -> io::Result<Received> {
        loop {
            if let Some(received) = self.try_next()? {
                return Ok(received);
            }
            match poll(&mut [PollFd::new(&self.0, PollFlags::IN)], None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Ignores a signal in the whole process (`SIGPIPE`).
///
/// # Errors
/// `EINVAL` for `SIGKILL` and `SIGSTOP`.
pub fn ignore(signal: Signal) -> io::Result<()> {
    // SAFETY: SIG_IGN runs no code of ours.
    match unsafe { libc::signal(signal.as_raw(), libc::SIG_IGN) } {
        libc::SIG_ERR => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

fn signal_set(signals: &[Signal]) -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the whole set, sigaddset takes an initialised one and a valid number.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), signal.as_raw());
        }
        set.assume_init()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocked_signal_waits_to_be_read() {
        // Directed at this thread: other tests' threads don't have it blocked.
        let signals = Signals::block(&[Signal::USR1, Signal::WINCH]).unwrap();
        assert_eq!(signals.try_next().unwrap(), None);
        // SAFETY: a thread may signal itself; the signal is blocked, so no handler runs.
        assert_eq!(unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGUSR1) }, 0);
        let received = signals.next().unwrap();
        assert_eq!(received, Received { signal: Signal::USR1, pid: std::process::id() });
        assert_eq!(signals.try_next().unwrap(), None);
        ignore(Signal::PIPE).unwrap();
    }
}
