//! Reloads while a load runs: the signal, and the proxy's memory before and after.

use std::io;
use std::time::{Duration, Instant};

use rustix::process::Pid;

use super::orders::Run;
use crate::process;

/// The reloads of one run.
pub(super) struct Reloads {
    /// Who is told; none when nobody is.
    proxy: Option<Pid>,
    every: Duration,
    next: Instant,
}

impl Reloads {
    /// As the run says; the first is due when the load has run for one interval.
    pub(super) fn new(run: &Run) -> io::Result<Self> {
        let every = Duration::from_millis(run.reload_every_ms);
        let proxy = run.pids.first().filter(|_| !every.is_zero()).map(|pid| {
            Pid::from_raw(*pid as i32).ok_or_else(|| io::Error::other("no process has the number 0"))
        });
        Ok(Self { proxy: proxy.transpose()?, every, next: Instant::now() + every })
    }

    /// Sends one when it is time.
    pub(super) fn send_due(&mut self) -> io::Result<()> {
        let Some(proxy) = self.proxy.filter(|_| self.next <= Instant::now()) else { return Ok(()) };
        self.next += self.every;
        Ok(rustix::process::kill_process(proxy, rustix::process::Signal::HUP)?)
    }

    /// PSS of the proxy as it is now, with the processes that reloads left behind; zero for one that is not reloaded.
    pub(super) fn memory_bytes(&self) -> io::Result<f64> {
        let Some(proxy) = self.proxy else { return Ok(0.0) };
        let pids = process::tree(proxy.as_raw_nonzero().get() as u32)?;
        // One that ended in between takes no memory.
        Ok(pids.iter().filter_map(|pid| process::pss_bytes(&[*pid]).ok()).sum::<u64>() as f64)
    }
}
