//! The command line.

use std::path::PathBuf;

use crate::load::Offer;
use crate::scenario::{self, Table};

/// How to call it.
pub(crate) const USAGE: &str = "\
usage: cargo xtask bench [storm | reload] [FILTER...] [options]
  FILTER            measure only what has this in its name: echo-100, echo-1000, echo-5000, echo-16k, echo-16k-64k,
                    handshake, get, memory, wss-echo-1000, wss-handshake, wss-echo-16k, wss-memory
  storm             the delay of messages in tunnels while others shake hands (design decision D5)
  reload            what 90 reloads cost 9,000 tunnels: the longest any message waited, and memory
  --pairs N         interleaved pairs (15); --quick is 5 shorter ones
  --binary PATH     the binary under test instead of target/release/tidegate, which is otherwise built first
  --name NAME       its name in the table
  --nginx PATH      the reference; otherwise the one of `cargo xtask install`, else nginx in PATH,
                    which the wss rows fall back to when the one given was built without ssl
  --tls KIND        equal: wss clients offer TLS 1.3, TLS_AES_128_GCM_SHA256 and X25519 alone, the same work for all;
                    defaults: they offer everything, and each proxy chooses
  --with A,B        more peers: haproxy or caddy from PATH, or NAME=PATH for one that reads nginx.conf
  --load KIND       paced: every proxy gets the same operations a second; closed: as many as it can take
  --share X         paced: this part of what nginx takes at most (0.6)
  --rate N          paced: exactly so many operations a second
  --cgroup DIR      a cgroup v2 directory that is yours, to measure memory with the kernel's part
  --json FILE       everything, each run included
";

/// What was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) table: Table,
    pub(crate) filters: Vec<String>,
    pub(crate) pairs: usize,
    pub(crate) run_ms: u64,
    pub(crate) binary: Option<PathBuf>,
    pub(crate) name: String,
    pub(crate) nginx: Option<PathBuf>,
    pub(crate) with: Vec<String>,
    pub(crate) load: LoadKind,
    pub(crate) offer: Offer,
    pub(crate) cgroup: Option<PathBuf>,
    pub(crate) json: Option<PathBuf>,
}

/// What decides when an operation starts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum LoadKind {
    /// The end of the one before.
    Closed,
    /// A clock, at this part of the reference's greatest throughput.
    Share(f64),
    /// A clock, so many a second.
    Rate(f64),
}

impl Options {
    /// Reads the command line.
    ///
    /// # Errors
    /// The text says which argument is wrong.
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            table: Table::Costs,
            filters: Vec::new(),
            pairs: 15,
            run_ms: 1000,
            binary: None,
            name: "tidegate".into(),
            nginx: None,
            with: Vec::new(),
            load: LoadKind::Share(0.6),
            offer: Offer::Equal,
            cgroup: None,
            json: None,
        };
        let (mut arguments, mut pairs) = (arguments, None);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "storm" => options.table = Table::Storm,
                "reload" => options.table = Table::Reload,
                "--quick" => (options.pairs, options.run_ms) = (5, 600),
                "--pairs" => pairs = Some(number(&argument, &value()?)?),
                "--binary" => options.binary = Some(value()?.into()),
                "--name" => options.name = value()?,
                "--nginx" => options.nginx = Some(value()?.into()),
                "--with" => options.with = value()?.split(',').map(str::to_owned).collect(),
                "--load" => {
                    options.load = match value()?.as_str() {
                        "closed" => LoadKind::Closed,
                        "paced" => LoadKind::Share(0.6),
                        other => return Err(format!("--load is closed or paced, not \"{other}\"")),
                    }
                }
                "--tls" => {
                    options.offer = match value()?.as_str() {
                        "equal" => Offer::Equal,
                        "defaults" => Offer::Everything,
                        other => return Err(format!("--tls is equal or defaults, not \"{other}\"")),
                    }
                }
                "--share" => options.load = LoadKind::Share(number(&argument, &value()?)?),
                "--rate" => options.load = LoadKind::Rate(number(&argument, &value()?)?),
                "--cgroup" => options.cgroup = Some(value()?.into()),
                "--json" => options.json = Some(value()?.into()),
                flag if flag.starts_with('-') => return Err(format!("unknown option {flag}")),
                filter => options.filters.push(filter.to_owned()),
            }
        }
        options.pairs = pairs.unwrap_or(options.pairs);
        if options.pairs == 0 {
            return Err("--pairs must be at least 1".into());
        }
        Ok(options)
    }

    /// Whether a measurement of that name is wanted.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.filters.is_empty()
            || self.filters.iter().any(|filter| filter == name)
            || self.filters.iter().any(|filter| name.contains(filter.as_str()) && !is_exact(filter))
    }
}

/// `echo-100` must not also mean `echo-1000`.
fn is_exact(filter: &str) -> bool {
    let tables = [Table::Costs, Table::Storm, Table::Reload];
    tables.into_iter().flat_map(scenario::all).any(|scenario| scenario.name == filter)
}

fn number<T: std::str::FromStr>(name: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{name} wants a number, not \"{text}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn filters() {
        let check = |line: &str, name: &str, expected: bool| {
            assert_eq!(parse(line).expect("parses").wants(name), expected, "{line:?} {name}");
        };
        check("", "get", true);
        check("echo", "echo-5000", true);
        check("echo", "get", false);
        check("echo-100", "echo-100", true);
        check("echo-100", "echo-1000", false);
        check("get handshake --quick", "handshake", true);
        check("handshake", "wss-handshake", false);
        check("wss", "wss-handshake", true);
    }

    #[test]
    fn pairs_win_over_quick_in_any_order() {
        let check = |line: &str, expected: usize| assert_eq!(parse(line).expect("parses").pairs, expected);
        check("", 15);
        check("--quick", 5);
        check("--pairs 3 --quick", 3);
        check("--quick --pairs 30", 30);
    }

    #[test]
    fn mistakes_are_named() {
        let check =
            |line: &str, expected: &str| assert_eq!(parse(line).map(|_| ()), Err(expected.to_owned()));
        check("--pairs", "--pairs needs a value");
        check("--pairs many", "--pairs wants a number, not \"many\"");
        check("--fast", "unknown option --fast");
        check("--load open", "--load is closed or paced, not \"open\"");
        check("--tls old", "--tls is equal or defaults, not \"old\"");
    }
}
