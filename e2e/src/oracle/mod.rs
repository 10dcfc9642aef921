//! Tidegate beside nginx on the same random configuration, with the same random client and the same random upstream.
//!
//! A number and a seed make a trial: [`requests`] and [`answers`] say what is sent, [`config`] who serves it. [`house`] plays
//! it, [`compare`] judges, [`purpose`] lists what differs on purpose. What differs is played again, made as small as it goes,
//! and printed as a `.case`.

pub mod answers;
pub mod compare;
pub mod config;
pub mod house;
pub mod parts;
pub mod plain;
pub mod purpose;
pub mod requests;
pub mod trial;

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::time::{Duration, Instant};

use self::compare::{Difference, Verdict, differences, verdict};
use self::house::{House, Seen, Side};
use self::trial::Trial;
use crate::proxy::Kind;
use crate::random::Random;
use crate::raw::wait_readable;

const LANES: u64 = 12;
/// Trials of one lane under one configuration.
const PER_LANE: u64 = 40;
/// Trials between two starts of the proxies.
pub const ROUND: u64 = LANES * PER_LANE;

/// What came of many trials.
#[derive(Debug, Default)]
pub struct Tally {
    /// Trials that were played.
    pub played: usize,
    /// Trials in which something differed.
    pub found: usize,
    /// Trials in which something differed on purpose: not all of them was compared.
    pub excused: usize,
    /// How often each reason was met.
    pub excuses: BTreeMap<&'static str, usize>,
}

impl Tally {
    fn add(&mut self, verdict: &Verdict) {
        self.played += 1;
        self.excused += usize::from(!verdict.excuses.is_empty());
        for why in &verdict.excuses {
            *self.excuses.entry(why).or_default() += 1;
        }
    }
}

/// Plays trials of a seed; every difference found is printed at once.
pub fn run(seed: u64, numbers: Range<u64>) -> Tally {
    let mut known = HashMap::new();
    let mut tally = Tally::default();
    let mut from = numbers.start;
    while from < numbers.end {
        let to = numbers.end.min((from / ROUND + 1) * ROUND);
        let mut round = Round::start(seed, from / ROUND);
        round.run(from..to, &mut known, &mut tally);
        from = to;
        if std::env::var_os("TIDEGATE_ORACLE_VERBOSE").is_some() {
            eprintln!("{from} trials, {} kinds, {tally:#?}", known.len());
        }
    }
    tally
}

/// Both proxies under one set of configurations.
struct Round {
    seed: u64,
    configs: Vec<String>,
    houses: [House; 2],
}

/// One trial on its way.
struct Play {
    number: u64,
    trial: Trial,
    lane: usize,
    sides: [Side; 2],
    progress: [(usize, usize); 2],
    changed: Instant,
    left: Option<(Instant, [Seen; 2])>,
    are_upstreams_gone: bool,
    patience: u32,
}

impl Round {
    fn start(seed: u64, round: u64) -> Round {
        let config = |lane: u64| config::lane(&mut random(seed, (1 << 40) + round * LANES + lane));
        let configs: Vec<String> = (0..LANES).map(config).collect();
        let houses = [Kind::Tidegate, Kind::Nginx].map(|kind| House::start(kind, &configs));
        Round { seed, configs, houses }
    }

    fn run(&mut self, numbers: Range<u64>, known: &mut HashMap<String, usize>, tally: &mut Tally) {
        let mut waiting: Vec<Vec<u64>> = vec![Vec::new(); LANES as usize];
        for number in numbers.rev() {
            waiting[(number % LANES) as usize].push(number);
        }
        let mut lanes: Vec<Option<Play>> = (0..LANES).map(|_| None).collect();
        let mut suspects = Vec::new();
        loop {
            for lane in 0..lanes.len() {
                if lanes[lane].is_none() {
                    lanes[lane] = waiting[lane].pop().map(|number| {
                        self.begin(number, lane, Trial::new(&mut random(self.seed, number)), 1)
                    });
                }
            }
            if lanes.iter().all(Option::is_none) {
                break;
            }
            self.wait(&lanes);
            for lane in &mut lanes {
                if let Some(seen) = lane.as_mut().and_then(|play| self.step(play)) {
                    let play = lane.take().expect("just stepped");
                    let verdict = verdict(&play.trial, &seen[0], &seen[1]);
                    tally.add(&verdict);
                    if !verdict.differences.is_empty() {
                        let signature = signature(&verdict.differences);
                        suspects.push((play.number, play.lane, play.trial, signature));
                    }
                }
            }
        }
        let judged = suspects.into_iter().filter(|(number, lane, trial, signature)| {
            known.contains_key(signature) || self.judge(*number, *lane, trial, known)
        });
        tally.found += judged.count();
    }

    /// Plays a suspect again; what differs every time in the same kinds is made small and printed.
    fn judge(&mut self, number: u64, lane: usize, trial: &Trial, known: &mut HashMap<String, usize>) -> bool {
        let first = self.alone(lane, trial, 2);
        if first.is_empty() {
            return false;
        }
        let signature = signature(&first);
        if self.alone(lane, trial, 2).is_empty() {
            return false;
        }
        let count = known.entry(signature.clone()).or_default();
        *count += 1;
        if *count > 1 {
            return true;
        }
        let small = self.smaller(lane, trial, &first);
        let differences = self.alone(lane, &small, 2);
        println!("\n=== TIDEGATE_SEED={} TIDEGATE_TRIAL={number}  {signature}", self.seed);
        println!("{}", self.config_for(lane, &small));
        print!("{}", small.text());
        for Difference { kind, ours, theirs } in differences {
            let (ours, theirs) =
                if kind == "access log" { compare::apart(&ours, &theirs) } else { (ours, theirs) };
            println!("--- {kind}: nginx\n{}\n--- {kind}: ours\n{}", shown(&theirs), shown(&ours));
        }
        true
    }

    fn smaller(&mut self, lane: usize, trial: &Trial, first: &[Difference]) -> Trial {
        let wanted = signature(first);
        let deadline = Instant::now() + Duration::from_secs(8);
        let mut trial = trial.clone();
        'again: loop {
            for simpler in trial.simpler() {
                if Instant::now() > deadline {
                    return trial;
                }
                if signature(&self.alone(lane, &simpler, 1)) == wanted {
                    trial = simpler;
                    continue 'again;
                }
            }
            return trial;
        }
    }

    fn alone(&mut self, lane: usize, trial: &Trial, patience: u32) -> Vec<Difference> {
        let mut lanes = [Some(self.begin(0, lane, trial.clone(), patience))];
        loop {
            self.wait(&lanes);
            if let Some(seen) = self.step(lanes[0].as_mut().expect("one play")) {
                return differences(trial, &seen[0], &seen[1]);
            }
        }
    }

    /// The lines of the configuration that the trial can have met.
    fn config_for(&self, lane: usize, trial: &Trial) -> String {
        let text: Vec<u8> = trial.client.iter().flat_map(|part| part.bytes.clone()).collect();
        let text = String::from_utf8_lossy(&text);
        let mut out = String::new();
        let mut shows = true;
        for line in self.configs[lane].lines() {
            if let Some(place) = line.strip_prefix("location /") {
                shows = text.contains(&format!("/{}", place.split([' ', '{']).next().unwrap_or_default()));
            } else if line.starts_with("location @") {
                shows = true;
            } else if line.starts_with("location") {
                shows = text.contains(".re") || text.contains("/c/");
            }
            if shows && !line.contains("_log ") {
                out += &format!("  || {line}\n");
            }
        }
        out
    }

    fn begin(&mut self, number: u64, lane: usize, trial: Trial, patience: u32) -> Play {
        let sides = self.houses.each_mut().map(|house| house.begin(lane, &trial));
        Play {
            number,
            trial,
            lane,
            sides,
            progress: Default::default(),
            changed: Instant::now(),
            left: None,
            are_upstreams_gone: false,
            patience,
        }
    }

    fn wait(&self, lanes: &[Option<Play>]) {
        let plays = || lanes.iter().flatten();
        let sockets: Vec<_> = plays().flat_map(|play| play.sides.iter().flat_map(Side::sockets)).collect();
        let listeners: Vec<_> =
            plays().flat_map(|play| self.houses.iter().map(|house| house.listener(play.lane))).collect();
        wait_readable(&sockets, &listeners, Instant::now() + Duration::from_millis(3));
    }

    /// One turn of a trial; what was seen when it is over.
    fn step(&mut self, play: &mut Play) -> Option<[Seen; 2]> {
        let lane = play.lane;
        let mut is_sent = true;
        for (house, side) in self.houses.iter_mut().zip(&mut play.sides) {
            is_sent &= house.turn(lane, side);
        }
        let progress = [play.sides[0].progress(), play.sides[1].progress()];
        if progress != play.progress || !is_sent && play.left.is_none() {
            play.progress = progress;
            play.changed = Instant::now();
            play.left.as_ref()?;
        }
        let quiet = play.changed.elapsed();
        match &mut play.left {
            None => {
                let seen = [0, 1].map(|at| self.houses[at].seen(lane, &play.sides[at]));
                let is_over = play.sides.iter().all(Side::is_ended);
                let enough = Duration::from_millis(if is_over { 12 } else { 45 });
                let is_same = differences(&play.trial, &seen[0], &seen[1]).is_empty();
                if quiet >= enough * play.patience && is_same
                    || quiet >= Duration::from_millis(150) * play.patience
                {
                    play.sides.iter_mut().for_each(Side::leave);
                    play.left = Some((Instant::now(), seen));
                    play.changed = Instant::now();
                }
                None
            }
            Some((left, seen)) => {
                if left.elapsed() < Duration::from_millis(10) {
                    return None;
                }
                if !play.are_upstreams_gone {
                    let gone = [play.sides[0].leave_upstream(), play.sides[1].leave_upstream()];
                    play.are_upstreams_gone = gone == [true; 2] || left.elapsed() > Duration::from_secs(2);
                    *left = if play.are_upstreams_gone { Instant::now() } else { *left };
                    return None;
                }
                for (house, seen) in self.houses.iter_mut().zip(seen.iter_mut()) {
                    [seen.access, seen.errors] = house.logs(lane, false);
                }
                let is_late = left.elapsed() > Duration::from_millis(200) * play.patience;
                let is_there =
                    play.trial.client.is_empty() || seen.iter().all(|seen| !seen.access.is_empty());
                let is_same = is_there && differences(&play.trial, &seen[0], &seen[1]).is_empty();
                if !is_late && !is_same {
                    return None;
                }
                self.houses.iter_mut().for_each(|house| drop(house.logs(lane, true)));
                Some(seen.clone())
            }
        }
    }
}

/// One stream of numbers for each pair.
fn random(seed: u64, number: u64) -> Random {
    let mixed = (seed ^ number.wrapping_mul(0xff51_afd7_ed55_8ccd)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    Random::new(mixed ^ (mixed >> 31))
}

fn signature(differences: &[Difference]) -> String {
    differences.first().map(Difference::signature).unwrap_or_default()
}

fn shown(text: &str) -> String {
    let text: String = text
        .chars()
        .map(|char| {
            if char == '\n' || !char.is_control() {
                char.to_string()
            } else {
                char.escape_default().to_string()
            }
        })
        .collect();
    text.lines()
        .map(|line| format!("    {}\n", line.chars().take(700).collect::<String>()))
        .collect::<String>()
        .trim_end()
        .to_owned()
}
