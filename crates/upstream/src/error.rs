//! Whose fault a failure is, how loud it is logged, and nginx's way to print an errno.

use std::fmt;
use std::io;

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

/// An I/O error as nginx prints it behind a message: `(111: Connection refused)`.
///
/// An error without an errno (made by a library, not the kernel) prints as `(its own text)`.
pub fn errno_text(error: &io::Error) -> impl fmt::Display + use<> {
    let text = match error.raw_os_error() {
        Some(errno) => format!("({errno}: {})", strerror(errno)),
        None => format!("({error})"),
    };
    Text(text)
}

struct Text(String);

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// libc's words for an errno. std prints `Connection refused (os error 111)`; the tail is std's own.
fn strerror(errno: i32) -> String {
    let mut text = io::Error::from_raw_os_error(errno).to_string();
    if let Some(tail) = text.rfind(" (os error ") {
        text.truncate(tail);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(errno: i32, expected: &str) {
        assert_eq!(errno_text(&io::Error::from_raw_os_error(errno)).to_string(), expected);
    }

    #[test]
    fn errno_prints_as_in_nginx() {
        check(2, "(2: No such file or directory)");
        check(11, "(11: Resource temporarily unavailable)");
        check(98, "(98: Address already in use)");
        check(104, "(104: Connection reset by peer)");
        check(110, "(110: Connection timed out)");
        check(111, "(111: Connection refused)");
        check(113, "(113: No route to host)");
    }

    #[test]
    fn an_error_without_errno_keeps_its_text() {
        assert_eq!(errno_text(&io::Error::other("early eof")).to_string(), "(early eof)");
    }
}
