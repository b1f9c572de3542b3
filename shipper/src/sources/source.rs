//! What a source is: a kind of files that are shipped.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use super::source_file::SourceFile;
use crate::batch::Batch;
use crate::checkpoint_writer::Positions;

/// Files of one kind. They differ in how they are found and told apart, where reading begins, what tells that one is
/// complete, and what becomes of it then.
pub(crate) trait Source {
    /// Looks for new files, and for changes of the known ones; answers the folders to watch.
    fn discover(&mut self) -> Folders;

    /// How many files are being shipped.
    fn count(&self) -> usize;

    /// One of these.
    fn file(&self, index: usize) -> &SourceFile;

    /// The same, to be changed.
    fn file_mut(&mut self, index: usize) -> &mut SourceFile;

    /// Whether a file must not be read now, whatever there is in it.
    fn is_held(&self, _index: usize) -> bool {
        false
    }

    /// Appends rows of a file to the batch, up to `limit` bytes of it.
    fn fill(&mut self, index: usize, batch: &mut Batch, limit: usize);

    /// Lets go of the files that are complete and delivered, and of those that can't be shipped any more.
    fn let_go(&mut self);

    /// Those of all files that it knows, whether they are being shipped or not.
    fn generations(&self) -> Vec<Arc<str>>;

    /// Generations of content that is gone, and that the sink may forget; those since the last time.
    fn take_gone(&mut self) -> Vec<Arc<str>>;

    /// Whether another look finds more files: some waited until others are done, or were replaced.
    fn has_more_files(&self) -> bool;

    /// Adds how far its files are delivered to what is to be written down.
    fn note_positions(&self, positions: &mut Positions);

    /// To be called when these, as they were then, are written.
    fn positions_written(&mut self, written: &Positions);

    /// Files and folders that can't be read, with the reason.
    fn unreadable(&self) -> &BTreeMap<PathBuf, String>;

    /// What is worth knowing of a file, though it is no fault.
    fn note(&self, index: usize) -> Option<String> {
        self.file(index).tail.holes.note()
    }
}

/// How far the sink has each content for good, by generation, in bytes. Where it keeps that, it is the truth.
pub(crate) type SinkPositions = Arc<HashMap<Arc<str>, u64>>;

/// What may happen in which folder that is worth a look.
pub(crate) type Folders = BTreeMap<PathBuf, Interest>;

/// What is worth a look in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Interest {
    /// That one of these names comes or goes.
    Names(BTreeSet<OsString>),
    /// That any name does.
    AnyName,
    /// Also what is written to its files.
    Files,
}
