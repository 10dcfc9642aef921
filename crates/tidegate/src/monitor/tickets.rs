//! What session tickets are encrypted with. Made and renewed here and not where they are used, so that sessions outlive the
//! process that serves.

use std::time::{Duration, Instant};

use tls::config::sessions::{KeyBytes, random_key};

/// A key encrypts for the time that the longest session lives, and is known for as long again, so that a ticket lives as long
/// as it says; but for no shorter time than this.
const RENEWED_AFTER_MIN: Duration = Duration::from_secs(60);

/// The keys: the one that encrypts, and the one before it.
pub struct Tickets {
    keys: Vec<KeyBytes>,
    made: Instant,
}

impl Tickets {
    /// A first key.
    pub fn new(now: Instant) -> Tickets {
        Tickets { keys: random_key().into_iter().collect(), made: now }
    }

    /// As they are handed over.
    pub fn keys(&self) -> &[KeyBytes] {
        &self.keys
    }

    /// When the next key is due. Never, while no session has a ticket.
    pub fn due(&self, lifetime: Option<Duration>) -> Option<Instant> {
        self.made.checked_add(lifetime?.max(RENEWED_AFTER_MIN))
    }

    /// Makes another key. Without randomness the old one stays.
    pub fn renew(&mut self, now: Instant) {
        self.made = now;
        if let Some(key) = random_key() {
            self.keys.insert(0, key);
            self.keys.truncate(2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_encrypts_for_the_time_of_a_session_and_is_known_for_as_long() {
        let start = Instant::now();
        let mut tickets = Tickets::new(start);
        let [first] = *tickets.keys() else { panic!("one key") };
        assert_eq!(tickets.due(None), None);
        assert_eq!(tickets.due(Some(Duration::from_secs(1))), Some(start + RENEWED_AFTER_MIN));
        assert_eq!(tickets.due(Some(Duration::MAX)), None);
        let day = Duration::from_secs(86_400);
        assert_eq!(tickets.due(Some(day)), Some(start + day));
        tickets.renew(start + day);
        let [second, before] = *tickets.keys() else { panic!("two keys") };
        assert!(second != first && before == first);
        assert_eq!(tickets.due(Some(day)), Some(start + 2 * day));
        tickets.renew(start + 2 * day);
        assert!(tickets.keys().len() == 2 && !tickets.keys().contains(&first));
    }
}
