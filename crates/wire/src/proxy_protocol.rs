//! The PROXY protocol, versions 1 and 2, as nginx reads and writes it (`listen ... proxy_protocol`).
//!
//! Unlike nginx, which wants the whole header in its first read, a header may come in pieces.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::Span;
use crate::http1::Step;

/// A header of version 1 is no longer than this, in bytes.
pub const V1_BYTES_MAX: usize = 107;

/// A header of version 2 may not be longer than this, in bytes.
pub const HEADER_BYTES_MAX: usize = 4096;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and transport, length.
const V2_FIXED_BYTES: usize = 16;

/// A complete header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes it takes at the front of the buffer.
    pub used: usize,
    /// Both ends of the connection it speaks of; `None` if it names none (`UNKNOWN`, LOCAL, UDP, Unix sockets).
    pub ends: Option<Ends>,
    /// The type-length-value part of version 2, see [`Header::tlv`].
    pub tlvs: Span,
}

/// Both ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The client (`$proxy_protocol_addr`).
    pub source: Address,
    /// `$proxy_protocol_port`
    pub source_port: u16,
    /// Where the client connected to (`$proxy_protocol_server_addr`).
    pub destination: Address,
    /// `$proxy_protocol_server_port`
    pub destination_port: u16,
}

/// An address as it came: text in version 1, of which only the alphabet has been checked, bytes in version 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Address {
    Text(Span),
    Ip(IpAddr),
}

impl Address {
    /// The address; `None` if the text is none.
    pub fn ip(&self, buf: &[u8]) -> Option<IpAddr> {
        match self {
            Address::Ip(ip) => Some(*ip),
            Address::Text(span) => std::str::from_utf8(span.of(buf)).ok()?.parse().ok(),
        }
    }

    /// Appends what the variables show.
    pub fn write_to(&self, buf: &[u8], out: &mut Vec<u8>) {
        match self {
            Address::Text(span) => out.extend_from_slice(span.of(buf)),
            Address::Ip(ip) => append(out, format_args!("{ip}")),
        }
    }
}

/// The bytes are no PROXY protocol header: the connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum BadHeader {
    /// The line up to its end or to what has come of it.
    Broken(Span),
    Version(u8),
    TooLarge,
    TooShort,
}

impl BadHeader {
    /// nginx's log text, at `error`.
    pub fn log_text(&self, buf: &[u8]) -> String {
        let message = match self {
            BadHeader::Broken(line) => {
                format!("broken header: \"{}\"", String::from_utf8_lossy(line.of(buf)))
            }
            BadHeader::Version(version) => format!("unknown PROXY protocol version: {version}"),
            BadHeader::TooLarge => "header is too large".to_string(),
            BadHeader::TooShort => "header is too short".to_string(),
        };
        message + " while reading PROXY protocol"
    }
}

/// Reads a header from the front of `buf`; call it again with more bytes behind the same ones until it is done.
pub fn read(buf: &[u8]) -> Result<Step<Header>, BadHeader> {
    let signature = &SIGNATURE[..buf.len().min(SIGNATURE.len())];
    if buf.starts_with(signature) {
        if buf.len() < V2_FIXED_BYTES { Ok(Step::More) } else { read_v2(buf) }
    } else {
        read_v1(buf)
    }
}

fn read_v1(buf: &[u8]) -> Result<Step<Header>, BadHeader> {
    let line_end = memchr::memchr2(b'\r', b'\n', buf);
    let broken = BadHeader::Broken(Span::between(0, line_end.unwrap_or(buf.len())));
    let start = b"PROXY ";
    if !buf.starts_with(&start[..start.len().min(buf.len())])
        || line_end.is_none() && buf.len() > V1_BYTES_MAX
    {
        return Err(broken);
    }
    let Some(line_end) = line_end else { return Ok(Step::More) };
    match buf.get(line_end..line_end + 2) {
        None if buf[line_end] == b'\r' => return Ok(Step::More),
        Some(b"\r\n") => {}
        _ => return Err(broken),
    }
    let used = line_end + 2;
    let rest = &buf[start.len()..line_end];
    if rest.starts_with(b"UNKNOWN") {
        return Ok(Step::Done(Header { used, ends: None, tlvs: Span::EMPTY }));
    }
    if !rest.starts_with(b"TCP4 ") && !rest.starts_with(b"TCP6 ") {
        return Err(broken);
    }
    let mut at = start.len() + b"TCPx ".len();
    let mut word = || {
        let len = memchr::memchr(b' ', &buf[at..line_end]).unwrap_or(line_end - at);
        let span = Span::between(at, at + len);
        at = line_end.min(at + len + 1);
        span
    };
    let (source, destination) = (address(buf, word()), address(buf, word()));
    let (source_port, destination_port) = (port(word().of(buf)), port(word().of(buf)));
    let has_more = !word().is_empty();
    match (source, destination, source_port, destination_port) {
        (Some(source), Some(destination), Some(source_port), Some(destination_port)) if !has_more => {
            let ends = Some(Ends { source, source_port, destination, destination_port });
            Ok(Step::Done(Header { used, ends, tlvs: Span::EMPTY }))
        }
        _ => Err(broken),
    }
}

fn address(buf: &[u8], span: Span) -> Option<Address> {
    let is_address = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
    span.of(buf).iter().all(is_address).then_some(Address::Text(span))
}

fn port(digits: &[u8]) -> Option<u16> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn read_v2(buf: &[u8]) -> Result<Step<Header>, BadHeader> {
    let version = buf[12] >> 4;
    if version != 2 {
        return Err(BadHeader::Version(version));
    }
    let used = V2_FIXED_BYTES + usize::from(u16::from_be_bytes([buf[14], buf[15]]));
    if used > HEADER_BYTES_MAX {
        return Err(BadHeader::TooLarge);
    }
    let Some(rest) = buf.get(V2_FIXED_BYTES..used) else { return Ok(Step::More) };
    let none = Ok(Step::Done(Header { used, ends: None, tlvs: Span::EMPTY }));
    let (is_proxy, is_stream) = (buf[12] & 0x0f == 1, buf[13] & 0x0f == 1);
    if !is_proxy || !is_stream {
        return none;
    }
    let (ends, taken) = match buf[13] >> 4 {
        1 => (ends::<4, Ipv4Addr>(rest), 12),
        2 => (ends::<16, Ipv6Addr>(rest), 36),
        _ => return none,
    };
    let ends = Some(ends.ok_or(BadHeader::TooShort)?);
    Ok(Step::Done(Header { used, ends, tlvs: Span::between(V2_FIXED_BYTES + taken, used) }))
}

/// Two addresses of N bytes and two ports.
fn ends<const N: usize, A: From<[u8; N]> + Into<IpAddr>>(rest: &[u8]) -> Option<Ends> {
    let (source, rest) = rest.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let [high, low, server_high, server_low, ..] = *rest else { return None };
    Some(Ends {
        source: Address::Ip(A::from(*source).into()),
        source_port: u16::from_be_bytes([high, low]),
        destination: Address::Ip(A::from(*destination).into()),
        destination_port: u16::from_be_bytes([server_high, server_low]),
    })
}

impl Header {
    /// The value that `$proxy_protocol_tlv_NAME` asks for: `alpn`, `authority`, `unique_id`, `ssl`, `netns`, those of the TLS
    /// part with `ssl_` before them (`version`, `cn`, `cipher`, `sig_alg`, `key_alg`), or a number as `0x..`.
    /// `ssl_verify` is a number in the TLS part: see [`Header::ssl_verify`].
    pub fn tlv<'b>(&self, name: &str, buf: &'b [u8]) -> Option<&'b [u8]> {
        let tlvs = self.tlvs.of(buf);
        let (name, tlvs, names) = match name.strip_prefix("ssl_") {
            Some(name) => (name, find_tlv(tlvs, TLV_SSL)?.get(5..)?, TLV_SSL_NAMES),
            None => (name, tlvs, TLV_NAMES),
        };
        let kind = match name.strip_prefix("0x") {
            Some(hex) => u8::from_str_radix(hex, 16).ok()?,
            None => names.iter().find(|(known, _)| *known == name)?.1,
        };
        find_tlv(tlvs, kind)
    }

    /// The result of the client certificate's verification: 0 if it was good.
    pub fn ssl_verify(&self, buf: &[u8]) -> Option<u32> {
        let verify = find_tlv(self.tlvs.of(buf), TLV_SSL)?.get(1..5)?;
        verify.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
    }
}

/// A header that names both ends, with the bytes it came in: what a connection keeps of it.
#[derive(Clone, Debug)]
pub struct Received {
    header: Header,
    ends: Ends,
    bytes: Box<[u8]>,
}

impl Received {
    /// Keeps the header at the front of `buf`; nothing if it names no ends.
    pub fn new(header: Header, buf: &[u8]) -> Option<Received> {
        let bytes = buf.get(..header.used)?.into();
        Some(Received { header, ends: header.ends?, bytes })
    }

    /// Client and server side, if what stands there are addresses.
    pub fn ends(&self) -> Option<(SocketAddr, SocketAddr)> {
        let Ends { source, source_port, destination, destination_port } = &self.ends;
        let source = SocketAddr::new(source.ip(&self.bytes)?, *source_port);
        Some((source, SocketAddr::new(destination.ip(&self.bytes)?, *destination_port)))
    }

    /// Appends the client's address, as `$proxy_protocol_addr` has it.
    pub fn write_source(&self, out: &mut Vec<u8>) {
        self.ends.source.write_to(&self.bytes, out);
    }

    /// Appends the server's address, as `$proxy_protocol_server_addr` has it.
    pub fn write_destination(&self, out: &mut Vec<u8>) {
        self.ends.destination.write_to(&self.bytes, out);
    }

    /// The client's port.
    pub fn source_port(&self) -> u16 {
        self.ends.source_port
    }

    /// The server's port.
    pub fn destination_port(&self) -> u16 {
        self.ends.destination_port
    }

    /// Appends the value of `$proxy_protocol_tlv_NAME`; false if there is none. See [`Header::tlv`]; `ssl_verify` is
    /// written as a number, and so are those of vendors that are numbers: `aws_vpce_id`, `azure_pel_id`, `gcp_conn_id`.
    pub fn write_tlv(&self, name: &str, out: &mut Vec<u8>) -> bool {
        let bytes = &self.bytes;
        match name {
            "ssl_verify" => match self.header.ssl_verify(bytes) {
                Some(number) => append(out, format_args!("{number}")),
                None => return false,
            },
            "aws_vpce_id" => match self.header.tlv("0xea", bytes) {
                Some([1, id @ ..]) => out.extend_from_slice(id),
                _ => return false,
            },
            "azure_pel_id" => match self.header.tlv("0xee", bytes) {
                Some([1, a, b, c, d]) => {
                    append(out, format_args!("{}", u32::from_le_bytes([*a, *b, *c, *d])))
                }
                _ => return false,
            },
            "gcp_conn_id" => match self.header.tlv("0xe0", bytes).and_then(|id| id.try_into().ok()) {
                Some(id) => append(out, format_args!("{}", u64::from_be_bytes(id))),
                None => return false,
            },
            name => match self.header.tlv(name, bytes) {
                Some(value) => out.extend_from_slice(value),
                None => return false,
            },
        }
        true
    }
}

const TLV_SSL: u8 = 0x20;
const TLV_NAMES: &[(&str, u8)] =
    &[("alpn", 0x01), ("authority", 0x02), ("unique_id", 0x05), ("ssl", TLV_SSL), ("netns", 0x30)];
const TLV_SSL_NAMES: &[(&str, u8)] =
    &[("version", 0x21), ("cn", 0x22), ("cipher", 0x23), ("sig_alg", 0x24), ("key_alg", 0x25)];

fn find_tlv(tlvs: &[u8], kind: u8) -> Option<&[u8]> {
    let mut rest = tlvs;
    while let [found, high, low, after @ ..] = rest {
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        let value = after.get(..len)?;
        if *found == kind {
            return Some(value);
        }
        rest = &after[len..];
    }
    None
}

/// Appends a header of version 1; ends of different families, or none, are `UNKNOWN`.
pub fn write_v1(ends: Option<(SocketAddr, SocketAddr)>, out: &mut Vec<u8>) {
    let family = match ends {
        Some((SocketAddr::V4(_), SocketAddr::V4(_))) => "TCP4",
        Some((SocketAddr::V6(_), SocketAddr::V6(_))) => "TCP6",
        _ => return out.extend_from_slice(b"PROXY UNKNOWN\r\n"),
    };
    if let Some((source, destination)) = ends {
        let (from, to) = (source.ip(), destination.ip());
        let (from_port, to_port) = (source.port(), destination.port());
        append(out, format_args!("PROXY {family} {from} {to} {from_port} {to_port}\r\n"));
    }
}

/// Appends a header of version 2 without type-length-values; ends of different families, or none, are unspecified.
pub fn write_v2(ends: Option<(SocketAddr, SocketAddr)>, out: &mut Vec<u8>) {
    out.extend_from_slice(SIGNATURE);
    out.push(0x21);
    match ends {
        Some((SocketAddr::V4(source), SocketAddr::V4(destination))) => {
            out.extend_from_slice(&[0x11, 0, 12]);
            out.extend_from_slice(&source.ip().octets());
            out.extend_from_slice(&destination.ip().octets());
        }
        Some((SocketAddr::V6(source), SocketAddr::V6(destination))) => {
            out.extend_from_slice(&[0x21, 0, 36]);
            out.extend_from_slice(&source.ip().octets());
            out.extend_from_slice(&destination.ip().octets());
        }
        _ => return out.extend_from_slice(&[0x00, 0, 0]),
    }
    if let Some((source, destination)) = ends {
        out.extend_from_slice(&source.port().to_be_bytes());
        out.extend_from_slice(&destination.port().to_be_bytes());
    }
}

fn append(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing to a Vec cannot fail.
    let _ = out.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(input: &[u8], expected: &str) {
        let shown = |input: &[u8]| match read(input) {
            Ok(Step::More) => "more".to_string(),
            Err(error) => error.log_text(input).replace(" while reading PROXY protocol", ""),
            Ok(Step::Done(header)) => {
                let ends = header.ends.map(|ends| {
                    let mut text = Vec::new();
                    ends.source.write_to(input, &mut text);
                    text.push(b' ');
                    ends.destination.write_to(input, &mut text);
                    format!(
                        " {} {} {}",
                        String::from_utf8_lossy(&text),
                        ends.source_port,
                        ends.destination_port
                    )
                });
                format!("{}{}", header.used, ends.unwrap_or_default())
            }
        };
        assert_eq!(shown(input), expected, "{}", input.escape_ascii());
        if let Ok(Step::Done(header)) = read(input) {
            for split in 0..header.used {
                assert_eq!(read(&input[..split]), Ok(Step::More), "{split}");
            }
        }
    }

    #[test]
    fn version_1() {
        check(b"PROXY TCP4 1.2.3.4 5.6.7.8 91 80\r\nGET", "34 1.2.3.4 5.6.7.8 91 80");
        check(b"PROXY TCP6 2001:DB8::1 ::1 91 80\r\n", "34 2001:DB8::1 ::1 91 80");
        check(b"PROXY UNKNOWN\r\n", "15");
        check(b"PROXY UNKNOWN whatever 1 2 3\r\n", "30");
        check(b"PROXY TCP5 1.2.3.4 5.6.7.8 91 80\r\n", "broken header: \"PROXY TCP5 1.2.3.4 5.6.7.8 91 80\"");
        check(b"PROXY TCP4 x 5.6.7.8 91 80\r\n", "broken header: \"PROXY TCP4 x 5.6.7.8 91 80\"");
        check(b"PROXY TCP4 1.2.3.4 5.6.7.8 91\r\n", "broken header: \"PROXY TCP4 1.2.3.4 5.6.7.8 91\"");
        check(
            b"PROXY TCP4 1.2.3.4 5.6.7.8 91 65536\r\n",
            "broken header: \"PROXY TCP4 1.2.3.4 5.6.7.8 91 65536\"",
        );
        check(
            b"PROXY TCP4 1.2.3.4 5.6.7.8 91 80 1\r\n",
            "broken header: \"PROXY TCP4 1.2.3.4 5.6.7.8 91 80 1\"",
        );
        check(b"PROXY TCP4 1.2.3.4 5.6.7.8 91 80\n", "broken header: \"PROXY TCP4 1.2.3.4 5.6.7.8 91 80\"");
        check(b"GET / HTTP/1.1\r\n", "broken header: \"GET / HTTP/1.1\"");
        check(b"PROXY TCP4", "more");
        let long = [b"PROXY UNKNOWN".as_slice(), &[b'x'; 100]].concat();
        check(&long, &format!("broken header: \"{}\"", String::from_utf8_lossy(&long)));
    }

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        [&SIGNATURE[..], &[command, family], &(rest.len() as u16).to_be_bytes(), rest].concat()
    }

    #[test]
    fn version_2() {
        let v4 = [1, 2, 3, 4, 5, 6, 7, 8, 0, 91, 0, 80];
        check(&v2(0x21, 0x11, &v4), "28 1.2.3.4 5.6.7.8 91 80");
        check(&v2(0x20, 0x11, &v4), "28");
        check(&v2(0x21, 0x12, &v4), "28");
        check(&v2(0x21, 0x00, b""), "16");
        check(&v2(0x21, 0x31, &[0; 216]), "232");
        check(&v2(0x31, 0x11, &v4), "unknown PROXY protocol version: 3");
        check(&v2(0x21, 0x11, &v4[1..]), "header is too short");
        check(&v2(0x21, 0x11, &[0; 5000]), "header is too large");
        let mut v6 = [0; 36];
        (v6[15], v6[31], v6[33], v6[35]) = (1, 2, 91, 80);
        check(&v2(0x21, 0x21, &v6), "52 ::1 ::2 91 80");
    }

    #[test]
    fn values() {
        let ssl = [&[1, 0, 0, 0, 7][..], &[0x21, 0, 7], b"TLSv1.3", &[0x22, 0, 2], b"cn"].concat();
        let rest = [&[0; 12][..], &[1, 0, 2], b"h2", &[TLV_SSL, 0, ssl.len() as u8], &ssl, &[0xe0, 0, 9, 1]]
            .concat();
        let input = v2(0x21, 0x11, &rest);
        let Ok(Step::Done(header)) = read(&input) else { panic!("not read") };
        assert_eq!(header.tlv("alpn", &input), Some(&b"h2"[..]));
        assert_eq!(header.tlv("0x01", &input), Some(&b"h2"[..]));
        assert_eq!(header.tlv("ssl", &input), Some(&ssl[..]));
        assert_eq!(header.tlv("ssl_version", &input), Some(&b"TLSv1.3"[..]));
        assert_eq!(header.tlv("ssl_cn", &input), Some(&b"cn"[..]));
        assert_eq!(header.ssl_verify(&input), Some(7));
        for absent in ["authority", "0xe0", "0xzz", "nonsense", "ssl_cipher"] {
            assert_eq!(header.tlv(absent, &input), None, "{absent}");
        }
    }

    #[test]
    fn what_a_connection_keeps() {
        let vendors = [
            &[0xea, 0, 5, 1][..],
            b"vpce",
            &[0xee, 0, 5, 1, 0x22, 0x11, 0, 0],
            &[0xe0, 0, 8, 0, 0, 0, 0, 0, 0, 1, 2],
            &[TLV_SSL, 0, 5, 1, 0, 0, 0, 7],
        ]
        .concat();
        let rest = [&[10, 0, 0, 1, 10, 0, 0, 2, 0, 91, 0, 80][..], &vendors].concat();
        let mut input = v2(0x21, 0x11, &rest);
        input.extend_from_slice(b"GET / ");
        let Ok(Step::Done(header)) = read(&input) else { panic!("not read") };
        let kept = Received::new(header, &input).unwrap();
        let ends = kept.ends().unwrap();
        assert_eq!((ends.0.to_string(), ends.1.to_string()), ("10.0.0.1:91".into(), "10.0.0.2:80".into()));
        let check = |name: &str, expected: Option<&str>| {
            let mut out = Vec::new();
            let found = kept.write_tlv(name, &mut out);
            assert_eq!(
                found.then(|| String::from_utf8_lossy(&out).into_owned()).as_deref(),
                expected,
                "{name}"
            );
        };
        check("aws_vpce_id", Some("vpce"));
        check("azure_pel_id", Some("4386"));
        check("gcp_conn_id", Some("258"));
        check("ssl_verify", Some("7"));
        check("ssl_cn", None);
        check("alpn", None);
        let text = b"PROXY TCP6 ::A1 ::2 1 2\r\n";
        let Ok(Step::Done(header)) = read(text) else { panic!("not read") };
        let mut shown = Vec::new();
        Received::new(header, text).unwrap().write_source(&mut shown);
        assert_eq!(shown, b"::A1");
        let Ok(Step::Done(header)) = read(b"PROXY UNKNOWN\r\n") else { panic!("not read") };
        assert!(Received::new(header, b"PROXY UNKNOWN\r\n").is_none());
    }

    #[test]
    fn written_headers_are_read_again() {
        for (a, b) in
            [("1.2.3.4:5", "6.7.8.9:10"), ("[::1]:5", "[2001:db8::2]:10"), ("1.2.3.4:5", "[::1]:10")]
        {
            let (a, b): (SocketAddr, SocketAddr) = (a.parse().unwrap(), b.parse().unwrap());
            for write in [write_v1, write_v2] {
                let mut out = Vec::new();
                write(Some((a, b)), &mut out);
                let Ok(Step::Done(header)) = read(&out) else { panic!("not read") };
                assert_eq!(header.used, out.len());
                assert_eq!(header.ends.is_some(), a.is_ipv4() == b.is_ipv4());
                if let Some(ends) = header.ends {
                    assert_eq!((ends.source.ip(&out), ends.source_port), (Some(a.ip()), a.port()));
                    assert_eq!((ends.destination.ip(&out), ends.destination_port), (Some(b.ip()), b.port()));
                }
            }
        }
    }
}
