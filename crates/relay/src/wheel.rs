//! Timers for many tunnels that rarely fire: one coarse wheel, one turn ahead.
//!
//! An entry is a promise to look at a tunnel, not a deadline: whoever is looked at says when to look again. So traffic
//! moves nothing here, and a deadline beyond the wheel's horizon is looked at once a round.

/// Width of a slot, milliseconds.
pub(crate) const SLOT_MS: u64 = 128;
const SLOTS: usize = 512;

pub(crate) struct Wheel<T> {
    slots: Vec<Vec<T>>,
    /// One bit for each slot that isn't empty.
    occupied: [u64; SLOTS / 64],
    /// The next slot to be emptied, counted from the start of time.
    cursor: u64,
}

impl<T> Wheel<T> {
    pub(crate) fn new(now_ms: u64) -> Wheel<T> {
        Wheel {
            slots: (0..SLOTS).map(|_| Vec::new()).collect(),
            occupied: [0; SLOTS / 64],
            cursor: now_ms / SLOT_MS,
        }
    }

    /// Files an entry and returns the time it will be looked at, in milliseconds: never before `at_ms`, unless that is
    /// beyond the horizon.
    pub(crate) fn insert(&mut self, at_ms: u64, entry: T) -> u64 {
        let slot = at_ms.div_ceil(SLOT_MS).clamp(self.cursor, self.cursor + SLOTS as u64 - 1);
        let index = slot as usize % SLOTS;
        self.slots[index].push(entry);
        self.occupied[index / 64] |= 1 << (index % 64);
        slot * SLOT_MS
    }

    /// Takes out what is to be looked at by now, one slot at a time; `None` when nothing is left.
    pub(crate) fn expired(&mut self, now_ms: u64) -> Option<Vec<T>> {
        let current = now_ms / SLOT_MS;
        while self.cursor <= current {
            let index = self.cursor as usize % SLOTS;
            self.cursor += 1;
            if self.occupied[index / 64] & (1 << (index % 64)) != 0 {
                self.occupied[index / 64] &= !(1 << (index % 64));
                return Some(std::mem::take(&mut self.slots[index]));
            }
        }
        None
    }

    /// When the next entry is to be looked at, in milliseconds.
    pub(crate) fn next_ms(&self) -> Option<u64> {
        let start = self.cursor as usize % SLOTS;
        let (word, bit) = (start / 64, start % 64);
        let words = self.occupied.len();
        // The first word is looked at twice: its high part first, its low part after a round.
        for step in 0..=words {
            let index = (word + step) % words;
            let mask = match step {
                0 => u64::MAX << bit,
                last if last == words => !(u64::MAX << bit),
                _ => u64::MAX,
            };
            let found = self.occupied[index] & mask;
            if found != 0 {
                let slot = index * 64 + found.trailing_zeros() as usize;
                let ahead = (slot + SLOTS - start) % SLOTS;
                return Some((self.cursor + ahead as u64) * SLOT_MS);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(wheel: &mut Wheel<u64>, now: u64) -> Vec<u64> {
        let mut all = Vec::new();
        while let Some(entries) = wheel.expired(now) {
            all.extend(entries);
        }
        all
    }

    #[test]
    fn entries_come_out_at_their_time_and_not_before() {
        let start = 1_000_000;
        let mut wheel = Wheel::new(start);
        assert_eq!(wheel.next_ms(), None);
        for after in [1, 127, 128, 129, 5_000, 40_000] {
            let at = wheel.insert(start + after, start + after);
            assert!(at >= start + after && at < start + after + 2 * SLOT_MS);
        }
        let mut seen = 0;
        let mut now = start;
        while let Some(next) = wheel.next_ms() {
            assert!(drain(&mut wheel, next.saturating_sub(1).max(now)).is_empty());
            now = next;
            for entry in drain(&mut wheel, now) {
                assert!(entry <= now && now - entry < 2 * SLOT_MS);
                seen += 1;
            }
        }
        assert_eq!(seen, 6);
    }

    #[test]
    fn the_far_future_is_looked_at_within_a_round() {
        let mut wheel = Wheel::new(0);
        let at = wheel.insert(u64::MAX / 2, 7u64);
        assert_eq!(at, (SLOTS as u64 - 1) * SLOT_MS);
        assert_eq!(wheel.next_ms(), Some(at));
        assert_eq!(drain(&mut wheel, at), [7]);
    }

    #[test]
    fn next_finds_every_slot_from_every_cursor() {
        for cursor in [0u64, 1, 63, 64, 100, 511, 512, 777] {
            for ahead in [0u64, 1, 62, 63, 64, 65, 300, 511] {
                let mut wheel = Wheel::new(cursor * SLOT_MS);
                let at = wheel.insert((cursor + ahead) * SLOT_MS, 1u64);
                assert_eq!(at, (cursor + ahead) * SLOT_MS);
                assert_eq!(wheel.next_ms(), Some(at), "cursor {cursor}, {ahead} ahead");
            }
        }
    }
}
