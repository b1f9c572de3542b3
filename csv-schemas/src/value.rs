//! The values of columns, and their texts in CSV and JSON.

use chrono::{DateTime, SecondsFormat};

use crate::escape;

/// A point in time, in nanoseconds since the Unix epoch; written as RFC 3339 in UTC with microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub i64);

/// A number of a column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    /// As [`Time`] has it.
    Time(i64),
}

/// What can stand in a column.
pub trait Value {
    /// The value, where it is a number or a time.
    fn number(&self) -> Option<Number> {
        None
    }

    /// Appends what tells it from other values of its column, which is sooner made than a text and ends by itself.
    fn write_key(&self, out: &mut Vec<u8>) {
        let mut text = Vec::new();
        self.write_text(&mut text);
        text.as_slice().write_key(out);
    }

    /// Whether there is none: an empty column in CSV, no field in JSON.
    fn is_absent(&self) -> bool {
        false
    }

    /// Appends the value's CSV text, quoted where RFC 4180 asks for it.
    fn write_csv(&self, out: &mut Vec<u8>);

    /// Appends the value's text as it is.
    fn write_text(&self, out: &mut Vec<u8>) {
        self.write_csv(out);
    }

    /// Appends the value as JSON: as in CSV where that is a number or truth value.
    fn write_json(&self, out: &mut Vec<u8>) {
        self.write_csv(out);
    }
}

impl Value for [u8] {
    fn write_key(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.len() as u64).to_le_bytes());
        out.extend_from_slice(self);
    }

    fn is_absent(&self) -> bool {
        self.is_empty()
    }

    fn write_csv(&self, out: &mut Vec<u8>) {
        quote(out, &escape(self));
    }

    fn write_text(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(escape(self).as_bytes());
    }

    fn write_json(&self, out: &mut Vec<u8>) {
        // A text has a JSON form, and a Vec takes it.
        let _ = serde_json::to_writer(out, &*escape(self));
    }
}

impl Value for &[u8] {
    fn write_key(&self, out: &mut Vec<u8>) {
        (**self).write_key(out);
    }

    fn is_absent(&self) -> bool {
        (**self).is_absent()
    }

    fn write_csv(&self, out: &mut Vec<u8>) {
        (**self).write_csv(out);
    }

    fn write_text(&self, out: &mut Vec<u8>) {
        (**self).write_text(out);
    }

    fn write_json(&self, out: &mut Vec<u8>) {
        (**self).write_json(out);
    }
}

impl Value for u64 {
    fn number(&self) -> Option<Number> {
        Some(Number::Unsigned(*self))
    }

    fn write_key(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }

    /// A column's numbers are `long`s where they are read: what is larger, a difference that wrapped, is the largest.
    fn write_csv(&self, out: &mut Vec<u8>) {
        display(out, &(*self).min(i64::MAX.unsigned_abs()));
    }
}

impl Value for i64 {
    fn number(&self) -> Option<Number> {
        Some(Number::Signed(*self))
    }

    fn write_key(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }

    fn write_csv(&self, out: &mut Vec<u8>) {
        display(out, self);
    }
}

impl Value for f64 {
    fn number(&self) -> Option<Number> {
        self.is_finite().then_some(Number::Float(*self))
    }

    /// A number that is not finite has no JSON form and is left out.
    fn is_absent(&self) -> bool {
        !self.is_finite()
    }

    fn write_csv(&self, out: &mut Vec<u8>) {
        if !self.is_absent() {
            display(out, self);
        }
    }

    fn write_json(&self, out: &mut Vec<u8>) {
        // As the shipper writes what it read of CSV: 1.0, not 1.
        let _ = serde_json::to_writer(out, self);
    }
}

impl Value for bool {
    fn write_key(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn write_csv(&self, out: &mut Vec<u8>) {
        display(out, self);
    }
}

impl Value for Time {
    fn number(&self) -> Option<Number> {
        Some(Number::Time(self.0))
    }

    fn write_csv(&self, out: &mut Vec<u8>) {
        let text = DateTime::from_timestamp_nanos(self.0).to_rfc3339_opts(SecondsFormat::Micros, true);
        out.extend_from_slice(text.as_bytes());
    }

    fn write_json(&self, out: &mut Vec<u8>) {
        out.push(b'"');
        self.write_csv(out);
        out.push(b'"');
    }
}

impl<V: Value> Value for Option<V> {
    fn number(&self) -> Option<Number> {
        self.as_ref()?.number()
    }

    fn write_key(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.is_some()));
        if let Some(value) = self {
            value.write_key(out);
        }
    }

    fn is_absent(&self) -> bool {
        self.as_ref().is_none_or(Value::is_absent)
    }

    fn write_csv(&self, out: &mut Vec<u8>) {
        if let Some(value) = self {
            value.write_csv(out);
        }
    }

    fn write_json(&self, out: &mut Vec<u8>) {
        match self {
            Some(value) => value.write_json(out),
            None => out.extend_from_slice(b"null"),
        }
    }
}

impl Value for Number {
    fn number(&self) -> Option<Number> {
        Some(*self)
    }

    fn is_absent(&self) -> bool {
        matches!(self, Number::Float(float) if float.is_absent())
    }

    fn write_csv(&self, out: &mut Vec<u8>) {
        match self {
            Number::Unsigned(number) => number.write_csv(out),
            Number::Signed(number) => number.write_csv(out),
            Number::Float(number) => number.write_csv(out),
            Number::Time(time) => Time(*time).write_csv(out),
        }
    }

    fn write_json(&self, out: &mut Vec<u8>) {
        match self {
            Number::Unsigned(number) => number.write_json(out),
            Number::Signed(number) => number.write_json(out),
            Number::Float(number) => number.write_json(out),
            Number::Time(time) => Time(*time).write_json(out),
        }
    }
}

/// A value of which [`Value::write_text`] has made the text.
#[derive(Debug, Clone, Copy)]
pub struct Written<'a> {
    pub text: &'a str,
    /// Whether JSON has it in quotes: a text or a time.
    pub is_text: bool,
}

impl Value for Written<'_> {
    fn is_absent(&self) -> bool {
        self.text.is_empty()
    }

    fn write_csv(&self, out: &mut Vec<u8>) {
        quote(out, self.text);
    }

    fn write_json(&self, out: &mut Vec<u8>) {
        if self.is_text {
            // A text has a JSON form, and a Vec takes it.
            let _ = serde_json::to_writer(out, self.text);
        } else {
            out.extend_from_slice(self.text.as_bytes());
        }
    }
}

/// Several values in one column: parted by a delimiter in CSV, an array in JSON.
#[derive(Debug, Clone, Copy)]
pub struct List<'a, V> {
    items: &'a [V],
    delimiter: u8,
}

impl<'a, V> List<'a, V> {
    /// `delimiter` is the column's in its schema.
    pub const fn new(items: &'a [V], delimiter: u8) -> List<'a, V> {
        List { items, delimiter }
    }
}

impl<V: Value> Value for List<'_, V> {
    fn is_absent(&self) -> bool {
        self.items.is_empty()
    }

    fn write_csv(&self, out: &mut Vec<u8>) {
        let (mut text, mut item) = (Vec::new(), Vec::new());
        for (index, value) in self.items.iter().enumerate() {
            if index > 0 {
                text.push(self.delimiter);
            }
            value.write_text(&mut item);
            // A delimiter within an item is escaped, so that it parts nothing.
            for byte in item.drain(..) {
                match byte == self.delimiter {
                    true => display(&mut text, &format_args!("\\x{byte:02x}")),
                    false => text.push(byte),
                }
            }
        }
        quote(out, &String::from_utf8_lossy(&text));
    }

    fn write_json(&self, out: &mut Vec<u8>) {
        out.push(b'[');
        for (index, value) in self.items.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            value.write_json(out);
        }
        out.push(b']');
    }
}

/// Appends a text, quoted where RFC 4180 asks for it.
fn quote(out: &mut Vec<u8>, text: &str) {
    if !text.bytes().any(|b| matches!(b, b',' | b'"' | b'\n' | b'\r')) {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    out.push(b'"');
    for byte in text.bytes() {
        if byte == b'"' {
            out.push(b'"');
        }
        out.push(byte);
    }
    out.push(b'"');
}

fn display(out: &mut Vec<u8>, value: &impl std::fmt::Display) {
    use std::io::Write;
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{value}");
}
