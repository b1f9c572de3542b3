//! Times of foreign rows.

use chrono::{DateTime, NaiveDate, NaiveDateTime, SecondsFormat, Utc};

/// Reads RFC 3339, `YYYY-MM-DD HH:MM:SS[.fraction]` and `YYYY-MM-DD` (taken as UTC), and numbers: seconds since the
/// Unix epoch with an optional fraction, or milliseconds where that would lie beyond the year 5138.
pub(crate) fn parse(text: &str) -> Option<DateTime<Utc>> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.to_utc());
    }
    for format in ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"] {
        if let Ok(time) = NaiveDateTime::parse_from_str(text, format) {
            return Some(time.and_utc());
        }
    }
    if let Ok(day) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return day.and_hms_opt(0, 0, 0).map(|time| time.and_utc());
    }
    from_number(text.parse().ok()?)
}

fn from_number(number: f64) -> Option<DateTime<Utc>> {
    const SECONDS_LIMIT: f64 = 1e11;
    let seconds = if number.abs() < SECONDS_LIMIT { number } else { number / 1e3 };
    // Microseconds: a double holds no more of today's times.
    seconds.is_finite().then(|| DateTime::from_timestamp_micros((seconds * 1e6).round() as i64)).flatten()
}

/// RFC 3339 in UTC, as Elasticsearch's default date format reads it.
pub(crate) fn render(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

#[cfg(test)]
mod tests {
    use super::{parse, render};

    #[test]
    fn the_usual_ways_to_write_a_time_mean_the_same() {
        for text in [
            "2026-11-21T01:45:26.5Z",
            "2026-11-21T02:45:26.500+01:00",
            "2026-11-21 01:45:26.5",
            "2026-11-21T01:45:26.5",
            "1795225526.5",
            "1795225526500",
        ] {
            assert_eq!(parse(text).map(render).as_deref(), Some("2026-11-21T01:45:26.500Z"), "{text}");
        }
        assert_eq!(parse("yesterday"), None);
        assert_eq!(parse("NaN"), None);
        assert_eq!(parse("1e300"), None);
    }
}
