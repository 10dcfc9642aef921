//! The `upstream` block, and every group of peers a configuration has: its blocks and the implicit ones behind
//! `proxy_pass http://host`.
//!
//! Addresses are looked up when the whole file was read, because a block may stand behind its first use.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use conf::Span;
use http::config::{Answer, Args, BlockKind, Context, Directive, Install, Line, Module, Problem, RawSet};
use http::set;
use upstream::{
    Address, Group, GroupSpec, Implicit, KeepaliveSpec, Key, PeerAddr, PeerSpec, Registry, RoundRobin,
    Upstreams, parse_address,
};

use crate::unused::{ANY, HASH, LEAST_TIME, NOTHING, RANDOM, STICKY, TIME};

const LATER: Answer = Answer::Accepted("not there yet, round robin balances this upstream");
const LOOKED_UP_ONCE: Answer = Answer::Accepted("names of an upstream are looked up at start only");

/// The module.
pub const MODULE: Module = Module {
    name: "upstream",
    doc: "Groups of servers that requests are passed to.",
    directives: &[
        Directive {
            name: "upstream",
            at: Context::HTTP,
            args: Args::ONE,
            doc: "A group of servers.",
            set: set!(|line| open(line)),
            block: Some(BlockKind::Collects(Context::UPSTREAM, close)),
            ..Directive::NONE
        },
        Directive {
            name: "server",
            at: Context::UPSTREAM,
            args: Args::AtLeast(1),
            doc: "A server of the group, or all addresses of a name.",
            set: set!(Raw, |raw, line| server(raw, line)),
            ..Directive::NONE
        },
        Directive {
            name: "zone",
            at: Context::UPSTREAM,
            args: Args::Between(1, 2),
            doc: "Failures of servers are remembered over reloads. All workers share a group with or without it.",
            set: set!(Raw, |raw, line| zone(raw, line)),
            ..Directive::NONE
        },
        Directive {
            name: "keepalive",
            at: Context::UPSTREAM,
            args: Args::Between(1, 2),
            default: "32 local",
            doc: "Most idle connections a worker keeps.",
            set: set!(Raw, |raw, line| keepalive(raw, line)),
            ..Directive::NONE
        },
        Directive {
            name: "keepalive_requests",
            at: Context::UPSTREAM,
            args: Args::ONE,
            default: "1000",
            doc: "Most requests over one connection.",
            set: set!(Raw, |raw, line| line.once(&mut raw.requests, line.number(0..=u64::MAX)?)),
            ..Directive::NONE
        },
        Directive {
            name: "keepalive_time",
            at: Context::UPSTREAM,
            args: Args::ONE,
            default: "1h",
            doc: "A connection older than this is not kept again.",
            set: set!(Raw, |raw, line| line.once(&mut raw.time_ms, line.time()?)),
            ..Directive::NONE
        },
        Directive {
            name: "keepalive_timeout",
            at: Context::UPSTREAM,
            args: Args::ONE,
            default: "60s",
            doc: "Longest a connection stays idle.",
            set: set!(Raw, |raw, line| line.once(&mut raw.timeout_ms, line.time()?)),
            ..Directive::NONE
        },
        HASH.line("hash", Context::UPSTREAM, LATER),
        NOTHING.line("ip_hash", Context::UPSTREAM, LATER),
        NOTHING.line("least_conn", Context::UPSTREAM, LATER),
        LEAST_TIME.line("least_time", Context::UPSTREAM, LATER),
        RANDOM.line("random", Context::UPSTREAM, LATER),
        STICKY.line("sticky", Context::UPSTREAM, LATER),
        refused(
            "ntlm",
            Args::NONE,
            "NTLM binds a login to a connection and is part of nginx's commercial version",
        ),
        refused("queue", Args::Between(1, 2), "part of nginx's commercial version"),
        refused("state", Args::ONE, "part of nginx's commercial version"),
        ANY.line("resolver", Context::UPSTREAM, LOOKED_UP_ONCE),
        TIME.line("resolver_timeout", Context::UPSTREAM, LOOKED_UP_ONCE),
    ],
    prepare: Some(prepare),
    ..Module::NONE
};

const fn refused(name: &'static str, args: Args, why: &'static str) -> Directive {
    Directive { name, at: Context::UPSTREAM, args, answer: Answer::Refused(why), ..Directive::NONE }
}

/// What stands in one `upstream` block.
#[derive(Default)]
pub struct Raw {
    servers: Vec<Server>,
    /// Whether there was any `server` line, also one that could not be used.
    has_lines: bool,
    keepalive: Option<(usize, bool)>,
    requests: Option<u64>,
    time_ms: Option<u64>,
    timeout_ms: Option<u64>,
    zone: bool,
}

/// One `server` line; the address is a placeholder until it was looked up.
struct Server {
    address: Address,
    text: String,
    spec: PeerSpec,
    /// `resolve`: a name that nobody knows today may be known later, so the file is good.
    resolve: bool,
    span: Span,
}

/// nginx's smallest zone of an upstream: eight pages.
const ZONE_BYTES_MIN: usize = 8 * 4096;

/// Sizes of zones by name: all lines agree on them, and one at least says it.
#[derive(Default)]
struct ZoneSizes(BTreeMap<String, usize>);

/// The blocks of a file, until all of it was read.
#[derive(Default)]
struct Blocks(Vec<(Key, Raw, Span)>);

fn open(line: &mut Line<'_>) -> Result<(), Problem> {
    let (key, name) = (Key::block(&line.text(0)), line.text(0));
    if line.registry().of::<Blocks>().0.iter().any(|(have, ..)| *have == key) {
        return Err(Problem::new(format!("duplicate upstream \"{name}\"")));
    }
    Ok(())
}

fn close(raws: &mut RawSet, line: &mut Line<'_>) -> Result<(), Problem> {
    let raw = raws.take::<Raw>().unwrap_or_default();
    if !raw.has_lines {
        // What is wrong inside comes before this, and nginx names the line of the `{`.
        let at = Span { line: line.span().line, ..line.words.close };
        return Err(Problem::new("no servers are inside upstream").at_span(at));
    }
    let (key, span) = (Key::block(&line.text(0)), line.span());
    line.registry().of::<Blocks>().0.push((key, raw, span));
    Ok(())
}

fn server(raw: &mut Raw, line: &mut Line<'_>) -> Result<(), Problem> {
    raw.has_lines = true;
    let text = line.text(0);
    let mut spec = PeerSpec::new(text.clone(), PeerAddr::Tcp(([0, 0, 0, 0], 0).into()));
    let (mut resolve, mut service) = (false, false);
    for index in 1..line.count() {
        parameter(&mut spec, line, index)?;
        resolve |= line.bytes(index) == b"resolve";
        service |= line.bytes(index).starts_with(b"service=");
    }
    let wrong = |message: String| Problem::new(message).at(line.word(0));
    if service && !resolve {
        return Err(wrong(format!("service upstream \"{text}\" requires \"resolve\" parameter")));
    }
    let address = parse_address(&text, 80).map_err(wrong)?;
    let port = text.rsplit_once(']').map_or(&*text, |(_, behind)| behind).contains(':');
    match &address {
        _ if service && port => {
            return Err(wrong(format!("service upstream \"{text}\" may not have port")));
        }
        Address::Host { name, port } if line.world().resolve(name, *port).is_err() => {
            if !resolve {
                return Err(wrong(format!("host not found in upstream \"{text}\"")));
            }
            line.warn(format!("host not found in upstream \"{text}\", it is down until the next reload"));
        }
        Address::Ip(_) | Address::Unix(_) if service => {
            return Err(wrong(format!("service upstream \"{text}\" requires domain name")));
        }
        _ => {}
    }
    raw.servers.push(Server { address, text, spec, resolve, span: line.span() });
    Ok(())
}

fn parameter(spec: &mut PeerSpec, line: &mut Line<'_>, index: usize) -> Result<(), Problem> {
    let text = line.text(index);
    let invalid = || line.invalid_parameter(index);
    match text.split_once('=') {
        Some(("weight", value)) => spec.weight = count(value).filter(|n| *n > 0).ok_or_else(invalid)?,
        Some(("max_conns", value)) => spec.max_conns = count(value).ok_or_else(invalid)?,
        Some(("max_fails", value)) => spec.max_fails = count(value).ok_or_else(invalid)?,
        Some(("fail_timeout", value)) => {
            let seconds = conf::value::time_s(value.as_bytes()).ok_or_else(invalid)?;
            spec.fail_timeout_ms = seconds.saturating_mul(1000);
        }
        None if text == "backup" => spec.backup = true,
        None if text == "down" => spec.down = true,
        None if text == "resolve" || text == "drain" => {
            line.warn(format!("\"{text}\" is accepted: not there yet, the name is looked up at start only"));
        }
        Some(("service", "")) => return Err(Problem::new("service is empty").at(line.word(index))),
        Some(("slow_start" | "route" | "service", _)) => {
            line.warn(format!("\"{text}\" is accepted: not there yet, served without"));
        }
        _ => return Err(invalid()),
    }
    Ok(())
}

fn count(text: &str) -> Option<u32> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

fn zone(raw: &mut Raw, line: &mut Line<'_>) -> Result<(), Problem> {
    let name = line.text(0);
    if name.is_empty() {
        return Err(Problem::new("invalid zone name \"\"").at(line.word(0)));
    }
    let mut size = 0;
    if line.count() == 2 {
        let wrong = |_| Problem::new(format!("invalid zone size \"{}\"", line.text(1))).at(line.word(1));
        size = line.size_at(1).map_err(wrong)?;
        if size < ZONE_BYTES_MIN {
            return Err(Problem::new(format!("zone \"{name}\" is too small")).at(line.word(1)));
        }
    }
    let sizes = line.registry().of::<ZoneSizes>();
    let declared = sizes.0.entry(name.clone()).or_default();
    if *declared != 0 && size != 0 && *declared != size {
        let message = format!(
            "the size {size} of shared memory zone \"{name}\" conflicts with already declared size {declared}"
        );
        return Err(Problem::new(message).at(line.word(1)));
    }
    *declared = size.max(*declared);
    raw.zone = true;
    Ok(())
}

fn keepalive(raw: &mut Raw, line: &mut Line<'_>) -> Result<(), Problem> {
    let text = line.text(0);
    let connections = count(&text).ok_or_else(|| {
        Problem::new(format!("invalid value \"{text}\" in \"keepalive\" directive")).at(line.word(0))
    })?;
    let local = match line.count() {
        2 if line.bytes(1) == b"local" => true,
        2 => return Err(line.invalid_parameter(1)),
        _ => false,
    };
    line.once(&mut raw.keepalive, (connections as usize, local))
}

/// Looks all names up and builds the groups.
fn prepare(install: &mut Install<'_>) {
    let blocks = std::mem::take(install.registry().of::<Blocks>());
    let mut upstreams = std::mem::take(install.registry().of::<Upstreams>());
    for (key, raw, span) in blocks.0 {
        if raw.servers.is_empty() {
            // Its lines were reported one by one.
            continue;
        }
        match block_group(&key, raw, install) {
            Ok(group) => upstreams.insert(key, group),
            Err(Some((message, at))) => install.error(at, Problem::new(message)),
            Err(None) => {
                install.error(span, Problem::new(format!("no servers in upstream \"{}\"", key.host())))
            }
        }
    }
    for (key, implicit) in upstreams.take_implicit() {
        if upstreams.has_block(&key) {
            if implicit.port_is_written {
                let message = format!(
                    "upstream \"{}\" may not have port {}",
                    implicit.host,
                    key.port().unwrap_or_default()
                );
                install.error(implicit.span, Problem::new(message));
            }
            continue;
        }
        match implicit_group(&implicit, install) {
            Ok(group) => upstreams.insert(key, group),
            Err(problem) => install.error(implicit.span, problem),
        }
    }
    *install.registry().of::<Upstreams>() = upstreams;
    for (name, size) in std::mem::take(install.registry().of::<ZoneSizes>()).0 {
        if size == 0 {
            let message = format!("zero size shared memory zone \"{name}\"");
            install.error(Span::default(), Problem::new(message).placeless());
        }
    }
}

type Failed = Option<(String, Span)>;

fn block_group(key: &Key, raw: Raw, install: &mut Install<'_>) -> Result<Arc<Group>, Failed> {
    let mut peers = Vec::new();
    for server in raw.servers {
        let addrs = match addresses(&server.address, install) {
            Ok(addrs) => addrs,
            Err(_) if server.resolve => {
                peers.push(PeerSpec { down: true, ..server.spec });
                continue;
            }
            Err(_) => {
                return Err(Some((format!("host not found in upstream \"{}\"", server.text), server.span)));
            }
        };
        peers.extend(addrs.into_iter().map(|addr| PeerSpec { addr, ..server.spec.clone() }));
    }
    let default = KeepaliveSpec::default();
    let (connections, local) = raw.keepalive.unwrap_or((default.connections, default.local));
    let spec = GroupSpec {
        name: key.host().to_owned(),
        peers,
        method: Box::new(RoundRobin),
        keepalive: KeepaliveSpec {
            connections,
            local,
            requests: raw.requests.unwrap_or(default.requests),
            time_ms: raw.time_ms.unwrap_or(default.time_ms),
            timeout_ms: raw.timeout_ms.unwrap_or(default.timeout_ms),
        },
        keep_health: raw.zone,
    };
    Group::build(spec, Registry::shared()).map_err(|_| None)
}

fn implicit_group(implicit: &Implicit, install: &mut Install<'_>) -> Result<Arc<Group>, Problem> {
    let missing = || {
        Problem::new(format!("host not found in upstream \"{}\"", implicit.host))
            .note("the name is looked up once, when the configuration is read")
    };
    let addrs = addresses(&implicit.address, install).map_err(|_| missing())?;
    let peers = addrs.into_iter().map(|addr| PeerSpec::new(implicit.host.clone(), addr)).collect();
    let spec = GroupSpec { keepalive: KeepaliveSpec::OFF, ..GroupSpec::new(implicit.host.clone(), peers) };
    Group::build(spec, Registry::shared()).map_err(|_| missing())
}

fn addresses(address: &Address, install: &mut Install<'_>) -> io::Result<Vec<PeerAddr>> {
    match address {
        Address::Ip(addr) => Ok(vec![PeerAddr::Tcp(*addr)]),
        Address::Unix(path) => Ok(vec![PeerAddr::Unix(path.clone())]),
        Address::Host { name, port } => {
            let found = install.world().resolve(name, *port)?;
            if found.is_empty() {
                return Err(io::ErrorKind::NotFound.into());
            }
            Ok(found.into_iter().map(PeerAddr::Tcp).collect())
        }
    }
}
