//! `listen`: addresses in nginx's forms, and the options of their sockets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use http::config::{Line, Listen, ListenAddr, ListenOptions, Problem, SocketKeepalive};

/// The setter.
pub(super) fn listen(line: &mut Line<'_>) -> Result<(), Problem> {
    let addresses = addresses(line)?;
    let parameters = parameters(line, &addresses)?;
    for addr in addresses {
        let listen = Listen {
            addr,
            default_server: parameters.default_server,
            proxy_protocol: parameters.proxy_protocol,
            ssl: parameters.ssl,
            options: parameters.given.then(|| parameters.options.clone()),
            span: line.span(),
        };
        line.listen(listen)?;
    }
    Ok(())
}

const DEFAULT_PORT: u16 = 80;

fn addresses(line: &Line<'_>) -> Result<Vec<ListenAddr>, Problem> {
    let text = line.text(0);
    let wrong = |what: &str| {
        Problem::new(format!("{what} in \"{text}\" of the \"listen\" directive")).at(line.word(0))
    };
    if let Some(path) = text.strip_prefix("unix:") {
        if path.is_empty() {
            return Err(wrong("no path in the unix domain socket"));
        }
        if path.len() > 107 {
            return Err(wrong("too long path in the unix domain socket"));
        }
        return Ok(vec![ListenAddr::Unix(PathBuf::from(path))]);
    }
    if text.is_empty() {
        return Err(wrong("no host"));
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or_else(|| wrong("invalid host"))?;
        let ip: Ipv6Addr = host.parse().map_err(|_| wrong("invalid IPv6 address"))?;
        let ports = match rest.strip_prefix(':') {
            Some(ports) => ports_of(ports).ok_or_else(|| wrong("invalid port"))?,
            None if rest.is_empty() => (DEFAULT_PORT, DEFAULT_PORT),
            None => return Err(wrong("invalid port")),
        };
        return Ok(all(&[IpAddr::V6(ip)], ports));
    }
    if text.contains(['/', '?']) {
        return Err(wrong("invalid host"));
    }
    let (host, ports) = match text.rsplit_once(':') {
        Some((host, ports)) => (Some(host), ports_of(ports).ok_or_else(|| wrong("invalid port"))?),
        None => match ports_of(&text) {
            Some(ports) => (None, ports),
            None if text.bytes().all(|byte| byte.is_ascii_digit()) => return Err(wrong("invalid port")),
            None => (Some(text.as_str()), (DEFAULT_PORT, DEFAULT_PORT)),
        },
    };
    let hosts = match host {
        None | Some("*") => vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED)],
        Some("") => return Err(wrong("no host")),
        Some(host) => match host.parse::<Ipv4Addr>() {
            Ok(ip) => vec![IpAddr::V4(ip)],
            Err(_) => {
                let found = line.world().resolve(host, ports.0).map_err(|_| wrong("host not found"))?;
                found.into_iter().map(|addr| addr.ip()).collect()
            }
        },
    };
    Ok(all(&hosts, ports))
}

fn all(hosts: &[IpAddr], (first, last): (u16, u16)) -> Vec<ListenAddr> {
    let ports = (first..=last).flat_map(|port| hosts.iter().map(move |host| SocketAddr::new(*host, port)));
    ports.map(ListenAddr::Tcp).collect()
}

/// `80` or `8080-8090`.
fn ports_of(text: &str) -> Option<(u16, u16)> {
    let port = |text: &str| -> Option<u16> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|port| digits && *port > 0)
    };
    match text.split_once('-') {
        None => port(text).map(|port| (port, port)),
        Some((first, last)) => {
            let (first, last) = (port(first)?, port(last)?);
            (first <= last).then_some((first, last))
        }
    }
}

#[derive(Default)]
struct Parameters {
    default_server: bool,
    ssl: bool,
    proxy_protocol: bool,
    /// Whether a socket option was written: two lines of one address may not both have some.
    given: bool,
    options: ListenOptions,
}

fn parameters(line: &mut Line<'_>, addresses: &[ListenAddr]) -> Result<Parameters, Problem> {
    let mut parameters = Parameters::default();
    for index in 1..line.count() {
        parameter(line, index, &mut parameters)?;
    }
    // Unix sockets have no such option; nginx takes the word and does nothing.
    parameters.options.reuseport &= addresses.iter().all(|addr| matches!(addr, ListenAddr::Tcp(_)));
    Ok(parameters)
}

fn parameter(line: &mut Line<'_>, index: usize, to: &mut Parameters) -> Result<(), Problem> {
    let text = line.text(index);
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (text.as_str(), None),
    };
    let invalid =
        |line: &Line<'_>, what: &str| Problem::new(format!("invalid {what} \"{text}\"")).at(line.word(index));
    let options = &mut to.options;
    match (name, value) {
        ("default_server" | "default", None) => {
            to.default_server = true;
            return Ok(());
        }
        ("proxy_protocol", None) => {
            to.proxy_protocol = true;
            return Ok(());
        }
        ("ssl", None) => {
            to.ssl = true;
            return Ok(());
        }
        ("http2" | "quic", None) => {
            let what = if name == "quic" { "HTTP/3" } else { "HTTP/2" };
            if name == "http2" {
                line.warn(
                    "the \"listen ... http2\" directive is deprecated, use the \"http2\" directive instead",
                );
            }
            line.warn(format!("\"listen ... {name}\" is accepted: served without {what}"));
            return Ok(());
        }
        ("bind", None) => options.bind = true,
        ("accept_filter", Some(_)) => {
            // An [emerg] that stops nothing on nginx.
            line.warn(format!("accept filters \"{text}\" are not supported on this platform, ignored"));
            return Ok(());
        }
        ("multipath", None) => {
            line.warn("\"listen ... multipath\" is accepted: plain TCP is used".to_owned());
            return Ok(());
        }
        ("fastopen", Some(value)) => {
            options.fastopen = Some(number(value).ok_or_else(|| invalid(line, "fastopen"))?);
        }
        ("backlog", Some(value)) => {
            let backlog = number(value).filter(|n| *n > 0).and_then(|n| i32::try_from(n).ok());
            options.backlog = backlog.ok_or_else(|| invalid(line, "backlog"))?;
        }
        ("rcvbuf", Some(value)) => options.rcvbuf = Some(size(value).ok_or_else(|| invalid(line, "rcvbuf"))?),
        ("sndbuf", Some(value)) => options.sndbuf = Some(size(value).ok_or_else(|| invalid(line, "sndbuf"))?),
        ("deferred", None) => options.deferred = true,
        ("reuseport", None) => options.reuseport = true,
        ("ipv6only", Some(value)) => {
            options.ipv6only = match value {
                "on" => true,
                "off" => false,
                _ => return Err(line.invalid_parameter(index)),
            };
        }
        ("so_keepalive", Some(value)) => {
            options.keepalive = Some(keepalive(value).ok_or_else(|| {
                Problem::new(format!("invalid so_keepalive value: \"{value}\"")).at(line.word(index))
            })?);
        }
        _ => return Err(line.invalid_parameter(index)),
    }
    to.given = true;
    options.bind = true;
    Ok(())
}

/// `on`, `off`, or `idle:interval:count` with any of them empty; times in seconds.
fn keepalive(value: &str) -> Option<SocketKeepalive> {
    match value {
        "on" => return Some((true, None, None, None)),
        "off" => return Some((false, None, None, None)),
        _ => {}
    }
    let mut parts = value.split(':');
    let seconds = |text: Option<&str>| match text {
        None | Some("") => Some(None),
        Some(text) => conf::value::time_s(text.as_bytes())
            .and_then(|s| u32::try_from(s).ok())
            .filter(|s| *s > 0)
            .map(Some),
    };
    let (idle, interval) = (seconds(parts.next())?, seconds(parts.next())?);
    let count = match parts.next() {
        None | Some("") => None,
        Some(text) => Some(number(text).filter(|n| *n > 0)?),
    };
    let some = idle.is_some() || interval.is_some() || count.is_some();
    (some && parts.next().is_none()).then_some((true, idle, interval, count))
}

fn number(text: &str) -> Option<u32> {
    conf::value::number(text.as_bytes()).and_then(|n| u32::try_from(n).ok())
}

fn size(text: &str) -> Option<usize> {
    conf::value::size(text.as_bytes()).and_then(|n| usize::try_from(n).ok())
}
