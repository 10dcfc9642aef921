//! All groups of a configuration by name: what the `upstream` block registers and `proxy_pass` asks for.
//!
//! A group is wanted while the file is read and found when all of it was, because a block may stand behind its first use.

use std::collections::HashMap;
use std::sync::Arc;

use conf::Span;

use crate::{Address, Group, GroupSpec, KeepaliveSpec, PeerAddr, PeerSpec, Registry, Url};

/// Names a group: the host of a URL in lower case, and its port where it has one. A block has none.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    host: String,
    port: Option<u16>,
}

impl Key {
    /// The host, in lower case.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port; a block has none.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    fn as_block(&self) -> Key {
        Key { port: None, ..self.clone() }
    }

    /// The name of an `upstream` block.
    pub fn block(name: &str) -> Key {
        Key { host: name.to_ascii_lowercase(), port: None }
    }

    /// The name of what is behind an address.
    pub fn address(host: &str, port: u16) -> Key {
        Key { host: host.to_ascii_lowercase(), port: Some(port) }
    }
}

/// All groups of a configuration.
#[derive(Default)]
pub struct Upstreams {
    implicit: Vec<(Key, Implicit)>,
    groups: HashMap<Key, Arc<Group>>,
}

/// A group that no block describes: the servers behind an address some `proxy_pass` names.
pub struct Implicit {
    /// As written.
    pub host: String,
    /// What is to be looked up.
    pub address: Address,
    /// Whether the URL named a port.
    pub port_is_written: bool,
    /// Where it stands.
    pub span: Span,
}

impl Upstreams {
    /// Asks for the group behind a URL's address; it is built when the whole file was read.
    pub fn want(&mut self, url: &Url<'_>, span: Span) -> Wanted {
        let port = match &url.address {
            Address::Ip(addr) => addr.port(),
            Address::Host { port, .. } => *port,
            Address::Unix(_) => 0,
        };
        let key = Key::address(url.host, port);
        if !self.implicit.iter().any(|(have, _)| *have == key) {
            let implicit = Implicit {
                host: url.host.to_owned(),
                address: url.address.clone(),
                port_is_written: url.port.is_some(),
                span,
            };
            self.implicit.push((key.clone(), implicit));
        }
        Wanted { key, port_is_written: url.port.is_some() }
    }

    /// The group that was asked for, once the configuration was built without errors.
    pub fn wanted(&self, wanted: &Wanted) -> Option<&Arc<Group>> {
        let block = self.groups.get(&wanted.key.as_block()).filter(|_| !wanted.port_is_written);
        block.or_else(|| self.groups.get(&wanted.key))
    }

    /// Adds a group.
    pub fn insert(&mut self, key: Key, group: Arc<Group>) {
        self.groups.insert(key, group);
    }

    /// Whether a block has this host's name.
    pub fn has_block(&self, key: &Key) -> bool {
        self.groups.contains_key(&key.as_block())
    }

    /// What was asked for and is described by no block, to be looked up.
    pub fn take_implicit(&mut self) -> Vec<(Key, Implicit)> {
        std::mem::take(&mut self.implicit)
    }

    /// The group a URL made from variables names.
    pub fn find(&self, host: &str, port: u16, port_is_written: bool) -> Option<&Arc<Group>> {
        self.wanted(&Wanted { key: Key::address(host, port), port_is_written })
    }
}

/// A promise of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    key: Key,
    port_is_written: bool,
}

/// The group of one address that was not known when the file was read.
pub fn group_of(host: &str, addrs: Vec<PeerAddr>) -> Option<Arc<Group>> {
    let peers = addrs.into_iter().map(|addr| PeerSpec::new(host, addr)).collect();
    let spec = GroupSpec { keepalive: KeepaliveSpec::OFF, ..GroupSpec::new(host, peers) };
    Group::build(spec, Registry::shared()).ok()
}
