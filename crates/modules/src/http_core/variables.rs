//! nginx's variables about a request and its connection.

use std::io::Write as _;
use std::net::IpAddr;

use http::config::ListenAddr;
use http::variable::{Late, Variable};
use http::{Request, clock};
use wire::http1::{FieldId, Method, Version};
use wire::proxy_protocol::Received;

const fn plain(name: &'static str, doc: &'static str, value: http::variable::Getter) -> Variable {
    Variable { name, doc, value, ..Variable::NONE }
}

const fn changeable(name: &'static str, doc: &'static str, value: http::variable::Getter) -> Variable {
    Variable { changeable: true, ..plain(name, doc, value) }
}

const fn family(name: &'static str, doc: &'static str, value: http::variable::Getter) -> Variable {
    Variable { family: true, ..plain(name, doc, value) }
}

/// For values made of digits, letters and the like.
const fn clean(variable: Variable) -> Variable {
    Variable { clean: true, ..variable }
}

const fn late(late: Late, variable: Variable) -> Variable {
    Variable { late: Some(late), clean: true, ..variable }
}

/// The table.
pub(super) static VARIABLES: &[Variable] = &[
    // The request line and what became of it.
    plain("request", "The request line as sent.", |r, _, out| some(r.line(), out)),
    plain("request_method", "The method, of a subrequest or error page its own.", |r, _, out| {
        // Of a line that is refused only that of its error page is known.
        let is_known = r.method == Method::Get || !r.head.method_name.is_empty();
        is_known && some(r.method_name(), out)
    }),
    plain("request_uri", "The target as sent, with arguments.", |r, _, out| some(r.target(), out)),
    plain("uri", "The normalised URI; rewrites change it.", |r, _, out| uri(r, out)),
    plain("document_uri", "The same as `$uri`.", |r, _, out| uri(r, out)),
    changeable("args", "The arguments.", |r, _, out| some(&r.args, out)),
    plain("query_string", "The same as `$args`.", |r, _, out| some(&r.args, out)),
    plain("is_args", "`?` if there are arguments.", |r, _, out| {
        text(if r.args.is_empty() { b"" } else { b"?" }, out)
    }),
    family("arg_", "An argument by name.", |r, name, out| match argument(&r.args, name.as_bytes()) {
        Some(value) => text(value, out),
        None => false,
    }),
    plain("server_protocol", "`HTTP/1.1` and the like.", |r, _, out| some(r.head.protocol.of(&r.bytes), out)),
    plain("scheme", "`http` or `https`.", |r, _, out| {
        text(if r.connection.tls.is_some() { b"https" } else { b"http" }, out)
    }),
    plain("https", "`on` under TLS.", |r, _, out| {
        text(if r.connection.tls.is_some() { b"on" } else { b"" }, out)
    }),
    // Names and addresses.
    plain("host", "The host of the request line or of `Host`, else the server's name.", |r, _, out| {
        if r.host.is_empty() { text(&r.server().name, out) } else { text(&r.host, out) }
    }),
    plain("server_name", "The first name of the server.", |r, _, out| text(&r.server().name, out)),
    plain("hostname", "The machine's name.", |_, _, out| text(hostname(), out)),
    clean(plain("remote_addr", "The client's address.", |r, _, out| {
        r.connection.write_peer(out);
        true
    })),
    plain("remote_port", "The client's port.", |r, _, out| match r.connection.peer {
        Some(peer) => show(out, peer.port()),
        None => true,
    }),
    plain("binary_remote_addr", "The client's address in 4 or 16 bytes.", |r, _, out| {
        match r.connection.peer.map(|peer| peer.ip()) {
            Some(IpAddr::V4(ip)) => out.extend_from_slice(&ip.octets()),
            Some(IpAddr::V6(ip)) => out.extend_from_slice(&ip.octets()),
            None => out.extend_from_slice(b"unix:"),
        }
        true
    }),
    plain("server_addr", "The address the client connected to.", |r, _, out| match &r.connection.local {
        ListenAddr::Tcp(addr) => show(out, addr.ip()),
        ListenAddr::Unix(path) => show(out, format_args!("unix:{}", path.display())),
    }),
    plain("server_port", "The port the client connected to.", |r, _, out| match &r.connection.local {
        ListenAddr::Tcp(addr) => show(out, addr.port()),
        ListenAddr::Unix(_) => true,
    }),
    plain("request_port", "The port the client asked for.", |r, _, out| match port(r) {
        Some(port) => show(out, port),
        None => true,
    }),
    plain("is_request_port", "`:` if `$request_port` is not empty.", |r, _, out| {
        text(if port(r).is_some() { b":" } else { b"" }, out)
    }),
    plain("proxy_protocol_addr", "The client's address of a PROXY header.", |r, _, out| {
        proxied(r, out, |header, out| header.write_source(out))
    }),
    plain("proxy_protocol_port", "The client's port of a PROXY header.", |r, _, out| {
        proxied(r, out, |header, out| proxied_port(header.source_port(), out))
    }),
    plain("proxy_protocol_server_addr", "The server's address of a PROXY header.", |r, _, out| {
        proxied(r, out, |header, out| header.write_destination(out))
    }),
    plain("proxy_protocol_server_port", "The server's port of a PROXY header.", |r, _, out| {
        proxied(r, out, |header, out| proxied_port(header.destination_port(), out))
    }),
    // Fields.
    plain(
        "content_length",
        "The field `Content-Length` of the request, or what a chunked body had.",
        |r, _, out| match r.slots.find::<http::message::HeldBody>().map(|body| body.0.len()) {
            Some(length) if r.head.chunked => show(out, length),
            _ => field(r, FieldId::ContentLength, out),
        },
    ),
    plain("content_type", "The field `Content-Type` of the request.", |r, _, out| {
        field(r, FieldId::ContentType, out)
    }),
    plain("remote_user", "The user name of Basic authentication.", |r, _, out| remote_user(r, out)),
    family("http_", "A field of the request.", |r, name, out| joined(r, name, out)),
    family("cookie_", "A cookie.", |r, name, out| cookie(r, name, out)),
    family("sent_http_", "A field of the response.", sent),
    // Files.
    plain("document_root", "`root` or `alias` of the request.", |r, _, out| {
        let root = http::files::document_root(r);
        text(&root, out)
    }),
    plain("realpath_root", "The same with all links resolved.", |r, _, out| {
        let root = http::files::document_root(r);
        let path = std::path::PathBuf::from(String::from_utf8_lossy(&root).into_owned());
        match std::fs::canonicalize(path) {
            Ok(path) => text(path.as_os_str().as_encoded_bytes(), out),
            Err(_) => false,
        }
    }),
    plain("request_filename", "The file of the URI.", |r, _, out| match http::files::path(r) {
        Some(path) => text(&path, out),
        None => false,
    }),
    // The response.
    clean(plain("status", "The status of the response.", |r, _, out| {
        let status = match r.error_status {
            Some(status) if status != 0 => status,
            _ if r.response.status == 0 && r.head.version < Version::V10 => 9,
            _ => r.response.status,
        };
        match status {
            100.. => number(out, u64::from(status)),
            _ => show(out, format_args!("{status:03}")),
        }
    })),
    late(
        Late::BytesSent,
        plain("bytes_sent", "Bytes sent to the client.", |r, _, out| number(out, r.response.bytes_sent)),
    ),
    late(
        Late::BodyBytesSent,
        plain("body_bytes_sent", "Bytes sent to the client without the head.", |r, _, out| {
            number(out, r.response.body_bytes)
        }),
    ),
    late(
        Late::RequestCompletion,
        plain("request_completion", "`OK` when the request came to its end.", |r, _, out| {
            text(if r.response.complete { b"OK" } else { b"" }, out)
        }),
    ),
    // Connection and process.
    plain("connection", "The number of the connection.", |r, _, out| show(out, r.connection.serial)),
    plain("connection_requests", "Requests on this connection so far.", |r, _, out| {
        show(out, r.connection.requests.get())
    }),
    late(
        Late::ConnectionTime,
        plain("connection_time", "Age of the connection in seconds.", |r, _, out| {
            seconds(out, clock::monotonic_ms().saturating_sub(r.connection.started_ms))
        }),
    ),
    plain("pipe", "`p` for a pipelined request, else `.`.", |r, _, out| {
        text(if r.pipelined { b"p" } else { b"." }, out)
    }),
    late(
        Late::RequestLength,
        plain("request_length", "Bytes of the request.", |r, _, out| number(out, r.received)),
    ),
    late(
        Late::RequestTime,
        plain("request_time", "Seconds since the request's first byte.", |r, _, out| {
            seconds(out, clock::monotonic_ms().saturating_sub(r.started_ms))
        }),
    ),
    plain("request_id", "16 random bytes in hexadecimal, the same for all of a request.", |r, _, out| {
        let id = request_id(r);
        text(&id, out)
    }),
    plain("pid", "The process.", |_, _, out| show(out, std::process::id())),
    plain("nginx_version", "The version of nginx this server behaves like.", |_, _, out| {
        text(http::NGINX_VERSION.as_bytes(), out)
    }),
    late(
        Late::Msec,
        plain("msec", "Seconds since 1970, with milliseconds.", |_, _, out| seconds(out, clock::unix_ms())),
    ),
    late(
        Late::TimeLocal,
        plain("time_local", "`23/Nov/2026:01:15:45 +0000`", |_, _, out| {
            clock::with_local(|time| text(time, out))
        }),
    ),
    late(
        Late::TimeIso8601,
        plain("time_iso8601", "`2026-11-23T01:15:45+00:00`", |_, _, out| {
            clock::with_iso8601(|time| text(time, out))
        }),
    ),
    changeable("limit_rate", "Bytes a second that the client gets; 0 is no limit.", |r, _, out| {
        show(out, r.limit_rate.unwrap_or_default())
    }),
    plain("time_iso8601_ms", "The same with milliseconds.", |_, _, out| {
        let ms = clock::unix_ms() % 1000;
        clock::with_iso8601(|time| {
            let (second, zone) = time.split_at(time.len().min(19));
            out.extend_from_slice(second);
            let _ = write!(out, ".{ms:03}");
            text(zone, out)
        })
    }),
    family(
        "proxy_protocol_tlv_",
        "A value of a PROXY header of version 2: alpn, authority, unique_id, ssl_cn and the like, or 0x and a number.",
        |request, name, out| {
            let name = name.strip_prefix("proxy_protocol_tlv_").unwrap_or(name);
            let header = request.connection.proxy_protocol.as_ref();
            header.is_some_and(|header| header.write_tlv(name, out))
        },
    ),
    plain(
        "request_body",
        "The request body, when it was read whole before it was passed on.",
        |request, _, out| {
            let Some(body) = request.slots.find::<http::message::HeldBody>() else { return false };
            text(&body.0, out)
        },
    ),
    plain(
        "request_body_file",
        "The file of the request body; empty here, bodies are streamed.",
        |_, _, _| false,
    ),
    plain("tcpinfo_rtt", "Round trip time in microseconds; not known here.", |_, _, _| false),
    plain("tcpinfo_rttvar", "Its variance; not known here.", |_, _, _| false),
    plain("tcpinfo_snd_cwnd", "The congestion window; not known here.", |_, _, _| false),
    plain("tcpinfo_rcv_space", "The receive window; not known here.", |_, _, _| false),
    family("sent_trailer_", "A trailer field of the response.", |r, name, out| sent_trailer(r, name, out)),
];

fn text(bytes: &[u8], out: &mut Vec<u8>) -> bool {
    out.extend_from_slice(bytes);
    true
}

/// Like [`text`], but nothing is "not there".
fn some(bytes: &[u8], out: &mut Vec<u8>) -> bool {
    out.extend_from_slice(bytes);
    !bytes.is_empty()
}

/// Empty where the target is none of ours; not there when the line had none.
fn uri(request: &Request, out: &mut Vec<u8>) -> bool {
    some(&request.uri, out) || !request.head.raw_path.is_empty()
}

fn number(out: &mut Vec<u8>, value: u64) -> bool {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    true
}

fn show(out: &mut Vec<u8>, value: impl std::fmt::Display) -> bool {
    let _ = write!(out, "{value}");
    true
}

fn seconds(out: &mut Vec<u8>, ms: u64) -> bool {
    show(out, format_args!("{}.{:03}", ms / 1000, ms % 1000))
}

fn field(request: &Request, id: FieldId, out: &mut Vec<u8>) -> bool {
    match request.field(id) {
        Some(value) => text(value, out),
        None => false,
    }
}

fn proxied(request: &Request, out: &mut Vec<u8>, show: impl FnOnce(&Received, &mut Vec<u8>)) -> bool {
    match &request.connection.proxy_protocol {
        Some(header) => {
            show(header, out);
            true
        }
        None => false,
    }
}

/// A port, which nginx leaves empty when it is 0.
fn proxied_port(port: u16, out: &mut Vec<u8>) {
    if port > 0 {
        show(out, port);
    }
}

/// The port in the request line or `Host`.
fn port(request: &Request) -> Option<u16> {
    let host = request.head.host?;
    (host.port != 0).then_some(host.port)
}

/// The value of an argument; names are compared without case, as nginx does.
fn argument<'a>(args: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    args.split(|byte| *byte == b'&').find_map(|pair| {
        let (have, value) = pair.split_at_checked(name.len())?;
        have.eq_ignore_ascii_case(name).then_some(value)?.strip_prefix(b"=")
    })
}

/// Whether a field's name is what a variable calls it: lower case, `_` for `-`.
fn is_named(field: &[u8], name: &str) -> bool {
    let same = |(have, want): (&u8, &u8)| match have {
        b'-' => *want == b'_',
        _ => have.eq_ignore_ascii_case(want),
    };
    field.len() == name.len() && field.iter().zip(name.as_bytes()).all(same)
}

/// All fields of that name, with `, ` between them (`; ` between cookies).
fn joined(request: &Request, name: &str, out: &mut Vec<u8>) -> bool {
    let between: &[u8] = if name == "cookie" { b"; " } else { b", " };
    let mut found = false;
    for field in &request.head.fields {
        if field.name.len as usize != name.len() || !is_named(field.name.of(&request.bytes), name) {
            continue;
        }
        if std::mem::replace(&mut found, true) {
            out.extend_from_slice(between);
        }
        out.extend_from_slice(field.value.of(&request.bytes));
    }
    found
}

fn cookie(request: &Request, name: &str, out: &mut Vec<u8>) -> bool {
    for field in request.head.fields.all(FieldId::Cookie) {
        for pair in field.value.of(&request.bytes).split(|byte| *byte == b';') {
            let pair = pair.trim_ascii_start();
            let Some((have, value)) = pair.split_at_checked(name.len()) else { continue };
            if have.eq_ignore_ascii_case(name.as_bytes())
                && let Some(value) = value.trim_ascii_start().strip_prefix(b"=")
            {
                // Spaces behind a value are its own, as on nginx.
                return text(value.trim_ascii_start(), out);
            }
        }
    }
    false
}

fn sent(request: &mut Request, name: &str, out: &mut Vec<u8>) -> bool {
    let response = &request.response;
    let own = match name {
        "content_type" => response.content_type.as_deref(),
        "last_modified" => response.last_modified.as_deref(),
        "location" => response.location.as_deref(),
        "content_length" => {
            return match response.content_length {
                Some(length) if response.status != 204 => show(out, length),
                _ => false,
            };
        }
        "connection" => {
            return text(
                match (response.status, request.keepalive) {
                    (101, _) => b"upgrade".as_slice(),
                    (_, true) => b"keep-alive",
                    (_, false) => b"close",
                },
                out,
            );
        }
        "transfer_encoding" => {
            return response.is_chunked && text(b"chunked", out);
        }
        "keep_alive" => {
            let seconds = request.location().core.keepalive_header;
            return request.keepalive && seconds > 0 && show(out, format_args!("timeout={seconds}"));
        }
        _ => None,
    };
    if let Some(value) = own {
        return some(value, out);
    }
    let mut found = false;
    for (_, have, value) in response.fields() {
        if !is_named(have, name) {
            continue;
        }
        if std::mem::replace(&mut found, true) {
            out.extend_from_slice(b", ");
        }
        out.extend_from_slice(value);
    }
    found
}

fn sent_trailer(request: &Request, name: &str, out: &mut Vec<u8>) -> bool {
    let trailers = &request.response.trailers;
    for line in trailers.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        if is_named(&line[..colon], name) {
            return text(line[colon + 1..].trim_ascii(), out);
        }
    }
    false
}

fn remote_user(request: &Request, out: &mut Vec<u8>) -> bool {
    let Some(value) = request.field(FieldId::Authorization) else { return false };
    let Some((scheme, rest)) = value.split_at_checked(6) else { return false };
    if !scheme.eq_ignore_ascii_case(b"Basic ") {
        return false;
    }
    let Some(decoded) = base64_decode(rest.trim_ascii()) else { return false };
    match decoded.iter().position(|byte| *byte == b':') {
        Some(colon) => some(&decoded[..colon], out),
        None => false,
    }
}

fn base64_decode(text: &[u8]) -> Option<Vec<u8>> {
    use base64::Engine as _;
    let engine = base64::engine::GeneralPurpose::new(
        &base64::alphabet::STANDARD,
        base64::engine::GeneralPurposeConfig::new()
            .with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent),
    );
    engine.decode(text).ok()
}

fn hostname() -> &'static [u8] {
    static NAME: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    NAME.get_or_init(|| {
        let name = std::fs::read("/proc/sys/kernel/hostname").unwrap_or_default();
        name.trim_ascii().to_ascii_lowercase()
    })
}

#[derive(Default)]
struct RequestId(Option<[u8; 32]>);

fn request_id(request: &mut Request) -> [u8; 32] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let slot = request.slots.of::<RequestId>();
    *slot.0.get_or_insert_with(|| {
        let mut random = [0u8; 16];
        let _ = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
        let mut text = [0; 32];
        for (at, byte) in random.into_iter().enumerate() {
            text[2 * at] = HEX[usize::from(byte >> 4)];
            text[2 * at + 1] = HEX[usize::from(byte & 15)];
        }
        text
    })
}
