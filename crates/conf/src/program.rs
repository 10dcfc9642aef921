//! Program text between braces, as OpenResty's `*_by_lua_block` directives hold it.
//!
//! No such module is ours; but "unknown directive" helps more than a complaint about the program's punctuation.

use memchr::{memchr, memmem};

/// Whether this directive's braces hold program text rather than directives.
pub(crate) fn is_program(name: &[u8]) -> bool {
    name.ends_with(b"_by_lua_block") || (name.starts_with(b"js_") && name.ends_with(b"_block"))
}

/// Offset of the `}` that closes the block whose inside starts at `start`.
///
/// Braces balance, except in Lua's strings, long brackets and comments.
pub(crate) fn close(text: &[u8], start: usize) -> Option<usize> {
    let mut depth = 1usize;
    let mut at = start;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 1 => return Some(at),
            b'}' => depth -= 1,
            b'"' | b'\'' => at = string_end(text, at),
            b'[' => at = long_bracket_end(text, at).unwrap_or(at),
            b'-' if text[at..].starts_with(b"--") => at = comment_end(text, at),
            _ => {}
        }
        at += 1;
    }
    None
}

/// Offset of the quote that closes the string at `start`; a string ends with its line at the latest.
fn string_end(text: &[u8], start: usize) -> usize {
    let quote = text[start];
    let mut at = start + 1;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'\\' => at += 1,
            b'\n' => return at - 1,
            _ if byte == quote => return at,
            _ => {}
        }
        at += 1;
    }
    text.len()
}

/// Offset of the last byte of `[[ ]]`, `[=[ ]=]` and so on; `None` when none starts here.
fn long_bracket_end(text: &[u8], start: usize) -> Option<usize> {
    let level = text[start + 1..].iter().take_while(|&&byte| byte == b'=').count();
    if text.get(start + 1 + level) != Some(&b'[') {
        return None;
    }
    let close = [b"]".as_slice(), &vec![b'='; level], b"]"].concat();
    let body = start + level + 2;
    Some(memmem::find(&text[body..], &close).map_or(text.len(), |at| body + at + close.len() - 1))
}

/// Offset of the last byte of a comment: a long bracket, or the byte before the line feed.
fn comment_end(text: &[u8], start: usize) -> usize {
    if text.get(start + 2) == Some(&b'[')
        && let Some(end) = long_bracket_end(text, start + 2)
    {
        return end;
    }
    memchr(b'\n', &text[start..]).map_or(text.len(), |at| start + at - 1)
}
