//! The schemas of KuMon's own metrics.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use crate::schema::{DATASETS, Schema};
use crate::{meaning, rows};

/// The schemas of all of KuMon's metrics, ordered by name.
pub fn all() -> &'static [Schema] {
    static ALL: LazyLock<Vec<Schema>> =
        LazyLock::new(|| meaning::read(rows::TEXTS).expect("build.rs has read the same texts"));
    &ALL
}

/// The schema of one of KuMon's metrics.
pub fn builtin(metric: &str) -> Option<&'static Schema> {
    all().iter().find(|schema| schema.name == metric)
}

/// The schema of the metric of one of KuMon's own datasets, such as `kumon.exec`.
pub fn of_dataset(dataset: &str) -> Option<&'static Schema> {
    builtin(dataset.strip_prefix(DATASETS)?)
}

/// The metric that has the rows of another one summed up by 10 minutes.
pub fn coarse(metric: &str) -> Option<&'static Schema> {
    all().iter().find(|schema| schema.coarse_of.as_deref() == Some(metric))
}

/// The metric that another one comes with, and is switched with: what a histogram is of, or what is summed up.
pub fn whole(metric: &str) -> Option<&'static str> {
    let schema = builtin(metric)?;
    let fine = schema.coarse_of.as_ref().and_then(|fine| builtin(fine));
    let whole = fine.unwrap_or(schema).histogram_of.as_deref();
    whole.or(schema.coarse_of.as_deref())
}

/// The document fields that tables of one node's rows leave out: those that are shown to nobody unasked, and those that
/// tell which node a row is of.
pub fn left_out_of_tables() -> &'static BTreeSet<&'static str> {
    static FIELDS: LazyLock<BTreeSet<&str>> = LazyLock::new(|| {
        let left_out = |schema: &'static Schema| {
            let of_node = schema.fields_of_node().iter();
            of_node.chain(schema.fields.iter().filter(|field| !field.meaning.shown))
        };
        all().iter().flat_map(left_out).map(|field| field.ecs.as_str()).collect()
    });
    &FIELDS
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::{all, builtin, left_out_of_tables};
    use crate::{Field, FieldType};

    #[test]
    fn tables_leave_out_the_node_and_what_people_do_not_read() {
        let expected = [
            "event.dataset",
            "event.module",
            "host.boot.id",
            "host.id",
            "host.name",
            "kubernetes.pod.uid",
            "kumon.cgroup.id",
            "kumon.filelife.creator.entity_id",
            "kumon.interval",
            "process.entity_id",
        ];
        // Beside these the fields that are there for Kibana's own views, which say nothing that others don't.
        let for_kibana = |field: &&&str| field.starts_with("system.") || field.starts_with("metricset.");
        let left_out: Vec<&str> =
            left_out_of_tables().iter().filter(|field| !for_kibana(field)).copied().collect();
        assert_eq!(left_out, expected);
    }

    /// What the views Infrastructure and Hosts of Kibana 8.12 to 9.x ask `metrics-*` for (its plugin metrics_data_access,
    /// inventory_models/host), and the types with which they calculate. A share is from 0 to 1.
    #[test]
    fn what_kibana_s_own_views_ask_for_is_there() {
        for (metric, dataset, fields) in [
            (
                "cpu",
                "system.cpu",
                &[
                    "cpu.cores:long",
                    "cpu.user.pct:double",
                    "cpu.system.pct:double",
                    "cpu.iowait.pct:double",
                    "cpu.irq.pct:double",
                    "cpu.softirq.pct:double",
                    "cpu.steal.pct:double",
                    "cpu.nice.pct:double",
                    "cpu.total.norm.pct:double",
                    "load.1:double",
                    "load.5:double",
                    "load.15:double",
                    "load.cores:long",
                ][..],
            ),
            (
                "memory",
                "system.memory",
                &[
                    "memory.total:long",
                    "memory.free:long",
                    "memory.used.bytes:long",
                    "memory.actual.used.bytes:long",
                    "memory.actual.used.pct:double",
                ],
            ),
            (
                "disk",
                "system.diskio",
                &[
                    "diskio.name:keyword",
                    "diskio.read.bytes:long",
                    "diskio.write.bytes:long",
                    "diskio.read.count:long",
                    "diskio.write.count:long",
                    "diskio.read.time:long",
                    "diskio.write.time:long",
                ],
            ),
            (
                "filesystem",
                "system.filesystem",
                &[
                    "filesystem.mount_point:keyword",
                    "filesystem.device_name:keyword",
                    "filesystem.type:keyword",
                    "filesystem.total:long",
                    "filesystem.free:long",
                    "filesystem.available:long",
                    "filesystem.used.bytes:long",
                    "filesystem.used.pct:double",
                    "filesystem.files:long",
                    "filesystem.free_files:long",
                ],
            ),
            (
                "netdev",
                "system.network",
                &["network.name:keyword", "network.in.bytes:long", "network.out.bytes:long"],
            ),
            (
                "process",
                "system.process",
                &[
                    "process.cpu.total.pct:double",
                    "process.cpu.start_time:date",
                    "process.memory.rss.bytes:long",
                    "process.memory.rss.pct:double",
                    "process.state:keyword",
                ],
            ),
        ] {
            let schema = builtin(metric).unwrap();
            let types = |ecs: &str| {
                schema.fields.iter().find(|field| field.ecs == ecs).map(|field| &field.elasticsearch["type"])
            };
            for field in fields {
                let (field, expected) = field.split_once(':').unwrap();
                assert_eq!(types(&format!("system.{field}")).unwrap(), expected, "{metric}: system.{field}");
            }
            let text: serde_json::Value = serde_json::from_str(&schema.text).unwrap();
            for (ecs, value) in [("event.module", "system"), ("event.dataset", dataset)] {
                let field = text["fields"].as_array().unwrap().iter().find(|field| field["ecs"] == ecs);
                assert_eq!(field.unwrap()["constraints"]["enum"], serde_json::json!([value]), "{metric}");
            }
        }
        let netstat = builtin("netstat").unwrap();
        for field in ["host.network.ingress.bytes", "host.network.egress.bytes", "metricset.period"] {
            assert!(
                netstat.fields.iter().any(|of| of.ecs == field && of.elasticsearch["type"] == "long"),
                "{field}"
            );
        }
    }

    /// ECS's own names of what containers use.
    #[test]
    fn containers_have_the_names_of_ecs() {
        let container = builtin("container").unwrap();
        for (field, expected) in [
            ("container.cpu.usage", "double"),
            ("container.memory.usage", "double"),
            ("container.disk.read.bytes", "long"),
            ("container.disk.write.bytes", "long"),
            ("container.network.ingress.bytes", "long"),
            ("container.network.egress.bytes", "long"),
        ] {
            let found = container.fields.iter().find(|of| of.ecs == field);
            assert_eq!(found.unwrap().elasticsearch["type"], expected, "{field}");
        }
    }

    #[test]
    fn whom_a_row_is_about_has_its_names() {
        let fields = |metric: &str| -> Vec<&str> {
            builtin(metric).unwrap().fields.iter().map(|field| field.ecs.as_str()).collect()
        };
        let exec = fields("exec");
        let at = |name: &str| exec.iter().position(|field| *field == name).unwrap();
        assert_eq!(at("user.name"), at("user.id") + 1);
        let names = [
            "container.name",
            "container.image.name",
            "container.runtime",
            "systemd.unit",
            "kubernetes.namespace",
            "kubernetes.pod.name",
            "kubernetes.pod.uid",
            "kubernetes.container.name",
        ];
        assert_eq!(exec[at("container.id") + 1..][..names.len()], names);
        for schema in all() {
            let fields = fields(&schema.name);
            let has = |name: &str| fields.contains(&name);
            let of_process_or_cgroup = has("process.pid") || has("kumon.cgroup.id");
            assert_eq!(names.map(has), [of_process_or_cgroup; 8], "{}", schema.name);
            assert_eq!(has("user.id"), has("user.name"), "{}", schema.name);
        }
    }

    #[test]
    fn every_column_is_described_mapped_and_means_the_same_everywhere() {
        let mut documents: HashMap<&str, &Field> = HashMap::new();
        for schema in all() {
            assert!(!schema.title.is_empty() && !schema.description.is_empty(), "{}", schema.name);
            for field in &schema.fields {
                let place = format!("{}.{}", schema.name, field.name);
                assert!(!field.description.is_empty(), "{place} has no description");
                let es = field.elasticsearch["type"].as_str().expect(&place);
                let fits = match field.value_type() {
                    FieldType::String => ["keyword", "ip"].contains(&es),
                    FieldType::Integer => ["long", "keyword"].contains(&es),
                    FieldType::Number => es == "double",
                    FieldType::Boolean => es == "boolean",
                    FieldType::Datetime => es == "date",
                    FieldType::List => false,
                };
                assert!(fits, "{place}: {es} does not fit {:?}", field.r#type);
                let known = documents.entry(&field.ecs).or_insert(field);
                assert_eq!(
                    known.elasticsearch, field.elasticsearch,
                    "{place}: {} is mapped in two ways",
                    field.ecs
                );
            }
        }
    }
}
