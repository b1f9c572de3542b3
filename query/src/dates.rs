//! Times as queries write them.

use chrono::{DateTime, Duration, Months, NaiveDate, NaiveDateTime, Utc};

/// The first millisecond, since the Unix epoch, that a text such as `2026-11-21` or `2026-11-21T10:30:00Z` names.
pub fn date(text: &str) -> Option<i64> {
    date_interval(text).ok().map(|(start, _)| start)
}

/// The first millisecond that `text` names, and the first after it: a date may leave out its finer parts. Digits
/// alone, more than a year has, are milliseconds since the Unix epoch.
pub(crate) fn date_interval(text: &str) -> Result<(i64, i64), String> {
    let wrong = || format!("'{text}' is not a time such as 2026-11-21 or 2026-11-21T10:30:00Z");
    if text.len() > 4
        && let Ok(milliseconds) = text.parse::<i64>()
    {
        return Ok((milliseconds, milliseconds.checked_add(1).ok_or_else(wrong)?));
    }
    let (local, offset) = split_zone(text).ok_or_else(wrong)?;
    let (start, end) = interval(local).ok_or_else(wrong)?;
    let utc = |time: NaiveDateTime| time.and_utc().timestamp_millis() - offset * 1000;
    Ok((utc(start), utc(end)))
}

/// A date's text without its zone, and the zone's offset in seconds.
fn split_zone(text: &str) -> Option<(&str, i64)> {
    if let Some(local) = text.strip_suffix('Z') {
        return Some((local, 0));
    }
    let time = text.find('T').unwrap_or(text.len());
    let Some(at) = text[time..].find(['+', '-']) else { return Some((text, 0)) };
    let (local, zone) = text.split_at(time + at);
    let (hours, minutes) = zone[1..].split_once(':').unwrap_or((&zone[1..], "0"));
    let part = |text: &str, most: i64| text.parse::<i64>().ok().filter(|part| (0..=most).contains(part));
    let seconds = part(hours, 18)? * 3600 + part(minutes, 59)? * 60;
    Some((local, if zone.starts_with('-') { -seconds } else { seconds }))
}

fn interval(text: &str) -> Option<(NaiveDateTime, NaiveDateTime)> {
    let day = |text: &str| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0);
    let minute = |text: &str| NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M").ok();
    let second = |text: &str| NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").ok();
    let (start, length) = match text.len() {
        4 => {
            let start = day(&format!("{text}-01-01"))?;
            return Some((start, start.checked_add_months(Months::new(12))?));
        }
        7 => {
            let start = day(&format!("{text}-01"))?;
            return Some((start, start.checked_add_months(Months::new(1))?));
        }
        10 => (day(text)?, Duration::days(1)),
        13 => (minute(&format!("{text}:00"))?, Duration::hours(1)),
        16 => (minute(text)?, Duration::minutes(1)),
        19 => (second(text)?, Duration::seconds(1)),
        _ => {
            let whole = DateTime::<Utc>::from_timestamp_millis(second(text)?.and_utc().timestamp_millis())?;
            (whole.naive_utc(), Duration::milliseconds(1))
        }
    };
    Some((start, start.checked_add_signed(length)?))
}

#[cfg(test)]
mod tests {
    use super::date_interval as date;

    #[test]
    fn a_date_covers_what_it_leaves_open() {
        let day = 86_400_000;
        assert_eq!(date("1970-01-02"), Ok((day, 2 * day)));
        assert_eq!(date("1970"), Ok((0, 365 * day)));
        assert_eq!(date("1970-01-01T00:00:01.5Z"), Ok((1500, 1501)));
        assert_eq!(date("1970-01-01T00:00:01.123456Z"), Ok((1123, 1124)));
        assert_eq!(date("1970-01-01T01:00+01:00"), Ok((0, 60_000)));
        assert_eq!(date("1763689526123"), Ok((1_763_689_526_123, 1_763_689_526_124)));
        for text in [
            "yesterday",
            "9223372036854775807",
            "2026-11-21T10:00:00+9999999999999999:00",
            "2026-11-21T10+-1",
        ] {
            assert!(date(text).is_err(), "{text}");
        }
    }
}
