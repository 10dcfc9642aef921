//! The texts nginx writes the time in, made once a second per thread.

use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

pub use sys::clock::{monotonic_ms, unix_ms};

/// Calls `f` with the `Date` header's value, 29 bytes (RFC 9110, 5.6.7).
pub fn with_http_date<R>(f: impl FnOnce(&[u8]) -> R) -> R {
    with_texts(|texts| f(&texts.http))
}

/// Calls `f` with `$time_local`: `23/Nov/2026:01:15:45 +0000`.
pub fn with_local<R>(f: impl FnOnce(&[u8]) -> R) -> R {
    with_texts(|texts| f(&texts.local))
}

/// Calls `f` with `$time_iso8601`: `2026-11-23T01:15:45+00:00`.
pub fn with_iso8601<R>(f: impl FnOnce(&[u8]) -> R) -> R {
    with_texts(|texts| f(&texts.iso8601))
}

/// Calls `f` with the error log's time: `2026/11/23 01:15:45`.
pub fn with_error_log<R>(f: impl FnOnce(&[u8]) -> R) -> R {
    with_texts(|texts| f(&texts.error_log))
}

/// A time as an HTTP date.
pub fn http_date(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    http_text(&Civil::of(i64::try_from(seconds).unwrap_or_default()))
}

/// Seconds since 1970 of an HTTP date in any of its three forms (RFC 9110, 5.6.7).
pub fn parse_http_date(text: &[u8]) -> Option<u64> {
    let after_day_name = text.iter().position(|byte| matches!(byte, b',' | b' '))?;
    let is_ctime = text[after_day_name] == b' ';
    let mut rest = text[after_day_name + 1..].trim_ascii_start();
    let rest = &mut rest;
    let (day, month, year, time);
    if is_ctime {
        // Sun Nov  6 08:49:37 1994
        month = month_number(rest)?;
        skip(rest, b' ')?;
        let digits = if skip(rest, b' ').is_some() || rest.get(1) == Some(&b' ') { 1 } else { 2 };
        day = number(rest, digits)?;
        time = time_of_day(rest)?;
        skip(rest, b' ')?;
        year = number(rest, 4)?;
    } else {
        // Sun, 06 Nov 1994 08:49:37 GMT or Sunday, 06-Nov-94 08:49:37 GMT
        day = number(rest, 2)?;
        let is_short = skip(rest, b' ').is_none();
        let between = if is_short { b'-' } else { b' ' };
        if is_short {
            skip(rest, between)?;
        }
        month = month_number(rest)?;
        skip(rest, between)?;
        year = match is_short {
            true => number(rest, 2).map(|year| year + if year < 70 { 2000 } else { 1900 })?,
            false => number(rest, 4)?,
        };
        time = time_of_day(rest)?;
    }
    if !(1..=31).contains(&day) || year < 1970 {
        return None;
    }
    // Days from 1 March 0000, the inverse of `Civil::of`.
    let (year, month) = if month < 2 { (year - 1, month + 10) } else { (year, month - 2) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    u64::try_from(days * 86_400 + time).ok()
}

fn month_number(rest: &mut &[u8]) -> Option<i64> {
    let (name, behind) = rest.split_at_checked(3)?;
    *rest = behind;
    i64::try_from(MONTHS.iter().position(|have| have.as_bytes() == name)?).ok()
}

/// ` 08:49:37`, in seconds.
fn time_of_day(rest: &mut &[u8]) -> Option<i64> {
    let mut sum = 0;
    for (before, limit) in [(b' ', 24), (b':', 60), (b':', 60)] {
        skip(rest, before)?;
        sum = sum * 60 + number(rest, 2).filter(|part| *part < limit)?;
    }
    Some(sum)
}

fn number(rest: &mut &[u8], digits: usize) -> Option<i64> {
    let (digits, behind) = rest.split_at_checked(digits)?;
    *rest = behind;
    digits.iter().try_fold(0, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + i64::from(digit - b'0')))
}

fn skip(rest: &mut &[u8], byte: u8) -> Option<()> {
    *rest = rest.strip_prefix(&[byte])?;
    Some(())
}

#[derive(Default)]
struct Texts {
    second: u64,
    http: Vec<u8>,
    local: Vec<u8>,
    iso8601: Vec<u8>,
    error_log: Vec<u8>,
}

thread_local! {
    static TEXTS: RefCell<Texts> = RefCell::default();
}

fn with_texts<R>(f: impl FnOnce(&Texts) -> R) -> R {
    let second = unix_ms() / 1000;
    TEXTS.with_borrow_mut(|texts| {
        if texts.second != second || texts.http.is_empty() {
            texts.write(second);
        }
        f(texts)
    })
}

impl Texts {
    fn write(&mut self, second: u64) {
        let second_i = i64::try_from(second).unwrap_or_default();
        let offset = local_offset(second_i);
        let (utc, local) = (Civil::of(second_i), Civil::of(second_i + offset));
        let (sign, minutes) = (if offset < 0 { '-' } else { '+' }, offset.abs() / 60);
        let (hh, mm) = (minutes / 60, minutes % 60);
        let c = &local;
        self.second = second;
        self.http = http_text(&utc).into_bytes();
        self.local = format!(
            "{:02}/{}/{}:{:02}:{:02}:{:02} {sign}{hh:02}{mm:02}",
            c.day, MONTHS[c.month], c.year, c.hour, c.minute, c.second
        )
        .into_bytes();
        self.iso8601 = format!(
            "{}-{:02}-{:02}T{:02}:{:02}:{:02}{sign}{hh:02}:{mm:02}",
            c.year,
            c.month + 1,
            c.day,
            c.hour,
            c.minute,
            c.second
        )
        .into_bytes();
        self.error_log = format!(
            "{}/{:02}/{:02} {:02}:{:02}:{:02}",
            c.year,
            c.month + 1,
            c.day,
            c.hour,
            c.minute,
            c.second
        )
        .into_bytes();
    }
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

fn http_text(c: &Civil) -> String {
    format!(
        "{}, {:02} {} {} {:02}:{:02}:{:02} GMT",
        DAYS[c.weekday], c.day, MONTHS[c.month], c.year, c.hour, c.minute, c.second
    )
}

struct Civil {
    year: i64,
    /// 0 is January.
    month: usize,
    day: i64,
    weekday: usize,
    hour: i64,
    minute: i64,
    second: i64,
}

impl Civil {
    /// The Gregorian calendar date of a count of seconds since 1970, by era arithmetic on days from 1 March 0000.
    fn of(seconds: i64) -> Civil {
        let days = seconds.div_euclid(86_400);
        let time = seconds.rem_euclid(86_400);
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let month = (month_from_march + 2) % 12;
        Civil {
            year: year_of_era + era * 400 + i64::from(month < 2),
            month: usize::try_from(month).unwrap_or_default(),
            day: day_of_year - (153 * month_from_march + 2) / 5 + 1,
            weekday: usize::try_from((days + 4).rem_euclid(7)).unwrap_or_default(),
            hour: time / 3600,
            minute: time / 60 % 60,
            second: time % 60,
        }
    }
}

/// Seconds east of UTC. `TZ` and /etc/localtime need the C library; the serving process runs in UTC unless the
/// monitor handed an offset over with [`set_local_offset`].
fn local_offset(_second: i64) -> i64 {
    OFFSET.load(std::sync::atomic::Ordering::Relaxed)
}

static OFFSET: std::sync::atomic::AtomicI64 = std::sync::atomic::AtomicI64::new(0);

/// Sets the zone of `$time_local` and the error log, in seconds east of UTC.
pub fn set_local_offset(seconds: i64) {
    OFFSET.store(seconds, std::sync::atomic::Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn dates_of_known_seconds() {
        let check = |seconds: u64, text: &str| {
            assert_eq!(http_date(UNIX_EPOCH + Duration::from_secs(seconds)), text);
            assert_eq!(parse_http_date(text.as_bytes()), Some(seconds), "{text}");
        };
        check(0, "Thu, 01 Jan 1970 00:00:00 GMT");
        check(784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT");
        check(951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT");
        check(1_795_396_545, "Mon, 23 Nov 2026 01:15:45 GMT");
        check(4_107_542_399, "Sun, 28 Feb 2100 23:59:59 GMT");
    }

    #[test]
    fn dates_in_their_old_forms() {
        let check = |text: &str, seconds: Option<u64>| {
            assert_eq!(parse_http_date(text.as_bytes()), seconds, "{text}");
        };
        check("Sunday, 06-Nov-94 08:49:37 GMT", Some(784_111_777));
        check("Sun Nov  6 08:49:37 1994", Some(784_111_777));
        check("", None);
        check("yesterday", None);
        check("Sun, 06 Nov 1994 25:49:37 GMT", None);
        check("Sun, 06 Foo 1994 08:49:37 GMT", None);
        check("Sun, 06 Nov 99999999999999 08:49:37 GMT", None);
    }
}
