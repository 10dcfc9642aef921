//! The bench as a whole: who takes part, every scenario in interleaved pairs, the table.

use std::io;
use std::path::PathBuf;
use std::process::Command;

use crate::certificate::Certificate;
use crate::compare::Sample;
use crate::load::{Load, Pace};
use crate::machine::{self, Core};
use crate::memory::{self, Hold};
use crate::options::{LoadKind, Options};
use crate::peers::{self, Language, Peer, Running, Setting};
use crate::report::{self, PeerRow, Row};
use crate::scenario::{self, Bar, How, Measured, Scenario, Table, Work};

/// Memory does not depend on the weather: so many fresh processes are enough.
const MEMORY_PAIRS_MAX: usize = 3;
/// Ports of the backend, so that 20,000 tunnels and those just closed don't exhaust one.
const BACKEND_PORTS: usize = 4;

/// Who takes part and where.
pub(crate) struct Field {
    /// Ours first, the reference second.
    pub(crate) peers: Vec<Peer>,
    /// The same where clients speak TLS: all that can.
    secure_peers: Vec<Peer>,
    certificate: Certificate,
    pub(crate) load: Load,
    pub(crate) core: Core,
    descriptors: u64,
}

/// Runs what was asked for and prints it.
pub(crate) fn main(options: &Options) -> io::Result<()> {
    let mut field = Field::enter(options)?;
    report::print_header();
    let mut rows = Vec::new();
    for scenario in scenario::all(options.table).iter().filter(|scenario| options.wants(scenario.name)) {
        if scenario.descriptors() > field.descriptors {
            println!(
                "{:<30} skipped: needs {} descriptors (ulimit -n)",
                scenario.title,
                scenario.descriptors()
            );
            continue;
        }
        for row in field.rows(scenario, options) {
            row.print();
            rows.push(row);
        }
    }
    report::print_agreed(&rows);
    remarks(&rows, &field, options);
    println!("command: cargo xtask bench {}", std::env::args().skip(1).collect::<Vec<_>>().join(" "));
    if let Some(path) = &options.json {
        let versions = |peers: &[Peer]| -> Vec<_> {
            peers.iter().map(|peer| (peer.name.clone(), peer.version())).collect()
        };
        let all = serde_json::json!({
            "machine": machine::describe(), "peers": versions(&field.peers), "wss_peers": versions(&field.secure_peers), "pairs": options.pairs, "rows": rows,
            "command": std::env::args().collect::<Vec<_>>(),
        });
        std::fs::write(path, serde_json::to_string_pretty(&all)?)?;
    }
    match rows.iter().any(Row::ours_failed) {
        true => Err(io::Error::other(format!("{} failed under at least one load", options.name))),
        false => Ok(()),
    }
}

impl Field {
    /// Finds the binaries, starts the load process, and says who runs where.
    pub(crate) fn enter(options: &Options) -> io::Result<Self> {
        let peers = peers(options)?;
        let secure_peers = secure_peers(&peers);
        let (core, load_core) = machine::two_cores();
        let descriptors = machine::raise_descriptor_limit();
        println!("{}", machine::describe());
        println!("proxies on {core}, load and backend on {load_core}, {descriptors} descriptors each");
        for peer in &peers {
            println!("{}: {} ({})", peer.name, peer.version(), peer.binary.display());
        }
        for peer in secure_peers.iter().filter(|peer| peers.iter().all(|other| other.binary != peer.binary)) {
            println!("{} for wss: {} ({})", peer.name, peer.version(), peer.binary.display());
        }
        let load = Load::start(load_core, BACKEND_PORTS)?;
        Ok(Self { peers, secure_peers, certificate: Certificate::new()?, load, core, descriptors })
    }

    fn peers_for(&self, scenario: &Scenario) -> &[Peer] {
        if scenario.secure { &self.secure_peers } else { &self.peers }
    }

    fn rows(&mut self, scenario: &Scenario, options: &Options) -> Vec<Row> {
        match scenario.work {
            Work::Idle => self.memory_rows(scenario, options),
            Work::Echo { .. } | Work::Visit | Work::Get | Work::Storm { .. } => {
                vec![self.row(scenario, options)]
            }
            Work::Reload { .. } => self.reload_rows(scenario, options),
        }
    }

    fn row(&mut self, scenario: &Scenario, options: &Options) -> Row {
        let mut entrants: Vec<Entrant> = Vec::new();
        let setting = Setting {
            backend: &self.load.ports,
            buffer: scenario.buffer,
            certificate: scenario.secure.then_some(&self.certificate),
        };
        for peer in self.peers_for(scenario) {
            let started = peer.start(self.core, setting, None);
            let failure = started.as_ref().err().map(ToString::to_string);
            entrants.push(Entrant { proxy: started.ok(), failure, ..Entrant::default() });
        }
        let how = How { run_ms: options.run_ms, offer: options.offer };
        let pace = self.pace(scenario, options, &entrants);
        for pair in 0..options.pairs {
            let count = entrants.len();
            for place in 0..count {
                // Every other pair backwards, so that nobody always goes first.
                let index = if pair % 2 == 0 { place } else { count - 1 - place };
                entrants[index].run(scenario, &mut self.load, pace, how);
            }
        }
        let rate = match pace {
            Pace::PerSecond(rate) => Some(rate),
            Pace::Closed | Pace::Off => None,
        };
        Row::new(scenario, rate, self.peer_rows(scenario, entrants))
    }

    /// The rate at which all get this scenario's operations.
    fn pace(&mut self, scenario: &Scenario, options: &Options, entrants: &[Entrant]) -> Pace {
        if matches!(scenario.work, Work::Storm { .. } | Work::Reload { .. }) {
            return Pace::Off; // It brings its own rates.
        }
        let share = match options.load {
            LoadKind::Closed => return Pace::Closed,
            LoadKind::Rate(rate) => return Pace::PerSecond(rate),
            LoadKind::Share(share) => share,
        };
        let Some(reference) = entrants.get(1).and_then(|entrant| entrant.proxy.as_ref()) else {
            return Pace::Closed;
        };
        let how = How { run_ms: options.run_ms / 2, offer: options.offer };
        // The best of a few tries: other work on this machine can only lower them.
        let best = (0..3)
            .filter_map(|_| scenario.measure(&mut self.load, reference, Pace::Closed, how).ok())
            .map(|measured| measured.sample.per_second)
            .fold(0.0, f64::max);
        if best == 0.0 { Pace::Closed } else { Pace::PerSecond((best * share).round()) }
    }

    fn memory_rows(&mut self, scenario: &Scenario, options: &Options) -> Vec<Row> {
        let hold = Hold { tls: scenario.tls(options.offer), tunnels: memory::tunnels(self.descriptors) };
        let entrants = || self.peers_for(scenario).iter().map(|_| Entrant::default()).collect::<Vec<_>>();
        let (mut pss, mut cgroup) = (entrants(), entrants());
        let peers = self.peers_for(scenario).to_vec();
        let backend = self.load.ports.clone();
        let certificate = scenario.secure.then_some(&self.certificate);
        let setting = Setting { backend: &backend, buffer: None, certificate };
        for _ in 0..options.pairs.min(MEMORY_PAIRS_MAX) {
            for (index, peer) in peers.iter().enumerate() {
                let parent = options.cgroup.as_deref();
                match memory::measure(peer, self.core, setting, &mut self.load, hold, parent) {
                    Ok(each) => {
                        pss[index].samples.push(each.pss);
                        cgroup[index].samples.extend(each.cgroup);
                    }
                    Err(error) => pss[index].failure = Some(error.to_string()),
                }
            }
        }
        let mut rows = vec![Row::new(scenario, None, self.peer_rows(scenario, pss))];
        if options.cgroup.is_some() {
            let title = if scenario.secure {
                "idle wss tunnel, cgroup's count"
            } else {
                "idle tunnel, cgroup's count"
            };
            let with_kernel = Scenario { title, bar: Bar::None, ..*scenario };
            rows.push(Row::new(&with_kernel, None, self.peer_rows(scenario, cgroup)));
        }
        rows
    }

    /// The longest wait, and what the memory grew by; each sample from a fresh process.
    fn reload_rows(&mut self, scenario: &Scenario, options: &Options) -> Vec<Row> {
        let entrants = || self.peers.iter().map(|_| Entrant::default()).collect::<Vec<_>>();
        let (mut waits, mut grown) = (entrants(), entrants());
        let setting = Setting { backend: &self.load.ports.clone(), buffer: None, certificate: None };
        let how = How { run_ms: 0, offer: options.offer };
        for _ in 0..options.pairs.min(MEMORY_PAIRS_MAX) {
            for (index, peer) in self.peers.iter().enumerate() {
                let once = peer
                    .start(self.core, setting, None)
                    .and_then(|proxy| scenario.measure(&mut self.load, &proxy, Pace::Off, how));
                match once {
                    Ok(Measured { sample, grown_bytes, .. }) => {
                        waits[index].samples.push(sample);
                        grown[index].samples.push(Sample { cost: grown_bytes, ..Sample::default() });
                    }
                    Err(error) => waits[index].failure = Some(error.to_string()),
                }
            }
        }
        let memory =
            Scenario { title: "memory grown by in them", work: Work::Idle, bar: Bar::None, ..*scenario };
        vec![
            Row::new(scenario, None, self.peer_rows(scenario, waits)),
            Row::new(&memory, None, self.peer_rows(&memory, grown)),
        ]
    }

    fn peer_rows(&self, scenario: &Scenario, entrants: Vec<Entrant>) -> Vec<PeerRow> {
        let named = self.peers_for(scenario).iter().zip(entrants);
        named
            .map(|(peer, entrant)| PeerRow {
                agreed: entrant.agreed,
                ..PeerRow::new(&peer.name, entrant.samples, entrant.failure)
            })
            .collect()
    }
}

/// A peer while it takes part in a scenario.
#[derive(Default)]
struct Entrant {
    proxy: Option<Running>,
    samples: Vec<Sample>,
    failure: Option<String>,
    agreed: Option<String>,
}

impl Entrant {
    /// Adds a sample; after a failure it only sits the rest out.
    fn run(&mut self, scenario: &Scenario, load: &mut Load, pace: Pace, how: How) {
        let Some(proxy) = self.proxy.as_ref().filter(|_| self.failure.is_none()) else { return };
        match scenario.measure(load, proxy, pace, how) {
            Ok(measured) => {
                self.samples.push(measured.sample);
                self.agreed = measured.agreed;
            }
            Err(error) => self.failure = Some(format!("{error}\n{}", proxy.last_words())),
        }
    }
}

fn peers(options: &Options) -> io::Result<Vec<Peer>> {
    let nginx = options.nginx.clone().or_else(peers::find_nginx);
    let nginx = Peer::new(
        "nginx",
        nginx.ok_or_else(|| io::Error::other("no nginx found: give --nginx PATH"))?,
        Language::Nginx,
    );
    let ours = Peer::new(&options.name, binary_under_test(options)?, Language::Nginx);
    let mut peers = vec![ours, nginx];
    for text in &options.with {
        peers.push(Peer::named(text)?);
    }
    Ok(peers)
}

/// Who takes part where clients speak TLS: a reference built without it gives way to another nginx.
fn secure_peers(peers: &[Peer]) -> Vec<Peer> {
    let able = |peer: &Peer| -> Option<Peer> {
        if peer.speaks_tls() {
            return Some(peer.clone());
        }
        let other = peers::find_nginx().filter(|_| peer.name == "nginx")?;
        Some(Peer::new(&peer.name, other, Language::Nginx)).filter(Peer::speaks_tls)
    };
    peers.iter().filter_map(able).collect()
}

/// What a reader should know before believing the figures.
fn remarks(rows: &[Row], field: &Field, options: &Options) {
    let waited = rows.iter().flat_map(|row| &row.peers).map(|peer| peer.median.waited).fold(0.0, f64::max);
    if waited > 0.05 {
        println!(
            "note: the proxies stood in the queue for their core up to {:.0}% of the time: repeat on a quiet machine, or \
             start the bench under chrt -f 5 (as root), which puts it before all others",
            waited * 100.0
        );
    }
    let judged: Vec<&Peer> = match rows.iter().any(|row| row.name.starts_with("wss")) {
        true => field.secure_peers.iter().chain(&field.peers).collect(),
        false => field.peers.iter().collect(),
    };
    if judged.iter().any(|peer| peer.name == "nginx" && peer.version().contains("-Os")) {
        println!(
            "note: this nginx is built for size; one built with -O2 needs up to half less CPU; give it by --nginx PATH to judge the bars"
        );
    }
    if options.wants("memory") && options.cgroup.is_none() && options.table == Table::Costs {
        println!("note: memory by PSS alone; --cgroup DIR adds what the kernel holds for the sockets");
    }
}

fn binary_under_test(options: &Options) -> io::Result<PathBuf> {
    if let Some(binary) = &options.binary {
        return Ok(binary.clone());
    }
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let status = Command::new(cargo).args(["build", "--release", "--package", "tidegate"]).status()?;
    if !status.success() {
        return Err(io::Error::other("tidegate does not build; --binary PATH measures another"));
    }
    // This binary was built into the same place.
    let beside = std::env::current_exe()?.with_file_name("tidegate");
    Ok(if beside.is_file() { beside } else { "target/release/tidegate".into() })
}
