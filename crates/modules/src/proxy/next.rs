//! `proxy_next_upstream`: which failures send a request to the next peer.

use upstream::Failure;
use wire::http1::Method;

/// The conditions of a `proxy_next_upstream` line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Next(u16);

const BITS: [(&str, u16); 14] = [
    ("error", ERROR),
    ("timeout", TIMEOUT),
    ("invalid_header", INVALID_HEADER),
    ("non_idempotent", NON_IDEMPOTENT),
    ("http_500", 1 << 4),
    ("http_502", 1 << 5),
    ("http_503", 1 << 6),
    ("http_504", 1 << 7),
    ("http_403", 1 << 8),
    ("http_404", 1 << 9),
    ("http_429", 1 << 10),
    // For caches and for upstreams that refuse: nginx takes the words here, too.
    ("updating", 0),
    ("denied", 0),
    ("off", OFF),
];
const ERROR: u16 = 1;
const TIMEOUT: u16 = 1 << 1;
const INVALID_HEADER: u16 = 1 << 2;
const NON_IDEMPOTENT: u16 = 1 << 3;
const OFF: u16 = 1 << 11;

impl Default for Next {
    fn default() -> Next {
        Next(ERROR | TIMEOUT)
    }
}

impl Next {
    /// The words of the lines.
    pub(crate) const NAMES: [&str; 14] = {
        let mut names = [""; 14];
        let mut at = 0;
        while at < names.len() {
            names[at] = BITS[at].0;
            at += 1;
        }
        names
    };

    /// What words mean, given as bits by their places in [`Next::NAMES`].
    pub(crate) fn of(words: u32) -> Next {
        let chosen = BITS.iter().enumerate().filter(|(at, _)| words & 1 << at != 0);
        let mask = chosen.fold(0, |mask, (_, (_, bit))| mask | bit);
        Next(if mask & OFF != 0 { 0 } else { mask })
    }

    /// Whether this failure may be tried on another peer, given the method and whether something was sent.
    pub(crate) fn allows(self, failure: Failure, method: Method, was_sent: bool) -> bool {
        let mut mask = bit(failure);
        if was_sent && matches!(method, Method::Post | Method::Lock | Method::Patch) {
            mask |= NON_IDEMPOTENT;
        }
        mask != 0 && self.0 & mask == mask
    }
}

fn bit(failure: Failure) -> u16 {
    match failure {
        Failure::Error | Failure::Ours => ERROR,
        Failure::Timeout => TIMEOUT,
        Failure::InvalidHeader => INVALID_HEADER,
        Failure::Status(status) => {
            let name = format!("http_{status}");
            BITS.iter().find(|(have, _)| *have == name).map_or(0, |(_, bit)| *bit)
        }
    }
}

/// What the client is told when no other peer is tried.
pub(crate) fn status_of(failure: Failure) -> u16 {
    match failure {
        Failure::Timeout => 504,
        Failure::Status(status) => status,
        Failure::Error | Failure::InvalidHeader | Failure::Ours => 502,
    }
}

/// Whether `proxy_next_upstream` has a word for this status.
pub(crate) fn is_named(status: u16) -> bool {
    matches!(status, 403 | 404 | 429 | 500 | 502 | 503 | 504)
}
