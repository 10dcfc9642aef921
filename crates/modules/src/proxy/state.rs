//! What a request remembers of its upstreams, for variables and the log.

use std::ops::Range;
use std::sync::Arc;

use http::pool::Buf;
use sys::clock::monotonic_ms;
use wire::http1::ResponseHead;

use crate::proxy::pass::Target;

/// The slot.
#[derive(Default)]
pub(crate) struct Upstreamed {
    pub(crate) target: Option<Arc<Target>>,
    /// Where in the request head sent the URI stands.
    pub(crate) uri: Range<usize>,
    /// One entry for every peer tried, over all internal redirects.
    pub(crate) attempts: Attempts,
    /// The last response head, when some variable asks for it.
    pub(crate) head: Option<(ResponseHead, Buf)>,
}

/// One peer tried. Times are milliseconds since the attempt began; `None`: never happened.
#[derive(Clone, Debug, Default)]
pub(crate) struct AttemptState {
    /// `$upstream_addr`: the peer, or the group's name when no peer was live.
    pub(crate) peer: Option<Arc<upstream::Peer>>,
    pub(crate) group: Option<Arc<str>>,
    /// The first attempt behind an internal redirect.
    pub(crate) after_redirect: bool,
    pub(crate) status: u16,
    pub(crate) started_ms: u64,
    pub(crate) connect_ms: Option<u64>,
    pub(crate) header_ms: Option<u64>,
    pub(crate) response_ms: Option<u64>,
    pub(crate) response_length: u64,
    pub(crate) received: u64,
    pub(crate) sent: u64,
}

impl AttemptState {
    /// Milliseconds since it began.
    pub(crate) fn since_start(&self) -> u64 {
        monotonic_ms().saturating_sub(self.started_ms)
    }

    /// As `$upstream_addr` shows it.
    pub(crate) fn name(&self) -> &str {
        match (&self.peer, &self.group) {
            (Some(peer), _) => &peer.text,
            (None, Some(group)) => group,
            (None, None) => "",
        }
    }
}

/// Attempts in order. One is the rule, and needs no list.
#[derive(Default)]
pub(crate) struct Attempts {
    first: Option<AttemptState>,
    more: Vec<AttemptState>,
}

impl Attempts {
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &AttemptState> {
        self.first.iter().chain(&self.more)
    }

    pub(crate) fn last(&self) -> Option<&AttemptState> {
        self.more.last().or(self.first.as_ref())
    }

    pub(crate) fn push(&mut self, attempt: AttemptState) {
        match self.first {
            None => self.first = Some(attempt),
            Some(_) => self.more.push(attempt),
        }
    }
}

impl Upstreamed {
    /// The attempt under way.
    pub(crate) fn now(&mut self) -> &mut AttemptState {
        match self.attempts.more.last_mut() {
            Some(last) => last,
            None => self.attempts.first.get_or_insert_default(),
        }
    }
}
