//! Processes: starting one with descriptors, signalling, collecting.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt, parent_id};
use std::process::Command;
use std::sync::Mutex;

use rustix::process::{Pid, WaitOptions};

use crate::signals::Signal;

/// Gives the child of this command a descriptor under a number of the caller's choice, open across exec.
///
/// The number must be above 2 (for those there are `Command::stdin` and its kin). The child reads it back with
/// [`inherited`].
pub fn pass(command: &mut Command, descriptor: OwnedFd, number: RawFd) {
    debug_assert!(number > 2, "standard streams have their own way");
    // SAFETY: between fork and exec the closure makes plain system calls, which are async-signal-safe, and allocates
    // nothing. It owns `descriptor`, so the source is open. `dup2` onto `number` overwrites what the child alone has.
    unsafe {
        command.pre_exec(move || {
            let from = descriptor.as_raw_fd();
            let answer = match from == number {
                // dup2 onto itself does nothing and would leave it to be closed on exec.
                true => libc::fcntl(from, libc::F_SETFD, 0),
                false => libc::dup2(from, number),
            };
            if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
        });
    }
}

/// Has the kernel send `signal` to this command's child when the thread that started it dies (`PR_SET_PDEATHSIG`).
/// Note the thread: the monitor must start children from its main thread. A change of user clears the setting.
pub fn die_with_parent(command: &mut Command, signal: Signal) {
    let parent = std::process::id();
    // SAFETY: between fork and exec the closure makes plain system calls and allocates nothing.
    unsafe {
        command.pre_exec(move || {
            rustix::process::set_parent_process_death_signal(Some(signal))?;
            // The parent may have died before the setting held.
            if libc::getppid() as u32 != parent { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
        });
    }
}

/// How long a process may outlive its parent after [`outlive_parent_briefly`], seconds.
pub const LAST_SECONDS: u32 = 2;

/// Instead of [`die_with_parent`], for this process: when its parent has died it has [`LAST_SECONDS`] to end in order, and
/// then ends for certain. To be called after a change of user, which clears what was set before: `parent` is who it was until
/// then, in case it has died since.
///
/// # Errors
/// None the kernel documents for a valid signal.
pub fn outlive_parent_briefly(parent: u32) -> io::Result<()> {
    extern "C" fn begin(_: libc::c_int) {
        // SAFETY: alarm is async-signal-safe and touches no memory.
        unsafe { libc::alarm(LAST_SECONDS) };
    }
    // SAFETY: a sigaction of zeros is valid: an empty mask. The handler makes one system call; the kernel forgets it when it
    // has run, so that the alarm it sets meets the default action, which is to end the process.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = begin as extern "C" fn(libc::c_int) as usize;
        action.sa_flags = libc::SA_RESETHAND | libc::SA_RESTART;
        if libc::sigaction(libc::SIGALRM, &action, std::ptr::null_mut()) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    rustix::process::set_parent_process_death_signal(Some(Signal::ALARM))?;
    if parent_id() != parent {
        kill(std::process::id(), Signal::ALARM)?;
    }
    Ok(())
}

/// Takes over a descriptor this process was started with, and has it closed on exec from now on. Each number can be
/// taken once. For the first lines of `main`, before anything else opens descriptors.
///
/// # Errors
/// `EBADF` when it isn't open or was taken already.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    static TAKEN: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());
    let mut taken = TAKEN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if number <= 2 || taken.contains(&number) {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: F_SETFD on a number that isn't open answers EBADF and does nothing else.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    taken.push(number);
    // SAFETY: it is open, this process was given it, and `taken` hands each number out once; the caller's promise to
    // call this first rules out that the number was reused for something that has an owner.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Sends a signal.
///
/// # Errors
/// `ESRCH` when there is no such process, `EPERM` when it belongs to somebody else.
pub fn kill(pid: u32, signal: Signal) -> io::Result<()> {
    Ok(rustix::process::kill_process(to_pid(pid)?, signal)?)
}

/// Whether a process with this id exists, even when it may not be signalled.
pub fn exists(pid: u32) -> bool {
    match to_pid(pid).map(rustix::process::test_kill_process) {
        Ok(answer) => !matches!(answer, Err(rustix::io::Errno::SRCH)),
        Err(_) => false,
    }
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal's number.
    Signal(i32),
}

/// Collects one child that has ended; `None` when none has.
///
/// # Errors
/// None the kernel documents but "no children", which is `None` here.
pub fn reap() -> io::Result<Option<(u32, Exit)>> {
    match rustix::process::wait(WaitOptions::NOHANG) {
        Ok(Some((pid, status))) => {
            let exit = match status.terminating_signal() {
                Some(signal) => Exit::Signal(signal),
                None => Exit::Code(status.exit_status().unwrap_or(0)),
            };
            Ok(Some((pid.as_raw_nonzero().get() as u32, exit)))
        }
        Ok(None) | Err(rustix::io::Errno::CHILD) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn to_pid(pid: u32) -> io::Result<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket;
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use std::os::unix::process::ExitStatusExt;
    use std::time::Duration;

    #[test]
    fn a_child_gets_its_descriptor_under_the_number_it_expects() {
        let (ours, theirs) = socket::pair().unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo hello >&9"]);
        pass(&mut command, theirs, 9);
        die_with_parent(&mut command, Signal::KILL);
        let mut child = command.spawn().unwrap();
        assert!(child.wait().unwrap().success());
        drop(command);
        let mut stream = UnixStream::from(ours);
        stream.set_nonblocking(false).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello\n");
    }

    #[test]
    fn a_number_is_taken_once_and_only_when_open() {
        assert!(inherited(9_999).is_err());
        assert!(inherited(1).is_err());
        let high = rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), 900).unwrap();
        let number = high.as_raw_fd();
        // The descriptor changes hands: what `inherited` returns closes it.
        std::mem::forget(high);
        let taken = inherited(number).unwrap();
        assert_eq!(taken.as_raw_fd(), number);
        assert!(inherited(number).is_err());
    }

    /// In a process of its own, which is to end.
    #[test]
    fn a_parent_that_died_before_anybody_looked_is_not_outlived() {
        const ALONE: &str = "TIDEGATE_TEST_ALONE";
        if std::env::var_os(ALONE).is_some() {
            outlive_parent_briefly(0).unwrap();
            // Ends this process if nothing else does.
            return std::thread::park_timeout(Duration::from_secs(20));
        }
        let name = "process::tests::a_parent_that_died_before_anybody_looked_is_not_outlived";
        let mut orphan = Command::new(std::env::current_exe().unwrap());
        let status = orphan.args(["--exact", name]).env(ALONE, "1").output().unwrap().status;
        assert_eq!(status.signal(), Some(libc::SIGALRM), "{status}");
    }

    #[test]
    fn processes_exist_or_not() {
        assert!(exists(std::process::id()));
        assert!(!exists(0));
        assert!(kill(u32::MAX, Signal::TERM).is_err());
    }
}
