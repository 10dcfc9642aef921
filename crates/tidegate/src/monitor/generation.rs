//! One configuration with everything it opened, ready to be handed over as often as needed.

use std::collections::BTreeSet;
use std::fs::DirBuilder;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use http::config::FilePattern;
use http::log::LogFile;
use sys::listen::Address;

use crate::bundle::{Answers, Bundle};
use crate::credentials::{self, Identity};
use crate::engine::{Engine, LoadOptions, Loaded, Snapshot};
use crate::error_log::{ErrorLog, reason};
use crate::listeners::{self, Listener, Prepared};
use crate::monitor::tickets::Tickets;
use crate::world::{DiskWorld, Record};

/// A configuration that is served.
pub struct Generation {
    /// Counts up from 1.
    pub number: u64,
    /// What the engine made of it.
    pub snapshot: Arc<Snapshot>,
    /// Its log files, each open once.
    pub logs: Vec<Arc<LogFile>>,
    /// Its sockets.
    pub listeners: Vec<Listener>,
    /// Who serves it.
    pub identity: Option<Identity>,
    /// Files that may be asked for while it serves.
    pub patterns: BTreeSet<FilePattern>,
    /// How long sessions live that have tickets of the monitor's keys.
    pub ticket_lifetime: Option<Duration>,
    options: LoadOptions,
    answers: Arc<Answers>,
}

/// A configuration that could be served: loaded, its sockets open, nothing changed yet for the one that is.
pub struct Candidate {
    generation: Generation,
    sockets: Prepared,
}

/// Load a configuration and open what it names, keeping sockets of `kept`; once that is dropped nobody wants the
/// configuration any more, and no socket is opened. Another `None` was explained in `log`.
pub fn load(
    engine: &dyn Engine,
    options: LoadOptions,
    world: DiskWorld,
    number: u64,
    kept: &Weak<Vec<Listener>>,
    log: &ErrorLog,
) -> Option<Candidate> {
    let Loaded { snapshot, diagnostics, sources, .. } = engine.load(&options, number, &world);
    log.report(&diagnostics, &sources);
    let snapshot = snapshot?;
    explained(events(&snapshot.core), log)?;
    let identity = explained(credentials::wanted(snapshot.core.user.as_ref()), log)?;
    explained(make_temp_paths(&snapshot.process.temp_paths, identity.as_ref()), log)?;
    let kept = kept.upgrade()?;
    let sockets = listeners::prepare(&snapshot.listeners, snapshot.core.workers, &kept, log)?;
    let Record { answers, logs, patterns, ticket_lifetime } = world.into_record();
    let generation = Generation {
        number,
        snapshot,
        logs,
        listeners: sockets.listeners().to_vec(),
        identity,
        patterns,
        ticket_lifetime,
        options,
        answers: Arc::new(answers),
    };
    Some(Candidate { generation, sockets })
}

impl Candidate {
    /// What is to be handed over.
    pub fn generation(&self) -> &Generation {
        &self.generation
    }

    /// It is served now.
    pub fn commit(self, log: &ErrorLog) -> Generation {
        Generation { listeners: self.sockets.commit(log), ..self.generation }
    }
}

impl Generation {
    /// The hand-over to a serving process that already has the sockets of `had`.
    pub fn bundle(&self, had: &[Listener], tickets: &Tickets) -> io::Result<Bundle> {
        let mut sockets: Vec<(Address, OwnedFd)> = Vec::new();
        for listener in &self.listeners {
            sockets.extend(listener.duplicate_without(had)?);
        }
        Ok(Bundle {
            options: self.options.clone(),
            answers: self.answers.clone(),
            tickets: tickets.keys().to_vec(),
            identity: self.identity.clone(),
            logs: duplicates(&self.logs)?,
            sockets,
        })
    }

    /// Open every log file anew, after rotation. What can't be opened stays as it is and is explained.
    pub fn reopen_logs(&self, log: &ErrorLog) -> io::Result<Vec<(PathBuf, OwnedFd)>> {
        let mut reopened = Vec::new();
        for file in &self.logs {
            match LogFile::open(file.path()) {
                Ok(opened) => {
                    file.replace(opened.duplicate()?);
                    reopened.push(file.clone());
                }
                Err(error) => {
                    log.emerg(&format!("open() \"{}\" failed {}", file.path().display(), reason(&error)));
                }
            }
        }
        duplicates(&reopened)
    }

    /// Listeners whose address `next` does not have.
    pub fn listeners_without(&self, next: &[Listener]) -> Vec<Listener> {
        let stays = |one: &&Listener| !next.iter().any(|other| other.address == one.address);
        self.listeners.iter().filter(stays).cloned().collect()
    }
}

fn duplicates(logs: &[Arc<LogFile>]) -> io::Result<Vec<(PathBuf, OwnedFd)>> {
    logs.iter().map(|file| Ok((file.path().to_owned(), file.duplicate()?.into()))).collect()
}

/// The value, or its error in the log.
pub fn explained<T>(result: Result<T, String>, log: &ErrorLog) -> Option<T> {
    result.map_err(|message| log.emerg(&message)).ok()
}

/// nginx does not start without an `events` block, and says so when all else was read.
pub fn events(core: &http::config::Core) -> Result<(), String> {
    if core.has_events { Ok(()) } else { Err("no \"events\" section in configuration".into()) }
}

/// Directories for temporary files: only the last level is made, as nginx does; they belong to the serving process.
pub fn make_temp_paths(paths: &[PathBuf], owner: Option<&Identity>) -> Result<(), String> {
    paths.iter().try_for_each(|path| make_temp_path(path, owner))
}

fn make_temp_path(path: &Path, owner: Option<&Identity>) -> Result<(), String> {
    let failed = |call: &'static str| {
        move |error: io::Error| format!("{call} \"{}\" failed {}", path.display(), reason(&error))
    };
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed("mkdir()")(error)),
        _ => {}
    }
    let Some(owner) = owner else { return Ok(()) };
    let found = std::fs::metadata(path).map_err(failed("stat()"))?;
    if found.uid() != owner.uid {
        std::os::unix::fs::chown(path, Some(owner.uid), None).map_err(failed("chown()"))?;
    }
    if found.mode() & 0o700 != 0o700 {
        let mode = found.mode() | 0o700;
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).map_err(failed("chmod()"))?;
    }
    Ok(())
}
