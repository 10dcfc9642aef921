//! The seam between the processes and what they run: everything this crate knows of configurations and connections.
//!
//! The monitor loads a configuration to learn what it opens; the serving process loads it again and serves it. Both ask
//! the same [`Engine`]. Nothing here knows a directive: a snapshot arrives with the few values a process model needs.

use std::any::Any;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use conf::{Diagnostics, Sources};
pub use http::config::{Core, World};
pub use http::log::{Level, LogFile};
use sys::listen::{Address, ListenOptions};

use crate::mailbox::Sender;

pub mod house;
pub mod plain;

/// Which configuration to load, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// The main file, absolute or relative to the working directory.
    pub main_file: PathBuf,
    /// `-p`: where relative paths start, ends in a slash.
    pub prefix: PathBuf,
    /// `-g`: directives read before the main file.
    pub directives: Option<String>,
    /// `-e`: the error log when the configuration names none; the path `stderr` is stderr.
    pub error_log: PathBuf,
    /// `-t`, `-T`: nothing will be served.
    pub test_only: bool,
}

/// A configuration that was loaded, or why it was not.
pub struct Loaded {
    /// `None` when there was an error.
    pub snapshot: Option<Arc<Snapshot>>,
    /// Everything there is to say, errors and warnings.
    pub diagnostics: Diagnostics,
    /// Every file read, once, in the order of first reading.
    pub sources: Sources,
}

/// A compiled configuration, as far as the processes care.
pub struct Snapshot {
    /// The main context.
    pub core: Core,
    /// More of it, which only the processes need.
    pub process: ProcessConf,
    /// Every socket to listen on, one entry per address.
    pub listeners: Vec<ListenSpec>,
    /// The engine's own.
    pub inner: Arc<dyn Any + Send + Sync>,
}

/// Directives about the process that mean nothing to requests.
#[derive(Clone, Debug, Default)]
pub struct ProcessConf {
    /// `worker_rlimit_core`, bytes.
    pub rlimit_core: Option<u64>,
    /// `working_directory` of the serving process.
    pub working_directory: Option<PathBuf>,
    /// `env`: `NAME` passes the monitor's variable on, `NAME=value` sets one.
    pub env: Vec<String>,
    /// Directories for temporary files (`client_body_temp_path`): made before serving, owned by `user`.
    pub temp_paths: Vec<PathBuf>,
}

/// One listening socket, as the `listen` lines of its address agree on. The address is its identity across reloads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenSpec {
    /// Where.
    pub address: Address,
    /// The options of the socket. `reuse_port`: one socket a worker.
    pub options: ListenOptions,
}

/// What a fleet tells the control thread, from any thread.
pub enum FleetEvent {
    /// Somebody let go of a configuration. It comes along so that it is freed by the control thread and not by one that
    /// carries traffic.
    Released {
        /// What was held.
        snapshot: Arc<dyn Any + Send + Sync>,
        /// The number of the configuration, when nobody holds it any more.
        retired: Option<u64>,
    },
    /// Sockets of these addresses were removed by a reload, were accepted until empty and are closed.
    ListenersClosed(Vec<Address>),
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
        snapshot: &Arc<Snapshot>,
        sockets: Vec<(Address, OwnedFd)>,
    ) -> Result<(), String>;
    /// Give up what still runs under generations before this one (`worker_shutdown_timeout` after a reload).
    fn retire(&mut self, generation: u64);
    /// Stop accepting and finish what is under way, spread over at most `within`.
    fn quit(&mut self, within: Option<Duration>);
    /// Stop now. Returns when the threads are gone or when about a second has passed.
    fn stop(&mut self);
    /// What is open now. After [`Fleet::quit`] the process may end when that is nothing.
    fn counts(&self) -> Counts;
}

/// Open things in the serving process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Client connections, tunnels not counted.
    pub connections: usize,
    /// Live tunnels.
    pub tunnels: usize,
}

/// What the binary is made of, apart from processes.
pub trait Engine: Send + Sync {
    /// Read and compile a configuration, which is the `generation`th. Starts no thread and asks only `world`.
    fn load(&self, options: &LoadOptions, generation: u64, world: &dyn World) -> Loaded;
    /// Start the threads that `snapshot` asks for. Nothing is served until [`Fleet::install`], first called with this
    /// same snapshot.
    fn start(&self, snapshot: &Arc<Snapshot>, events: Sender<FleetEvent>) -> io::Result<Box<dyn Fleet>>;
    /// Names of the directives that do here what they do on nginx; `-V` is made from them.
    fn directives(&self) -> Vec<&'static str>;
}
