//! Every panel of the default dashboards is asked of a real Elasticsearch and of the embedded store, over the same
//! made-up rows: both must show the same.
//!
//! Runs beside other tests.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../store/tests/support/mod.rs"]
mod support;

use std::sync::OnceLock;

use kumon_dashboards::kibana::{kql, lucene};
use kumon_dashboards::{Answer, Cell, Chart, Content, Filter, Panel, TimeRange, builtin};
use kumon_query::{Fields, Search, SearchRequest, SearchResponse, parse_query, to_elasticsearch};
use kumon_schema::{Field, FieldType, Schema};
use kumon_shipper::Sink;
use kumon_store::{Store, StoreOptions, StoreSink};
use kumon_testing::{Elasticsearch, kql_to_elasticsearch, require_elasticsearch};
use serde_json::{Value, json};
use support::File;

/// 21 November 2026, 10:00 UTC, and a quarter of an hour.
const RANGE: TimeRange = TimeRange { since: 1_795_255_200_000_000_000, until: 1_795_256_100_000_000_000 };
const ROWS: i64 = 120;

/// Both, with the same rows of every metric.
struct Both {
    elasticsearch: &'static Elasticsearch,
    store: Store,
    _sink: StoreSink,
    _folder: tempfile::TempDir,
}

/// The node with the rows of every metric, each metric in an index of its name.
fn filled() -> &'static Elasticsearch {
    static FILLED: OnceLock<&Elasticsearch> = OnceLock::new();
    FILLED.get_or_init(|| {
        let elasticsearch = Elasticsearch::shared();
        for schema in kumon_schema::all() {
            let mappings = json!({"dynamic": "strict", "properties": schema.mapping()});
            let (status, made) = elasticsearch.request("PUT", &schema.name, json!({"mappings": mappings}));
            assert_eq!(status, 200, "{made}");
            let bulk: String = rows(schema).map(|row| format!("{{\"index\":{{}}}}\n{row}\n")).collect();
            let (_, sent) =
                elasticsearch.request("POST", &format!("{}/_bulk?refresh=true", schema.name), bulk);
            assert_eq!(sent["errors"], false, "{sent}");
        }
        elasticsearch
    })
}

fn ask(elasticsearch: &Elasticsearch, request: &SearchRequest) -> SearchResponse {
    let body = to_elasticsearch(request, &Fields::of_metric(&request.metric)).unwrap();
    let (status, answer) = elasticsearch.request("POST", &format!("{}/_search", request.metric), body);
    assert_eq!(status, 200, "{request:?}: {answer}");
    let hits = answer["hits"]["hits"].as_array().unwrap().iter();
    let hits = hits.map(|hit| serde_json::value::to_raw_value(&hit["_source"]).unwrap());
    SearchResponse {
        total: answer["hits"]["total"]["value"].as_u64().unwrap(),
        hits: hits.collect(),
        aggregations: answer.get("aggregations").cloned(),
    }
}

impl Both {
    fn new() -> Both {
        let folder = tempfile::tempdir().unwrap();
        let (mut sink, store) = Store::open_for_writing(folder.path(), StoreOptions::default()).unwrap();
        for schema in kumon_schema::all() {
            let rows: Vec<Value> = rows(schema).collect();
            let outcome = sink.send(&File::new(&schema.name, &schema.dataset()).batch(&rows)).unwrap();
            assert_eq!(outcome.created as i64, ROWS, "{outcome:?}");
        }
        sink.settle(true).unwrap();
        Both { elasticsearch: filled(), store, _sink: sink, _folder: folder }
    }

    /// What the panel shows, of either.
    fn answers(&self, panel: &Panel, filters: &[Filter]) -> Option<[Answer; 2]> {
        let requests = panel.requests(RANGE, filters);
        if requests.is_empty() {
            return None;
        }
        let ours = |request: &SearchRequest| {
            let found = self.store.search(request);
            found.unwrap_or_else(|e| panic!("{}: {e}: {request:?}", panel.title))
        };
        let ours: Vec<SearchResponse> = requests.iter().map(ours).collect();
        let theirs: Vec<SearchResponse> =
            requests.iter().map(|request| ask(self.elasticsearch, request)).collect();
        Some([panel.answer(RANGE, &theirs), panel.answer(RANGE, &ours)].map(comparable))
    }
}

fn rows(schema: &Schema) -> impl Iterator<Item = Value> {
    (0..ROWS).map(|number| row(schema, number))
}

/// A row with a value in every column; few different ones where rows are told apart by it.
fn row(schema: &Schema, number: i64) -> Value {
    let mut row = json!({});
    for (column, field) in schema.fields.iter().enumerate() {
        row[&field.ecs] = value(schema, field, number, column as i64);
    }
    row
}

fn value(schema: &Schema, field: &Field, number: i64, column: i64) -> Value {
    let seconds = number * 7;
    match (field.ecs.as_str(), field.r#type) {
        ("@timestamp", _) => json!(format!("2026-11-21T10:{:02}:{:02}.5Z", seconds / 60, seconds % 60)),
        ("process.start" | "event.start" | "event.end", _) => {
            json!(format!("2026-11-21T09:00:{:02}.5Z", number % 60))
        }
        ("host.name", _) => json!("node"),
        ("kumon.runqlat.key", _) => json!(if number % 2 == 0 { "all" } else { "cgroup" }),
        ("kumon.cpu.name", _) => json!(if number % 2 == 0 { "all" } else { "0" }),
        ("service.type", _) => json!(if number % 2 == 0 { "mariadb" } else { "postgresql" }),
        ("event.action", _) if schema.name == "exec" => {
            json!(if number % 3 == 0 { "exec-failed" } else { "exec" })
        }
        ("kumon.agent.stage", _) => {
            json!(["kernel", "spool", "ship", "process", "program"][number as usize % 5])
        }
        ("kumon.agent.component", _) => json!(if number % 2 == 0 { "collect" } else { "ship" }),
        ("kumon.tcplife.end", _) => {
            json!(["closed", "reset", "reset_by_peer", "refused", "timed_out", "failed"][number as usize % 6])
        }
        ("kumon.flow.verdict", _) => json!(if number % 2 == 0 { "forwarded" } else { "" }),
        ("kumon.flow.end", _) => json!(["closed", "refused", "timed_out", ""][number as usize % 4]),
        ("kumon.drop.class", _) => json!(["real", "benign", "unknown"][number as usize % 3]),
        ("kumon.drop.reason", _) => json!(["NO_SOCKET", "QUEUE_PURGE", "NOT_SPECIFIED"][number as usize % 3]),
        ("kumon.snapshot_socket.state", _) => json!(if number % 2 == 0 { "LISTEN" } else { "ESTABLISHED" }),
        ("network.direction", _) => json!(if number % 2 == 0 { "egress" } else { "ingress" }),
        (name, _) if name.ends_with(".ip") => json!(format!("10.0.0.{}", number % 4 + 1)),
        (name, FieldType::Integer) if field.elasticsearch["type"] == "keyword" || is_name(name) => {
            json!(number % 4 + 1)
        }
        (_, FieldType::String) => json!(format!("{}-{}", field.name, number % 4)),
        (_, FieldType::Boolean) => json!(number % 2 == 0),
        // Different sums for different keys, so that their order is certain.
        _ => json!((number % 4 + 1) * 1000 + (number * number + column * 31) % 997),
    }
}

/// Whether a number names something.
fn is_name(field: &str) -> bool {
    ["pid", "id", "port", "cpu", "exit_code", "signal"].contains(&field.rsplit('.').next().unwrap())
}

/// Equals may come in any order.
fn comparable(mut answer: Answer) -> Answer {
    match &mut answer {
        Answer::Table(table) if table.total.is_none() => {
            table.rows.sort_by_key(|row| serde_json::to_string(row).unwrap());
        }
        Answer::Series(series) => series.lines.sort_by_key(|line| line.label.clone()),
        _ => {}
    }
    answer
}

/// A percentile of the two or three values of a step is any number between them, and each side takes another: of those
/// only their being there is compared here.
fn tolerance(panel: &Panel) -> f64 {
    use kumon_dashboards::Operation::{Median, P90, P99};
    let estimated = |chart: &Chart| chart.values.iter().any(|v| matches!(v.operation, Median | P90 | P99));
    if matches!(&panel.content, Content::Chart(chart) if estimated(chart)) { 1.0 } else { 1e-9 }
}

fn alike(panel: &Panel, theirs: &Answer, ours: &Answer) -> bool {
    let tolerance = tolerance(panel);
    let near = |a: f64, b: f64| (a - b).abs() <= tolerance * a.abs().max(b.abs());
    match (theirs, ours) {
        (Answer::Number { value: a, .. }, Answer::Number { value: b, .. }) => match (a, b) {
            (Some(a), Some(b)) => near(*a, *b),
            (a, b) => a == b,
        },
        (Answer::Series(a), Answer::Series(b)) => {
            a.times == b.times
                && a.lines.len() == b.lines.len()
                && a.lines.iter().zip(&b.lines).all(|(a, b)| {
                    a.label == b.label
                        && a.numbers.iter().zip(&b.numbers).all(|(a, b)| match (a, b) {
                            (Some(a), Some(b)) => near(*a, *b),
                            (a, b) => a == b,
                        })
                })
        }
        (Answer::Table(a), Answer::Table(b)) => {
            a.total == b.total
                && a.rows.len() == b.rows.len()
                && a.rows.iter().flatten().zip(b.rows.iter().flatten()).all(|(a, b)| match (a, b) {
                    (Cell::Number(a), Cell::Number(b)) => near(*a, *b),
                    (a, b) => a == b,
                })
        }
        (a, b) => a == b,
    }
}

#[test]
fn every_panel_shows_the_same_from_both() {
    if !require_elasticsearch() {
        return;
    }
    let both = Both::new();
    let filter = |field: &str, values: &[&str]| Filter {
        field: field.into(),
        values: values.iter().map(|value| (*value).to_owned()).collect(),
    };
    let (mut asked, mut by_10_minutes, mut wrong) = (0, 0, Vec::new());
    for dashboard in builtin() {
        for panel in &dashboard.panels {
            let name = format!("{}, {}", dashboard.title, panel.title);
            let Some([theirs, ours]) = both.answers(panel, &[]) else {
                assert!(matches!(panel.content, Content::Text(_) | Content::Links(_)), "{name}");
                continue;
            };
            asked += 1;
            let mut compare = |what: &str, theirs: &Answer, ours: &Answer| {
                if !alike(panel, theirs, ours) {
                    wrong.push(format!("{name}{what}:\nElasticsearch {theirs:?}\nthe store {ours:?}"));
                }
            };
            compare("", &theirs, &ours);
            let filters = [filter("host.name", &["node", "a \"quoted\\\" one"])];
            compare(", of the only host", &theirs, &both.answers(panel, &filters).unwrap()[1]);
            for (field, value) in [("host.name", "elsewhere"), ("no.such", "x")] {
                let [theirs, ours] = both.answers(panel, &[filter(field, &[value])]).unwrap();
                compare(", of nothing", &theirs, &ours);
            }
            if let Some(coarse) = panel.by_10_minutes() {
                let [theirs, ours] = both.answers(&coarse, &[]).unwrap();
                compare(", by 10 minutes", &theirs, &ours);
                assert!(!theirs.is_empty(), "{name} by 10 minutes shows nothing");
                by_10_minutes += 1;
            }
            if theirs.is_empty() {
                wrong.push(format!("{name} shows nothing: {:?}", panel.requests(RANGE, &[])));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert!(asked > 100, "only {asked} panels ask anything");
    assert!(by_10_minutes > 50, "only {by_10_minutes} panels ask for rows by 10 minutes");
}

/// Queries of kinds that the dashboards have none of.
const FURTHER: &[(&str, &str)] = &[
    ("exec", "process.name:name-?"),
    ("exec", "process.name:*1 OR process.name:name-2"),
    ("exec", "NOT (process.name:name-1 OR process.pid:>2)"),
    ("exec", "process.pid:[2 TO 3}"),
    ("exec", "process.command_line.text:command_line"),
    ("exec", "kumon.exec.truncated:true AND NOT event.action:exec"),
    ("exec", "@timestamp:>=\"2026-11-21T10:05:00Z\""),
    ("exec", "process.name:\"odd \\\"one\\\"\" OR process.name:name-3"),
    ("tcplife", "source.ip:10.0.0.0/31"),
    ("tcplife", "source.ip:[10.0.0.2 TO 10.0.0.3]"),
    ("exec", "NOT *"),
    ("exec", "*"),
];

#[test]
fn query_texts_for_kibana_find_what_the_queries_mean() {
    if !require_elasticsearch() {
        return;
    }
    let elasticsearch = filled();
    let mut queries: Vec<(&str, &str)> = FURTHER.to_vec();
    for panel in builtin().iter().flat_map(|dashboard| &dashboard.panels) {
        let parts = match &panel.content {
            Content::Joined(parts) => parts.as_slice(),
            _ => &[],
        };
        for part in parts {
            queries.extend(part.values.iter().map(|value| (part.metric.name.as_str(), &*value.query)));
        }
        match &panel.content {
            Content::Chart(chart) => {
                queries.push((&chart.metric.name, &chart.query));
                queries.extend(chart.values.iter().map(|value| (chart.metric.name.as_str(), &*value.query)));
            }
            Content::Rows(rows) => queries.push((&rows.metric.name, &rows.query)),
            Content::Joined(_) | Content::Text(_) | Content::Links(_) => {}
        }
    }
    queries.sort_unstable();
    queries.dedup();
    assert!(queries.len() > 40, "{}", queries.len());
    let mut in_kql = 0;
    for (metric, query) in queries {
        let meant = ask(elasticsearch, &support::request(metric, query)).total;
        let text = lucene(&parse_query(query, &Fields::of_metric(metric)).unwrap());
        let body = json!({"query": {"query_string": {"query": text, "analyze_wildcard": true}}});
        let (status, found) = elasticsearch.request("POST", &format!("{metric}/_count"), body);
        assert_eq!((status, found["count"].as_u64()), (200, Some(meant)), "{query}: {text}: {found}");
        if let Some(text) = kql(&parse_query(query, &Fields::of_metric(metric)).unwrap()) {
            let body = json!({"query": kql_to_elasticsearch(&text)});
            let (status, found) = elasticsearch.request("POST", &format!("{metric}/_count"), body);
            assert_eq!((status, found["count"].as_u64()), (200, Some(meant)), "{query}: {text}: {found}");
            in_kql += 1;
        }
    }
    assert!(in_kql > 40, "{in_kql}");
}
