//! The seam between the processes and what they run: everything this crate knows of configurations and connections.
//!
//! The monitor loads a configuration to learn what it opens; the serving process loads it again and serves it. Both ask
//! the same [`Engine`]. Nothing here knows a directive: a snapshot arrives with the few values a process model needs.

use std::any::Any;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sys::listen::{Address, ListenOptions};

use crate::error_log::{Level, LogFile};
use crate::mailbox::Sender;

pub mod plain;

/// What loading a configuration may ask of the outside. One implementation asks the disk and writes down the answers,
/// the other only repeats them.
pub trait World {
    /// The bytes of a file the configuration names: an include, a certificate, a password list.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// The paths an `include` mask matches, in order of their bytes; none is no error.
    fn glob(&self, pattern: &Path) -> io::Result<Vec<PathBuf>>;
    /// The addresses of a host name that is written in the configuration.
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
    /// A log file, opened to append and created where missing. One path is one file, however often it is asked for.
    fn open_log(&self, path: &Path) -> io::Result<Arc<LogFile>>;
}

/// Which configuration to load, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// The main file, absolute or relative to the working directory.
    pub main_file: PathBuf,
    /// `-p`: where relative paths start, ends in a slash.
    pub prefix: PathBuf,
    /// `-g`: directives read before the main file.
    pub directives: Option<String>,
    /// `-e`: the error log when the configuration names none. `None` is stderr.
    pub error_log: Option<PathBuf>,
    /// `-t`, `-T`: nothing will be served.
    pub test_only: bool,
}

/// A configuration that was loaded, or why it was not.
pub struct Loaded {
    /// `None` when there was an error.
    pub snapshot: Option<Arc<Snapshot>>,
    /// Everything there is to say, errors and warnings, in the order found.
    pub diagnostics: Vec<Diagnostic>,
    /// The text itself could be read to its end, so `-t` may say so even when it can't be used.
    pub syntax_ok: bool,
    /// Every file read, once, in the order of first reading: its name in the dump of `-T`, and its bytes.
    pub sources: Vec<(PathBuf, Vec<u8>)>,
}

/// One line about a configuration.
#[derive(Clone, Debug)]
pub struct Diagnostic {
    /// `Emerg` stops the load, `Warn` and below do not.
    pub level: Level,
    /// nginx's form: `unknown directive "foo" in /etc/nginx/nginx.conf:1`.
    pub message: String,
    /// The same for a person at a terminal, with the line and a caret.
    pub rich: Option<String>,
}

/// A compiled configuration, as far as the processes care.
pub struct Snapshot {
    /// Values of the main context.
    pub core: Core,
    /// Every socket to listen on, one entry per address.
    pub listeners: Vec<ListenSpec>,
    /// Directories for temporary files (`client_body_temp_path`): made before serving, owned by `user`.
    pub temp_paths: Vec<PathBuf>,
    /// The engine's own.
    pub inner: Arc<dyn Any + Send + Sync>,
}

/// The main context.
#[derive(Clone, Debug)]
pub struct Core {
    /// `worker_processes`: threads of the serving process.
    pub workers: usize,
    /// `user name [group]`.
    pub user: Option<(String, Option<String>)>,
    /// `pid`, absolute.
    pub pid: PathBuf,
    /// `daemon`.
    pub daemon: bool,
    /// `master_process`.
    pub master_process: bool,
    /// `worker_connections`, of one worker.
    pub worker_connections: usize,
    /// `worker_rlimit_nofile`, of one worker.
    pub rlimit_nofile: Option<u64>,
    /// `worker_rlimit_core`, bytes.
    pub rlimit_core: Option<u64>,
    /// `worker_shutdown_timeout`.
    pub shutdown_timeout: Option<Duration>,
    /// `working_directory` of the serving process.
    pub working_directory: Option<PathBuf>,
    /// `env`: `NAME` passes the monitor's variable on, `NAME=value` sets one.
    pub env: Vec<String>,
    /// `error_log` of the main context, at least one.
    pub error_logs: Vec<ErrorLogSpec>,
}

/// One `error_log` line of the main context.
#[derive(Clone)]
pub struct ErrorLogSpec {
    /// `None` is stderr.
    pub file: Option<Arc<LogFile>>,
    /// What is written: this level and the graver ones.
    pub level: Level,
}

impl fmt::Debug for ErrorLogSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?}", self.file.as_ref().map(|file| file.path()), self.level)
    }
}

/// One listening socket, as the `listen` lines of its address agree on. The address is its identity across reloads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenSpec {
    /// Where.
    pub address: Address,
    /// The options of the socket. `reuse_port`: one socket a worker.
    pub options: ListenOptions,
}

/// What the serving process starts with.
pub struct FleetPlan {
    /// Threads that take connections.
    pub workers: usize,
    /// Where the fleet tells what happened, from any thread.
    pub events: Sender<FleetEvent>,
}

/// What a fleet tells the control thread.
pub enum FleetEvent {
    /// The last request on an old configuration is over. The snapshot comes along so that it is freed here and not on
    /// a thread that carries traffic.
    Retired(u64, Arc<Snapshot>),
    /// Sockets of these addresses were removed by a reload, were accepted until empty and are closed.
    ListenersClosed(Vec<Address>),
    /// After [`Fleet::quit`]: nothing is open any more.
    Idle,
    /// A worker died in a way that can't be contained.
    Fatal(String),
}

/// The threads that serve.
pub trait Fleet {
    /// Serve `snapshot` from now on; what is under way stays on the old one. `sockets` are the new ones: those of
    /// addresses that the snapshot still names are kept, those it no longer names are accepted until empty, closed,
    /// and reported. On `Err` nothing has changed.
    fn install(
        &mut self,
        generation: u64,
        snapshot: Arc<Snapshot>,
        sockets: Vec<(Address, OwnedFd)>,
    ) -> Result<(), String>;
    /// Stop accepting, finish what is under way, cut what is left at `deadline`, then report [`FleetEvent::Idle`].
    fn quit(&mut self, deadline: Option<Instant>);
    /// Stop now. Returns when the threads are gone or when about a second has passed.
    fn stop(&mut self);
    /// Write out what log buffers hold; their files are about to be replaced.
    fn flush_logs(&mut self);
    /// What is open now.
    fn counts(&self) -> Counts;
}

/// Open things in the serving process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Client connections, tunnels not counted.
    pub connections: usize,
    /// Live tunnels.
    pub tunnels: usize,
}

/// What the binary is made of, apart from processes.
pub trait Engine: Send + Sync {
    /// Read and compile a configuration. Starts no thread and asks only `world`.
    fn load(&self, options: &LoadOptions, world: &dyn World) -> Loaded;
    /// Start the threads. Nothing is served until [`Fleet::install`].
    fn start(&self, plan: FleetPlan) -> io::Result<Box<dyn Fleet>>;
    /// Names of the modules that are there, in nginx's words (`http_proxy`, `http_ssl`); `-V` is made from them.
    fn modules(&self) -> Vec<&'static str>;
}
