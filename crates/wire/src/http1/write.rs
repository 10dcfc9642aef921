//! Appending heads to a buffer.

use super::request_line::Version;

/// Appends a response's status line for a status, with nginx's reason: always HTTP/1.1, as nginx answers.
pub fn status_line(status: u16, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    match status_text(status) {
        Some(text) => out.extend_from_slice(text.as_bytes()),
        None => {
            // As nginx: three digits and the space before a reason that is not there.
            out.extend_from_slice(&digits3(status));
            out.push(b' ');
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends one field line.
#[inline]
pub fn field(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Makes a value that variables had a part in fit for a field line: CR, LF and NUL become spaces (RFC 9110 section 5.5).
/// nginx sends them as they are, and so lets a client whose decoded path is in the value add fields of its own.
#[inline]
pub fn one_line(value: &mut [u8]) {
    let mut at = 0;
    while let Some(found) = memchr::memchr3(b'\r', b'\n', 0, &value[at..]) {
        at += found;
        value[at] = b' ';
    }
}

/// The same for a URI or a method, the bytes of `out` from `from` on: there they are written as `%0D`, `%0A` and `%00`.
#[inline]
pub fn one_line_uri(out: &mut Vec<u8>, from: usize) {
    if memchr::memchr3(b'\r', b'\n', 0, &out[from..]).is_some() {
        let text = out.split_off(from);
        for byte in text {
            match byte {
                b'\r' => out.extend_from_slice(b"%0D"),
                b'\n' => out.extend_from_slice(b"%0A"),
                0 => out.extend_from_slice(b"%00"),
                _ => out.push(byte),
            }
        }
    }
}

/// Appends a request line; `version` is 1.0 or 1.1.
pub fn request_line(method: &[u8], target: &[u8], version: Version, out: &mut Vec<u8>) {
    out.reserve(method.len() + target.len() + 12);
    out.extend_from_slice(method);
    out.push(b' ');
    out.extend_from_slice(target);
    out.extend_from_slice(if version >= Version::V11 { b" HTTP/1.1\r\n" } else { b" HTTP/1.0\r\n" });
}

/// nginx's reason for a status, if it has one.
pub fn reason(status: u16) -> Option<&'static str> {
    status_text(status).map(|text| &text[4..])
}

/// Status and reason as nginx writes them, `200 OK`; `None` for those it has no words for.
pub fn status_text(status: u16) -> Option<&'static str> {
    Some(match status {
        100 => "100 Continue",
        101 => "101 Switching Protocols",
        103 => "103 Early Hints",
        200 => "200 OK",
        201 => "201 Created",
        202 => "202 Accepted",
        204 => "204 No Content",
        206 => "206 Partial Content",
        301 => "301 Moved Permanently",
        302 => "302 Moved Temporarily",
        303 => "303 See Other",
        304 => "304 Not Modified",
        307 => "307 Temporary Redirect",
        308 => "308 Permanent Redirect",
        400 => "400 Bad Request",
        401 => "401 Unauthorized",
        402 => "402 Payment Required",
        403 => "403 Forbidden",
        404 => "404 Not Found",
        405 => "405 Not Allowed",
        406 => "406 Not Acceptable",
        407 => "407 Proxy Authentication Required",
        408 => "408 Request Time-out",
        409 => "409 Conflict",
        410 => "410 Gone",
        411 => "411 Length Required",
        412 => "412 Precondition Failed",
        413 => "413 Request Entity Too Large",
        414 => "414 Request-URI Too Large",
        415 => "415 Unsupported Media Type",
        416 => "416 Requested Range Not Satisfiable",
        421 => "421 Misdirected Request",
        429 => "429 Too Many Requests",
        500 => "500 Internal Server Error",
        501 => "501 Not Implemented",
        502 => "502 Bad Gateway",
        503 => "503 Service Temporarily Unavailable",
        504 => "504 Gateway Time-out",
        505 => "505 HTTP Version Not Supported",
        507 => "507 Insufficient Storage",
        _ => return None,
    })
}

fn digits3(status: u16) -> [u8; 3] {
    let status = status.min(999);
    [status / 100, status / 10 % 10, status % 10].map(|digit| b'0' + digit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_on_their_line() {
        let mut value = *b"a\r\nB: c\0\n";
        one_line(&mut value);
        assert_eq!(&value, b"a  B: c  ");
        let mut out = b"\r\nkept /a\r\nb\0".to_vec();
        one_line_uri(&mut out, 7);
        assert_eq!(out, b"\r\nkept /a%0D%0Ab%00");
    }

    #[test]
    fn heads() {
        let mut out = Vec::new();
        status_line(200, &mut out);
        field(b"Server", b"x", &mut out);
        status_line(418, &mut out);
        status_line(0, &mut out);
        request_line(b"GET", b"/", Version::V10, &mut out);
        assert_eq!(
            out,
            b"HTTP/1.1 200 OK\r\nServer: x\r\nHTTP/1.1 418 \r\nHTTP/1.1 000 \r\nGET / HTTP/1.0\r\n"
        );
        assert_eq!(reason(502), Some("Bad Gateway"));
        assert_eq!(reason(418), None);
        assert!((0..=999).all(|s| status_text(s).is_none_or(|text| text[..3].parse() == Ok(s))));
    }
}
