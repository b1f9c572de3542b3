//! The embedded store and a real Elasticsearch give the same answers to the same questions.
//!
//! Runs beside other tests.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use kumon_query::{Fields, Search, SearchRequest, to_elasticsearch, words};
use kumon_shipper::Sink;
use kumon_store::{Store, StoreOptions, StoreSink};
use kumon_testing::{Elasticsearch, require_elasticsearch};
use serde_json::{Value, json};
use support::{File, exec, request};

/// Both of them, with the same rows.
struct Both {
    elasticsearch: &'static Elasticsearch,
    index: String,
    store: Store,
    fields: Fields,
    _sink: StoreSink,
    _folder: tempfile::TempDir,
}

impl Both {
    fn new(metric: &'static str, index: &str, mappings: &Value, rows: &[Value]) -> Both {
        let elasticsearch = Elasticsearch::shared();
        let made = elasticsearch.request("PUT", index, json!({"mappings": mappings}));
        assert_eq!(made.0, 200, "{}", made.1);
        let bulk: String = rows.iter().map(|row| format!("{{\"index\":{{}}}}\n{row}\n")).collect();
        let (_, sent) = elasticsearch.request("POST", &format!("{index}/_bulk?refresh=true"), bulk);
        assert_eq!(sent["errors"], false, "{sent}");

        let folder = tempfile::tempdir().unwrap();
        let (mut sink, store) = Store::open_for_writing(folder.path(), StoreOptions::default()).unwrap();
        let fields = Fields::of_metric(metric);
        let dataset = if fields.is_open() { metric.to_owned() } else { format!("kumon.{metric}") };
        let outcome = sink.send(&File::new("a", &dataset).batch(rows)).unwrap();
        assert_eq!(outcome.created as usize, rows.len(), "{outcome:?}");
        sink.settle(true).unwrap();
        Both { elasticsearch, index: index.into(), store, fields, _sink: sink, _folder: folder }
    }

    /// Elasticsearch's whole answer, and the store's as if it were one.
    fn ask(&self, request: &SearchRequest) -> (Value, Value) {
        let body =
            to_elasticsearch(request, &self.fields).unwrap_or_else(|e| panic!("{}: {e}", request.query));
        let (status, theirs) = self.elasticsearch.request("POST", &format!("{}/_search", self.index), body);
        assert_eq!(status, 200, "{}: {theirs}", request.query);
        let ours = self.store.search(request).unwrap_or_else(|e| panic!("{}: {e}", request.query));
        let hits: Vec<Value> = ours
            .hits
            .iter()
            .map(|hit| json!({"_source": serde_json::from_str::<Value>(hit.get()).unwrap()}))
            .collect();
        let hits = json!({"total": {"value": ours.total, "relation": "eq"}, "hits": hits});
        (theirs, json!({"hits": hits, "aggregations": ours.aggregations}))
    }

    /// The numbers (`id`) of the rows that both find, newest first.
    fn found(&self, request: &SearchRequest, id: &str) -> Vec<i64> {
        let (theirs, ours) = self.ask(request);
        let ids = |answer: &Value| -> Vec<i64> {
            let hits = answer["hits"]["hits"].as_array().unwrap();
            hits.iter().map(|hit| hit["_source"][id].as_i64().unwrap()).collect()
        };
        assert_eq!(ids(&theirs), ids(&ours), "{}: Elasticsearch's answer, and the store's", request.query);
        assert_eq!(theirs["hits"]["total"], ours["hits"]["total"], "{}", request.query);
        ids(&ours)
    }
}

const TEXTS: &[&str] = &[
    "bash -c 'make all'",
    "/usr/bin/make all -j2 --output=out.txt",
    "python3 -m http.server 8080",
    "grep -E foo_bar|foo-bar file.1.5.tar.gz",
    "echo can't won\u{2019}t O'Neil",
    "ΣΊΣΥΦΟΣ Straße İstanbul ÜNÏX",
    "a:b key:value 10:30 1,000.5 3.14 v1.2.3-rc1",
    "日本語 テスト 한국어 ひらがな",
    "_private __init__ snake_case_name _",
    "user@example.com https://example.com/path?x=1&y=2#top",
    "\\x5cx41 C:\\Windows \\* back\\slash",
    "m² ½ ① ٣ © flag 🇩🇪 key 1️⃣ emoji 🎉 party 👩‍👩‍👧 done",
    "--- ... !!!",
    "tab\tnew\nline  spaces",
    "אבג ד\"ר ש'ס 1st 2nd a1b2 x86_64",
];

fn exec_rows() -> Vec<Value> {
    let names = ["bash", "make", "python3", "grep", "echo", "Bash", "kworker/0:1", "ba*h"];
    let mut rows: Vec<Value> = (0..60)
        .map(|n| {
            let name = names[n as usize % names.len()];
            let mut row = exec(n, name, 100 + n, TEXTS[n as usize % TEXTS.len()]);
            if n % 3 == 0 {
                row["process.executable"] = format!("/usr/bin/{name}").into();
            }
            if n % 4 == 0 {
                row["process.args_count"] = (n / 4).into();
            }
            row
        })
        .collect();
    // Longer than the keyword's limit, and a word longer than the analyzer's.
    rows.push(exec(60, "long", 160, &format!("{} needle", "x".repeat(9000))));
    rows.push(exec(61, "wide", 161, &format!("{} {}", "ü".repeat(300), "😀".repeat(4090))));
    rows
}

fn exec_both(index: &str) -> Both {
    let mapping = kumon_schema::builtin("exec").unwrap().mapping();
    Both::new("exec", index, &json!({"dynamic": "strict", "properties": mapping}), &exec_rows())
}

/// Queries, and whether they find anything.
const QUERIES: &[(&str, bool)] = &[
    ("", true),
    ("*", true),
    ("process.name:bash", true),
    ("process.name:BASH", false),
    ("process.name:\"kworker/0:1\"", true),
    ("process.name:ba*", true),
    ("process.name:ba?h", true),
    ("process.name:ba\\*h", true),
    ("process.name:\"ba*h\"", true),
    ("process.name:?ash", true),
    ("process.name:*", true),
    ("process.executable:*", true),
    ("NOT process.executable:*", true),
    ("process.executable:/usr/bin/make", true),
    ("process.executable:/usr/*/ba*", true),
    ("process.executable.text:usr", true),
    ("process.executable.text:*", true),
    ("process.command_line.text:\"make all\"", true),
    ("process.command_line.text:\"all make\"", false),
    ("process.command_line.text:MAKE", true),
    ("process.command_line.text:Pyth*", true),
    ("process.command_line.text:http.server", true),
    ("process.command_line.text:http", false),
    ("process.command_line.text:foo_bar", true),
    ("process.command_line.text:foo", true),
    ("process.command_line.text:needle", true),
    ("process.command_line:*needle", false),
    ("process.command_line:*", true),
    ("process.command_line.text:\"can't\"", true),
    ("process.command_line.text:straße", true),
    ("process.command_line.text:İstanbul", true),
    ("process.command_line.text:\"---\"", false),
    ("process.command_line.text:日本", true),
    ("process.command_line.text:\"https://example.com/path\"", true),
    ("make", true),
    ("bash", true),
    ("/usr/bin/make", true),
    ("\"make all\"", true),
    ("mak*", true),
    ("make all", true),
    ("make OR python3", true),
    ("make -all", true),
    ("+make -grep", true),
    ("process.pid:105", true),
    ("process.pid:105.0", true),
    ("process.pid:105.5", false),
    ("process.pid:>155", true),
    ("process.pid:>=155", true),
    ("process.pid:<103", true),
    ("process.pid:<=103", true),
    ("process.pid:[103 TO 106]", true),
    ("process.pid:{103 TO 106}", true),
    ("process.pid:[103 TO 106}", true),
    ("process.pid:[* TO 103]", true),
    ("process.pid:>104.5", true),
    ("process.pid:(101 OR 102 OR 103)", true),
    ("process.pid: IN [101 102 900]", true),
    ("process.pid:-5", false),
    ("process.args_count:*", true),
    ("process.args_count:[* TO *]", true),
    ("NOT process.args_count:>3", true),
    ("kumon.exec.truncated:true", true),
    ("kumon.exec.truncated:false AND process.name:make", true),
    ("process.name:[bash TO grep]", true),
    ("process.name:>grep", true),
    ("process.name:{bash TO grep}", true),
    ("@timestamp:2026-11-21", true),
    ("@timestamp:2026-11-21T10", true),
    ("@timestamp:\"2026-11-21T10:00\"", true),
    ("@timestamp:\"2026-11-21T10:00:05\"", true),
    ("@timestamp:\"2026-11-21T10:00:05.000Z\"", true),
    ("@timestamp:>\"2026-11-21T10:00:05Z\"", true),
    ("@timestamp:>=2026-11-21T10:00:05Z", true),
    ("@timestamp:<=\"2026-11-21T10:00:05Z\"", true),
    ("@timestamp:<\"2026-11-21T11:00:05+01:00\"", true),
    ("@timestamp:[2026-11-21T10:00:10 TO 2026-11-21T10:00:20}", true),
    ("@timestamp:>2026-11-21", false),
    ("process.name:bash AND (process.pid:<120 OR process.pid:>150)", true),
    ("process.name:bash OR process.name:make AND process.pid:<110", true),
    ("NOT (process.name:bash OR process.name:make)", true),
    ("process.name:bash NOT process.pid:100", true),
    ("host.name:node AND nothing", false),
];

#[test]
fn queries_find_the_same_rows() {
    if !require_elasticsearch() {
        return;
    }
    let both = exec_both("queries");
    for (query, finds) in QUERIES {
        let mut request = request("exec", query);
        request.limit = Some(1000);
        let found = both.found(&request, "process.pid");
        assert_eq!(!found.is_empty(), *finds, "{query}: {found:?}");
    }
}

#[test]
fn every_word_of_tricky_texts_is_the_same() {
    if !require_elasticsearch() {
        return;
    }
    let elasticsearch = Elasticsearch::shared();
    let long = "y".repeat(600);
    for text in TEXTS.iter().chain([&long.as_str()]) {
        let body = json!({"analyzer": "standard", "text": text});
        let (_, answer) = elasticsearch.request("POST", "_analyze", body);
        let tokens = answer["tokens"].as_array().unwrap();
        let theirs: Vec<&str> = tokens.iter().map(|token| token["token"].as_str().unwrap()).collect();
        let ours: Vec<String> = words(text).map(|(_, word)| word).collect();
        assert_eq!(theirs, ours, "the words of {text:?}");
    }
}

#[test]
fn time_ranges_and_limits_mean_the_same() {
    if !require_elasticsearch() {
        return;
    }
    let both = exec_both("times");
    let second = |n: i64| 1_795_255_200_000_000_000 + n * 1_000_000_000;
    // The rows are a microsecond past the full second: told apart by milliseconds, they are on it.
    for (since, until, limit) in [
        (Some(second(5)), None, None),
        (Some(second(5) + 1_000), Some(second(9)), None),
        (Some(second(5) + 1_000_000), Some(second(9) + 1), None),
        (None, Some(second(3)), None),
        (Some(second(0)), Some(second(600)), Some(7)),
        (Some(second(600)), None, Some(7)),
    ] {
        let request = SearchRequest { since, until, limit, ..request("exec", "") };
        let found = both.found(&request, "process.pid");
        assert_eq!(found.is_empty(), since == Some(second(600)), "{request:?}");
    }
}

/// How inputs without a schema are mapped: texts as keyword and `.text`.
fn foreign_mappings() -> Value {
    json!({
        "date_detection": false,
        "properties": {"@timestamp": {"type": "date"}},
        "dynamic_templates": [{"texts": {"match_mapping_type": "string", "mapping": {
            "type": "keyword", "ignore_above": 8191, "fields": {"text": {"type": "text"}}
        }}}],
    })
}

#[test]
fn foreign_rows_are_found_alike() {
    if !require_elasticsearch() {
        return;
    }
    let at = |second: u32| format!("2026-11-21T10:00:{second:02}Z");
    let rows = [
        json!({"@timestamp": at(1), "n": 1, "user": {"name": "Ann Lee", "age": 41}, "ok": true, "load": 0.5}),
        json!({"@timestamp": at(2), "n": 2, "user.name": "Bob", "user.age": 7, "tags": ["red", "Dark Blue"]}),
        json!({"@timestamp": at(3), "n": 3, "message": "GET /index.html 200", "ok": false, "load": 2}),
        json!({"@timestamp": at(4), "n": 4, "code": "200", "message": "ann"}),
    ];
    let both = Both::new("app.events", "app", &foreign_mappings(), &rows);
    for (query, expected) in [
        ("", &[4, 3, 2, 1][..]),
        ("user.name:\"Ann Lee\"", &[1]),
        ("user.name:Ann", &[]),
        ("user.name.text:ann", &[1]),
        ("user.name.text:a*", &[1]),
        ("user.name:B*", &[2]),
        ("user.age:>7", &[1]),
        ("user.age:[7 TO 41]", &[2, 1]),
        ("user.age:7", &[2]),
        ("user.name:*", &[2, 1]),
        ("NOT user:*", &[4, 3]),
        ("tags:red", &[2]),
        ("tags.text:blue", &[2]),
        ("ok:true", &[1]),
        ("load:>=0.5", &[3, 1]),
        ("load:2", &[3]),
        ("code:200", &[4]),
        ("message.text:\"index.html 200\"", &[3]),
        ("ann", &[4, 1]),
        ("\"Dark Blue\"", &[2]),
        ("index*", &[3]),
        ("@timestamp:>=\"2026-11-21T10:00:03Z\"", &[4, 3]),
        ("nowhere:x", &[]),
        ("ann AND NOT user:*", &[4]),
    ] {
        assert_eq!(both.found(&request("app.events", query), "n"), expected, "{query}");
    }
}

#[test]
fn aggregations_give_the_same_numbers() {
    if !require_elasticsearch() {
        return;
    }
    let both = exec_both("aggregations");
    for (query, aggs) in [
        ("", json!({"a": {"terms": {"field": "process.name"}}})),
        ("", json!({"a": {"terms": {"field": "process.name", "size": 3}}})),
        ("", json!({"a": {"terms": {"field": "process.name", "order": {"_key": "desc"}}}})),
        ("", json!({"a": {"terms": {"field": "process.args_count", "size": 3, "order": {"_key": "asc"}}}})),
        ("", json!({"a": {"terms": {"field": "kumon.exec.truncated"}}})),
        ("", json!({"a": {"date_histogram": {"field": "@timestamp", "fixed_interval": "10s"}}})),
        (
            "process.name:make OR process.pid:140",
            json!({"a": {"date_histogram": {
            "field": "@timestamp", "fixed_interval": "5s", "min_doc_count": 1}}}),
        ),
        (
            "",
            json!({"a": {"date_histogram": {"field": "@timestamp", "fixed_interval": "30s"}, "aggs": {
            "names": {"terms": {"field": "process.name", "size": 2}, "aggs": {"p": {"avg": {"field": "process.pid"}}}}}}}),
        ),
        ("", json!({"a": {"histogram": {"field": "process.pid", "interval": 20}}})),
        (
            "",
            json!({"a": {"range": {"field": "process.pid", "ranges": [{"to": 110}, {"from": 110, "to": 130}, {"from": 130}]}}}),
        ),
        (
            "",
            json!({"a": {"avg": {"field": "process.pid"}}, "b": {"min": {"field": "process.pid"}},
            "c": {"max": {"field": "process.pid"}}, "d": {"sum": {"field": "process.pid"}},
            "e": {"value_count": {"field": "process.args_count"}}}),
        ),
        ("", json!({"a": {"stats": {"field": "process.args_count"}}})),
        ("", json!({"a": {"cardinality": {"field": "process.name"}}})),
        ("", json!({"a": {"min": {"field": "@timestamp"}}, "b": {"max": {"field": "@timestamp"}}})),
        (
            "process.name:nobody",
            json!({"a": {"avg": {"field": "process.pid"}}, "b": {"terms": {"field": "process.name"}},
            "c": {"stats": {"field": "process.pid"}}}),
        ),
        (
            "",
            json!({"a": {"date_histogram": {"field": "@timestamp", "calendar_interval": "minute"}, "aggregations": {
            "first": {"min": {"field": "@timestamp"}}}}}),
        ),
    ] {
        let mut request = request("exec", query);
        request.limit = Some(0);
        request.aggs = Some(aggs.clone());
        let (theirs, ours) = both.ask(&request);
        assert_eq!(
            theirs["aggregations"], ours["aggregations"],
            "{aggs}: Elasticsearch's answer, and the store's"
        );
    }
}

#[test]
fn percentiles_are_nearly_the_same() {
    if !require_elasticsearch() {
        return;
    }
    let both = exec_both("percentiles");
    let mut request = request("exec", "");
    request.aggs = Some(json!({"a": {"percentiles": {"field": "process.pid", "percents": [50, 90, 99]}}}));
    let (theirs, ours) = both.ask(&request);
    // Each side estimates in its own way.
    for (percent, theirs) in theirs["aggregations"]["a"]["values"].as_object().unwrap() {
        let ours = ours["aggregations"]["a"]["values"][percent].as_f64().unwrap();
        let ratio = ours / theirs.as_f64().unwrap();
        assert!((0.98..1.02).contains(&ratio), "p{percent}: {theirs} and {ours}");
    }
}

#[test]
fn addresses_are_found_alike() {
    if !require_elasticsearch() {
        return;
    }
    let addresses =
        ["10.1.2.3", "10.1.2.4", "10.200.0.1", "192.168.0.9", "127.0.0.1", "::1", "fe80::1", "2001:db8::5"];
    let row = |(n, address): (usize, &&str)| {
        json!({
            "@timestamp": format!("2026-11-21T10:00:{n:02}Z"), "source.ip": address, "source.port": n,
            "destination.ip": "10.9.9.9", "network.type": if address.contains(':') { "ipv6" } else { "ipv4" },
        })
    };
    let rows: Vec<Value> = addresses.iter().enumerate().map(row).collect();
    let mapping = kumon_schema::builtin("tcplife").unwrap().mapping();
    let both = Both::new("tcplife", "tcplife", &json!({"dynamic": "strict", "properties": mapping}), &rows);
    for (query, expected) in [
        ("source.ip:10.1.2.3", &[0][..]),
        ("source.ip:10.0.0.0/8", &[2, 1, 0]),
        ("source.ip:\"10.1.2.0/24\"", &[1, 0]),
        ("source.ip:\"::1\"", &[5]),
        ("source.ip:\"2001:db8::/32\"", &[7]),
        ("source.ip:[10.1.2.4 TO 10.255.0.0]", &[2, 1]),
        ("source.ip:{10.1.2.3 TO *]", &[7, 6, 4, 3, 2, 1]),
        ("source.ip:<10.1.2.4", &[5, 0]),
        ("10.1.2.4", &[1]),
        ("127.0.0.0/8", &[4]),
        ("\"fe80::1\"", &[6]),
        ("source.ip:*", &[7, 6, 5, 4, 3, 2, 1, 0]),
        ("NOT source.ip:\"0.0.0.0/0\"", &[7, 6, 5]),
    ] {
        assert_eq!(both.found(&request("tcplife", query), "source.port"), expected, "{query}");
    }
    let mut request = request("tcplife", "");
    request.aggs = Some(json!({
        "a": {"terms": {"field": "destination.ip"}},
        "b": {"cardinality": {"field": "source.ip"}},
    }));
    let (theirs, ours) = both.ask(&request);
    assert_eq!(theirs["aggregations"], ours["aggregations"]);
}
