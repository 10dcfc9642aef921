//! Patterns as nginx's users write them, in PCRE's syntax, for engines of another: the same characters, other meanings.
//!
//! What both read alike is copied. What they don't: brackets, `&&`, `--` and `~~` inside a class are plain characters in
//! PCRE; so are `\<` and `\y`; `\h` is a blank; `$` also stands before a line feed that ends the text.

use std::iter::Peekable;
use std::str::Chars;

/// The pattern in the engines' syntax.
pub(super) fn translate(pattern: &str) -> String {
    let mut reader = Reader {
        rest: pattern.chars().peekable(),
        out: String::with_capacity(pattern.len() + 16),
        lines: has_line_mode(pattern),
    };
    while let Some(c) = reader.rest.next() {
        match c {
            '\\' => reader.escape(),
            '[' => reader.class(),
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
            c => {
                self.common(c);
            }
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
    fn ends() {
        check("a$", &["a", "a\n"], &["a\n\n", "ab"]);
        check(r"a\z", &["a"], &["a\n"]);
        check(r"a\Z", &["a", "a\n"], &[]);
        check("(?m)^a$", &["b\na\nc"], &["ab"]);
        check(r"^/(?!x\.php$)", &["/y.php"], &["/x.php"]);
        check(r"[$]\$", &["$$"], &["$"]);
    }
}
