//! Times of foreign rows.

mod iso;

use std::sync::Arc;

use chrono::format::{Item, Parsed, StrftimeItems, parse};
use chrono::{DateTime, Datelike, FixedOffset, NaiveDateTime, NaiveTime, SecondsFormat, TimeDelta, Utc};
use jiff::tz::TimeZone;

/// How the rows of an input write their times: the zone of those without an offset, and a format of their own.
#[derive(Debug, Clone, Default)]
pub struct Times {
    /// Absent: UTC.
    zone: Option<TimeZone>,
    format: Option<Arc<str>>,
}

/// Why [`Times`] can't be as they were asked for.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimesError {
    #[error("'{0}' is no time zone; it takes a name such as Europe/Berlin, or an offset such as +01:00")]
    Zone(String),
    #[error(
        "'{0}': it takes what strftime does, such as '%d/%b/%Y:%H:%M:%S %z', a year, month and day among it"
    )]
    Format(String),
}

impl Times {
    /// Times without an offset are of the time zone `zone`: a name of the IANA, or an offset such as `+01:00`. With a
    /// `format` (strftime's) times are read by it alone.
    ///
    /// # Errors
    /// When there is no such zone, or the format is none or leaves open which day it is.
    pub fn new(zone: Option<&str>, format: Option<&str>) -> Result<Times, TimesError> {
        let times = Times { zone: zone.map(find_zone).transpose()?, format: format.map(Into::into) };
        match format {
            Some(format) if !times.reads_what_it_writes(format) => Err(TimesError::Format(format.into())),
            _ => Ok(times),
        }
    }

    /// For times that may be any column's: the format is that of one.
    pub(crate) fn without_format(&self) -> Times {
        Times { zone: self.zone.clone(), format: None }
    }

    pub(super) fn have_format(&self) -> bool {
        self.format.is_some()
    }

    fn reads_what_it_writes(&self, format: &str) -> bool {
        use std::fmt::Write;
        let mut text = String::new();
        // The day has to come out, whatever the zone.
        let sample = DateTime::from_timestamp(1_795_262_400, 0).unwrap_or_default();
        let valid = StrftimeItems::new(format).all(|item| !matches!(item, Item::Error));
        valid
            && write!(text, "{}", sample.format(format)).is_ok()
            && self.read(&text).is_some_and(|read| (read - sample).abs() < TimeDelta::days(1))
    }

    /// What a text says; `None` where it is no time, or one before the year 0 or after 9999.
    pub(super) fn read(&self, text: &str) -> Option<DateTime<Utc>> {
        let text = text.trim_ascii();
        let time = match &self.format {
            Some(format) => self.read_by(format, text),
            None => from_number(text).or_else(|| self.utc(iso::parse(text)?)),
        };
        time.map(without_leap_second).filter(|time| (0..=9999).contains(&time.year()))
    }

    fn read_by(&self, format: &str, text: &str) -> Option<DateTime<Utc>> {
        let mut parsed = Parsed::new();
        parse(&mut parsed, text, StrftimeItems::new(format)).ok()?;
        if let Ok(time) = parsed.to_datetime() {
            return Some(time.to_utc());
        }
        let midnight = || parsed.to_naive_date().ok().map(|day| day.and_time(NaiveTime::MIN));
        let has_hour = parsed.hour_mod_12().is_some();
        let local = if has_hour || parsed.timestamp().is_some() {
            parsed.to_naive_datetime_with_offset(0).ok()?
        } else {
            midnight()?
        };
        // Seconds since the epoch are of no zone.
        let offset = parsed.timestamp().and(FixedOffset::east_opt(0));
        self.utc((local, offset))
    }

    fn utc(&self, (local, offset): (NaiveDateTime, Option<FixedOffset>)) -> Option<DateTime<Utc>> {
        match (offset, &self.zone) {
            (Some(offset), _) => local.and_local_timezone(offset).single().map(|time| time.to_utc()),
            (None, None) => Some(local.and_utc()),
            (None, Some(zone)) => in_zone(local, zone),
        }
    }
}

fn find_zone(name: &str) -> Result<TimeZone, TimesError> {
    let fixed =
        || Some(TimeZone::fixed(jiff::tz::Offset::from_seconds(iso::offset(name)?.local_minus_utc()).ok()?));
    // An empty name would be found.
    let known = if name.is_empty() { None } else { TimeZone::get(name).ok() };
    known.or_else(fixed).ok_or_else(|| TimesError::Zone(name.to_owned()))
}

/// Where clocks are set back, the first of both; where they are set forward, what was skipped goes on by the clock
/// that was left.
fn in_zone(local: NaiveDateTime, zone: &TimeZone) -> Option<DateTime<Utc>> {
    // The offset is that of the second; what it has of fractions, and a leap second, is chrono's.
    let (whole, seconds) = (local.and_utc(), local.and_utc().timestamp());
    let civil = jiff::tz::Offset::UTC.to_datetime(jiff::Timestamp::from_second(seconds).ok()?);
    let utc = zone.to_ambiguous_timestamp(civil).compatible().ok()?;
    whole.checked_add_signed(TimeDelta::seconds(utc.as_second() - seconds))
}

/// The sinks know no second 60: it is the first of the minute that follows, as clocks of computers have it.
fn without_leap_second(time: DateTime<Utc>) -> DateTime<Utc> {
    let over = time.timestamp_subsec_nanos().saturating_sub(999_999_999);
    match over {
        0 => time,
        _ => DateTime::from_timestamp(time.timestamp() + 1, over - 1).unwrap_or(time),
    }
}

/// Reads a decimal number of seconds, milliseconds, microseconds or nanoseconds since the epoch: each up to the year
/// 5138, where the smaller unit begins in 1973.
fn from_number(text: &str) -> Option<DateTime<Utc>> {
    const SECONDS_LIMIT: u128 = 100_000_000_000;
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (digits, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    // As many digits as no double has are no time, and would overflow below.
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) || mantissa.len() > 30 {
        return None;
    }
    // Exactly, in units of 10^scale: doubles hold microseconds of today at best.
    let number: u128 = format!("{whole}{fraction}").parse().ok()?;
    let scale = exponent.checked_sub(fraction.len() as i32)?;
    let times = |number: u128, power: i32| match (number, power) {
        (0, _) | (_, ..-38) => Some(0),
        (_, ..0) => Some(number / 10_u128.pow(power.unsigned_abs())),
        _ => number.checked_mul(10_u128.checked_pow(power.unsigned_abs())?),
    };
    let size = times(number, scale)?;
    let unit = (0..4).find(|unit| size < SECONDS_LIMIT * 1000_u128.pow(*unit))?;
    let nanoseconds = times(number, scale.checked_add(9 - 3 * unit as i32)?)?;
    let nanoseconds = i128::try_from(nanoseconds).ok().map(|all| if negative { -all } else { all })?;
    let (seconds, rest) = (nanoseconds.div_euclid(1_000_000_000), nanoseconds.rem_euclid(1_000_000_000));
    DateTime::from_timestamp(seconds.try_into().ok()?, rest.try_into().ok()?)
}

/// Whether a text stands for no time: the row happened at the time of reading then.
pub(super) fn is_absent(text: &str) -> bool {
    let text = text.trim_ascii();
    text.is_empty() || text.eq_ignore_ascii_case("null")
}

/// Whether a JSON value is a time as both sinks read it, so that it can stay: RFC 3339 with capital letters, nanoseconds
/// at most, and no leap second. Not whether there is such a day.
pub(super) fn is_rfc_3339(json: &str) -> bool {
    let digits = |bytes: &[u8], shape: &[u8]| {
        bytes
            .iter()
            .zip(shape)
            .all(|(byte, shape)| if *shape == b'0' { byte.is_ascii_digit() } else { byte == shape })
    };
    let Some((second, rest)) = json.as_bytes().split_at_checked(20) else { return false };
    if !digits(second, b"\"0000-00-00T00:00:00") || second[18] == b'6' {
        return false;
    }
    let fraction = match rest.strip_prefix(b".") {
        Some(rest) => 1 + rest.iter().take_while(|byte| byte.is_ascii_digit()).count(),
        None => 0,
    };
    match &rest[fraction..] {
        b"Z\"" => fraction != 1 && fraction <= 10,
        offset if offset.len() == 7 => {
            fraction != 1 && fraction <= 10 && (digits(offset, b"+00:00\"") || digits(offset, b"-00:00\""))
        }
        _ => false,
    }
}

/// RFC 3339 in UTC, as Elasticsearch's default date format reads it.
pub(super) fn render(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

#[cfg(test)]
mod tests {
    use super::{Times, TimesError, render};

    fn read(zone: Option<&str>, format: Option<&str>, text: &str) -> Option<String> {
        Times::new(zone, format).unwrap().read(text).map(render)
    }

    #[test]
    fn the_usual_ways_to_write_a_time_mean_the_same() {
        for text in [
            "2026-11-21T01:45:26.5Z",
            "2026-11-21t01:45:26.5z",
            "2026-11-21T02:45:26.500+01:00",
            "2026-11-21T02:45:26.500+0100",
            "2026-11-21T02:45:26.500+01",
            "2026-11-20T20:15:26.5-0530",
            "2026-11-21T01:45:26.5-00:00",
            "2026-11-21 01:45:26.5",
            "2026-11-21 01:45:26,500",
            "2026-11-21T01:45:26.5",
            "2026-11-21 02:45:26.5 +0100",
            "2026-11-21 02:45:26.5 +01:00",
            "2026-11-21 01:45:26.500000000 +0000 UTC",
            "2026-11-21 01:45:26.5 UTC",
            "2026-11-21 01:45:26.5 GMT",
            "2026/11/21 01:45:26.5",
            " 2026-11-21T01:45:26.5Z ",
            "1795225526.5",
            "+1795225526.5",
            "1795225526500",
            "1795225526500.0",
            "1795225526500000",
            "1795225526500000000",
            "1.7952255265E9",
            "1.7952255265e+12",
            "17952255265e-1",
        ] {
            assert_eq!(read(None, None, text).as_deref(), Some("2026-11-21T01:45:26.500Z"), "{text}");
        }
    }

    #[test]
    fn each_unit_of_numbers_is_told_by_its_size() {
        for (text, time) in [
            ("0", "1970-01-01T00:00:00Z"),
            ("-1", "1969-12-31T23:59:59Z"),
            ("-0.25", "1969-12-31T23:59:59.750Z"),
            ("99999999999", "5138-11-16T09:46:39Z"),
            ("100000000000", "1973-03-03T09:46:40Z"),
            ("99999999999999", "5138-11-16T09:46:39.999Z"),
            ("100000000000000", "1973-03-03T09:46:40Z"),
            ("99999999999999999", "5138-11-16T09:46:39.999999Z"),
            ("100000000000000000", "1973-03-03T09:46:40Z"),
            ("99999999999999999999", "5138-11-16T09:46:39.999999999Z"),
            ("1795225526.123456789", "2026-11-21T01:45:26.123456789Z"),
            ("1795225526123456789", "2026-11-21T01:45:26.123456789Z"),
            ("1795225526123456.789", "2026-11-21T01:45:26.123456789Z"),
            ("1795225526.12345678999", "2026-11-21T01:45:26.123456789Z"),
        ] {
            assert_eq!(read(None, None, text).as_deref(), Some(time), "{text}");
        }
    }

    #[test]
    fn odd_times_are_told_as_they_are_meant() {
        for (text, time) in [
            ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z"),
            ("2016-12-31T23:59:60.25Z", "2017-01-01T00:00:00.250Z"),
            ("2017-01-01T00:59:60+01:00", "2017-01-01T00:00:00Z"),
            ("2026-11-21", "2026-11-21T00:00:00Z"),
            ("2026-11-21T01:45", "2026-11-21T01:45:00Z"),
            ("2026-11-21 01:45Z", "2026-11-21T01:45:00Z"),
            ("2026-11-21T01:45:26.123456789123Z", "2026-11-21T01:45:26.123456789Z"),
            ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00Z"),
            ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(read(None, None, text).as_deref(), Some(time), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "yesterday",
            "NaN",
            "inf",
            "1e300",
            "1e-",
            "-",
            ".5",
            "0x10",
            "100000000000000000000",
            "1_000",
            "2026-13-01T00:00:00Z",
            "2026-02-30",
            "2026-11-21T25:00:00Z",
            "2026-11-21T01:61:00Z",
            "2026-11-21T01:45:26+25:00",
            "2026-11-21T01:45:26Zulu",
            "2026-11-21T01:45:26 CET",
            "26-11-21",
            "+10000-01-01",
            "9999-12-31T23:59:59-01:00",
            "0000-01-01T00:00:00+01:00",
            "-99999999999",
            "2026-11-21T",
            "2026-11-21T01:45:26.",
            "99999999999999999999999999999999999999999999999999",
            "1e99999999999",
            "2026-11-21T01:45:26Ä",
        ] {
            assert_eq!(read(None, None, text), None, "{text}");
        }
    }

    #[test]
    fn times_without_an_offset_are_of_the_time_zone() {
        let read = |zone, text| read(Some(zone), None, text).unwrap();
        assert_eq!(read("Europe/Berlin", "2026-11-21 01:45:26,5"), "2026-11-21T00:45:26.500Z");
        assert_eq!(read("Europe/Berlin", "2026-07-01 01:45:26"), "2026-06-30T23:45:26Z");
        assert_eq!(read("Asia/Kathmandu", "2026-07-01"), "2026-06-30T18:15:00Z");
        assert_eq!(read("+01:00", "2026-07-01 01:45:26"), "2026-07-01T00:45:26Z");
        assert_eq!(read("UTC", "2026-07-01 01:45:26"), "2026-07-01T01:45:26Z");
        // What says its offset, and numbers.
        assert_eq!(read("Europe/Berlin", "2026-11-21 01:45:26Z"), "2026-11-21T01:45:26Z");
        assert_eq!(read("Europe/Berlin", "1795225526"), "2026-11-21T01:45:26Z");
        // Skipped when clocks are set forward, there twice when they are set back: the first time counts.
        assert_eq!(read("Europe/Berlin", "2026-03-29 02:30:00"), "2026-03-29T01:30:00Z");
        assert_eq!(read("Europe/Berlin", "2026-10-25 02:30:00"), "2026-10-25T00:30:00Z");
        assert_eq!(read("Europe/Berlin", "2017-01-01 00:59:60"), "2017-01-01T00:00:00Z");
    }

    #[test]
    fn times_of_a_format_are_read_by_it_alone() {
        let berlin = Some("Europe/Berlin");
        for (zone, format, text, time) in [
            (None, "%d/%b/%Y:%H:%M:%S %z", "21/Nov/2026:02:45:26 +0100", "2026-11-21T01:45:26Z"),
            (berlin, "%d.%m.%Y %H:%M:%S%.f", "21.11.2026 02:45:26.5", "2026-11-21T01:45:26.500Z"),
            (berlin, "%d.%m.%Y", "21.11.2026", "2026-11-20T23:00:00Z"),
            (None, "%m/%d/%Y %I:%M %p", "11/21/2026 01:45 PM", "2026-11-21T13:45:00Z"),
            (None, "%a, %d %b %Y %H:%M:%S %z", "Sat, 21 Nov 2026 01:45:26 +0000", "2026-11-21T01:45:26Z"),
            (None, "%Y%m%d%H%M%S", "20261121014526", "2026-11-21T01:45:26Z"),
            (None, "%Y-%j", "2026-325", "2026-11-21T00:00:00Z"),
            (berlin, "%s", "1795225526", "2026-11-21T01:45:26Z"),
            (None, "%y%m%d %H:%M:%S", "261121 01:45:60", "2026-11-21T01:46:00Z"),
        ] {
            assert_eq!(read(zone, Some(format), text).as_deref(), Some(time), "{format}: {text}");
        }
        assert_eq!(read(None, Some("%d.%m.%Y"), "2026-11-21"), None);
    }

    #[test]
    fn a_zone_or_format_that_is_none_is_refused() {
        for zone in ["", "Europe/Berln", "CEST", "/etc/passwd", "../UTC", "+25:00", "local"] {
            assert_eq!(Times::new(Some(zone), None).err(), Some(TimesError::Zone(zone.into())), "{zone}");
        }
        for format in ["", "%Q", "%H:%M:%S", "%b %e %H:%M:%S", "%", "iso8601", "%Y-%m"] {
            assert_eq!(
                Times::new(None, Some(format)).err(),
                Some(TimesError::Format(format.into())),
                "{format}"
            );
        }
    }
}
