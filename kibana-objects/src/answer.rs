//! What a panel shows, made from the answer to its request.

use kumon_query::SearchResponse;
use serde::Serialize;
use serde_json::Value as Json;

use crate::model::{Chart, ChartKind, Content, Over, Panel, Rows, Unit, Value};
use crate::request::TimeRange;
use crate::walk::{Key, Leaf, leaves};

/// What to draw. Serialized, `kind` tells which: `{"kind": "number", "value": 1.5, "unit": "nanoseconds"}`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Answer {
    /// Of a panel of kind number.
    Number {
        label: String,
        /// None where there are no rows to calculate it from.
        value: Option<f64>,
        unit: Unit,
        /// Whether that is bad news.
        red: bool,
    },
    /// Of lines, bars, areas and heat maps over time.
    Series(Series),
    /// Of tables, pies, bars over a field, and raw rows.
    Table(Table),
    /// Text and links ask nothing.
    Nothing,
}

/// Numbers over time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Series {
    /// Where the steps begin, ms since the Unix epoch; evenly spaced.
    pub times: Vec<i64>,
    /// Length of a step, ms.
    pub interval: i64,
    pub unit: Unit,
    /// The largest first; of a heat map from top to bottom.
    pub lines: Vec<Line>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// A value of the breakdown's field, else the value's label.
    pub label: String,
    /// One for each time; none where there were no rows. Counts and sums are 0 there.
    pub numbers: Vec<Option<f64>>,
}

/// Rows of cells.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Table {
    pub columns: Vec<Column>,
    pub rows: Vec<Vec<Cell>>,
    /// How many rows matched, where these are raw rows of which only the newest are shown.
    pub total: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Column {
    /// The field, or the value's label.
    pub title: String,
    /// What people call it.
    pub label: String,
    /// Of numbers that are calculated, and of raw ones with a unit.
    pub unit: Option<Unit>,
}

/// Serialized as the bare text or number, else null.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Cell {
    Text(String),
    Number(f64),
    Empty,
}

impl Panel {
    /// What the panel shows, when `responses` answer [`Panel::requests`] of the same range, one each.
    pub fn answer(&self, range: TimeRange, responses: &[SearchResponse]) -> Answer {
        match (&self.content, responses) {
            (Content::Rows(rows), [response, ..]) => Answer::Table(raw(rows, response)),
            (Content::Joined(parts), responses) => Answer::Table(joined(parts, range, responses)),
            (Content::Chart(chart), [response, ..]) => {
                let leaves = leaves(chart, range, response);
                if chart.kind == ChartKind::Number {
                    let first = &chart.values[0];
                    let value = leaves.first().and_then(|leaf| leaf.numbers[0]);
                    let red = first.red_from.zip(value).is_some_and(|(red_from, value)| value >= red_from);
                    Answer::Number { label: first.label.clone(), value, unit: first.unit, red }
                } else if chart.is_over_time() {
                    Answer::Series(series(chart, range, leaves))
                } else {
                    Answer::Table(table(chart, leaves))
                }
            }
            _ => Answer::Nothing,
        }
    }
}

impl Answer {
    /// Whether there is nothing to draw.
    pub fn is_empty(&self) -> bool {
        match self {
            Answer::Number { value, .. } => value.is_none(),
            Answer::Series(series) => {
                series.lines.iter().all(|line| line.numbers.iter().all(Option::is_none))
            }
            Answer::Table(table) => table.rows.is_empty(),
            Answer::Nothing => true,
        }
    }
}

fn series(chart: &Chart, range: TimeRange, leaves: Vec<Leaf>) -> Series {
    let interval = chart.interval(range) / 1_000_000;
    let times = steps(range, interval);
    let mut lines: Vec<Line> = Vec::new();
    // Without a breakdown each value is a line, also where no rows are.
    if chart.breakdown.is_empty() {
        lines.extend(chart.values.iter().map(|value| Line::new(value.label.clone(), &times)));
    }
    let is_scale = chart.breakdown.last().is_some_and(|field| chart.metric.is_scale(field));
    for leaf in leaves {
        let (Some(Key::Time(time)), outer) = (leaf.keys.last(), &leaf.keys[..leaf.keys.len() - 1]) else {
            continue;
        };
        let Some(step) = times.iter().position(|known| known == time) else { continue };
        let first = match outer.last() {
            None => 0,
            Some(key) => {
                let label = if is_scale { unnumbered(&text(key)).to_owned() } else { text(key) };
                lines.iter().position(|line| line.label == label).unwrap_or_else(|| {
                    lines.push(Line::new(label, &times));
                    lines.len() - 1
                })
            }
        };
        for (number, value) in leaf.numbers.into_iter().enumerate() {
            lines[first + number].numbers[step] = value;
        }
    }
    fill(chart, &mut lines);
    Series { times, interval, unit: chart.values[0].unit, lines }
}

/// Where the steps begin that the range covers whole (ms): of others it has a part of the rows only, which would look like a drop,
/// or all of a row that is told for more time than the part. Where it covers none whole, those that it touches.
fn steps(range: TimeRange, interval: i64) -> Vec<i64> {
    let (since, until) = (range.since.div_euclid(1_000_000), range.until.div_euclid(1_000_000));
    let first = since.div_euclid(interval) * interval;
    let touched = (0..).map(|step| first + step * interval).take_while(|start| *start < until);
    let whole: Vec<i64> =
        touched.clone().filter(|start| *start >= since && start + interval <= until).collect();
    if whole.is_empty() { touched.collect() } else { whole }
}

impl Line {
    fn new(label: String, times: &[i64]) -> Line {
        Line { label, numbers: vec![None; times.len()] }
    }
}

/// Where no rows are, nothing happened: a sum is 0 there, a mean is unknown. A line of unknowns alone stays empty.
fn fill(chart: &Chart, lines: &mut [Line]) {
    for (number, line) in lines.iter_mut().enumerate() {
        let value = &chart.values[if chart.breakdown.is_empty() { number } else { 0 }];
        let adds_up = value.operation.is_zero_without_rows()
            && !matches!(value.per, Some(crate::Per::Row | crate::Per::Field(_)));
        if adds_up && line.numbers.iter().any(Option::is_some) {
            line.numbers.iter_mut().for_each(|number| *number = number.or(Some(0.0)));
        }
    }
}

fn table(chart: &Chart, leaves: Vec<Leaf>) -> Table {
    let fields = match &chart.over {
        Over::Field(field) => Some(field),
        Over::Time => None,
    };
    let fields = fields.into_iter().chain(&chart.breakdown);
    let is_scale: Vec<bool> = fields.clone().map(|field| chart.metric.is_scale(field)).collect();
    let fields = fields.map(|field| Column {
        title: field.clone(),
        label: chart.metric.label(field).into_owned(),
        unit: None,
    });
    let values = chart.values.iter().map(|value| {
        let label = value.label.clone();
        Column { title: label.clone(), label, unit: Some(value.unit) }
    });
    let row = |leaf: Leaf| {
        let numbers = leaf.numbers.into_iter().map(|number| number.map_or(Cell::Empty, Cell::Number));
        let keys = leaf.keys.into_iter().zip(&is_scale).map(|(key, is_scale)| match Cell::of(key) {
            Cell::Text(label) if *is_scale => Cell::Text(unnumbered(&label).to_owned()),
            cell => cell,
        });
        keys.chain(numbers).collect()
    };
    Table {
        columns: fields.chain(values).collect(),
        rows: leaves.into_iter().map(row).collect(),
        total: None,
    }
}

/// One table of several: a line for each value of the breakdown that any of them has, those with the largest first value first.
fn joined(parts: &[Chart], range: TimeRange, responses: &[SearchResponse]) -> Table {
    let keys = parts.first().map_or(0, |part| part.breakdown.len());
    let mut columns: Vec<Column> = Vec::new();
    let mut rows: Vec<Vec<Cell>> = Vec::new();
    for (part, response) in parts.iter().zip(responses) {
        let of_part = table(part, leaves(part, range, response));
        let before = columns.len().max(keys);
        columns.extend(of_part.columns.into_iter().skip(if columns.is_empty() { 0 } else { keys }));
        for cells in of_part.rows {
            let at = rows.iter().position(|row| row[..keys] == cells[..keys]).unwrap_or_else(|| {
                let mut row = cells[..keys].to_vec();
                row.extend(parts.iter().flat_map(|part| &part.values).map(without_rows));
                rows.push(row);
                rows.len() - 1
            });
            for (place, cell) in cells.into_iter().skip(keys).enumerate() {
                rows[at][before + place] = cell;
            }
        }
    }
    let first =
        |row: &Vec<Cell>| if let Some(Cell::Number(number)) = row.get(keys) { *number } else { f64::MIN };
    rows.sort_by(|a, b| first(b).total_cmp(&first(a)));
    Table { columns, rows, total: None }
}

/// What a value is where there are no rows to calculate it from.
fn without_rows(value: &Value) -> Cell {
    if value.operation.is_zero_without_rows() { Cell::Number(0.0) } else { Cell::Empty }
}

fn raw(rows: &Rows, response: &SearchResponse) -> Table {
    let fields: Vec<&str> =
        std::iter::once("@timestamp").chain(rows.columns.iter().map(String::as_str)).collect();
    let column = |field: &&str| {
        let unit = Some(rows.metric.unit(field)).filter(|unit| *unit != Unit::Count);
        Column { title: (*field).to_owned(), label: rows.metric.label(field).into_owned(), unit }
    };
    let row = |hit: &serde_json::value::RawValue| {
        let row: Json = serde_json::from_str(hit.get()).unwrap_or_default();
        fields.iter().map(|field| Cell::of_json(&row[*field])).collect()
    };
    let columns = fields.iter().map(column).collect();
    Table { columns, rows: response.hits.iter().map(|hit| row(hit)).collect(), total: Some(response.total) }
}

impl Cell {
    fn of(key: Key) -> Cell {
        match key {
            Key::Number(number) => Cell::Number(number),
            other => Cell::Text(text(&other)),
        }
    }

    fn of_json(value: &Json) -> Cell {
        match value {
            Json::Null => Cell::Empty,
            Json::String(text) => Cell::Text(text.clone()),
            Json::Number(number) => number.as_f64().map_or(Cell::Empty, Cell::Number),
            other => Cell::Text(other.to_string()),
        }
    }
}

/// A label of a scale without the number that sorts it: of `07: from 64 µs` the rest.
fn unnumbered(label: &str) -> &str {
    label.split_once(": from ").map_or(label, |(_, start)| start)
}

fn text(key: &Key) -> String {
    match key {
        Key::Text(text) => text.clone(),
        Key::Number(number) => number.to_string(),
        Key::Time(time) => time.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::steps;
    use crate::TimeRange;

    #[test]
    fn a_step_that_the_range_covers_in_part_is_left_out_unless_there_is_no_other() {
        let range = |since: i64, until: i64| TimeRange { since: since * 1_000_000, until: until * 1_000_000 };
        assert_eq!(steps(range(20_000, 50_000), 10_000), [20_000, 30_000, 40_000]);
        assert_eq!(steps(range(20_001, 49_999), 10_000), [30_000]);
        assert_eq!(steps(range(22_000, 27_000), 10_000), [20_000]);
        assert_eq!(steps(range(28_000, 33_000), 10_000), [20_000, 30_000]);
    }
}
