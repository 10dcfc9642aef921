//! What balancing remembers of a peer: what it is owed, and how it failed.

use std::sync::OnceLock;
use std::time::Instant;

use crate::peer::PeerSpec;

/// What balancing remembers of a peer. Times are seconds since [`seconds`]'s origin.
#[derive(Clone, Debug)]
pub(crate) struct PeerState {
    pub(crate) weights: Weights,
    fails: u32,
    /// The last failure.
    accessed_s: i64,
    /// The last failure, or when the peer was last tried after its `fail_timeout`.
    checked_s: i64,
}

/// The weights round robin works with; other methods fall back on them among equals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weights {
    /// How far the peer is owed a request.
    pub current: i64,
    /// The configured weight, lowered by failures, regained a step a pick.
    pub effective: i64,
}

impl PeerState {
    pub(crate) fn new(spec: &PeerSpec) -> Self {
        let weights = Weights { current: 0, effective: i64::from(spec.weight) };
        PeerState { weights, fails: 0, accessed_s: LONG_AGO_S, checked_s: LONG_AGO_S }
    }

    /// The weights of this one, the failures of the other.
    pub(crate) fn with_health_of(self, other: &PeerState) -> Self {
        PeerState { weights: self.weights, ..other.clone() }
    }

    /// Whether the peer has failed too often and is not due for another try.
    pub(crate) fn is_failed(&self, spec: &PeerSpec, now_s: i64) -> bool {
        spec.max_fails != 0 && self.fails >= spec.max_fails && now_s - self.checked_s <= fail_timeout_s(spec)
    }

    /// The peer is about to be tried: after its `fail_timeout` this try is the check that may clear it.
    pub(crate) fn picked(&mut self, spec: &PeerSpec, now_s: i64) {
        if now_s - self.checked_s > fail_timeout_s(spec) {
            self.checked_s = now_s;
        }
    }

    /// Counts a failure. True when it takes the peer out.
    pub(crate) fn failed(&mut self, spec: &PeerSpec, now_s: i64) -> bool {
        self.fails = self.fails.saturating_add(1);
        self.accessed_s = now_s;
        self.checked_s = now_s;
        if spec.max_fails == 0 {
            return false;
        }
        let step = i64::from(spec.weight / spec.max_fails);
        self.weights.effective = (self.weights.effective - step).max(0);
        self.fails >= spec.max_fails
    }

    /// The peer answered. Failures are forgotten only if this try began after a whole `fail_timeout`: a success among
    /// failures must not clear them.
    pub(crate) fn answered(&mut self) {
        if self.accessed_s < self.checked_s {
            self.fails = 0;
        }
    }
}

/// Before any time this process can see, with room to subtract.
const LONG_AGO_S: i64 = i64::MIN / 4;

fn fail_timeout_s(spec: &PeerSpec) -> i64 {
    i64::try_from(spec.fail_timeout_ms / 1000).unwrap_or(i64::MAX / 4)
}

/// Whole seconds since the first call in this process. nginx keeps peer times in whole seconds; which means that
/// `fail_timeout=1s` lasts between one and two.
pub(crate) fn seconds(now: Instant) -> i64 {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    let origin = *ORIGIN.get_or_init(|| now);
    match now.checked_duration_since(origin) {
        Some(since) => since.as_secs() as i64,
        // Before the origin: only a caller with a clock of its own gets here. Round down there too.
        None => -(origin.duration_since(now).as_millis().div_ceil(1000) as i64),
    }
}
