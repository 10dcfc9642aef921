//! How values stand in a log line.

/// `log_format`'s `escape=`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Escaping {
    /// `"`, `\`, control and high bytes as `\xXX`; a value that is missing as `-`.
    #[default]
    Default,
    /// As a JSON string's inside; a missing value as nothing.
    Json,
    /// As it is; a missing value as nothing.
    None,
}

impl Escaping {
    /// Escapes what was appended to `line` from `start` on; a value that was not `found` is not there.
    pub(crate) fn apply(self, found: bool, start: usize, line: &mut Vec<u8>) {
        match (self, found) {
            (Escaping::None, true) => {}
            (_, true) if is_clean(&line[start..]) => {}
            (Escaping::Default, true) => {
                let value = line.split_off(start);
                escape_default(&value, line);
            }
            (Escaping::Json, true) => {
                let value = line.split_off(start);
                escape_json(&value, line);
            }
            (_, false) => {
                line.truncate(start);
                if self == Escaping::Default {
                    line.push(b'-');
                }
            }
        }
    }
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";
const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x80 * ONES;

/// Whether no byte is one that any escaping changes: nearly all values are so.
fn is_clean(value: &[u8]) -> bool {
    let Some(last) = value.last_chunk::<8>() else {
        return !value.iter().any(|byte| is_odd(*byte));
    };
    let (eights, _) = value.as_chunks::<8>();
    let odd = eights.iter().fold(odd_in(*last), |odd, eight| odd | odd_in(*eight));
    odd == 0
}

/// Not 0 if there is an odd byte among the eight.
fn odd_in(eight: [u8; 8]) -> u64 {
    let word = u64::from_le_bytes(eight);
    let zero = |word: u64| word.wrapping_sub(ONES) & !word;
    let below_space = word.wrapping_sub(ONES * 0x20) & !word;
    let quote = zero(word ^ (ONES * u64::from(b'"')));
    let backslash = zero(word ^ (ONES * u64::from(b'\\')));
    (word | below_space | quote | backslash | zero(word ^ (ONES * 0x7f))) & HIGH
}

fn is_odd(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\' | ..0x20 | 0x7f..)
}

/// `escape=default`
pub fn escape_default(value: &[u8], out: &mut Vec<u8>) {
    let mut rest = value;
    while let Some(at) = rest.iter().position(|byte| is_odd(*byte)) {
        let byte = rest[at];
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(&[b'\\', b'x', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// `escape=json`
pub fn escape_json(value: &[u8], out: &mut Vec<u8>) {
    for &byte in value {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            ..0x20 => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
            _ => out.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_clean_values_are_taken_as_they_are() {
        for byte in 0..=255u8 {
            for (before, behind) in [(0, 0), (3, 9), (8, 0), (12, 2)] {
                let value = [&b"a".repeat(before)[..], &[byte], &b"z".repeat(behind)].concat();
                assert_eq!(is_clean(&value), !is_odd(byte), "{value:?}");
                let mut escaped = Vec::new();
                escape_default(&value, &mut escaped);
                assert_eq!(escaped == value, is_clean(&value), "{value:?}");
            }
        }
    }

    #[test]
    fn values_in_a_line() {
        let check = |escaping: Escaping, value: Option<&str>, expected: &str| {
            let mut line = b"\"kept ".to_vec();
            line.extend_from_slice(value.unwrap_or("dropped").as_bytes());
            escaping.apply(value.is_some(), 6, &mut line);
            assert_eq!(String::from_utf8_lossy(&line), format!("\"kept {expected}"));
        };
        check(Escaping::Default, None, "-");
        check(Escaping::Json, None, "");
        check(Escaping::None, None, "");
        check(Escaping::Default, Some(""), "");
        check(Escaping::Default, Some("a\"b\\c\u{1}d\u{e9}"), "a\\x22b\\x5Cc\\x01d\\xC3\\xA9");
        check(Escaping::Json, Some("a\"b\\\n\u{1}\u{e9}"), "a\\\"b\\\\\\n\\u0001\u{e9}");
        check(Escaping::None, Some("a\"b\\\n"), "a\"b\\\n");
    }
}
