//! Reading what KuMon's own schemas say beyond how columns are read, see [`Meaning`]. What a foreign file's schema says
//! under the same keys means nothing here, and must not be a mistake.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::schema::{Field, FieldType, Function, Kind, Meaning, MetricType, Schema, Statistic, Top};

/// The keys of a metric, and of a column, that are not read here.
const OTHER_KEYS: &[&str] =
    &["name", "version", "title", "description", "kind", "hasCoarse", "missingValues", "fields"];
const OTHER_COLUMN_KEYS: &[&str] =
    &["name", "type", "itemType", "delimiter", "unit", "description", "ecs", "elasticsearch", "constraints"];

/// What a text says about the metric.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Said {
    histogram_of: Option<String>,
    coarse_of: Option<String>,
    top: Option<Top>,
    interval: Option<u32>,
    fields: Vec<SaidOfColumn>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SaidOfColumn {
    #[serde(default)]
    dimension: bool,
    metric_type: Option<String>,
    statistic: Option<SaidOfStatistic>,
    label_of: Option<String>,
    #[serde(default)]
    title: String,
    #[serde(default = "yes")]
    shown: bool,
    coarse: Option<Coarse>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SaidOfStatistic {
    function: String,
    of: String,
}

/// What becomes of a column in the rows by 10 minutes, where that doesn't follow from what it is.
#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Coarse {
    Last,
}

fn yes() -> bool {
    true
}

/// The schemas of all metrics, of their texts.
///
/// # Errors
/// The first mistake, with its file, its column, and what to do.
pub(crate) fn read<T: AsRef<str>>(texts: &[T]) -> Result<Vec<Schema>, String> {
    let schemas = texts.iter().map(|text| read_one(text.as_ref())).collect::<Result<Vec<_>, _>>()?;
    for schema in &schemas {
        check_histogram(schema, &schemas).map_err(|what| format!("{}: {what}", file(schema)))?;
    }
    check_alike(&schemas)?;
    Ok(schemas)
}

fn file(schema: &Schema) -> String {
    format!("csv-schemas/{}.json", schema.name)
}

fn column(schema: &Schema, field: &Field, what: &str) -> String {
    format!("{}: column '{}': {what}", file(schema), field.name)
}

fn read_one(text: &str) -> Result<Schema, String> {
    let mut schema = Schema::parse(text).map_err(|e| e.to_string())?;
    let said: Said = serde_json::from_str(text).map_err(|e| format!("{}: {e}", file(&schema)))?;
    if let Some(unknown) = said.others.keys().find(|key| !OTHER_KEYS.contains(&key.as_str())) {
        let known = OTHER_KEYS.join(", ");
        return Err(format!(
            "{}: there is no property '{unknown}'; a metric has histogramOf, top, interval, {known}",
            file(&schema)
        ));
    }
    schema.histogram_of = said.histogram_of;
    (schema.coarse_of, schema.top) = (said.coarse_of, said.top);
    schema.interval = said.interval;
    for (at, said) in said.fields.into_iter().enumerate() {
        let meaning = meaning(schema.kind, &schema.fields[at], said);
        let meaning = meaning.map_err(|what| column(&schema, &schema.fields[at], &what))?;
        schema.fields[at].meaning = meaning;
    }
    for field in &schema.fields {
        check_label(&schema, field).map_err(|what| column(&schema, field, &what))?;
        check_statistic(&schema, field).map_err(|what| column(&schema, field, &what))?;
    }
    check_top(&schema).map_err(|what| format!("{}: {what}", file(&schema)))?;
    Ok(schema)
}

fn meaning(kind: Kind, field: &Field, said: SaidOfColumn) -> Result<Meaning, String> {
    if let Some(unknown) = said.others.keys().find(|key| !OTHER_COLUMN_KEYS.contains(&key.as_str())) {
        let known = OTHER_COLUMN_KEYS.join(", ");
        return Err(format!(
            "there is no property '{unknown}'; a column has dimension, metricType, statistic, labelOf, title, shown, \
             coarse, \
             {known}"
        ));
    }
    let metric_type = metric_type(field, said.dimension, said.metric_type.as_deref())?;
    let statistic = said.statistic.map(|said| statistic(kind, metric_type, said)).transpose()?;
    let is_last = said.coarse == Some(Coarse::Last);
    Ok(Meaning {
        metric_type,
        statistic,
        label_of: said.label_of,
        title: said.title,
        shown: said.shown,
        is_last,
    })
}

fn metric_type(field: &Field, dimension: bool, name: Option<&str>) -> Result<Option<MetricType>, String> {
    let is_number = matches!(field.r#type, FieldType::Integer | FieldType::Number);
    let metric_type = match (is_number, dimension, name) {
        (false, false, None) | (true, true, None) => return Ok(None),
        (false, _, _) => {
            return Err("only numbers can be measures, what else there is names something: leave out \
                        'dimension' and 'metricType'"
                .into());
        }
        (true, true, Some(_)) => {
            return Err("it is a dimension or a measure: leave out 'dimension' or 'metricType'".into());
        }
        (true, false, None) => {
            return Err(
                "what are its numbers? Say \"metricType\": \"counter\" where they add up over rows, \
                        \"gauge\" where each stands for itself, or \"dimension\": true where they name \
                        something"
                    .into(),
            );
        }
        (true, false, Some("counter")) => MetricType::Counter,
        (true, false, Some("gauge")) => MetricType::Gauge,
        (true, false, Some(other)) => {
            return Err(format!("'{other}' is no metricType: take counter or gauge"));
        }
    };
    match field.elasticsearch["type"].as_str() {
        Some("long" | "double") => Ok(Some(metric_type)),
        _ => Err("a measure is calculated with: map it as long or double".into()),
    }
}

fn statistic(
    kind: Kind,
    metric_type: Option<MetricType>,
    said: SaidOfStatistic,
) -> Result<Statistic, String> {
    if kind == Kind::Event {
        return Err("the row of an event sums up nothing: leave out 'statistic'".into());
    }
    let percentile = || said.function.strip_prefix('p')?.parse().ok().filter(|p| (1..=99).contains(p));
    let function = match said.function.as_str() {
        "count" => Function::Count,
        "sum" => Function::Sum,
        "min" => Function::Min,
        "max" => Function::Max,
        other => percentile().map(Function::Percentile).ok_or_else(|| {
            format!("'{other}' is no statistic: take count, sum, min, max, or a percentile such as p99")
        })?,
    };
    let fitting = match function {
        Function::Count | Function::Sum => MetricType::Counter,
        Function::Min | Function::Max | Function::Percentile(_) => MetricType::Gauge,
    };
    if metric_type != Some(fitting) {
        return Err(format!("a {function} needs \"metricType\": \"{}\"", fitting.name()));
    }
    Ok(Statistic { function, of: said.of })
}

fn check_label(schema: &Schema, field: &Field) -> Result<(), String> {
    let Some(labelled) = &field.meaning.label_of else { return Ok(()) };
    let is_dimension = |field: &Field| {
        field.meaning.metric_type.is_none() && matches!(field.r#type, FieldType::Integer | FieldType::Number)
    };
    match schema.fields.iter().find(|other| other.name == *labelled) {
        _ if field.r#type != FieldType::String => {
            Err("only a text labels something: leave out 'labelOf'".into())
        }
        None => Err(format!("labelOf: there is no column '{labelled}' that it could label")),
        Some(other) if !is_dimension(other) => {
            Err(format!("labelOf: '{labelled}' is no dimension of numbers; texts label such ones"))
        }
        Some(_) => Ok(()),
    }
}

fn check_statistic(schema: &Schema, field: &Field) -> Result<(), String> {
    let Some(statistic) = &field.meaning.statistic else { return Ok(()) };
    let other = schema
        .fields
        .iter()
        .find(|other| other.meaning.statistic.as_ref() == Some(statistic) && other.name != field.name);
    other.map_or(Ok(()), |other| {
        let Statistic { function, of } = statistic;
        Err(format!("'{}' is the {function} of {of} already: say of what this one is", other.name))
    })
}

fn check_top(schema: &Schema) -> Result<(), String> {
    let Some(Top { by, other }) = &schema.top else { return Ok(()) };
    let column = |name: &String| schema.fields.iter().find(|field| field.name == *name);
    if let Some(name) = by.iter().find(|name| column(name).is_none_or(|of| of.meaning.metric_type.is_none()))
    {
        return Err(format!("top: there is no measure '{name}' by which a key could be the largest"));
    }
    match other.iter().find(|name| column(name).is_none_or(|of| of.r#type != FieldType::String)) {
        Some(name) => Err(format!("top: there is no column of texts '{name}' that could say 'other'")),
        None => Ok(()),
    }
}

/// A histogram shows values of which the other metric has the statistics.
fn check_histogram(schema: &Schema, all: &[Schema]) -> Result<(), String> {
    let Some(name) = &schema.histogram_of else { return Ok(()) };
    let whole = all.iter().find(|other| other.name == *name);
    let whole = whole.ok_or_else(|| {
        format!("histogramOf: there is no metric '{name}'; name one that has a file in csv-schemas")
    })?;
    if whole.histogram_of.is_some() {
        return Err(format!("histogramOf: '{name}' is a histogram itself; name the metric that it is of"));
    }
    let measured = |schema: &Schema| -> Vec<String> {
        schema.fields.iter().filter_map(|field| Some(field.meaning.statistic.as_ref()?.of.clone())).collect()
    };
    let of_whole = measured(whole);
    if !measured(schema).iter().any(|of| of_whole.contains(of)) {
        return Err(format!(
            "histogramOf: no column is a 'statistic' of what '{name}' has statistics of ({})",
            of_whole.join(", ")
        ));
    }
    Ok(())
}

/// Dashboards, queries and pages know a field by its name alone: it means the same in all metrics.
fn check_alike(all: &[Schema]) -> Result<(), String> {
    let mut known: HashMap<&str, (&Schema, &Meaning)> = HashMap::new();
    for (schema, field) in
        all.iter().flat_map(|schema| schema.fields.iter().map(move |field| (schema, field)))
    {
        let (first, meaning) = known.entry(&field.ecs).or_insert((schema, &field.meaning));
        let differing = [
            ("shown", meaning.shown == field.meaning.shown),
            ("title", meaning.title == field.meaning.title),
            ("metricType", meaning.metric_type == field.meaning.metric_type),
        ];
        if let Some((key, _)) = differing.iter().find(|(_, alike)| !alike) {
            let what = format!(
                "'{key}' of the field {} is another in {}: let both say the same",
                field.ecs,
                file(first)
            );
            return Err(column(schema, field, &what));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::read;

    /// A metric with a measure, a dimension of numbers and a label of it, and its histogram.
    fn right() -> [Value; 2] {
        let column = |name: &str, r#type: &str| json!({"name": name, "type": r#type, "ecs": name});
        let with = |mut column: Value, more: Value| {
            column.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            column
        };
        let statistic = |name: &str, metric_type: &str| {
            let meaning = json!({"metricType": metric_type, "statistic": {"function": name, "of": "waits"}});
            with(column(name, "integer"), meaning)
        };
        let text = column("key", "string");
        let lat = json!({"name": "lat", "kind": "summary", "fields": [
            text, statistic("sum", "counter"), statistic("p99", "gauge"),
        ]});
        let low = with(column("low", "integer"), json!({"dimension": true}));
        let label = with(column("label", "string"), json!({"labelOf": "low"}));
        let hist = json!({"name": "lat_hist", "kind": "summary", "histogramOf": "lat", "fields": [
            text, low, label, statistic("count", "counter"),
        ]});
        [lat, hist]
    }

    fn read_values(schemas: &[Value]) -> Result<Vec<crate::Schema>, String> {
        read(&schemas.iter().map(Value::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn what_a_column_is_is_read() {
        use crate::{Function, MetricType, Statistic};
        let schemas = read_values(&right()).unwrap();
        assert_eq!(schemas[1].histogram_of.as_deref(), Some("lat"));
        let [key, sum, p99] = &schemas[0].fields[..] else { panic!("{schemas:?}") };
        assert_eq!((key.meaning.metric_type, key.meaning.shown), (None, true));
        assert_eq!(sum.meaning.metric_type, Some(MetricType::Counter));
        let expected = Statistic { function: Function::Percentile(99), of: "waits".into() };
        assert_eq!(p99.meaning.statistic, Some(expected));
        assert_eq!(schemas[1].fields[2].meaning.label_of.as_deref(), Some("low"));
    }

    #[test]
    fn each_mistake_is_named_with_its_file_its_column_and_what_to_do() {
        // Schema, column, property, what it says wrongly (null: leaves it out), and the message.
        for (schema, column, property, value, expected) in [
            (
                0,
                1,
                "metricType",
                Value::Null,
                r#"lat.json: column 'sum': what are its numbers? Say "metricType": "counter""#,
            ),
            (0, 1, "metricType", json!("total"), "'total' is no metricType: take counter or gauge"),
            (0, 1, "dimension", json!(true), "leave out 'dimension' or 'metricType'"),
            (0, 0, "metricType", json!("gauge"), "lat.json: column 'key': only numbers can be measures"),
            (0, 0, "dimension", json!(true), "leave out 'dimension' and 'metricType'"),
            (0, 1, "elasticsearch", json!({"type": "keyword"}), "map it as long or double"),
            (
                0,
                2,
                "statistic",
                json!({"function": "p100", "of": "waits"}),
                "'p100' is no statistic: take count, sum",
            ),
            (0, 2, "statistic", json!({"function": "mean", "of": "waits"}), "'mean' is no statistic"),
            (0, 2, "statistic", json!({"function": "p99"}), "missing field `of`"),
            (
                0,
                2,
                "statistic",
                json!({"function": "sum", "of": "x"}),
                r#"a sum needs "metricType": "counter""#,
            ),
            (0, 2, "metricType", json!("counter"), r#"a p99 needs "metricType": "gauge""#),
            (
                1,
                1,
                "statistic",
                json!({"function": "min", "of": "waits"}),
                r#"a min needs "metricType": "gauge""#,
            ),
            (
                0,
                0,
                "metrictype",
                json!("gauge"),
                "there is no property 'metrictype'; a column has dimension, metricType",
            ),
            (
                1,
                2,
                "labelOf",
                json!("lowest"),
                "lat_hist.json: column 'label': labelOf: there is no column 'lowest'",
            ),
            (1, 2, "labelOf", json!("count"), "'count' is no dimension of numbers"),
            (1, 2, "labelOf", json!("key"), "'key' is no dimension of numbers"),
            (1, 1, "labelOf", json!("low"), "only a text labels something"),
            (
                1,
                0,
                "shown",
                json!(false),
                "lat_hist.json: column 'key': 'shown' of the field key is another in csv-schemas/lat.json",
            ),
            (1, 0, "title", json!("Key"), "'title' of the field key is another"),
        ] {
            let mut schemas = right();
            let column = schemas[schema]["fields"][column].as_object_mut().unwrap();
            match value {
                Value::Null => drop(column.remove(property)),
                value => drop(column.insert(property.into(), value)),
            }
            let message = read_values(&schemas).expect_err(expected);
            assert!(
                message.contains(expected) && message.starts_with("csv-schemas/lat"),
                "{expected}: {message}"
            );
        }
    }

    #[test]
    fn mistakes_of_a_metric_are_named_with_its_file() {
        for (schema, property, value, expected) in [
            (1, "histogramOf", json!("latency"), "lat_hist.json: histogramOf: there is no metric 'latency'"),
            (1, "histogramOf", json!("lat_hist"), "'lat_hist' is a histogram itself"),
            (1, "histogramof", json!("lat"), "there is no property 'histogramof'; a metric has histogramOf"),
            (0, "kind", json!("event"), "column 'sum': the row of an event sums up nothing"),
        ] {
            let mut schemas = right();
            schemas[schema][property] = value;
            let message = read_values(&schemas).expect_err(expected);
            assert!(message.contains(expected), "{expected}: {message}");
        }
        let mut of_another = right();
        of_another[1]["fields"][3]["statistic"]["of"] = json!("sizes");
        let message = read_values(&of_another).unwrap_err();
        assert!(message.contains("of what 'lat' has statistics of (waits, waits)"), "{message}");
        let mut twice = right();
        let mut again = twice[0]["fields"][1].clone();
        (again["name"], again["ecs"]) = (json!("total"), json!("total"));
        twice[0]["fields"].as_array_mut().unwrap().push(again);
        let message = read_values(&twice).unwrap_err();
        assert!(message.contains("column 'sum': 'total' is the sum of waits already"), "{message}");
    }

    #[test]
    fn a_foreign_schema_may_use_the_same_keys_for_something_else() {
        let foreign = r#"{"fields": [{"name": "n", "type": "integer", "statistic": "mean", "shown": 3}]}"#;
        assert_eq!(crate::Schema::parse(foreign).unwrap().fields[0].meaning, crate::Meaning::default());
    }
}
