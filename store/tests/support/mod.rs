//! Batches as the shipper makes them, and questions.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::sync::Arc;

use kumon_query::{Search, SearchError, SearchRequest, SearchResponse};
use kumon_schema::Kind;
use kumon_shipper::{Batch, RowId, StreamName};
use kumon_store::StoreEncoder;
use serde_json::{Value, json};

/// A file that grows: its rows become batches with the offsets they would have.
pub(crate) struct File {
    generation: Arc<str>,
    stream: Arc<StreamName>,
    offset: u64,
}

impl File {
    pub(crate) fn new(generation: &str, dataset: &str) -> File {
        let stream = StreamName { kind: Kind::Event, dataset: dataset.into(), namespace: "default".into() };
        File { generation: generation.into(), stream: stream.into(), offset: 0 }
    }

    pub(crate) fn exec(generation: &str) -> File {
        File::new(generation, "kumon.exec")
    }

    /// Goes (back) to an offset.
    pub(crate) fn seek(&mut self, offset: u64) {
        self.offset = offset;
    }

    /// The next rows as one batch.
    pub(crate) fn batch(&mut self, rows: &[Value]) -> Arc<Batch> {
        self.batch_of_texts(&rows.iter().map(Value::to_string).collect::<Vec<_>>())
    }

    /// The same for rows that no [`Value`] holds.
    pub(crate) fn batch_of_texts(&mut self, rows: &[String]) -> Arc<Batch> {
        let mut batch = Batch::new(Box::new(StoreEncoder::default()));
        for row in rows {
            let id = RowId { stream: &self.stream, generation: &self.generation, offset: self.offset };
            batch.push_json(0, self.offset, &id, row);
            self.offset += 100;
        }
        batch.positions = vec![(self.generation.clone(), self.offset)];
        batch.into()
    }
}

/// A row of the metric exec, at `second` of the year 2026's 21 November, from 10:00 UTC on.
pub(crate) fn exec(second: u32, name: &str, pid: u32, command_line: &str) -> Value {
    json!({
        "@timestamp": format!("2026-11-21T10:{:02}:{:02}.000001Z", second / 60, second % 60),
        "host.name": "node",
        "event.action": "exec",
        "process.pid": pid,
        "process.name": name,
        "process.command_line": command_line,
        "kumon.exec.truncated": pid.is_multiple_of(2),
    })
}

pub(crate) fn request(metric: &str, query: &str) -> SearchRequest {
    SearchRequest {
        metric: metric.into(),
        query: query.into(),
        since: None,
        until: None,
        limit: None,
        aggs: None,
    }
}

pub(crate) fn ask(store: &impl Search, query: &str) -> Result<SearchResponse, SearchError> {
    store.search(&request("exec", query))
}

/// The pids of the rows found, newest first.
pub(crate) fn pids(store: &impl Search, query: &str) -> Vec<u64> {
    let answer = ask(store, query).unwrap_or_else(|e| panic!("{query}: {e}"));
    assert_eq!(answer.total as usize, answer.hits.len(), "{query}");
    answer.hits.iter().map(|hit| field(hit.get(), "process.pid").as_u64().unwrap()).collect()
}

pub(crate) fn field(row: &str, name: &str) -> Value {
    serde_json::from_str::<Value>(row).unwrap()[name].clone()
}
