//! Pairs of certificate and key that are read at handshakes, kept for a while (`ssl_certificate_cache`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::config::certificates::Pair;

/// Pairs by the names of their files. When there are too many, the one unused for longest goes.
#[derive(Debug)]
pub struct Cache {
    /// Pairs at most.
    max: usize,
    valid: Duration,
    inactive: Duration,
    entries: Mutex<HashMap<Names, Entry>>,
}

/// The names of a certificate and its key.
pub type Names = (Box<str>, Box<str>);

#[derive(Debug)]
struct Entry {
    pair: Arc<Pair>,
    /// Of the bytes it was made of.
    hash: u64,
    checked: Instant,
    used: Instant,
}

/// What a cache knows of a pair.
#[derive(Debug)]
pub enum Found {
    /// It can be used as it is.
    Fresh(Arc<Pair>),
    /// It is older than `valid=`: good still if its files hash to this.
    Old(Arc<Pair>, u64),
    /// Nothing.
    Nothing,
}

impl Cache {
    /// `files` are certificates and keys at most, as nginx counts them; a pair is two.
    pub fn new(files: usize, valid: Duration, inactive: Duration) -> Cache {
        Cache { max: (files / 2).max(1), valid, inactive, entries: Mutex::default() }
    }

    /// Looks a pair up, which counts as its use.
    pub fn find(&self, names: &Names, now: Instant) -> Found {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = entries.get_mut(names) else { return Found::Nothing };
        entry.used = now;
        match now.saturating_duration_since(entry.checked) <= self.valid {
            true => Found::Fresh(entry.pair.clone()),
            false => Found::Old(entry.pair.clone(), entry.hash),
        }
    }

    /// Keeps a pair that was read now, of files that hash to `hash`.
    pub fn keep(&self, names: Names, pair: Arc<Pair>, hash: u64, now: Instant) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.remove(&names);
        entries.retain(|_, entry| now.saturating_duration_since(entry.used) <= self.inactive);
        while entries.len() >= self.max {
            let Some(oldest) = entries.iter().min_by_key(|(_, entry)| entry.used) else { break };
            let oldest = oldest.0.clone();
            entries.remove(&oldest);
        }
        entries.insert(names, Entry { pair, hash, checked: now, used: now });
    }

    /// Forgets a pair whose files are of no use any more.
    pub fn forget(&self, names: &Names) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).remove(names);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> Arc<Pair> {
        let own = rcgen::generate_simple_self_signed(vec!["a".to_owned()]).unwrap();
        let key = crate::files::key("k", own.signing_key.serialize_pem().as_bytes(), &[]).unwrap();
        Arc::new(crate::files::pair("c", vec![own.cert.der().clone()], "k", &key).unwrap())
    }

    #[test]
    fn pairs_are_kept_for_their_time_and_the_unused_go_first() {
        let (valid, inactive) = (Duration::from_secs(60), Duration::from_secs(10));
        let cache = Cache::new(4, valid, inactive);
        let (pair, start) = (pair(), Instant::now());
        let names = |name: &str| (Box::from(name), Box::from("key"));
        let at = |seconds| start + Duration::from_secs(seconds);
        let check = |name: &str, seconds, expected: &str| {
            let found = match cache.find(&names(name), at(seconds)) {
                Found::Fresh(_) => "fresh",
                Found::Old(_, 7) => "old",
                Found::Old(..) => "another",
                Found::Nothing => "",
            };
            assert_eq!(found, expected, "{name} at {seconds}");
        };
        let keep = |name: &str, seconds| cache.keep(names(name), pair.clone(), 7, at(seconds));
        keep("a", 0);
        keep("b", 1);
        check("a", 2, "fresh");
        keep("c", 3);
        check("b", 3, "");
        check("a", 3, "fresh");
        check("c", 61, "fresh");
        check("a", 61, "old");
        // Only when another comes are those looked at that nobody used.
        check("a", 80, "old");
        keep("d", 80);
        check("c", 80, "");
        check("a", 80, "old");
        cache.forget(&names("a"));
        check("a", 80, "");
    }
}
