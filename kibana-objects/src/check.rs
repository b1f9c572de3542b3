//! Whether a panel makes sense: its keys, and its fields in its metric.

use std::sync::Arc;

use kumon_query::{FieldKind, parse_query};
use kumon_schema::Function;
use serde_saphyr::{Location, Spanned};

use crate::catalog::{Catalog, Metric};
use crate::error::{Mistake, suggestion};
use crate::model::{Chart, ChartKind, Operation, Over, Per, Rows, Unit, Value};
use crate::source::{Kind, PanelSource, UnitSource, ValueSource};

/// Values of a breakdown that are shown where the file doesn't say.
const TOP: usize = 10;
/// More make no picture, and cost every viewer.
const MOST: usize = 1000;

/// A panel that is being read.
pub(crate) struct Checking<'a> {
    pub(crate) catalog: &'a Catalog,
    pub(crate) kind: Kind,
}

impl Checking<'_> {
    /// Refuses keys that mean nothing to the panel's kind.
    pub(crate) fn keys(&self, panel: &PanelSource) -> Result<(), Mistake> {
        let given = [
            ("metric", panel.metric.as_ref().map(|key| key.referenced)),
            ("query", panel.query.as_ref().map(|key| key.referenced)),
            ("values", panel.values.as_ref().map(|key| key.referenced)),
            ("over", panel.over.as_ref().map(|key| key.referenced)),
            ("breakdown", panel.breakdown.as_ref().map(|key| key.referenced)),
            ("top", panel.top.as_ref().map(|key| key.referenced)),
            ("columns", panel.columns.as_ref().map(|key| key.referenced)),
            ("text", panel.text.as_ref().map(|key| key.referenced)),
            ("links", panel.links.as_ref().map(|key| key.referenced)),
        ];
        let allowed: &[&str] = match self.kind {
            Kind::Markdown => &["text"],
            Kind::Links => &["links"],
            Kind::Rows => &["metric", "query", "columns"],
            Kind::Chart(ChartKind::Number) => &["metric", "query", "values"],
            Kind::Chart(ChartKind::Bar) => &["metric", "query", "values", "over", "breakdown", "top"],
            Kind::Chart(_) => &["metric", "query", "values", "breakdown", "top"],
        };
        for (key, place) in given {
            if let Some(place) = place.filter(|_| !allowed.contains(&key)) {
                let (kind, allowed) = (self.kind.name(), allowed.join(", "));
                let message = format!("a panel of kind '{kind}' has no '{key}'; it has: {allowed}");
                return Err(Mistake::new(place, message));
            }
        }
        Ok(())
    }

    pub(crate) fn needed<T>(&self, key: &str, value: Option<T>, place: Location) -> Result<T, Mistake> {
        let missing = || Mistake::new(place, format!("a panel of kind '{}' needs '{key}'", self.kind.name()));
        value.ok_or_else(missing)
    }

    pub(crate) fn rows(&self, panel: PanelSource) -> Result<Rows, Mistake> {
        let metric = self.metric(panel.metric, panel.kind.referenced)?;
        let usual = panel.query.is_none() && panel.columns.is_none();
        let columns = match panel.columns {
            None => usual_columns(&metric),
            Some(columns) => {
                let known = |column: Spanned<String>| field(&metric, &column).map(|_| column.value.clone());
                columns.value.into_iter().map(known).collect::<Result<_, _>>()?
            }
        };
        let query = query(&metric, panel.query)?;
        Ok(Rows { metric, query, columns, usual })
    }

    pub(crate) fn chart(&self, kind: ChartKind, panel: PanelSource) -> Result<Chart, Mistake> {
        let place = panel.kind.referenced;
        let metric = self.metric(panel.metric, place)?;
        let over = match panel.over {
            None => Over::Time,
            Some(over) if over.value == "time" => Over::Time,
            Some(over) => Over::Field(dimension(&metric, &over)?),
        };
        let values = self.needed("values", panel.values, place)?;
        let top = match panel.top {
            Some(top) if !(1..=MOST).contains(&top.value) => {
                return Err(Mistake::new(top.referenced, format!("top is 1 to {MOST}")));
            }
            top => top.map_or(TOP, |top| top.value),
        };
        let breakdown_place = panel.breakdown.as_ref().map_or(place, |breakdown| breakdown.referenced);
        let breakdown = panel.breakdown.map(|breakdown| breakdown.value).unwrap_or_default();
        let breakdown =
            breakdown.iter().map(|field| dimension(&metric, field)).collect::<Result<Vec<_>, _>>()?;
        let mut chart = Chart {
            kind,
            query: query(&metric, panel.query)?,
            metric,
            values: Vec::new(),
            over,
            breakdown,
            top,
        };
        self.shape(&chart, values.value.len(), breakdown_place, values.referenced)?;
        for source in values.value {
            let value = value(&chart, source)?;
            chart.values.push(value);
        }
        Ok(chart)
    }

    /// The parts of a table whose values have each their metric, in the order in which the metrics come first.
    pub(crate) fn joined(&self, panel: PanelSource) -> Result<Vec<Chart>, Mistake> {
        let place = panel.kind.referenced;
        if let Some(query) = &panel.query {
            let message = "a table of several metrics has no 'query'; its values may have";
            return Err(Mistake::new(query.referenced, message));
        }
        let values = self.needed("values", panel.values.clone(), place)?;
        let (referenced, defined) = (values.referenced, values.defined);
        let mut parts: Vec<(Spanned<String>, Vec<ValueSource>)> = Vec::new();
        for mut value in values.value {
            // The panel has none.
            let metric = self.needed("metric", value.metric.take(), place)?;
            if let Some(per) = &value.per {
                return Err(Mistake::new(per.referenced, "values of several metrics have no 'per'"));
            }
            match parts.iter_mut().find(|(known, _)| known.value == metric.value) {
                Some((_, values)) => values.push(value),
                None => parts.push((metric, vec![value])),
            }
        }
        let part = |(metric, part): (Spanned<String>, Vec<ValueSource>)| {
            let values = Some(Spanned::new(part, referenced, defined));
            self.chart(ChartKind::Table, PanelSource { metric: Some(metric), values, ..panel.clone() })
        };
        parts.into_iter().map(part).collect()
    }

    /// Whether the number of values and breakdowns fits the kind.
    fn shape(
        &self,
        chart: &Chart,
        values: usize,
        breakdown_place: Location,
        values_place: Location,
    ) -> Result<(), Mistake> {
        let breakdowns = chart.breakdown.len();
        let (fits, what) = match chart.kind {
            ChartKind::Number => (true, ""),
            ChartKind::HeatMap | ChartKind::Pie => (breakdowns == 1, "exactly one field"),
            ChartKind::Table => ((1..=3).contains(&breakdowns), "one to three fields"),
            ChartKind::Line | ChartKind::Bar | ChartKind::Area => (breakdowns <= 1, "at most one field"),
        };
        let kind = self.kind.name();
        if !fits {
            let message = format!("a panel of kind '{kind}' has {what} as its breakdown, not {breakdowns}");
            return Err(Mistake::new(breakdown_place, message));
        }
        let one = matches!(chart.kind, ChartKind::Number | ChartKind::HeatMap | ChartKind::Pie)
            || (chart.kind != ChartKind::Table && breakdowns == 1);
        if values == 0 || (one && values > 1) {
            let what = if one { "exactly one value" } else { "one value at least" };
            let with = if breakdowns > 0 { " with a breakdown" } else { "" };
            let message = format!("a panel of kind '{kind}'{with} has {what}, not {values}");
            return Err(Mistake::new(values_place, message));
        }
        Ok(())
    }

    fn metric(&self, name: Option<Spanned<String>>, place: Location) -> Result<Arc<Metric>, Mistake> {
        let name = self.needed("metric", name, place)?;
        self.catalog.find(&name.value).cloned().ok_or_else(|| {
            let known = self.catalog.metrics().iter().map(|metric| metric.name.as_str());
            let near = suggestion(&name.value, known);
            Mistake::new(name.referenced, format!("there is no metric '{}'{near}", name.value))
        })
    }
}

/// All but what is the same in every row of a node, and what only the machine reads.
pub(crate) fn usual_columns(metric: &Metric) -> Vec<String> {
    // The time comes before them in any case.
    let columns = metric.columns().filter(|column| column.meaning.shown && column.ecs != "@timestamp");
    columns.map(|column| column.ecs.clone()).collect()
}

fn query(metric: &Metric, query: Option<Spanned<String>>) -> Result<String, Mistake> {
    let Some(query) = query else { return Ok(String::new()) };
    match parse_query(&query.value, &metric.fields) {
        Ok(_) => Ok(query.value),
        Err(error) => Err(Mistake::new(query.referenced, error.to_string())),
    }
}

fn field(metric: &Metric, field: &Spanned<String>) -> Result<FieldKind, Mistake> {
    let kind = metric.fields.kind(&field.value);
    kind.ok_or_else(|| Mistake::new(field.referenced, metric.no_field(&field.value)))
}

/// A field that rows can be told apart by.
fn dimension(metric: &Metric, name: &Spanned<String>) -> Result<String, Mistake> {
    match field(metric, name)? {
        FieldKind::Words => {
            let message = format!("'{}' has words, not values: leave out '.text'", name.value);
            Err(Mistake::new(name.referenced, message))
        }
        FieldKind::Date => {
            Err(Mistake::new(name.referenced, "times can't be told apart one by one: take 'over: time'"))
        }
        _ => Ok(name.value.clone()),
    }
}

fn value(chart: &Chart, source: ValueSource) -> Result<Value, Mistake> {
    let (metric, operation) = (&chart.metric, source.operation.value);
    let place = source.operation.referenced;
    if let Some(metric) = source.metric {
        return Err(Mistake::new(metric.referenced, "only values of a table without 'metric' have one each"));
    }
    let field = match (operation, source.field) {
        (Operation::Count, None) => None,
        (Operation::Count, Some(field)) => {
            let message = "count is of rows: leave out 'field', or take distinct or sum";
            return Err(Mistake::new(field.referenced, message));
        }
        (_, None) => return Err(Mistake::new(place, "this operation needs a 'field'; only count has none")),
        (Operation::Distinct, Some(field)) => Some(dimension(metric, &field)?),
        (Operation::Min | Operation::Max, Some(name)) if field(metric, &name)? == FieldKind::Date => {
            Some(name.value)
        }
        (_, Some(field)) => Some(number(metric, &field)?),
    };
    if let (Operation::Average, Some(name)) = (operation, &field) {
        average(metric, name).map_err(|message| Mistake::new(place, message))?;
    }
    let per = source.per.map(|per| divisor(chart, operation, per)).transpose()?;
    let query = query(metric, source.query)?;
    let mut unit = unit(metric, operation, field.as_deref(), per.as_ref());
    if let Some(wanted) = source.unit {
        let UnitSource::AtATime = wanted.value;
        if !(unit == Unit::Fraction && per == Some(Per::Second)) {
            let message = "only a time 'per: second' tells how many spent it at a time";
            return Err(Mistake::new(wanted.referenced, message));
        }
        unit = Unit::AtATime;
    }
    let red_from = match source.red_from {
        Some(red_from) if chart.kind != ChartKind::Number => {
            return Err(Mistake::new(red_from.referenced, "only a panel of kind 'number' turns red"));
        }
        red_from => red_from.map(|red_from| red_from.value),
    };
    let label = source.label.unwrap_or_else(|| label(operation, field.as_deref(), per.as_ref()));
    Ok(Value { label, operation, field, per, query, unit, red_from })
}

/// Refuses the average of what sums up an interval, but for counts: how much there is in an interval is a fair question.
fn average(metric: &Metric, field: &str) -> Result<(), String> {
    let statistic = metric.statistic(field).filter(|statistic| statistic.function != Function::Count);
    let Some(statistic) = statistic else { return Ok(()) };
    let name = |function, otherwise| metric.field_of(function, &statistic.of).unwrap_or(otherwise);
    Err(format!(
        "'{field}' is a {} of its interval, whose average would weigh a quiet interval like a busy one: take \
         'operation: sum' of {}, 'per: {}'",
        statistic.function,
        name(Function::Sum, "the sums"),
        name(Function::Count, "the counts")
    ))
}

fn divisor(chart: &Chart, operation: Operation, per: Spanned<String>) -> Result<Per, Mistake> {
    if !matches!(operation, Operation::Count | Operation::Sum) {
        let message = "only counts and sums can be divided by 'per'";
        return Err(Mistake::new(per.referenced, message));
    }
    if chart.kind == ChartKind::Pie {
        return Err(Mistake::new(per.referenced, "the parts of a pie add up: they have no 'per'"));
    }
    match per.value.as_str() {
        "second" if chart.is_over_time() => Ok(Per::Second),
        "second" => Err(Mistake::new(per.referenced, "'per: second' needs a time axis")),
        "row" => Ok(Per::Row),
        _ => number(&chart.metric, &per).map(Per::Field),
    }
}

fn number(metric: &Metric, name: &Spanned<String>) -> Result<String, Mistake> {
    match field(metric, name)? {
        FieldKind::Long | FieldKind::Double | FieldKind::Foreign => Ok(name.value.clone()),
        kind => {
            let message =
                format!("'{}' is a {}, not a number; only distinct takes it", name.value, kind.name());
            Err(Mistake::new(name.referenced, message))
        }
    }
}

fn unit(metric: &Metric, operation: Operation, field: Option<&str>, per: Option<&Per>) -> Unit {
    let of_field = match (operation, field) {
        (Operation::Distinct, _) | (_, None) => Unit::Count,
        (_, Some(field)) => metric.unit(field),
    };
    let divisor = match per {
        None => return of_field,
        Some(Per::Second) => Unit::Nanoseconds,
        Some(Per::Row) => Unit::Count,
        Some(Per::Field(field)) => metric.unit(field),
    };
    match (of_field, per) {
        (Unit::Nanoseconds, Some(Per::Second)) => Unit::Fraction,
        (Unit::Bytes, Some(Per::Second)) => Unit::BytesPerSecond,
        (_, Some(Per::Second)) => Unit::PerSecond,
        // The share of rows; a count of things per row is a plain number.
        (Unit::Count, Some(Per::Row)) if operation == Operation::Count => Unit::Fraction,
        (Unit::Count, _) => Unit::Count,
        (of_field, _) if of_field == divisor => Unit::Fraction,
        (of_field, _) => of_field,
    }
}

fn label(operation: Operation, field: Option<&str>, per: Option<&Per>) -> String {
    let word = match operation {
        Operation::Count => "rows",
        Operation::Distinct => "different",
        Operation::Sum => "sum of",
        Operation::Average => "mean of",
        Operation::Min => "smallest",
        Operation::Max => "largest",
        Operation::Median => "median of",
        Operation::P90 => "90th percentile of",
        Operation::P99 => "99th percentile of",
    };
    let mut label = field.map_or_else(|| word.to_owned(), |field| format!("{word} {field}"));
    match per {
        None => {}
        Some(Per::Second) => label += " per second",
        Some(Per::Row) => label += " per row",
        Some(Per::Field(field)) => label += &format!(" per {field}"),
    }
    label
}
