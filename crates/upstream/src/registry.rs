//! What outlives a configuration: live counts, and the health of groups that ask for it.
//!
//! Entries are weak. They live as long as a snapshot (through its groups) or a tunnel (through its guard) holds them;
//! building a group sweeps the dead ones away.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use crate::peer::LiveCount;
use crate::{Group, PeerAddr};

/// The counts and groups of this process, by name. One for the process ([`Registry::shared`]); tests make their own.
#[derive(Debug, Default)]
pub struct Registry {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    counts: HashMap<PeerId, Weak<LiveCount>>,
    /// Newest last. More than one while old generations drain, or while a configuration is only being tested.
    groups: HashMap<String, Vec<Weak<Group>>>,
}

/// Names a peer across generations.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PeerId {
    pub(crate) upstream: String,
    pub(crate) addr: PeerAddr,
    /// 0, 1, … where an upstream lists the same address more than once: nginx counts those apart.
    pub(crate) ordinal: u32,
}

impl Registry {
    /// The registry of this process.
    pub fn shared() -> &'static Registry {
        static SHARED: OnceLock<Registry> = OnceLock::new();
        SHARED.get_or_init(Registry::default)
    }

    /// How many peers and groups are known, dead entries included: a gauge for tests and status pages.
    pub fn sizes(&self) -> (usize, usize) {
        let inner = self.lock();
        (inner.counts.len(), inner.groups.values().map(Vec::len).sum())
    }

    /// Forgets what neither a snapshot nor a tunnel holds any more.
    pub fn sweep(&self) {
        self.lock().sweep();
    }

    pub(crate) fn live(&self, id: PeerId) -> Arc<LiveCount> {
        let mut inner = self.lock();
        if let Some(count) = inner.counts.get(&id).and_then(Weak::upgrade) {
            return count;
        }
        let count = Arc::new(LiveCount::default());
        inner.counts.insert(id, Arc::downgrade(&count));
        count
    }

    /// The newest living group of that name.
    pub(crate) fn predecessor(&self, name: &str) -> Option<Arc<Group>> {
        let inner = self.lock();
        inner.groups.get(name)?.iter().rev().find_map(Weak::upgrade)
    }

    pub(crate) fn enter(&self, group: &Arc<Group>) {
        let mut inner = self.lock();
        inner.sweep();
        inner.groups.entry(group.name().to_owned()).or_default().push(Arc::downgrade(group));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // Every change is a single map operation: a panic elsewhere can't leave half of one.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn sweep(&mut self) {
        self.counts.retain(|_, count| count.strong_count() > 0);
        self.groups.retain(|_, groups| {
            groups.retain(|group| group.strong_count() > 0);
            !groups.is_empty()
        });
    }
}
