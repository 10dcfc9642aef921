//! System errors in nginx's words.

use std::io;

/// A system error as nginx prints it behind a message: `111: Connection refused`. An error without an errno (made by a
/// library, not the kernel) prints as its own text.
pub fn text(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(errno) => format!("{errno}: {}", words(error)),
        None => error.to_string(),
    }
}

/// The system's own text for an error: std prints `Connection refused (os error 111)`, and the tail is std's.
pub fn words(error: &io::Error) -> String {
    let mut text = error.to_string();
    if error.raw_os_error().is_some()
        && let Some(tail) = text.rfind(" (os error ")
    {
        text.truncate(tail);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(errno: i32, expected: &str) {
        let error = io::Error::from_raw_os_error(errno);
        assert_eq!(text(&error), format!("{errno}: {expected}"));
        assert_eq!(words(&error), expected);
    }

    #[test]
    fn an_errno_reads_as_in_nginx() {
        check(2, "No such file or directory");
        check(11, "Resource temporarily unavailable");
        check(21, "Is a directory");
        check(98, "Address already in use");
        check(104, "Connection reset by peer");
        check(110, "Connection timed out");
        check(111, "Connection refused");
        check(113, "No route to host");
    }

    #[test]
    fn an_error_without_errno_keeps_its_text() {
        assert_eq!(text(&io::Error::other("early eof")), "early eof");
        assert_eq!(words(&io::Error::other("no (os error 1)")), "no (os error 1)");
    }
}
