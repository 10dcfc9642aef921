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
use std::time::Duration;

use conf::{Diagnostics, Directive};
use http::log::ErrorLog;
use rustix::event::{PollFd, PollFlags, poll};
use sys::listen::{Address, ListenOptions};

use super::{
    Core, Counts, Engine, Fleet, FleetEvent, Level, ListenSpec, LoadOptions, Loaded, LogFile, ProcessConf,
    Snapshot, World,
};
use crate::error_log::STDERR;
use crate::mailbox::{self, Receiver, Sender};

/// The engine.
pub struct Plain;

/// What a plain configuration says beyond the main context.
#[derive(Default)]
struct Inner {
    text: String,
    log: Option<Arc<LogFile>>,
    refuse: bool,
    abort: bool,
}

impl Engine for Plain {
    fn load(&self, options: &LoadOptions, _generation: u64, world: &dyn World) -> Loaded {
        let mut diagnostics = Diagnostics::new();
        let command_line = options.directives.as_deref().map(str::as_bytes);
        let parsed = conf::parse(
            &conf::Options { main: &options.main_file, command_line, files: world },
            &mut diagnostics,
        );
        let mut loader = Loader::new(options, world);
        loader.block(&parsed.directives, &mut diagnostics);
        if let Err(message) = loader.finish() {
            diagnostics.error(None, message);
        }
        let snapshot = (!diagnostics.has_errors()).then(|| Arc::new(loader.snapshot()));
        Loaded { snapshot, diagnostics, sources: parsed.sources }
    }

    fn start(&self, _snapshot: &Arc<Snapshot>, events: Sender<FleetEvent>) -> io::Result<Box<dyn Fleet>> {
        let (orders, inbox) = mailbox::mailbox()?;
        let held = Arc::new(AtomicUsize::new(0));
        let acceptor = Acceptor { inbox, events, serving: None, sockets: Vec::new(), held: held.clone() };
        let thread = thread::spawn(move || acceptor.run());
        Ok(Box::new(PlainFleet { orders, thread: Some(thread), held }))
    }

    fn directives(&self) -> Vec<&'static str> {
        Vec::new()
    }
}

struct Loader<'w> {
    options: &'w LoadOptions,
    world: &'w dyn World,
    core: Core,
    process: ProcessConf,
    error_logs: Vec<(Level, Arc<LogFile>)>,
    listeners: Vec<ListenSpec>,
    inner: Inner,
}

impl<'w> Loader<'w> {
    fn new(options: &'w LoadOptions, world: &'w dyn World) -> Self {
        let core = Core { pid: PathBuf::from(crate::PID_FILE), ..Core::default() };
        let (process, inner) = (ProcessConf::default(), Inner::default());
        Self { options, world, core, process, error_logs: Vec::new(), listeners: Vec::new(), inner }
    }

    fn block(&mut self, directives: &[Directive], diagnostics: &mut Diagnostics) {
        for directive in directives {
            let words: Vec<_> = directive.args.iter().map(|word| word.text().into_owned()).collect();
            let words: Vec<_> = words.iter().map(String::as_str).collect();
            if let Err(message) = self.directive(&directive.name.text(), &words) {
                diagnostics.error(directive.name.span, message);
            }
            self.block(directive.block.as_deref().unwrap_or_default(), diagnostics);
        }
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
            "daemon" => self.core.daemon = first()? == "on",
            "master_process" => self.core.master_process = first()? == "on",
            "pid" => self.core.pid = self.full(first()?),
            "user" => self.core.user = Some((first()?.into(), words.get(1).map(|group| (*group).into()))),
            "env" => self.process.env.push(first()?.into()),
            "worker_processes" => self.core.workers = number()? as usize,
            "worker_connections" => self.core.connections = number()? as usize,
            "worker_rlimit_nofile" => self.core.rlimit_nofile = Some(number()?),
            "worker_shutdown_timeout" => self.core.shutdown_timeout_ms = Some(number()?),
            "working_directory" => self.process.working_directory = Some(self.full(first()?)),
            "error_log" => {
                let level = words.get(1).map_or(Some(Level::Error), |word| Level::of(word));
                let level = level.ok_or_else(|| format!("invalid log level \"{}\"", words[1]))?;
                let file = self.log(first()?)?;
                self.error_logs.push((level, file));
            }
            "access_log" => self.inner.log = Some(self.log(first()?)?),
            "temp_path" => self.process.temp_paths.push(self.full(first()?)),
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

    fn log(&self, name: &str) -> Result<Arc<LogFile>, String> {
        let path = if name == STDERR { PathBuf::from(STDERR) } else { self.full(name) };
        self.world.open_log(&path).map_err(|error| failed_open(&path, &error))
    }

    fn full(&self, name: &str) -> PathBuf {
        self.options.prefix.join(name)
    }

    fn finish(&mut self) -> Result<(), String> {
        if self.error_logs.is_empty() {
            let file = self.log(&self.options.error_log.to_string_lossy())?;
            self.error_logs.push((Level::Error, file));
        }
        Ok(())
    }

    fn snapshot(self) -> Snapshot {
        let core = Core { error_log: Arc::new(ErrorLog::new(self.error_logs)), ..self.core };
        Snapshot { core, process: self.process, listeners: self.listeners, inner: Arc::new(self.inner) }
    }
}

enum Task {
    Install(u64, Arc<Snapshot>, Vec<(Address, OwnedFd)>),
    Quit,
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
        snapshot: &Arc<Snapshot>,
        sockets: Vec<(Address, OwnedFd)>,
    ) -> Result<(), String> {
        let inner = inner_of(snapshot);
        if inner.refuse {
            return Err("refused as asked".into());
        }
        if inner.abort {
            std::process::abort();
        }
        self.orders.send(Task::Install(number, snapshot.clone(), sockets));
        Ok(())
    }

    fn retire(&mut self, _generation: u64) {}

    fn quit(&mut self, _within: Option<Duration>) {
        self.orders.send(Task::Quit);
    }

    fn stop(&mut self) {
        self.orders.send(Task::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }

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
            self.events.send(FleetEvent::Released { snapshot, retired: Some(self.number) });
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
        loop {
            while let Some(task) = self.inbox.next() {
                match task {
                    Task::Install(number, snapshot, sockets) => self.install(number, snapshot, sockets),
                    Task::Quit => {
                        self.accept_all();
                        self.sockets.clear();
                    }
                    Task::Stop => return,
                }
            }
            self.accept_all();
            let mut fds: Vec<_> = self.sockets.iter().map(|(_, fd)| PollFd::new(fd, PollFlags::IN)).collect();
            fds.push(PollFd::new(&self.inbox, PollFlags::IN));
            let _ = poll(&mut fds, None);
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
                log.append(format!("{}\n", inner.text).as_bytes());
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
