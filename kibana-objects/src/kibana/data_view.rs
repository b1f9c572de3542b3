//! Data views: one for each metric, one over all, and those that drop-downs take their values from.

use std::collections::BTreeMap;

use kumon_schema::FieldType;
use serde_json::{Map, Value, json};

use super::object::{Reference, SavedObject, SavedObjectType, encoded};
use crate::catalog::{Catalog, Metric};
use crate::model::{Content, Control, Dashboard, Unit};
use crate::resolve::id_of;

/// The id of the data view over all metrics.
const ALL: &str = "kumon-all";

/// The id of a metric's data view.
pub(super) fn id(metric: &Metric) -> String {
    format!("kumon-{}", id_of(&metric.name))
}

pub(super) fn of_metric(metric: &Metric) -> SavedObject {
    data_view(
        id(metric),
        &metric.pattern,
        &format!("KuMon {}: {}", metric.name, metric.title),
        labels(metric),
        formats(metric),
    )
}

/// The data view that a drop-down takes its values from: those in the dashboard's own rows.
pub(super) fn id_of_control(dashboard: &Dashboard, control: &Control) -> String {
    match dashboard.metrics_of(control).as_slice() {
        [metric] => id(metric),
        _ => id_of_dashboard(dashboard),
    }
}

/// The data view over a dashboard's metrics.
pub(super) fn id_of_dashboard(dashboard: &Dashboard) -> String {
    format!("kumon-of-{}", dashboard.name)
}

/// The data view over a dashboard's metrics, where a drop-down or a table needs more than one.
pub(super) fn of_dashboard(dashboard: &Dashboard) -> Option<SavedObject> {
    let id = id_of_dashboard(dashboard);
    let of_several = dashboard.controls.iter().filter(|control| id_of_control(dashboard, control) == id);
    let of_controls = of_several.flat_map(|control| dashboard.metrics_of(control));
    let joined = dashboard.panels.iter().filter(|panel| matches!(panel.content, Content::Joined(_)));
    let of_tables = joined.flat_map(|panel| panel.content.metrics());
    let metrics = of_controls.chain(of_tables);
    let metrics: BTreeMap<&str, &Metric> = metrics.map(|metric| (metric.name.as_str(), metric)).collect();
    if metrics.is_empty() {
        return None;
    }
    let patterns: Vec<&str> = metrics.values().map(|metric| metric.pattern.as_str()).collect();
    let labels = metrics.values().flat_map(|metric| labels(metric)).collect();
    let formats = metrics.values().flat_map(|metric| formats(metric)).collect();
    let name = format!("KuMon: values for the dashboard {}", dashboard.title);
    Some(data_view(id, &patterns.join(","), &name, labels, formats))
}

pub(super) fn of_all(catalog: &Catalog) -> SavedObject {
    let mut patterns = vec!["logs-kumon.*", "metrics-kumon.*"];
    let patterns_of_inputs = catalog.metrics().iter().filter(|metric| metric.fields.is_open());
    patterns.extend(patterns_of_inputs.map(|metric| metric.pattern.as_str()));
    let metrics = || catalog.metrics().iter();
    let labels = metrics().flat_map(|metric| labels(metric)).collect();
    let formats = metrics().flat_map(|metric| formats(metric)).collect();
    data_view(ALL.into(), &patterns.join(","), "KuMon: everything", labels, formats)
}

fn data_view(
    id: String,
    title: &str,
    name: &str,
    labels: Map<String, Value>,
    formats: Map<String, Value>,
) -> SavedObject {
    SavedObject {
        r#type: SavedObjectType::DataView,
        id,
        attributes: json!({
            "title": title,
            "name": name,
            "timeFieldName": "@timestamp",
            // Rows of a metric that is switched off never come; that is no mistake.
            "allowNoIndex": true,
            "fields": "[]",
            "fieldAttrs": encoded(&Value::Object(labels)),
            "fieldFormatMap": encoded(&Value::Object(formats)),
            "runtimeFieldMap": "{}",
            "sourceFilters": "[]",
            "typeMeta": "{}",
        }),
        references: vec![Reference::to_tag()],
    }
}

/// What Discover and charts call a field.
fn labels(metric: &Metric) -> Map<String, Value> {
    let columns = metric.columns().filter(|column| column.ecs != "@timestamp");
    columns.map(|column| (column.ecs.clone(), json!({"customLabel": metric.label(&column.ecs)}))).collect()
}

/// How Discover and tables write a field's values.
fn formats(metric: &Metric) -> Map<String, Value> {
    let mut formats = Map::new();
    for column in metric.columns() {
        let format = match metric.unit(&column.ecs) {
            Unit::Nanoseconds => json!({"id": "duration", "params": {
                "inputFormat": "nanoseconds", "outputFormat": "humanizePrecise", "outputPrecision": 3,
                "includeSpaceWithSuffix": true, "useShortSuffix": true,
            }}),
            Unit::Bytes => json!({"id": "bytes"}),
            Unit::Fraction => json!({"id": "percent"}),
            _ if column.ecs == "container.id" => truncated(12),
            _ if column.ecs == "kumon.exit.signal" => lookup(SIGNALS),
            _ if column.unit == "errno" => lookup(ERRORS),
            // Numbers that name something: 1234, not 1,234.
            _ if column.r#type == FieldType::Integer && column.meaning.metric_type.is_none() => {
                json!({"id": "number", "params": {"pattern": "0"}})
            }
            _ => continue,
        };
        formats.insert(column.ecs.clone(), format);
    }
    formats
}

/// The first letters, which is what the runtimes' own tools show of an id.
fn truncated(length: u32) -> Value {
    json!({"id": "truncate", "params": {"fieldLength": length}})
}

/// The number with its name; one without a name as it is.
fn lookup(names: &[(i32, &str)]) -> Value {
    let entries = names
        .iter()
        .map(|(number, name)| json!({"key": number.to_string(), "value": format!("{number} {name}")}));
    json!({"id": "static_lookup", "params": {"lookupEntries": entries.collect::<Vec<_>>(), "unknownKeyValue": null}})
}

/// signal(7), as on x86 and ARM.
const SIGNALS: &[(i32, &str)] = &[
    (1, "SIGHUP"),
    (2, "SIGINT"),
    (3, "SIGQUIT"),
    (4, "SIGILL"),
    (5, "SIGTRAP"),
    (6, "SIGABRT"),
    (7, "SIGBUS"),
    (8, "SIGFPE"),
    (9, "SIGKILL"),
    (10, "SIGUSR1"),
    (11, "SIGSEGV"),
    (12, "SIGUSR2"),
    (13, "SIGPIPE"),
    (14, "SIGALRM"),
    (15, "SIGTERM"),
    (24, "SIGXCPU"),
    (25, "SIGXFSZ"),
    (31, "SIGSYS"),
];

/// What execve(2) fails with, as the kernel returns it.
const ERRORS: &[(i32, &str)] = &[
    (-1, "EPERM"),
    (-2, "ENOENT"),
    (-5, "EIO"),
    (-7, "E2BIG"),
    (-8, "ENOEXEC"),
    (-11, "EAGAIN"),
    (-12, "ENOMEM"),
    (-13, "EACCES"),
    (-14, "EFAULT"),
    (-20, "ENOTDIR"),
    (-22, "EINVAL"),
    (-23, "ENFILE"),
    (-24, "EMFILE"),
    (-26, "ETXTBSY"),
    (-36, "ENAMETOOLONG"),
    (-40, "ELOOP"),
];
