//! Paths: normalising them as ngx_http_parse_complex_uri, escaping as ngx_escape_uri, unescaping.

/// The path climbs above the root, or has a `%` without two hex digits, or decodes to a NUL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadPath;

/// Appends the normalised form of `raw` to `out`: `%XX` decoded, `.` and `..` resolved, slashes merged if asked for.
///
/// `raw` is a path from its first slash up to but not including `?` or `#`. What is decoded from `%2f` and `%2e` counts as
/// the slash and the dot they are; `?`, `#` and `%` that were escaped stay as plain bytes.
pub fn normalise_path(raw: &[u8], merge_slashes: bool, out: &mut Vec<u8>) -> Result<(), BadPath> {
    let base = out.len();
    let mut after = After::Other;
    let mut at = 0;
    while let Some(&byte) = raw.get(at) {
        at += 1;
        let byte = if byte == b'%' {
            let byte = hex_pair(raw.get(at..at + 2)).ok_or(BadPath)?;
            at += 2;
            match byte {
                0 => return Err(BadPath),
                b'%' | b'#' | b'?' => {
                    out.push(byte);
                    after = After::Other;
                    continue;
                }
                _ => byte,
            }
        } else {
            byte
        };
        after = match (after, byte) {
            (After::Slash, b'/') => {
                if !merge_slashes {
                    out.push(byte);
                }
                After::Slash
            }
            (After::Dot, b'/') => {
                out.pop();
                After::Slash
            }
            (After::DotDot, b'/') => {
                climb(base, out)?;
                After::Slash
            }
            (_, b'/') => {
                out.push(byte);
                After::Slash
            }
            (After::Slash, b'.') => {
                out.push(byte);
                After::Dot
            }
            (After::Dot, b'.') => {
                out.push(byte);
                After::DotDot
            }
            _ => {
                out.push(byte);
                After::Other
            }
        };
    }
    match after {
        After::Dot => {
            out.pop();
            Ok(())
        }
        After::DotDot => climb(base, out),
        After::Slash | After::Other => Ok(()),
    }
}

/// What the output ends with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    Other,
    Slash,
    /// `/.`
    Dot,
    /// `/..`
    DotDot,
}

/// Takes `segment/..` off the end and leaves the slash before it.
fn climb(base: usize, out: &mut Vec<u8>) -> Result<(), BadPath> {
    let above = out.len() - b"/..".len();
    match out[base..above].iter().rposition(|byte| *byte == b'/') {
        Some(slash) => {
            out.truncate(base + slash + 1);
            Ok(())
        }
        None => Err(BadPath),
    }
}

/// Which bytes to escape; the names are those of nginx's `NGX_ESCAPE_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escape {
    /// A path: what must not stand in one, `?`, `#`, `%` among them.
    Uri,
    /// An argument: also `&`, `+` and `;`.
    Args,
    /// A component: everything but letters, digits, `-`, `.`, `_` and `~`.
    UriComponent,
    /// A URI inside HTML: `?` is left alone, quotes are not.
    Html,
    /// A URI in a `Refresh` value: `#`, `%` and `?` are left alone. (`}` is too and `~` is not: nginx's table has it so.)
    Refresh,
    /// A memcached key: control bytes, space and `%`.
    Memcached,
}

/// Appends `text` to `out` with what `kind` names written as `%XX`.
pub fn escape_uri(text: &[u8], kind: Escape, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    out.reserve(text.len());
    for &byte in text {
        if must_escape(byte, kind) {
            out.extend([b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        } else {
            out.push(byte);
        }
    }
}

/// How long `text` is once escaped, in bytes.
pub fn escaped_len(text: &[u8], kind: Escape) -> usize {
    text.len() + 2 * text.iter().filter(|byte| must_escape(**byte, kind)).count()
}

#[inline]
fn must_escape(byte: u8, kind: Escape) -> bool {
    ESCAPED[usize::from(byte)] >> kind as u8 & 1 == 1
}

/// One bit per [`Escape`].
static ESCAPED: [u8; 256] = escaped();

const fn escaped() -> [u8; 256] {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let byte = i as u8;
        let never = !matches!(byte, 0x21..=0x7e) || one_of(byte, b"\"<>\\^`{|}");
        let unreserved = byte.is_ascii_alphanumeric() || one_of(byte, b"-._~");
        table[i] = (never || one_of(byte, b"#%?")) as u8
            | ((never || one_of(byte, b"#%?&+;")) as u8) << 1
            | (!unreserved as u8) << 2
            | ((never || one_of(byte, b"#%'")) as u8) << 3
            | ((never && byte != b'}' || one_of(byte, b"'~")) as u8) << 4
            | ((byte <= b' ' || byte == b'%') as u8) << 5;
        i += 1;
    }
    table
}

const fn one_of(byte: u8, set: &[u8]) -> bool {
    let mut i = 0;
    while i < set.len() {
        if set[i] == byte {
            return true;
        }
        i += 1;
    }
    false
}

/// What to decode and where to stop; the names are those of nginx's `NGX_UNESCAPE_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unescape {
    /// Everything, to the end.
    All,
    /// Everything, up to and including the first `?`, written or decoded.
    Uri,
    /// As `Uri`, but what must stay escaped in a URI does.
    Redirect,
}

/// Appends `text` to `out` with `%XX` decoded, and returns how many bytes of `text` it took.
///
/// Of a broken escape the percent sign is lost, and a lone good digit with what follows it: so does nginx.
pub fn unescape_uri(text: &[u8], kind: Unescape, out: &mut Vec<u8>) -> usize {
    out.reserve(text.len());
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        at += 1;
        if byte != b'%' {
            out.push(byte);
            if byte == b'?' && kind != Unescape::All {
                return at;
            }
            continue;
        }
        let Some(&first) = text.get(at) else { break };
        if hex(first).is_none() {
            out.push(first);
            at += 1;
            continue;
        }
        let pair = text.get(at..at + 2);
        at = text.len().min(at + 2);
        let Some(byte) = hex_pair(pair) else { continue };
        if kind != Unescape::Redirect || matches!(byte, b'&'..=0x7e) {
            out.push(byte);
        } else {
            out.push(b'%');
            out.extend_from_slice(pair.unwrap_or_default());
        }
        if byte == b'?' && kind != Unescape::All {
            return at;
        }
    }
    at
}

fn hex_pair(pair: Option<&[u8]>) -> Option<u8> {
    let pair = pair?;
    Some(hex(*pair.first()?)? << 4 | hex(*pair.get(1)?)?)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(raw: &str, merge: bool, expected: Option<&str>) {
        let mut out = b"kept".to_vec();
        let result = normalise_path(raw.as_bytes(), merge, &mut out);
        let found = result.ok().map(|()| String::from_utf8_lossy(&out[4..]).into_owned());
        assert_eq!(found.as_deref(), expected, "{raw}");
        assert_eq!(&out[..4], b"kept");
    }

    #[test]
    fn paths() {
        check("/", true, Some("/"));
        check("/a/b", true, Some("/a/b"));
        check("//a///b//", true, Some("/a/b/"));
        check("//a///b//", false, Some("//a///b//"));
        check("/a/./b", true, Some("/a/b"));
        check("/a/.", true, Some("/a/"));
        check("/a/..", true, Some("/"));
        check("/a/../b", true, Some("/b"));
        check("/a/b/../../c", true, Some("/c"));
        check("/a/../../c", true, None);
        check("/..", true, None);
        check("/../", true, None);
        check("/.../..a/a../.a", true, Some("/.../..a/a../.a"));
        check("/%41%2f%2e%2e%2Fb", true, Some("/b"));
        check("/%2e%2e", true, None);
        check("/a%2", true, None);
        check("/a%", true, None);
        check("/a%zz", true, None);
        check("/a%00", true, None);
        check("/a%25%23%3f%2b%20", true, Some("/a%#?+ "));
        check("/.%25/x", true, Some("/.%/x"));
        check("//..", true, None);
        check("//..", false, Some("/"));
        check("/a//..", true, Some("/"));
        check("/a//..", false, Some("/a/"));
    }

    #[test]
    fn escapes() {
        let every: Vec<u8> = (0..=255).collect();
        let left = |kind| {
            let mut out = Vec::new();
            escape_uri(&every, kind, &mut out);
            assert_eq!(out.len(), escaped_len(&every, kind));
            (0..=255u8).filter(|byte| !must_escape(*byte, kind)).map(char::from).collect::<String>()
        };
        let letters = |before: &str, between: &str, after: &str, last: &str| {
            let upper: String = ('A'..='Z').collect();
            let lower = upper.to_lowercase();
            format!("{before}{upper}{between}{after}{lower}{last}")
        };
        assert_eq!(left(Escape::Uri), letters("!$&'()*+,-./0123456789:;=@", "[]", "_", "~"));
        assert_eq!(left(Escape::Args), letters("!$'()*,-./0123456789:=@", "[]", "_", "~"));
        assert_eq!(left(Escape::UriComponent), letters("-.0123456789", "", "_", "~"));
    }

    #[test]
    fn unescapes() {
        let row = |text: &str| {
            let mut out = Vec::new();
            assert_eq!(unescape_uri(text.as_bytes(), Unescape::All, &mut out), text.len());
            String::from_utf8_lossy(&out).into_owned()
        };
        assert_eq!(row("a%20b%2Fc"), "a b/c");
        assert_eq!(row("a%zb"), "azb");
        assert_eq!(row("a%2zb"), "ab");
        assert_eq!(row("a%"), "a");
        assert_eq!(row("a%2"), "a");
        assert_eq!(row("%%41"), "%41");
        let row = |text: &str, kind| {
            let mut out = Vec::new();
            let taken = unescape_uri(text.as_bytes(), kind, &mut out);
            (String::from_utf8_lossy(&out).into_owned(), taken)
        };
        assert_eq!(row("a%20b?c", Unescape::Uri), ("a b?".into(), 6));
        assert_eq!(row("a%3fc", Unescape::Uri), ("a?".into(), 4));
        assert_eq!(row("%20%41%7f?", Unescape::Redirect), ("%20A%7f?".into(), 10));
    }
}
