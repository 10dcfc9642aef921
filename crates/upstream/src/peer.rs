//! One server of a group: what the configuration says of it, and the live count that outlives the configuration.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use http::{Counted, Guard};

use crate::PeerAddr;

/// One `server` line of an upstream, for one of the addresses its name has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerSpec {
    /// The server as written, before any lookup.
    pub name: String,
    /// Where it listens.
    pub addr: PeerAddr,
    /// `weight=`, at least 1.
    pub weight: u32,
    /// `max_fails=`; 0 never takes the peer out.
    pub max_fails: u32,
    /// `fail_timeout=` in milliseconds. Counted in whole seconds, as nginx does.
    pub fail_timeout_ms: u64,
    /// `max_conns=`; 0 means no limit.
    pub max_conns: u32,
    /// `backup`: used when no primary peer can be.
    pub backup: bool,
    /// `down`: never picked.
    pub down: bool,
}

impl PeerSpec {
    /// A peer with nginx's defaults: weight 1, one failure in 10 s, no limit.
    pub fn new(name: impl Into<String>, addr: PeerAddr) -> Self {
        PeerSpec {
            name: name.into(),
            addr,
            weight: 1,
            max_fails: 1,
            fail_timeout_ms: 10_000,
            max_conns: 0,
            backup: false,
            down: false,
        }
    }
}

/// A peer of a built group.
#[derive(Debug)]
pub struct Peer {
    /// What the configuration says.
    pub spec: PeerSpec,
    /// `spec.addr` as `$upstream_addr` prints it.
    pub text: String,
    pub(crate) live: Arc<LiveCount>,
}

impl Peer {
    /// Requests and tunnels the peer has now, over all generations.
    pub fn live(&self) -> u32 {
        self.live.now()
    }
}

/// How many requests and tunnels a peer has. Shared by every generation that knows the peer (see
/// [`Registry`](crate::Registry)), so that a reload does not forget live tunnels.
#[derive(Debug, Default)]
pub struct LiveCount(AtomicU32);

impl LiveCount {
    /// The count now. Other workers may change it at any time.
    pub fn now(&self) -> u32 {
        // A count, not a lock: nothing else is published through it.
        self.0.load(Ordering::Relaxed)
    }
}

/// One unit of a peer's [`LiveCount`], given back on drop. `Send`: it travels with a tunnel and is dropped wherever
/// the tunnel ends. It keeps the count alive, and nothing else of the configuration it came from.
#[derive(Debug)]
pub struct PeerGuard(Guard);

impl PeerGuard {
    pub(crate) fn new(count: &Arc<LiveCount>) -> Self {
        count.0.fetch_add(1, Ordering::Relaxed);
        PeerGuard(Guard::new(count.clone()))
    }

    /// A guard, unless the count has reached `most`.
    pub(crate) fn below(count: &Arc<LiveCount>, most: u32) -> Option<Self> {
        let more = |now| (now < most).then_some(now + 1);
        count.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(PeerGuard(Guard::new(count.clone())))
    }
}

impl From<PeerGuard> for Guard {
    fn from(guard: PeerGuard) -> Guard {
        guard.0
    }
}

impl Counted for LiveCount {
    fn give_back(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
