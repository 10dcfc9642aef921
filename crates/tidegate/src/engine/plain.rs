//! The least engine that can stand behind the processes: a few main directives, sockets that answer one line.
//!
//! The process model is tested with it, so that those tests fail for reasons of the process model alone. A client sends
//! a line; `hold` keeps the connection until the client leaves, `abort` kills the process, anything else is answered
//! with the text of `return` and the connection is closed.

use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sys::listen::{Address, ListenOptions};

use super::{
    Core, Counts, Diagnostic, Engine, ErrorLogSpec, Fleet, FleetEvent, FleetPlan, ListenSpec, LoadOptions,
    Loaded, Snapshot, World,
};
use crate::error_log::Level;
use crate::mailbox::{self, Receiver, Sender};

/// The engine.
pub struct Plain;

/// What a plain configuration says beyond the main context.
#[derive(Default)]
struct Inner {
    text: String,
    log: Option<Arc<crate::error_log::LogFile>>,
    refuse: bool,
    abort: bool,
}

impl Engine for Plain {
    fn load(&self, options: &LoadOptions, world: &dyn World) -> Loaded {
        let mut loader = Loader::new(options, world);
        let parsed = loader.directives().and_then(|()| loader.file(&options.main_file));
        let loaded = parsed.and_then(|()| loader.finish());
        let (snapshot, diagnostics) = match loaded {
            Ok(snapshot) => (Some(Arc::new(snapshot)), Vec::new()),
            Err(message) => (None, vec![Diagnostic { level: Level::Emerg, message, rich: None }]),
        };
        Loaded { syntax_ok: snapshot.is_some(), snapshot, diagnostics, sources: loader.sources }
    }

    fn start(&self, plan: FleetPlan) -> io::Result<Box<dyn Fleet>> {
        let (orders, inbox) = mailbox::mailbox()?;
        let held = Arc::new(AtomicUsize::new(0));
        let acceptor =
            Acceptor { inbox, events: plan.events, serving: None, sockets: Vec::new(), held: held.clone() };
        let thread = thread::spawn(move || acceptor.run());
        Ok(Box::new(PlainFleet { orders, thread: Some(thread), held }))
    }

    fn modules(&self) -> Vec<&'static str> {
        Vec::new()
    }
}

struct Loader<'w> {
    options: &'w LoadOptions,
    world: &'w dyn World,
    sources: Vec<(PathBuf, Vec<u8>)>,
    core: Core,
    listeners: Vec<ListenSpec>,
    temp_paths: Vec<PathBuf>,
    inner: Inner,
}

impl<'w> Loader<'w> {
    fn new(options: &'w LoadOptions, world: &'w dyn World) -> Self {
        let core = Core {
            workers: 1,
            user: None,
            pid: PathBuf::from(crate::PID_FILE),
            daemon: true,
            master_process: true,
            worker_connections: 512,
            rlimit_nofile: None,
            rlimit_core: None,
            shutdown_timeout: None,
            working_directory: None,
            env: Vec::new(),
            error_logs: Vec::new(),
        };
        let (sources, listeners, temp_paths) = (Vec::new(), Vec::new(), Vec::new());
        Self { options, world, sources, core, listeners, temp_paths, inner: Inner::default() }
    }

    fn directives(&mut self) -> Result<(), String> {
        let text = self.options.directives.clone().unwrap_or_default();
        self.text(&text, "command line")
    }

    fn file(&mut self, path: &Path) -> Result<(), String> {
        let name = path.display();
        let bytes = self.world.read(path).map_err(|error| failed_open(path, &error))?;
        let text = String::from_utf8(bytes.clone()).map_err(|_| format!("\"{name}\" is not UTF-8"))?;
        self.sources.push((path.to_owned(), bytes));
        self.text(&text, &name.to_string())
    }

    fn text(&mut self, text: &str, name: &str) -> Result<(), String> {
        for (number, line) in text.lines().enumerate() {
            for directive in line.split([';', '{', '}']) {
                let words: Vec<_> = directive.split_whitespace().collect();
                if let Some((first, rest)) = words.split_first() {
                    self.directive(first, rest)
                        .map_err(|error| format!("{error} in {name}:{}", number + 1))?;
                }
            }
        }
        Ok(())
    }

    fn directive(&mut self, name: &str, words: &[&str]) -> Result<(), String> {
        let first = || {
            words
                .first()
                .copied()
                .ok_or_else(|| format!("invalid number of arguments in \"{name}\" directive"))
        };
        let number = || first()?.parse::<u64>().map_err(|_| format!("invalid value in \"{name}\" directive"));
        match name {
            "events" | "http" | "server" => {}
            "include" => {
                for path in self.world.glob(&self.full(first()?)).map_err(|error| error.to_string())? {
                    self.file(&path)?;
                }
            }
            "daemon" => self.core.daemon = first()? == "on",
            "master_process" => self.core.master_process = first()? == "on",
            "pid" => self.core.pid = self.full(first()?),
            "user" => self.core.user = Some((first()?.into(), words.get(1).map(|group| (*group).into()))),
            "env" => self.core.env.push(first()?.into()),
            "worker_processes" => self.core.workers = number()? as usize,
            "worker_connections" => self.core.worker_connections = number()? as usize,
            "worker_rlimit_nofile" => self.core.rlimit_nofile = Some(number()?),
            "worker_shutdown_timeout" => self.core.shutdown_timeout = Some(Duration::from_millis(number()?)),
            "working_directory" => self.core.working_directory = Some(self.full(first()?)),
            "error_log" => {
                let level = words.get(1).map_or(Some(Level::Error), |word| Level::from_name(word));
                let level = level.ok_or_else(|| format!("invalid log level \"{}\"", words[1]))?;
                let file = match first()? {
                    "stderr" => None,
                    path => Some(self.log(path)?),
                };
                self.core.error_logs.push(ErrorLogSpec { file, level });
            }
            "access_log" => self.inner.log = Some(self.log(first()?)?),
            "temp_path" => self.temp_paths.push(self.full(first()?)),
            "resolve" => {
                drop(self.world.resolve(first()?, 80).map_err(|_| "host not found in upstream".to_owned())?)
            }
            "listen" => self.listen(first()?, &words[1..])?,
            "return" => self.inner.text = words.join(" "),
            "refuse" => self.inner.refuse = true,
            "abort" => self.inner.abort = true,
            _ => return Err(format!("unknown directive \"{name}\"")),
        }
        Ok(())
    }

    fn listen(&mut self, address: &str, words: &[&str]) -> Result<(), String> {
        let address = match address.strip_prefix("unix:") {
            Some(path) => Address::Unix(PathBuf::from(path)),
            None => Address::Inet(address.parse().map_err(|_| format!("host not found in \"{address}\""))?),
        };
        let mut options =
            ListenOptions { reuse_port: words.contains(&"reuseport"), ..ListenOptions::default() };
        if let Some(backlog) = words.iter().find_map(|word| word.strip_prefix("backlog=")) {
            options.backlog = backlog.parse().map_err(|_| format!("invalid backlog \"{backlog}\""))?;
        }
        self.listeners.push(ListenSpec { address, options });
        Ok(())
    }

    fn log(&self, name: &str) -> Result<Arc<crate::error_log::LogFile>, String> {
        let path = self.full(name);
        self.world.open_log(&path).map_err(|error| failed_open(&path, &error))
    }

    fn full(&self, name: &str) -> PathBuf {
        self.options.prefix.join(name)
    }

    fn finish(&mut self) -> Result<Snapshot, String> {
        if self.core.error_logs.is_empty() {
            let default = self.options.error_log.clone();
            let file = default.map(|path| self.log(&path.to_string_lossy())).transpose()?;
            self.core.error_logs.push(ErrorLogSpec { file, level: Level::Error });
        }
        Ok(Snapshot {
            core: self.core.clone(),
            listeners: std::mem::take(&mut self.listeners),
            temp_paths: std::mem::take(&mut self.temp_paths),
            inner: Arc::new(std::mem::take(&mut self.inner)),
        })
    }
}

enum Task {
    Install(u64, Arc<Snapshot>, Vec<(Address, OwnedFd)>),
    Quit(Option<Instant>),
    Stop,
}

struct PlainFleet {
    orders: Sender<Task>,
    thread: Option<thread::JoinHandle<()>>,
    held: Arc<AtomicUsize>,
}

impl Fleet for PlainFleet {
    fn install(
        &mut self,
        number: u64,
        snapshot: Arc<Snapshot>,
        sockets: Vec<(Address, OwnedFd)>,
    ) -> Result<(), String> {
        let inner = inner_of(&snapshot);
        if inner.refuse {
            return Err("refused as asked".into());
        }
        if inner.abort {
            std::process::abort();
        }
        self.orders.send(Task::Install(number, snapshot, sockets));
        Ok(())
    }

    fn quit(&mut self, deadline: Option<Instant>) {
        self.orders.send(Task::Quit(deadline));
    }

    fn stop(&mut self) {
        self.orders.send(Task::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }

    fn flush_logs(&mut self) {}

    fn counts(&self) -> Counts {
        Counts { connections: self.held.load(Ordering::Relaxed), tunnels: 0 }
    }
}

/// One configuration while connections still use it: the last one to go reports it.
struct Use {
    number: u64,
    snapshot: Option<Arc<Snapshot>>,
    events: Sender<FleetEvent>,
}

impl Drop for Use {
    fn drop(&mut self) {
        if let Some(snapshot) = self.snapshot.take() {
            self.events.send(FleetEvent::Retired(self.number, snapshot));
        }
    }
}

struct Acceptor {
    inbox: Receiver<Task>,
    events: Sender<FleetEvent>,
    serving: Option<Arc<Use>>,
    sockets: Vec<(Address, OwnedFd)>,
    held: Arc<AtomicUsize>,
}

impl Acceptor {
    fn run(mut self) {
        let mut quitting: Option<Option<Instant>> = None;
        loop {
            while let Some(task) = self.inbox.next() {
                match task {
                    Task::Install(number, snapshot, sockets) => self.install(number, snapshot, sockets),
                    Task::Quit(deadline) => {
                        self.accept_all();
                        self.sockets.clear();
                        quitting = Some(deadline);
                    }
                    Task::Stop => return,
                }
            }
            self.accept_all();
            if let Some(deadline) = quitting {
                let late = deadline.is_some_and(|at| at <= Instant::now());
                if late || self.held.load(Ordering::SeqCst) == 0 {
                    self.events.send(FleetEvent::Idle);
                    quitting = None;
                }
            }
            let mut fds: Vec<_> = self.sockets.iter().map(|(_, fd)| PollFd::new(fd, PollFlags::IN)).collect();
            fds.push(PollFd::new(&self.inbox, PollFlags::IN));
            let short = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
            let _ = poll(&mut fds, quitting.map(|_| &short));
        }
    }

    fn install(&mut self, number: u64, snapshot: Arc<Snapshot>, sockets: Vec<(Address, OwnedFd)>) {
        self.accept_all();
        let stays = |address: &Address| snapshot.listeners.iter().any(|spec| spec.address == *address);
        let (kept, removed): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.sockets).into_iter().partition(|(address, _)| stays(address));
        self.sockets = kept;
        self.sockets.extend(sockets);
        self.serving = Some(Arc::new(Use { number, snapshot: Some(snapshot), events: self.events.clone() }));
        if !removed.is_empty() {
            let addresses = removed.iter().map(|(address, _)| address.clone()).collect();
            drop(removed);
            self.events.send(FleetEvent::ListenersClosed(addresses));
        }
    }

    fn accept_all(&self) {
        for (_, socket) in &self.sockets {
            while let Ok(Some(accepted)) = sys::listen::accept(socket) {
                let (serving, held) = (self.serving.clone(), self.held.clone());
                held.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || {
                    if let Some(snapshot) = serving.as_ref().and_then(|serving| serving.snapshot.as_ref()) {
                        let _ = answer(accepted.socket, &inner_of(snapshot));
                    }
                    drop(serving);
                    held.fetch_sub(1, Ordering::SeqCst);
                });
            }
        }
    }
}

/// A unix socket reads and writes just as well through a `TcpStream`.
fn answer(socket: OwnedFd, inner: &Inner) -> io::Result<()> {
    let stream = TcpStream::from(socket);
    stream.set_nonblocking(false)?;
    let mut reader = BufReader::new(&stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    match line.trim() {
        "abort" => std::process::abort(),
        "hold" => {
            (&stream).write_all(b"held\n")?;
            reader.read_line(&mut line)?;
        }
        _ => {
            if let Some(log) = &inner.log {
                log.write(format!("{}\n", inner.text).as_bytes())?;
            }
            (&stream).write_all(format!("{}\n", inner.text).as_bytes())?;
        }
    }
    Ok(())
}

fn inner_of(snapshot: &Snapshot) -> Arc<Inner> {
    snapshot.inner.clone().downcast().unwrap_or_default()
}

fn failed_open(path: &Path, error: &io::Error) -> String {
    format!("open() \"{}\" failed {}", path.display(), crate::error_log::reason(error))
}
