//! Reload: load beside, hand over, adopt what the serving process accepted; or leave everything as it was.

use super::Monitor;
use super::generation::{self, Candidate, Generation, explained};
use crate::engine::Level;
use crate::error_log::{ErrorLog, reason};
use crate::message::Order;
use crate::pid_file::PidFile;

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
        let Some(candidate) = generation::load(self.engine, self.plan, number, &kept, &self.log) else {
            return;
        };
        self.generations = number;
        self.hand_over(candidate);
    }

    /// To the serving process, which answers; without one it is as good as served.
    pub(super) fn hand_over(&mut self, candidate: Candidate) {
        let Some(serving) = &mut self.serving else { return self.adopt(candidate) };
        match candidate.generation().bundle(&self.current.listeners) {
            Ok(bundle) => {
                let number = candidate.generation().number;
                serving.order(&Order::Install(number, Box::new(bundle)));
                self.next = Some(candidate);
            }
            Err(error) => self.log.emerg(&format!("dup() failed {}", reason(&error))),
        }
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
