//! Response heads as nginx writes them.

use http::config::ServerTokens;
use http::{NGINX_VERSION, Request};
use wire::http1::{self, Version};

/// How a response body is framed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Framing {
    /// No body follows.
    None,
    /// So many bytes as promised.
    Length(u64),
    /// Chunks.
    Chunked,
    /// Until the connection closes.
    Close,
}

/// Decides the framing and what the connection does afterwards; then appends the head.
pub(crate) fn write(request: &mut Request, out: &mut Vec<u8>) -> Framing {
    let framing = framing(request);
    request.response.is_chunked = framing == Framing::Chunked;
    if request.head.version < Version::V10 {
        // HTTP/0.9 has no heads: the body is all.
        request.keepalive = false;
        return framing;
    }
    status_line(request, out);
    let status = request.response.status;
    server(request, out);
    date(request, out);
    let response = &request.response;
    if let Some(content_type) = response.content_type.as_deref().filter(|value| !value.is_empty()) {
        http1::field(b"Content-Type", content_type, out);
    }
    if let Some(length) = response.content_length.filter(|_| has_length(status)) {
        out.extend_from_slice(b"Content-Length: ");
        out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    if let Some(modified) = response.last_modified.as_ref().filter(|_| matches!(status, 200 | 206 | 304)) {
        http1::field(b"Last-Modified", modified, out);
    }
    if let Some(location) = &mut request.response.location {
        http1::one_line_uri(location, 0);
    }
    let is_listed = is_location_listed(request);
    if !is_listed {
        location(request, out);
    }
    if framing == Framing::Chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    connection(request, out);
    if let Some(location) = request.response.location.as_ref().filter(|_| is_listed) {
        http1::field(b"Location", location, out);
    }
    out.extend_from_slice(request.response.lines());
    out.extend_from_slice(b"\r\n");
    framing
}

/// A `Location` sent as it is stands among the listed fields; one we complete to a URL has a place of its own.
fn is_location_listed(request: &Request) -> bool {
    let is_path = request.response.location.as_ref().is_some_and(|location| location.first() == Some(&b'/'));
    !(is_path && request.location().core.absolute_redirect)
}

/// Whether the head is only news on the way to the response: 1xx but 101.
pub(crate) fn is_interim(request: &Request) -> bool {
    (102..200).contains(&request.response.status)
}

/// Appends the head of an interim response: the status and the fields a handler added. HTTP/1.0 knows none of these.
pub(crate) fn write_interim(request: &Request, out: &mut Vec<u8>) {
    if request.head.version < Version::V11 {
        return;
    }
    status_line(request, out);
    out.extend_from_slice(request.response.lines());
    out.extend_from_slice(b"\r\n");
}

fn framing(request: &mut Request) -> Framing {
    let chunks_allowed =
        request.head.version >= Version::V11 && request.location().core.chunked_transfer_encoding;
    let head = http::is_head(request);
    let response = &mut request.response;
    if response.status == 204 {
        response.content_length = None;
    }
    // HTTP/0.9 knows bodies only.
    let head = head && request.head.version >= Version::V10;
    response.header_only |= head || response.status < 200 || matches!(response.status, 204 | 304);
    if response.header_only {
        return Framing::None;
    }
    if response.expects_trailers && chunks_allowed {
        response.content_length = None;
    }
    match response.content_length {
        Some(length) => Framing::Length(length),
        None if chunks_allowed => Framing::Chunked,
        None => {
            request.keepalive = false;
            Framing::Close
        }
    }
}

/// 204 and 1xx have no length; all others show it, also to HEAD and, if a handler gave one, on a 304.
fn has_length(status: u16) -> bool {
    status >= 200 && status != 204
}

fn status_line(request: &Request, out: &mut Vec<u8>) {
    match &request.response.status_line {
        Some(text) => {
            out.extend_from_slice(b"HTTP/1.1 ");
            out.extend_from_slice(text);
            out.extend_from_slice(b"\r\n");
        }
        None => http1::status_line(request.response.status, out),
    }
}

fn server(request: &Request, out: &mut Vec<u8>) {
    if request.response.has_server {
        return;
    }
    out.extend_from_slice(b"Server: nginx");
    if request.location().core.server_tokens != ServerTokens::Off {
        out.push(b'/');
        out.extend_from_slice(NGINX_VERSION.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

fn date(request: &Request, out: &mut Vec<u8>) {
    if !request.response.has_date {
        http::clock::with_http_date(|date| http1::field(b"Date", date, out));
    }
}

fn connection(request: &mut Request, out: &mut Vec<u8>) {
    if request.response.status == 101 {
        if request.response.upgrade {
            out.extend_from_slice(b"Connection: upgrade\r\n");
        }
        return;
    }
    if !request.keepalive {
        out.extend_from_slice(b"Connection: close\r\n");
        return;
    }
    out.extend_from_slice(b"Connection: keep-alive\r\n");
    let seconds = request.location().core.keepalive_header;
    if seconds > 0 {
        out.extend_from_slice(b"Keep-Alive: timeout=");
        out.extend_from_slice(itoa::Buffer::new().format(seconds).as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

/// `Location`, a path that becomes a URL of this server (`absolute_redirect`, `server_name_in_redirect`, `port_in_redirect`).
fn location(request: &mut Request, out: &mut Vec<u8>) {
    let Some(location) = request.response.location.take() else { return };
    let core = request.location().core.clone();
    let mut url = Vec::with_capacity(location.len() + 64);
    let (scheme, default_port): (&[u8], u16) =
        if request.connection.tls.is_some() { (b"https://", 443) } else { (b"http://", 80) };
    url.extend_from_slice(scheme);
    let local_port = match &request.connection.local {
        http::config::ListenAddr::Tcp(addr) => addr.port(),
        http::config::ListenAddr::Unix(_) => 0,
    };
    if core.server_name_in_redirect {
        url.extend_from_slice(&request.server().name);
    } else if !request.host.is_empty() {
        url.extend_from_slice(&request.host);
    } else if let http::config::ListenAddr::Tcp(addr) = &request.connection.local {
        match addr.ip() {
            std::net::IpAddr::V4(ip) => url.extend_from_slice(ip.to_string().as_bytes()),
            std::net::IpAddr::V6(ip) => url.extend_from_slice(format!("[{ip}]").as_bytes()),
        }
    }
    if core.port_in_redirect && local_port != 0 && local_port != default_port {
        url.push(b':');
        url.extend_from_slice(itoa::Buffer::new().format(local_port).as_bytes());
    }
    url.extend_from_slice(&location);
    http1::field(b"Location", &url, out);
    request.response.location = Some(url);
}
