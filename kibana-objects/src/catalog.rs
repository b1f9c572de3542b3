//! What can be shown: KuMon's metrics, and the configured inputs.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use kumon_query::{FieldKind, Fields};
use kumon_schema::{Function, Kind, Schema, Statistic};

use crate::model::Unit;

/// Rows that panels can be about.
#[derive(Debug)]
pub struct Metric {
    /// What a request calls it: a metric (`exec`) or an input's dataset (`app.events`).
    pub name: String,
    /// A few words.
    pub title: String,
    /// Whether rows are single events or summaries of an interval.
    pub kind: Kind,
    /// The data streams' names in every namespace, as Kibana's data views take it: `logs-kumon.exec-*`.
    pub pattern: String,
    /// The fields of its rows.
    pub fields: Fields,
    /// The metric of the same rows, summed up by 10 minutes.
    pub coarse: Option<Arc<Metric>>,
    schema: Option<Schema>,
}

/// All that can be shown.
#[derive(Debug, Clone)]
pub struct Catalog {
    metrics: Vec<Arc<Metric>>,
}

impl Metric {
    fn own(schema: &Schema) -> Metric {
        Metric {
            name: schema.name.clone(),
            title: schema.title.clone(),
            kind: schema.kind,
            pattern: schema.data_stream("*"),
            fields: Fields::of(schema),
            coarse: kumon_schema::coarse(&schema.name).map(|coarse| Arc::new(Metric::own(coarse))),
            schema: Some(schema.clone()),
        }
    }

    fn input(dataset: &str) -> Metric {
        Metric {
            name: dataset.into(),
            title: dataset.into(),
            kind: Kind::Event,
            pattern: format!("{}-{dataset}-*", Kind::Event.stream_type()),
            fields: Fields::foreign(),
            coarse: None,
            schema: None,
        }
    }

    /// What a field's numbers measure.
    pub fn unit(&self, field: &str) -> Unit {
        let unit = self.column(field).map_or("", |column| column.unit.as_str());
        match unit {
            "ns" => Unit::Nanoseconds,
            "bytes" => Unit::Bytes,
            "fraction" => Unit::Fraction,
            _ if self.fields.kind(field) == Some(FieldKind::Date) => Unit::Time,
            _ => Unit::Count,
        }
    }

    /// What people call a field: the schema's title, else its column's name in words; an input's field has its own name only.
    pub fn label<'a>(&'a self, field: &'a str) -> Cow<'a, str> {
        match self.column(field) {
            None => field.into(),
            Some(column) if !column.meaning.title.is_empty() => column.meaning.title.as_str().into(),
            Some(column) => words(&column.name).into(),
        }
    }

    /// How far apart rows are by default, ns; 0 where that is as usual.
    pub(crate) fn rows_apart(&self) -> i64 {
        let seconds = self.schema.as_ref().and_then(|schema| schema.interval);
        seconds.map_or(0, |seconds| i64::from(seconds) * 1_000_000_000)
    }

    /// What a field sums up of its row's interval, where it does.
    pub(crate) fn statistic(&self, field: &str) -> Option<&Statistic> {
        self.column(field)?.meaning.statistic.as_ref()
    }

    /// The field of another statistic of the same values.
    pub(crate) fn field_of(&self, function: Function, of: &str) -> Option<&str> {
        let is = |statistic: &Statistic| statistic.function == function && statistic.of == of;
        let column = self.columns().find(|column| column.meaning.statistic.as_ref().is_some_and(is));
        column.map(|column| column.ecs.as_str())
    }

    /// Whether a field's texts stand for numbers, and sort like them: the lines of a scale.
    pub(crate) fn is_scale(&self, field: &str) -> bool {
        self.labelled(field).is_some()
    }

    /// The field for whose numbers a field's texts stand.
    pub(crate) fn labelled(&self, field: &str) -> Option<&str> {
        let name = self.column(field)?.meaning.label_of.as_ref()?;
        self.columns().find(|column| column.name == *name).map(|column| column.ecs.as_str())
    }

    /// Whether the field may stand in a table's first column, a breakdown or a control.
    pub(crate) fn has_values(&self, field: &str) -> bool {
        !matches!(self.fields.kind(field), None | Some(FieldKind::Words | FieldKind::Date))
    }

    /// The columns in their order; none of an input's.
    pub fn columns(&self) -> impl Iterator<Item = &kumon_schema::Field> {
        self.schema.iter().flat_map(|schema| &schema.fields)
    }

    fn column(&self, field: &str) -> Option<&kumon_schema::Field> {
        self.columns().find(|column| column.ecs == field)
    }

    /// What to say where there is no such field.
    pub(crate) fn no_field(&self, field: &str) -> String {
        let hint = match self.columns().find(|column| column.name == field) {
            Some(column) => format!("the column '{field}' is the field '{}'", column.ecs),
            None => {
                let hint = self.fields.did_you_mean(field);
                hint.unwrap_or_else(|| "docs/metrics.md lists the fields".into())
            }
        };
        format!("the metric '{}' has no field '{field}'; {hint}", self.name)
    }
}

impl Catalog {
    /// KuMon's own metrics.
    pub fn builtin() -> &'static Catalog {
        static BUILTIN: LazyLock<Catalog> = LazyLock::new(|| {
            let metrics = kumon_schema::all().iter().filter(|schema| schema.coarse_of.is_none());
            let metrics = metrics.map(|schema| Arc::new(Metric::own(schema)));
            Catalog { metrics: metrics.collect() }
        });
        &BUILTIN
    }

    /// With the datasets of further inputs; their fields are not known beforehand.
    pub fn with_inputs<'a>(mut self, datasets: impl IntoIterator<Item = &'a str>) -> Catalog {
        for dataset in datasets {
            if self.find(dataset).is_none() {
                self.metrics.push(Arc::new(Metric::input(dataset)));
            }
        }
        self
    }

    /// All metrics, ordered by name, then the inputs; without those by 10 minutes, see [`Metric::coarse`].
    pub fn metrics(&self) -> &[Arc<Metric>] {
        &self.metrics
    }

    /// The metrics of single events, then those that sum up, each ordered by name.
    pub(crate) fn events_first(&self) -> Vec<&Metric> {
        let mut metrics: Vec<&Metric> = self.metrics.iter().map(Arc::as_ref).collect();
        metrics.sort_by_key(|metric| metric.kind != Kind::Event);
        metrics
    }

    /// What people call a field, whichever metric it is of.
    pub(crate) fn label<'a>(&'a self, field: &'a str) -> Cow<'a, str> {
        let of = self.metrics.iter().find(|metric| metric.column(field).is_some());
        of.map_or(field.into(), |metric| metric.label(field))
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Arc<Metric>> {
        let coarse = self.metrics.iter().filter_map(|metric| metric.coarse.as_ref());
        self.metrics.iter().chain(coarse).find(|metric| metric.name == name)
    }
}

/// A column's name as people write it: `exit_code` is `Exit code`.
fn words(name: &str) -> String {
    const CAPITALS: &[&str] = &["cpu", "gid", "id", "io", "ip", "pid", "ppid", "tcp", "tid", "udp", "uid"];
    let words = name.split('_').enumerate().map(|(at, word)| match word {
        _ if CAPITALS.contains(&word) => word.to_uppercase(),
        _ if at == 0 => capitalized(word),
        _ => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    first + letters.as_str()
}

#[cfg(test)]
mod tests {
    use super::{Catalog, words};

    #[test]
    fn fields_are_called_by_their_titles_or_by_their_columns_names() {
        let names = ["pid", "exit_code", "tcp_listen_drops", "p99", "ppid", "source_ip"].map(words);
        assert_eq!(names, ["PID", "Exit code", "TCP listen drops", "P99", "PPID", "Source IP"]);
        let catalog = Catalog::builtin();
        assert_eq!([catalog.label("process.name"), catalog.label("app.user")], ["Process", "app.user"]);
    }
}
