//! The bench as a whole: who takes part, every scenario in interleaved pairs, the table.

use std::io;
use std::path::PathBuf;
use std::process::Command;

use crate::compare::{Sample, medians};
use crate::load::{Load, Pace};
use crate::machine::{self, Core};
use crate::memory;
use crate::options::{LoadKind, Options};
use crate::peers::{self, Language, Peer, Running};
use crate::report::{self, PeerRow, Row};
use crate::scenario::{self, Scenario, Work};

/// Memory does not depend on the weather: so many fresh processes are enough.
const MEMORY_PAIRS_MAX: usize = 3;
/// Ports of the backend, so that 20,000 tunnels and those just closed don't exhaust one.
const BACKEND_PORTS: usize = 4;

/// Who takes part and where.
pub(crate) struct Field {
    /// Ours first, the reference second.
    pub(crate) peers: Vec<Peer>,
    pub(crate) load: Load,
    pub(crate) core: Core,
    descriptors: u64,
}

/// Runs what was asked for and prints it.
pub(crate) fn main(options: &Options) -> io::Result<()> {
    let mut field = Field::enter(options)?;
    report::print_header();
    let mut rows = Vec::new();
    for scenario in scenario::all().iter().filter(|scenario| options.wants(scenario.name)) {
        let row = field.row(scenario, options);
        row.print();
        rows.push(row);
    }
    println!("command: {}", std::env::args().collect::<Vec<_>>().join(" "));
    if let Some(path) = &options.json {
        let versions: Vec<_> = field.peers.iter().map(|peer| (peer.name.clone(), peer.version())).collect();
        let all = serde_json::json!({
            "machine": machine::describe(), "peers": versions, "pairs": options.pairs, "rows": rows,
            "command": std::env::args().collect::<Vec<_>>(),
        });
        std::fs::write(path, serde_json::to_string_pretty(&all)?)?;
    }
    Ok(())
}

impl Field {
    /// Finds the binaries, starts the load process, and says who runs where.
    pub(crate) fn enter(options: &Options) -> io::Result<Self> {
        let mut peers = vec![Peer::new(&options.name, binary_under_test(options)?, Language::Nginx)];
        let nginx = options.nginx.clone().or_else(peers::find_nginx);
        let nginx = nginx.ok_or_else(|| io::Error::other("no nginx found: give --nginx PATH"))?;
        peers.push(Peer::new("nginx", nginx, Language::Nginx));
        for name in &options.with {
            let language = match name.as_str() {
                "haproxy" => Language::Haproxy,
                "caddy" => Language::Caddy,
                other => {
                    return Err(io::Error::other(format!("--with knows haproxy and caddy, not {other}")));
                }
            };
            let binary = peers::find_in_path(name);
            let binary = binary.ok_or_else(|| io::Error::other(format!("no {name} in PATH")))?;
            peers.push(Peer::new(name, binary, language));
        }
        let (core, load_core) = machine::two_cores();
        let descriptors = machine::raise_descriptor_limit();
        println!("{}", machine::describe());
        println!("proxies on {core}, load and backend on {load_core}, {descriptors} descriptors each");
        for peer in &peers {
            println!("{}: {} ({})", peer.name, peer.version(), peer.binary.display());
        }
        Ok(Self { peers, load: Load::start(load_core, BACKEND_PORTS)?, core, descriptors })
    }

    fn row(&mut self, scenario: &Scenario, options: &Options) -> Row {
        if scenario.work == Work::Idle {
            return self.memory_row(scenario, options);
        }
        let mut entrants: Vec<Entrant> = Vec::new();
        for peer in &self.peers {
            let started = peer.start(self.core, &self.load.ports, scenario.buffer);
            let failure = started.as_ref().err().map(ToString::to_string);
            entrants.push(Entrant { proxy: started.ok(), samples: Vec::new(), failure });
        }
        let pace = self.pace(scenario, options, &entrants);
        for pair in 0..options.pairs {
            let count = entrants.len();
            for place in 0..count {
                // Every other pair backwards, so that nobody always goes first.
                let index = if pair % 2 == 0 { place } else { count - 1 - place };
                entrants[index].run(scenario, &mut self.load, pace, options.run_ms);
            }
        }
        let rate = match pace {
            Pace::PerSecond(rate) => Some(rate),
            Pace::Closed | Pace::Off => None,
        };
        Row::new(scenario, rate, self.peer_rows(entrants))
    }

    /// The rate at which all get this scenario's operations.
    fn pace(&mut self, scenario: &Scenario, options: &Options, entrants: &[Entrant]) -> Pace {
        let share = match options.load {
            LoadKind::Closed => return Pace::Closed,
            LoadKind::Rate(rate) => return Pace::PerSecond(rate),
            LoadKind::Share(share) => share,
        };
        let Some(reference) = entrants.get(1).and_then(|entrant| entrant.proxy.as_ref()) else {
            return Pace::Closed;
        };
        let tries: Vec<Sample> = (0..3)
            .filter_map(|_| {
                scenario.measure(&mut self.load, reference, Pace::Closed, options.run_ms / 2).ok()
            })
            .collect();
        match tries.is_empty() {
            true => Pace::Closed,
            false => Pace::PerSecond((medians(&tries).per_second * share).round()),
        }
    }

    fn memory_row(&mut self, scenario: &Scenario, options: &Options) -> Row {
        let tunnels = memory::tunnels(self.descriptors);
        let mut entrants: Vec<Entrant> = self.peers.iter().map(|_| Entrant::default()).collect();
        for _ in 0..options.pairs.min(MEMORY_PAIRS_MAX) {
            for (peer, entrant) in self.peers.iter().zip(&mut entrants) {
                match memory::measure(peer, self.core, &mut self.load, tunnels) {
                    Ok(sample) => entrant.samples.push(sample),
                    Err(error) => entrant.failure = Some(error.to_string()),
                }
            }
        }
        Row::new(scenario, None, self.peer_rows(entrants))
    }

    fn peer_rows(&self, entrants: Vec<Entrant>) -> Vec<PeerRow> {
        let named = self.peers.iter().zip(entrants);
        named.map(|(peer, entrant)| PeerRow::new(&peer.name, entrant.samples, entrant.failure)).collect()
    }
}

/// A peer while it takes part in a scenario.
#[derive(Default)]
struct Entrant {
    proxy: Option<Running>,
    samples: Vec<Sample>,
    failure: Option<String>,
}

impl Entrant {
    /// Adds a sample; after a failure it only sits the rest out.
    fn run(&mut self, scenario: &Scenario, load: &mut Load, pace: Pace, run_ms: u64) {
        let Some(proxy) = self.proxy.as_ref().filter(|_| self.failure.is_none()) else { return };
        match scenario.measure(load, proxy, pace, run_ms) {
            Ok(sample) => self.samples.push(sample),
            Err(error) => self.failure = Some(format!("{error}\n{}", proxy.last_words())),
        }
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
