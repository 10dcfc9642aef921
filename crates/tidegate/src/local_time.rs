//! The zone that log lines are written in.
//!
//! `http` knows only an offset; the zone's rules (`TZ`, `/etc/localtime`) are looked up here, in both processes, and
//! again when they may have changed the offset.

use std::time::Duration;

use jiff::Zoned;

/// Zones change their offset on a quarter of an hour, everywhere and so far always.
const QUARTER_S: u64 = 15 * 60;

/// Write lines in the local time of now.
pub fn set() {
    http::clock::set_local_offset(i64::from(Zoned::now().offset().seconds()));
}

/// How long until the offset may change.
pub fn until_change() -> Duration {
    until_quarter(http::clock::unix_ms())
}

fn until_quarter(unix_ms: u64) -> Duration {
    let quarter_ms = QUARTER_S * 1000;
    Duration::from_millis(quarter_ms - unix_ms % quarter_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_is_never_more_than_a_quarter_away() {
        assert_eq!(until_quarter(0), Duration::from_secs(QUARTER_S));
        assert_eq!(until_quarter(QUARTER_S * 1000 - 1), Duration::from_millis(1));
    }
}
