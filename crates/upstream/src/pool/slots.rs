//! The slab of kept connections, and one list per upstream through it, most recently used first.

use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Instant;

use slab::Slab;

use crate::Connection;
use crate::pool::PoolKey;
use crate::pool::ready::{Ready, SlotWaker};

#[derive(Default)]
pub(super) struct Slots {
    entries: Slab<Entry>,
    /// One per slot that was ever used, and used again with it.
    wakers: Vec<Waker>,
}

struct Entry {
    key: PoolKey,
    connection: Connection,
    /// When `keepalive_timeout` is up.
    deadline: Instant,
    newer: Option<usize>,
    older: Option<usize>,
}

/// One upstream's connections.
#[derive(Default)]
pub(super) struct List {
    newest: Option<usize>,
    oldest: Option<usize>,
    len: usize,
}

impl List {
    pub(super) fn len(&self) -> usize {
        self.len
    }
}

impl Slots {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn insert(
        &mut self,
        list: &mut List,
        key: PoolKey,
        connection: Connection,
        deadline: Instant,
    ) -> usize {
        let older = list.newest;
        let index = self.entries.insert(Entry { key, connection, deadline, newer: None, older });
        match older {
            Some(older) => self.entries[older].newer = Some(index),
            None => list.oldest = Some(index),
        }
        list.newest = Some(index);
        list.len += 1;
        index
    }

    /// The newest connection made with `key`. A walk, as in nginx: lists are short, and the first one mostly fits.
    pub(super) fn take(&mut self, list: &mut List, key: &PoolKey) -> Option<Connection> {
        let mut at = list.newest;
        while let Some(index) = at {
            let entry = &self.entries[index];
            if entry.key == *key {
                return Some(self.remove(list, index));
            }
            at = entry.older;
        }
        None
    }

    pub(super) fn close_oldest(&mut self, list: &mut List) {
        if let Some(index) = list.oldest {
            drop(self.remove(list, index));
        }
    }

    /// When the longest idle connection of the list expires.
    pub(super) fn oldest(&self, list: &List) -> Option<Instant> {
        list.oldest.map(|index| self.entries[index].deadline)
    }

    /// Takes the entry out of the slab and of `list`, which is its upstream's.
    pub(super) fn remove(&mut self, list: &mut List, index: usize) -> Connection {
        let entry = self.entries.remove(index);
        match entry.newer {
            Some(newer) => self.entries[newer].older = entry.older,
            None => list.newest = entry.older,
        }
        match entry.older {
            Some(older) => self.entries[older].newer = entry.newer,
            None => list.oldest = entry.newer,
        }
        list.len -= 1;
        entry.connection
    }

    /// If the slot's connection has something to read, the upstream whose list it is in; else its waker is set.
    pub(super) fn stirred(&mut self, index: usize, ready: &Arc<Ready>) -> Option<Arc<str>> {
        while self.wakers.len() <= index {
            self.wakers.push(SlotWaker::waker(self.wakers.len(), ready));
        }
        let entry = self.entries.get_mut(index)?;
        let mut context = Context::from_waker(&self.wakers[index]);
        entry.connection.poll_stirred(&mut context).is_ready().then(|| Arc::clone(&entry.key.upstream))
    }
}
