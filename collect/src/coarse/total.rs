//! What the values of a column come to.

use std::cmp::Ordering;

use kumon_schema::{Columns, Number, Record, Written};

use super::plan::{Column, Role};

/// What a column's values come to so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) enum Total {
    /// There were none.
    #[default]
    Nothing,
    Number(Number),
    Mean {
        sum: f64,
        count: u64,
    },
    Text(Box<str>),
}

impl Total {
    pub(super) fn add(&mut self, role: Role, number: Number) {
        match (role, &mut *self) {
            (Role::Mean { .. }, Total::Mean { sum, count }) => {
                *sum += float(number);
                *count += 1;
            }
            (Role::Mean { .. }, _) => *self = Total::Mean { sum: float(number), count: 1 },
            (Role::Sum | Role::Interval, Total::Number(so_far)) => *so_far = sum(*so_far, number),
            (Role::Min, Total::Number(so_far)) if compare(*so_far, number).is_le() => {}
            (Role::Max, Total::Number(so_far)) if compare(*so_far, number).is_ge() => {}
            _ => *self = Total::Number(number),
        }
    }

    /// Adds that of a key that gets no row of its own to that of the row of all such keys.
    ///
    /// A gauge of that row, such as a share of the CPU, is the sum of all: where the row has none, there is no sense in one. It
    /// is for as long as the key that was there longest.
    pub(super) fn merge(&mut self, role: Role, other: &Total) {
        match (role, &mut *self, other) {
            (Role::Mean { .. }, Total::Mean { sum, count }, Total::Mean { sum: more, count: times }) => {
                *sum += more;
                *count = (*count).max(*times);
            }
            (Role::Interval, Total::Number(_), Total::Number(number)) => self.add(Role::Max, *number),
            (Role::Mean { .. } | Role::Last, ..) => {}
            (_, _, Total::Number(number)) => self.add(role, *number),
            _ => {}
        }
    }

    /// By which keys are compared: a gauge by how much for how long.
    pub(super) fn weight(&self) -> f64 {
        match self {
            Total::Number(number) => float(*number),
            Total::Mean { sum, .. } => *sum,
            Total::Nothing | Total::Text(_) => 0.0,
        }
    }

    pub(super) fn number(&self) -> Option<u64> {
        match self {
            Total::Number(Number::Unsigned(number)) => Some(*number),
            _ => None,
        }
    }

    pub(super) fn write(&self, of: Column, column: kumon_schema::Column, record: &mut Record<'_>) {
        match (self, of.role) {
            (Total::Nothing, _) => record.field(column, &None::<u64>),
            (Total::Number(number), _) => record.field(column, number),
            (Total::Mean { sum, count }, Role::Mean { whole: true }) => {
                record.field(column, &((sum / *count as f64).round() as i64));
            }
            // As exact as the shares are.
            (Total::Mean { sum, count }, _) => {
                record.field(column, &((sum / *count as f64 * 10_000.0).round() / 10_000.0));
            }
            (Total::Text(text), _) => record.field(column, &Written { text, is_text: of.is_text }),
        }
    }
}

fn sum(one: Number, other: Number) -> Number {
    match (one, other) {
        (Number::Unsigned(one), Number::Unsigned(other)) => Number::Unsigned(one.saturating_add(other)),
        (Number::Signed(one), Number::Signed(other)) => Number::Signed(one.saturating_add(other)),
        (one, other) => Number::Float(float(one) + float(other)),
    }
}

fn compare(one: Number, other: Number) -> Ordering {
    match (one, other) {
        (Number::Unsigned(one), Number::Unsigned(other)) => one.cmp(&other),
        (Number::Signed(one), Number::Signed(other)) => one.cmp(&other),
        (one, other) => float(one).total_cmp(&float(other)),
    }
}

fn float(number: Number) -> f64 {
    match number {
        Number::Unsigned(number) => number as f64,
        Number::Signed(number) | Number::Time(number) => number as f64,
        Number::Float(number) => number,
    }
}
