//! From a value's text to typed values. What can't be one is answered by a message for the user.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Bound;

use crate::condition::{Condition, Value};
use crate::dates::date_interval;
use crate::fields::FieldKind;

/// The condition that `field` has the value `text`.
pub(crate) fn equals(field: &str, kind: FieldKind, text: &str) -> Result<Condition, String> {
    let equals = |value| Ok(Condition::Equals { field: field.to_owned(), value });
    let between = |lower, upper| {
        Ok(Condition::Range {
            field: field.to_owned(),
            lower: Bound::Included(lower),
            upper: Bound::Excluded(upper),
        })
    };
    match kind {
        FieldKind::Keyword => equals(Value::Keyword(text.to_owned())),
        FieldKind::Foreign => Ok(Condition::Foreign { field: field.to_owned(), text: text.to_owned() }),
        FieldKind::Words => Ok(phrase(field, text)),
        FieldKind::Long => match number(text)? {
            Number::Whole(whole) => equals(Value::Long(whole)),
            Number::Other(_) => Ok(Condition::None),
        },
        FieldKind::Double => equals(Value::Double(number(text)?.as_double())),
        FieldKind::Boolean => match text {
            "true" => equals(Value::Boolean(true)),
            "false" => equals(Value::Boolean(false)),
            _ => Err(format!("'{text}' is neither true nor false")),
        },
        FieldKind::Date => {
            let (start, end) = date_interval(text)?;
            between(Value::Date(start), Value::Date(end))
        }
        FieldKind::Ip => {
            let (first, last) = ip_network(text)?;
            if first == last {
                return equals(Value::Ip(first));
            }
            let (lower, upper) = (Bound::Included(Value::Ip(first)), Bound::Included(Value::Ip(last)));
            Ok(Condition::Range { field: field.to_owned(), lower, upper })
        }
    }
}

/// The condition that `field`'s words contain those of `text`, one after the other.
pub(crate) fn phrase(field: &str, text: &str) -> Condition {
    let words: Vec<String> = crate::words(text).map(|(_, word)| word).collect();
    if words.is_empty() {
        return Condition::None;
    }
    Condition::Phrase { field: field.to_owned(), words }
}

/// The condition that `field` lies between two bounds.
pub(crate) fn range(
    field: &str,
    kind: FieldKind,
    lower: Bound<&str>,
    upper: Bound<&str>,
) -> Result<Condition, String> {
    let (lower, upper) = match kind {
        FieldKind::Keyword => (lower.map(keyword), upper.map(keyword)),
        FieldKind::Long => match (long_lower(lower)?, long_upper(upper)?) {
            (Some(lower), Some(upper)) => (lower, upper),
            _ => return Ok(Condition::None),
        },
        FieldKind::Double => (try_bound(lower, double)?, try_bound(upper, double)?),
        FieldKind::Ip => (try_bound(lower, ip)?, try_bound(upper, ip)?),
        FieldKind::Date => (date_lower(lower)?, date_upper(upper)?),
        FieldKind::Foreign => (lower.map(foreign), upper.map(foreign)),
        FieldKind::Words | FieldKind::Boolean => {
            return Err(format!("a {} field has no ranges", kind.name()));
        }
    };
    if (&lower, &upper) == (&Bound::Unbounded, &Bound::Unbounded) {
        return Ok(Condition::Exists(field.to_owned()));
    }
    Ok(Condition::Range { field: field.to_owned(), lower, upper })
}

enum Number {
    Whole(i64),
    /// With a fraction, or beyond 64 bits.
    Other(f64),
}

impl Number {
    fn as_double(&self) -> f64 {
        match self {
            Number::Whole(whole) => *whole as f64,
            Number::Other(other) => *other,
        }
    }
}

fn number(text: &str) -> Result<Number, String> {
    if let Ok(whole) = text.parse() {
        return Ok(Number::Whole(whole));
    }
    let parsed = text.parse::<f64>().ok().filter(|number| number.is_finite());
    let other = parsed.ok_or_else(|| format!("'{text}' is not a number"))?;
    // Beyond 2^53 a double is whole anyway, but no longer the number that was written.
    if other.fract() == 0.0 && other.abs() < 9e15 {
        return Ok(Number::Whole(other as i64));
    }
    Ok(Number::Other(other))
}

/// The lower bound of whole numbers; `None` when no 64-bit number is that large.
fn long_lower(bound: Bound<&str>) -> Result<Option<Bound<Value>>, String> {
    let (Bound::Included(text) | Bound::Excluded(text)) = bound else {
        return Ok(Some(Bound::Unbounded));
    };
    Ok(match number(text)? {
        Number::Whole(whole) => Some(bound.map(|_| Value::Long(whole))),
        Number::Other(other) if other >= i64::MAX as f64 => None,
        Number::Other(other) if other <= i64::MIN as f64 => Some(Bound::Unbounded),
        Number::Other(other) => Some(Bound::Included(Value::Long(other.ceil() as i64))),
    })
}

/// The upper bound of whole numbers; `None` when no 64-bit number is that small.
fn long_upper(bound: Bound<&str>) -> Result<Option<Bound<Value>>, String> {
    let (Bound::Included(text) | Bound::Excluded(text)) = bound else {
        return Ok(Some(Bound::Unbounded));
    };
    Ok(match number(text)? {
        Number::Whole(whole) => Some(bound.map(|_| Value::Long(whole))),
        Number::Other(other) if other <= i64::MIN as f64 => None,
        Number::Other(other) if other >= i64::MAX as f64 => Some(Bound::Unbounded),
        Number::Other(other) => Some(Bound::Included(Value::Long(other.floor() as i64))),
    })
}

fn keyword(text: &str) -> Value {
    Value::Keyword(text.to_owned())
}

/// A foreign field is compared as what the bound looks like.
fn foreign(text: &str) -> Value {
    match number(text) {
        Ok(Number::Whole(whole)) => Value::Long(whole),
        Ok(Number::Other(other)) => Value::Double(other),
        Err(_) => keyword(text),
    }
}

fn double(text: &str) -> Result<Value, String> {
    Ok(Value::Double(number(text)?.as_double()))
}

fn ip(text: &str) -> Result<Value, String> {
    text.parse().map(Value::Ip).map_err(|_| format!("'{text}' is not an IP address"))
}

fn try_bound(bound: Bound<&str>, read: fn(&str) -> Result<Value, String>) -> Result<Bound<Value>, String> {
    Ok(match bound {
        Bound::Included(text) => Bound::Included(read(text)?),
        Bound::Excluded(text) => Bound::Excluded(read(text)?),
        Bound::Unbounded => Bound::Unbounded,
    })
}

fn date_lower(bound: Bound<&str>) -> Result<Bound<Value>, String> {
    Ok(match bound {
        Bound::Included(text) => Bound::Included(Value::Date(date_interval(text)?.0)),
        // After a day, say, is from the next one on.
        Bound::Excluded(text) => Bound::Included(Value::Date(date_interval(text)?.1)),
        Bound::Unbounded => Bound::Unbounded,
    })
}

fn date_upper(bound: Bound<&str>) -> Result<Bound<Value>, String> {
    Ok(match bound {
        Bound::Included(text) => Bound::Excluded(Value::Date(date_interval(text)?.1)),
        Bound::Excluded(text) => Bound::Excluded(Value::Date(date_interval(text)?.0)),
        Bound::Unbounded => Bound::Unbounded,
    })
}

/// The first and last address of `10.0.0.1` or `10.0.0.0/8`.
pub(crate) fn ip_network(text: &str) -> Result<(IpAddr, IpAddr), String> {
    let wrong = || format!("'{text}' is not an IP address or network such as 10.0.0.0/8");
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix.parse::<u32>().map_err(|_| wrong())?)),
        None => (text, None),
    };
    match address.parse().map_err(|_| wrong())? {
        IpAddr::V4(address) => {
            let host = u32::MAX.checked_shr(prefix.unwrap_or(32)).unwrap_or(0);
            let bits = address.to_bits();
            let fits = prefix.is_none_or(|prefix| prefix <= 32);
            let ends = (Ipv4Addr::from_bits(bits & !host).into(), Ipv4Addr::from_bits(bits | host).into());
            fits.then_some(ends).ok_or_else(wrong)
        }
        IpAddr::V6(address) => {
            let host = u128::MAX.checked_shr(prefix.unwrap_or(128)).unwrap_or(0);
            let bits = address.to_bits();
            let fits = prefix.is_none_or(|prefix| prefix <= 128);
            let ends = (Ipv6Addr::from_bits(bits & !host).into(), Ipv6Addr::from_bits(bits | host).into());
            fits.then_some(ends).ok_or_else(wrong)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Bound;

    use super::{ip_network, range};
    use crate::condition::{Condition, Value};
    use crate::fields::FieldKind;

    #[test]
    fn bounds_of_whole_numbers_are_rounded_inwards() {
        let long = |lower, upper| range("n", FieldKind::Long, lower, upper).unwrap();
        let (lower, upper) = (Bound::Included(Value::Long(5)), Bound::Included(Value::Long(7)));
        let expected = Condition::Range { field: "n".into(), lower, upper };
        assert_eq!(long(Bound::Excluded("4.5"), Bound::Excluded("7.5")), expected);
        assert_eq!(long(Bound::Included("1e30"), Bound::Unbounded), Condition::None);
        assert_eq!(long(Bound::Included("-1e30"), Bound::Unbounded), Condition::Exists("n".into()));
    }

    #[test]
    fn networks_have_a_first_and_a_last_address() {
        let ends = |text: &str| ip_network(text).map(|(a, b)| format!("{a} {b}"));
        assert_eq!(ends("10.1.2.3/8").unwrap(), "10.0.0.0 10.255.255.255");
        assert_eq!(ends("10.1.2.3").unwrap(), "10.1.2.3 10.1.2.3");
        assert_eq!(ends("0.0.0.0/0").unwrap(), "0.0.0.0 255.255.255.255");
        assert_eq!(ends("fe80::/64").unwrap(), "fe80:: fe80::ffff:ffff:ffff:ffff");
        assert!(ends("10.0.0.0/33").is_err());
    }
}
