//! Reload: load beside, hand over, adopt what the serving process accepted; or leave everything as it was.

use std::io;
use std::thread;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Monitor;
use super::generation::{self, Candidate, Generation, explained};
use crate::engine::Level;
use crate::error_log::{ErrorLog, reason};
use crate::listeners::Listener;
use crate::mailbox::{self, Receiver};
use crate::message::Order;
use crate::pid_file::PidFile;

/// How long a load that ended without a word, by a panic, may go unnoticed.
const LOOK_AGAIN: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

fn no_thread(error: &io::Error) -> String {
    format!("the configuration can't be loaded beside the old one {}", reason(error))
}

impl Monitor<'_> {
    pub(super) fn reload(&mut self) {
        if self.ending.is_some() {
            return;
        }
        if self.next.is_some() || !self.started {
            self.reload_again = true;
            return;
        }
        self.log.notice("reconfiguring");
        let mut kept = self.current.listeners.clone();
        kept.extend(self.retiring.iter().cloned());
        let number = self.generations + 1;
        let Some(candidate) = self.load_beside(number, kept) else { return };
        self.generations = number;
        self.hand_over(candidate);
    }

    /// To the serving process, which answers; without one it is as good as served.
    pub(super) fn hand_over(&mut self, candidate: Candidate) {
        let Some(serving) = &mut self.serving else { return self.adopt(candidate) };
        match candidate.generation().bundle(&self.current.listeners, &self.tickets) {
            Ok(bundle) => {
                let number = candidate.generation().number;
                serving.order(&Order::Install(number, Box::new(bundle)));
                self.next = Some(candidate);
            }
            Err(error) => self.log.emerg(&format!("dup() failed {}", reason(&error))),
        }
    }

    /// Loads in a thread of its own: a name server may be slow, and sockets in use are tried again. Whoever serves goes on
    /// asking for certificates meanwhile (variables in their names), and gets them.
    fn load_beside(&mut self, number: u64, kept: Vec<Listener>) -> Option<Candidate> {
        let (engine, log) = (self.engine, self.log.clone());
        let (options, world) = (self.plan.options.clone(), self.plan.world());
        let (done, finished) = explained(mailbox::mailbox().map_err(|error| no_thread(&error)), &self.log)?;
        thread::scope(|scope| {
            let load = move || {
                let candidate = generation::load(engine, options, world, number, &kept, &log);
                done.send(());
                candidate
            };
            let started = thread::Builder::new().name("load".into()).spawn_scoped(scope, load);
            let loading = explained(started.map_err(|error| no_thread(&error)), &self.log)?;
            while !loading.is_finished() {
                self.wait_for_report(&finished);
                self.on_line();
            }
            // A panic has said what it is on stderr, which is the error log.
            loading.join().ok().flatten()
        })
    }

    /// Sleeps until the serving process says something or the load is over.
    fn wait_for_report(&self, finished: &Receiver<()>) {
        let mut fds = vec![PollFd::new(finished, PollFlags::IN)];
        if let Some(serving) = self.serving.as_ref().filter(|serving| serving.hung_up.is_none()) {
            fds.push(PollFd::new(&serving.channel, PollFlags::IN));
        }
        let _ = poll(&mut fds, Some(&LOOK_AGAIN));
    }

    pub(super) fn next_reload(&mut self) {
        if std::mem::take(&mut self.reload_again) {
            self.reload();
        }
    }

    /// The new configuration is the one that is served.
    pub(super) fn adopt(&mut self, candidate: Candidate) {
        let next = candidate.commit(&self.log);
        self.log = ErrorLog::of(&next.snapshot.core.error_log, false);
        self.log.redirect_stderr();
        self.move_pid_file(&next);
        self.tell_what_stays(&next);
        let removed = self.current.listeners_without(&next.listeners);
        self.retiring.retain(|one| !next.listeners.iter().any(|other| other.address == one.address));
        if self.serving.is_some() {
            self.retiring.extend(removed);
        }
        self.former_patterns = std::mem::replace(&mut self.current, next).patterns;
    }

    /// One process serves all configurations: what it was started with stays until it is started again.
    fn tell_what_stays(&self, next: &Generation) {
        let (old, new) = (&self.current.snapshot.core, &next.snapshot.core);
        for (changed, name) in [
            (next.identity != self.current.identity, "user"),
            (old.workers != new.workers, "worker_processes"),
            (old.rlimit_nofile != new.rlimit_nofile, "worker_rlimit_nofile"),
            (old.master_process != new.master_process, "master_process"),
        ] {
            if changed {
                let text = format!("\"{name}\" changed, it takes effect when the process is started anew");
                self.log.write(Level::Warn, &text);
            }
        }
    }

    fn move_pid_file(&mut self, next: &Generation) {
        let path = &next.snapshot.core.pid;
        if self.pid_file.as_ref().is_none_or(|file| file.path() == path) {
            return;
        }
        if let Some(file) = explained(PidFile::create(path), &self.log) {
            self.pid_file = Some(file);
        }
    }
}
