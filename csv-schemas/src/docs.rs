//! The page `docs/metrics.md`, and README's table of metrics.

use std::fmt::Write;

use crate::{Field, Kind, Schema, all};

/// The page that describes every metric and column; a test demands that `docs/metrics.md` is this.
pub fn metrics_page() -> String {
    let mut page = String::from(
        "# Metrics\n\nMade from `csv-schemas/*.json`; refresh it with \
         `UPDATE_DOCS=1 cargo test -p kumon-schema`. An empty value means absent.\n\n\
         The numbers of a `counter` add up over rows: each row holds what came in its interval or event. Each number of \
         a `gauge` stands for itself. `sum of waits` adds up as well, `p99 of waits` doesn't: both sum up what was \
         measured in an interval. Columns without any of that name something.\n\n\
         Each summary with an interval has a second metric, `<name>_10m` in the data stream `metrics-kumon.<name>_10m-*`: \
         its rows, summed up by 10 minutes, with the same columns but those that are there for Kibana's own views. \
         [Rows by 10 minutes](elasticsearch.md#rows-by-10-minutes) says how.\n",
    );
    for schema in all().iter().filter(|schema| schema.coarse_of.is_none()) {
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

/// README's table: a histogram stands beside the metric that it is of.
#[cfg(test)]
fn metrics_table() -> String {
    let mut table = String::from("| metric | what it shows | page |\n|---|---|---|\n");
    let is_of_its_own = |schema: &&Schema| schema.histogram_of.is_none() && schema.coarse_of.is_none();
    for schema in all().iter().filter(is_of_its_own) {
        let name = &schema.name;
        let histograms = all().iter().filter(|other| other.histogram_of.as_ref() == Some(name));
        let names = std::iter::once(schema).chain(histograms).map(|schema| schema.name.as_str());
        let what = schema.description.split_once(". ").map_or(&*schema.description, |(first, _)| first);
        let has_page = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/collectors"))
            .join(format!("{name}.md"))
            .exists();
        let page = if has_page { format!("collectors/{name}") } else { "metrics".to_owned() };
        let label = page.rsplit('/').next().unwrap_or_default();
        let _ = writeln!(
            table,
            "| {} | {} | [{label}](docs/{page}.md) |",
            names.collect::<Vec<_>>().join(", "),
            what.trim_end_matches('.')
        );
    }
    table
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
    use super::{metrics_page, metrics_table};

    /// What stands in a file is what it should be; UPDATE_DOCS makes it so.
    fn check(file: &str, made: impl Fn(&str) -> String) {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        let expected = made(&committed);
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, expected).unwrap();
        } else {
            assert!(committed == expected, "{file} is stale: run UPDATE_DOCS=1 cargo test -p kumon-schema");
        }
    }

    #[test]
    fn what_is_made_from_the_schemas_is_what_they_say() {
        check("docs/metrics.md", |_| metrics_page());
        check("elk/filebeat/kumon.yml", |_| crate::filebeat::configuration());
        check("README.md", |readme| {
            let (before, rest) = readme.split_once("## What it measures\n").unwrap();
            let (_, behind) = rest.split_once("\n\n").unwrap();
            format!("{before}## What it measures\n{}\n{behind}", metrics_table())
        });
    }
}
