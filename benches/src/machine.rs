//! The machine: which core carries what, how many descriptors there are, and one line that says what it is.

use std::io;
use std::process::{Child, Command};

use rustix::process::{Resource, Rlimit};
use rustix::thread::CpuSet;

/// Cores looked at; `CpuSet` has room for this many.
const CORES_MAX: usize = 1024;

/// Where a process is to run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Core {
    /// On this core alone.
    Number(usize),
    /// Wherever the kernel likes: this machine lets us pin nothing, or has one core.
    Any,
}

impl Core {
    /// Starts a child on this core. The calling thread moves there for a moment, because a child inherits its parent's
    /// mask: so nothing the child starts can escape, however soon.
    pub(crate) fn spawn(self, command: &mut Command) -> io::Result<Child> {
        let Core::Number(number) = self else { return command.spawn() };
        let before = rustix::thread::sched_getaffinity(None)?;
        let mut wanted = CpuSet::new();
        wanted.set(number);
        rustix::thread::sched_setaffinity(None, &wanted)?;
        let child = command.spawn();
        rustix::thread::sched_setaffinity(None, &before)?;
        child
    }
}

impl std::fmt::Display for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Core::Number(number) => write!(f, "core {number}"),
            Core::Any => f.write_str("any core"),
        }
    }
}

/// A core for the proxy and another for the load; both `Any` where that can't be had.
pub(crate) fn two_cores() -> (Core, Core) {
    let Ok(allowed) = rustix::thread::sched_getaffinity(None) else { return (Core::Any, Core::Any) };
    let mut cores = (0..CORES_MAX).filter(|number| allowed.is_set(*number));
    let (Some(proxy), Some(load)) = (cores.next(), cores.next()) else { return (Core::Any, Core::Any) };
    // Asking for what we already have tells whether asking is permitted at all (some sandboxes forbid it).
    match rustix::thread::sched_setaffinity(None, &allowed) {
        Ok(()) => (Core::Number(proxy), Core::Number(load)),
        Err(_) => (Core::Any, Core::Any),
    }
}

/// Raises the soft limit of open files to the hard one, for us and all we start. Returns it.
pub(crate) fn raise_descriptor_limit() -> u64 {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match rustix::process::setrlimit(Resource::Nofile, wanted) {
        Ok(()) => limit.maximum.unwrap_or(u64::MAX),
        Err(_) => limit.current.unwrap_or(u64::MAX),
    }
}

/// Kernel, processor, cores and load of this machine.
pub(crate) fn describe() -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processor
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name.to_owned()))
        .unwrap_or_else(|| "unknown processor".into());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("?");
    let (kernel, machine) = (kernel.trim(), std::env::consts::ARCH);
    format!("Linux {kernel} {machine}, {model}, {cores} cores, load {load} before the start")
}
