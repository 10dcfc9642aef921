//! What failed, and whose fault it is.

/// Whose fault a failure is. Retry, log level and peer health follow from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The client went away or sent nonsense.
    Client,
    /// The peer refused, timed out or answered nonsense.
    Upstream,
    /// We ran out of descriptors, ports or memory, or a configured local address is not ours.
    Us,
}

/// Why an attempt on a peer did not give the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// Connect, read or write failed, or the peer closed early.
    Error,
    /// Connect, read or write took too long.
    Timeout,
    /// The response head made no sense.
    InvalidHeader,
    /// A status that `proxy_next_upstream` names.
    Status(u16),
    /// Our own failure (no descriptor, no local port): says nothing of the peer.
    Ours,
}

impl Failure {
    /// Whether the peer's health suffers. A 403 or 404 sends the request on but is an answer; so it is in nginx.
    pub fn counts(self) -> bool {
        !matches!(self, Failure::Status(403 | 404) | Failure::Ours)
    }

    /// Whose fault it is.
    pub fn blame(self) -> Blame {
        match self {
            Failure::Ours => Blame::Us,
            _ => Blame::Upstream,
        }
    }
}
