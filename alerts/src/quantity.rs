//! Numbers with units, as people write and read them.

use std::time::Duration;

/// Reads `20ms`, `1.5GiB`, `5%`, `1000` as a number in the unit `unit` (`ns`, `bytes`, `fraction`, or any other).
///
/// # Errors
/// When it is no quantity, or one of another kind than the unit's.
pub(crate) fn parse(text: &str, unit: &str) -> Result<f64, String> {
    if let Ok(number) = text.parse::<f64>() {
        return if number.is_finite() { Ok(number) } else { Err(format!("'{text}' is no finite number")) };
    }
    if let Some(percent) = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok()) {
        return match unit {
            "" | "fraction" => Ok(percent / 100.0),
            _ => Err(format!("'{text}' is a share, but the value is in {unit}")),
        };
    }
    if let Ok(duration) = humantime::parse_duration(text) {
        return match unit {
            "ns" => Ok(duration.as_nanos() as f64),
            _ => Err(format!("'{text}' is a time, but the value is {}", in_unit(unit))),
        };
    }
    if let Some(bytes) = bytes(text) {
        return match unit {
            "bytes" => Ok(bytes),
            _ => Err(format!("'{text}' is a size, but the value is {}", in_unit(unit))),
        };
    }
    Err(format!("'{text}' is no number, time (20ms), size (5MiB) or share (5%)"))
}

fn in_unit(unit: &str) -> String {
    if unit.is_empty() { "a plain number".to_owned() } else { format!("in {unit}") }
}

const SIZES: [(&str, f64); 8] = [
    ("KiB", 1024.0),
    ("MiB", 1_048_576.0),
    ("GiB", 1_073_741_824.0),
    ("TiB", 1_099_511_627_776.0),
    ("kB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
    ("TB", 1e12),
];

fn bytes(text: &str) -> Option<f64> {
    let (suffix, factor) = SIZES.iter().find(|(suffix, _)| text.ends_with(suffix))?;
    let number: f64 = text.strip_suffix(suffix)?.trim().parse().ok()?;
    number.is_finite().then_some(number * factor)
}

/// A value for people, three digits of it.
pub(crate) fn text(value: f64, unit: &str) -> String {
    match unit {
        "ns" => time(value),
        "bytes" => size(value),
        "" => number(value),
        "fraction" => format!("{}%", number(value * 100.0)),
        unit => format!("{} {unit}", number(value)),
    }
}

fn time(nanoseconds: f64) -> String {
    match nanoseconds.abs() {
        below if below < 1e3 => format!("{}ns", number(nanoseconds)),
        below if below < 1e6 => format!("{}us", number(nanoseconds / 1e3)),
        below if below < 1e9 => format!("{}ms", number(nanoseconds / 1e6)),
        below if below < 120e9 => format!("{}s", number(nanoseconds / 1e9)),
        // Seconds are exact enough for what takes minutes.
        _ => humantime::format_duration(Duration::from_secs((nanoseconds.abs() / 1e9) as u64)).to_string(),
    }
}

fn size(bytes: f64) -> String {
    let fitting = SIZES[..4].iter().rev().find(|(_, factor)| bytes.abs() >= *factor);
    fitting.map_or_else(
        || format!("{} bytes", number(bytes)),
        |(suffix, factor)| format!("{}{suffix}", number(bytes / factor)),
    )
}

fn number(value: f64) -> String {
    let decimals = match value.abs() {
        whole if whole.fract() == 0.0 || whole >= 100.0 => 0,
        large if large >= 10.0 => 1,
        medium if medium >= 1.0 => 2,
        _ => 4,
    };
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::{parse, text};

    #[test]
    fn quantities_are_read_in_the_values_unit() {
        assert_eq!(parse("20ms", "ns"), Ok(20e6));
        assert_eq!(parse("1.5MiB", "bytes"), Ok(1_572_864.0));
        assert_eq!(parse("5%", ""), Ok(0.05));
        assert_eq!(parse("90%", "fraction"), Ok(0.9));
        assert_eq!(parse("1000", "ns"), Ok(1000.0));
        assert!(parse("20ms", "bytes").unwrap_err().contains("in bytes"));
        assert!(parse("5%", "ns").unwrap_err().contains("share"));
        assert!(parse("inf", "").unwrap_err().contains("finite"));
        assert!(parse("soon", "ns").unwrap_err().contains("'soon' is no number"));
    }

    #[test]
    fn values_are_short() {
        assert_eq!(text(32_412_345.0, "ns"), "32.4ms");
        assert_eq!(text(310e9, "ns"), "5m 10s");
        assert_eq!(text(1_572_864.0, "bytes"), "1.5MiB");
        assert_eq!(text(17.0, ""), "17");
        assert_eq!(text(0.0512, ""), "0.0512");
        assert_eq!(text(0.9127, "fraction"), "91.3%");
        assert_eq!(text(120.0, "rows"), "120 rows");
    }
}
