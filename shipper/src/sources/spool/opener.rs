//! Making files of the spool ready to be shipped: how they are decoded, and where reading begins.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};

use kumon_schema::{Format, Schema, builtin};
use kumon_spool::{Acknowledged, FileName, sidecar};

use super::file::SpoolFile;
use crate::content::Content;
use crate::decode::{CsvDecoder, Decoder, DocumentDecoder};
use crate::file_position::FilePosition;
use crate::sources::source::SinkPositions;
use crate::sources::tail::Tail;
use crate::stream::StreamName;

/// What it takes to read the spool's files.
#[derive(Debug)]
pub(crate) struct Opener {
    pub(crate) root: PathBuf,
    pub(crate) namespace: String,
    /// How far files were delivered when the shipper started.
    pub(crate) acknowledged: Acknowledged,
    pub(crate) positions: Option<SinkPositions>,
}

impl Opener {
    /// A file in which reading goes on where the last run ended; `None` where it is gone, else why it can't be shipped.
    pub(crate) fn open(&self, name: &FileName, path: &Path) -> Result<Option<SpoolFile>, String> {
        let schema = self.schema(name)?;
        let open = match kumon_spool::open(path) {
            Ok(open) => open,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(format!("can't be opened: {e}")),
        };
        let stream =
            StreamName { kind: schema.kind, dataset: schema.dataset(), namespace: self.namespace.clone() };
        // A file that a power cut made shorter begins anew; the ids tell what the sink has of it.
        let delivered = self.delivered(name).unwrap_or(0);
        let mut open = Content::from(open);
        let mark = FilePosition::of(&mut open, delivered).map_err(|e| format!("can't be read: {e}"))?;
        let decoder = match name.format {
            Format::Csv => Decoder::Csv(CsvDecoder::own(schema).into()),
            Format::Ndjson => Decoder::Documents(DocumentDecoder),
        };
        let (generation, mark) = (name.id.as_str().into(), mark.unwrap_or(FilePosition::START));
        let tail = Tail::new(path.into(), open, generation, stream.into(), decoder, mark, false);
        Ok(Some(SpoolFile::new(tail, name.clone())))
    }

    /// How far the file was delivered when the shipper started, in bytes.
    pub(crate) fn delivered(&self, name: &FileName) -> Option<u64> {
        match &self.positions {
            Some(positions) => positions.get(name.id.as_str()).copied(),
            None => self.acknowledged.0.get(&name.to_string()).copied(),
        }
    }

    /// The schema the file was written with: this release's, or that of the sidecar an older or newer one left.
    fn schema(&self, name: &FileName) -> Result<Cow<'static, Schema>, String> {
        if let Some(own) = builtin(&name.metric).filter(|own| own.version == name.version) {
            return Ok(Cow::Borrowed(own));
        }
        let path = sidecar(&self.root, &name.metric, name.version);
        let text = kumon_spool::read(&path)
            .map_err(|e| format!("its schema {} can't be read: {e}", path.display()))?;
        Schema::parse(&String::from_utf8_lossy(&text))
            .map(Cow::Owned)
            .map_err(|e| format!("its schema {} is damaged: {e}", path.display()))
    }
}
