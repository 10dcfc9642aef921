//! `daemon on`: the process that was started goes, its work goes on without a terminal.
//!
//! The configuration says `daemon`, so it is loaded once to learn that; then this program is started again, detached,
//! and loads it in earnest. The one in front waits until the other serves and exits with its answer, so that a script
//! or a service manager sees a failed start and finds the pid file after a good one. (A plain fork would answer before
//! the serving process exists.)

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process;

use crate::monitor::serving;

/// `argv[0]` of a detached monitor.
pub const TITLE: &str = "tidegate: monitor process";
const STARTER_FD: i32 = 3;

/// The process that waits for the start to succeed.
pub struct Starter {
    line: UnixStream,
}

/// Start the monitor detached and wait for it. Returns the exit code.
pub fn detach(arguments: &[OsString]) -> io::Result<u8> {
    let (mut ours, theirs) = UnixStream::pair()?;
    let mut command = process::Command::new(serving::program()?);
    command.arg0(TITLE).args(arguments);
    sys::process::pass(&mut command, OwnedFd::from(theirs), STARTER_FD);
    let mut child = command.spawn()?;
    // The command holds the other end, and the answer may be that it is closed.
    drop(command);
    let mut answer = [0];
    match ours.read(&mut answer) {
        Ok(1) => Ok(0),
        _ => Ok(child.wait()?.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1).max(1)),
    }
}

impl Starter {
    /// In the detached process: leave the session, take the line to the one that waits.
    pub fn inherit() -> io::Result<Self> {
        let line = UnixStream::from(sys::process::inherited(STARTER_FD)?);
        rustix::process::setsid()?;
        Ok(Self { line })
    }

    /// The start succeeded: leave the terminal, then let the waiting process go.
    pub fn succeeded(mut self) {
        leave_terminal();
        // It may have been killed meanwhile; that changes nothing here.
        let _ = self.line.write_all(b"1");
    }
}

fn leave_terminal() {
    let Ok(null) = std::fs::File::options().read(true).write(true).open("/dev/null") else { return };
    let _ = rustix::stdio::dup2_stdin(&null);
    let _ = rustix::stdio::dup2_stdout(&null);
}
