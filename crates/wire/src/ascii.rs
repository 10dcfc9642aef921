//! Bytes of text looked at eight at a time: comparing without case, and finding the end of a name or a line.

/// Whether both are the same text, whatever the case of its ASCII letters.
#[inline]
pub fn same(a: &[u8], b: &[u8]) -> bool {
    let len = a.len();
    if len != b.len() {
        return false;
    }
    if len < 8 {
        return same_word(short_word(a), short_word(b));
    }
    let mut at = 0;
    while at + 8 < len {
        if !same_word(word(a, at), word(b, at)) {
            return false;
        }
        at += 8;
    }
    // The last eight, some of them for the second time.
    same_word(word(a, len - 8), word(b, len - 8))
}

/// Where the first CR, LF or NUL is, at or behind `from`.
#[inline]
pub(crate) fn find_line_end(buf: &[u8], from: usize) -> Option<usize> {
    let rest = buf.get(from..)?;
    let (eights, _) = rest.as_chunks::<8>();
    let mut at = 0;
    // Most values are short; a search that is quick for long ones takes a while to begin.
    for eight in eights.iter().take(4) {
        let word = u64::from_le_bytes(*eight);
        // A byte below a space borrows and sets its high bit; what it borrows from can only be behind it.
        let hits = word.wrapping_sub(SPACES) & !word & HIGH;
        if hits != 0 {
            at += hits.trailing_zeros() as usize / 8;
            if matches!(rest[at], b'\r' | b'\n' | 0) {
                return Some(from + at);
            }
            break;
        }
        at += 8;
    }
    memchr::memchr3(b'\r', b'\n', 0, &rest[at..]).map(|found| from + at + found)
}

/// Where `byte` first is among the first 32.
#[inline]
pub(crate) fn find_early(buf: &[u8], byte: u8) -> Option<usize> {
    for at in [0, 8, 16, 24] {
        let Some(eight) = buf.get(at..).and_then(<[u8]>::first_chunk) else {
            return buf.get(at..)?.iter().position(|have| *have == byte).map(|found| at + found);
        };
        let differs = u64::from_le_bytes(*eight) ^ (ONES * u64::from(byte));
        let hits = differs.wrapping_sub(ONES) & !differs & HIGH;
        if hits != 0 {
            return Some(at + hits.trailing_zeros() as usize / 8);
        }
    }
    None
}

const HIGH: u64 = 0x8080_8080_8080_8080;
const CASE: u64 = 0x2020_2020_2020_2020;
const SPACES: u64 = 0x2020_2020_2020_2020;
const ONES: u64 = 0x0101_0101_0101_0101;

/// Eight bytes from `at` on, the first lowest.
#[inline]
fn word(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |eight| u64::from_le_bytes(*eight))
}

/// Fewer than eight bytes, each at least once; of two texts of one length in the same order.
#[inline]
fn short_word(bytes: &[u8]) -> u64 {
    if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        return u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << 32;
    }
    bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

#[inline]
fn same_word(a: u64, b: u64) -> bool {
    let differs = a ^ b;
    if differs == 0 {
        return true;
    }
    if differs & !CASE != 0 {
        return false;
    }
    // Where they differ in case both must be letters; one is enough to look at.
    let lower = (a | CASE) & !HIGH;
    let from_a = lower + ONES * (0x80 - b'a' as u64);
    let behind_z = lower + ONES * (0x7f - b'z' as u64);
    let letters = from_a & !behind_z & !a & HIGH;
    differs & !(letters >> 2) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_bytes_compares_as_std_does() {
        for a in 0..=255u8 {
            for b in 0..=255u8 {
                for len in [1, 3, 4, 7, 8, 9, 16, 21] {
                    for at in [0, len / 2, len - 1] {
                        let (mut left, mut right) = (vec![b'x'; len], vec![b'X'; len]);
                        (left[at], right[at]) = (a, b);
                        assert_eq!(
                            same(&left, &right),
                            left.eq_ignore_ascii_case(&right),
                            "{left:?} {right:?}"
                        );
                    }
                }
            }
        }
        assert!(same(b"", b""));
        assert!(!same(b"a", b""));
        assert!(!same(b"abcdefgh", b"abcdefghi"));
    }

    #[test]
    fn a_byte_is_found_early_or_not_at_all() {
        for len in 0..40 {
            let text = [&b"x".repeat(len)[..], b"::x"].concat();
            assert_eq!(find_early(&text, b':'), (len < 32).then_some(len), "{len}");
            assert_eq!(find_early(&text[..len], b':'), None);
        }
        // Next to the byte that is looked for in value.
        assert_eq!(find_early(b"abc;:9:defghijk", b':'), Some(4));
    }

    #[test]
    fn the_end_of_a_line_is_found() {
        for byte in 0..=255u8 {
            for len in [0, 1, 7, 8, 9, 30, 31, 32, 33, 100] {
                let text = [&b" ".repeat(len)[..], &[byte, 0xff, b'\t', b'\n', b'a', 0]].concat();
                let expected = |from: usize| {
                    let ends = |byte: &u8| matches!(byte, b'\r' | b'\n' | 0);
                    text[from..].iter().position(ends).map(|at| at + from)
                };
                for from in [0, 1, len, len + 1, text.len()] {
                    assert_eq!(find_line_end(&text, from), expected(from), "{text:?} {from}");
                }
            }
        }
        assert_eq!(find_line_end(b"abc", 4), None);
        assert_eq!(find_line_end(&[0x80; 50], 0), None);
    }
}
