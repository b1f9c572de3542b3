//! What a sink is given.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::encoder::{Encoder, Row, RowId, document_id};
use crate::file_position::FilePosition;
use crate::stream::StreamName;

/// From so many bytes on a batch is taken for a large one.
const LARGE: usize = 64 << 10;
/// The last row makes a batch larger than its limit; rarely by more. In bytes.
const ROOM_FOR_LAST: usize = 64 << 10;
/// A limit above this stands for none.
const MOST_ROOM: usize = 64 << 20;

/// Rows of one or more files, in the form that the output's encoder gives them.
#[derive(Debug)]
pub struct Batch {
    pub body: Vec<u8>,
    pub documents: Vec<Document>,
    encoder: Box<dyn Encoder>,
    /// The documents' ids where they come with one: dead letters keep what they had.
    ids: Vec<String>,
    /// Up to where each file is covered once this batch is delivered: the file's generation, and the offset in
    /// bytes. PausedStreams each file once.
    pub positions: Vec<(Arc<str>, u64)>,
    /// Rows that could not even be decoded; the shipper writes them to the dead letters.
    pub(crate) undecodable: Vec<Undecodable>,
    /// What stands in the files before `positions`, for who goes on there.
    pub(crate) marks: Vec<FilePosition>,
    /// Where the files of `positions` are, for the dead letters.
    pub(crate) paths: Vec<PathBuf>,
    /// Whether something in it is of a foreign file.
    pub(crate) is_foreign: bool,
    /// Bytes of the undecodable records.
    undecodable_bytes: usize,
    /// Where a file is in `positions`, by its generation.
    files: HashMap<Arc<str>, usize>,
}

/// One row of a batch.
#[derive(Debug, Clone)]
pub struct Document {
    /// The stream it belongs to.
    pub stream: Arc<StreamName>,
    /// What the encoder made of it, in the batch's body.
    pub encoded: Range<usize>,
    /// Where it comes from, for the dead letters: index into `positions`, and the row's offset in bytes.
    pub file: usize,
    pub offset: u64,
}

/// A row that is no document.
#[derive(Debug)]
pub(crate) struct Undecodable {
    pub(crate) stream: Arc<StreamName>,
    pub(crate) file: usize,
    pub(crate) offset: u64,
    pub(crate) record: Vec<u8>,
    pub(crate) reason: String,
}

impl Batch {
    /// An empty one, whose rows get the form that this encoder gives them.
    pub fn new(encoder: Box<dyn Encoder>) -> Batch {
        Batch {
            body: Vec::new(),
            documents: Vec::new(),
            encoder,
            ids: Vec::new(),
            positions: Vec::new(),
            undecodable: Vec::new(),
            marks: Vec::new(),
            paths: Vec::new(),
            is_foreign: false,
            undecodable_bytes: 0,
            files: HashMap::new(),
        }
    }

    /// An empty one for the same output.
    pub(crate) fn another(&self) -> Batch {
        Batch::new(self.encoder.another())
    }

    /// The id of one of its documents.
    pub fn id(&self, document: usize) -> String {
        let Document { file, offset, .. } = self.documents[document];
        let own = self.ids.get(document).cloned();
        own.unwrap_or_else(|| document_id(&self.positions[file].0, offset))
    }

    /// One of its documents as a JSON object: one flat one with dotted ECS names; from foreign NDJSON inputs it may
    /// nest.
    pub fn json(&self, document: &Document) -> &[u8] {
        self.encoder.document(&self.body[document.encoded.clone()])
    }

    /// Appends what `give` gives away as a row of the file; nothing if that is none.
    pub(crate) fn add_row<T>(
        &mut self,
        stream: &Arc<StreamName>,
        file: usize,
        offset: u64,
        give: impl FnOnce(&mut Row<'_>) -> (T, bool),
    ) -> T {
        let (start, generation) = (self.body.len(), &self.positions[file].0);
        let id = RowId { stream, generation, offset };
        let (given, is_row) = give(&mut Row::begin(self.encoder.as_mut(), &id, &mut self.body));
        if is_row {
            let encoded = start..self.body.len();
            self.documents.push(Document { stream: stream.clone(), encoded, file, offset });
        } else {
            self.body.truncate(start);
        }
        given
    }

    /// Appends a JSON object as the row at an offset of a file, with the id that it has already.
    pub fn push_json(&mut self, file: usize, offset: u64, id: &RowId<'_>, json: &str) {
        let (start, json) = (self.body.len(), json.trim_ascii());
        let mut row = Row::begin(self.encoder.as_mut(), id, &mut self.body);
        row.rest(json.strip_prefix('{').unwrap_or(json));
        row.end();
        let (stream, encoded) = (id.stream.clone(), start..self.body.len());
        self.documents.push(Document { stream, encoded, file, offset });
        self.ids.push(id.to_string());
    }

    /// Whether there is nothing to deliver: no document, and no position to move.
    pub fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    /// Empties it for the next use; keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.body.clear();
        self.documents.clear();
        self.ids.clear();
        self.positions.clear();
        self.marks.clear();
        self.undecodable.clear();
        self.paths.clear();
        self.is_foreign = false;
        self.undecodable_bytes = 0;
        self.files.clear();
    }

    /// Gets the memory for a batch of so many bytes at once, when it is going to be a large one: growing by doubling
    /// leaves twice as much behind.
    pub(crate) fn make_room(&mut self, limit: usize) {
        let whole = limit.saturating_add(ROOM_FOR_LAST);
        if self.body.len() >= LARGE && limit < MOST_ROOM && self.body.capacity() < whole {
            self.body.reserve_exact(whole - self.body.len());
        }
    }

    /// A file that was the last to join has nothing in it.
    pub(crate) fn drop_last_file(&mut self) {
        if let Some((generation, _)) = self.positions.pop() {
            self.files.remove(&generation);
        }
        self.marks.pop();
        self.paths.pop();
    }

    /// Covers a file up to `mark`.
    pub(crate) fn cover(&mut self, file: usize, mark: FilePosition) {
        self.positions[file].1 = mark.offset;
        self.marks[file] = mark;
    }

    /// Up to where it covers a file.
    pub(crate) fn mark_of(&self, generation: &Arc<str>) -> Option<FilePosition> {
        self.marks.get(*self.files.get(generation)?).copied()
    }

    /// Bytes that it holds of documents and of what is none.
    pub(crate) fn size(&self) -> usize {
        self.body.len() + self.undecodable_bytes
    }

    pub(crate) fn push_undecodable(&mut self, row: Undecodable) {
        self.undecodable_bytes += row.record.len();
        self.undecodable.push(row);
    }

    /// The index of a file in `positions`; where it is not among them yet, it joins them, covered up to `mark`.
    pub(crate) fn file(&mut self, generation: &Arc<str>, path: &Path, mark: FilePosition) -> usize {
        if let Some(file) = self.files.get(generation) {
            return *file;
        }
        let file = self.positions.len();
        self.files.insert(generation.clone(), file);
        self.positions.push((generation.clone(), mark.offset));
        self.marks.push(mark);
        self.paths.push(path.to_owned());
        file
    }
}
