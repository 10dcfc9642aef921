//! The binary: command line, the monitor, the serving process's control thread.
//!
//! ```text
//! command_line -> launch_plan -> monitor  == bundle: bytes and descriptors ==>  control -> engine (http, front)
//!                                (root, files, signals)                         (`user`, network)
//! ```
//!
//! What a configuration means and what happens on a connection is on the other side of [`engine`].
#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::path::Path;

use sys::signals::Signals;

pub mod bundle;
pub mod command_line;
pub mod control;
pub mod credentials;
pub mod daemon;
pub mod demo;
pub mod demo_plan;
pub mod engine;
pub mod error_log;
pub mod inspect;
pub mod late_files;
pub mod launch_plan;
pub mod listeners;
pub mod local_time;
pub mod mailbox;
pub mod message;
pub mod monitor;
pub mod pid_file;
pub mod proxy;
pub mod version;
pub mod world;

pub use command_line::PID_FILE;

use command_line::{Command, Options};
use daemon::Starter;
use engine::{Engine, LoadOptions};
use error_log::{reason, say};
use launch_plan::LaunchPlan;
use monitor::serving;

/// Do what the arguments ask for, `arguments[0]` being the program's name. Returns the exit code.
///
/// To be called first in `main`, before there is another thread or descriptor.
pub fn run(engine: &'static dyn Engine, arguments: &[OsString]) -> u8 {
    local_time::set();
    let name = arguments.first().map_or(OsStr::new(""), OsString::as_os_str);
    if name == serving::TITLE {
        return serve(engine);
    }
    let starter = match name == daemon::TITLE {
        true => match Starter::inherit() {
            Ok(starter) => Some(starter),
            Err(error) => return fail(&format!("setsid() failed {}", reason(&error))),
        },
        false => None,
    };
    let as_nginx = starter.is_some() || Path::new(name).file_name() == Some(OsStr::new("nginx"));
    match command_line::parse(arguments.get(1..).unwrap_or_default(), as_nginx) {
        Ok(Command::Demo) => launch(engine, demo_plan::plan, None),
        Ok(Command::Proxy { listen, backend, print_config }) => {
            proxy(engine, &listen, &backend, print_config)
        }
        Ok(Command::Nginx(options)) => nginx(engine, &options, starter, arguments),
        Err(message) if !as_nginx && arguments.get(1).is_some_and(|word| word == "proxy") => {
            fail_plainly(&message)
        }
        Err(message) => fail(&message),
    }
}

fn nginx(
    engine: &'static dyn Engine,
    options: &Options,
    starter: Option<Starter>,
    arguments: &[OsString],
) -> u8 {
    if options.version {
        show_version(engine, options);
        if !options.test {
            return 0;
        }
    }
    if options.test {
        return inspect::test(engine, options);
    }
    if let Some(action) = options.signal {
        return inspect::signal(engine, &options.load_options(), action);
    }
    let load_options = options.load_options();
    if starter.is_none() && wants_daemon(engine, &load_options) {
        return match daemon::detach(arguments.get(1..).unwrap_or_default()) {
            Ok(code) => code,
            Err(error) => fail(&format!("the detached process can't start {}", reason(&error))),
        };
    }
    launch(engine, || Ok(LaunchPlan::from_disk(load_options)), starter)
}

fn proxy(engine: &'static dyn Engine, listen: &str, backend: &str, print_config: bool) -> u8 {
    let plan = match proxy::plan(listen, backend) {
        Ok(plan) => plan,
        Err(message) => return fail_plainly(&message),
    };
    if print_config {
        let text = plan.text.unwrap_or_default();
        return u8::from(io::stdout().write_all(text.as_bytes()).is_err());
    }
    launch(engine, || Ok(plan), None)
}

/// Run the monitor in this process.
fn launch(
    engine: &'static dyn Engine,
    plan: impl FnOnce() -> Result<LaunchPlan, String>,
    starter: Option<Starter>,
) -> u8 {
    // Before the plan: the demo's starts threads, and they must have the signals blocked.
    let signals = match Signals::block(monitor::SIGNALS) {
        Ok(signals) => signals,
        Err(error) => return fail(&format!("signalfd() failed {}", reason(&error))),
    };
    let plan = match plan() {
        Ok(plan) => plan,
        Err(message) => return fail(&message),
    };
    monitor::run(engine, &plan, signals, starter)
}

/// What `daemon` says. A configuration with errors is left to the monitor to explain.
fn wants_daemon(engine: &dyn Engine, options: &LoadOptions) -> bool {
    // Most who write it write `off`; then nothing else needs to be read twice, and a pipe named in it cannot be.
    if says_daemon_off(options) {
        return false;
    }
    let loaded = engine.load(options, 1, &world::DiskWorld::without_logs());
    loaded.snapshot.is_some_and(|snapshot| snapshot.core.daemon)
}

fn says_daemon_off(options: &LoadOptions) -> bool {
    let parsed = conf::parse(
        &conf::Options {
            main: &options.main_file,
            command_line: options.directives.as_deref().map(str::as_bytes),
            files: &conf::DiskFiles,
        },
        &mut conf::Diagnostics::default(),
    );
    let says = |line: &conf::Directive| {
        line.name.text() == "daemon" && line.args.iter().any(|word| *word.bytes == *b"off")
    };
    parsed.directives.iter().any(says)
}

fn serve(engine: &'static dyn Engine) -> u8 {
    let channel = sys::process::inherited(serving::CHANNEL_FD).map(sys::passing::Channel::from_fd);
    match (channel, Signals::block(monitor::SIGNALS)) {
        (Ok(channel), Ok(signals)) => control::serve(engine, channel, Some(signals)),
        _ => fail("the serving process is started by the monitor only"),
    }
}

fn show_version(engine: &dyn Engine, options: &Options) {
    let mut text = version::version();
    if options.help {
        text.push_str(&command_line::help());
    }
    if options.configure {
        text.push_str(&version::configure(&engine.directives()));
    }
    let _ = io::stderr().write_all(text.as_bytes());
}

fn fail(message: &str) -> u8 {
    say(message);
    1
}

/// About something nginx does not have.
fn fail_plainly(message: &str) -> u8 {
    let _ = io::stderr().write_all(format!("tidegate: {message}\n").as_bytes());
    1
}
