//! What a request remembers of its upstreams, for variables and the log.

use std::ops::Range;

use http::pool::Buf;
use wire::http1::ResponseHead;

use crate::proxy::pass::Target;

/// The slot.
#[derive(Default)]
pub(crate) struct Upstreamed {
    pub(crate) target: Target,
    /// Where in the request head sent the URI stands.
    pub(crate) uri: Range<usize>,
    /// One entry for every peer tried, over all internal redirects.
    pub(crate) attempts: Vec<AttemptState>,
    /// The last response head, when some variable asks for it.
    pub(crate) head: Option<(ResponseHead, Buf)>,
}

/// One peer tried. Times are milliseconds since the attempt began; `None`: never happened.
#[derive(Clone, Debug, Default)]
pub(crate) struct AttemptState {
    /// `$upstream_addr`: the peer, or the group's name when no peer was live.
    pub(crate) peer: Option<std::sync::Arc<upstream::Peer>>,
    pub(crate) group: Option<std::sync::Arc<str>>,
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
    /// As `$upstream_addr` shows it.
    pub(crate) fn name(&self) -> &str {
        match (&self.peer, &self.group) {
            (Some(peer), _) => &peer.text,
            (None, Some(group)) => group,
            (None, None) => "",
        }
    }
}

impl Upstreamed {
    /// The attempt under way.
    pub(crate) fn now(&mut self) -> &mut AttemptState {
        if self.attempts.is_empty() {
            self.attempts.push(AttemptState::default());
        }
        self.attempts.last_mut().expect("one was pushed if there was none")
    }
}
