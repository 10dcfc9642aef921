//! Whose fault a failure is and how loud it is logged.

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

/// The level of nginx's error log a failure is written at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// `[warn]`
    Warn,
    /// `[error]`
    Error,
    /// `[crit]`
    Crit,
    /// `[alert]`
    Alert,
}
