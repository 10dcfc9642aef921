//! The opening handshake (RFC 6455 section 4) as seen from between the two ends.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use crate::http1::{FieldId, Fields, Method, RequestHead, ResponseHead, Version, has_token, tokens};

/// What a request head is, seen as a WebSocket handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake<'b> {
    /// A valid one; `key` is the value of `Sec-WebSocket-Key`.
    Valid {
        /// As sent: 24 base64 letters.
        key: &'b [u8],
    },
    /// It doesn't ask for WebSocket at all.
    NotWebSocket,
    /// It asks for WebSocket, and not as the RFC has it: why, for a log line.
    Invalid(&'static str),
}

/// Looks at a complete request head. `buf` is the buffer it was read from.
pub fn handshake<'b>(request: &RequestHead, buf: &'b [u8]) -> Handshake<'b> {
    let fields = &request.fields;
    if !fields.all(FieldId::Upgrade).any(|field| has_token(field.value.of(buf), b"websocket")) {
        return Handshake::NotWebSocket;
    }
    match key_of(request, buf) {
        Ok(key) => Handshake::Valid { key },
        Err(why) => Handshake::Invalid(why),
    }
}

fn key_of<'b>(request: &RequestHead, buf: &'b [u8]) -> Result<&'b [u8], &'static str> {
    let fields = &request.fields;
    if request.method != Method::Get {
        return Err("the method is not GET");
    }
    if request.version < Version::V11 {
        return Err("the version is below HTTP/1.1");
    }
    // A second protocol in the list could be what the upstream picks, and then the tunnel is not WebSocket.
    if fields.all(FieldId::Upgrade).flat_map(|field| tokens(field.value.of(buf))).count() != 1 {
        return Err("\"Upgrade\" names more than one protocol");
    }
    if !request.connection_upgrade {
        return Err("\"Connection\" does not name \"upgrade\"");
    }
    if request.has_body() {
        return Err("it has a body");
    }
    match only(fields, FieldId::SecWebSocketVersion, buf) {
        Some(b"13") => {}
        _ => return Err("\"Sec-WebSocket-Version\" is not 13"),
    }
    match only(fields, FieldId::SecWebSocketKey, buf) {
        Some(key) if is_key(key) => Ok(key),
        _ => Err("\"Sec-WebSocket-Key\" is not one key of 16 bytes"),
    }
}

/// The value of a field that came exactly once.
fn only<'b>(fields: &Fields, id: FieldId, buf: &'b [u8]) -> Option<&'b [u8]> {
    let mut all = fields.all(id);
    let first = all.next()?;
    all.next().is_none().then(|| first.value.of(buf).trim_ascii())
}

fn is_key(key: &[u8]) -> bool {
    let mut bytes = [0; 18];
    key.len() == 24 && STANDARD.decode_slice(key, &mut bytes) == Ok(16)
}

/// The value of `Sec-WebSocket-Accept` that answers a key (RFC 6455 section 4.2.2).
pub fn accept_key(key: &[u8]) -> [u8; 28] {
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let mut accept = [0; 28];
    let len = STANDARD.encode_slice(hash.finalize(), &mut accept);
    debug_assert_eq!(len, Ok(28));
    accept
}

/// What is wrong with an upstream's 101.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bad101 {
    /// The status is another: no tunnel, but perhaps a fine response.
    Status,
    /// `Upgrade` is not `websocket`.
    Upgrade,
    /// `Sec-WebSocket-Accept` is missing, came twice, or doesn't fit the key.
    Accept,
}

impl Bad101 {
    /// A message for the log.
    pub fn message(self) -> &'static str {
        match self {
            Bad101::Status => "upstream did not switch protocols",
            Bad101::Upgrade => "upstream switched to a protocol other than \"websocket\"",
            Bad101::Accept => "upstream sent no \"Sec-WebSocket-Accept\" that fits the client's key",
        }
    }
}

/// Checks that an upstream's answer completes the handshake whose key was `key`, so that a tunnel may start.
pub fn check_101(response: &ResponseHead, buf: &[u8], key: &[u8]) -> Result<(), Bad101> {
    if response.status != 101 {
        return Err(Bad101::Status);
    }
    let mut protocols = response.fields.all(FieldId::Upgrade).flat_map(|field| tokens(field.value.of(buf)));
    if !protocols.next().is_some_and(|protocol| protocol.eq_ignore_ascii_case(b"websocket"))
        || protocols.next().is_some()
    {
        return Err(Bad101::Upgrade);
    }
    match only(&response.fields, FieldId::SecWebSocketAccept, buf) {
        Some(accept) if accept == accept_key(key) => Ok(()),
        _ => Err(Bad101::Accept),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::{HeadLimits, ResponseLimits, Resume, Step, request, response};

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    #[track_caller]
    fn check(line: &str, fields: &[&str], expected: Handshake<'_>) {
        let text = format!("{line}\r\nHost: a\r\n{}\r\n\r\n", fields.join("\r\n"));
        let mut head = RequestHead::default();
        let step = request(text.as_bytes(), &mut head, &mut Resume::default(), &HeadLimits::default());
        assert_eq!(step, Ok(Step::Done(text.len())));
        assert_eq!(handshake(&head, text.as_bytes()), expected, "{text}");
    }

    #[test]
    fn requests() {
        let valid = Handshake::Valid { key: KEY.as_bytes() };
        let key = format!("Sec-WebSocket-Key: {KEY}");
        let [upgrade, connection, version] =
            ["Upgrade: WebSocket", "Connection: keep-alive, Upgrade", "Sec-WebSocket-Version: 13"];
        let get = "GET /chat HTTP/1.1";
        let base = [upgrade, connection, version, &key];
        let with = |more: &'static str| [&base[..], &[more]].concat();
        let body = Handshake::Invalid("it has a body");
        let no_key = Handshake::Invalid("\"Sec-WebSocket-Key\" is not one key of 16 bytes");
        let no_version = Handshake::Invalid("\"Sec-WebSocket-Version\" is not 13");
        let many = Handshake::Invalid("\"Upgrade\" names more than one protocol");
        check(get, &base, valid);
        check(get, &with("Content-Length: 0"), valid);
        check(get, &with("Content-Length: 1"), body);
        check(get, &with("Transfer-Encoding: chunked"), body);
        check("POST /chat HTTP/1.1", &base, Handshake::Invalid("the method is not GET"));
        check("GET /chat HTTP/1.0", &base, Handshake::Invalid("the version is below HTTP/1.1"));
        check(get, &[connection, version, &key], Handshake::NotWebSocket);
        check(get, &["Upgrade: h2c", connection, version, &key], Handshake::NotWebSocket);
        check(get, &["Upgrade: websocket, h2c", connection, version, &key], many);
        check(get, &with("Upgrade: websocket"), many);
        let no_connection = Handshake::Invalid("\"Connection\" does not name \"upgrade\"");
        check(get, &[upgrade, "Connection: keep-alive", version, &key], no_connection);
        check(get, &[upgrade, connection, &key], no_version);
        check(get, &[upgrade, connection, "Sec-WebSocket-Version: 8", &key], no_version);
        check(get, &with("Sec-WebSocket-Version: 13"), no_version);
        check(get, &base[..3], no_key);
        check(get, &[upgrade, connection, version, "Sec-WebSocket-Key: dGhlIHNhbXBsZQ=="], no_key);
        check(get, &[upgrade, connection, version, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ!!"], no_key);
        check(get, &with("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), no_key);
    }

    #[test]
    fn the_key_of_the_rfc() {
        assert_eq!(&accept_key(KEY.as_bytes()), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn responses() {
        let row = |text: &str| {
            let mut head = ResponseHead::default();
            let limits = ResponseLimits { head_bytes_max: 4096 };
            let step = response(text.as_bytes(), &mut head, &mut Resume::default(), &limits);
            assert_eq!(step, Ok(Step::Done(text.len())));
            check_101(&head, text.as_bytes(), KEY.as_bytes())
        };
        let accept = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
        assert_eq!(row(&format!("HTTP/1.1 101 x\r\nUpgrade: WebSocket\r\n{accept}\r\n")), Ok(()));
        assert_eq!(
            row(&format!("HTTP/1.1 200 x\r\nUpgrade: websocket\r\n{accept}\r\n")),
            Err(Bad101::Status)
        );
        assert_eq!(row(&format!("HTTP/1.1 101 x\r\n{accept}\r\n")), Err(Bad101::Upgrade));
        assert_eq!(row(&format!("HTTP/1.1 101 x\r\nUpgrade: h2c\r\n{accept}\r\n")), Err(Bad101::Upgrade));
        assert_eq!(row("HTTP/1.1 101 x\r\nUpgrade: websocket\r\n\r\n"), Err(Bad101::Accept));
        let twice = format!("HTTP/1.1 101 x\r\nUpgrade: websocket\r\n{accept}{accept}\r\n");
        assert_eq!(row(&twice), Err(Bad101::Accept));
    }
}
