//! What PCRE would not compile, in its words and at its place, as nginx's users know them.
//!
//! The engines here complain in their own words, and take some of what PCRE refuses. This looks for the mistakes people
//! make, brackets, quantifiers and names of groups, and keeps silent where it is not sure.

/// nginx's message, if there is such a mistake.
pub(super) fn find(pattern: &str) -> Option<String> {
    if pattern.contains("(?|") || has_extended_mode(pattern) {
        return None;
    }
    let mut reader =
        Reader { text: pattern.as_bytes(), at: 0, open: 0, repeatable: false, names: Vec::new() };
    let Err((words, at)) = reader.read() else { return None };
    let place = match pattern.get(at..) {
        Some(rest) if !rest.is_empty() => format!(" at \"{rest}\""),
        _ => String::new(),
    };
    Some(format!("pcre2_compile() failed: {words} in \"{pattern}\"{place}"))
}

/// The words, and the offset in the pattern.
type Fault = (&'static str, usize);

const POSIX: [&[u8]; 14] = [
    b"alpha", b"lower", b"upper", b"alnum", b"ascii", b"blank", b"cntrl", b"digit", b"graph", b"print",
    b"punct", b"space", b"word", b"xdigit",
];
/// Most repetitions PCRE counts.
const REPEAT_MAX: u32 = 65535;

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    /// Groups not closed yet.
    open: usize,
    /// Whether a quantifier may come.
    repeatable: bool,
    names: Vec<&'a [u8]>,
}

impl<'a> Reader<'a> {
    fn read(&mut self) -> Result<(), Fault> {
        while let Some(&byte) = self.text.get(self.at) {
            match byte {
                b'\\' => self.escape()?,
                b'[' => self.class()?,
                b'(' => self.group()?,
                b')' if self.open == 0 => return Err(("unmatched closing parenthesis", self.at)),
                b')' => {
                    self.open -= 1;
                    self.item(1);
                }
                b'|' => {
                    self.item(1);
                    self.repeatable = false;
                }
                b'*' | b'+' | b'?' => self.quantifier(1)?,
                b'{' => match self.count()? {
                    Some(length) => self.quantifier(length)?,
                    None => self.item(1),
                },
                _ => self.item(1),
            }
        }
        if self.open > 0 { Err(("missing closing parenthesis", self.text.len())) } else { Ok(()) }
    }

    fn item(&mut self, length: usize) {
        self.at += length;
        self.repeatable = true;
    }

    fn rest(&self) -> &'a [u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn skip_to(&mut self, end: &[u8]) {
        let found = self.rest().windows(end.len()).position(|window| window == end);
        self.at += found.map_or(self.rest().len(), |found| found + end.len());
    }

    fn escape(&mut self) -> Result<(), Fault> {
        let Some(&byte) = self.text.get(self.at + 1) else {
            return Err((r"\ at end of pattern", self.text.len()));
        };
        self.item(2);
        match byte {
            b'Q' => self.skip_to(br"\E"),
            b'x' | b'o' | b'p' | b'P' | b'g' | b'k' | b'N' if self.rest().first() == Some(&b'{') => {
                self.skip_to(b"}");
            }
            b'c' if !self.rest().is_empty() => self.at += 1,
            _ => {}
        }
        Ok(())
    }

    fn quantifier(&mut self, length: usize) -> Result<(), Fault> {
        if !self.repeatable {
            return Err(("quantifier does not follow a repeatable item", self.at));
        }
        self.at += length;
        self.at += usize::from(matches!(self.rest().first(), Some(b'+' | b'?')));
        self.repeatable = false;
        Ok(())
    }

    /// The length of a `{2,3}`; `None` where the brace is a character.
    fn count(&self) -> Result<Option<usize>, Fault> {
        let Some(length) = self.rest().iter().position(|&byte| byte == b'}') else { return Ok(None) };
        let inside = &self.rest()[1..length];
        let (low, high) = match inside.iter().position(|&byte| byte == b',') {
            Some(comma) => (&inside[..comma], Some(&inside[comma + 1..])),
            None => (inside, None),
        };
        let digits = |text: &[u8]| text.iter().all(u8::is_ascii_digit);
        if low.is_empty() || !digits(low) || !high.is_none_or(digits) {
            return Ok(None);
        }
        let number =
            |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<u32>().ok().filter(|n| *n <= REPEAT_MAX);
        let close = self.at + length;
        let Some(low) = number(low) else {
            return Err(("number too big in {} quantifier", close));
        };
        match high.filter(|high| !high.is_empty()).map(number) {
            Some(None) => Err(("number too big in {} quantifier", close)),
            Some(Some(high)) if high < low => Err(("numbers out of order in {} quantifier", close)),
            _ => Ok(Some(length + 1)),
        }
    }

    fn class(&mut self) -> Result<(), Fault> {
        self.item(1);
        self.at += usize::from(self.rest().first() == Some(&b'^'));
        let mut first = true;
        // A character that may begin a range.
        let mut begin: Option<u8> = None;
        loop {
            let Some(&byte) = self.rest().first() else {
                return Err(("missing terminating ] for character class", self.text.len()));
            };
            match byte {
                b']' if !first => {
                    self.at += 1;
                    return Ok(());
                }
                b'\\' => {
                    begin = None;
                    if self.rest().starts_with(br"\Q") {
                        self.skip_to(br"\E");
                    } else {
                        self.at += 2;
                    }
                }
                b'[' if self.posix()? => begin = None,
                b'-' => match (begin.take(), self.text.get(self.at + 1)) {
                    (Some(low), Some(&high)) if high < low && !matches!(high, b']' | b'[' | b'\\') => {
                        return Err(("range out of order in character class", self.at + 1));
                    }
                    (Some(_), Some(&high)) if !matches!(high, b']' | b'[' | b'\\') => self.at += 2,
                    _ => self.at += 1,
                },
                _ => {
                    begin = Some(byte);
                    self.at += 1;
                }
            }
            first = false;
        }
    }

    /// Reads `[:alpha:]` inside a class; false if there is none.
    fn posix(&mut self) -> Result<bool, Fault> {
        let Some(inside) = self.rest().strip_prefix(b"[:") else { return Ok(false) };
        let negated = usize::from(inside.first() == Some(&b'^'));
        let letters = inside[negated..].iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
        let (name, behind) = inside[negated..].split_at(letters);
        if !behind.starts_with(b":]") {
            return Ok(false);
        }
        if !POSIX.contains(&name) {
            return Err(("unknown POSIX class name", self.at + 2 + negated));
        }
        self.at += 2 + negated + letters + 2;
        Ok(true)
    }

    fn group(&mut self) -> Result<(), Fault> {
        self.open += 1;
        self.at += 1;
        self.repeatable = false;
        let rest = self.rest();
        if rest.starts_with(b"?#") {
            self.open -= 1;
            self.skip_to(b")");
            return Ok(());
        }
        if rest.starts_with(b"?<=") || rest.starts_with(b"?<!") {
            self.at += 3;
        } else if rest.starts_with(b"?P<") {
            self.name(3, b'>')?;
        } else if rest.starts_with(b"?<") {
            self.name(2, b'>')?;
        } else if rest.starts_with(b"?'") {
            self.name(2, b'\'')?;
        } else if rest.first() == Some(&b'?') {
            // What follows is no quantifier; flags and references are read as if they were characters.
            self.at += 1;
            self.at += usize::from(matches!(self.rest().first(), Some(b'+' | b'*' | b'-')));
        } else if rest.first() == Some(&b'*') {
            self.at += 1;
        }
        Ok(())
    }

    fn name(&mut self, before: usize, end: u8) -> Result<(), Fault> {
        self.at += before;
        let rest = self.rest();
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        let length = rest.iter().take_while(|byte| is_word(byte)).count();
        let name = &rest[..length];
        if rest.first().is_some_and(u8::is_ascii_digit) {
            return Err(("subpattern name must start with a non-digit", self.at));
        }
        if name.is_empty() {
            return Err(("subpattern name expected", self.at));
        }
        self.at += length;
        if self.rest().first() != Some(&end) {
            return Err(("syntax error in subpattern name (missing terminator?)", self.at));
        }
        self.at += 1;
        if self.names.contains(&name) && !self.text.windows(3).any(|window| window == b"(?J") {
            let words = "two named subpatterns have the same name (PCRE2_DUPNAMES not set)";
            return Err((words, self.at));
        }
        self.names.push(name);
        Ok(())
    }
}

/// `(?x)`: blanks and comments are nothing, which would want another reader.
fn has_extended_mode(pattern: &str) -> bool {
    pattern.match_indices("(?").any(|(at, _)| {
        let flags = pattern[at + 2..].split([')', ':']).next().unwrap_or_default();
        flags.contains('x')
            && flags.bytes().all(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'-' | b'^'))
    })
}

#[cfg(test)]
mod tests {
    use super::find;

    /// Each row was compared with nginx and PCRE2.
    #[test]
    fn mistakes_are_named_as_by_pcre() {
        let rows = [
            ("(", "missing closing parenthesis in \"(\""),
            ("a(b", "missing closing parenthesis in \"a(b\""),
            ("(?:", "missing closing parenthesis in \"(?:\""),
            ("a)b", "unmatched closing parenthesis in \"a)b\" at \")b\""),
            ("())", "unmatched closing parenthesis in \"())\" at \")\""),
            ("[a", "missing terminating ] for character class in \"[a\""),
            ("[]a", "missing terminating ] for character class in \"[]a\""),
            ("x[z-a]y", "range out of order in character class in \"x[z-a]y\" at \"a]y\""),
            ("[[:foo:]]", "unknown POSIX class name in \"[[:foo:]]\" at \"foo:]]\""),
            ("*a", "quantifier does not follow a repeatable item in \"*a\" at \"*a\""),
            ("a**", "quantifier does not follow a repeatable item in \"a**\" at \"*\""),
            ("a?+*", "quantifier does not follow a repeatable item in \"a?+*\" at \"*\""),
            ("a|*b", "quantifier does not follow a repeatable item in \"a|*b\" at \"*b\""),
            ("a{2,1}", "numbers out of order in {} quantifier in \"a{2,1}\" at \"}\""),
            ("a{99999}", "number too big in {} quantifier in \"a{99999}\" at \"}\""),
            ("a\\", "\\ at end of pattern in \"a\\\""),
            ("(?<1n>a)", "subpattern name must start with a non-digit in \"(?<1n>a)\" at \"1n>a)\""),
            ("(?<>a)", "subpattern name expected in \"(?<>a)\" at \">a)\""),
            ("(?<n", "syntax error in subpattern name (missing terminator?) in \"(?<n\""),
            (
                "(?<n-x>a)",
                "syntax error in subpattern name (missing terminator?) in \"(?<n-x>a)\" at \"-x>a)\"",
            ),
            (
                "(?<n>a)(?<n>b)",
                "two named subpatterns have the same name (PCRE2_DUPNAMES not set) in \"(?<n>a)(?<n>b)\" at \"b)\"",
            ),
        ];
        for (pattern, words) in rows {
            assert_eq!(find(pattern), Some(format!("pcre2_compile() failed: {words}")), "{pattern}");
        }
    }

    #[test]
    fn good_ones_are_let_through() {
        for pattern in [
            "",
            r"^/old/(.*)$",
            r"\.(?:png|jpe?g)$",
            r"[]a-z[:digit:]^-]+",
            r"[\w.-]+@[^@\]]*",
            r"a{,3}b{2}c{2,}d{2,3}?e{x}",
            r"(?i)a(?-i:b)(?=c)(?<!d)(?>e)(?'n'f)(?P<m>g)(?#h(h)",
            r"\x{41}*\p{L}+\Q(*[\E\(",
            r"a*+b++c??(d)*",
            r"(?x) a # (",
            r"(?|(?<n>a)|(?<n>b))",
            r"[--a]",
            r"(?P=n)(?&n)(?1)(*UTF8)",
            "é+",
        ] {
            assert_eq!(find(pattern), None, "{pattern}");
        }
    }
}
