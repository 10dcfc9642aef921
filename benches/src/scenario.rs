//! What is measured: the list, and one run of each.

use std::io;

use crate::compare::Sample;
use crate::load::{Latencies, Load, Offer, Order, Pace, Ran, Run};
use crate::peers::Running;

/// Reloads before the measured ones: what the first ones make, later ones find.
const RELOADS_BEFORE: u64 = 10;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Table {
    /// What each operation costs: the promises of the design.
    Costs,
    /// What handshakes do to the tunnels beside them.
    Storm,
    /// What reloads do to tunnels.
    Reload,
}

/// One line of the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scenario {
    /// What filters match.
    pub(crate) name: &'static str,
    /// What the table says.
    pub(crate) title: &'static str,
    pub(crate) work: Work,
    /// Whether clients speak TLS to the proxy; the proxy speaks plain to the backend in any case.
    pub(crate) secure: bool,
    /// nginx's `proxy_buffer_size`, when it isn't the default.
    pub(crate) buffer: Option<&'static str>,
    /// What ours must keep to (design section 5).
    pub(crate) bar: Bar,
}

/// A kind of load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Work {
    /// Messages to and fro.
    Echo { tunnels: usize, bytes: usize },
    /// Connect, handshake, Close, end.
    Visit,
    /// Keep-alive GETs.
    Get,
    /// Tunnels that do nothing: memory.
    Idle,
    /// Messages on a clock while others shake hands on a clock: the delay the ones cause the others.
    Storm { tunnels: usize, echoes_per_second: f64, visits_per_second: f64 },
    /// Messages on a clock while the configuration is reloaded on another.
    Reload { tunnels: usize, echoes_per_second: f64, every_ms: u64, reloads: u64 },
}

impl Work {
    /// What the compared figure is.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Work::Echo { .. } | Work::Visit | Work::Get => "CPU us",
            Work::Idle => "bytes",
            Work::Storm { .. } => "p99 us",
            Work::Reload { .. } => "longest us",
        }
    }
}

/// What all runs of a table have in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct How {
    /// The measured stretch.
    pub(crate) run_ms: u64,
    /// What clients of TLS offer.
    pub(crate) offer: Offer,
}

/// What one run gave.
pub(crate) struct Measured {
    pub(crate) sample: Sample,
    /// Protocol, cipher suite and group of its TLS.
    pub(crate) agreed: Option<String>,
    /// What the proxy's memory grew by in its reloads.
    pub(crate) grown_bytes: f64,
}

/// A promise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Bar {
    /// Only shown.
    None,
    /// At most this part of the reference's cost.
    Ratio(f64),
    /// At most this cost.
    Cost(f64),
}

/// The rows of a table.
pub(crate) fn all(table: Table) -> Vec<Scenario> {
    match table {
        Table::Costs => costs(),
        Table::Storm => storm(),
        Table::Reload => vec![reload()],
    }
}

/// The bars are those of the epoll driver, which every machine has.
fn costs() -> Vec<Scenario> {
    let echo = |name, title, tunnels, bytes, buffer, bar| Scenario {
        name,
        title,
        work: Work::Echo { tunnels, bytes },
        secure: false,
        buffer,
        bar,
    };
    let other = |name, title, work, bar| Scenario { name, title, work, secure: false, buffer: None, bar };
    let secure = |name, title, work, bar| Scenario { name, title, work, secure: true, buffer: None, bar };
    vec![
        echo("echo-100", "64 B echo, 100 tunnels", 100, 64, None, Bar::Ratio(1.0)),
        echo("echo-1000", "64 B echo, 1,000 tunnels", 1_000, 64, None, Bar::Ratio(1.0)),
        echo("echo-5000", "64 B echo, 5,000 tunnels", 5_000, 64, None, Bar::Ratio(1.0)),
        echo("echo-16k", "16 KB echo, 100 tunnels", 100, 16_384, None, Bar::None),
        echo("echo-16k-64k", "same, proxy_buffer_size 64k", 100, 16_384, Some("64k"), Bar::Ratio(1.0)),
        other("handshake", "ws handshake and close", Work::Visit, Bar::Ratio(1.0)),
        other("get", "HTTP GET, keep-alive", Work::Get, Bar::Ratio(0.9)),
        other("memory", "idle tunnel", Work::Idle, Bar::Cost(1_000.0)),
        secure(
            "wss-echo-1000",
            "64 B echo, 1,000 wss tunnels",
            Work::Echo { tunnels: 1_000, bytes: 64 },
            Bar::Ratio(0.85),
        ),
        secure("wss-handshake", "wss handshake and close", Work::Visit, Bar::Ratio(0.6)),
        secure(
            "wss-echo-16k",
            "16 KB echo, 100 wss tunnels",
            Work::Echo { tunnels: 100, bytes: 16_384 },
            Bar::Ratio(0.5),
        ),
        secure("wss-memory", "idle wss tunnel", Work::Idle, Bar::Cost(6_000.0)),
    ]
}

/// What a storm of handshakes does to tunnels in the same loop (design decision D5). In these rows the figure compared is the
/// p99 of the tunnels' echoes, and the column `p99 us` holds that of the handshakes.
fn storm() -> Vec<Scenario> {
    let row = |name, title, work| Scenario { name, title, work, secure: false, buffer: None, bar: Bar::None };
    let storm =
        |visits_per_second| Work::Storm { tunnels: 100, echoes_per_second: 5_000.0, visits_per_second };
    vec![
        row("calm", "echo p99, 5,000/s, 100 tunnels", storm(0.0)),
        row("storm", "same, with 2,000 handshakes/s", storm(2_000.0)),
    ]
}

/// Tunnels that carry messages while the same configuration is loaded again and again. The figure is the longest time that
/// any echo took; one tunnel lost ends the run.
fn reload() -> Scenario {
    Scenario {
        name: "reload",
        title: "longest echo in 90 reloads",
        work: Work::Reload { tunnels: 9_000, echoes_per_second: 5_000.0, every_ms: 250, reloads: 90 },
        secure: false,
        buffer: None,
        bar: Bar::Cost(50_000.0),
    }
}

impl Scenario {
    /// What its clients offer, where they speak TLS.
    pub(crate) fn tls(&self, offer: Offer) -> Option<Offer> {
        self.secure.then_some(offer)
    }

    /// The run that makes this load.
    pub(crate) fn run(&self, proxy: &Running, pace: Pace, how: How) -> io::Result<Run> {
        let base = Run {
            run_ms: how.run_ms,
            tls: self.tls(how.offer),
            ..Run::against(proxy.address, proxy.pids()?)
        };
        Ok(match self.work {
            Work::Echo { tunnels, bytes } => Run { tunnels, message_bytes: bytes, echo: pace, ..base },
            Work::Visit => Run { visit: pace, visitors: visitors(pace), ..base },
            Work::Get => Run { getters: 64, get: pace, ..base },
            Work::Idle => base,
            Work::Storm { tunnels, echoes_per_second, visits_per_second } => Run {
                tunnels,
                echo: Pace::PerSecond(echoes_per_second),
                visit: Pace::PerSecond(visits_per_second),
                visitors: visitors(Pace::PerSecond(visits_per_second)),
                ..base
            },
            Work::Reload { tunnels, echoes_per_second, every_ms, reloads } => Run {
                tunnels,
                echo: Pace::PerSecond(echoes_per_second),
                reload_every_ms: every_ms,
                warm_ms: RELOADS_BEFORE * every_ms,
                run_ms: reloads * every_ms,
                // The others may end.
                pids: base.pids[..1].to_vec(),
                ..base
            },
        })
    }

    /// Descriptors it takes in the proxy and in the load, a few hundred for other things included.
    pub(crate) fn descriptors(&self) -> u64 {
        match self.work {
            Work::Echo { tunnels, .. } | Work::Storm { tunnels, .. } | Work::Reload { tunnels, .. } => {
                2 * tunnels as u64 + 500
            }
            Work::Visit | Work::Get | Work::Idle => 500,
        }
    }

    /// Makes it once.
    pub(crate) fn measure(
        &self,
        load: &mut Load,
        proxy: &Running,
        pace: Pace,
        how: How,
    ) -> io::Result<Measured> {
        let ran = load.order(&Order::Run(self.run(proxy, pace, how)?))?;
        let latencies = self.latencies(&ran);
        if latencies.count == 0 {
            return Err(io::Error::other("not one operation came back"));
        }
        let per_operation = ran.proxy_cpu_us / latencies.count as f64;
        let (cost, p99_us) = match self.work {
            Work::Storm { .. } => (ran.echo.p99_us, ran.visit.p99_us),
            Work::Reload { .. } => (ran.echo.max_us, ran.echo.p99_us),
            Work::Echo { .. } | Work::Visit | Work::Get | Work::Idle => (per_operation, latencies.p99_us),
        };
        let per_second = latencies.count as f64 / ran.seconds;
        let sample = Sample { cost, per_second, p99_us, load_busy: ran.load_busy, waited: ran.proxy_waited };
        Ok(Measured { sample, agreed: ran.agreed, grown_bytes: ran.grown_bytes })
    }

    fn latencies(&self, ran: &Ran) -> Latencies {
        match self.work {
            Work::Visit => ran.visit,
            Work::Get => ran.get,
            Work::Echo { .. } | Work::Idle | Work::Storm { .. } | Work::Reload { .. } => ran.echo,
        }
    }
}

/// Visits at once: enough to keep a proxy busy, and with a clock as many as are due.
fn visitors(pace: Pace) -> usize {
    match pace {
        Pace::PerSecond(_) => 2_000,
        Pace::Closed | Pace::Off => 32,
    }
}
