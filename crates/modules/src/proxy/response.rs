//! An upstream's response head as it goes to the client: hop-by-hop and hidden fields dropped, redirects rewritten.

use http::Request;
use wire::http1::{self, Field, FieldId, FieldIds, ResponseHead, tokens};

use crate::proxy::Conf;
use crate::proxy::redirect;

/// Which fields of upstreams stay here: `proxy_hide_header` and nginx's own list, less `proxy_pass_header`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Hidden {
    known: FieldIds,
    unknown: Vec<Box<[u8]>>,
}

const HIDDEN: [&str; 8] = [
    "Date",
    "Server",
    "X-Pad",
    "X-Accel-Expires",
    "X-Accel-Redirect",
    "X-Accel-Limit-Rate",
    "X-Accel-Buffering",
    "X-Accel-Charset",
];

impl Hidden {
    pub(crate) fn compile(hide: &[Box<[u8]>], pass: &[Box<[u8]>]) -> Hidden {
        let mut hidden = Hidden::default();
        let all = HIDDEN.iter().map(|name| name.as_bytes()).chain(hide.iter().map(|name| &**name));
        for name in all.filter(|name| !pass.iter().any(|pass| pass.eq_ignore_ascii_case(name))) {
            match FieldId::of(name) {
                FieldId::Unknown => hidden.unknown.push(name.to_ascii_lowercase().into()),
                id => hidden.known.add(id),
            }
        }
        hidden
    }

    pub(crate) fn has(&self, id: FieldId, name: &[u8]) -> bool {
        match id {
            FieldId::Unknown => self.unknown.iter().any(|hidden| hidden.eq_ignore_ascii_case(name)),
            id => self.known.has(id),
        }
    }
}

/// Fills `request.response` from the upstream's head in `bytes`.
pub(crate) fn translate(conf: &Conf, head: &ResponseHead, bytes: &[u8], request: &mut Request) {
    request.response.status = head.status;
    let text = head.status_text.of(bytes);
    // The usual words are ours already.
    let is_usual = http1::status_text(head.status).is_some_and(|usual| usual.as_bytes() == text);
    request.response.status_line = (!is_usual).then(|| text.to_vec());
    request.response.content_length = if head.chunked { None } else { head.content_length };
    // An upstream without these gives the client none when they are passed on; nginx counts them as empty.
    request.response.has_server = !conf.hidden.has(FieldId::Server, b"server");
    request.response.has_date = !conf.hidden.has(FieldId::Date, b"date");
    for field in &head.fields {
        if !conf.hidden.has(field.id, field.name.of(bytes)) && !is_nominated(head, field, bytes) {
            copy(conf, head, field, bytes, request);
        }
    }
}

fn copy(conf: &Conf, head: &ResponseHead, field: &Field, bytes: &[u8], request: &mut Request) {
    let (name, value) = (field.name.of(bytes), field.value.of(bytes));
    match field.id {
        FieldId::Connection
        | FieldId::KeepAlive
        | FieldId::TransferEncoding
        | FieldId::ContentLength
        | FieldId::ProxyConnection => {}
        FieldId::Te | FieldId::Trailer | FieldId::ProxyAuthenticate | FieldId::ProxyAuthorization
            if head.status == 101 => {}
        FieldId::ContentType => request.response.set_content_type(value),
        FieldId::Location => location(conf, field.id, name, value, request),
        FieldId::SetCookie => match conf.cookies.rewrite(value, request) {
            Some(rewritten) => request.response.add(name, &rewritten),
            None => request.response.add_known(field.id, name, value),
        },
        FieldId::Refresh => match redirect::refresh(conf, value, request) {
            Some(rewritten) => request.response.add(name, &rewritten),
            None => request.response.add_known(field.id, name, value),
        },
        id => request.response.add_known(id, name, value),
    }
}

/// Only a path that a rule made is completed to a URL: what an upstream said of itself stays as it is.
fn location(conf: &Conf, id: FieldId, name: &[u8], value: &[u8], request: &mut Request) {
    match redirect::rewrite(conf, value, 0, request) {
        Some(path) if path.starts_with(b"/") && request.location().core.absolute_redirect => {
            request.response.location = Some(path);
        }
        Some(mut rewritten) => {
            http1::one_line_uri(&mut rewritten, 0);
            request.response.add_known(id, name, &rewritten);
        }
        None => request.response.add_known(id, name, value),
    }
}

/// Fields the upstream's `Connection` names are meant for us alone, whatever nginx does with them: on a 101 they would
/// otherwise reach the client as if from us.
fn is_nominated(head: &ResponseHead, field: &Field, bytes: &[u8]) -> bool {
    head.status == 101
        && field.id != FieldId::Upgrade
        && !matches!(
            field.id,
            FieldId::SecWebSocketAccept
                | FieldId::SecWebSocketExtensions
                | FieldId::SecWebSocketProtocol
                | FieldId::SetCookie
        )
        && head.fields.all(FieldId::Connection).any(|connection| {
            tokens(connection.value.of(bytes)).any(|name| name.eq_ignore_ascii_case(field.name.of(bytes)))
        })
}

/// The fields that a page reached by `X-Accel-Redirect` keeps.
pub(crate) fn carry(conf: &Conf, head: &ResponseHead, bytes: &[u8], request: &mut Request) {
    for field in &head.fields {
        let (name, value) = (field.name.of(bytes), field.value.of(bytes));
        match field.id {
            FieldId::ContentType if value.is_empty() => {}
            FieldId::ContentType => request.response.carried_type = Some(value.to_vec()),
            FieldId::SetCookie => {
                let rewritten = conf.cookies.rewrite(value, request);
                request.response.carry(field.id, name, rewritten.as_deref().unwrap_or(value));
            }
            FieldId::ContentDisposition
            | FieldId::CacheControl
            | FieldId::Expires
            | FieldId::AcceptRanges => request.response.carry(field.id, name, value),
            _ => {}
        }
    }
}

/// URI and arguments of an `X-Accel-Redirect`, decoded; `None` when it climbs out of the tree.
pub(crate) fn internal_uri(text: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (path, args) = match text.iter().position(|byte| *byte == b'?') {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, &b""[..]),
    };
    if path.is_empty() || path.contains(&0) {
        return None;
    }
    let mut uri = Vec::with_capacity(path.len());
    http1::unescape_uri(path, http1::Unescape::All, &mut uri);
    let climbs = uri.split(|byte| *byte == b'/').any(|part| part == b"..");
    (!climbs && !uri.contains(&0)).then(|| (uri, args.to_vec()))
}

#[cfg(test)]
mod tests {
    use http::testing::TestServer;
    use wire::http1::{ResponseLimits, Resume, Step, response as parse};

    use super::*;

    /// The lines a client gets of a 101 (CVE-2026-55458: hop-by-hop fields of a 101 leaked).
    #[test]
    fn a_101_is_sanitised_like_any_response() {
        let text = b"HTTP/1.1 101 Go\r\nUpgrade: websocket\r\nConnection: Upgrade, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 2\r\n\
                     Transfer-Encoding: chunked\r\nTE: t\r\nTrailer: t\r\nProxy-Connection: x\r\nProxy-Authenticate: b\r\n\
                     Server: s\r\nX-Accel-Redirect: /x\r\nSec-WebSocket-Accept: a\r\nSet-Cookie: c=d\r\n\r\n";
        let mut head = ResponseHead::default();
        let limits = ResponseLimits { head_bytes_max: 4096 };
        assert_eq!(parse(text, &mut head, &mut Resume::default(), &limits), Ok(Step::Done(text.len())));
        let server = TestServer::new("server { }", crate::MODULES);
        let mut request = server.request();
        translate(&Conf::default(), &head, text, &mut request);
        assert_eq!(
            String::from_utf8_lossy(request.response.lines()),
            "Upgrade: websocket\r\nSec-WebSocket-Accept: a\r\nSet-Cookie: c=d\r\n"
        );
        assert_eq!((request.response.content_length, request.response.has_server), (None, false));
    }
}
