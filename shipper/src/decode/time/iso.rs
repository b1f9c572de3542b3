//! Dates and times in the order of ISO 8601, as programs write them.

use chrono::{FixedOffset, NaiveDate, NaiveDateTime, NaiveTime};

/// Reads `YYYY-MM-DD` (or with slashes), then, after a `T` or blank, `HH:MM[:SS[.fraction]]` with a comma as well, then
/// an offset, with or without a blank before it, where there is one.
pub(super) fn parse(text: &str) -> Option<(NaiveDateTime, Option<FixedOffset>)> {
    let mut rest = text;
    let year = number(&mut rest, 4)?;
    let separator = take(&mut rest, &['-', '/'])?;
    let month = number(&mut rest, 2)?;
    take(&mut rest, &[separator])?;
    let day = NaiveDate::from_ymd_opt(year as i32, month, number(&mut rest, 2)?)?;
    if rest.is_empty() {
        return Some((day.and_time(NaiveTime::MIN), None));
    }
    take(&mut rest, &['T', 't', ' '])?;
    let hour = number(&mut rest, 2)?;
    take(&mut rest, &[':'])?;
    let minute = number(&mut rest, 2)?;
    let (mut second, mut nanosecond) = (0, 0);
    if take(&mut rest, &[':']).is_some() {
        second = number(&mut rest, 2)?;
        if take(&mut rest, &['.', ',']).is_some() {
            nanosecond = fraction(&mut rest)?;
        }
    }
    // chrono has a leap second in the nanoseconds of the one before it.
    let (second, leap) = if second == 60 { (59, 1_000_000_000) } else { (second, 0) };
    let time = NaiveTime::from_hms_nano_opt(hour, minute, second, nanosecond + leap)?;
    let zone = rest.strip_prefix(' ').unwrap_or(rest);
    let offset = if zone.is_empty() { None } else { Some(offset(zone)?) };
    Some((day.and_time(time), offset))
}

/// Reads `Z`, `UTC`, `+01`, `+0100`, `+01:00`; Go repeats UTC behind that.
pub(super) fn offset(text: &str) -> Option<FixedOffset> {
    let text = text.strip_suffix(" UTC").unwrap_or(text);
    if matches!(text, "Z" | "z" | "UTC" | "GMT") {
        return FixedOffset::east_opt(0);
    }
    let mut rest = text;
    let sign = if take(&mut rest, &['+', '-'])? == '-' { -1 } else { 1 };
    let hours = number(&mut rest, 2)? as i32;
    let mut minutes = 0;
    if !rest.is_empty() {
        let _ = take(&mut rest, &[':']);
        minutes = number(&mut rest, 2)? as i32;
    }
    let is_valid = rest.is_empty() && minutes < 60;
    is_valid.then(|| FixedOffset::east_opt(sign * (hours * 3600 + minutes * 60))).flatten()
}

/// Takes so many digits.
fn number(rest: &mut &str, digits: usize) -> Option<u32> {
    let taken = rest.get(..digits).filter(|taken| taken.bytes().all(|byte| byte.is_ascii_digit()))?;
    *rest = &rest[digits..];
    taken.parse().ok()
}

/// Takes all digits there are, at least one: nanoseconds, finer ones cut.
fn fraction(rest: &mut &str) -> Option<u32> {
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let taken = &rest[..digits.min(9)];
    *rest = &rest[digits..];
    let number: u32 = taken.parse().ok()?;
    Some(number * 10_u32.pow(9 - taken.len() as u32))
}

fn take(rest: &mut &str, one_of: &[char]) -> Option<char> {
    let taken = rest.chars().next().filter(|taken| one_of.contains(taken))?;
    *rest = &rest[taken.len_utf8()..];
    Some(taken)
}
