//! Reload: load beside, hand over, adopt what the serving process accepted; or leave everything as it was.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use http::log::write_as_first_thread;

use super::Monitor;
use super::generation::{self, Candidate, Generation, explained};
use super::serving::is_gone;
use crate::engine::{Engine, Level};
use crate::error_log::{ErrorLog, reason};
use crate::launch_plan::LaunchPlan;
use crate::listeners::Listener;
use crate::mailbox::{self, Receiver};
use crate::message::Order;
use crate::pid_file::PidFile;

/// A configuration that a thread of its own loads: a name server may be slow, and sockets in use are tried again. The
/// monitor does everything else meanwhile; who drops this abandons the load.
pub(super) struct Loading {
    /// What came of it; if nothing, the log says why.
    pub(super) outcome: Receiver<Option<Candidate>>,
    /// Logs were reopened meanwhile: it may have opened its own before they were moved.
    pub(super) reopen: bool,
    /// Sockets that it may keep. The thread has them only while it opens sockets, so that after the end of an abandoned
    /// load nobody can connect to them.
    _kept: Arc<Vec<Listener>>,
}

impl Loading {
    fn begin(
        engine: &'static dyn Engine,
        plan: &LaunchPlan,
        number: u64,
        kept: Vec<Listener>,
        log: ErrorLog,
    ) -> io::Result<Self> {
        let (options, world) = (plan.options.clone(), plan.world());
        let (done, outcome) = mailbox::mailbox()?;
        let kept = Arc::new(kept);
        let lent = Arc::downgrade(&kept);
        let load = move || {
            write_as_first_thread();
            // A panic has said what it is on stderr, which is the error log.
            let load = || generation::load(engine, options, world, number, &lent, &log);
            done.send(catch_unwind(AssertUnwindSafe(load)).ok().flatten());
        };
        thread::Builder::new().name("load".into()).spawn(load)?;
        Ok(Self { outcome, reopen: false, _kept: kept })
    }
}

impl Monitor<'_> {
    /// Begins what was asked for, if nothing else is on its way. Looked at once a turn, so that no end of that forgets it.
    pub(super) fn begin_reload(&mut self) {
        let is_free = self.started && self.ending.is_none() && self.loading.is_none() && self.next.is_none();
        if !is_free || !std::mem::take(&mut self.reload_wanted) {
            return;
        }
        self.log.notice("reconfiguring");
        let kept = self.current.listeners.iter().chain(&self.retiring).cloned().collect();
        let begun = Loading::begin(self.engine, self.plan, self.generations + 1, kept, self.log.clone());
        let no_thread =
            |error| format!("the configuration can't be loaded beside the old one {}", reason(&error));
        self.loading = explained(begun.map_err(no_thread), &self.log);
    }

    /// A load may be over.
    pub(super) fn on_loaded(&mut self) {
        let Some(outcome) = self.loading.as_ref().and_then(|loading| loading.outcome.next()) else { return };
        let reopen = self.loading.take().is_some_and(|loading| loading.reopen);
        let Some(candidate) = outcome else { return };
        self.generations = candidate.generation().number;
        if reopen && let Err(error) = candidate.generation().reopen_logs(&self.log) {
            self.log.emerg(&format!("dup() failed {}", reason(&error)));
        }
        self.hand_over(candidate);
    }

    /// To the serving process, which answers; without one it is as good as served.
    pub(super) fn hand_over(&mut self, candidate: Candidate) {
        let Some(serving) = &mut self.serving else { return self.adopt(candidate) };
        let bundle = match candidate.generation().bundle(&self.current.listeners, &self.tickets) {
            Ok(bundle) => bundle,
            Err(error) => return self.log.emerg(&format!("dup() failed {}", reason(&error))),
        };
        match serving.try_order(&Order::Install(candidate.generation().number, Box::new(bundle))) {
            Ok(()) => self.next = Some(candidate),
            // It is exiting: the one that comes after it gets this.
            Err(error) if is_gone(&error) => self.adopt(candidate),
            Err(error) => {
                let text = format!("the new configuration can't be handed over {}", reason(&error));
                self.log.emerg(&text);
            }
        }
    }

    /// What was handed over, when the answer is about that.
    pub(super) fn next_if(&mut self, number: u64) -> Option<Candidate> {
        self.next.take_if(|next| next.generation().number == number)
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
        // What kept the serving process from living may just have been mended.
        if let Some(at) = &mut self.respawn.at {
            *at = Instant::now();
        }
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
