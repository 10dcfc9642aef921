//! Values as nginx writes them: sizes, times, numbers. Each function answers `None` for what nginx calls invalid.

/// nginx counts in signed 64 bits.
const MAX: u64 = i64::MAX as u64;

/// A size in bytes: digits, then nothing, `k` or `m` of either case.
pub fn size(text: &[u8]) -> Option<u64> {
    scaled(text, false)
}

/// A size or position in a file, in bytes: as [`size`], and also `g`.
pub fn offset(text: &[u8]) -> Option<u64> {
    scaled(text, true)
}

/// A time in milliseconds: `w d h m s ms` in this order, each at most once; without a unit, seconds.
///
/// Months and years are no millisecond times, as in nginx.
pub fn time_ms(text: &[u8]) -> Option<u64> {
    time(text, false)
}

/// A time in seconds: `y M w d h m s` in this order, each at most once; without a unit, seconds. No `ms`.
pub fn time_s(text: &[u8]) -> Option<u64> {
    time(text, true)
}

/// A number: one or more digits.
pub fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |total, &byte| push_digit(total, byte))
}

fn push_digit(value: u64, byte: u8) -> Option<u64> {
    let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
    value.checked_mul(10)?.checked_add(digit).filter(|&value| value <= MAX)
}

fn scaled(text: &[u8], giga: bool) -> Option<u64> {
    let (&unit, digits) = text.split_last()?;
    let (digits, scale) = match unit {
        b'K' | b'k' => (digits, 1 << 10),
        b'M' | b'm' => (digits, 1 << 20),
        b'G' | b'g' if giga => (digits, 1 << 30),
        _ => (text, 1),
    };
    number(digits)?.checked_mul(scale).filter(|&value| value <= MAX)
}

/// Units from the largest to the smallest; each may only follow a larger one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Unit {
    Start,
    Year,
    Month,
    Week,
    Day,
    Hour,
    Minute,
    Second,
    Millisecond,
    /// After a blank, which ends a number without a unit.
    Last,
}

fn time(text: &[u8], seconds: bool) -> Option<u64> {
    let mut value = 0u64;
    let mut total = 0u64;
    let mut digits_seen = false;
    // Starting "after month" is how nginx keeps years and months out of millisecond times.
    let mut before = if seconds { Unit::Start } else { Unit::Month };
    let mut rest = text;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        if byte.is_ascii_digit() {
            value = push_digit(value, *byte)?;
            digits_seen = true;
            continue;
        }
        let (unit, scale) = match byte {
            b'y' => (Unit::Year, 365 * 86_400),
            b'M' => (Unit::Month, 30 * 86_400),
            b'w' => (Unit::Week, 7 * 86_400),
            b'd' => (Unit::Day, 86_400),
            b'h' => (Unit::Hour, 3_600),
            b'm' if rest.first() == Some(&b's') => (Unit::Millisecond, 1),
            b'm' => (Unit::Minute, 60),
            b's' => (Unit::Second, 1),
            b' ' => (Unit::Last, 1),
            _ => return None,
        };
        let allowed = match unit {
            Unit::Millisecond => !seconds && before < unit,
            Unit::Last => before < Unit::Second,
            _ => before < unit,
        };
        if !allowed {
            return None;
        }
        before = unit;
        if unit == Unit::Millisecond {
            rest = &rest[1..];
        }
        let scale = if seconds || unit == Unit::Millisecond { scale } else { scale * 1000 };
        total = add(total, value, scale)?;
        value = 0;
        rest = skip_blanks(rest);
    }
    let scale = if seconds { 1 } else { 1000 };
    if digits_seen { add(total, value, scale) } else { None }
}

fn add(total: u64, value: u64, scale: u64) -> Option<u64> {
    value.checked_mul(scale)?.checked_add(total).filter(|&sum| sum <= MAX)
}

fn skip_blanks(text: &[u8]) -> &[u8] {
    let blanks = text.iter().take_while(|&&byte| byte == b' ').count();
    &text[blanks..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(parse: fn(&[u8]) -> Option<u64>, rows: &[(&str, Option<u64>)]) {
        for (text, expected) in rows {
            assert_eq!(parse(text.as_bytes()), *expected, "{text:?}");
        }
    }

    #[test]
    fn sizes() {
        check(
            size,
            &[
                ("0", Some(0)),
                ("1024", Some(1024)),
                ("8k", Some(8192)),
                ("8K", Some(8192)),
                ("2m", Some(2 << 20)),
                ("2M", Some(2 << 20)),
                ("1g", None),
                ("", None),
                ("k", None),
                ("-1", None),
                ("+1", None),
                ("1 k", None),
                ("1kb", None),
                ("1.5m", None),
                ("9223372036854775807", Some(i64::MAX as u64)),
                ("9223372036854775808", None),
                ("99999999999999999999", None),
                ("9007199254740991k", Some(9007199254740991 << 10)),
                ("9007199254740992k", None),
            ],
        );
        check(
            offset,
            &[("1g", Some(1 << 30)), ("1G", Some(1 << 30)), ("8589934591g", Some(8589934591 << 30))],
        );
        check(offset, &[("8589934592g", None), ("g", None), ("1t", None), ("7k", Some(7168))]);
    }

    #[test]
    fn numbers() {
        check(
            number,
            &[("0", Some(0)), ("007", Some(7)), ("", None), ("1k", None), ("-1", None), (" 1", None)],
        );
        check(number, &[("9223372036854775807", Some(i64::MAX as u64)), ("9223372036854775808", None)]);
    }

    #[test]
    fn times() {
        const DAY: u64 = 86_400;
        check(
            time_s,
            &[
                ("30", Some(30)),
                ("30s", Some(30)),
                ("5m", Some(300)),
                ("1h30m", Some(5400)),
                ("1h 30m", Some(5400)),
                ("1d12h", Some(DAY + DAY / 2)),
                ("1y", Some(365 * DAY)),
                ("1M", Some(30 * DAY)),
                ("1y1M1w1d1h1m1s", Some((365 + 30 + 7 + 1) * DAY + 3661)),
                ("1m30", Some(90)),
                ("1m 30", Some(90)),
                ("1 ", Some(1)),
                ("h", None),
                ("h1", Some(1)),
                ("", None),
                (" ", None),
                ("1s1", Some(2)),
                ("1s1s", None),
                ("1m1h", None),
                ("1s 1m", None),
                ("500ms", None),
                ("1.5s", None),
                ("-1", None),
                ("1x", None),
                ("1D", None),
                ("9223372036854775807", Some(i64::MAX as u64)),
                ("9223372036854775808", None),
                ("9223372036854775807s1", None),
                ("292471208678y", None),
            ],
        );
        check(
            time_ms,
            &[
                ("30", Some(30_000)),
                ("500ms", Some(500)),
                ("1s500ms", Some(1500)),
                ("1500ms", Some(1500)),
                ("1m30s", Some(90_000)),
                ("1w", Some(7 * DAY * 1000)),
                ("1M", None),
                ("1y", None),
                ("1ms1s", None),
                ("1ms1ms", None),
                ("1ms 1", Some(1001)),
                ("0", Some(0)),
                ("9223372036854775s", Some(9_223_372_036_854_775_000)),
                ("9223372036854776s", None),
                ("9223372036854775807ms", Some(i64::MAX as u64)),
            ],
        );
    }
}
