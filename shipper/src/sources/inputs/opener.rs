//! Making files of inputs ready to be shipped: which input has a file, how it is decoded, and where reading begins.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use kumon_schema::{Common, Kind};

use super::file::InputFile;
use super::pattern::PathPattern;
use crate::checkpoint::{Entry, FileId};
use crate::content::Content;
use crate::content::unpack::Unpacker;
use crate::decode::{CsvDecoder, Decoder, NdjsonDecoder, Origin};
use crate::file_position::FilePosition;
use crate::handle::Message;
use crate::options::{Format, Input, Options};
use crate::sources::source::SinkPositions;
use crate::sources::tail::Tail;
use crate::stream::StreamName;

/// The configured inputs, and what else it takes to read their files.
#[derive(Debug)]
pub(crate) struct Opener {
    pub(crate) inputs: Arc<[Input]>,
    pub(crate) unpacker: Arc<Unpacker>,
    namespace: String,
    common: Common,
    positions: Option<SinkPositions>,
}

impl Opener {
    pub(crate) fn new(
        options: &Options,
        positions: Option<SinkPositions>,
        messages: Sender<Message>,
    ) -> Opener {
        Opener {
            inputs: options.inputs.clone().into(),
            unpacker: Unpacker::new(messages),
            namespace: options.namespace.clone(),
            common: options.common.clone(),
            positions,
        }
    }

    /// The input that a file of this name belongs to.
    pub(crate) fn input_of(&self, path: &Path) -> Option<&Input> {
        let matches = |pattern: &String| PathPattern::new(pattern).is_ok_and(|pattern| pattern.matches(path));
        self.inputs.iter().find(|input| input.paths.iter().any(matches))
    }

    /// The input that has the file of an entry.
    pub(crate) fn input_of_entry(&self, entry: &Entry) -> Option<&Input> {
        self.input_of(entry.found()).or_else(|| self.input_of(&entry.path))
    }

    /// What a file holds, be it compressed.
    pub(crate) fn content(&self, file: File) -> io::Result<Content> {
        Content::of(file, &self.unpacker, true)
    }

    /// A file that is new.
    pub(crate) fn begin(
        &self,
        input: &Input,
        path: &Path,
        content: Content,
        id: FileId,
    ) -> io::Result<InputFile> {
        let start = (FilePosition::START, FilePosition::START);
        Ok(self.file(input, (path, path), content, id, new_generation()?, start))
    }

    /// A file in which reading goes on where the last run ended; `None` where the sink has more of it than it holds.
    pub(crate) fn go_on(
        &self,
        input: &Input,
        path: &Path,
        mut content: Content,
        id: FileId,
        entry: &Entry,
    ) -> io::Result<Option<InputFile>> {
        let generation: Arc<str> = entry.generation.as_str().into();
        let mark = match &self.positions {
            Some(positions) => {
                FilePosition::of(&mut content, positions.get(&generation).copied().unwrap_or(0))?
            }
            None if entry.delivered.stands_in(&mut content)? => Some(entry.delivered),
            // Sent again under the same ids, which the sink recognises.
            None => Some(FilePosition::START),
        };
        let Some(mark) = mark else { return Ok(None) };
        // Renamed to what belongs to another input, it goes on as what it was.
        let input = self.input_of(entry.found()).unwrap_or(input);
        let marks = (mark, entry.sent);
        let mut file = self.file(input, (path, entry.found()), content, id, generation, marks);
        file.base.tail.know_header(entry.header.clone());
        Ok(Some(file))
    }

    /// The file that is at `path` and was first found at `found`.
    fn file(
        &self,
        input: &Input,
        (path, found): (&Path, &Path),
        content: Content,
        id: FileId,
        generation: Arc<str>,
        (delivered, sent): (FilePosition, FilePosition),
    ) -> InputFile {
        let (dataset, namespace) = (input.dataset.clone(), self.namespace.clone());
        let stream = StreamName { kind: Kind::Event, dataset, namespace };
        let decoder = self.decoder(input, found);
        let mut tail = Tail::new(path.into(), content, generation, stream.into(), decoder, delivered, true);
        tail.sent = sent.or_behind(delivered);
        InputFile::new(tail, id, found.to_owned())
    }

    fn decoder(&self, input: &Input, found: &Path) -> Decoder {
        let origin = Origin::new(&self.common, &found.to_string_lossy());
        let (timestamp_field, times) = (input.timestamp_field.clone(), input.times.clone());
        let decoder = match input.format {
            Format::Csv => {
                let decoder = CsvDecoder::foreign(input.schema.clone(), origin, timestamp_field, times);
                Decoder::Csv(decoder.with(input.dialect, input.max_record).into())
            }
            Format::Ndjson => {
                let decoder = NdjsonDecoder::new(origin, timestamp_field, times);
                Decoder::Ndjson(decoder.with(input.max_record))
            }
        };
        decoder.of_encoding(input.encoding)
    }
}

/// 96 random bits: no two contents ever share one.
pub(crate) fn new_generation() -> io::Result<Arc<str>> {
    let (high, low) = (getrandom::u64()?, getrandom::u32()?);
    Ok(format!("{high:016x}{low:08x}").into())
}
