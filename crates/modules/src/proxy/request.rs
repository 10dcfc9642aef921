//! The request as it goes upstream: line, configured fields, fields of the proxy's own that were not configured (`Host`
//! first), the client's fields, in nginx's order.

use http::{Request, Template};
use wire::http1::{self, Escape, Field, FieldId, FieldIds, Version, tokens};

use crate::proxy::pass::Target;
use crate::proxy::upgrade::Upgrade;
use crate::proxy::{Conf, Upstreamed};

/// `proxy_set_header` compiled: what is written before the client's fields, and which of those are left out.
#[derive(Debug, Default, Clone)]
pub(crate) struct Headers {
    /// `Host`, when it is set.
    pub(crate) host: Option<Template>,
    /// `Upgrade`, when it is set; see `upgrade.rs`.
    pub(crate) upgrade: Option<Template>,
    /// `Connection`, when it is set.
    pub(crate) connection: Option<Template>,
    /// Whether `Sec-WebSocket-Key` is not the client's.
    pub(crate) own_key: bool,
    lines: Vec<Set>,
    known: FieldIds,
    unknown: Vec<Box<[u8]>>,
}

#[derive(Debug, Clone)]
struct Set {
    name: Box<[u8]>,
    value: Value,
}

#[derive(Debug, Clone)]
enum Value {
    Text(Template),
    BodyLength,
    Chunked,
    /// `Host`, which HTTP/1.1 never goes without.
    Host,
    /// `Upgrade` and `Connection` where they stand in the file; their values are `upgrade.rs`'s.
    Upgrade,
    Connection,
}

/// Written or left out by the proxy itself, as in nginx's own table; the order is the wire's.
const DEFAULTS: [(FieldId, Option<Value>); 9] = [
    (FieldId::Host, Some(Value::Host)),
    (FieldId::Connection, Some(Value::Connection)),
    (FieldId::ProxyConnection, None),
    (FieldId::ContentLength, Some(Value::BodyLength)),
    (FieldId::TransferEncoding, Some(Value::Chunked)),
    (FieldId::Te, None),
    (FieldId::KeepAlive, None),
    (FieldId::Expect, None),
    (FieldId::Upgrade, Some(Value::Upgrade)),
];

impl Headers {
    pub(crate) fn compile(set: &[(Box<[u8]>, Template)]) -> Headers {
        let mut headers = Headers::default();
        for (name, value) in set {
            let id = FieldId::of(name);
            headers.leave_out(id, name);
            let kind = match id {
                FieldId::Host => {
                    headers.host = Some(value.clone());
                    Value::Host
                }
                FieldId::Upgrade => {
                    headers.upgrade = Some(value.clone());
                    Value::Upgrade
                }
                FieldId::Connection => {
                    headers.connection = Some(value.clone());
                    Value::Connection
                }
                _ => Value::Text(value.clone()),
            };
            headers.own_key |= id == FieldId::SecWebSocketKey;
            if value.as_literal() != Some(b"") || !matches!(kind, Value::Text(_)) {
                headers.lines.push(Set { name: name.clone(), value: kind });
            }
        }
        for (id, value) in DEFAULTS {
            if !headers.known.has(id)
                && let Some(value) = value
            {
                headers.lines.push(Set { name: id.name().as_bytes().into(), value });
            }
            headers.leave_out(id, id.name().as_bytes());
        }
        headers
    }

    fn leave_out(&mut self, id: FieldId, name: &[u8]) {
        match id {
            FieldId::Unknown => self.unknown.push(name.to_ascii_lowercase().into()),
            id => self.known.add(id),
        }
    }

    /// Whether the client's field of that name is left out.
    fn replaces(&self, field: &Field, bytes: &[u8]) -> bool {
        match field.id {
            FieldId::Unknown => self.unknown.iter().any(|name| wire::same(name, field.name.of(bytes))),
            id => self.known.has(id),
        }
    }
}

/// How the body that follows is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// No field says it: nothing follows.
    None,
    Length(u64),
    Chunked,
}

/// Why no request can be made: 500.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ZeroUri;

/// Appends the head. `$proxy_host` and the like are in the request's slot by now.
pub(crate) fn write(
    conf: &Conf,
    target: &Target,
    framing: Framing,
    upgrade: &Upgrade,
    request: &mut Request,
    out: &mut Vec<u8>,
) -> Result<(), ZeroUri> {
    match &conf.method {
        Some(method) => {
            let method_at = out.len();
            method.render(request, out);
            http1::one_line_uri(out, method_at);
        }
        None => out.extend_from_slice(request.method_name()),
    }
    out.push(b' ');
    let uri_at = out.len();
    uri(conf, target, request, out);
    http1::one_line_uri(out, uri_at);
    if out.len() == uri_at {
        return Err(ZeroUri);
    }
    request.slots.of::<Upstreamed>().uri = uri_at..out.len();
    out.extend_from_slice(if conf.version >= Version::V11 { b" HTTP/1.1\r\n" } else { b" HTTP/1.0\r\n" });
    for set in &conf.headers.lines {
        match set.value {
            Value::Host => host(conf, target, request, out),
            _ => line(set, framing, upgrade, request, out),
        }
    }
    if conf.pass_request_headers {
        client_fields(&conf.headers, request, out);
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

fn uri(conf: &Conf, target: &Target, request: &mut Request, out: &mut Vec<u8>) {
    let varies = matches!(conf.pass.as_deref(), Some(pass) if pass.varies());
    if varies && !target.uri.is_empty() {
        out.extend_from_slice(&target.uri);
        return;
    }
    let raw = request.uri_valid_raw && request.head.is_target_valid();
    if target.uri.is_empty() && raw {
        out.extend_from_slice(request.target());
        return;
    }
    let text = &request.location().text;
    let matched = if target.uri.is_empty() || !request.uri.starts_with(text) { 0 } else { text.len() };
    // After `rewrite ... break` to elsewhere the location's text is not in the URI: then all of it is passed on.
    if matched > 0 || target.uri.is_empty() {
        out.extend_from_slice(&target.uri);
    }
    let rest = &request.uri[matched..];
    if !request.uri_valid_raw || memchr::memchr(b'%', request.head.raw_path.of(&request.bytes)).is_some() {
        http1::escape_uri(rest, Escape::Uri, out);
    } else {
        out.extend_from_slice(rest);
    }
    if !request.args.is_empty() {
        out.push(b'?');
        out.extend_from_slice(&request.args);
    }
}

fn host(conf: &Conf, target: &Target, request: &mut Request, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(b"Host: ");
    let value = out.len();
    match &conf.headers.host {
        Some(host) => host.render(request, out),
        None => out.extend_from_slice(target.host.as_bytes()),
    }
    if out.len() == value && conf.version >= Version::V11 {
        out.extend_from_slice(target.host.as_bytes());
    }
    end_line(start, value, out);
}

fn line(set: &Set, framing: Framing, upgrade: &Upgrade, request: &mut Request, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&set.name);
    out.extend_from_slice(b": ");
    let value = out.len();
    match (&set.value, framing) {
        (Value::Text(template), _) => template.render(request, out),
        (Value::BodyLength, Framing::Length(length)) => {
            out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
        }
        (Value::Chunked, Framing::Chunked) => out.extend_from_slice(b"chunked"),
        (Value::Upgrade, _) => out.extend_from_slice(&upgrade.protocol),
        (Value::Connection, _) => out.extend_from_slice(&upgrade.connection),
        _ => {}
    }
    end_line(start, value, out);
}

/// Ends a line that began at `start`, or takes it back when its value from `value` on is empty.
fn end_line(start: usize, value: usize, out: &mut Vec<u8>) {
    if out.len() == value {
        out.truncate(start);
    } else {
        http1::one_line(&mut out[value..]);
        out.extend_from_slice(b"\r\n");
    }
}

fn client_fields(headers: &Headers, request: &Request, out: &mut Vec<u8>) {
    let bytes = &request.bytes[..];
    let fields = &request.head.fields;
    let nominating = nominates(request);
    // Fields that are written as they came are copied together with their neighbours.
    let mut run = 0..0;
    for field in fields {
        if headers.replaces(field, bytes) || (nominating && is_nominated(request, field)) {
            continue;
        }
        let (start, end) = (field.name.start as usize, field.value.end());
        let between = field.name.end()..field.value.start as usize;
        let as_it_came =
            bytes.get(between) == Some(&b": "[..]) && bytes.get(end..end + 2) == Some(&b"\r\n"[..]);
        if as_it_came && run.end == start {
            run.end = end + 2;
            continue;
        }
        out.extend_from_slice(&bytes[run]);
        run = 0..0;
        match as_it_came {
            true => run = start..end + 2,
            false => http1::field(field.name.of(bytes), field.value.of(bytes), out),
        }
    }
    out.extend_from_slice(&bytes[run]);
}

/// Whether the client's `Connection` may name fields of which some would be passed on. Of most clients it names none but
/// those we never do.
fn nominates(request: &Request) -> bool {
    let ours = |value: &[u8]| wire::same(value, b"upgrade") || wire::same(value, b"keep-alive");
    request.head.fields.all(FieldId::Connection).any(|field| !ours(field.value.of(&request.bytes)))
}

/// Whether the client's `Connection` names this field as meant for us alone (RFC 9110 section 7.6.1). Names that carry
/// identity or framing are not the client's to remove (design rule 4).
fn is_nominated(request: &Request, field: &Field) -> bool {
    let bytes = &request.bytes[..];
    let protected = matches!(
        field.id,
        FieldId::Host
            | FieldId::ContentLength
            | FieldId::Origin
            | FieldId::Cookie
            | FieldId::Authorization
            | FieldId::SecWebSocketAccept
            | FieldId::SecWebSocketExtensions
            | FieldId::SecWebSocketKey
            | FieldId::SecWebSocketProtocol
            | FieldId::SecWebSocketVersion
    );
    !protected
        && request.head.fields.all(FieldId::Connection).any(|connection| {
            tokens(connection.value.of(bytes)).any(|name| wire::same(name, field.name.of(bytes)))
        })
}
