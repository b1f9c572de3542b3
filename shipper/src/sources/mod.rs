//! All files that are being shipped. They come from two sources, the spool and the inputs, which differ in what
//! [`Source`] demands; what is the same for both stands here, in [`SourceFile`] and in [`Tail`](tail::Tail).

mod inputs;
mod source;
mod source_file;
mod spool;
mod tail;
mod watch;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::mem;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Instant;

use kumon_spool::Acknowledged;

use self::inputs::Inputs;
use self::source::{Folders, SinkPositions, Source};
use self::source_file::SourceFile;
use self::spool::Spool;
use crate::batch::Batch;
use crate::checkpoint::Checkpoint;
use crate::checkpoint_writer::Positions;
use crate::dead_letters::is_replayed;
use crate::file_position::FilePosition;
use crate::handle::Message;
use crate::options::Options;
use crate::paused_streams::PausedStreams;
use crate::sink::Outcome;

pub use self::spool::SpoolReader;

pub(crate) use self::inputs::bad_pattern;
pub(crate) use self::watch::Watcher;

/// So many files whose last line has no end are named.
const MAX_NOTES: usize = 20;

/// The files of the spool and of the inputs.
#[derive(Debug)]
pub(crate) struct Sources {
    pub(crate) spool: Spool,
    pub(crate) inputs: Inputs,
    /// Streams whose files are left alone for a while.
    pub(crate) paused: PausedStreams,
    /// The file that the next batch begins with: the number of its source, and its index there.
    turn: (usize, usize),
    /// What the sink had at the start, until the first look tells which of it is of files that are gone.
    unclaimed: Option<SinkPositions>,
    /// Generations of that, until the sink is told.
    orphans: Vec<Arc<str>>,
}

impl Sources {
    pub(crate) fn new(
        options: &Options,
        checkpoint: Checkpoint,
        spool: (SpoolReader, Acknowledged),
        positions: Option<HashMap<Arc<str>, u64>>,
        messages: Sender<Message>,
    ) -> Sources {
        let positions = positions.map(Arc::new);
        Sources {
            spool: Spool::new(&options.spool, &options.namespace, spool, positions.clone()),
            inputs: Inputs::new(options, checkpoint.files, positions.clone(), messages),
            paused: PausedStreams::new(options.retry_initial, options.retry_max),
            turn: (0, 0),
            unclaimed: positions,
            orphans: Vec::new(),
        }
    }

    fn all(&self) -> [&dyn Source; 2] {
        [&self.spool, &self.inputs]
    }

    fn all_mut(&mut self) -> [&mut dyn Source; 2] {
        [&mut self.spool, &mut self.inputs]
    }

    /// Each file's source, and its index there.
    fn places(&self) -> impl Iterator<Item = (&dyn Source, usize)> {
        self.all().into_iter().flat_map(|source| (0..source.count()).map(move |index| (source, index)))
    }

    fn files(&self) -> impl Iterator<Item = &SourceFile> {
        self.places().map(|(source, index)| source.file(index))
    }

    pub(crate) fn count(&self) -> usize {
        self.all().into_iter().map(Source::count).sum()
    }

    /// Looks for new files and for changes; answers the folders to watch.
    pub(crate) fn discover(&mut self) -> Folders {
        let of_spool = self.spool.discover();
        let mut folders = self.inputs.discover();
        // Last: in the spool all is worth a look, whatever the inputs say of these folders.
        folders.extend(of_spool);
        if let Some(positions) = self.unclaimed.take().filter(|_| self.spool.is_listed()) {
            self.orphans = self.orphans_among(&positions);
        }
        folders
    }

    /// Positions that a crash kept the sink from forgetting: their files went away before the last start. Those of
    /// letters that are being sent once more are forgotten by who sends them.
    fn orphans_among(&self, positions: &HashMap<Arc<str>, u64>) -> Vec<Arc<str>> {
        let known: HashSet<_> = self.all().into_iter().flat_map(Source::generations).collect();
        let orphans = positions.keys().filter(|it| !known.contains(*it) && !is_replayed(it));
        orphans.cloned().collect()
    }

    /// Whether there is something to read.
    pub(crate) fn has_more(&self) -> bool {
        self.places().any(|(source, index)| self.may_read(source, index))
    }

    fn may_read(&self, source: &dyn Source, index: usize) -> bool {
        let file = source.file(index);
        file.is_ready() && !source.is_held(index) && !self.paused.holds(&file.tail.stream)
    }

    /// When reading goes on behind a hole.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.files().filter_map(SourceFile::waits_until).min()
    }

    /// Whether there are files that another look finds: they waited until others are done, or were replaced.
    pub(crate) fn have_more_files(&self) -> bool {
        self.all().into_iter().any(Source::has_more_files)
    }

    /// Fills the batch up to `whole` bytes from all files in turn, so that a backlog in one doesn't hold up the
    /// others. Answers the former generations of files that turned out to be rewritten.
    pub(crate) fn fill(&mut self, batch: &mut Batch, whole: usize) -> Vec<Arc<str>> {
        let ready = self.places().filter(|(source, index)| self.may_read(*source, *index)).count();
        let share = (whole / ready.clamp(1, 4)).max(1);
        for _ in 0..self.count() {
            if batch.size() >= whole {
                break;
            }
            let (source, index) = self.next_place();
            if self.may_read(self.all()[source], index) {
                self.all_mut()[source].fill(index, batch, whole.min(batch.size() + share));
            }
        }
        self.take_gone()
    }

    /// The file whose turn it is: the number of its source, and its index there.
    fn next_place(&mut self) -> (usize, usize) {
        let (mut source, mut index) = self.turn;
        while index >= self.all()[source].count() {
            (source, index) = ((source + 1) % self.all().len(), 0);
        }
        self.turn = (source, index + 1);
        (source, index)
    }

    /// Goes back over what was read and is not on its way.
    pub(crate) fn unread(&mut self, on_its_way: Option<&Batch>) {
        each(self.all_mut(), |file| {
            if file.tail.read != file.tail.delivered {
                let mark = on_its_way.and_then(|batch| batch.mark_of(file.generation()));
                let mark = mark.map_or(file.tail.delivered, |mark| mark.or_before(file.tail.read));
                file.go_on_at(mark);
            }
        });
    }

    /// The sink has taken a batch, but for the streams that it holds; their files, and all that was read since, are read
    /// again.
    pub(crate) fn taken(&mut self, batch: &Batch, outcome: &Outcome) {
        let files = batch.positions.iter().map(|(generation, _)| generation).zip(&batch.marks);
        let marks: HashMap<&Arc<str>, &FilePosition> = files.collect();
        each([&mut self.spool, &mut self.inputs], |SourceFile { tail, .. }| {
            if let Some(mark) = marks.get(&tail.generation).filter(|_| !outcome.holds(&tail.stream)) {
                self.paused.resume(&tail.stream);
                // Less than that, where the file goes on in a copy that missed the last of it.
                tail.delivered = mark.or_before(tail.read);
            }
        });
        if outcome.held.is_empty() {
            return;
        }
        outcome.held.iter().for_each(|held| self.paused.hold(held));
        self.unread(None);
    }

    /// All that the sink has taken is durable; says whether that is news.
    pub(crate) fn acknowledge(&mut self) -> bool {
        let mut news = false;
        each(self.all_mut(), |SourceFile { tail, .. }| {
            news |= tail.acknowledged != tail.delivered;
            tail.acknowledged = tail.delivered;
        });
        news
    }

    /// Goes back to what the sink holds for good; says whether that is all it had taken.
    pub(crate) fn rewind(&mut self, positions: &HashMap<Arc<str>, u64>) -> bool {
        let mut all = true;
        each(self.all_mut(), |file| {
            let position = positions.get(file.generation()).copied().unwrap_or(0);
            all &= position == file.tail.delivered.offset;
            file.rewind(position);
        });
        all
    }

    /// Lets go of files that are done with; answers their generations, and those of content that was replaced, as far as
    /// nobody needs them any more.
    pub(crate) fn let_go(&mut self) -> Vec<Arc<str>> {
        self.all_mut().into_iter().for_each(Source::let_go);
        self.take_gone()
    }

    fn take_gone(&mut self) -> Vec<Arc<str>> {
        let mut gone = mem::take(&mut self.orphans);
        self.all_mut().into_iter().for_each(|source| gone.append(&mut source.take_gone()));
        gone
    }

    /// Notes that the files of these names have changed; says whether the name of a known one is gone.
    pub(crate) fn changed(&mut self, names: &HashMap<PathBuf, bool>) -> bool {
        let mut is_gone = false;
        if names.is_empty() {
            return false;
        }
        // Not only one each: a renamed file may still be known by the name that another has by now.
        each(self.all_mut(), |file| {
            if let Some(gone) = names.get(&file.tail.path) {
                file.dirty = true;
                is_gone |= gone;
            }
        });
        is_gone
    }

    /// Where each file ends now, by generation.
    pub(crate) fn ends(&self) -> HashMap<Arc<str>, u64> {
        let end = |file: &SourceFile| (file.generation().clone(), file.tail.size().unwrap_or(0));
        let unopened = self.spool.unopened().iter().map(|(generation, size)| (generation.clone(), *size));
        self.files().map(end).chain(unopened).collect()
    }

    /// Whether the sink has taken all whole rows up to these ends, as far as they can be read.
    pub(crate) fn have_reached(&self, ends: &HashMap<Arc<str>, u64>) -> bool {
        if self.spool.unopened().keys().any(|generation| ends.contains_key(generation))
            || self.inputs.are_in_doubt()
        {
            return false;
        }
        self.files().all(|file| {
            let end = ends.get(file.generation());
            // One that was rewritten meanwhile is unknown by its new name; what stands in it counts.
            end.is_some_and(|end| file.tail.delivered.offset >= *end) || file.is_idle()
        })
    }

    /// How far everything is delivered, to be written down.
    pub(crate) fn positions(&self) -> Positions {
        let mut positions = Positions::default();
        self.all().into_iter().for_each(|source| source.note_positions(&mut positions));
        positions
    }

    /// To be called when [`positions`](Self::positions), as they were then, are written.
    pub(crate) fn positions_written(&mut self, written: &Positions) {
        self.all_mut().into_iter().for_each(|source| source.positions_written(written));
    }

    /// Files that can't be shipped, with the reason.
    pub(crate) fn troubles(&self) -> BTreeMap<String, String> {
        let open = self.files().filter_map(|file| Some((&file.tail.path, file.trouble()?)));
        let all = open.chain(self.all().into_iter().flat_map(Source::unreadable));
        all.map(|(path, why)| (path.display().to_string(), why.clone())).collect()
    }

    /// What is worth knowing, though it is no fault, by file or pattern.
    pub(crate) fn notes(&self) -> BTreeMap<String, String> {
        let path = |source: &dyn Source, index| source.file(index).tail.path.display().to_string();
        let of_files =
            self.places().filter_map(|(source, index)| Some((path(source, index), source.note(index)?)));
        of_files.take(MAX_NOTES).chain(self.inputs.notes()).collect()
    }

    /// Bytes that stand in files and are not delivered for good.
    pub(crate) fn lag(&self) -> u64 {
        self.files().map(SourceFile::lag).sum::<u64>() + self.spool.lag()
    }
}

fn each(sources: [&mut dyn Source; 2], mut act: impl FnMut(&mut SourceFile)) {
    for source in sources {
        (0..source.count()).for_each(|index| act(source.file_mut(index)));
    }
}
