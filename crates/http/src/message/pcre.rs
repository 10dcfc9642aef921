//! Patterns as nginx's users write them, in PCRE's syntax, for engines of another: the same characters, other meanings.
//!
//! What both read alike is copied. What they don't: brackets, `&&`, `--` and `~~` inside a class are plain characters in
//! PCRE; so are `\<` and `\y`; `\h` is a blank; `$` also stands before a line feed that ends the text.

use std::iter::Peekable;
use std::str::Chars;

/// The pattern behind its leading `(*UTF8)`, `(*UTF)` and `(*UCP)`, and whether there is one: characters are then those of
/// Unicode rather than bytes.
pub(super) fn without_options(pattern: &str) -> (&str, bool) {
    let mut rest = pattern;
    while let Some(behind) =
        ["(*UTF8)", "(*UTF)", "(*UCP)"].iter().find_map(|option| rest.strip_prefix(option))
    {
        rest = behind;
    }
    (rest, rest.len() < pattern.len())
}

/// The pattern in the engines' syntax.
pub(super) fn translate(pattern: &str) -> String {
    let mut reader = Reader {
        rest: pattern.chars().peekable(),
        out: String::with_capacity(pattern.len() + 16),
        lines: has_line_mode(pattern),
        groups_max: pattern.matches('(').count(),
    };
    while let Some(c) = reader.rest.next() {
        match c {
            '\\' => reader.escape(),
            '[' => reader.class(),
            '(' => reader.group(),
            '$' if !reader.lines => reader.out.push_str(r"(?:\n?\z)"),
            c => reader.out.push(c),
        }
    }
    reader.out
}

struct Reader<'a> {
    rest: Peekable<Chars<'a>>,
    out: String,
    /// `(?m)`: `$` is the end of a line.
    lines: bool,
    /// There are not more groups than that: a larger number behind a backslash is no reference.
    groups_max: usize,
}

/// What an item of a class was, for the `-` behind it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Item {
    /// A character that may begin a range.
    Character,
    /// A class, a range's end, or nothing: a `-` behind it is a character.
    Whole,
}

impl Reader<'_> {
    /// Behind a backslash, outside of a class.
    fn escape(&mut self) {
        let Some(c) = self.rest.next() else { return self.out.push('\\') };
        match c {
            'h' => self.out.push_str(r"[\t ]"),
            'H' => self.out.push_str(r"[^\t ]"),
            'N' => self.out.push_str(r"[^\n]"),
            'R' => self.out.push_str(r"(?:\r\n|[\n\x0b\x0c\r])"),
            'Z' => self.out.push_str(r"(?:\n?\z)"),
            'g' | 'k' => self.reference(c),
            c => {
                self.common(c);
            }
        }
    }

    /// Behind a parenthesis. `(?R)` calls the whole pattern and `(?P>name)` a group, which no engine here can. They would read
    /// a flag and a back-reference, so they get another way to write a call, which they refuse.
    fn group(&mut self) {
        self.out.push('(');
        if ["?R)", "?P>"].iter().any(|call| self.rest.clone().take(3).eq(call.chars())) {
            self.rest.nth(1);
            self.out.push_str("?0");
        }
    }

    /// Behind `\k` or `\g`: a group's name or number; without brackets a digit of `\g`. In other brackets `\g` is a call.
    fn reference(&mut self, letter: char) {
        let close = match (letter, self.rest.peek()) {
            (_, Some('{')) => '}',
            ('k', Some('\'')) => '\'',
            ('g', Some(digit @ '1'..='9')) => {
                self.out.push_str(&format!("\\k<{digit}>"));
                self.rest.next();
                return;
            }
            _ => return self.out.extend(['\\', letter]),
        };
        self.rest.next();
        let name: String = self.rest.by_ref().take_while(|c| *c != close).collect();
        self.out.push_str(&format!("\\k<{name}>"));
    }

    /// A number behind a backslash: a reference if there may be such a group, else a character in octal, or a digit.
    fn number(&mut self, first: char) {
        let digits: String =
            std::iter::once(first).chain(self.rest.clone().take_while(char::is_ascii_digit)).collect();
        if digits.parse().is_ok_and(|number: usize| number <= self.groups_max) {
            return self.out.extend(['\\', first]);
        }
        let octal: String = digits.chars().take(3).take_while(|digit| *digit < '8').collect();
        match u32::from_str_radix(&octal, 8) {
            Ok(code) if octal.len() > 1 => {
                self.rest.nth(octal.len() - 2);
                self.code(code);
            }
            _ if first >= '8' => self.out.push(first),
            _ => self.out.extend(['\\', first]),
        }
    }

    /// An escape that means the same in and outside of a class.
    fn common(&mut self, c: char) -> Item {
        match c {
            'Q' => self.quoted(),
            'E' => {}
            'c' => {
                let control = self.rest.next().map_or(0, |c| (c.to_ascii_uppercase() as u32) ^ 64);
                self.code(control & 0x7f);
            }
            'e' => self.code(0x1b),
            '0' => {
                let mut code = 0;
                for _ in 0..2 {
                    let Some(digit) = self.rest.peek().and_then(|c| c.to_digit(8)) else { break };
                    code = code * 8 + digit;
                    self.rest.next();
                }
                self.code(code);
            }
            '1'..='9' => self.number(c),
            // Letters PCRE has no meaning for stand for themselves.
            'F' | 'I' | 'J' | 'M' | 'O' | 'T' | 'Y' | 'i' | 'j' | 'm' | 'q' | 'y' => self.out.push(c),
            c if c.is_ascii_alphanumeric() => {
                self.out.extend(['\\', c]);
                if matches!(c, 'd' | 'D' | 'w' | 'W' | 's' | 'S' | 'p' | 'P') {
                    return Item::Whole;
                }
            }
            c => self.literal(c),
        }
        Item::Character
    }

    fn code(&mut self, code: u32) {
        self.out.push_str(&format!("\\x{{{code:x}}}"));
    }

    fn literal(&mut self, c: char) {
        if c.is_ascii_whitespace() {
            self.code(c as u32);
        } else {
            self.out.push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
        }
    }

    /// `\Q...\E`
    fn quoted(&mut self) {
        while let Some(c) = self.rest.next() {
            if c == '\\' && self.rest.peek() == Some(&'E') {
                self.rest.next();
                return;
            }
            self.literal(c);
        }
    }

    /// Behind a `[`.
    fn class(&mut self) {
        self.out.push('[');
        if self.rest.next_if_eq(&'^').is_some() {
            self.out.push('^');
        }
        let mut before = Item::Whole;
        if self.rest.next_if_eq(&']').is_some() {
            self.out.push_str(r"\]");
            before = Item::Character;
        }
        while let Some(c) = self.rest.next() {
            before = match c {
                ']' => return self.out.push(']'),
                '[' if self.posix() => Item::Whole,
                '-' if before == Item::Character && self.rest.peek().is_some_and(|c| *c != ']') => {
                    self.range();
                    Item::Whole
                }
                c => self.item(c),
            };
        }
    }

    /// Behind the `-` of a range: its other end. `[a-\d]` is three items, as in Perl.
    fn range(&mut self) {
        let mut ahead = self.rest.clone();
        let is_class =
            ahead.next() == Some('\\') && matches!(ahead.next(), Some('d' | 'D' | 'w' | 'W' | 's' | 'S'));
        self.out.push_str(if is_class { r"\-" } else { "-" });
        if let Some(c) = self.rest.next() {
            self.item(c);
        }
    }

    /// One member of a class.
    fn item(&mut self, c: char) -> Item {
        match c {
            '\\' => match self.rest.next() {
                Some('b') => self.code(8),
                Some('h') => {
                    self.out.push_str(r"\t ");
                    return Item::Whole;
                }
                Some(c) => return self.common(c),
                None => self.out.push('\\'),
            },
            '[' | '&' | '~' | '-' | '^' => self.out.extend(['\\', c]),
            c => self.out.push(c),
        }
        Item::Character
    }

    /// Copies `[:alpha:]`, if it is one.
    fn posix(&mut self) -> bool {
        let mut ahead = self.rest.clone();
        if ahead.next() != Some(':') {
            return false;
        }
        let name: String = ahead.by_ref().take_while(|c| c.is_ascii_lowercase() || *c == '^').collect();
        // `take_while` has eaten the second colon.
        if name.is_empty() || ahead.next() != Some(']') {
            return false;
        }
        self.out.push_str(&format!("[:{name}:]"));
        self.rest = ahead;
        true
    }
}

/// Whether flags with an `m` stand anywhere: `(?m)`, `(?im:...)`.
fn has_line_mode(pattern: &str) -> bool {
    pattern.split("(?").skip(1).any(|group| {
        let flags = group.chars().take_while(char::is_ascii_lowercase);
        group.starts_with(|c: char| c.is_ascii_lowercase()) && flags.into_iter().any(|flag| flag == 'm')
    })
}

#[cfg(test)]
mod tests {
    use crate::message::{Captures, Pattern};

    /// Whether it matches, as PCRE does.
    #[track_caller]
    fn check(pattern: &str, yes: &[&str], no: &[&str]) {
        let compiled = Pattern::new(pattern, false).unwrap_or_else(|error| panic!("{pattern}: {error}"));
        let mut captures = Captures::default();
        for (texts, expected) in [(yes, true), (no, false)] {
            for text in texts {
                assert_eq!(
                    compiled.matches(text.as_bytes(), &mut captures),
                    expected,
                    "{pattern} on {text:?}"
                );
            }
        }
    }

    #[test]
    fn classes() {
        check(r"^[\w-.]+$", &["a-b.c"], &["a b", ","]);
        check(r"^[\w.-]+$", &["a-b.c"], &["a b"]);
        check(r"^[a-z0-9\-_]+$", &["a-b_9"], &["A"]);
        check(r"^[]a]+$", &["]a"], &["b"]);
        check(r"^[^]a]+$", &["b"], &["]"]);
        check(r"^[a[b]+$", &["[ab"], &["]"]);
        check(r"^[[:alpha:]_]+$", &["ab_"], &["1"]);
        check(r"^[a&&b]+$", &["a&b"], &["c"]);
        check(r"^[~~]$", &["~"], &["a"]);
        check(r"^[a-c-e]+$", &["b-e"], &["d"]);
        check(r"^[\d-x]+$", &["1-x"], &["y"]);
        check(r"^[\]\[]+$", &["[]"], &["a"]);
        check(r"^[\Q-]\E]+$", &["-]"], &["a"]);
        check(r"^[a-]$", &["-"], &["b"]);
        check(r"^[+--]+$", &["+,-"], &["."]);
    }

    #[test]
    fn escapes() {
        check(r"^a\<b\>$", &["a<b>"], &["ab"]);
        check(r"^\Qa.b\E$", &["a.b"], &["axb"]);
        check(r"^\h+$", &[" \t"], &["ab", "h"]);
        check(r"^\y\i$", &["yi"], &[]);
        check(r"^\012\0$", &["\n\0"], &[]);
        check(r"^a\ b\/\-\_\%$", &["a b/-_%"], &[]);
        check(r"^\cA\e$", &["\x01\x1b"], &[]);
        check(r"^\x41\x{42}$", &["AB"], &[]);
    }

    #[test]
    fn numbers_and_references() {
        check(r"^(a)\1$", &["aa"], &["a"]);
        check(r"^(?<n>a|b)\k{n}\k'n'\k<n>$", &["aaaa", "bbbb"], &["aaba"]);
        check(r"^\101\8[\60-\62]$", &["A80", "A82"], &["A83"]);
        check(r"^(a)(b)\g{1}\g2\g{-1}$", &["ababb"], &["ababa"]);
        check(r"^(?<n>a)\g{n}$", &["aa"], &["a"]);
        check(r"^\(?R\)?$", &["(R)", "R)", "(R"], &["", "("]);
        check(r"^(a)\11$", &["a\t"], &["aa1"]);
    }

    #[test]
    fn calls_are_refused() {
        for pattern in [r"\((?:[^()]|(?R))*\)", "(a)(?1)", "(?<n>a)(?&n)", "(?<n>a)(?P>n)"] {
            assert!(Pattern::new(pattern, false).is_err(), "{pattern}");
        }
    }

    #[test]
    fn unicode() {
        check("^/.{3}$", &["/a\u{e9}", "/abc"], &["/ab\u{e9}"]);
        check("(*UTF8)^/.{3}$", &["/ab\u{e9}", "/\u{e9}\u{e9}\u{e9}"], &["/a\u{e9}"]);
        check(r"(*UTF)(*UCP)^/\p{Lu}+$", &["/\u{c9}A"], &["/\u{e9}"]);
    }

    #[test]
    fn ends() {
        check("a$", &["a", "a\n"], &["a\n\n", "ab"]);
        check(r"a\z", &["a"], &["a\n"]);
        check(r"a\Z", &["a", "a\n"], &[]);
        check("(?m)^a$", &["b\na\nc"], &["ab"]);
        check(r"^/(?!x\.php$)", &["/y.php"], &["/x.php"]);
        check(r"[$]\$", &["$$"], &["$"]);
    }
}
