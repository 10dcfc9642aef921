//! glob(3) as nginx calls it: no flags, C locale.
//!
//! `*`, `?` and `[...]` match bytes in any component and never a `/`; a leading dot must be written; a backslash takes the
//! next character literally; directories that cannot be read hold nothing; the list is sorted bytewise by whole path.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Whether nginx would treat this path as a pattern.
pub(crate) fn is_pattern(path: &[u8]) -> bool {
    path.iter().any(|byte| matches!(byte, b'*' | b'?' | b'['))
}

/// Every existing path that matches `pattern`, sorted.
pub(crate) fn expand(pattern: &Path) -> Vec<PathBuf> {
    let pattern = pattern.as_os_str().as_bytes();
    let relative = pattern.iter().take_while(|&&byte| byte == b'/').count();
    let mut found = vec![pattern[..relative].to_vec()];
    let mut parts = pattern[relative..].split(|&byte| byte == b'/').peekable();
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        found = found.iter().flat_map(|base| step(base, part, last)).collect();
    }
    found.sort();
    found.dedup();
    found.into_iter().map(|path| PathBuf::from(OsString::from_vec(path))).collect()
}

/// The paths that follow from `base` by one more component. All but the last get a `/`, so they must be directories.
fn step(base: &[u8], part: &[u8], last: bool) -> Vec<Vec<u8>> {
    let end: &[u8] = if last { b"" } else { b"/" };
    if !is_pattern(part) {
        let path = [base, &unescape(part), end].concat();
        let exists = fs::symlink_metadata(OsStr::from_bytes(&path)).is_ok();
        return if exists { vec![path] } else { Vec::new() };
    }
    let directory = if base.is_empty() { b"." } else { base };
    let Ok(entries) = fs::read_dir(OsStr::from_bytes(directory)) else { return Vec::new() };
    // glob(3) goes by readdir(), which lists these two as well: ".*" matches them.
    let names = [".".into(), "..".into()].into_iter().chain(entries.flatten().map(|entry| entry.file_name()));
    let mut paths = Vec::new();
    for name in names.filter(|name| matches(part, name.as_bytes())) {
        let path = [base, name.as_bytes(), end].concat();
        if last || fs::metadata(OsStr::from_bytes(&path)).is_ok_and(|metadata| metadata.is_dir()) {
            paths.push(path);
        }
    }
    paths
}

fn unescape(part: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(part.len());
    let mut rest = part.iter();
    while let Some(&byte) = rest.next() {
        let escaped = if byte == b'\\' { rest.next() } else { None };
        text.push(*escaped.unwrap_or(&byte));
    }
    text
}

/// Whether one file name matches one component of a pattern.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    if name.first() == Some(&b'.') && !(pattern.starts_with(b".") || pattern.starts_with(b"\\.")) {
        return false;
    }
    // The usual two-pointer match: on a mismatch let the last star swallow one more byte. Never exponential.
    let (mut p, mut n) = (0, 0);
    let mut retry = None;
    while n < name.len() {
        if pattern.get(p) == Some(&b'*') {
            retry = Some((p, n));
            p += 1;
        } else if let Some(used) = match_one(&pattern[p..], name[n]) {
            p += used;
            n += 1;
        } else if let Some((star, swallowed)) = retry {
            retry = Some((star, swallowed + 1));
            p = star + 1;
            n = swallowed + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

/// Matches one byte; answers how much of the pattern that took.
fn match_one(pattern: &[u8], byte: u8) -> Option<usize> {
    match *pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'\\', escaped, ..] => (escaped == byte).then_some(2),
        [b'[', ref rest @ ..] => match Set::parse(rest) {
            Some(set) => set.contains(byte).then_some(1 + set.len),
            None => (byte == b'[').then_some(1),
        },
        [literal, ..] => (literal == byte).then_some(1),
    }
}

/// `[...]` after the opening bracket.
struct Set<'p> {
    negated: bool,
    items: &'p [u8],
    /// Bytes up to and with the closing bracket.
    len: usize,
}

impl<'p> Set<'p> {
    /// `None` when nothing closes it: then the bracket means itself.
    fn parse(text: &'p [u8]) -> Option<Self> {
        let negated = matches!(text.first(), Some(b'!' | b'^'));
        let first = usize::from(negated);
        let mut at = first;
        loop {
            match *text.get(at..)? {
                // A closing bracket in first place is a member.
                [b']', ..] if at > first => break,
                [b'\\', _, ..] => at += 2,
                [b'[', b':', ref rest @ ..] => match rest.windows(2).position(|pair| pair == b":]") {
                    Some(end) => at += end + 4,
                    None => at += 1,
                },
                [_, ..] => at += 1,
                [] => return None,
            }
        }
        Some(Self { negated, items: &text[first..at], len: at + 1 })
    }

    fn contains(&self, byte: u8) -> bool {
        self.holds(byte) != self.negated
    }

    fn holds(&self, byte: u8) -> bool {
        let mut rest = self.items;
        loop {
            if let [b'[', b':', tail @ ..] = rest
                && let Some(end) = tail.windows(2).position(|pair| pair == b":]")
            {
                if in_class(&tail[..end], byte) {
                    return true;
                }
                rest = &tail[end + 2..];
                continue;
            }
            let Some((low, tail)) = member(rest) else { return false };
            let (high, tail) = match tail {
                [b'-', after @ ..] => member(after).unwrap_or((low, tail)),
                _ => (low, tail),
            };
            if (low..=high).contains(&byte) {
                return true;
            }
            rest = tail;
        }
    }
}

/// One member of a set, its backslash removed, and what follows it.
fn member(items: &[u8]) -> Option<(u8, &[u8])> {
    match items {
        [b'\\', byte, rest @ ..] | [byte, rest @ ..] => Some((*byte, rest)),
        [] => None,
    }
}

fn in_class(name: &[u8], byte: u8) -> bool {
    match name {
        b"alnum" => byte.is_ascii_alphanumeric(),
        b"alpha" => byte.is_ascii_alphabetic(),
        b"blank" => matches!(byte, b' ' | b'\t'),
        b"cntrl" => byte.is_ascii_control(),
        b"digit" => byte.is_ascii_digit(),
        b"graph" => byte.is_ascii_graphic(),
        b"lower" => byte.is_ascii_lowercase(),
        b"print" => byte.is_ascii_graphic() || byte == b' ',
        b"punct" => byte.is_ascii_punctuation(),
        b"space" => byte.is_ascii_whitespace() || byte == 0x0b,
        b"upper" => byte.is_ascii_uppercase(),
        b"xdigit" => byte.is_ascii_hexdigit(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_fnmatch_says() {
        let check = |pattern: &str, name: &str, expected: bool| {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} against {name}");
        };
        check("*.conf", "a.conf", true);
        check("*.conf", ".conf", false);
        check(".*", ".conf", true);
        check("\\.*", ".conf", true);
        check("?onf", ".onf", false);
        check("[.]onf", ".onf", false);
        check("*", "", true);
        check("*.conf", "a.conf~", false);
        check("*a*b*c", "xxaxxbxxbxc", true);
        check("*a*b*c", "xxaxxbxxbxcd", false);
        check("a?c", "abc", true);
        check("a?c", "ac", false);
        check("[abc]", "b", true);
        check("[!abc]", "b", false);
        check("[^abc]", "d", true);
        check("[a-c]x", "bx", true);
        check("[a-c]x", "dx", false);
        check("[a-]", "-", true);
        check("[]a]", "]", true);
        check("[!]a]", "]", false);
        check("[a", "[a", true);
        check("[[:digit:]-]*", "7x", true);
        check("[[:digit:]-]*", "-x", true);
        check("[[:digit:]]*", "x7", false);
        check("[\\]]", "]", true);
        check("\\*", "*", true);
        check("\\*", "a", false);
    }

    #[test]
    fn many_stars_do_not_take_for_ever() {
        assert!(!matches("*a".repeat(200).as_bytes(), "a".repeat(199).as_bytes()));
    }
}
