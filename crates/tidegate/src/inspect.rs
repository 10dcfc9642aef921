//! What runs without serving: `-t`, `-T`, `-s`.

use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use sys::signals::Signal;

use crate::command_line::{Action, Options};
use crate::credentials;
use crate::engine::Level;
use crate::engine::{Engine, LoadOptions, Loaded, Snapshot};
use crate::error_log::{ErrorLog, reason, say};
use crate::listeners;
use crate::monitor::generation::{events, explained, make_temp_paths};
use crate::pid_file;
use crate::world::DiskWorld;

/// `-t` and `-T`: load, try to open everything, say how it went. Returns the exit code.
pub fn test(engine: &dyn Engine, options: &Options) -> u8 {
    let load = options.load_options();
    let log = ErrorLog::at_start(&load.error_log, Level::Info);
    let loaded = engine.load(&load, 1, &DiskWorld::default());
    log.report(&loaded.diagnostics, &loaded.sources);
    let file = load.main_file.display();
    if loaded.snapshot.is_some() && !options.quiet {
        say(&format!("the configuration file {file} syntax is ok"));
    }
    let opened = loaded.snapshot.as_deref().and_then(|snapshot| try_to_open(snapshot, &log));
    if opened.is_none() {
        say(&format!("configuration file {file} test failed"));
        return 1;
    }
    if !options.quiet {
        say(&format!("configuration file {file} test is successful"));
    }
    if options.dump {
        // Nobody to tell when stdout is closed.
        let _ = dump(&loaded, &mut io::stdout().lock());
    }
    0
}

/// `-s`: find the monitor by its pid file and signal it. Returns the exit code.
pub fn signal(engine: &dyn Engine, load: &LoadOptions, action: Action) -> u8 {
    let log = ErrorLog::at_start(&load.error_log, Level::Notice);
    let loaded = engine.load(load, 1, &DiskWorld::without_logs());
    log.report(&loaded.diagnostics, &loaded.sources);
    let Some(snapshot) = loaded.snapshot else { return 1 };
    log.notice("signal process started");
    match send(&snapshot.core.pid, action) {
        Ok(()) => 0,
        Err((level, message)) => {
            log.write(level, &message);
            1
        }
    }
}

/// What only opening can tell: the user, the pid file, directories and addresses. Logs were opened by the load.
fn try_to_open(snapshot: &Snapshot, log: &ErrorLog) -> Option<()> {
    explained(events(&snapshot.core), log)?;
    let identity = explained(credentials::wanted(snapshot.core.user.as_ref()), log)?;
    explained(pid_file::test(&snapshot.core.pid), log)?;
    explained(make_temp_paths(&snapshot.process.temp_paths, identity.as_ref()), log)?;
    listeners::test(&snapshot.listeners, log).then_some(())
}

fn dump(loaded: &Loaded, out: &mut impl Write) -> io::Result<()> {
    for (name, text) in loaded.sources.iter() {
        out.write_all(b"# configuration file ")?;
        out.write_all(name.as_os_str().as_bytes())?;
        out.write_all(b":\n")?;
        out.write_all(text)?;
        out.write_all(b"\n")?;
    }
    out.flush()
}

fn send(path: &Path, action: Action) -> Result<(), (Level, String)> {
    let pid = pid_file::read(path).map_err(|message| (Level::Error, message))?;
    let signal = match action {
        Action::Stop => Signal::TERM,
        Action::Quit => Signal::QUIT,
        Action::Reopen => Signal::USR1,
        Action::Reload => Signal::HUP,
    };
    sys::process::kill(pid, signal).map_err(|error| {
        (Level::Alert, format!("kill({pid}, {}) failed {}", signal.as_raw(), reason(&error)))
    })
}
