//! A response head from an upstream, as ngx_http_parse_status_line and nginx's upstream module take it.

use crate::ascii::find_line_end;
use crate::{Span, same};

use super::error::{ResponseError, Shown};
use super::field::{Field, FieldId, FieldIds, Fields, contains_ignore_case};
use super::head::{Part, Resume, Step};
use super::line::{self, Line, NameRules};
use super::request::content_length;
use super::request_line::Version;

/// Limits for reading a response head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseLimits {
    /// `proxy_buffer_size`: the most bytes a head may have, its status line and the empty line included.
    pub head_bytes_max: usize,
}

/// How a response's body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// There is none.
    None,
    /// After so many bytes, at least one.
    Length(u64),
    /// With the last chunk.
    Chunked,
    /// When the upstream closes.
    UntilClose,
}

/// A response head: spans into the buffer the caller keeps, and what follows from them.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    /// The status: whatever three digits came.
    pub status: u16,
    /// Status and reason as sent, `200 OK`.
    pub status_text: Span,
    /// The version as sent, whatever it is.
    pub version: Version,
    /// All fields but ignored duplicates.
    pub fields: Fields,
    /// Second fields of a name that may come once, left out of `fields`, each with the first one; to be logged at `warn`:
    /// [`ResponseHead::ignored_text`].
    pub ignored: Vec<(Shown, Shown)>,
    /// The body's length in bytes, if `Content-Length` said it.
    pub content_length: Option<u64>,
    /// The body is chunked.
    pub chunked: bool,
    /// The upstream closes after this response: it said so, or its version is below 1.1.
    pub connection_close: bool,
}

impl ResponseHead {
    /// Forgets everything and keeps the memory.
    pub fn clear(&mut self) {
        let ResponseHead { status, status_text, version, fields, ignored, .. } = self;
        (*status, *status_text, *version) = (0, Span::EMPTY, Version::default());
        fields.clear();
        ignored.clear();
        (self.content_length, self.chunked, self.connection_close) = (None, false, false);
    }

    /// How the body ends, given whether the request was a HEAD (RFC 9112 section 6.3).
    pub fn body(&self, to_head: bool) -> Body {
        match self.status {
            _ if to_head => Body::None,
            100..=199 | 204 | 304 => Body::None,
            _ if self.chunked => Body::Chunked,
            _ => match self.content_length {
                Some(0) => Body::None,
                Some(length) => Body::Length(length),
                None => Body::UntilClose,
            },
        }
    }

    /// True for a head after which another one comes: 1xx but 101.
    pub fn is_interim(&self) -> bool {
        matches!(self.status, 100 | 102..=199)
    }

    /// nginx's log text for an ignored duplicate.
    pub fn ignored_text((now, first): &(Shown, Shown), buf: &[u8]) -> String {
        format!("upstream sent duplicate header line: {}, ignored", super::error::pair(now, first, buf))
    }
}

/// Reads a response head from the front of `buf`. `Done` has the number of bytes it took.
///
/// Call it again with more bytes behind the same ones until it is done; each byte is looked at once.
pub fn response(
    buf: &[u8],
    head: &mut ResponseHead,
    resume: &mut Resume,
    limits: &ResponseLimits,
) -> Result<Step<usize>, ResponseError> {
    let seen = &buf[..buf.len().min(limits.head_bytes_max)];
    let step = read(seen, head, resume)?;
    if step == Step::More && buf.len() >= limits.head_bytes_max {
        return Err(ResponseError::TooBig);
    }
    Ok(step)
}

fn read(buf: &[u8], head: &mut ResponseHead, resume: &mut Resume) -> Result<Step<usize>, ResponseError> {
    if resume.part == Part::FirstLine {
        if resume.at == 0 {
            head.clear();
        }
        let line_end = status_line(buf, head, resume)?;
        if !line_end {
            return Ok(Step::More);
        }
        head.connection_close = head.version < Version::V11;
        if head.connection_close && head.status == EARLY_HINTS {
            return Err(ResponseError::EarlyHints10);
        }
        resume.part = Part::Fields;
    }
    loop {
        match line::read(buf, resume.at, &mut resume.line, UPSTREAM_NAMES) {
            Ok(Line::Field { name, id, value, next, .. }) => {
                resume.at = next;
                let field = Field { name, value, id };
                let acts = KNOWN.has(field.id) && head.status != EARLY_HINTS;
                if !acts || known_field(buf, head, &field)? {
                    head.fields.push(field);
                }
            }
            Ok(Line::End { next }) => {
                resume.at = next;
                return Ok(Step::Done(next));
            }
            Ok(Line::More) => {
                resume.at = buf.len();
                return Ok(Step::More);
            }
            Err(bad) => return Err(ResponseError::InvalidField(bad.line, bad.byte_in(buf))),
        }
    }
}

const EARLY_HINTS: u16 = 103;

/// nginx takes any name an upstream sends.
pub(crate) const UPSTREAM_NAMES: NameRules = NameRules { underscores: true, skip_status: true };

/// States of the status line; the numbers are kept in `Resume::first`. 0 to 4 are the letters of `HTTP/`.
const MAJOR_FIRST: u8 = 5;
const MAJOR: u8 = 6;
const MINOR_FIRST: u8 = 7;
const MINOR: u8 = 8;
/// 9, 10, 11: so many digits of the status less 9 have come.
const STATUS: u8 = 9;
const AFTER_STATUS: u8 = 12;
const REASON: u8 = 13;
const ALMOST_DONE: u8 = 14;

/// True when the line is complete; `resume.at` is then behind it.
fn status_line(buf: &[u8], head: &mut ResponseHead, resume: &mut Resume) -> Result<bool, ResponseError> {
    const BAD: ResponseError = ResponseError::NoStatusLine;
    if resume.at == 0
        && let Some(next) = plain_status_line(buf, head)
    {
        resume.at = next;
        return Ok(true);
    }
    let mut state = resume.first;
    let mut at = resume.at;
    while let Some(&byte) = buf.get(at) {
        let digit = u16::from(byte.wrapping_sub(b'0'));
        state = match (state, byte) {
            (0..MAJOR_FIRST, _) if byte == b"HTTP/"[usize::from(state)] => state + 1,
            (MAJOR_FIRST, b'1'..=b'9') => {
                head.version = Version(digit * 1000);
                MAJOR
            }
            (MAJOR, b'.') => MINOR_FIRST,
            // As nginx up to three digits. What counts is whether it is below 1.1: so that the number fits and tells how many
            // digits there were, two of them make less than 60, and three make 60.
            (MAJOR, b'0'..=b'9') if head.version.0 < 60_000 => {
                head.version = Version(match head.version.0 {
                    one @ ..10_000 => one.min(5_000) * 10 + digit * 1000,
                    _ => 60_000,
                });
                MAJOR
            }
            (MINOR_FIRST, b'0'..=b'9') => {
                head.version.0 += digit;
                MINOR
            }
            (MINOR, b' ') => STATUS,
            (MINOR, b'0'..=b'9') if head.version.0 % 1000 <= 99 => {
                let minor = head.version.0 % 1000;
                head.version.0 += minor * 9 + digit;
                MINOR
            }
            (STATUS..AFTER_STATUS, b' ') => state,
            (STATUS..AFTER_STATUS, b'0'..=b'9') => {
                head.status = head.status * 10 + digit;
                if state + 1 == AFTER_STATUS {
                    head.status_text.start = at as u32 - 2;
                }
                state + 1
            }
            (AFTER_STATUS, b' ' | b'.') => REASON,
            (AFTER_STATUS | REASON, b'\r') => {
                head.status_text = Span::between(head.status_text.start as usize, at);
                ALMOST_DONE
            }
            (AFTER_STATUS | REASON, b'\n') => {
                head.status_text = Span::between(head.status_text.start as usize, at);
                resume.at = at + 1;
                return Ok(true);
            }
            (REASON, _) => REASON,
            (ALMOST_DONE, b'\n') => {
                resume.at = at + 1;
                return Ok(true);
            }
            _ => return Err(BAD),
        };
        at += 1;
    }
    resume.first = state;
    resume.at = at;
    Ok(false)
}

/// A status line that is here whole and as servers write it; where the next line starts.
#[inline]
fn plain_status_line(buf: &[u8], head: &mut ResponseHead) -> Option<usize> {
    let (first, _) = buf.split_first_chunk::<13>()?;
    let [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1', b' ', a, b, c, b' '] = first else { return None };
    let mut status = 0;
    for byte in [a, b, c] {
        if !byte.is_ascii_digit() {
            return None;
        }
        status = status * 10 + u16::from(byte - b'0');
    }
    let end = find_line_end(buf, 13)?;
    if !buf[end..].starts_with(b"\r\n") {
        return None;
    }
    (head.version, head.status) = (Version::V11, status);
    head.status_text = Span::between(9, end);
    Some(end + 2)
}

/// Of these the first counts, and the others are left out.
const FIRST_COUNTS: [FieldId; 12] = [
    FieldId::Status,
    FieldId::ContentType,
    FieldId::Date,
    FieldId::Etag,
    FieldId::Server,
    FieldId::Location,
    FieldId::Refresh,
    FieldId::LastModified,
    FieldId::Expires,
    FieldId::XAccelExpires,
    FieldId::XAccelRedirect,
    FieldId::XAccelLimitRate,
];
/// The fields [`known_field`] acts on.
const KNOWN: FieldIds = FieldIds::of(&FIRST_COUNTS).and(FieldIds::of(&[
    FieldId::ContentLength,
    FieldId::TransferEncoding,
    FieldId::Connection,
]));

/// Acts on a field nginx knows. False: it is a duplicate that is left out.
fn known_field(buf: &[u8], head: &mut ResponseHead, field: &Field) -> Result<bool, ResponseError> {
    match field.id {
        FieldId::ContentLength => {
            refuse_second(head, field)?;
            if head.fields.has(FieldId::TransferEncoding) {
                return Err(ResponseError::BothLengths);
            }
            let length = content_length(field.value.of(buf));
            let length = length.ok_or(ResponseError::InvalidContentLength((field.name, field.value)))?;
            head.content_length = Some(length);
        }
        FieldId::TransferEncoding => {
            refuse_second(head, field)?;
            if head.fields.has(FieldId::ContentLength) {
                return Err(ResponseError::BothLengths);
            }
            if !same(field.value.of(buf), b"chunked") {
                return Err(ResponseError::UnknownTransferEncoding(field.value));
            }
            head.chunked = true;
        }
        FieldId::Connection => {
            let value = field.value.of(buf);
            // What most servers say.
            head.connection_close |= !same(value, b"keep-alive") && contains_ignore_case(value, b"close");
        }
        _ => {
            if let Some(first) = head.fields.first(field.id) {
                head.ignored.push(((field.name, field.value), (first.name, first.value)));
                return Ok(false);
            }
        }
    }
    Ok(true)
}

fn refuse_second(head: &ResponseHead, field: &Field) -> Result<(), ResponseError> {
    match head.fields.first(field.id) {
        None => Ok(()),
        Some(first) => {
            Err(ResponseError::DuplicateField((field.name, field.value), (first.name, first.value)))
        }
    }
}
