//! A group of peers under one name: an `upstream` block, or the implicit one behind `proxy_pass http://host`.
//!
//! A group belongs to one snapshot and is shared by all workers. What balancing must remember sits behind one mutex
//! that is held for one pick or one result, never across an await.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::health::PeerState;
use crate::method::Method;
use crate::peer::{Peer, PeerSpec};
use crate::registry::{PeerId, Registry};
use crate::round_robin::RoundRobin;

/// What a group is built from.
#[derive(Debug)]
pub struct GroupSpec {
    /// The name after `upstream`, or the host of an implicit upstream.
    pub name: String,
    /// In the order they are written; a name with several addresses gives several peers in a row.
    pub peers: Vec<PeerSpec>,
    /// How to balance.
    pub method: Box<dyn Method>,
    /// How idle connections are kept.
    pub keepalive: KeepaliveSpec,
    /// Whether failures counted by the group this one replaces are taken over on reload.
    pub keep_health: bool,
}

impl GroupSpec {
    /// Round robin over `peers` with nginx's defaults.
    pub fn new(name: impl Into<String>, peers: Vec<PeerSpec>) -> Self {
        GroupSpec {
            name: name.into(),
            peers,
            method: Box::new(RoundRobin),
            keepalive: KeepaliveSpec::default(),
            keep_health: false,
        }
    }
}

/// How idle connections of a group are kept, per worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepaliveSpec {
    /// `keepalive`: most idle connections; 0 keeps none.
    pub connections: usize,
    /// `keepalive_requests`: most requests over one connection.
    pub requests: u64,
    /// `keepalive_time` in milliseconds: a connection older than this is not kept again.
    pub time_ms: u64,
    /// `keepalive_timeout` in milliseconds: longest a connection stays idle.
    pub timeout_ms: u64,
    /// `keepalive N local`, and nginx's default: a location lends its connections to nobody else.
    pub local: bool,
}

impl KeepaliveSpec {
    /// Keeps nothing: `keepalive 0`, and every upstream that is not an `upstream` block.
    pub const OFF: Self =
        KeepaliveSpec { connections: 0, requests: 0, time_ms: 0, timeout_ms: 0, local: false };
}

impl Default for KeepaliveSpec {
    /// nginx 1.31's for an `upstream` block without a `keepalive` line.
    fn default() -> Self {
        KeepaliveSpec { connections: 32, requests: 1000, time_ms: 3_600_000, timeout_ms: 60_000, local: true }
    }
}

/// Why a group can't be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpecError {
    /// No peers, or only backup peers.
    NoServers {
        /// The group's name.
        upstream: String,
    },
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SpecError::NoServers { upstream } => write!(f, "no servers in upstream \"{upstream}\""),
        }
    }
}

impl std::error::Error for SpecError {}

/// A built group. `Send + Sync`; workers share it through an `Arc`.
#[derive(Debug)]
pub struct Group {
    name: Arc<str>,
    /// Primary peers, then backup peers.
    sets: [Vec<Arc<Peer>>; 2],
    /// One primary peer and no backup: nginx then counts no failures, for there is nobody else to ask.
    single: bool,
    /// How many peers a request may try at most: all that are not `down`.
    tries: u32,
    method: Box<dyn Method>,
    keepalive: KeepaliveSpec,
    /// As `sets`, index by index.
    states: Mutex<[Vec<PeerState>; 2]>,
}

impl Group {
    /// Builds a group; live counts (and with `keep_health` failures) come from `registry`.
    ///
    /// # Errors
    /// [`SpecError::NoServers`] without a primary peer, in nginx's words.
    pub fn build(mut spec: GroupSpec, registry: &Registry) -> Result<Arc<Group>, SpecError> {
        let mut sets = [Vec::new(), Vec::new()];
        for (index, peer) in spec.peers.iter().enumerate() {
            let same = spec.peers[..index].iter().filter(|earlier| earlier.addr == peer.addr).count();
            let id = PeerId { upstream: spec.name.clone(), addr: peer.addr.clone(), ordinal: same as u32 };
            let text = peer.addr.to_string();
            let peer = Peer { spec: peer.clone(), text, live: registry.live(id) };
            sets[usize::from(peer.spec.backup)].push(Arc::new(peer));
        }
        if sets[PRIMARY].is_empty() {
            return Err(SpecError::NoServers { upstream: spec.name });
        }
        spec.method.prepare(&sets[PRIMARY]);

        let old = if spec.keep_health { registry.predecessor(&spec.name) } else { None };
        let states =
            sets.each_ref().map(|set| set.iter().map(|peer| inherit(peer, old.as_deref())).collect());
        let group = Arc::new(Group {
            name: spec.name.into(),
            tries: sets.iter().flatten().filter(|peer| !peer.spec.down).count() as u32,
            single: sets[PRIMARY].len() == 1 && sets[BACKUP].is_empty(),
            sets,
            method: spec.method,
            keepalive: spec.keepalive,
            states: Mutex::new(states),
        });
        registry.enter(&group);
        Ok(group)
    }

    /// The group's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The group's name, to be kept.
    pub fn name_shared(&self) -> &Arc<str> {
        &self.name
    }

    /// How idle connections are kept.
    pub fn keepalive(&self) -> &KeepaliveSpec {
        &self.keepalive
    }

    /// All peers, primary ones first.
    pub fn peers(&self) -> impl Iterator<Item = &Arc<Peer>> {
        self.sets.iter().flatten()
    }

    pub(crate) fn method(&self) -> &dyn Method {
        &*self.method
    }

    pub(crate) fn tries(&self) -> u32 {
        self.tries
    }

    pub(crate) fn is_single(&self) -> bool {
        self.single
    }

    pub(crate) fn set(&self, which: usize) -> &[Arc<Peer>] {
        &self.sets[which]
    }

    pub(crate) fn states(&self) -> MutexGuard<'_, [Vec<PeerState>; 2]> {
        // Weights and failure counts may be off by one after a panic in a method; balancing goes on.
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Index of the primary peers in [`Group::set`].
pub(crate) const PRIMARY: usize = 0;
/// Index of the backup peers in [`Group::set`].
pub(crate) const BACKUP: usize = 1;

/// The state of the peer with the same address in the replaced group, else a fresh one.
fn inherit(peer: &Arc<Peer>, old: Option<&Group>) -> PeerState {
    let fresh = PeerState::new(&peer.spec);
    let Some(old) = old else { return fresh };
    let states = old.states();
    for (set, states) in old.sets.iter().zip(states.iter()) {
        for (before, state) in set.iter().zip(states) {
            // Peers share a count exactly when name, address and ordinal are the same.
            if Arc::ptr_eq(&before.live, &peer.live) {
                return fresh.with_health_of(state);
            }
        }
    }
    fresh
}

#[cfg(test)]
mod tests;
