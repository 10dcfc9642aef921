//! Conditional requests (RFC 9110, 13), in nginx's order: what `If-...` fields make of a response that is ready.

use wire::http1::FieldId;

use crate::clock;
use crate::config::IfModifiedSince;
use crate::message::{Body, Request};

/// Makes a 304 of a 200 that the client has already.
///
/// # Errors
/// 412: the client wants nothing but what it has.
pub(crate) fn check(request: &mut Request) -> Result<(), u16> {
    let fields = &request.head.fields;
    let asks = [FieldId::IfModifiedSince, FieldId::IfNoneMatch, FieldId::IfUnmodifiedSince, FieldId::IfMatch];
    let may = request.shown_status() == 200 && request.is_main();
    if !may || !asks.into_iter().any(|id| fields.has(id)) {
        return Ok(());
    }
    let modified = request.response.modified().and_then(clock::parse_http_date);
    let etag = request.response.fields().find(|(id, ..)| *id == FieldId::Etag).map(|(.., value)| value);
    if is_past(request, modified, etag) {
        // Nor does the client want what came with it.
        request.response.drop_carried();
        return Err(412);
    }
    if is_same(request, modified, etag) {
        let response = &mut request.response;
        (response.status, response.has_final_status) = (304, true);
        response.status_line = None;
        response.content_type = None;
        response.content_length = None;
        response.allow_ranges = false;
        response.body = Body::Empty;
    }
    Ok(())
}

/// `If-Unmodified-Since` and `If-Match`: whether what is here is no longer what the client means.
fn is_past(request: &Request, modified: Option<u64>, etag: Option<&[u8]>) -> bool {
    let since = request.field(FieldId::IfUnmodifiedSince);
    let is_newer = |since| match (modified, clock::parse_http_date(since)) {
        (Some(modified), Some(since)) => since < modified,
        _ => true,
    };
    since.is_some_and(is_newer)
        || request.field(FieldId::IfMatch).is_some_and(|list| !is_listed(list, etag, false))
}

/// `If-Modified-Since` and `If-None-Match`: whether the client has it; one of them at least asks.
fn is_same(request: &Request, modified: Option<u64>, etag: Option<&[u8]>) -> bool {
    let since = request.field(FieldId::IfModifiedSince);
    let none_match = request.field(FieldId::IfNoneMatch);
    if since.is_none() && none_match.is_none() {
        return false;
    }
    let mode = request.location().core.if_modified_since;
    let same_time = |since| match (modified, clock::parse_http_date(since), mode) {
        (None, ..) | (_, _, IfModifiedSince::Off) => false,
        (Some(modified), Some(since), IfModifiedSince::Before) => modified <= since,
        (modified, since, _) => since == modified,
    };
    since.is_none_or(same_time) && none_match.is_none_or(|list| is_listed(list, etag, true))
}

/// Whether a list of entity tags holds ours; `*` holds any.
fn is_listed(list: &[u8], etag: Option<&[u8]>, weak: bool) -> bool {
    if list == b"*" {
        return true;
    }
    let Some(etag) = etag else { return false };
    list.split(|byte| *byte == b',').any(|have| {
        let have = have.trim_ascii();
        let have = if weak { have.strip_prefix(b"W/").unwrap_or(have) } else { have };
        have == etag
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entity_tags_in_lists() {
        let check = |list: &str, weak: bool, expected: bool| {
            assert_eq!(is_listed(list.as_bytes(), Some(b"\"a-1\""), weak), expected, "{list}");
        };
        check("\"a-1\"", true, true);
        check("\"b\", \"a-1\"", true, true);
        check("W/\"a-1\"", true, true);
        check("W/\"a-1\"", false, false);
        check("*", false, true);
        check("\"a-2\"", true, false);
        check("", true, false);
    }
}
