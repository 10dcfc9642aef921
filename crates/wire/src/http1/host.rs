//! The host a request is for, as ngx_http_validate_host takes it.

use crate::Span;

/// A valid host: where its name stands and which port came with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    /// The name without port and without one trailing dot; brackets of an IPv6 literal are part of it.
    pub name: Span,
    /// The port, 0 if none was given.
    pub port: u16,
    /// The name has capitals: compare and show it in lower case.
    pub has_upper: bool,
}

impl Host {
    /// Appends the name in lower case: what `$host` is.
    pub fn lower_to(&self, buf: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(self.name.of(buf));
        if self.has_upper {
            out[start..].make_ascii_lowercase();
        }
    }
}

/// The host has a byte that does not belong there, two dots in a row, a port above 65535, or no name at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadHost;

/// Checks the value of a `Host` field or the authority of an absolute-form target that stands at `span` in `buf`.
pub fn validate_host(buf: &[u8], span: Span) -> Result<Host, BadHost> {
    let text = span.of(buf);
    let name_end = if text.first() == Some(&b'[') { literal_end(text)? } else { name_end(text)? };
    let (name, rest) = text.split_at(name_end);
    let port = match rest {
        [] => 0,
        [b':', digits @ ..] => port(digits)?,
        _ => return Err(BadHost),
    };
    let (mut last, mut has_upper) = (0, false);
    for byte in name {
        if *byte == b'.' && last == b'.' {
            return Err(BadHost);
        }
        last = *byte;
        has_upper |= byte.is_ascii_uppercase();
    }
    let len = if name.last() == Some(&b'.') { name.len() - 1 } else { name.len() };
    if len == 0 {
        return Err(BadHost);
    }
    let name = Span { start: span.start, len: len as u32 };
    Ok(Host { name, port, has_upper })
}

fn name_end(text: &[u8]) -> Result<usize, BadHost> {
    let end = text.iter().position(|byte| CLASS[usize::from(*byte)] & NAME == 0);
    Ok(end.unwrap_or(text.len()))
}

fn literal_end(text: &[u8]) -> Result<usize, BadHost> {
    match text.iter().skip(1).position(|byte| !is_literal_byte(*byte)) {
        Some(found) if text[found + 1] == b']' => Ok(found + 2),
        _ => Err(BadHost),
    }
}

/// Unreserved characters, sub-delims and the colon of RFC 3986.
fn is_literal_byte(byte: u8) -> bool {
    CLASS[usize::from(byte)] & LITERAL != 0
}

/// May stand between brackets.
const LITERAL: u8 = 1;
/// May stand in a name: the same without the colon, and `%`.
const NAME: u8 = 2;

static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        if (i as u8).is_ascii_alphanumeric() {
            table[i] = LITERAL | NAME;
        }
        i += 1;
    }
    let others = b"-._~!$&'()*+,;=";
    let mut i = 0;
    while i < others.len() {
        table[others[i] as usize] = LITERAL | NAME;
        i += 1;
    }
    table[b':' as usize] = LITERAL;
    table[b'%' as usize] = NAME;
    table
}

fn port(digits: &[u8]) -> Result<u16, BadHost> {
    let mut port: u32 = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return Err(BadHost);
        }
        port = port * 10 + u32::from(digit - b'0');
        if port > u32::from(u16::MAX) {
            return Err(BadHost);
        }
    }
    Ok(port as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(input: &str, expected: Option<(&str, u16)>) {
        let span = Span::between(0, input.len());
        let found = validate_host(input.as_bytes(), span).ok();
        let found = found.map(|host| {
            let mut name = Vec::new();
            host.lower_to(input.as_bytes(), &mut name);
            (String::from_utf8(name).unwrap(), host.port)
        });
        assert_eq!(found, expected.map(|(name, port)| (name.to_string(), port)), "{input}");
    }

    #[test]
    fn hosts() {
        check("example.com", Some(("example.com", 0)));
        check("ExAmple.COM:8080", Some(("example.com", 8080)));
        check("example.com.", Some(("example.com", 0)));
        check("example.com.:80", Some(("example.com", 80)));
        check("example.com:", Some(("example.com", 0)));
        check("example.com:65535", Some(("example.com", 65535)));
        check("example.com:65536", None);
        check("example.com:8a", None);
        check("a..b", None);
        check("..", None);
        check(".", None);
        check(".a", Some((".a", 0)));
        check("", None);
        check(":80", None);
        check("a b", None);
        check("a/b", None);
        check("a@b", None);
        check("a\u{e9}", None);
        check("a_b~c%20!$&'()*+,;=", Some(("a_b~c%20!$&'()*+,;=", 0)));
        check("[::1]", Some(("[::1]", 0)));
        check("[::1]:443", Some(("[::1]", 443)));
        check("[::1].", None);
        check("[::1", None);
        check("[", None);
        check("[]", Some(("[]", 0)));
        check("[a%25]", None);
        check("[FE80::1..2]", None);
        check("a[b]", None);
    }
}
