//! The request line, byte for byte as ngx_http_parse_request_line takes it.

use crate::Span;

use super::error::RequestError;
use super::request::RequestHead;

/// A method nginx knows by name; any other run of capitals, `-` and `_` is `Other`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Options,
    Connect,
    Trace,
    Patch,
    Mkcol,
    Copy,
    Move,
    Propfind,
    Proppatch,
    Lock,
    Unlock,
    #[default]
    Other,
}

impl Method {
    /// The method with this name; names are in capitals.
    pub fn of(name: &[u8]) -> Method {
        match name {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"POST" => Method::Post,
            b"PUT" => Method::Put,
            b"DELETE" => Method::Delete,
            b"OPTIONS" => Method::Options,
            b"CONNECT" => Method::Connect,
            b"TRACE" => Method::Trace,
            b"PATCH" => Method::Patch,
            b"MKCOL" => Method::Mkcol,
            b"COPY" => Method::Copy,
            b"MOVE" => Method::Move,
            b"PROPFIND" => Method::Propfind,
            b"PROPPATCH" => Method::Proppatch,
            b"LOCK" => Method::Lock,
            b"UNLOCK" => Method::Unlock,
            _ => Method::Other,
        }
    }
}

/// A protocol version as nginx counts it: major times 1000 plus minor; 9 is HTTP/0.9.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u16);

impl Version {
    /// A request line without a version.
    pub const V09: Version = Version(9);
    /// HTTP/1.0
    pub const V10: Version = Version(1000);
    /// HTTP/1.1
    pub const V11: Version = Version(1001);
    /// HTTP/2.0
    pub const V20: Version = Version(2000);
}

/// What is known of a request line while its bytes come in.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Marks {
    start: u32,
    method_end: u32,
    scheme_start: u32,
    scheme_end: u32,
    host_start: u32,
    host_end: u32,
    uri_start: u32,
    uri_end: u32,
    /// The first `?` before any `#`, and the first `#`; 0 if there is none.
    question: u32,
    hash: u32,
    protocol: u32,
    line_end: u32,
    /// `/.`, `//` or `%` in the path, or `#` anywhere: the path needs work.
    complex: bool,
    empty_path: bool,
    connect: bool,
    major: u16,
    minor: u16,
}

impl Marks {
    pub(crate) fn start(&self) -> usize {
        self.start as usize
    }
}

/// The method of a line that broke off behind it; as before the method was read: GET.
pub(crate) fn method_so_far(buf: &[u8], marks: &Marks) -> Method {
    match marks.method_end {
        0 => Method::default(),
        end => Method::of(&buf[marks.start()..end as usize]),
    }
}

/// States of the line; the numbers are kept in `Resume::first`.
const START: u8 = 0;
const METHOD: u8 = 1;
const SPACES_BEFORE_URI: u8 = 2;
const SCHEME: u8 = 3;
const SCHEME_SLASH: u8 = 4;
const SCHEME_SLASH_SLASH: u8 = 5;
const SPACES_BEFORE_HOST: u8 = 6;
const HOST_START: u8 = 7;
const HOST: u8 = 8;
const HOST_END: u8 = 9;
const IP_LITERAL: u8 = 10;
const PORT_START: u8 = 11;
const PORT: u8 = 12;
const PATH: u8 = 13;
const QUERY: u8 = 14;
const AFTER_URI: u8 = 15;
const PROTOCOL: u8 = 16;
const MAJOR_FIRST: u8 = 17;
const MAJOR: u8 = 18;
const MINOR_FIRST: u8 = 19;
const MINOR: u8 = 20;
const SPACES_AFTER_DIGIT: u8 = 21;
const ALMOST_DONE: u8 = 22;

/// Bytes that need a look: 1 in a path only, 3 in a path and behind it.
static URI_CLASS: [u8; 256] = uri_classes();

const fn uri_classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let byte = i as u8;
        if byte <= b' ' || byte == 0x7f || byte == b'#' {
            table[i] = 3;
        } else if matches!(byte, b'/' | b'.' | b'%' | b'?') {
            table[i] = 1;
        }
        i += 1;
    }
    table
}

/// Reads on at `from` in state `state`. `Ok(None)`: all bytes used up; the state says where. `Ok(Some(next))`: the line ends
/// before `next`. On an error the offset is that of the byte that caused it.
pub(crate) fn read(
    buf: &[u8],
    from: usize,
    state: &mut u8,
    marks: &mut Marks,
) -> Result<Option<usize>, (RequestError, usize)> {
    let mut at = from;
    let mut now = *state;
    loop {
        match now {
            METHOD => {
                while at < buf.len() && is_method_byte(buf[at]) {
                    at += 1;
                }
            }
            PATH => {
                while at < buf.len() && URI_CLASS[buf[at] as usize] == 0 {
                    at += 1;
                }
            }
            QUERY => {
                while at < buf.len() && URI_CLASS[buf[at] as usize] != 3 {
                    at += 1;
                }
            }
            _ => {}
        }
        let Some(&byte) = buf.get(at) else { break };
        let invalid = Err((RequestError::InvalidRequest, at));
        match now {
            START => match byte {
                b'\r' | b'\n' => {}
                _ if is_method_byte(byte) => {
                    marks.start = at as u32;
                    now = METHOD;
                }
                _ => {
                    marks.start = at as u32;
                    return Err((RequestError::InvalidMethod, at));
                }
            },
            METHOD => {
                if byte != b' ' {
                    return Err((RequestError::InvalidMethod, at));
                }
                marks.method_end = at as u32;
                marks.connect = &buf[marks.start as usize..at] == b"CONNECT";
                now = if marks.connect { SPACES_BEFORE_HOST } else { SPACES_BEFORE_URI };
            }
            SPACES_BEFORE_URI => match byte {
                b'/' => {
                    marks.uri_start = at as u32;
                    now = PATH;
                }
                b' ' => {}
                _ if byte.is_ascii_alphabetic() => {
                    marks.scheme_start = at as u32;
                    now = SCHEME;
                }
                _ => return invalid,
            },
            SCHEME => match byte {
                b':' => {
                    marks.scheme_end = at as u32;
                    now = SCHEME_SLASH;
                }
                b'+' | b'-' | b'.' => {}
                _ if byte.is_ascii_alphanumeric() => {}
                _ => return invalid,
            },
            SCHEME_SLASH | SCHEME_SLASH_SLASH => {
                if byte != b'/' {
                    return invalid;
                }
                now = if now == SCHEME_SLASH { SCHEME_SLASH_SLASH } else { HOST_START };
            }
            SPACES_BEFORE_HOST if byte == b' ' => {}
            SPACES_BEFORE_HOST | HOST_START => {
                marks.host_start = at as u32;
                if byte == b'[' {
                    now = IP_LITERAL;
                } else {
                    now = HOST;
                    continue;
                }
            }
            HOST if byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-' => {}
            HOST | HOST_END if byte == b':' => now = PORT_START,
            HOST | HOST_END => {
                if marks.connect {
                    return invalid;
                }
                now = after_authority(byte, at, marks).ok_or((RequestError::InvalidRequest, at))?;
            }
            IP_LITERAL => match byte {
                b']' => now = HOST_END,
                b':' | b'-' | b'.' | b'_' | b'~' => {}
                b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' => {}
                _ if byte.is_ascii_alphanumeric() => {}
                _ => return invalid,
            },
            PORT_START | PORT if byte.is_ascii_digit() => now = PORT,
            PORT_START | PORT => {
                if marks.connect {
                    if now == PORT_START || byte != b' ' {
                        return invalid;
                    }
                    marks.host_end = at as u32;
                    now = AFTER_URI;
                } else {
                    now = after_authority(byte, at, marks).ok_or((RequestError::InvalidRequest, at))?;
                }
            }
            PATH | QUERY => match byte {
                b' ' | b'\r' | b'\n' => {
                    marks.uri_end = at as u32;
                    if let Some(
                        [b' ', b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor @ (b'0' | b'1'), b'\r', b'\n'],
                    ) = buf[at..].first_chunk()
                    {
                        // The rest of nearly every line.
                        marks.protocol = at as u32 + 1;
                        (marks.major, marks.minor) = (1, u16::from(minor - b'0'));
                        marks.line_end = at as u32 + 9;
                        return Ok(Some(at + 11));
                    }
                    now = AFTER_URI;
                    continue;
                }
                b'#' => {
                    marks.complex = true;
                    if marks.hash == 0 {
                        marks.hash = at as u32;
                    }
                    now = QUERY;
                }
                b'?' => {
                    marks.question = at as u32;
                    now = QUERY;
                }
                b'%' => marks.complex = true,
                b'/' | b'.' => {
                    marks.complex |= at > marks.uri_start as usize && buf[at - 1] == b'/';
                }
                _ => return invalid,
            },
            AFTER_URI => match byte {
                b' ' => {}
                b'\r' | b'\n' => {
                    marks.minor = 9;
                    now = SPACES_AFTER_DIGIT;
                    continue;
                }
                b'H' => {
                    marks.protocol = at as u32;
                    now = PROTOCOL;
                }
                _ => return invalid,
            },
            PROTOCOL => {
                let index = at - marks.protocol as usize;
                if byte != b"HTTP/"[index] {
                    return invalid;
                }
                if byte == b'/' {
                    if marks.connect {
                        marks.uri_start = at as u32;
                        marks.uri_end = at as u32 + 1;
                    }
                    now = MAJOR_FIRST;
                }
            }
            MAJOR_FIRST => {
                if !matches!(byte, b'1'..=b'9') {
                    return invalid;
                }
                marks.major = u16::from(byte - b'0');
                if marks.major > 1 {
                    return Err((RequestError::InvalidVersion, at));
                }
                now = MAJOR;
            }
            MAJOR => {
                if byte == b'.' {
                    now = MINOR_FIRST;
                } else if byte.is_ascii_digit() {
                    // Ten or more by now.
                    return Err((RequestError::InvalidVersion, at));
                } else {
                    return invalid;
                }
            }
            MINOR_FIRST => {
                if !byte.is_ascii_digit() {
                    return invalid;
                }
                marks.minor = u16::from(byte - b'0');
                now = MINOR;
            }
            MINOR | SPACES_AFTER_DIGIT => match byte {
                b'\r' => {
                    marks.line_end = at as u32;
                    now = ALMOST_DONE;
                }
                b'\n' => {
                    marks.line_end = at as u32;
                    return Ok(Some(at + 1));
                }
                b' ' => now = SPACES_AFTER_DIGIT,
                b'0'..=b'9' if now == MINOR && marks.minor <= 99 => {
                    marks.minor = marks.minor * 10 + u16::from(byte - b'0');
                }
                _ => return invalid,
            },
            // ALMOST_DONE
            _ => {
                if byte != b'\n' {
                    return invalid;
                }
                return Ok(Some(at + 1));
            }
        }
        at += 1;
    }
    *state = now;
    Ok(None)
}

/// Reads a target that came without a request line, as ngx_http_parse_uri: it starts with a slash and has no spaces.
pub(crate) fn read_target(buf: &[u8], target: Span, marks: &mut Marks) -> Result<(), RequestError> {
    if target.of(buf).first() != Some(&b'/') {
        return Err(RequestError::InvalidRequest);
    }
    marks.uri_start = target.start;
    let mut state = PATH;
    let seen = &buf[..target.end()];
    match read(seen, target.start as usize + 1, &mut state, marks) {
        Ok(None) if state == PATH || state == QUERY => {
            marks.uri_end = target.end() as u32;
            Ok(())
        }
        _ => Err(RequestError::InvalidRequest),
    }
}

fn is_method_byte(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte == b'_' || byte == b'-'
}

/// What follows `scheme://host:port`.
fn after_authority(byte: u8, at: usize, marks: &mut Marks) -> Option<u8> {
    marks.host_end = at as u32;
    match byte {
        b'/' => {
            marks.uri_start = at as u32;
            Some(PATH)
        }
        b'?' => {
            marks.uri_start = at as u32;
            marks.question = at as u32;
            marks.empty_path = true;
            Some(QUERY)
        }
        b' ' => {
            // The one slash that is at hand: the first of the two before the host.
            marks.uri_start = marks.scheme_end + 1;
            marks.uri_end = marks.scheme_end + 2;
            Some(AFTER_URI)
        }
        _ => None,
    }
}

/// Fills in what the complete line says.
pub(crate) fn finish(buf: &[u8], marks: &Marks, head: &mut RequestHead) -> Result<(), RequestError> {
    let span = |start: u32, end: u32| Span::between(start as usize, end as usize);
    head.line = span(marks.start, marks.line_end);
    head.method_name = span(marks.start, marks.method_end);
    head.method = Method::of(head.method_name.of(buf));
    head.version = Version(marks.major * 1000 + marks.minor);
    if marks.protocol != 0 {
        head.protocol = span(marks.protocol, marks.line_end);
    }
    if head.version == Version::V09 && head.method != Method::Get {
        return Err(RequestError::InvalidMethod09);
    }
    if marks.scheme_end != 0 {
        head.scheme = Some(span(marks.scheme_start, marks.scheme_end));
    }
    if marks.host_end != 0 {
        head.authority = Some(span(marks.host_start, marks.host_end));
    }
    finish_target(marks, head);
    Ok(())
}

/// Splits the target into path and query.
pub(crate) fn finish_target(marks: &Marks, head: &mut RequestHead) {
    let span = |start: u32, end: u32| Span::between(start as usize, end as usize);
    head.target = span(marks.uri_start, marks.uri_end);
    let target_end = if marks.hash != 0 { marks.hash } else { marks.uri_end };
    let path_end = if marks.question != 0 { marks.question } else { target_end };
    head.raw_path = span(marks.uri_start, path_end);
    head.query = (marks.question != 0).then(|| span(marks.question + 1, target_end));
    head.is_complex = marks.complex;
    head.is_empty_path = marks.empty_path;
}
