//! Names that are known only when a request is there (`proxy_pass http://$host`): looked up by the system's resolver,
//! remembered by each worker for a while.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reactor::{blocking, timeout};

use crate::{Group, PeerAddr, group_of, resolve};

/// How names are looked up in a block: `resolver` and `resolver_timeout`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// The `resolver` line; without one no name is looked up.
    pub resolver: Option<Resolver>,
    /// `resolver_timeout` in milliseconds.
    pub timeout_ms: u64,
}

/// A `resolver` line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolver {
    /// `valid=` in milliseconds: how long an answer is good. The system's resolver does not tell what DNS said of it.
    pub valid_ms: u64,
    /// `ipv4=`
    pub ipv4: bool,
    /// `ipv6=`
    pub ipv6: bool,
}

/// Why a name has no group. Prints in nginx's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameError {
    /// No `resolver` holds here.
    NoResolver(String),
    /// The name is unknown.
    NotFound(String),
    /// No answer within `resolver_timeout`.
    TimedOut(String),
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NameError::NoResolver(name) => write!(f, "no resolver defined to resolve {name}"),
            NameError::NotFound(name) => write!(f, "{name} could not be resolved (3: Host not found)"),
            NameError::TimedOut(name) => write!(f, "{name} could not be resolved (110: Operation timed out)"),
        }
    }
}

impl std::error::Error for NameError {}

/// Most names a worker remembers.
const KNOWN_MAX: usize = 1024;

type Known = HashMap<(String, u16), (Instant, Arc<Group>)>;

thread_local! {
    static KNOWN: RefCell<Known> = RefCell::default();
}

/// The group of all addresses of a name.
///
/// # Errors
/// See [`NameError`]; the answer is 502.
pub async fn group_by_name(names: Option<&Names>, name: &str, port: u16) -> Result<Arc<Group>, NameError> {
    let Some((resolver, names)) = names.and_then(|names| Some((names.resolver?, names))) else {
        return Err(NameError::NoResolver(name.to_owned()));
    };
    let key = (name.to_ascii_lowercase(), port);
    let now = Instant::now();
    let known = KNOWN.with_borrow(|known| {
        known.get(&key).filter(|(until, _)| *until > now).map(|(_, group)| Arc::clone(group))
    });
    if let Some(group) = known {
        return Ok(group);
    }
    let addrs = lookup(name, port, names.timeout_ms).await?;
    let addrs: Vec<PeerAddr> = addrs
        .into_iter()
        .filter(|addr| if addr.is_ipv4() { resolver.ipv4 } else { resolver.ipv6 })
        .map(PeerAddr::Tcp)
        .collect();
    let group = group_of(name, addrs).ok_or_else(|| NameError::NotFound(name.to_owned()))?;
    KNOWN.with_borrow_mut(|known| {
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(key, (now + Duration::from_millis(resolver.valid_ms), Arc::clone(&group)));
    });
    Ok(group)
}

/// Asks the system, in a thread that may block.
async fn lookup(name: &str, port: u16, timeout_ms: u64) -> Result<Vec<std::net::SocketAddr>, NameError> {
    let host = name.to_owned();
    let asked = blocking(move || -> io::Result<_> { resolve(&host, port) });
    match timeout(Duration::from_millis(timeout_ms), asked).await {
        Ok(Ok(Ok(found))) => Ok(found),
        Ok(_) => Err(NameError::NotFound(name.to_owned())),
        Err(_) => Err(NameError::TimedOut(name.to_owned())),
    }
}
