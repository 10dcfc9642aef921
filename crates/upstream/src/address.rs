//! Addresses as nginx.conf writes them, and as logs and `$upstream_addr` print them.
//!
//! The grammar and the error words are those of nginx's `ngx_parse_url`; names are not looked up here (see
//! [`resolve`](crate::resolve())).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

/// Where a peer listens. Prints as `$upstream_addr` does: `127.0.0.1:80`, `[::1]:80`, `unix:/path`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PeerAddr {
    /// An IP address and port.
    Tcp(SocketAddr),
    /// A unix domain socket.
    Unix(Arc<Path>),
}

impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerAddr::Tcp(addr) => write!(f, "{addr}"),
            PeerAddr::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl From<SocketAddr> for PeerAddr {
    fn from(addr: SocketAddr) -> Self {
        PeerAddr::Tcp(addr)
    }
}

/// What an address text means before any name is looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A literal IP address; nothing to look up.
    Ip(SocketAddr),
    /// A name for [`resolve`](crate::resolve()).
    Host {
        /// The name as written.
        name: String,
        /// The port written, or the default.
        port: u16,
    },
    /// The path after `unix:`.
    Unix(Arc<Path>),
}

/// An address with an optional URI behind it, as `proxy_pass` takes one after its scheme.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url<'a> {
    /// Where to connect.
    pub address: Address,
    /// The host as written (`[::1]` keeps its brackets), or the unix path; what names an implicit upstream.
    pub host: &'a str,
    /// The port as written; `None` where the default was taken or the address has no port.
    pub port: Option<&'a str>,
    /// What follows the address, from its `/` or `?` on (behind `unix:path:`, what follows the colon). May be empty.
    pub uri: &'a str,
}

/// Reads an address without a URI: the first argument of `server` in an upstream.
///
/// # Errors
/// nginx's words, ending in `in upstream "text"`: `invalid port`, `no host`, `invalid host`, `invalid IPv6 address`,
/// `no path in the unix domain socket`, `too long path in the unix domain socket`.
pub fn parse_address(text: &str, default_port: u16) -> Result<Address, String> {
    parse_plain(text, default_port).map_err(|error| format!("{error} in upstream \"{text}\""))
}

/// The same for addresses of other things, which nginx names behind these words.
///
/// # Errors
/// The words of [`parse_address`] before their `in`.
pub fn parse_plain(text: &str, default_port: u16) -> Result<Address, &'static str> {
    parse(text, default_port, false).map(|url| url.address)
}

/// Reads an address that a URI may follow: `proxy_pass` without its `http://`.
///
/// # Errors
/// nginx's words, as for [`parse_address`].
pub fn parse_url(text: &str, default_port: u16) -> Result<Url<'_>, String> {
    parse(text, default_port, true).map_err(|error| format!("{error} in upstream \"{text}\""))
}

/// Longest path that fits `sockaddr_un.sun_path` with its final NUL.
const UNIX_PATH_MAX: usize = 107;

fn parse(text: &str, default_port: u16, uri_part: bool) -> Result<Url<'_>, &'static str> {
    if text.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("unix:")) {
        parse_unix(&text[5..], uri_part)
    } else if let Some(rest) = text.strip_prefix('[') {
        parse_inet6(text, rest, default_port, uri_part)
    } else {
        parse_inet(text, default_port, uri_part)
    }
}

fn parse_unix(text: &str, uri_part: bool) -> Result<Url<'_>, &'static str> {
    let (path, uri) = match text.split_once(':') {
        Some(halves) if uri_part => halves,
        _ => (text, ""),
    };
    if path.is_empty() {
        return Err("no path in the unix domain socket");
    }
    if path.len() > UNIX_PATH_MAX {
        return Err("too long path in the unix domain socket");
    }
    Ok(Url { address: Address::Unix(Path::new(path).into()), host: path, port: None, uri })
}

fn parse_inet(text: &str, default_port: u16, uri_part: bool) -> Result<Url<'_>, &'static str> {
    let (authority, uri) = match text.find(['/', '?']) {
        Some(_) if !uri_part => return Err("invalid host"),
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    let number = port.map_or(Ok(default_port), parse_port)?;
    if host.is_empty() {
        return Err("no host");
    }
    let address = match parse_ipv4(host) {
        Some(ip) => Address::Ip(SocketAddr::new(IpAddr::V4(ip), number)),
        None => Address::Host { name: host.to_owned(), port: number },
    };
    Ok(Url { address, host, port, uri })
}

fn parse_inet6<'a>(
    text: &'a str,
    rest: &'a str,
    default_port: u16,
    uri_part: bool,
) -> Result<Url<'a>, &'static str> {
    let (ip, tail) = rest.split_once(']').ok_or("invalid host")?;
    let (tail, uri) = match tail.find('/') {
        Some(_) if !uri_part => return Err("invalid host"),
        Some(at) => tail.split_at(at),
        None => (tail, ""),
    };
    let port = match tail.strip_prefix(':') {
        Some(port) => Some(port),
        None if tail.is_empty() => None,
        None => return Err("invalid host"),
    };
    let number = port.map_or(Ok(default_port), parse_port)?;
    if ip.is_empty() {
        return Err("no host");
    }
    let parsed: Ipv6Addr = ip.parse().map_err(|_| "invalid IPv6 address")?;
    let address = Address::Ip(SocketAddr::new(IpAddr::V6(parsed), number));
    Ok(Url { address, host: &text[..ip.len() + 2], port, uri })
}

/// 1 to 65535, digits only.
fn parse_port(text: &str) -> Result<u16, &'static str> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err("invalid port");
    }
    text.parse().ok().filter(|&port| port != 0).ok_or("invalid port")
}

/// Four decimal octets. Wider than std's parser where nginx is: leading zeros are decimal, an empty octet is 0. And
/// `255.255.255.255`, nginx's marker for "not an address", goes to the name lookup.
fn parse_ipv4(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0u8; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next()?;
        let digits = part.bytes().all(|b| b.is_ascii_digit());
        *octet = match part {
            "" => 0,
            _ if digits => part.parse().ok()?,
            _ => return None,
        };
    }
    let ip = Ipv4Addr::from(octets);
    (parts.next().is_none() && !ip.is_broadcast()).then_some(ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `address`, `address uri` where one follows, or the error.
    fn print(url: Result<Url<'_>, String>) -> String {
        let url = match url {
            Ok(url) => url,
            Err(error) => return error,
        };
        let address = match url.address {
            Address::Ip(addr) => format!("ip {addr}"),
            Address::Host { name, port } => format!("host {name} {port}"),
            Address::Unix(path) => format!("unix {}", path.display()),
        };
        if url.uri.is_empty() { address } else { format!("{address} {}", url.uri) }
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let address = parse(text, 80, false).map_err(|e| format!("{e} in upstream \"{text}\""));
        assert_eq!(print(address), expected, "{text}");
        assert_eq!(parse_address(text, 80).err(), parse(text, 80, false).err().map(|_| expected.to_owned()));
    }

    #[track_caller]
    fn check_url(text: &str, expected: &str) {
        assert_eq!(print(parse_url(text, 80)), expected, "{text}");
    }

    #[test]
    fn addresses() {
        check("127.0.0.1", "ip 127.0.0.1:80");
        check("127.0.0.1:8080", "ip 127.0.0.1:8080");
        check("127.000.000.001:8080", "ip 127.0.0.1:8080");
        check("1..2.3:00080", "ip 1.0.2.3:80");
        check("1.2.3.4.5", "host 1.2.3.4.5 80");
        check("localhost", "host localhost 80");
        check("back.example.com:65535", "host back.example.com 65535");
        check("8080", "host 8080 80");
        check("127.1", "host 127.1 80");
        check("255.255.255.255", "host 255.255.255.255 80");
        check("256.0.0.1", "host 256.0.0.1 80");
        check("[::1]", "ip [::1]:80");
        check("[::1]:8080", "ip [::1]:8080");
        check("[::ffff:10.0.0.1]:1", "ip [::ffff:10.0.0.1]:1");
        check("unix:/run/app.sock", "unix /run/app.sock");
        check("UNIX:/run/app.sock:", "unix /run/app.sock:");
    }

    #[test]
    fn bad_addresses() {
        for port in ["0", "65536", "99999999999", "x", "", "+80", "8 0", "80:81"] {
            check(&format!("127.0.0.1:{port}"), &format!("invalid port in upstream \"127.0.0.1:{port}\""));
            check(&format!("[::1]:{port}"), &format!("invalid port in upstream \"[::1]:{port}\""));
        }
        check("", "no host in upstream \"\"");
        check(":80", "no host in upstream \":80\"");
        check("[]:80", "no host in upstream \"[]:80\"");
        check("a/b", "invalid host in upstream \"a/b\"");
        check("a?b", "invalid host in upstream \"a?b\"");
        check("[::1", "invalid host in upstream \"[::1\"");
        check("[::1]80", "invalid host in upstream \"[::1]80\"");
        check("[::1]/", "invalid host in upstream \"[::1]/\"");
        check("[::g]", "invalid IPv6 address in upstream \"[::g]\"");
        check("unix:", "no path in the unix domain socket in upstream \"unix:\"");
        let long = format!("unix:/{}", "x".repeat(107));
        check(&long, &format!("too long path in the unix domain socket in upstream \"{long}\""));
    }

    #[test]
    fn urls() {
        check_url("127.0.0.1", "ip 127.0.0.1:80");
        check_url("127.0.0.1:8080/app/", "ip 127.0.0.1:8080 /app/");
        check_url("backend/a:b", "host backend 80 /a:b");
        check_url("backend?a=/", "host backend 80 ?a=/");
        check_url("backend:81?a:b", "host backend 81 ?a:b");
        check_url("[::1]:8080/x", "ip [::1]:8080 /x");
        check_url("unix:/run/app.sock", "unix /run/app.sock");
        check_url("unix:/run/app.sock:/uri", "unix /run/app.sock /uri");
        check_url("/uri", "no host in upstream \"/uri\"");
        check_url("unix::/uri", "no path in the unix domain socket in upstream \"unix::/uri\"");
        check_url("a:b/c", "invalid port in upstream \"a:b/c\"");
    }

    #[test]
    fn host_and_port_as_written() {
        let parts = |text| parse_url(text, 80).map(|url| (url.host, url.port));
        assert_eq!(parts("[::1]:81/x"), Ok(("[::1]", Some("81"))));
        assert_eq!(parts("back/x"), Ok(("back", None)));
        assert_eq!(parts("unix:/a:/b"), Ok(("/a", None)));
    }

    #[test]
    fn peers_print_as_upstream_addr() {
        let tcp = |text: &str| PeerAddr::Tcp(text.parse().unwrap()).to_string();
        assert_eq!(tcp("127.0.0.1:80"), "127.0.0.1:80");
        assert_eq!(tcp("[::1]:80"), "[::1]:80");
        assert_eq!(PeerAddr::Unix(Path::new("/run/a.sock").into()).to_string(), "unix:/run/a.sock");
    }
}
