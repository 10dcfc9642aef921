//! The process that was started. It keeps root, the pid file, the configuration and every descriptor, and watches the
//! one process that serves.
//!
//! One thread, one `poll`: signals, the line to the serving process, and a few deadlines. Nothing here reads a byte that
//! came from a network.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::config::FilePattern;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sys::passing::Taken;
use sys::process::Exit;
use sys::signals::{Received, Signal, Signals};

use crate::daemon::Starter;
use crate::engine::Engine;
use crate::engine::Level;
use crate::error_log::{ErrorLog, reason};
use crate::late_files;
use crate::launch_plan::LaunchPlan;
use crate::listeners::Listener;
use crate::local_time;
use crate::message::{Order, Report};
use crate::pid_file::PidFile;

pub mod generation;
pub mod lines;
mod reload;
mod respawn;
pub mod serving;
mod tickets;

use generation::{Candidate, Generation, explained};
use lines::{introduce, signal_line};
use reload::Loading;
use respawn::Respawn;
use serving::Serving;
use tickets::Tickets;

/// A fast stop may take this long before it is forced.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// Reports that are looked at before signals are: a serving process that never stops talking does not keep the monitor.
const REPORTS_PER_TURN: usize = 64;

/// Which signals the processes wait for.
pub const SIGNALS: &[Signal] = &[
    Signal::HUP,
    Signal::USR1,
    Signal::WINCH,
    Signal::TERM,
    Signal::QUIT,
    Signal::USR2,
    Signal::INT,
    Signal::CHILD,
];

/// The state of the monitor once a configuration is served.
struct Monitor<'p> {
    engine: &'static dyn Engine,
    plan: &'p LaunchPlan,
    log: ErrorLog,
    signals: Signals,
    /// What is served, or what the next serving process gets.
    current: Generation,
    /// Which files the one before could ask for.
    former_patterns: BTreeSet<FilePattern>,
    /// Handed over by a reload and not answered yet.
    next: Option<Candidate>,
    /// A reload that has begun.
    loading: Option<Loading>,
    /// A reload that is asked for and has not begun.
    reload_wanted: bool,
    serving: Option<Serving>,
    respawn: Respawn,
    tickets: Tickets,
    /// Removed by a reload; open until the serving process has accepted the last connection.
    retiring: Vec<Listener>,
    ending: Option<Ending>,
    pid_file: Option<PidFile>,
    /// Who waits for the start to succeed (`daemon on`).
    starter: Option<Starter>,
    /// The start succeeded.
    started: bool,
    /// The exit code of a start that failed.
    failed: bool,
    generations: u64,
}

/// How it ends.
struct Ending {
    /// When to use force.
    kill_at: Option<Instant>,
}

/// Load, bind, serve, watch, until a signal ends it. Returns the exit code.
pub fn run(engine: &'static dyn Engine, plan: &LaunchPlan, signals: Signals, starter: Option<Starter>) -> u8 {
    let log = ErrorLog::at_start(&plan.options.error_log, Level::Notice);
    let Some(candidate) = first_generation(engine, plan, &log) else {
        return 1;
    };
    let current = candidate.commit(&log);
    let log = ErrorLog::of(&current.snapshot.core.error_log, true);
    introduce(&log);
    let mut monitor = Monitor {
        engine,
        plan,
        log,
        signals,
        current,
        former_patterns: BTreeSet::new(),
        next: None,
        loading: None,
        reload_wanted: false,
        serving: None,
        respawn: Respawn::default(),
        tickets: Tickets::new(Instant::now()),
        retiring: Vec::new(),
        ending: None,
        pid_file: None,
        starter,
        started: false,
        failed: false,
        generations: 1,
    };
    monitor.log.notice("start worker processes");
    monitor.spawn();
    monitor.watch()
}

fn first_generation(engine: &dyn Engine, plan: &LaunchPlan, log: &ErrorLog) -> Option<Candidate> {
    let kept = Arc::default();
    generation::load(engine, plan.options.clone(), plan.world(), 1, &Arc::downgrade(&kept), log)
}

impl Monitor<'_> {
    fn watch(&mut self) -> u8 {
        loop {
            if self.is_over() {
                return self.leave();
            }
            self.wait();
            while let Ok(Some(received)) = self.signals.try_next() {
                self.on_signal(received);
            }
            self.on_line();
            self.on_loaded();
            self.on_time(Instant::now());
            self.begin_reload();
        }
    }

    fn is_over(&self) -> bool {
        self.serving.is_none() && (self.failed || self.ending.is_some())
    }

    fn leave(&mut self) -> u8 {
        self.pid_file = None;
        if self.failed {
            return 1;
        }
        self.log.notice("exit");
        0
    }

    /// Sleep until a signal, a word of the serving process, a loaded configuration, or the next deadline.
    fn wait(&self) {
        let mut fds = vec![PollFd::new(&self.signals, PollFlags::IN)];
        if let Some(serving) = self.serving.as_ref().filter(|serving| serving.hung_up.is_none()) {
            fds.push(PollFd::new(&serving.channel, PollFlags::IN));
        }
        if let Some(loading) = &self.loading {
            fds.push(PollFd::new(&loading.outcome, PollFlags::IN));
        }
        let kill_at = self.ending.as_ref().and_then(|ending| ending.kill_at);
        let report_due = self.serving.as_ref().and_then(Serving::report_due);
        let ticket_due = self.tickets.due(self.current.ticket_lifetime);
        let deadlines = [kill_at, self.respawn.at, self.hang_up_deadline(), report_due, ticket_due];
        let deadline = deadlines.into_iter().flatten().min();
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        let timeout = left.map(|left| Timespec {
            tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        });
        // An interrupted or failed wait is the same as a short one: everything is looked at again.
        let _ = poll(&mut fds, timeout.as_ref());
    }

    fn on_signal(&mut self, received: Received) {
        // Signals are what it writes about; there may have been a change since the last one.
        local_time::set();
        let Received { signal, pid } = received;
        let action = match signal {
            Signal::QUIT => ", shutting down",
            Signal::TERM | Signal::INT => ", exiting",
            Signal::HUP => ", reconfiguring",
            Signal::USR1 => ", reopening logs",
            Signal::USR2 | Signal::WINCH => ", ignoring: not supported yet",
            _ => "",
        };
        self.log.notice(&signal_line(signal, pid, action));
        match signal {
            Signal::QUIT => self.quit(),
            Signal::TERM | Signal::INT => self.stop(),
            Signal::HUP => self.reload_wanted = true,
            Signal::USR1 => self.reopen_logs(),
            Signal::CHILD => self.reap(),
            _ => {}
        }
    }

    /// What the serving process has said; if that is much, the rest at the next turn.
    fn on_line(&mut self) {
        for _ in 0..REPORTS_PER_TURN {
            let serving = self.serving.as_mut().filter(|serving| serving.hung_up.is_none());
            let Some(serving) = serving else { return };
            match Report::take(&mut serving.inbox, &serving.channel) {
                Ok(Taken::Message(report)) => self.on_report(report),
                Ok(Taken::Nothing) => return,
                Ok(Taken::Closed) => self.on_hang_up(),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    self.give_up(&format!("sent what is no report ({error})"));
                }
                Err(_) => self.on_hang_up(),
            }
        }
    }

    fn on_report(&mut self, report: Report) {
        match report {
            Report::Ready(number) => self.on_ready(number),
            Report::Refused(number, why) => {
                self.log.emerg(&why);
                if self.next_if(number).is_some() {
                    self.log.emerg("the new configuration is refused, the old one goes on");
                } else if !self.started {
                    self.failed = true;
                }
            }
            Report::ListenersClosed(addresses) => {
                self.retiring.retain(|listener| !addresses.contains(&listener.address));
            }
            Report::Wanted(number, path) => self.on_wanted(number, &path),
            Report::Again(Some(number)) => {
                if let Some(next) = self.next_if(number) {
                    self.hand_over(next);
                }
            }
            Report::Again(None) => self.reopen_logs(),
        }
    }

    /// A file of the configuration that is served, of the one that will be, or of the last, whose handshakes may still be
    /// under way.
    fn on_wanted(&mut self, number: u64, path: &Path) {
        let next = self.next.as_ref().map(|next| &next.generation().patterns);
        let patterns = [Some(&self.current.patterns), next, Some(&self.former_patterns)];
        let answer = late_files::answer(patterns.into_iter().flatten().flatten(), path);
        if let Some(serving) = &mut self.serving {
            serving.order(&Order::File(number, answer));
        }
    }

    fn on_ready(&mut self, number: u64) {
        if let Some(serving) = &mut self.serving {
            serving.ready = true;
        }
        match self.next_if(number) {
            Some(next) => self.adopt(next),
            None if !self.started => self.finish_start(),
            None => {}
        }
    }

    /// All sockets accept and somebody serves them: tell the world.
    fn finish_start(&mut self) {
        if !self.plan.attached {
            match explained(PidFile::create(&self.current.snapshot.core.pid), &self.log) {
                Some(file) => self.pid_file = Some(file),
                None => {
                    self.failed = true;
                    self.stop();
                    return;
                }
            }
        }
        self.started = true;
        if let Some(banner) = &self.plan.banner {
            let _ = io::stderr().write_all(banner.as_bytes());
        }
        self.leave_console();
        if let Some(starter) = self.starter.take() {
            starter.succeeded();
        }
    }

    /// From now on stderr is the error log, so that a panic is found there.
    fn leave_console(&mut self) {
        self.log.leave_console();
        self.log.redirect_stderr();
    }

    /// The serving process closed its line: it is exiting. One that is not is killed later, since it could never be
    /// told anything again.
    fn on_hang_up(&mut self) {
        let Some(serving) = &mut self.serving else { return };
        serving.hung_up = Some(Instant::now());
        if !serving.is_process {
            let pid = serving.pid;
            self.on_exit(pid, Exit::Code(0));
        }
    }

    /// Whoever speaks like this is not the process that was started any more.
    fn give_up(&mut self, what_it_did: &str) {
        let Some(serving) = &self.serving else { return };
        let text = format!("worker process {} {what_it_did}, killing it", serving.pid);
        self.log.write(Level::Alert, &text);
        serving.kill();
        self.on_hang_up();
    }

    /// Collect every dead child; as process 1 of a container there may be others than ours.
    fn reap(&mut self) {
        while let Ok(Some((pid, exit))) = sys::process::reap() {
            self.on_line();
            if self.serving.as_ref().is_some_and(|serving| serving.is_process && serving.pid == pid) {
                self.on_exit(pid, exit);
            } else {
                self.log_exit("unknown process", pid, exit);
            }
        }
    }

    fn on_exit(&mut self, pid: u32, exit: Exit) {
        let Some(serving) = self.serving.take() else { return };
        if serving.is_process {
            self.log_exit("worker process", pid, exit);
        }
        self.retiring.clear();
        match self.next.take() {
            Some(_) if serving.ready => {
                self.log.emerg("the new configuration was given up, the process died that was to serve it");
            }
            // It did not come to the new one: nothing speaks against that.
            Some(next) => self.adopt(next),
            None => {}
        }
        if self.ending.is_some() {
            return;
        }
        if !self.started {
            if !std::mem::replace(&mut self.failed, true) {
                self.log.emerg("the process that was to serve ended before it did");
            }
            return;
        }
        if !serving.is_process {
            // `master_process off`: there is nobody to start it again.
            self.failed = true;
            return;
        }
        self.respawn.after(serving.started.elapsed());
    }

    fn on_time(&mut self, now: Instant) {
        if self.respawn.at.is_some_and(|at| at <= now) && self.ending.is_none() {
            self.spawn();
        }
        if self.tickets.due(self.current.ticket_lifetime).is_some_and(|at| at <= now) {
            self.tickets.renew(now);
            if let Some(serving) = &mut self.serving {
                serving.order(&Order::Tickets(self.tickets.keys().to_vec()));
            }
        }
        if self.serving.as_ref().and_then(Serving::report_due).is_some_and(|at| at <= now) {
            self.give_up("stopped in the middle of a report");
        }
        if self.hang_up_deadline().is_some_and(|at| at <= now)
            && let Some(serving) = &mut self.serving
        {
            self.log.write(Level::Alert, &format!("worker process {} hangs, killing it", serving.pid));
            serving.kill();
            serving.hung_up = Some(now);
        }
        if let Some(ending) = &mut self.ending
            && ending.kill_at.is_some_and(|at| at <= now)
        {
            ending.kill_at = None;
            if let Some(serving) = &self.serving {
                serving.kill();
                if !serving.is_process {
                    // A thread can't be killed; leaving takes it along.
                    self.serving = None;
                }
            }
        }
    }

    fn hang_up_deadline(&self) -> Option<Instant> {
        Some(self.serving.as_ref()?.hung_up? + STOP_GRACE)
    }

    fn spawn(&mut self) {
        self.respawn.at = None;
        let snapshot = &self.current.snapshot;
        let spawned = match snapshot.core.master_process {
            true => Serving::spawn(&snapshot.process.env, self.starter.is_some()),
            false => Serving::thread(self.engine),
        };
        let sent = spawned.and_then(|mut serving| {
            let bundle = self.current.bundle(&[], &self.tickets)?;
            serving.order(&Order::Install(self.current.number, Box::new(bundle)));
            Ok(serving)
        });
        match sent {
            Ok(serving) => {
                self.log.notice(&format!("start worker process {}", serving.pid));
                self.serving = Some(serving);
            }
            Err(error) => {
                self.log.write(Level::Alert, &format!("could not respawn worker process {}", reason(&error)));
                if self.started { self.respawn.after(Duration::ZERO) } else { self.failed = true }
            }
        }
    }

    fn reopen_logs(&mut self) {
        self.log.notice("reopening logs");
        if let Some(loading) = &mut self.loading {
            loading.reopen = true;
        }
        match self.reopened_logs() {
            Ok(logs) => {
                self.log.redirect_stderr();
                if let Some(serving) = &mut self.serving {
                    serving.order(&Order::Reopen(logs));
                }
            }
            Err(error) => self.log.emerg(&format!("dup() failed {}", reason(&error))),
        }
    }

    /// Also those of the configuration that is on its way: it may have opened them before they were moved.
    fn reopened_logs(&self) -> io::Result<Vec<(PathBuf, OwnedFd)>> {
        let mut logs = self.current.reopen_logs(&self.log)?;
        if let Some(next) = &self.next {
            logs.extend(next.generation().reopen_logs(&self.log)?);
        }
        Ok(logs)
    }

    fn quit(&mut self) {
        if self.ending.is_none() {
            self.end(&Order::Quit);
            self.ending = Some(Ending { kill_at: None });
        }
    }

    fn stop(&mut self) {
        let is_stopping = self.ending.as_ref().is_some_and(|ending| ending.kill_at.is_some());
        if !is_stopping {
            self.end(&Order::Stop);
            self.ending = Some(Ending { kill_at: Some(Instant::now() + STOP_GRACE) });
        }
    }

    /// Tell the serving process, and let nobody connect any more.
    fn end(&mut self, order: &Order) {
        if let Some(serving) = &mut self.serving {
            serving.order(order);
        }
        self.current.listeners.clear();
        self.retiring.clear();
        self.next = None;
        self.loading = None;
    }

    fn log_exit(&self, what: &str, pid: u32, exit: Exit) {
        match exit {
            Exit::Code(code) => self.log.notice(&format!("{what} {pid} exited with code {code}")),
            Exit::Signal(signal) => {
                self.log.write(Level::Alert, &format!("{what} {pid} exited on signal {signal}"));
            }
        }
    }
}
