//! The main context and `events`: what the process is made of.

use http::config::{
    Args, BlockKind, Context, Core, Directive, Line, Merge, Module, ModuleConf, Problem, RawSet, conf_of,
};
use http::set;

const MAIN: Context = Context::MAIN;

/// nginx's core module.
pub static MODULE: Module = Module {
    name: "core",
    doc: "The process: workers, limits, user, pid file.",
    directives: &[
        Directive {
            name: "worker_processes",
            at: MAIN,
            default: "1",
            doc: "Threads that serve requests, and as many that relay tunnels; `auto` is the number of processors.",
            set: set!(Raw, |raw, line| {
                let count = match line.bytes(0) {
                    b"auto" => processors(),
                    _ => to_usize(line.number(0..=4096).map_err(|_| line.invalid_value(0, WORKERS))?).max(1),
                };
                line.once(&mut raw.workers, count)
            }),
            ..Directive::NONE
        },
        Directive {
            name: "worker_rlimit_nofile",
            at: MAIN,
            doc: "Descriptors a worker may have open; the process gets workers times this.",
            set: set!(Raw, |raw, line| {
                let limit = line.number(0..=u64::MAX)?;
                line.once(&mut raw.rlimit_nofile, limit)
            }),
            ..Directive::NONE
        },
        Directive {
            name: "worker_shutdown_timeout",
            at: MAIN,
            doc: "Longest time that what a reload or a graceful stop retires may go on.",
            set: set!(Raw, |raw, line| {
                let time = line.time()?;
                line.once(&mut raw.shutdown_timeout_ms, time)
            }),
            ..Directive::NONE
        },
        Directive {
            name: "user",
            at: MAIN,
            args: Args::Between(1, 2),
            doc: "Who the serving process becomes when it was started as root.",
            set: set!(Raw, |raw, line| user(raw, line)),
            ..Directive::NONE
        },
        Directive {
            name: "pid",
            at: MAIN,
            doc: "The file that holds the process id; logs/nginx.pid, or /run/nginx.pid when the prefix is /etc/nginx.",
            set: set!(Raw, |raw, line| {
                let path = line.path(0);
                line.once(&mut raw.pid, path)
            }),
            ..Directive::NONE
        },
        Directive {
            name: "daemon",
            at: MAIN,
            args: Args::Flag,
            default: "on",
            doc: "Whether to go into the background.",
            set: set!(Raw, |raw, line| {
                let flag = line.flag()?;
                line.once(&mut raw.daemon, flag)
            }),
            ..Directive::NONE
        },
        Directive {
            name: "master_process",
            at: MAIN,
            args: Args::Flag,
            default: "on",
            doc: "Whether a monitor watches the serving process.",
            set: set!(Raw, |raw, line| {
                let flag = line.flag()?;
                line.once(&mut raw.master_process, flag)
            }),
            ..Directive::NONE
        },
        Directive {
            name: "events",
            at: MAIN,
            args: Args::NONE,
            doc: "Holds what concerns connections.",
            block: Some(BlockKind::Collects(Context::EVENTS, end_of_events)),
            set: set!(Raw, |raw, line| {
                if std::mem::replace(&mut raw.has_events, true) { Err(line.duplicate()) } else { Ok(()) }
            }),
            ..Directive::NONE
        },
        Directive {
            name: "worker_connections",
            at: Context::EVENTS,
            doc: "Connections a worker may hold, a tunnel counting two; 512 when it isn't set.",
            set: set!(RawEvents, |raw, line| {
                let number = conf::value::number(line.bytes(0)).filter(|number| *number > 0);
                let number = number.ok_or_else(|| {
                    Problem::new(format!("invalid number \"{}\"", line.text(0))).at(line.word(0))
                })?;
                line.once(&mut raw.connections, to_usize(number))
            }),
            ..Directive::NONE
        },
    ],
    conf: Some(conf_of::<Raw>()),
    ..Module::NONE
};

const WORKERS: &str = "it is a number of threads, or \"auto\"";

/// What the main level wrote.
#[derive(Default)]
pub struct Raw {
    workers: Option<usize>,
    rlimit_nofile: Option<u64>,
    shutdown_timeout_ms: Option<u64>,
    user: Option<(String, Option<String>)>,
    pid: Option<std::path::PathBuf>,
    daemon: Option<bool>,
    master_process: Option<bool>,
    has_events: bool,
}

/// What `events` wrote.
#[derive(Default)]
pub struct RawEvents {
    connections: Option<usize>,
}

/// Carries what `events` wrote to the merge of the main level.
#[derive(Default)]
struct Connections(Option<usize>);

impl ModuleConf for Raw {
    type Merged = Core;

    fn merge(self, outer: &Core, at: &mut Merge<'_>) -> Result<Core, Problem> {
        Ok(Core {
            workers: self.workers.unwrap_or(outer.workers),
            connections: at.registry.of::<Connections>().0.unwrap_or(outer.connections),
            rlimit_nofile: self.rlimit_nofile.or(outer.rlimit_nofile),
            user: self.user.or_else(|| outer.user.clone()),
            pid: self.pid.unwrap_or_else(|| at.prefixes.pid()),
            daemon: self.daemon.unwrap_or(outer.daemon),
            master_process: self.master_process.unwrap_or(outer.master_process),
            shutdown_timeout_ms: self.shutdown_timeout_ms.or(outer.shutdown_timeout_ms),
            // The loader puts the main level's log here; the directive is http_core's.
            error_log: outer.error_log.clone(),
            has_events: self.has_events,
        })
    }
}

fn end_of_events(raws: &mut RawSet, line: &mut Line<'_>) -> Result<(), Problem> {
    let raw = raws.take::<RawEvents>().unwrap_or_default();
    line.registry().of::<Connections>().0 = raw.connections;
    Ok(())
}

fn user(raw: &mut Raw, line: &mut Line<'_>) -> Result<(), Problem> {
    let group = (line.count() > 1).then(|| line.text(1));
    let user = (line.text(0), group);
    let matters = line.world().knows_user(&user).map_err(|message| Problem::new(message).at(line.word(0)))?;
    if !matters {
        line.warn(
            "the \"user\" directive makes sense only if the master process runs with super-user privileges, ignored",
        );
    }
    line.once(&mut raw.user, user)
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
