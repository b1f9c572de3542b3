//! One file that is being read, from where delivery stands to its end.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::{fs, io};

use crate::batch::{Batch, Document, StreamName, Undecodable};
use crate::decode::{Decoder, Step};

/// How much is read from a file at once, in bytes.
const CHUNK: usize = 128 << 10;

/// A file, how far it is read and how far it is delivered for good.
#[derive(Debug)]
pub(crate) struct Tail {
    pub(crate) path: PathBuf,
    pub(crate) file: File,
    /// Part of every document's id; no other content ever has the same one.
    pub(crate) generation: Arc<str>,
    /// Bytes up to which rows were put into batches.
    pub(crate) read: u64,
    /// Bytes up to which the sink has taken rows.
    pub(crate) delivered: u64,
    /// Bytes up to which rows are delivered and durable.
    pub(crate) acknowledged: u64,
    /// Why it can't be read on, where it can't.
    pub(crate) stuck: Option<String>,
    stream: Arc<StreamName>,
    decoder: Decoder,
    /// `{"create":{"_index":"…","_id":"<generation>-`
    action: Vec<u8>,
    /// Bytes from `read` on that are not yet a whole record.
    buffer: Vec<u8>,
}

impl Tail {
    /// A tail that goes on at `acknowledged`.
    pub(crate) fn new(
        path: PathBuf,
        file: File,
        generation: Arc<str>,
        stream: Arc<StreamName>,
        decoder: Decoder,
        acknowledged: u64,
    ) -> Tail {
        let action = action(&stream, &generation);
        let mut tail = Tail {
            path,
            file,
            generation,
            read: 0,
            delivered: 0,
            acknowledged,
            stuck: None,
            stream,
            decoder,
            action,
            buffer: Vec::new(),
        };
        tail.rewind();
        tail
    }

    /// Goes back to what is delivered for good.
    pub(crate) fn rewind(&mut self) {
        self.read = self.acknowledged;
        self.delivered = self.acknowledged;
        self.buffer = Vec::new();
        self.stuck = None;
        if self.read > 0
            && let Err(why) = self.reread_head()
        {
            self.stuck = Some(why);
        }
    }

    fn reread_head(&mut self) -> Result<(), String> {
        let mut head = vec![0; CHUNK.min(self.read as usize)];
        self.file.read_exact_at(&mut head, 0).map_err(|e| e.to_string())?;
        self.decoder.resume(&head).map_err(|e| e.to_string())
    }

    /// The file's size now, in bytes.
    pub(crate) fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Whether its name is gone: deleted, or given to another file.
    pub(crate) fn is_gone(&self) -> bool {
        let Ok(open) = self.file.metadata() else { return true };
        !fs::metadata(&self.path).is_ok_and(|named| (named.dev(), named.ino()) == (open.dev(), open.ino()))
    }

    /// For content that has nothing to do with what was read before: a truncated or rewritten file.
    pub(crate) fn start_anew(&mut self, generation: Arc<str>) {
        self.action = action(&self.stream, &generation);
        self.generation = generation;
        self.acknowledged = 0;
        self.rewind();
    }

    /// The rest of a file that its writer closed, or died on, within a record: it is no row and never will be.
    pub(crate) fn give_up_rest(&mut self, batch: &mut Batch) -> io::Result<()> {
        let rest = self.size()?.saturating_sub(self.read);
        let mut record = vec![0; rest as usize];
        self.file.read_exact_at(&mut record, self.read)?;
        let file = batch.cover(&self.generation, self.read + rest);
        let reason = "the record is cut: its writer ended in the middle of it".to_owned();
        batch.undecodable.push(Undecodable {
            stream: self.stream.clone(),
            file,
            offset: self.read,
            record,
            reason,
        });
        self.read += rest;
        self.buffer = Vec::new();
        Ok(())
    }

    /// Appends rows to the batch until it holds `limit` bytes or the file's end is reached; says whether there may
    /// be more. With `last` a record without line end counts as a record.
    pub(crate) fn fill(&mut self, batch: &mut Batch, limit: usize, last: bool) -> io::Result<bool> {
        while self.stuck.is_none() {
            let at_end = self.read_chunk()? == 0;
            let full = !self.take_records(batch, limit, last && at_end);
            if full {
                return Ok(true);
            }
            if at_end {
                if self.buffer.is_empty() {
                    self.buffer = Vec::new(); // idle files hold no memory
                }
                return Ok(false);
            }
        }
        Ok(false)
    }

    fn read_chunk(&mut self) -> io::Result<usize> {
        let have = self.buffer.len();
        self.buffer.resize(have + CHUNK, 0);
        let read = self.file.read_at(&mut self.buffer[have..], self.read + have as u64);
        self.buffer.truncate(have + *read.as_ref().unwrap_or(&0));
        read
    }

    /// Moves the buffer's whole records into the batch; false when the batch is full.
    fn take_records(&mut self, batch: &mut Batch, limit: usize, last: bool) -> bool {
        let buffer = std::mem::take(&mut self.buffer);
        let mut at = 0;
        while batch.body.len() < limit {
            let Some(used) = self.take_record(&buffer[at..], batch, last) else { break };
            at += used;
            self.read += used as u64;
            batch.cover(&self.generation, self.read);
        }
        self.buffer = buffer;
        self.buffer.drain(..at);
        batch.body.len() < limit
    }

    /// Appends the first record; the bytes it took, or `None` when there is no whole one or the file is stuck.
    fn take_record(&mut self, bytes: &[u8], batch: &mut Batch, last: bool) -> Option<usize> {
        let start = batch.body.len();
        batch.body.extend_from_slice(&self.action);
        batch.body.extend_from_slice(format!("{:x}\"}}}}\n", self.read).as_bytes());
        let json_start = batch.body.len();

        let step = self.decoder.step(bytes, self.read, last, &mut batch.body);
        if let Ok(Step::Row(used)) = step {
            let json = json_start..batch.body.len();
            batch.body.push(b'\n');
            let file = batch.cover(&self.generation, self.read + used as u64);
            let action = start..batch.body.len();
            batch.documents.push(Document {
                stream: self.stream.clone(),
                action,
                json,
                file,
                offset: self.read,
            });
            return Some(used);
        }
        batch.body.truncate(start);
        match step {
            Ok(Step::Row(used) | Step::Nothing(used)) => Some(used),
            Ok(Step::Bad(used, reason)) => {
                let file = batch.cover(&self.generation, self.read + used as u64);
                batch.undecodable.push(Undecodable {
                    stream: self.stream.clone(),
                    file,
                    offset: self.read,
                    record: bytes[..used].to_vec(),
                    reason,
                });
                Some(used)
            }
            Ok(Step::Incomplete) => None,
            Err(unreadable) => {
                log::error!("{}: {unreadable}; the file is kept and not shipped", self.path.display());
                self.stuck = Some(unreadable.to_string());
                None
            }
        }
    }
}

/// The action line up to the offset in the document's id.
fn action(stream: &StreamName, generation: &str) -> Vec<u8> {
    format!(r#"{{"create":{{"_index":"{stream}","_id":"{generation}-"#).into_bytes()
}

#[cfg(test)]
mod tests {
    use std::fs::{File, OpenOptions};
    use std::io::Write;
    use std::sync::Arc;

    use kumon_schema::{Common, Kind};

    use super::Tail;
    use crate::batch::{Batch, StreamName};
    use crate::decode::{Decoder, NdjsonDecoder, Origin};

    fn tail(path: &std::path::Path, acknowledged: u64) -> Tail {
        let stream = StreamName { kind: Kind::Event, dataset: "a".into(), namespace: "default".into() };
        let decoder = Decoder::Ndjson(NdjsonDecoder::new(Origin::new(&Common::default(), "/a"), None));
        Tail::new(path.into(), File::open(path).unwrap(), "g".into(), Arc::new(stream), decoder, acknowledged)
    }

    #[test]
    fn a_partial_line_waits_and_ids_depend_on_the_offset_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let mut file = OpenOptions::new().create(true).append(true).open(&path).unwrap();
        write!(file, "{{\"n\":1}}\n{{\"n\":").unwrap();
        let (mut tail_a, mut batch) = (tail(&path, 0), Batch::default());
        assert!(!tail_a.fill(&mut batch, 1 << 20, false).unwrap());
        assert_eq!((batch.documents.len(), &batch.positions[..]), (1, &[("g".into(), 8)][..]));
        writeln!(file, "2}}").unwrap();
        tail_a.fill(&mut batch, 1 << 20, false).unwrap();
        assert_eq!(batch.documents.len(), 2);
        let action = &batch.body[batch.documents[1].action.clone()];
        assert!(action.starts_with(br#"{"create":{"_index":"logs-a-default","_id":"g-8"}}"#));

        // A restart in between makes the same action line.
        let mut again = Batch::default();
        tail(&path, 8).fill(&mut again, 1 << 20, false).unwrap();
        assert!(again.body.starts_with(&action[..50]));
    }

    #[test]
    fn a_full_batch_ends_behind_a_row_and_the_next_goes_on_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let lines: String = (0..10_000).map(|n| format!("{{\"n\":{n}}}\n")).collect();
        std::fs::write(&path, &lines).unwrap();
        let (mut tail, mut rows) = (tail(&path, 0), 0);
        loop {
            let mut batch = Batch::default();
            let more = tail.fill(&mut batch, 50_000, false).unwrap();
            assert!(batch.body.len() < 51_000);
            rows += batch.documents.len();
            if !more {
                break;
            }
        }
        assert_eq!((rows, tail.read), (10_000, lines.len() as u64));
    }
}
