//! Regular expressions of nginx.conf and what they captured.
//!
//! nginx matches bytes with PCRE. Most patterns run on `regex`, in linear time and on bytes; those with look-around or
//! back-references fall back to `fancy-regex`, on text whose invalid UTF-8 was replaced.

use super::{pcre, pcre_fault};
use crate::variable::{VarId, Variables};

/// What the last successful match captured: `$1` to `$9`.
#[derive(Clone, Debug, Default)]
pub struct Captures {
    subject: Vec<u8>,
    spans: Vec<Option<(usize, usize)>>,
    /// What named groups captured; they outlive the match, as variables do.
    named: Vec<(VarId, Option<Box<[u8]>>)>,
}

impl Captures {
    /// The text of group `number`; group 0 is the whole match.
    pub fn group(&self, number: usize) -> Option<&[u8]> {
        let (start, end) = (*self.spans.get(number)?)?;
        self.subject.get(start..end)
    }

    /// What a named group captured last.
    pub fn named(&self, id: VarId) -> Option<&[u8]> {
        self.named.iter().find(|(have, _)| *have == id).and_then(|(_, value)| value.as_deref())
    }

    /// Forgets them.
    pub fn clear(&mut self) {
        self.subject.clear();
        self.spans.clear();
        self.named.clear();
    }
}

/// A compiled regular expression.
#[derive(Clone, Debug)]
pub struct Pattern {
    engine: Engine,
    /// Variables of the named groups.
    named: Box<[(VarId, usize)]>,
}

#[derive(Clone, Debug)]
enum Engine {
    Bytes(regex::bytes::Regex),
    Fancy(Box<fancy_regex::Regex>),
}

impl Pattern {
    /// Compiles a pattern; `caseless` is `~*`.
    ///
    /// # Errors
    /// What is wrong with it, in nginx's words or the engine's.
    pub fn new(text: &str, caseless: bool) -> Result<Pattern, String> {
        if let Some(message) = pcre_fault::find(text) {
            return Err(message);
        }
        let written = text;
        let (text, unicode) = pcre::without_options(text);
        let text = &pcre::translate(text);
        let fast = || {
            let mut builder = regex::bytes::RegexBuilder::new(text);
            builder.case_insensitive(caseless).unicode(false).size_limit(16 << 20).build()
        };
        if !unicode && let Ok(regex) = fast() {
            return Ok(Pattern::of(Engine::Bytes(regex)));
        }
        // `regex` needs its Unicode tables for literals beyond ASCII.
        if let Ok(regex) = regex::bytes::RegexBuilder::new(text).case_insensitive(caseless).build() {
            return Ok(Pattern::of(Engine::Bytes(regex)));
        }
        let text = if caseless { format!("(?i){text}") } else { text.to_owned() };
        match fancy_regex::Regex::new(&text) {
            Ok(regex) => Ok(Pattern::of(Engine::Fancy(Box::new(regex)))),
            Err(error) => Err(format!("invalid regular expression \"{written}\": {error}")),
        }
    }

    fn of(engine: Engine) -> Pattern {
        Pattern { engine, named: Box::default() }
    }

    /// Ties named groups to the variables of their names.
    pub fn bind(&mut self, variables: &Variables) {
        let ids = self
            .names()
            .into_iter()
            .filter_map(|(name, group)| Some((variables.find(&name.to_ascii_lowercase())?, group)));
        self.named = ids.collect();
    }

    /// Matches, and on success replaces what `captures` holds.
    pub fn matches(&self, subject: &[u8], captures: &mut Captures) -> bool {
        if !self.find(subject, captures) {
            return false;
        }
        for (id, group) in &self.named {
            let value = captures.group(*group).map(Box::from);
            match captures.named.iter_mut().find(|(have, _)| have == id) {
                Some((_, old)) => *old = value,
                None => captures.named.push((*id, value)),
            }
        }
        true
    }

    fn find(&self, subject: &[u8], captures: &mut Captures) -> bool {
        match &self.engine {
            Engine::Bytes(regex) => {
                if regex.captures_len() == 1 {
                    let Some(whole) = regex.find(subject) else { return false };
                    keep(captures, subject, std::iter::once(Some((whole.start(), whole.end()))));
                    return true;
                }
                let Some(found) = regex.captures(subject) else { return false };
                keep(
                    captures,
                    subject,
                    found.iter().map(|group| group.map(|group| (group.start(), group.end()))),
                );
                true
            }
            Engine::Fancy(regex) => {
                let text = String::from_utf8_lossy(subject);
                let text: &str = &text;
                let Ok(Some(found)) = regex.captures(text) else { return false };
                keep(
                    captures,
                    text.as_bytes(),
                    found.iter().map(|group| group.map(|group| (group.start(), group.end()))),
                );
                true
            }
        }
    }

    /// Whether there is any group.
    pub(crate) fn has_groups(&self) -> bool {
        match &self.engine {
            Engine::Bytes(regex) => regex.captures_len() > 1,
            Engine::Fancy(regex) => regex.captures_len() > 1,
        }
    }

    /// The named groups, with their numbers.
    pub fn names(&self) -> Vec<(String, usize)> {
        let names: Vec<Option<&str>> = match &self.engine {
            Engine::Bytes(regex) => regex.capture_names().collect(),
            Engine::Fancy(regex) => regex.capture_names().collect(),
        };
        names.iter().enumerate().filter_map(|(at, name)| Some(((*name)?.to_owned(), at))).collect()
    }
}

fn keep(captures: &mut Captures, subject: &[u8], spans: impl Iterator<Item = Option<(usize, usize)>>) {
    captures.subject.clear();
    captures.subject.extend_from_slice(subject);
    captures.spans.clear();
    captures.spans.extend(spans);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, subject: &str, expected: &[Option<&str>]) {
        let mut captures = Captures::default();
        let matched = Pattern::new(pattern, false).expect(pattern).matches(subject.as_bytes(), &mut captures);
        assert_eq!(matched, !expected.is_empty(), "{pattern} on {subject}");
        for (number, text) in expected.iter().enumerate() {
            assert_eq!(captures.group(number), text.map(str::as_bytes), "{pattern} group {number}");
        }
    }

    #[test]
    fn groups_of_both_engines() {
        check("^/a(b*)(c)?", "/abb", &[Some("/abb"), Some("bb"), None]);
        check("x", "abc", &[]);
        check("^(?!/admin)/(.*)$", "/user", &[Some("/user"), Some("user")]);
        check("^(?!/admin)/(.*)$", "/admin", &[]);
        check(r"(a)\1", "aa", &[Some("aa"), Some("a")]);
        check("é", "é", &[Some("é")]);
    }

    #[test]
    fn a_miss_keeps_the_last_captures() {
        let mut captures = Captures::default();
        assert!(Pattern::new("(a)", false).expect("valid").matches(b"a", &mut captures));
        assert!(!Pattern::new("(b)", false).expect("valid").matches(b"a", &mut captures));
        assert_eq!(captures.group(1), Some(&b"a"[..]));
    }
}
