//! The serving process as the monitor sees it.

use std::env;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use sys::passing::{Channel, Inbox};
use sys::signals::Signal;

use crate::control;
use crate::engine::Engine;
use crate::message::{Order, Report};

/// `argv[0]` of the serving process, which is also how it knows what it is.
pub const TITLE: &str = "tidegate: serving process";
/// Number of its end of the channel.
pub const CHANNEL_FD: i32 = 3;

/// How long the monitor waits for a serving process that doesn't take what it is told: nobody can stop it meanwhile.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a serving process may take for all of a report once it has begun one. It writes it at once.
const REPORT_PATIENCE: Duration = Duration::from_secs(5);

/// A running serving process, or with `master_process off` the thread that stands for it.
pub struct Serving {
    /// Its id; our own when it is a thread.
    pub pid: u32,
    /// The line to it.
    pub channel: Channel,
    /// The report that comes in.
    pub inbox: Inbox,
    /// When it was started.
    pub started: Instant,
    /// It serves: it has answered the first configuration.
    pub ready: bool,
    /// It is a process of its own.
    pub is_process: bool,
    /// Its end of the line is closed since then: it is exiting, or of no more use.
    pub hung_up: Option<Instant>,
}

impl Serving {
    /// Start a process. `env` are the `env` directives; `detached` leaves it no stdout, which would keep a shell waiting
    /// that reads what a daemon says.
    pub fn spawn(env: &[String], detached: bool) -> io::Result<Self> {
        let (ours, theirs) = Channel::pair()?;
        let mut command = process::Command::new(program()?);
        command.arg0(TITLE).env_clear().envs(environment(env)).stdin(Stdio::null());
        if detached {
            command.stdout(Stdio::null());
        }
        sys::process::pass(&mut command, theirs.into(), CHANNEL_FD);
        sys::process::die_with_parent(&mut command, Signal::KILL);
        let child = command.spawn()?;
        Ok(Self::new(child.id(), ours, true))
    }

    /// Start the control thread in this process.
    pub fn thread(engine: &'static dyn Engine) -> io::Result<Self> {
        let (ours, theirs) = Channel::pair()?;
        thread::Builder::new().name("control".into()).spawn(move || control::serve(engine, theirs, None))?;
        Ok(Self::new(process::id(), ours, false))
    }

    /// Tell it something. What becomes of a line that is broken is noticed when it is read.
    pub fn order(&mut self, order: &Order) {
        let _ = self.try_order(order);
    }

    /// Tell it something that must arrive. After an error a line is of no more use, since nobody knows what went
    /// over it; but what one has said who is gone is still to be read.
    ///
    /// # Errors
    /// `BrokenPipe` when it is exiting, and those of [`Channel::send`].
    pub fn try_order(&mut self, order: &Order) -> io::Result<()> {
        if self.hung_up.is_some() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let sent = order.send(&self.channel);
        if sent.as_ref().is_err_and(|error| !is_gone(error)) {
            self.hung_up = Some(Instant::now());
        }
        sent
    }

    /// When a report that has begun must be there.
    pub fn report_due(&self) -> Option<Instant> {
        let begun = self.inbox.begun().filter(|_| self.hung_up.is_none())?;
        Some(begun + REPORT_PATIENCE)
    }

    /// End it for certain.
    pub fn kill(&self) {
        if self.is_process {
            let _ = sys::process::kill(self.pid, Signal::KILL);
        }
    }

    fn new(pid: u32, channel: Channel, is_process: bool) -> Self {
        Self {
            pid,
            channel: channel.with_patience(PATIENCE),
            inbox: Report::inbox(),
            started: Instant::now(),
            ready: false,
            is_process,
            hung_up: None,
        }
    }
}

/// Whether a line failed because nobody is at its other end any more.
pub fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

/// This program, even when its file was replaced by an update: monitor and serving process must be the same.
pub fn program() -> io::Result<PathBuf> {
    let own = Path::new("/proc/self/exe");
    if own.exists() { Ok(own.to_owned()) } else { env::current_exe() }
}

/// As nginx: nothing is passed on but `TZ` and what `env` names; and what the dynamic loader and a backtrace need,
/// since this is a new program and nginx's worker is a copy.
fn environment(directives: &[String]) -> Vec<(String, String)> {
    let passed = |name: &str| {
        matches!(name, "TZ" | "RUST_BACKTRACE")
            || name.starts_with("LD_")
            || directives.iter().any(|one| one == name)
    };
    let inherited = env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let mut variables: Vec<_> = inherited.filter(|(name, _)| passed(name)).collect();
    let set = directives.iter().filter_map(|one| one.split_once('='));
    variables.extend(set.map(|(name, value)| (name.to_owned(), value.to_owned())));
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How an order fares, and whether the process is given up after it.
    fn check(is_there: bool, order: &Order, expected: &str) {
        let (ours, theirs) = Channel::pair().unwrap();
        let _theirs = is_there.then_some(theirs);
        let mut serving = Serving::new(1, ours, true);
        let sent = serving.try_order(order).map_err(|error| error.kind());
        let given_up = serving.hung_up.is_some();
        assert_eq!(format!("{sent:?}, given up: {given_up}"), expected);
        if given_up {
            assert!(serving.try_order(&Order::Quit).is_err_and(|error| is_gone(&error)));
        }
    }

    #[test]
    fn a_line_is_given_up_after_an_error_unless_somebody_left() {
        check(true, &Order::Quit, "Ok(()), given up: false");
        // It may have said why before it left.
        check(false, &Order::Quit, "Err(BrokenPipe), given up: false");
        // As any error that is not about the other end.
        check(true, &Order::Bereft(None), "Err(InvalidInput), given up: true");
    }
}
