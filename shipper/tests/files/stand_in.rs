//! A stand-in for Elasticsearch and for the embedded store, for faults that neither makes on demand. As Elasticsearch
//! it knows ids: the second document with an id is a resend. As the store it keeps the files' positions together with
//! the rows, and forgets what was not committed. Both can be kept in a file, so that it outlives a killed shipper.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use kumon_shipper::elasticsearch::BulkEncoder;
use kumon_shipper::{Batch, Encoder, Held, Outcome, Rejected, Sink, SinkError};
use serde_json::{Value, json};

#[derive(Clone, Default)]
pub(crate) struct StandIn(Arc<Mutex<State>>);

#[derive(Default)]
pub(crate) struct State {
    /// What is there for good, in the order of arrival.
    pub(crate) rows: Vec<Value>,
    /// Documents that were there already.
    pub(crate) resends: u64,
    pub(crate) fault: Option<Fault>,
    /// Documents with one of these numbers are refused for good.
    pub(crate) rejects: Vec<u64>,
    /// Rows of these datasets have to wait. Every second one is taken all the same, as by shards that had room.
    pub(crate) holds: Vec<&'static str>,
    /// So many batches later nobody listens.
    pub(crate) away_after: Option<u64>,
    /// Bytes of the largest batch.
    pub(crate) largest: usize,
    pub(crate) sends: u64,
    /// How long each batch takes.
    pub(crate) slow: Duration,
    ids: HashSet<String>,
    /// As the store: commits only when it is told to.
    store: Option<Uncommitted>,
    file: Option<File>,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Fault {
    Away,
    Refuses,
    /// The next commit fails, and what was gathered is gone.
    LosesUncommitted,
    /// The next commit fails after it has become durable.
    FailsAfterCommit,
    /// Batches arrive, and nobody says so.
    AnswersGetLost,
}

#[derive(Default)]
struct Uncommitted {
    durable: HashMap<Arc<str>, u64>,
    taken: HashMap<Arc<str>, u64>,
    rows: Vec<Value>,
}

impl StandIn {
    /// One that keeps positions, as the embedded store does.
    pub(crate) fn store() -> StandIn {
        let sink = StandIn::default();
        sink.state().store = Some(Uncommitted::default());
        sink
    }

    /// One whose content is in a file; goes on with what is there.
    pub(crate) fn in_file(self, path: &Path) -> StandIn {
        let text = fs::read(path).unwrap_or_default();
        let mut state = self.state();
        let (mut rows, mut whole, mut at) = (Vec::new(), 0, 0);
        for line in text.split_inclusive(|&b| b == b'\n') {
            at += line.len();
            let Ok(entry) = serde_json::from_slice::<Value>(line) else { break };
            if let Some(id) = entry["id"].as_str() {
                state.ids.insert(id.to_owned());
                state.rows.push(entry["row"].clone());
                whole = at;
            } else if let (Some(positions), Some(store)) = (entry["positions"].as_object(), &mut state.store)
            {
                let positions =
                    positions.iter().map(|(name, at)| (name.as_str().into(), at.as_u64().unwrap()));
                store.durable = positions.collect();
                store.taken.clone_from(&store.durable);
                state.rows.append(&mut rows);
                whole = at;
            } else {
                rows.push(entry["row"].clone());
            }
        }
        let file = OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.set_len(whole as u64).unwrap();
        state.file = Some(file);
        drop(state);
        self
    }

    /// What it is after a restart: it forgets what was not committed.
    pub(crate) fn reopened(&self) -> StandIn {
        if let Some(store) = &mut self.state().store {
            store.rows.clear();
            store.taken = store.durable.clone();
        }
        self.clone()
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn slow(&self) -> Duration {
        self.state().slow
    }

    /// From now on; `None` ends it.
    pub(crate) fn fail(&self, fault: impl Into<Option<Fault>>) {
        self.state().fault = fault.into();
    }

    /// The rows' numbers (their field `n`), sorted.
    pub(crate) fn numbers(&self) -> Vec<u64> {
        let mut numbers: Vec<u64> = self.in_order();
        numbers.sort_unstable();
        numbers
    }

    /// The rows' numbers as they arrived.
    pub(crate) fn in_order(&self) -> Vec<u64> {
        self.state()
            .rows
            .iter()
            .map(|row| number(row).unwrap_or_else(|| panic!("no number in {row}")))
            .collect()
    }

    /// As a commit left it that came before the file was forgotten.
    pub(crate) fn keep_position(&self, generation: &str, at: u64) {
        let mut state = self.state();
        let store = state.store.as_mut().expect("a sink that keeps positions");
        store.durable.insert(generation.into(), at);
        store.taken.insert(generation.into(), at);
    }

    /// The files' positions.
    pub(crate) fn positions(&self) -> HashMap<Arc<str>, u64> {
        Sink::positions(self).unwrap_or_default()
    }

    pub(crate) fn len(&self) -> usize {
        self.state().rows.len()
    }
}

impl State {
    fn check(&mut self) -> Result<(), SinkError> {
        if self.away_after == Some(self.sends) {
            self.fault = Some(Fault::Away);
        }
        match self.fault {
            Some(Fault::Away) => Err(SinkError::Unavailable("nobody listens".into())),
            Some(Fault::Refuses) => Err(SinkError::Refused("wrong password".into())),
            _ => Ok(()),
        }
    }

    fn take_by_id(&mut self, rows: Vec<(String, Value)>) -> u64 {
        let mut resends = 0;
        let mut text = Vec::new();
        for (id, row) in rows {
            if !self.ids.insert(id.clone()) {
                resends += 1;
                continue;
            }
            writeln!(text, "{}", json!({"id": id, "row": row})).unwrap();
            self.rows.push(row);
        }
        if let Some(file) = &mut self.file {
            file.write_all(&text).unwrap();
        }
        resends
    }

    fn commit(&mut self) {
        let Some(store) = &mut self.store else { return };
        if let Some(file) = &mut self.file {
            let mut text = Vec::new();
            for row in &store.rows {
                writeln!(text, "{}", json!({"row": row})).unwrap();
            }
            let positions: HashMap<&str, u64> = store.taken.iter().map(|(name, at)| (&**name, *at)).collect();
            writeln!(text, "{}", json!({"positions": positions})).unwrap();
            file.write_all(&text).unwrap();
        }
        self.rows.append(&mut store.rows);
        store.durable.clone_from(&store.taken);
    }
}

fn number(row: &Value) -> Option<u64> {
    row["n"].as_u64().or_else(|| row["n"].as_str()?.parse().ok())
}

impl Sink for StandIn {
    fn encoder(&self) -> Box<dyn Encoder> {
        Box::new(BulkEncoder::default())
    }

    fn send(&mut self, batch: &Arc<Batch>) -> Result<Outcome, SinkError> {
        std::thread::sleep(self.slow());
        let mut state = self.state();
        state.check()?;
        state.sends += 1;
        state.largest = state.largest.max(batch.body.len());
        let (mut outcome, mut rows, mut held) = (Outcome::default(), Vec::new(), Vec::new());
        for (index, document) in batch.documents.iter().enumerate() {
            let mut row: Value = serde_json::from_slice(batch.json(document)).expect("a JSON document");
            if state.holds.contains(&document.stream.dataset.as_str()) {
                if !outcome.holds(&document.stream) {
                    let (stream, reason) = (document.stream.clone(), "a write block".to_owned());
                    outcome.held.push(Held { stream, reason, needs_person: true });
                }
                if index % 2 == 0 {
                    held.push((batch.id(index), row));
                }
                continue;
            }
            if number(&row).is_some_and(|n| state.rejects.contains(&n)) {
                let reason = "mapper_parsing_exception".to_owned();
                outcome.rejected.push(Rejected { document: index, reason });
                continue;
            }
            row["_index"] = document.stream.to_string().into();
            rows.push((batch.id(index), document, row));
        }
        let sent = rows.len() as u64;
        match &mut state.store {
            Some(store) => {
                for (_, document, row) in rows {
                    let generation = &batch.positions[document.file].0;
                    match store.taken.get(generation).is_some_and(|taken| document.offset < *taken) {
                        true => outcome.duplicates += 1,
                        false => store.rows.push(row),
                    }
                }
                for (generation, end) in &batch.positions {
                    let taken = store.taken.entry(generation.clone()).or_default();
                    *taken = (*taken).max(*end);
                }
            }
            None => {
                outcome.duplicates =
                    state.take_by_id(rows.into_iter().map(|(id, _, row)| (id, row)).collect())
            }
        }
        state.take_by_id(held);
        state.resends += outcome.duplicates;
        outcome.created = sent - outcome.duplicates;
        if state.fault == Some(Fault::AnswersGetLost) {
            return Err(SinkError::Unavailable("time-out".into()));
        }
        Ok(outcome)
    }

    fn settle(&mut self, now: bool) -> Result<bool, SinkError> {
        let mut state = self.state();
        state.check()?;
        if state.store.as_ref().is_none_or(|store| store.taken == store.durable) {
            return Ok(true);
        }
        let fault = state
            .fault
            .take_if(|fault| *fault == Fault::LosesUncommitted || *fault == Fault::FailsAfterCommit);
        match fault {
            Some(Fault::LosesUncommitted) => {
                let store = state.store.as_mut().expect("checked above");
                store.rows.clear();
                store.taken = store.durable.clone();
                Err(SinkError::Rewind("no space left on device".into()))
            }
            Some(_) => {
                state.commit();
                Err(SinkError::Rewind("no space left on device".into()))
            }
            None if now => {
                state.commit();
                Ok(true)
            }
            None => Ok(false),
        }
    }

    fn positions(&self) -> Option<HashMap<Arc<str>, u64>> {
        self.state().store.as_ref().map(|store| store.durable.clone())
    }

    fn forget(&mut self, generations: &[Arc<str>]) {
        if let Some(store) = &mut self.state().store {
            for generation in generations {
                store.durable.remove(generation);
                store.taken.remove(generation);
            }
        }
    }
}
