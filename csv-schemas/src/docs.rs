//! The page `docs/metrics.md`.

use std::fmt::Write;

use crate::{Field, Kind, Schema, all};

/// The page that describes every metric and column; a test demands that `docs/metrics.md` is this.
pub fn metrics_page() -> String {
    let mut page = String::from(
        "# Metrics\n\nMade from `csv-schemas/*.json`; refresh it with \
         `UPDATE_DOCS=1 cargo test -p kumon-schema`. An empty value means absent.\n\n\
         The numbers of a `counter` add up over rows: each row holds what came in its interval or event. Each number of \
         a `gauge` stands for itself. `sum of waits` adds up as well, `p99 of waits` doesn't: both sum up what was \
         measured in an interval. Columns without any of that name something.\n",
    );
    for schema in all() {
        let kind = match schema.kind {
            Kind::Event => "event",
            Kind::Summary => "summary",
        };
        // Writing to a String cannot fail.
        let _ = write!(
            page,
            "\n## {}: {}\n\n{}\n\nKind: {kind}. Data stream: `{}`. Schema version: {}.{}\n\n\
             | column | type | unit | field | mapping | measure | meaning |\n|---|---|---|---|---|---|---|\n",
            schema.name,
            schema.title,
            schema.description,
            schema.data_stream("default"),
            schema.version,
            histogram(schema)
        );
        for field in &schema.fields {
            let mapping = field.elasticsearch["type"].as_str().unwrap_or_default();
            let text = if field.elasticsearch["fields"]["text"].is_null() { "" } else { " + text" };
            let r#type = format!("{:?}", field.r#type).to_lowercase();
            let _ = writeln!(
                page,
                "| {} | {type} | {} | {} | {mapping}{text} | {} | {} |",
                field.name,
                field.unit,
                field.ecs,
                measure(field),
                field.description
            );
        }
    }
    page
}

fn histogram(schema: &Schema) -> String {
    schema.histogram_of.as_ref().map_or_else(String::new, |whole| format!(" The histogram of {whole}."))
}

fn measure(field: &Field) -> String {
    match (&field.meaning.statistic, field.meaning.metric_type) {
        (Some(statistic), _) => format!("{} of {}", statistic.function, statistic.of),
        (None, Some(metric_type)) => metric_type.name().to_owned(),
        (None, None) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_page_is_what_the_schemas_say() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
        let page = super::metrics_page();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, &page).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(committed == page, "docs/metrics.md is stale: run UPDATE_DOCS=1 cargo test -p kumon-schema");
    }
}
