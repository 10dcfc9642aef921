//! The timers of a loop: two wheels, a fine one for the next second and a coarse one for the minutes behind it.
//!
//! ```text
//!   fine    256 slots of 4 ms: fire
//!   coarse  256 slots of 1 s: when its second begins, a slot's entries move to the fine wheel
//! ```
//!
//! What is further away than the coarse wheel reaches stands in its last slot, and is filed anew from there.

use std::task::Waker;

use slab::Slab;

/// Width of a fine slot, milliseconds.
const TICK_MS: u64 = 4;
const SLOTS: usize = 256;
const NONE: u32 = u32::MAX;

pub(crate) struct Wheel {
    entries: Slab<Entry>,
    /// First entries of the fine slots, then of the coarse ones.
    heads: [u32; 2 * SLOTS],
    /// One bit for each slot that is not empty.
    occupied: [[u64; SLOTS / 64]; 2],
    /// The next tick to fire, counted from the start of time.
    cursor: u64,
}

struct Entry {
    at_ms: u64,
    /// Place in `heads`; `NONE` when it is not filed.
    slot: u32,
    newer: u32,
    older: u32,
    waker: Waker,
}

impl Wheel {
    pub(crate) fn new(now_ms: u64) -> Wheel {
        Wheel {
            entries: Slab::new(),
            heads: [NONE; 2 * SLOTS],
            occupied: [[0; SLOTS / 64]; 2],
            cursor: now_ms / TICK_MS,
        }
    }

    /// Makes an entry that wakes `waker` at `at_ms`.
    pub(crate) fn add(&mut self, at_ms: u64, waker: &Waker) -> u32 {
        let entry = Entry { at_ms, slot: NONE, newer: NONE, older: NONE, waker: waker.clone() };
        let key = self.entries.insert(entry) as u32;
        self.file(key);
        key
    }

    /// Has an entry wake `waker`, at `at_ms` at the latest; when it does so now.
    pub(crate) fn update(&mut self, key: u32, at_ms: u64, waker: &Waker) -> u64 {
        let entry = &mut self.entries[key as usize];
        entry.waker.clone_from(waker);
        let (filed, filed_ms) = (entry.slot != NONE, entry.at_ms);
        match filed && filed_ms <= at_ms {
            true => filed_ms,
            false => {
                self.advance(key, at_ms);
                at_ms
            }
        }
    }

    /// Has an entry fire earlier.
    pub(crate) fn advance(&mut self, key: u32, at_ms: u64) {
        self.unlink(key);
        self.entries[key as usize].at_ms = at_ms;
        self.file(key);
    }

    pub(crate) fn remove(&mut self, key: u32) {
        self.unlink(key);
        self.entries.try_remove(key as usize);
    }

    /// Wakes everybody whose time has come.
    pub(crate) fn fire(&mut self, now_ms: u64) {
        let now = now_ms / TICK_MS;
        while self.cursor <= now {
            if self.cursor.is_multiple_of(SLOTS as u64) {
                self.cascade();
            }
            if self.occupied[0] == [0; SLOTS / 64] {
                // Nothing before the next second.
                let next = (self.cursor / SLOTS as u64 + 1) * SLOTS as u64;
                self.cursor = next.min(now + 1);
                continue;
            }
            let slot = self.cursor as u32 % SLOTS as u32;
            while self.heads[slot as usize] != NONE {
                let key = self.heads[slot as usize];
                self.unlink(key);
                self.entries[key as usize].waker.wake_by_ref();
            }
            self.cursor += 1;
        }
    }

    /// When [`Wheel::fire`] is to be called next, in milliseconds.
    pub(crate) fn next_ms(&self) -> Option<u64> {
        let fine = self.first(0, self.cursor);
        let coarse = self.first(1, self.cursor / SLOTS as u64).map(|second| second * SLOTS as u64);
        fine.into_iter().chain(coarse).min().map(|tick| tick * TICK_MS)
    }

    /// The first occupied position of a wheel that stands at `from`.
    fn first(&self, wheel: usize, from: u64) -> Option<u64> {
        let start = from as usize % SLOTS;
        let (word, bit) = (start / 64, start % 64);
        let words = SLOTS / 64;
        // The first word is looked at twice: its high part first, its low part after a round.
        for step in 0..=words {
            let index = (word + step) % words;
            let mask = match step {
                0 => u64::MAX << bit,
                last if last == words => !(u64::MAX << bit),
                _ => u64::MAX,
            };
            let found = self.occupied[wheel][index] & mask;
            if found != 0 {
                let slot = index * 64 + found.trailing_zeros() as usize;
                return Some(from + ((slot + SLOTS - start) % SLOTS) as u64);
            }
        }
        None
    }

    fn file(&mut self, key: u32) {
        let slots = SLOTS as u64;
        // Never early; and never in a slot that was emptied already.
        let tick = self.entries[key as usize].at_ms.div_ceil(TICK_MS).max(self.cursor);
        let slot = match tick - self.cursor < slots {
            true => tick % slots,
            false => {
                let second = (tick / slots).min(self.cursor / slots + slots - 1);
                slots + second % slots
            }
        } as usize;
        let older = std::mem::replace(&mut self.heads[slot], key);
        if older != NONE {
            self.entries[older as usize].newer = key;
        }
        let entry = &mut self.entries[key as usize];
        (entry.slot, entry.newer, entry.older) = (slot as u32, NONE, older);
        self.occupied[slot / SLOTS][slot % SLOTS / 64] |= 1 << (slot % 64);
    }

    fn unlink(&mut self, key: u32) {
        let Some(entry) = self.entries.get_mut(key as usize) else { return };
        let (slot, newer, older) =
            (std::mem::replace(&mut entry.slot, NONE) as usize, entry.newer, entry.older);
        if slot == NONE as usize {
            return;
        }
        if older != NONE {
            self.entries[older as usize].newer = newer;
        }
        if newer != NONE {
            self.entries[newer as usize].older = older;
            return;
        }
        self.heads[slot] = older;
        if older == NONE {
            self.occupied[slot / SLOTS][slot % SLOTS / 64] &= !(1 << (slot % 64));
        }
    }

    /// Moves the entries of the second that begins to the fine wheel.
    fn cascade(&mut self) {
        let slot = SLOTS + (self.cursor / SLOTS as u64) as usize % SLOTS;
        let mut moved = Vec::new();
        while self.heads[slot] != NONE {
            moved.push(self.heads[slot]);
            self.unlink(self.heads[slot]);
        }
        for key in moved {
            self.file(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::Mutex;
    use std::task::Wake;

    use super::*;

    struct Note(u64, Arc<Mutex<Vec<u64>>>);

    impl Wake for Note {
        fn wake(self: Arc<Self>) {
            self.1.lock().unwrap().push(self.0);
        }
    }

    struct Rig {
        wheel: Wheel,
        fired: Arc<Mutex<Vec<u64>>>,
    }

    impl Rig {
        fn new(now_ms: u64) -> Rig {
            Rig { wheel: Wheel::new(now_ms), fired: Arc::default() }
        }

        fn add(&mut self, at_ms: u64) -> u32 {
            self.wheel.add(at_ms, &Waker::from(Arc::new(Note(at_ms, self.fired.clone()))))
        }

        fn fire(&mut self, now_ms: u64) -> Vec<u64> {
            self.wheel.fire(now_ms);
            std::mem::take(&mut self.fired.lock().unwrap())
        }
    }

    #[test]
    fn entries_fire_at_their_time_and_not_before() {
        for start in [0, 1, 1_000_003, 1023 * 4, 1024 * 1024 - 1] {
            let mut rig = Rig::new(start);
            let waits =
                [0, 1, 3, 4, 5, 500, 1_019, 1_023, 1_024, 1_025, 5_000, 75_000, 261_000, 400_000, 3_600_000];
            for wait in waits {
                rig.add(start + wait);
            }
            let mut fired = 0;
            let mut now = start;
            while let Some(next) = rig.wheel.next_ms() {
                let early = rig.fire(next.saturating_sub(1).max(now));
                assert!(early.iter().all(|at| *at <= now), "{early:?} by {next}");
                fired += early.len();
                now = next;
                for at in rig.fire(now) {
                    assert!(at <= now && now - at < 2 * TICK_MS, "{at} fires at {now}");
                    fired += 1;
                }
            }
            assert_eq!(fired, waits.len(), "from {start}");
        }
    }

    #[test]
    fn a_long_sleep_misses_nothing_and_order_does_not_matter() {
        let mut rig = Rig::new(77);
        for wait in [900_000, 60_000, 2, 5_000] {
            rig.add(77 + wait);
        }
        let mut fired = rig.fire(77 + 899_999);
        fired.sort_unstable();
        assert_eq!(fired, [79, 5_077, 60_077]);
        assert_eq!(rig.fire(77 + 900_004), [900_077]);
        assert_eq!(rig.wheel.next_ms(), None);
    }

    #[test]
    fn entries_can_be_moved_and_removed() {
        let mut rig = Rig::new(0);
        let keys: Vec<u32> = (0..10).map(|_| rig.add(100)).collect();
        for key in &keys[..5] {
            rig.wheel.remove(*key);
        }
        rig.wheel.advance(keys[5], 50);
        assert_eq!(rig.fire(52), [100]);
        assert_eq!(rig.fire(200).len(), 4);
        let mut rig = Rig::new(0);
        let key = rig.add(5_000);
        rig.wheel.remove(key);
        assert_eq!(rig.wheel.next_ms(), None);
    }

    /// Against a list that is searched: seeded, so that a failure can be repeated.
    #[test]
    fn it_agrees_with_a_list() {
        for seed in 0..50u64 {
            let mut state = seed * 2 + 1;
            let mut random = |below: u64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) % below
            };
            let mut now = random(1 << 22);
            let mut rig = Rig::new(now);
            let mut list: Vec<(u32, u64)> = Vec::new();
            for _ in 0..2_000 {
                match random(4) {
                    0 | 1 => {
                        let reach = [8, 3_000, 300_000, 2_000_000][random(4) as usize];
                        let at = now + random(reach);
                        list.push((rig.add(at), at));
                    }
                    2 if !list.is_empty() => {
                        let (key, _) = list.swap_remove(random(list.len() as u64) as usize);
                        rig.wheel.remove(key);
                    }
                    _ => {
                        let step = [3, 100, 5_000, 400_000][random(4) as usize];
                        now += random(step);
                        let mut fired = rig.fire(now);
                        assert!(fired.iter().all(|at| *at <= now), "seed {seed} at {now}");
                        // What was added for a tick that is over fires with the next.
                        let surely = (now / TICK_MS).saturating_sub(1) * TICK_MS;
                        for (key, at) in std::mem::take(&mut list) {
                            match fired.iter().position(|fired| *fired == at) {
                                Some(place) => {
                                    fired.swap_remove(place);
                                    rig.wheel.remove(key);
                                }
                                None => {
                                    assert!(at > surely, "seed {seed}: {at} is late at {now}");
                                    list.push((key, at));
                                }
                            }
                        }
                        assert_eq!(fired, [0; 0], "seed {seed} at {now}");
                    }
                }
            }
        }
    }
}
