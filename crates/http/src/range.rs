//! `Range` (RFC 9110, 14): which parts of a prepared body a client asked for, by nginx's rules.

use wire::http1::FieldId;

use crate::clock;
use crate::message::Request;

/// Parts of a body that are sent in place of the whole. Kept in the request's slots from the plan to the body.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) parts: Vec<Part>,
    /// What stands behind the last part of a multipart answer.
    pub(crate) tail: Vec<u8>,
    content_type: Option<Vec<u8>>,
    content_range: Option<Vec<u8>>,
}

/// Bytes `start..end` of the body, with what is sent before them.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) head: Vec<u8>,
    pub(crate) start: u64,
    pub(crate) end: u64,
}

/// What a `Range` field means for a body of a given length.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    /// These parts, at least one.
    Parts(Vec<(u64, u64)>),
    /// The whole: the field is none of ours or asks for too much.
    Whole,
    /// Nothing that exists: 416.
    Nothing,
}

/// Decides before the head is sent what parts of a prepared response go out.
///
/// # Errors
/// 416, with `Content-Range` added.
pub(crate) fn plan(request: &mut Request) -> Result<(), u16> {
    let may = request.response.allow_ranges && request.shown_status() == 200;
    if !may || !request.is_main() {
        return Ok(());
    }
    let Some(length) = request.response.content_length else { return Ok(()) };
    let Some(field) = request.field(FieldId::Range) else { return Ok(()) };
    let is_ours = field.get(..6).is_some_and(|unit| unit.eq_ignore_ascii_case(b"bytes=")) && field.len() > 6;
    if !is_ours || !is_still_same(request) {
        return Ok(());
    }
    match asked(&field[6..], length, request.location().core.max_ranges) {
        Asked::Whole => Ok(()),
        Asked::Nothing => {
            request.response.add(b"Content-Range", format!("bytes */{length}").as_bytes());
            Err(416)
        }
        Asked::Parts(ranges) => {
            let parts = match ranges.as_slice() {
                [(start, end)] => single(*start, *end, length),
                _ => several(&ranges, length, request),
            };
            *request.slots.of::<Parts>() = parts;
            Ok(())
        }
    }
}

/// Makes the head that of the parts, behind all header filters.
pub(crate) fn head(request: &mut Request) {
    if !request.response.allow_ranges || request.response.status != 200 {
        return;
    }
    let Some(parts) = request.slots.find::<Parts>().filter(|parts| !parts.parts.is_empty()).cloned() else {
        request.response.add_known(FieldId::AcceptRanges, b"Accept-Ranges", b"bytes");
        return;
    };
    let response = &mut request.response;
    response.status = 206;
    response.status_line = None;
    let bytes = parts.parts.iter().map(|part| part.head.len() as u64 + part.end - part.start).sum::<u64>();
    response.content_length = Some(bytes + parts.tail.len() as u64);
    if let Some(content_type) = parts.content_type {
        response.content_type = Some(content_type);
    }
    if let Some(content_range) = parts.content_range {
        response.add(b"Content-Range", &content_range);
    }
}

/// `If-Range`: the tag or the time of what is sent.
fn is_still_same(request: &Request) -> bool {
    let Some(expected) = request.field(FieldId::IfRange) else { return true };
    if expected.len() >= 2 && expected.ends_with(b"\"") {
        let mut fields = request.response.fields();
        return fields.any(|(id, _, value)| id == FieldId::Etag && value == expected);
    }
    let modified = request.response.modified().and_then(clock::parse_http_date);
    modified.is_some() && modified == clock::parse_http_date(expected)
}

/// Reads the list behind `bytes=`. `most`: how many parts are sent.
fn asked(list: &[u8], length: u64, most: usize) -> Asked {
    let mut parts = Vec::new();
    let mut bytes = 0u64;
    for item in list.split(|byte| *byte == b',') {
        let Some((start, end)) = bounds(item, length) else { return Asked::Nothing };
        if start < end {
            if parts.len() == most {
                return Asked::Whole;
            }
            parts.push((start, end));
            bytes = bytes.saturating_add(end - start);
        } else if start == 0 {
            return Asked::Whole;
        }
    }
    match parts.len() {
        0 => Asked::Nothing,
        // Asking for more than there is serves nobody but an attacker.
        _ if bytes > length => Asked::Whole,
        _ => Asked::Parts(parts),
    }
}

/// One item of the list as start and end, the end not included; `None`: not the grammar.
fn bounds(item: &[u8], length: u64) -> Option<(u64, u64)> {
    let item = trim_spaces(item);
    let dash = item.iter().position(|byte| *byte == b'-')?;
    let (first, last) = (trim_spaces(&item[..dash]), trim_spaces(&item[dash + 1..]));
    if first.is_empty() {
        let count = number(last)?;
        return Some((length.saturating_sub(count), length));
    }
    let start = number(first)?;
    let end = if last.is_empty() { length } else { number(last)?.saturating_add(1).min(length) };
    Some((start, end))
}

fn trim_spaces(mut text: &[u8]) -> &[u8] {
    while let [b' ', rest @ ..] | [rest @ .., b' '] = text {
        text = rest;
    }
    text
}

fn number(digits: &[u8]) -> Option<u64> {
    let all = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    all.then(|| std::str::from_utf8(digits).ok()?.parse().ok()).flatten().filter(|number| *number < 1 << 63)
}

fn single(start: u64, end: u64, length: u64) -> Parts {
    Parts {
        parts: vec![Part { head: Vec::new(), start, end }],
        content_range: Some(content_range(start, end, length)),
        ..Parts::default()
    }
}

fn content_range(start: u64, end: u64, length: u64) -> Vec<u8> {
    format!("bytes {start}-{}/{length}", end - 1).into_bytes()
}

fn several(ranges: &[(u64, u64)], length: u64, request: &Request) -> Parts {
    let boundary = boundary();
    let response = &request.response;
    let content_type = response.carried_type.as_ref().or(response.content_type.as_ref());
    let content_type = content_type.cloned().unwrap_or_default();
    let parts = ranges.iter().map(|(start, end)| {
        let mut head = format!("\r\n--{boundary}\r\n").into_bytes();
        if !content_type.is_empty() {
            head.extend_from_slice(b"Content-Type: ");
            head.extend_from_slice(&content_type);
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"Content-Range: ");
        head.extend_from_slice(&content_range(*start, *end, length));
        head.extend_from_slice(b"\r\n\r\n");
        Part { head, start: *start, end: *end }
    });
    Parts {
        parts: parts.collect(),
        tail: format!("\r\n--{boundary}--\r\n").into_bytes(),
        content_type: Some(format!("multipart/byteranges; boundary={boundary}").into_bytes()),
        content_range: None,
    }
}

/// Twenty digits that differ from answer to answer, as nginx counts them.
fn boundary() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("{:020}", NEXT.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_ranges() {
        let check = |list: &str, expected: Asked| {
            assert_eq!(asked(list.as_bytes(), 100, 3), expected, "{list}");
        };
        let parts = |list: &[(u64, u64)]| Asked::Parts(list.to_vec());
        check("0-8", parts(&[(0, 9)]));
        check("-10", parts(&[(90, 100)]));
        check("-200", parts(&[(0, 100)]));
        check("90-", parts(&[(90, 100)]));
        check("90-500", parts(&[(90, 100)]));
        check(" 1 - 2 , 4-5", parts(&[(1, 3), (4, 6)]));
        check("0-0,200-300", parts(&[(0, 1)]));
        check("100-", Asked::Nothing);
        check("-0", Asked::Nothing);
        check("5-2", Asked::Nothing);
        check("a-b", Asked::Nothing);
        check("1", Asked::Nothing);
        check("", Asked::Nothing);
        check("99999999999999999999-", Asked::Nothing);
        check("0-1,0-1,0-1,0-1", Asked::Whole);
        check("0-90,0-90", Asked::Whole);
    }
}
