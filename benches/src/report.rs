//! The table a person reads, and the same as JSON.

use serde::Serialize;

use crate::compare::{Ratio, Sample, medians};
use crate::scenario::{Bar, Scenario};

/// A scenario's outcome: one entry per peer, ours first and the reference second.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) unit: String,
    /// Operations a second asked for; none when each followed the one before.
    pub(crate) rate: Option<f64>,
    pub(crate) peers: Vec<PeerRow>,
    /// Ours against the reference.
    pub(crate) ratio: Option<Ratio>,
    pub(crate) bar: String,
    pub(crate) verdict: Verdict,
}

/// Whether a bar was kept.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) enum Verdict {
    /// There is no bar, or nothing to judge.
    None,
    Kept,
    Missed,
    /// The bar lies within the middle half of the pairs' ratios: more pairs, or a quieter machine, would tell.
    Unclear,
}

impl Verdict {
    fn of_ratio(ratio: Ratio, most: f64) -> Self {
        if ratio.low <= most && most < ratio.high {
            Self::Unclear
        } else if ratio.of_medians <= most {
            Self::Kept
        } else {
            Self::Missed
        }
    }
}

/// One peer's part of a row.
#[derive(Debug, Serialize)]
pub(crate) struct PeerRow {
    pub(crate) peer: String,
    pub(crate) median: Sample,
    pub(crate) samples: Vec<Sample>,
    pub(crate) failure: Option<String>,
    /// Protocol, cipher suite and group of its TLS.
    pub(crate) agreed: Option<String>,
}

impl PeerRow {
    /// From a peer's samples, or why there are none.
    pub(crate) fn new(peer: &str, samples: Vec<Sample>, failure: Option<String>) -> Self {
        Self { peer: peer.into(), median: medians(&samples), samples, failure, agreed: None }
    }
}

impl Row {
    /// Judges a scenario.
    pub(crate) fn new(scenario: &Scenario, rate: Option<f64>, peers: Vec<PeerRow>) -> Self {
        let complete = |peer: &&PeerRow| peer.failure.is_none();
        let ours = peers.first().filter(complete);
        let reference = peers.get(1).filter(complete);
        let ratio =
            ours.zip(reference).map(|(ours, reference)| Ratio::new(&ours.samples, &reference.samples));
        let (bar, verdict) = match scenario.bar {
            Bar::None => (String::new(), None),
            Bar::Ratio(most) => (format!("<= {most:.2}"), ratio.map(|ratio| Verdict::of_ratio(ratio, most))),
            Bar::Cost(most) => (
                format!("<= {most}"),
                ours.map(|ours| if ours.median.cost <= most { Verdict::Kept } else { Verdict::Missed }),
            ),
        };
        let verdict = verdict.unwrap_or(Verdict::None);
        let unit = scenario.work.unit();
        let (name, title) = (scenario.name.into(), scenario.title.into());
        Self { name, title, unit: unit.into(), rate, peers, ratio, bar, verdict }
    }

    /// The binary under test did not get through.
    pub(crate) fn ours_failed(&self) -> bool {
        self.peers.first().is_some_and(|ours| ours.failure.is_some())
    }

    /// The row's lines: one per peer.
    pub(crate) fn print(&self) {
        for (index, peer) in self.peers.iter().enumerate() {
            let title = if index == 0 { self.title.as_str() } else { "" };
            if let Some(failure) = &peer.failure {
                println!(
                    "{title:<30} {:<16} failed: {}",
                    peer.peer,
                    failure.trim_end().replace('\n', "\n    ")
                );
                continue;
            }
            let Sample { cost, per_second, p99_us, load_busy, waited } = peer.median;
            let cost = if self.unit == "bytes" { format!("{cost:.0} B") } else { format!("{cost:.2} us") };
            let load = match self.unit.as_str() {
                "bytes" => format!("{:>10} {:>9} {:>5} {:>5}", "", "", "", ""),
                _ => format!(
                    "{per_second:>10.0} {p99_us:>9.0} {:>4.0}% {:>4.0}%",
                    load_busy * 100.0,
                    waited * 100.0
                ),
            };
            println!("{title:<30} {:<16} {cost:>11} {load}  {}", peer.peer, self.judgement(index));
        }
    }

    fn judgement(&self, index: usize) -> String {
        let Some(ratio) = self.ratio.filter(|_| index == 0) else { return String::new() };
        let verdict = match self.verdict {
            Verdict::None => "",
            Verdict::Kept => "kept",
            Verdict::Missed => "MISSED",
            Verdict::Unclear => "unclear",
        };
        format!("{:.3} ({:.3}..{:.3}) {:<9} {verdict}", ratio.of_medians, ratio.low, ratio.high, self.bar)
    }
}

/// The line above the rows.
pub(crate) fn print_header() {
    let last = "ratio of medians (middle half of pairs), bar";
    println!(
        "{:47} {:>11} {:>10} {:>9} {:>5} {:>5}  {last}",
        "", "cost each", "/s", "p99 us", "load", "wait"
    );
}

/// What TLS was agreed upon, where it was spoken: once for each peer and kind.
pub(crate) fn print_agreed(rows: &[Row]) {
    let mut lines: Vec<String> = rows
        .iter()
        .flat_map(|row| &row.peers)
        .filter_map(|peer| Some(format!("{} {}", peer.peer, peer.agreed.as_deref()?)))
        .collect();
    lines.sort();
    lines.dedup();
    if !lines.is_empty() {
        println!("TLS, ECDSA P-256, no resumption: {}", lines.join(", "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_inside_the_spread_is_not_judged() {
        let check = |of_medians: f64, low: f64, high: f64, expected| {
            assert_eq!(Verdict::of_ratio(Ratio { of_medians, low, high }, 1.0), expected);
        };
        check(0.95, 0.93, 0.97, Verdict::Kept);
        check(1.0, 1.0, 1.0, Verdict::Kept);
        check(1.05, 1.02, 1.07, Verdict::Missed);
        check(0.98, 0.95, 1.03, Verdict::Unclear);
        check(1.02, 0.97, 1.05, Verdict::Unclear);
    }
}
