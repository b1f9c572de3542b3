//! The two expressions of an alert: what is calculated (`avg(kumon.runqlat.p99)`), and when it is too much (`> 20ms`).

use std::fmt;

use kumon_query::{FieldKind, Fields};

use crate::quantity;

/// What is calculated of a group's rows in the window.
#[derive(Debug, Clone, PartialEq)]
pub enum Aggregation {
    /// `count`: the number of rows.
    Count,
    /// `avg(field)`, `max(field)`, `min(field)`, `sum(field)`.
    Of(Function, String),
    /// `percentile(field, 99)`.
    Percentile(String, f64),
    /// `sum(a) / sum(b)`.
    Ratio(String, String),
    /// `age`: how long ago the newest row was, ns. The window says for how long a silent group is remembered.
    Age,
}

/// A function of one field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    Avg,
    Max,
    Min,
    Sum,
}

/// When an alert fires.
#[derive(Debug, Clone, PartialEq)]
pub struct Threshold {
    pub comparator: Comparator,
    /// In the aggregation's unit.
    pub value: f64,
    /// As it was written.
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparator {
    Above,
    AtLeast,
    Below,
    AtMost,
}

impl Function {
    /// As Elasticsearch and Kibana call it, too.
    pub fn name(self) -> &'static str {
        match self {
            Function::Avg => "avg",
            Function::Max => "max",
            Function::Min => "min",
            Function::Sum => "sum",
        }
    }

    fn of_name(name: &str) -> Option<Function> {
        [Function::Avg, Function::Max, Function::Min, Function::Sum].into_iter().find(|f| f.name() == name)
    }
}

impl Aggregation {
    /// Reads an aggregation over rows with these fields.
    ///
    /// # Errors
    /// What is wrong, with the field that was probably meant.
    pub(crate) fn parse(text: &str, fields: &Fields) -> Result<Aggregation, String> {
        let compact: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        match compact.as_str() {
            "count" => return Ok(Aggregation::Count),
            "age" => return Ok(Aggregation::Age),
            _ => {}
        }
        if let Some((dividend, divisor)) = compact.split_once('/') {
            return Ok(Aggregation::Ratio(sum_of(dividend, fields)?, sum_of(divisor, fields)?));
        }
        let (name, argument) = call(&compact)?;
        if name == "percentile" {
            let wrong = || format!("'{text}': write percentile(FIELD, 99), with a number between 0 and 100");
            let (field, percent) = argument.rsplit_once(',').ok_or_else(wrong)?;
            let percent: f64 = percent.parse().map_err(|_| wrong())?;
            if !(0.0..=100.0).contains(&percent) {
                return Err(wrong());
            }
            return Ok(Aggregation::Percentile(number_field(field, fields)?, percent));
        }
        let function = Function::of_name(name).ok_or_else(|| unknown(text))?;
        Ok(Aggregation::Of(function, number_field(argument, fields)?))
    }

    /// The value's unit, by those of the fields.
    pub(crate) fn unit(&self, unit_of: impl Fn(&str) -> String) -> String {
        match self {
            Aggregation::Count => String::new(),
            Aggregation::Age => "ns".to_owned(),
            Aggregation::Of(_, field) | Aggregation::Percentile(field, _) => unit_of(field),
            Aggregation::Ratio(dividend, divisor) => match (unit_of(dividend), unit_of(divisor)) {
                (dividend, divisor) if dividend == divisor => String::new(),
                (dividend, _) => dividend,
            },
        }
    }
}

fn unknown(text: &str) -> String {
    format!(
        "'{text}' is no aggregation; there are count, age, avg(FIELD), max(FIELD), min(FIELD), sum(FIELD), \
         percentile(FIELD, 99) and sum(FIELD) / sum(FIELD)"
    )
}

fn call(text: &str) -> Result<(&str, &str), String> {
    let parts = text.strip_suffix(')').and_then(|text| text.split_once('('));
    parts.ok_or_else(|| unknown(text))
}

fn sum_of(text: &str, fields: &Fields) -> Result<String, String> {
    match call(text)? {
        ("sum", field) => number_field(field, fields),
        _ => Err(format!("'{text}': both sides of / are sum(FIELD)")),
    }
}

fn number_field(name: &str, fields: &Fields) -> Result<String, String> {
    match known(name, fields)? {
        FieldKind::Long | FieldKind::Double | FieldKind::Foreign => Ok(name.to_owned()),
        other => Err(format!("'{name}' is a {}, and only numbers can be calculated with", other.name())),
    }
}

/// What a field is.
///
/// # Errors
/// When there is none of that name.
pub(crate) fn known(name: &str, fields: &Fields) -> Result<FieldKind, String> {
    fields.kind(name).ok_or_else(|| match fields.did_you_mean(name) {
        Some(hint) => format!("there is no field '{name}'; {hint}"),
        None => format!("there is no field '{name}'"),
    })
}

impl Threshold {
    /// Reads `> 20ms`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(text: &str, unit: &str) -> Result<Threshold, String> {
        let trimmed = text.trim();
        let found = [Comparator::AtLeast, Comparator::AtMost, Comparator::Above, Comparator::Below]
            .into_iter()
            .find_map(|comparator| Some((comparator, trimmed.strip_prefix(comparator.sign())?)));
        let (comparator, quantity) =
            found.ok_or_else(|| format!("'{text}' must begin with >, >=, < or <=, such as '> 20ms'"))?;
        let value = quantity::parse(quantity.trim(), unit)?;
        Ok(Threshold { comparator, value, text: trimmed.to_owned() })
    }

    /// Whether a value makes the alert fire.
    pub fn exceeded_by(&self, value: f64) -> bool {
        match self.comparator {
            Comparator::Above => value > self.value,
            Comparator::AtLeast => value >= self.value,
            Comparator::Below => value < self.value,
            Comparator::AtMost => value <= self.value,
        }
    }
}

impl Comparator {
    /// As it is written here, in Painless and in Kibana's rules.
    pub fn sign(self) -> &'static str {
        match self {
            Comparator::Above => ">",
            Comparator::AtLeast => ">=",
            Comparator::Below => "<",
            Comparator::AtMost => "<=",
        }
    }
}

impl fmt::Display for Aggregation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Aggregation::Count => f.write_str("count"),
            Aggregation::Age => f.write_str("age"),
            Aggregation::Of(function, field) => write!(f, "{}({field})", function.name()),
            Aggregation::Percentile(field, percent) => write!(f, "percentile({field}, {percent})"),
            Aggregation::Ratio(dividend, divisor) => write!(f, "sum({dividend}) / sum({divisor})"),
        }
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use kumon_query::Fields;

    use super::{Aggregation, Comparator, Threshold};

    #[test]
    fn aggregations_are_read_and_written_alike() {
        let fields = Fields::of_metric("runqlat");
        for text in [
            "count",
            "age",
            "avg(kumon.runqlat.p99)",
            "percentile(kumon.runqlat.max, 99.9)",
            "sum(kumon.runqlat.sum) / sum(kumon.runqlat.count)",
        ] {
            assert_eq!(Aggregation::parse(text, &fields).unwrap().to_string(), text);
        }
    }

    #[test]
    fn mistakes_name_what_was_meant() {
        let fields = Fields::of_metric("runqlat");
        for (text, expected) in [
            ("avg(kumon.runqlat.p98)", "did you mean 'kumon.runqlat.p9"),
            ("avg(host.name)", "'host.name' is a keyword"),
            ("median(kumon.runqlat.p99)", "there are count, age, avg(FIELD)"),
            ("percentile(kumon.runqlat.p99)", "percentile(FIELD, 99)"),
            ("percentile(kumon.runqlat.p99, 101)", "between 0 and 100"),
            ("max(kumon.runqlat.sum) / sum(kumon.runqlat.count)", "both sides of /"),
            ("avg kumon.runqlat.p99", "is no aggregation"),
        ] {
            let message = Aggregation::parse(text, &fields).unwrap_err();
            assert!(message.contains(expected), "{text}: {message}");
        }
    }

    #[test]
    fn a_threshold_has_a_comparator_and_a_quantity() {
        let threshold = Threshold::parse(">= 20ms", "ns").unwrap();
        assert_eq!((threshold.comparator, threshold.value), (Comparator::AtLeast, 20e6));
        assert!(threshold.exceeded_by(20e6) && !threshold.exceeded_by(19e6));
        assert!(Threshold::parse("20ms", "ns").unwrap_err().contains("must begin with"));
        assert!(!Threshold::parse("< 3", "").unwrap().exceeded_by(3.0));
    }
}
