//! Values: how a row's become what its fields hold, and how those stand in a row's bytes.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr};

use kumon_query::FieldKind;
use kumon_shipper::Value;
use tantivy::schema::Field;
use tantivy::{DateTime, TantivyDocument};

use crate::layout::Column;

/// A value as an index field has it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Typed<'a> {
    Long(i64),
    Double(f64),
    Boolean(bool),
    /// In ns since the Unix epoch.
    Date(i64),
    Ip(Ipv6Addr),
    Text(&'a str),
}

impl Typed<'_> {
    pub(crate) fn add_to(self, document: &mut TantivyDocument, field: Field) {
        match self {
            Typed::Long(whole) => document.add_i64(field, whole),
            Typed::Double(number) => document.add_f64(field, number),
            Typed::Boolean(truth) => document.add_bool(field, truth),
            Typed::Date(time) => document.add_date(field, DateTime::from_timestamp_nanos(time)),
            Typed::Ip(address) => document.add_ip_addr(field, address),
            Typed::Text(text) => document.add_text(field, text),
        }
    }
}

/// Gives away what a column's fields hold for a value.
///
/// # Errors
/// When the value is none of the column's type.
pub(crate) fn each(
    column: &Column,
    value: Value<'_>,
    mut give: impl FnMut(Field, Typed<'_>),
) -> Result<(), String> {
    match value {
        Value::List(items) => items.iter().try_for_each(|item| one(column, *item, &mut give)),
        value => one(column, value, &mut give),
    }
}

fn one(column: &Column, value: Value<'_>, give: &mut impl FnMut(Field, Typed<'_>)) -> Result<(), String> {
    let field = column.field;
    let typed = match column.kind {
        FieldKind::Long => long(value).map(Typed::Long),
        FieldKind::Double => double(value).map(Typed::Double),
        FieldKind::Boolean => boolean(value).map(Typed::Boolean),
        FieldKind::Ip => address(value).map(Typed::Ip),
        FieldKind::Date => nanoseconds(value).map(Typed::Date),
        FieldKind::Keyword | FieldKind::Words | FieldKind::Foreign => {
            let text = text(value);
            if let Some(words) = column.words {
                give(words, Typed::Text(&text));
            }
            if is_short(&text, column.ignore_above) {
                give(field, Typed::Text(&text));
            }
            return Ok(());
        }
    };
    let typed = typed.ok_or_else(|| format!("{} is not a {}", shown(value), column.kind.name()))?;
    give(field, typed);
    Ok(())
}

/// Whether a text has at most so many UTF-16 units: never more than bytes.
fn is_short(text: &str, most: usize) -> bool {
    text.len() <= most || text.encode_utf16().count() <= most
}

fn text(value: Value<'_>) -> Cow<'_, str> {
    match value {
        Value::Text(text) | Value::Time(text) => Cow::Borrowed(text),
        other => Cow::Owned(shown(other)),
    }
}

/// As JSON has it.
pub(crate) fn shown(value: Value<'_>) -> String {
    json(value).to_string()
}

fn json(value: Value<'_>) -> serde_json::Value {
    match value {
        Value::Text(text) | Value::Time(text) => text.into(),
        Value::Integer(whole) => whole.into(),
        Value::Number(number) => number.into(),
        Value::Boolean(truth) => truth.into(),
        Value::List(items) => items.iter().map(|item| json(*item)).collect(),
    }
}

/// Texts of numbers are numbers, and fractions are cut, as Elasticsearch's `coerce` has it.
fn long(value: Value<'_>) -> Option<i64> {
    let whole = match value {
        Value::Text(text) => text.parse().ok(),
        Value::Integer(whole) => Some(whole),
        _ => None,
    };
    let fits = |number: &f64| number.abs() < i64::MAX as f64;
    whole.or_else(|| double(value).filter(fits).map(|number| number as i64))
}

fn double(value: Value<'_>) -> Option<f64> {
    let number = match value {
        Value::Text(text) => text.parse().ok(),
        Value::Integer(whole) => Some(whole as f64),
        Value::Number(number) => Some(number),
        Value::Boolean(_) | Value::Time(_) | Value::List(_) => None,
    };
    number.filter(|number| number.is_finite())
}

fn boolean(value: Value<'_>) -> Option<bool> {
    match value {
        Value::Boolean(truth) => Some(truth),
        Value::Text("true") => Some(true),
        Value::Text("" | "false") => Some(false),
        _ => None,
    }
}

fn address(value: Value<'_>) -> Option<Ipv6Addr> {
    match value {
        Value::Text(text) => text.parse().ok().map(to_v6),
        _ => None,
    }
}

/// The one form in which addresses are kept.
pub(crate) fn to_v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// A time in ns since the Unix epoch.
pub(crate) fn nanoseconds(value: Value<'_>) -> Option<i64> {
    let milliseconds = match value {
        Value::Text(text) | Value::Time(text) => {
            if let Ok(time) = chrono::DateTime::parse_from_rfc3339(text) {
                return Some(time.timestamp_nanos_opt().unwrap_or_else(|| limit(time.timestamp())));
            }
            kumon_query::date(text)?
        }
        other => long(other)?,
    };
    Some(milliseconds.checked_mul(1_000_000).unwrap_or_else(|| limit(milliseconds)))
}

/// Before 1677 and after 2262: where the row is found by its time. It says the true one.
fn limit(time: i64) -> i64 {
    if time < 0 { i64::MIN } else { i64::MAX }
}

/// Appends the value of an index field to a row's bytes.
pub(crate) fn write(bytes: &mut Vec<u8>, field: Field, value: Typed<'_>) {
    bytes.extend_from_slice(&field.field_id().to_le_bytes());
    write_typed(bytes, value);
}

/// Appends the value of a foreign row's field to its bytes: one of the same name for each item of a list.
pub(crate) fn write_named(bytes: &mut Vec<u8>, name: &str, value: Value<'_>) {
    let typed = match value {
        Value::Text(text) | Value::Time(text) => Typed::Text(text),
        Value::Integer(whole) => Typed::Long(whole),
        Value::Number(number) => Typed::Double(number),
        Value::Boolean(truth) => Typed::Boolean(truth),
        Value::List(items) => return items.iter().for_each(|item| write_named(bytes, name, *item)),
    };
    write_text(bytes, name);
    write_typed(bytes, typed);
}

fn write_typed(bytes: &mut Vec<u8>, value: Typed<'_>) {
    let (kind, eight) = match value {
        Typed::Long(whole) => (0, whole.to_le_bytes()),
        Typed::Double(number) => (1, number.to_le_bytes()),
        Typed::Boolean(truth) => (2, u64::from(truth).to_le_bytes()),
        Typed::Date(time) => (3, time.to_le_bytes()),
        Typed::Ip(address) => {
            bytes.push(4);
            bytes.extend_from_slice(&address.octets());
            return;
        }
        Typed::Text(text) => {
            bytes.push(5);
            return write_text(bytes, text);
        }
    };
    bytes.push(kind);
    bytes.extend_from_slice(&eight);
}

fn write_text(bytes: &mut Vec<u8>, text: &str) {
    // No row is as long as 4 GiB.
    bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
    bytes.extend_from_slice(text.as_bytes());
}

/// Reads what [`write`] or [`write_named`] appended, to the end.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    /// The next value of an index field.
    pub(crate) fn value(&mut self) -> Option<(Field, Typed<'a>)> {
        let field = Field::from_field_id(u32::from_le_bytes(self.take()?));
        Some((field, self.typed()?))
    }

    /// The next value of a foreign row's field.
    pub(crate) fn named(&mut self) -> Option<(&'a str, Typed<'a>)> {
        Some((self.text()?, self.typed()?))
    }

    fn typed(&mut self) -> Option<Typed<'a>> {
        Some(match self.take()? {
            [0] => Typed::Long(i64::from_le_bytes(self.take()?)),
            [1] => Typed::Double(f64::from_le_bytes(self.take()?)),
            [2] => Typed::Boolean(self.take::<8>()? != [0; 8]),
            [3] => Typed::Date(i64::from_le_bytes(self.take()?)),
            [4] => Typed::Ip(Ipv6Addr::from(self.take::<16>()?)),
            _ => Typed::Text(self.text()?),
        })
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = u32::from_le_bytes(self.take()?) as usize;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }
}
