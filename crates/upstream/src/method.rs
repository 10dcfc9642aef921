//! The balancing contract. A method says which peer of a set is next; everything around it (health, live counts,
//! tries, the step from primary to backup peers) is done once, in [`Attempt`](crate::Attempt).
//!
//! A method is one file: a [`Method`] that the group owns, and a [`Chooser`] that each request gets from it.

use std::fmt;
use std::net::SocketAddr;

use crate::error::Failure;
use crate::health::{PeerState, Weights};
use crate::peer::Peer;

/// What a method may know of the request it chooses for.
#[derive(Clone, Copy, Debug, Default)]
pub struct PickContext<'a> {
    /// The client's address (`ip_hash`); `None` for a client on a unix socket.
    pub client: Option<SocketAddr>,
    /// The evaluated key (`hash`).
    pub key: &'a [u8],
    /// What the request says of the peer it had before (`sticky`).
    pub hint: Option<&'a [u8]>,
}

/// A way to balance, as configured for one group.
pub trait Method: Send + Sync + fmt::Debug {
    /// Called once, when the group is built, with the primary peers: the place to build a hash ring.
    fn prepare(&mut self, primary: &[std::sync::Arc<Peer>]) {
        let _ = primary;
    }

    /// Called once per request. A chooser without state costs no allocation: a box of nothing is no box.
    fn chooser(&self, context: &PickContext<'_>) -> Box<dyn Chooser>;
}

/// One request's way through the peers. Runs under the group's lock: short, no I/O.
pub trait Chooser: Send {
    /// The index of the peer to try, one for which [`Peers::usable`] holds; `None` when there is none. Then the
    /// backup peers are asked for, with the same chooser. Not called for a group of one peer.
    fn pick(&mut self, peers: &mut Peers<'_>) -> Option<usize>;

    /// The attempt on `peer` is over; `failure` as the caller told it.
    fn finished(&mut self, peers: &mut Peers<'_>, peer: usize, failure: Option<Failure>) {
        let _ = (peers, peer, failure);
    }
}

/// The primary or the backup peers of a group, as one request sees them now.
pub struct Peers<'a> {
    pub(crate) peers: &'a [std::sync::Arc<Peer>],
    pub(crate) states: &'a mut [PeerState],
    pub(crate) tried: &'a Tried,
    pub(crate) now_s: i64,
}

impl Peers<'_> {
    /// How many peers the set has, usable or not.
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// Whether the set has no peers.
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// The peer itself.
    pub fn peer(&self, index: usize) -> &Peer {
        &self.peers[index]
    }

    /// Whether this request may try the peer now: not tried yet, not `down`, not failed, below `max_conns`.
    pub fn usable(&self, index: usize) -> bool {
        let spec = &self.peers[index].spec;
        !self.tried.has(index)
            && !spec.down
            && !self.states[index].is_failed(spec, self.now_s)
            && (spec.max_conns == 0 || self.peers[index].live() < spec.max_conns)
    }

    /// Sum of the configured weights, `down` peers included.
    pub fn weight_total(&self) -> u64 {
        self.peers.iter().map(|peer| u64::from(peer.spec.weight)).sum()
    }

    /// The peer's weights, to be changed in place.
    pub fn weights(&mut self, index: usize) -> &mut Weights {
        &mut self.states[index].weights
    }
}

/// Which peers of the current set a request has tried. No allocation up to 64 peers.
#[derive(Debug, Default)]
pub(crate) struct Tried {
    first: u64,
    rest: Vec<u64>,
}

impl Tried {
    pub(crate) fn has(&self, index: usize) -> bool {
        let word = match index / 64 {
            0 => self.first,
            n => self.rest.get(n - 1).copied().unwrap_or(0),
        };
        word & (1 << (index % 64)) != 0
    }

    pub(crate) fn add(&mut self, index: usize) {
        let bit = 1 << (index % 64);
        match index / 64 {
            0 => self.first |= bit,
            n => {
                if self.rest.len() < n {
                    self.rest.resize(n, 0);
                }
                self.rest[n - 1] |= bit;
            }
        }
    }

    pub(crate) fn clear(&mut self) {
        self.first = 0;
        self.rest.clear();
    }
}
