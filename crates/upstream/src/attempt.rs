//! One request's way to a peer: pick, try, report, pick the next.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use crate::error::Failure;
use crate::group::{BACKUP, Group, PRIMARY};
use crate::health::seconds;
use crate::method::{Chooser, Peers, PickContext, Tried};
use crate::peer::{Peer, PeerGuard};

/// What a failure did to the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a peer that was taken out is worth nginx's [warn] line \"upstream server temporarily disabled\""]
pub enum Health {
    /// Nothing, or one count more.
    Live,
    /// The peer reached `max_fails` and rests for `fail_timeout`.
    Disabled,
}

/// No peer can be tried. Prints as nginx logs it at `[error]`: `no live upstreams`. The answer is 502, and
/// `$upstream_addr` shows the group's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoLive {
    /// The group's name.
    pub upstream: Arc<str>,
}

impl fmt::Display for NoLive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no live upstreams")
    }
}

impl std::error::Error for NoLive {}

/// A picked peer.
#[derive(Debug)]
pub struct PeerRef<'g> {
    /// The peer.
    pub peer: &'g Arc<Peer>,
    /// Counts as one connection of the peer until dropped: at the end of the request, or of its tunnel.
    pub guard: PeerGuard,
}

/// Chooses peers for one request and reports how they did. Dropped without a report, the last peer counts as having
/// answered, as when nginx's client leaves early.
pub struct Attempt<'g> {
    group: &'g Group,
    chooser: Box<dyn Chooser>,
    tried: Tried,
    /// Primary or backup; never goes back.
    set: usize,
    current: Option<usize>,
    tries: u32,
}

impl Group {
    /// Starts choosing for one request. Nothing is picked until [`Attempt::next`].
    pub fn start(&self, context: &PickContext<'_>) -> Attempt<'_> {
        let chooser = self.method().chooser(context);
        let tried = Tried::default();
        Attempt { group: self, chooser, tried, set: PRIMARY, current: None, tries: self.tries() }
    }
}

impl<'g> Attempt<'g> {
    /// The group chosen from.
    pub fn group(&self) -> &'g Group {
        self.group
    }

    /// Allows at most `tries` peers (`proxy_next_upstream_tries`); 0 means no limit of its own.
    pub fn limit_tries(&mut self, tries: u32) {
        if tries != 0 {
            self.tries = self.tries.min(tries);
        }
    }

    /// How many peers may still be tried, the current one included until it is reported. nginx asks for more than
    /// one before it discards a response for its status: the last peer's 503 is passed on, and is no failure.
    pub fn tries_left(&self) -> u32 {
        self.tries
    }

    /// Picks the next peer. A peer that was picked before and not reported counts as having answered.
    ///
    /// # Errors
    /// [`NoLive`] when every peer is tried, failed, `down` or full. That does not use up a try, but asking again in the
    /// same moment is useless.
    pub fn next(&mut self, now: Instant) -> Result<PeerRef<'g>, NoLive> {
        self.succeeded();
        let picked = match self.group.is_single() {
            true => single(&self.group.set(PRIMARY)[0]),
            false => self.pick(seconds(now)),
        };
        let Some((index, guard)) = picked else {
            return Err(NoLive { upstream: Arc::clone(self.group.name_shared()) });
        };
        self.current = Some(index);
        Ok(PeerRef { peer: &self.group.set(self.set)[index], guard })
    }

    /// The current peer gave the response.
    pub fn succeeded(&mut self) {
        let _ = self.report(None, 0);
    }

    /// The current peer did not give the response. Uses up a try.
    pub fn failed(&mut self, failure: Failure, now: Instant) -> Health {
        self.report(Some(failure), seconds(now))
    }

    /// The failed connection came from the keepalive pool: the peer may just have closed it, so the try is given back.
    /// Called after [`failed`](Self::failed), only for [`Failure::Error`].
    pub fn give_back_try(&mut self) {
        self.tries += 1;
    }

    fn pick(&mut self, now_s: i64) -> Option<(usize, PeerGuard)> {
        let Attempt { group, chooser, tried, set, .. } = self;
        let mut states = group.states();
        loop {
            let peers = group.set(*set);
            let states = &mut states[*set];
            if let Some(index) = chooser.pick(&mut Peers { peers, states, tried, now_s }) {
                debug_assert!(!tried.has(index), "a method picked a peer that was tried");
                states[index].picked(&peers[index].spec, now_s);
                tried.add(index);
                // Counted under the lock, or two requests could both take a peer's last connection.
                return Some((index, PeerGuard::new(&peers[index].live)));
            }
            if *set == BACKUP || group.set(BACKUP).is_empty() {
                return None;
            }
            *set = BACKUP;
            tried.clear();
        }
    }

    fn report(&mut self, failure: Option<Failure>, now_s: i64) -> Health {
        let Some(index) = self.current.take() else { return Health::Live };
        if self.group.is_single() {
            // Nobody else to ask: nothing is counted, and there is no second try.
            self.tries = 0;
            return Health::Live;
        }
        self.tries = self.tries.saturating_sub(1);
        let mut states = self.group.states();
        let peers = self.group.set(self.set);
        let states = &mut states[self.set];
        let mut health = Health::Live;
        match failure {
            Some(Failure::Ours) => {}
            Some(failure) if failure.counts() => {
                if states[index].failed(&peers[index].spec, now_s) {
                    health = Health::Disabled;
                }
            }
            _ => states[index].answered(),
        }
        self.chooser.finished(&mut Peers { peers, states, tried: &self.tried, now_s }, index, failure);
        health
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.succeeded();
    }
}

impl fmt::Debug for Attempt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt")
            .field("group", &self.group.name())
            .field("current", &self.current)
            .field("tries", &self.tries)
            .finish_non_exhaustive()
    }
}

/// The only peer of a group: taken whatever it did before, unless `down` or full.
fn single(peer: &Peer) -> Option<(usize, PeerGuard)> {
    if peer.spec.down {
        return None;
    }
    match peer.spec.max_conns {
        0 => Some((0, PeerGuard::new(&peer.live))),
        most => PeerGuard::below(&peer.live, most).map(|guard| (0, guard)),
    }
}
