//! Random inputs that can be had again: a failure names its seed and its round.

use std::fmt;
use std::panic::catch_unwind;

use crate::Target;

/// Most bytes of an input; what is longer repeats itself.
const BYTES_MAX: usize = 4096;

/// An input for which something did not hold.
pub struct Failure {
    /// What [`play`] was called with.
    pub seed: u64,
    /// Counted from 0.
    pub round: u64,
    /// The input.
    pub input: Vec<u8>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SEED={} round {}: b\"{}\"", self.seed, self.round, self.input.escape_ascii())
    }
}

/// Tries the target's samples, then changed ones while `goes_on` says so.
///
/// # Errors
/// The first input that made it panic.
pub fn play(target: &Target, seed: u64, mut goes_on: impl FnMut(u64) -> bool) -> Result<(), Failure> {
    let samples = (target.samples)();
    let mut random = Random::new(seed);
    let mut round = 0;
    while goes_on(round) {
        let input = match samples.get(usize::try_from(round).unwrap_or(usize::MAX)) {
            Some(sample) => sample.clone(),
            None => change(&samples, target.words, &mut random),
        };
        if catch_unwind(|| (target.run)(&input)).is_err() {
            return Err(Failure { seed, round, input });
        }
        round += 1;
    }
    Ok(())
}

/// A sample with up to eight changes, or noise.
pub fn change(samples: &[Vec<u8>], words: &[&[u8]], random: &mut Random) -> Vec<u8> {
    if samples.is_empty() || random.one_in(4) {
        return noise(words, random);
    }
    let mut input = samples[random.below(samples.len())].clone();
    for _ in 0..=random.below(8) {
        let at = random.below(input.len() + 1);
        match random.below(6) {
            0 => input.truncate(at),
            1 => drop(input.drain(at..(at + random.below(30)).min(input.len()))),
            2 if at < input.len() => input[at] ^= 1 << random.below(8),
            3 => {
                let other = &samples[random.below(samples.len())];
                let from = random.below(other.len() + 1);
                let piece = other[from..(from + random.below(60)).min(other.len())].to_vec();
                drop(input.splice(at..at, piece));
            }
            4 => drop(input.splice(at..at, piece(words, random))),
            _ => drop(input.splice(at..at, noise(words, random))),
        }
    }
    input.truncate(BYTES_MAX);
    input
}

/// Mostly what means something, so that noise gets beyond its first word.
fn noise(words: &[&[u8]], random: &mut Random) -> Vec<u8> {
    (0..random.below(60)).flat_map(|_| piece(words, random)).collect()
}

fn piece(words: &[&[u8]], random: &mut Random) -> Vec<u8> {
    match words.is_empty() || random.one_in(8) {
        true => vec![random.below(256) as u8],
        false => words[random.below(words.len())].to_vec(),
    }
}

/// xorshift64*: small, and the same everywhere.
pub struct Random(u64);

impl Random {
    /// Two seeds give two sequences.
    pub fn new(seed: u64) -> Random {
        // Neighbours must not begin alike, and 0 would stay 0.
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit.max(1)
    }

    /// True once in so many times.
    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}
