//! A quick hash for tables whose keys the configuration chose: there nobody can make names collide on purpose.

use std::hash::{BuildHasherDefault, Hasher};

/// For `HashMap`'s third parameter.
pub type BuildQuickHasher = BuildHasherDefault<QuickHasher>;

/// Eight bytes a step.
#[derive(Clone, Copy, Debug, Default)]
pub struct QuickHasher(u64);

/// 2^64 divided by the golden ratio, odd.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

impl QuickHasher {
    #[inline]
    fn add(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(FACTOR);
    }
}

impl Hasher for QuickHasher {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let (eights, rest) = bytes.as_chunks::<8>();
        for eight in eights {
            self.add(u64::from_le_bytes(*eight));
        }
        if !rest.is_empty() {
            self.add(rest.iter().fold(1, |word, byte| word << 8 | u64::from(*byte)));
        }
    }

    #[inline]
    fn write_u8(&mut self, byte: u8) {
        self.add(u64::from(byte));
    }

    #[inline]
    fn write_u32(&mut self, word: u32) {
        self.add(u64::from(word));
    }

    #[inline]
    fn write_u64(&mut self, word: u64) {
        self.add(word);
    }

    #[inline]
    fn write_usize(&mut self, word: usize) {
        self.add(word as u64);
    }

    #[inline]
    fn finish(&self) -> u64 {
        // A table takes the place from the low bits and a tag from the high ones; the product has the best in the middle.
        self.0 ^ self.0 >> 32
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::BuildHasher;

    use super::*;

    #[test]
    fn like_names_have_unlike_hashes() {
        let hash = |name: String| BuildQuickHasher::default().hash_one(name);
        let hashes: HashSet<u64> =
            (0..10_000).map(|number| hash(format!("server{number}.example.com"))).collect();
        assert_eq!(hashes.len(), 10_000);
        let places: HashSet<u64> = hashes.iter().map(|hash| hash & 0xfff).collect();
        assert!(places.len() > 3500, "{}", places.len());
    }
}
