//! One field line, byte for byte as ngx_http_parse_header_line takes it, for both directions and for trailers.

use crate::Span;
use crate::ascii::{find_early, find_line_end};

use super::field::FieldId;

/// Where in a field line we are; only what must survive until the next bytes arrive.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LineState {
    pub(crate) state: At,
    /// First byte of the line.
    pub(crate) start: u32,
    name_end: u32,
    value_start: u32,
    value_end: u32,
    /// The name has a byte that nginx calls invalid without refusing the line.
    invalid: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum At {
    #[default]
    Start,
    Name,
    SpaceBeforeValue,
    Value,
    AlmostDone,
    IgnoredLine,
    HeadAlmostDone,
}

/// A complete line.
pub(crate) enum Line {
    /// All bytes are used up and the line is not complete.
    More,
    /// A field; the line ends before `next`.
    Field { name: Span, id: FieldId, value: Span, invalid: bool, next: usize },
    /// The empty line; the head ends before `next`.
    End { next: usize },
}

/// A byte that makes the whole head invalid: the line from its start up to that byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadByte {
    pub(crate) line: Span,
    /// Offset the parser had reached, never before the line's end.
    pub(crate) at: usize,
}

impl BadByte {
    /// The byte nginx shows behind the line.
    pub(crate) fn byte_in(&self, buf: &[u8]) -> u8 {
        buf.get(self.line.end()).copied().unwrap_or_default()
    }
}

/// How names are taken.
#[derive(Clone, Copy)]
pub(crate) struct NameRules {
    pub(crate) underscores: bool,
    /// Lines that start with `HTTP/` are skipped: some servers repeat their status line.
    pub(crate) skip_status: bool,
}

const NAME: u8 = 0;
const UNDERSCORE: u8 = 1;
const COLON: u8 = 2;
const CR: u8 = 3;
const LF: u8 = 4;
const REFUSED: u8 = 5;
const ODD: u8 = 6;

static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [ODD; 256];
    let mut i = 0;
    while i < 256 {
        let byte = i as u8;
        if byte.is_ascii_alphanumeric() || byte == b'-' {
            table[i] = NAME;
        } else if byte <= 0x20 || byte == 0x7f {
            table[i] = REFUSED;
        }
        i += 1;
    }
    table[b'_' as usize] = UNDERSCORE;
    table[b':' as usize] = COLON;
    table[b'\r' as usize] = CR;
    table[b'\n' as usize] = LF;
    table
}

/// Reads on in the line at `from`, which is where the last call left off, or the start of a line.
#[inline]
pub(crate) fn read(buf: &[u8], from: usize, line: &mut LineState, rules: NameRules) -> Result<Line, BadByte> {
    if line.state == At::Start
        && let Some(whole) = plain(buf, from, line)
    {
        return Ok(whole);
    }
    let mut at = from;
    let mut state = line.state;
    let next = loop {
        if state == At::Value {
            let Some(found) = memchr::memchr3(b'\r', b'\n', 0, &buf[at..]) else { break None };
            at += found;
            line.value_end = trimmed(buf, line.value_start as usize, at) as u32;
            match buf[at] {
                b'\n' => break Some(at + 1),
                b'\r' => state = At::AlmostDone,
                _ => return Err(bad(line, at, at)),
            }
            at += 1;
            continue;
        }
        if state == At::Name {
            while at < buf.len() && CLASS[buf[at] as usize] == NAME {
                at += 1;
            }
        }
        let Some(&byte) = buf.get(at) else { break None };
        match state {
            At::Start => {
                line.start = at as u32;
                line.invalid = false;
                match CLASS[byte as usize] {
                    CR => state = At::HeadAlmostDone,
                    LF => return Ok(end(line, at)),
                    COLON | REFUSED => return Err(bad(line, at, at)),
                    class => {
                        line.invalid = class == ODD || (class == UNDERSCORE && !rules.underscores);
                        state = At::Name;
                    }
                }
            }
            At::Name => match CLASS[byte as usize] {
                COLON => {
                    line.name_end = at as u32;
                    state = At::SpaceBeforeValue;
                }
                CR | LF => {
                    // A line without a colon is a field without a value.
                    line.name_end = at as u32;
                    line.value_start = at as u32;
                    line.value_end = at as u32;
                    if byte == b'\n' {
                        break Some(at + 1);
                    }
                    state = At::AlmostDone;
                }
                UNDERSCORE => line.invalid |= !rules.underscores,
                _ if byte == b'/' && rules.skip_status && &buf[line.start as usize..at] == b"HTTP" => {
                    state = At::IgnoredLine;
                }
                REFUSED => return Err(bad(line, at, at)),
                _ => line.invalid = true,
            },
            At::SpaceBeforeValue => match byte {
                b' ' => {}
                0 => return Err(bad(line, at, at)),
                _ => {
                    line.value_start = at as u32;
                    state = At::Value;
                    continue;
                }
            },
            At::AlmostDone => match byte {
                b'\n' => break Some(at + 1),
                b'\r' => {}
                _ => return Err(bad(line, line.value_end as usize, at)),
            },
            At::IgnoredLine => {
                if byte == b'\n' {
                    state = At::Start;
                }
            }
            At::HeadAlmostDone => {
                if byte == b'\n' {
                    return Ok(end(line, at));
                }
                return Err(bad(line, line.start as usize, at));
            }
            At::Value => {}
        }
        at += 1;
    };
    let Some(next) = next else {
        line.state = state;
        return Ok(Line::More);
    };
    line.state = At::Start;
    let name = Span::between(line.start as usize, line.name_end as usize);
    Ok(Line::Field {
        name,
        id: FieldId::of(name.of(buf)),
        value: Span::between(line.value_start as usize, line.value_end as usize),
        invalid: line.invalid,
        next,
    })
}

/// A line that is here whole and has nothing odd in it, which is nearly every line; all others are for the states.
#[inline]
fn plain(buf: &[u8], from: usize, line: &mut LineState) -> Option<Line> {
    let rest = buf.get(from..)?;
    if let [b'\r', b'\n', ..] = rest {
        line.start = from as u32;
        return Some(Line::End { next: from + 2 });
    }
    let (id, name_len) = name(rest)?;
    let mut value_start = from + name_len + 1;
    while buf.get(value_start) == Some(&b' ') {
        value_start += 1;
    }
    let at = find_line_end(buf, value_start)?;
    let next = match buf.get(at..)? {
        [b'\n', ..] => at + 1,
        [b'\r', b'\n', ..] => at + 2,
        _ => return None,
    };
    line.start = from as u32;
    line.invalid = false;
    Some(Line::Field {
        name: Span::between(from, from + name_len),
        id,
        value: Span::between(value_start, trimmed(buf, value_start, at)),
        invalid: false,
        next,
    })
}

/// The name at the front and its length, if it has none but usual bytes and a colon follows.
#[inline]
fn name(rest: &[u8]) -> Option<(FieldId, usize)> {
    // A known name needs no look at each of its bytes. Others are mostly longer, or the line has no colon at all.
    if let Some(len) = find_early(rest, b':') {
        let id = FieldId::of(&rest[..len]);
        if id != FieldId::Unknown {
            return Some((id, len));
        }
    }
    let len = rest.iter().position(|byte| CLASS[*byte as usize] != NAME)?;
    (len > 0 && rest[len] == b':').then_some((FieldId::Unknown, len))
}

fn end(line: &mut LineState, at: usize) -> Line {
    line.state = At::Start;
    Line::End { next: at + 1 }
}

fn bad(line: &LineState, line_end: usize, at: usize) -> BadByte {
    BadByte { line: Span::between(line.start as usize, line_end), at }
}

/// nginx trims spaces only: a tab belongs to the value, on both sides.
fn trimmed(buf: &[u8], start: usize, end: usize) -> usize {
    let mut end = end;
    while end > start && buf[end - 1] == b' ' {
        end -= 1;
    }
    end
}
