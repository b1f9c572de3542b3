//! Finding KuMon's own files.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kumon_schema::{Schema, builtin};
use kumon_spool::{Acknowledged, FileName, list, sidecar};

use crate::batch::StreamName;
use crate::decode::{CsvDecoder, Decoder};
use crate::source::{Origin, Source};
use crate::tail::Tail;

/// The spool folder, and how far its files were delivered when the shipper started.
#[derive(Debug)]
pub(crate) struct SpoolFiles {
    root: PathBuf,
    namespace: String,
    acknowledged: Acknowledged,
    /// The sink's own positions, by generation, where it keeps some; then they are the truth.
    positions: Option<HashMap<Arc<str>, u64>>,
    /// Files that can't be shipped and were complained of.
    refused: HashSet<PathBuf>,
}

impl SpoolFiles {
    pub(crate) fn new(root: &Path, namespace: &str, positions: Option<HashMap<Arc<str>, u64>>) -> SpoolFiles {
        // A lost one costs a resend, which the sink recognises by the ids.
        let acknowledged = Acknowledged::read(root).unwrap_or_else(|e| {
            log::warn!("{}: the acknowledgements can't be read ({e}); files are sent again", root.display());
            Acknowledged::default()
        });
        let (root, namespace) = (root.to_owned(), namespace.to_owned());
        SpoolFiles { root, namespace, acknowledged, positions, refused: HashSet::new() }
    }

    /// The folders to watch: the spool and each metric's.
    pub(crate) fn folders(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        let folders = entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path());
        std::iter::once(self.root.clone()).chain(folders).collect()
    }

    /// Files that are not among `known` yet, oldest first.
    pub(crate) fn discover(&mut self, known: &HashSet<Arc<str>>) -> io::Result<Vec<Source>> {
        let mut found = Vec::new();
        for file in list(&self.root)? {
            if known.contains(file.name.id.as_str()) || self.refused.contains(&file.path) {
                continue;
            }
            match self.open(&file.name, &file.path) {
                Ok(Some(source)) => found.push(source),
                Ok(None) => {}
                Err(why) => {
                    log::error!("{}: {why}; the file is kept and not shipped", file.path.display());
                    self.refused.insert(file.path);
                }
            }
        }
        Ok(found)
    }

    fn open(&self, name: &FileName, path: &Path) -> Result<Option<Source>, String> {
        let schema = self.schema(name)?;
        let open = match File::open(path) {
            Ok(open) => open,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(format!("can't be opened: {e}")),
        };
        let stream =
            StreamName { kind: schema.kind, dataset: schema.dataset(), namespace: self.namespace.clone() };
        let delivered = match &self.positions {
            Some(positions) => positions.get(name.id.as_str()).copied(),
            None => self.acknowledged.0.get(&name.to_string()).copied(),
        };
        let decoder = Decoder::Csv(CsvDecoder::own(schema));
        let generation = name.id.as_str().into();
        let tail = Tail::new(path.into(), open, generation, stream.into(), decoder, delivered.unwrap_or(0));
        Ok(Some(Source::new(tail, Origin::Spool { name: name.clone(), locked: false })))
    }

    /// The schema the file was written with: this release's, or that of the sidecar an older or newer one left.
    fn schema(&self, name: &FileName) -> Result<Schema, String> {
        if let Some(own) = builtin(&name.metric).filter(|own| own.version == name.version) {
            return Ok(own.clone());
        }
        let path = sidecar(&self.root, &name.metric, name.version);
        let text = fs::read_to_string(&path)
            .map_err(|e| format!("its schema {} can't be read: {e}", path.display()))?;
        Schema::parse(&text).map_err(|e| format!("its schema {} is damaged: {e}", path.display()))
    }
}
