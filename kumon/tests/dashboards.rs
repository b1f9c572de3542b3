//! Every panel of the default dashboards on a real Elasticsearch: after `kumon setup` on streams without rows, and with
//! the rows of a real agent under a mixed load of CPU, disk, network, files and a database.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
#[path = "../../bpf/tests/databases/mod.rs"]
mod databases;
mod load;

use std::os::fd::{FromRawFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::Node;
use databases::{Database, Kind};
use kumon_dashboards::kibana::{SavedObject, SavedObjectType, lucene, render};
use kumon_dashboards::{Answer, Catalog, Content, Panel, TimeRange, builtin};
use kumon_query::{Fields, SearchRequest, SearchResponse, parse_query, to_elasticsearch};
use kumon_testing::{
    Elasticsearch, kql_to_elasticsearch, require, require_bpf, require_elasticsearch, require_program,
};
use load::Load;
use serde_json::{Value, json};

/// The promise.
const PROMISE: Duration = Duration::from_secs(120);

/// The last quarter of an hour, and the minute that clocks may differ by.
fn range() -> TimeRange {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as i64;
    let minute = 60_000_000_000;
    TimeRange { since: now - 15 * minute, until: now + minute }
}

fn stream(metric: &str) -> String {
    kumon_schema::builtin(metric).unwrap().data_stream("default")
}

/// Asks as the agent does.
fn ask(node: &Elasticsearch, request: &SearchRequest) -> SearchResponse {
    let body = to_elasticsearch(request, &Fields::of_metric(&request.metric)).unwrap();
    let path = format!("{}/_search?allow_partial_search_results=false", stream(&request.metric));
    let (status, answer) = node.request("POST", &path, body);
    assert_eq!(status, 200, "{request:?}: {answer}");
    let hits = answer["hits"]["hits"].as_array().unwrap().iter();
    SearchResponse {
        total: answer["hits"]["total"]["value"].as_u64().unwrap(),
        hits: hits.map(|hit| serde_json::value::to_raw_value(&hit["_source"]).unwrap()).collect(),
        aggregations: answer.get("aggregations").cloned(),
    }
}

/// What a panel shows now; none where it asks nothing.
fn answer(node: &Elasticsearch, panel: &Panel) -> Option<Answer> {
    let range = range();
    let responses: Vec<SearchResponse> =
        panel.requests(range, &[]).iter().map(|request| ask(node, request)).collect();
    (!responses.is_empty()).then(|| panel.answer(range, &responses))
}

/// How many rows a saved search finds, asked as Discover does: by its query's text, in its data view's pattern.
fn found(node: &Elasticsearch, search: &Value, pattern: &str) -> u64 {
    let source = search["attributes"]["kibanaSavedObjectMeta"]["searchSourceJSON"].as_str().unwrap();
    let source: Value = serde_json::from_str(source).unwrap();
    let text = source["query"]["query"].as_str().unwrap();
    let query = match source["query"]["language"].as_str() {
        Some("kuery") => kql_to_elasticsearch(text),
        _ => json!({"query_string": {"query": text, "analyze_wildcard": true}}),
    };
    let body = json!({"query": query, "sort": search["attributes"]["sort"][0][0], "track_total_hits": true});
    let (status, answer) = node.request("POST", &format!("{pattern}/_search"), body);
    assert_eq!(status, 200, "{}: {answer}", search["id"]);
    answer["hits"]["total"]["value"].as_u64().unwrap()
}

/// The saved searches, each with its data view's pattern.
fn searches() -> Vec<(Value, String)> {
    let objects = render(builtin(), Catalog::builtin());
    let pattern = |id: &str| {
        let view = objects.iter().find(|o| o.r#type == SavedObjectType::DataView && o.id == id).unwrap();
        view.attributes["title"].as_str().unwrap().to_owned()
    };
    let searches = objects.iter().filter(|o| o.r#type == SavedObjectType::Search);
    searches.map(|search| (search.to_json(), pattern(&search.references[0].id))).collect()
}

/// An agent's node with everything switched on, shipping to Elasticsearch.
fn node(elasticsearch: &Elasticsearch) -> Node {
    let node = Node::new("");
    let collectors = "\
         collectors:\n\
         \x20 exec: { failed: true }\n\
         \x20 runqlat: { interval: 2s, per_cgroup: true }\n\
         \x20 runqslower: { threshold: 50us }\n\
         \x20 cputime: { interval: 2s }\n\
         \x20 biolatency: { interval: 2s, per_cgroup: true }\n\
         \x20 bitesize: { interval: 2s }\n\
         \x20 filelife: { enabled: true, max_files: 16 }\n\
         \x20 filegone: { enabled: true }\n\
         \x20 dbslower: { threshold: 1ms }\n\
         \x20 cpu: { interval: 2s }\n\
         \x20 memory: { interval: 2s }\n\
         \x20 disk: { interval: 2s, exclude: [] }\n\
         \x20 filesystem: { interval: 2s }\n\
         \x20 netdev: { interval: 2s, exclude: [] }\n\
         \x20 netstat: { interval: 2s }\n\
         \x20 container: { interval: 2s }\n\
         \x20 flow: { enabled: true, interval: 2s }\n\
         \x20 snapshot_process: { enabled: true, interval: 5s }\n\
         \x20 snapshot_socket: { enabled: true, interval: 5s }\n\
         \x20 process: { interval: 2s }\n";
    node.configure(&(node.output(elasticsearch) + collectors));
    node
}

/// What this Elasticsearch, which lacks the API for that, gets by another way: data streams without rows.
fn make_empty_streams(elasticsearch: &Elasticsearch) {
    for schema in kumon_schema::all() {
        let stream = schema.data_stream("default");
        let row = json!({"@timestamp": "2026-11-21T02:00:00Z"});
        assert_eq!(elasticsearch.request("POST", &format!("{stream}/_doc?refresh=true"), row).0, 201);
        let path = format!("{stream}/_delete_by_query?refresh=true");
        let (_, deleted) = elasticsearch.request("POST", &path, json!({"query": {"match_all": {}}}));
        assert_eq!(deleted["deleted"], 1, "{deleted}");
    }
}

/// As the sysctl kernel.bpf_stats_enabled would, until it is closed (bpf(2), BPF_ENABLE_STATS).
fn program_statistics() -> OwnedFd {
    // SAFETY: the call takes no pointer, and the descriptor that it gives is nobody else's.
    unsafe {
        let fd = libbpf_rs::libbpf_sys::bpf_enable_stats(libbpf_rs::libbpf_sys::BPF_STATS_RUN_TIME);
        assert!(fd >= 0, "bpf_enable_stats: {fd}");
        OwnedFd::from_raw_fd(fd)
    }
}

#[test]
fn panels_are_empty_but_fine_before_the_first_row_and_full_after_a_mixed_load() {
    let database = Kind::MariaDb;
    let tools = ["losetup", "dd", "python3", "unshare", "ip"].into_iter().all(require_program);
    if !(require_bpf() && require_elasticsearch() && tools && database.required()) {
        return;
    }
    let Some(load) = Load::new() else {
        require(false, "a cgroup v2 mount and loop devices");
        return;
    };
    let elasticsearch = Elasticsearch::start();
    let node = node(&elasticsearch);
    let setup = node.run(&["setup"]);
    assert_eq!(setup.code, Some(0), "{setup:?}");
    assert!(setup.stdout.contains("the configuration has no kibana.url"), "{}", setup.stdout);

    make_empty_streams(&elasticsearch);
    let panels: Vec<(String, &Panel)> = builtin()
        .iter()
        .flat_map(|board| board.panels.iter().map(move |p| (format!("{}, {}", board.title, p.title), p)))
        .collect();
    for (name, panel) in &panels {
        if let Some(Answer::Table(table)) = answer(&elasticsearch, panel) {
            assert!(table.rows.is_empty(), "{name}");
        }
    }
    for (search, pattern) in searches() {
        assert_eq!(found(&elasticsearch, &search, &pattern), 0, "{}", search["id"]);
    }

    let _statistics = program_statistics();
    let database = Database::start(database);
    let agent = node.start_agent(&["run"]);
    let start = Instant::now();
    let mut empty: Vec<_> =
        panels.into_iter().filter(|(_, panel)| !panel.content.metrics().is_empty()).collect();
    let asked = empty.len();
    let mut unfound = searches();
    while !(empty.is_empty() && unfound.is_empty()) {
        let names: Vec<&String> = empty.iter().map(|(name, _)| name).collect();
        let ids: Vec<&Value> = unfound.iter().map(|(search, _)| &search["id"]).collect();
        assert!(start.elapsed() < PROMISE, "still empty: {names:#?} {ids:?}; the log: {}", agent.stderr());
        load.round();
        for _ in 0..5 {
            database.query(&database.sleep(0.01));
        }
        elasticsearch.request("POST", "logs-kumon.*,metrics-kumon.*/_refresh", Value::Null);
        empty.retain(|(_, panel)| answer(&elasticsearch, panel).unwrap().is_empty());
        unfound.retain(|(search, pattern)| found(&elasticsearch, search, pattern) == 0);
    }
    println!("{asked} panels show something after {:?}", start.elapsed());
    assert_eq!(agent.terminate().code, Some(0));
    elasticsearch.request("POST", "logs-kumon.*,metrics-kumon.*/_refresh", Value::Null);
    tables_of_several_metrics_find_the_rows_of_each(&elasticsearch);
}

/// Kibana has the rows of all these metrics in one data view; each column's filter has to find those of its own.
fn tables_of_several_metrics_find_the_rows_of_each(elasticsearch: &Elasticsearch) {
    let count = |indices: &str, text: &str| {
        let body = json!({"query": {"query_string": {"query": text, "analyze_wildcard": true}}});
        let (status, answer) = elasticsearch.request("POST", &format!("{indices}/_count"), body);
        assert_eq!(status, 200, "{text}: {answer}");
        answer["count"].as_u64().unwrap()
    };
    let objects: Vec<Value> =
        render(builtin(), Catalog::builtin()).iter().map(SavedObject::to_json).collect();
    let object = |id: &str| objects.iter().find(|object| object["id"] == id).unwrap();
    let mut compared = 0;
    for dashboard in builtin() {
        for panel in &dashboard.panels {
            let Content::Joined(parts) = &panel.content else { continue };
            let view = object(&format!("kumon-of-{}", dashboard.name));
            let panels =
                object(&format!("kumon-dashboard-{}", dashboard.name))["attributes"]["panelsJSON"].as_str();
            let panels: Value = serde_json::from_str(panels.unwrap()).unwrap();
            let shown =
                panels.as_array().unwrap().iter().find(|shown| shown["panelIndex"] == *panel.id).unwrap();
            let layer = "/embeddableConfig/attributes/state/datasourceStates/formBased/layers/layer1/columns";
            let columns = shown.pointer(layer).unwrap();
            let values = parts.iter().flat_map(|part| part.values.iter().map(move |value| (part, value)));
            for (number, (part, value)) in values.enumerate() {
                let text = columns[format!("v{number}")]["filter"]["query"].as_str().unwrap();
                let query = if value.query.is_empty() { "*" } else { &value.query };
                let meant = lucene(&parse_query(query, &part.metric.fields).unwrap());
                let found = count(view["attributes"]["title"].as_str().unwrap(), text);
                assert_eq!(found, count(&stream(&part.metric.name), &meant), "{text}");
                compared += found;
            }
        }
    }
    assert!(compared > 0);
}
