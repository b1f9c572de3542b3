//! All files that are being shipped.

pub(crate) mod inputs;
mod source_file;
pub(crate) mod spool;
mod tail;
pub(crate) mod watch;

pub use spool::SpoolReader;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use kumon_spool::Acknowledged;

use crate::batch::Batch;
use crate::checkpoint::{Checkpoint, Entry};
use crate::checkpoint_writer::Positions;
use crate::dead_letters::is_replayed;
use crate::file_position::FilePosition;
use crate::handle::Message;
use crate::options::Options;
use crate::paused_streams::PausedStreams;
use crate::sink::Outcome;
use crate::sources::inputs::Inputs;
use crate::sources::inputs::listing::{Folders, Interest};
use crate::sources::source_file::{Origin, Source};
use crate::sources::spool::SpoolFiles;
use crate::throttle::throttled;

/// So long a look waits for files that are decompressed: most are small.
const PATIENCE: Duration = Duration::from_millis(50);
/// A file whose name is gone is waited for so many times longer while it may be one that is decompressed.
const LINGER_LONGER: u32 = 10;
/// So many files whose last line has no end are named.
const MAX_NOTES: usize = 20;

/// The files of the spool and of the inputs.
#[derive(Debug)]
pub(crate) struct Sources {
    all: Vec<Source>,
    spool_files: SpoolFiles,
    inputs: Inputs,
    spool: PathBuf,
    /// Generations of content that was replaced, until the sink is told.
    former: Vec<Arc<str>>,
    /// Set once it can't be told any more which files were gone before the start.
    unclear: bool,
    /// A file is to be looked for again under the name it was known by.
    unlisted: bool,
    /// Names under which files were made since the last look that left nothing undecided.
    made: HashSet<PathBuf>,
    /// How long a foreign file whose name is gone is waited for.
    pub(crate) linger: Duration,
    /// Set for the last round: then a deleted file can't be waited for, nobody would find it again.
    pub(crate) stopping: bool,
    /// Streams whose files are left alone for a while.
    pub(crate) holds: PausedStreams,
    /// Set while the checkpoint can't be written: files that must be in it first are left alone.
    pub(crate) hold: bool,
}

impl Sources {
    pub(crate) fn new(
        options: &Options,
        checkpoint: Checkpoint,
        spool: (SpoolReader, Acknowledged),
        positions: Option<HashMap<Arc<str>, u64>>,
        linger: Duration,
        messages: Sender<Message>,
    ) -> Sources {
        Sources {
            all: Vec::new(),
            spool_files: SpoolFiles::new(&options.spool, &options.namespace, spool, positions.clone()),
            inputs: Inputs::new(options, checkpoint.files, positions, messages),
            spool: options.spool.clone(),
            former: Vec::new(),
            unlisted: false,
            made: HashSet::new(),
            unclear: false,
            linger,
            stopping: false,
            holds: PausedStreams::new(options.retry_initial, options.retry_max),
            hold: false,
        }
    }

    /// Looks for new files and for changes; answers the folders to watch.
    pub(crate) fn discover(&mut self) -> Folders {
        match self.spool_files.discover(&self.all) {
            Ok(found) => self.all.extend(found),
            Err(e) => {
                throttled!(Error, "list spool", "{}: the spool can't be listed: {e}", self.spool.display());
                self.unclear = true;
            }
        }
        self.former.append(&mut self.spool_files.gone);
        self.inputs.unpacker.wait_for(PATIENCE);
        let mut listing = self.inputs.list();
        for index in 0..self.all.len() {
            let source = &mut self.all[index];
            let seen = |source: &Source| listing.seen(&source.foreign_id()?, &source.tail.path);
            let mut now = seen(source);
            if now.is_none() {
                match source.follow() {
                    Ok(true) => now = seen(source),
                    Ok(false) => {}
                    Err(e) => source.fail(&e),
                }
            }
            if source.look(now) {
                self.renew(index);
            } else if let Some(why) = source.is_unfinished_anew() {
                throttled!(Info, "unfinished", "{}: {why}", source.tail.path.display());
            }
        }
        self.unlisted = false;
        let mut folders = mem::take(&mut listing.folders);
        let found = self.inputs.discover(&mut self.all, listing, &self.made);
        if !self.inputs.is_undecided() {
            self.made.clear();
        }
        self.all.extend(found);
        self.former.append(&mut self.inputs.gone);
        folders.extend(self.spool_files.folders().into_iter().map(|folder| (folder, Interest::Files)));
        if !mem::replace(&mut self.unclear, true) {
            self.forget_orphans();
        }
        folders
    }

    /// Positions that a crash kept the sink from forgetting: their files went away before the last start. Those of
    /// letters that are being sent once more are forgotten by who sends them.
    fn forget_orphans(&mut self) {
        let remembered = self.inputs.remembered().map(|entry| entry.generation.as_str());
        let known = self.all.iter().map(|source| &**source.generation()).chain(remembered).collect();
        let orphans = self.spool_files.orphans(&known);
        self.former.extend(orphans.into_iter().filter(|generation| !is_replayed(generation)));
    }

    /// For a file that holds other content than what was read of it. A rotator may have copied that: then it is read
    /// on there, and the file itself is found anew.
    fn renew(&mut self, index: usize) {
        // A rotator uses the names of its copies again, too: what is overwritten is nobody's file any more.
        for other in 0..self.all.len() {
            if other != index && self.all[other].is_overwritten() {
                self.replace(other);
            }
        }
        self.replace(index);
    }

    fn replace(&mut self, index: usize) {
        let source = &mut self.all[index];
        match source.stands() {
            Ok(false) => {}
            Ok(true) => return,
            Err(e) => return source.fail(&e),
        }
        let copy = self.inputs.find_copy(&self.all[index], &self.all);
        let source = &mut self.all[index];
        let renewed = match copy {
            Ok(Some(copy)) => {
                self.inputs.remember_header(source).and_then(|()| source.move_to(copy)).map(|()| {
                    self.unlisted = true;
                    Vec::new()
                })
            }
            Ok(None) if source.is_overwritten() => {
                source.give_up();
                Ok(Vec::new())
            }
            // It may hold what is known of another one: found anew, it is asked for that.
            Ok(None) if !source.tail.content.is_plain() => {
                source.give_up();
                self.unlisted = true;
                Ok(Vec::new())
            }
            Ok(None) => source.is_being_rewritten().and_then(|waits| match waits {
                true => Ok(Vec::new()),
                false => source.start_anew(),
            }),
            Err(e) => Err(e),
        };
        match renewed {
            Ok(former) => self.former.extend(former),
            Err(e) => source.fail(&e),
        }
    }

    /// Whether files are being decompressed, which are known only then.
    pub(crate) fn is_unpacking(&self) -> bool {
        self.inputs.unpacker.is_busy()
    }

    /// Whether there is something to read.
    pub(crate) fn has_more(&self) -> bool {
        self.all.iter().any(|source| self.may_read(source))
    }

    /// When reading goes on behind a hole.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.all.iter().filter_map(Source::waits_until).min()
    }

    /// Whether there are files that another look finds: they waited until others are done, or were replaced.
    pub(crate) fn have_more_files(&self) -> bool {
        !self.spool_files.unopened().is_empty()
            || self.unlisted
            || self.inputs.is_undecided()
            || self.all.iter().any(Source::is_in_doubt)
    }

    fn may_read(&self, source: &Source) -> bool {
        source.is_ready()
            && !(self.hold && source.needs_recording())
            && !self.holds.holds(&source.tail.stream)
    }

    /// Fills the batch up to `whole` bytes from all files in turn, so that a backlog in one doesn't hold up the
    /// others. Answers the former generations of files that turned out to be rewritten.
    pub(crate) fn fill(&mut self, batch: &mut Batch, whole: usize) -> Vec<Arc<str>> {
        let ready = self.all.iter().filter(|source| self.may_read(source)).count();
        let share = (whole / ready.clamp(1, 4)).max(1);
        let mut visited = 0;
        for index in 0..self.all.len() {
            if batch.size() >= whole {
                break;
            }
            visited = index + 1;
            if !self.may_read(&self.all[index]) {
                continue;
            }
            let (source, before) = (&mut self.all[index], batch.size());
            let filled = source.fill(batch, whole.min(before + share));
            self.former.extend(source.forget_emptied());
            batch.is_foreign |= batch.size() > before && source.foreign_id().is_some();
            match filled {
                Ok(false) => {}
                Ok(true) => self.renew(index),
                Err(e) => source.fail(&e),
            }
        }
        // The next batch begins with the files that have not had their turn.
        let turn = visited % self.all.len().max(1);
        self.all.rotate_left(turn);
        mem::take(&mut self.former)
    }

    /// Whether the checkpoint must be written before what was read may be sent.
    pub(crate) fn need_recording(&self) -> bool {
        self.all.iter().any(|source| source.tail.read != source.tail.delivered && source.needs_recording())
    }

    /// Goes back over what was read and is not on its way.
    pub(crate) fn unread(&mut self, on_its_way: Option<&Batch>) {
        for source in self.all.iter_mut().filter(|source| source.tail.read != source.tail.delivered) {
            let mark = on_its_way.and_then(|batch| batch.mark_of(source.generation()));
            let mark = mark.map_or(source.tail.delivered, |mark| mark.or_before(source.tail.read));
            source.tail.go_on_at(mark);
            source.dirty = true;
        }
    }

    /// The sink has taken a batch, but for the streams that it holds; their files, and all that was read since, are read
    /// again.
    pub(crate) fn taken(&mut self, batch: &Batch, outcome: &Outcome) {
        let files = batch.positions.iter().map(|(generation, _)| generation).zip(&batch.marks);
        let marks: HashMap<&Arc<str>, &FilePosition> = files.collect();
        for tail in self.all.iter_mut().map(|source| &mut source.tail) {
            let Some(mark) = marks.get(&tail.generation).filter(|_| !outcome.holds(&tail.stream)) else {
                continue;
            };
            self.holds.resume(&tail.stream);
            // Less than that, where the file goes on in a copy that missed the last of it.
            tail.delivered = mark.or_before(tail.read);
        }
        if outcome.held.is_empty() {
            return;
        }
        outcome.held.iter().for_each(|held| self.holds.hold(held));
        self.unread(None);
    }

    /// All that the sink has taken is durable; says whether that is news.
    pub(crate) fn acknowledge(&mut self) -> bool {
        let mut news = false;
        for tail in self.all.iter_mut().map(|source| &mut source.tail) {
            news |= tail.acknowledged != tail.delivered;
            tail.acknowledged = tail.delivered;
        }
        news
    }

    /// Goes back to what the sink holds for good; says whether that is all it had taken.
    pub(crate) fn rewind(&mut self, positions: &HashMap<Arc<str>, u64>) -> bool {
        let mut all = true;
        for source in &mut self.all {
            let position = positions.get(source.generation()).copied().unwrap_or(0);
            all &= position == source.tail.delivered.offset;
            source.rewind(position);
        }
        all
    }

    /// Deletes spool files that are closed and delivered, or leaves them to who still reads them, and closes foreign ones that are gone and delivered;
    /// answers their generations, and those of content that was replaced.
    pub(crate) fn let_go(&mut self) -> Vec<Arc<str>> {
        let mut gone = mem::take(&mut self.former);
        let longer = if self.is_unpacking() { LINGER_LONGER } else { 1 };
        let (linger, stopping, inputs) = (self.linger * longer, self.stopping, &mut self.inputs);
        let spool_files = &mut self.spool_files;
        let linger_for =
            |source: &Source| if stopping && source.is_deleted() { Duration::ZERO } else { linger };
        self.all.retain_mut(|source| match source.is_over(linger_for(source), spool_files.reader()) {
            // It may just be turning into a compressed file, which the next start finds.
            Ok(true) if stopping && source.entry().is_some() => {
                inputs.remember(source.entry());
                false
            }
            Ok(true) => {
                match (&source.origin, source.entry()) {
                    (Origin::Spool { name, .. }, _) if !source.is_deleted() => {
                        spool_files.leave(source.generation(), name, source.tail.acknowledged.offset);
                    }
                    // Renamed, or hidden by what was mounted over it: it may come back.
                    (_, Some(entry)) if !source.is_deleted() => gone.extend(inputs.keep(entry)),
                    _ => gone.push(source.generation().clone()),
                }
                false
            }
            Ok(false) => true,
            Err(e) => {
                let cause = format!("let go: {e}");
                throttled!(Warn, cause, "{}: can't be let go: {e}", source.tail.path.display());
                true
            }
        });
        gone
    }

    /// Notes which names files got, and whether they were made under them, rather than renamed to them.
    pub(crate) fn named(&mut self, names: HashMap<PathBuf, bool>) {
        for (name, is_made) in names {
            match is_made {
                true => self.made.insert(name),
                false => self.made.remove(&name),
            };
        }
    }

    /// Notes that the files of these names have changed; says whether the name of a known one is gone.
    pub(crate) fn changed(&mut self, names: &HashMap<PathBuf, bool>) -> bool {
        let mut is_gone = false;
        if names.is_empty() {
            return false;
        }
        // Not only one each: a renamed file may still be known by the name that another has by now.
        for source in &mut self.all {
            if let Some(gone) = names.get(&source.tail.path) {
                source.dirty = true;
                is_gone |= gone;
            }
        }
        is_gone
    }

    /// Where each file ends now, by generation.
    pub(crate) fn ends(&self) -> HashMap<Arc<str>, u64> {
        let end = |source: &Source| (source.generation().clone(), source.tail.size().unwrap_or(0));
        let waiting =
            self.spool_files.unopened().iter().map(|(generation, size)| (generation.clone(), *size));
        self.all.iter().map(end).chain(waiting).collect()
    }

    /// Whether the sink has taken all whole rows up to these ends, as far as they can be read.
    pub(crate) fn have_reached(&self, ends: &HashMap<Arc<str>, u64>) -> bool {
        if self.spool_files.unopened().keys().any(|generation| ends.contains_key(generation))
            || self.all.iter().any(Source::is_in_doubt)
        {
            return false;
        }
        self.all.iter().all(|source| {
            let end = ends.get(source.generation());
            // One that was rewritten meanwhile is unknown by its new name; what stands in it counts.
            end.is_some_and(|end| source.tail.delivered.offset >= *end)
                || (!source.is_ready()
                    && !source.waits
                    && !source.waits_for_hole()
                    && source.tail.delivered == source.tail.read)
        })
    }

    /// Whether other shippers read the spool, too.
    pub(crate) fn share_the_spool(&self) -> bool {
        !self.spool_files.reader().is_alone()
    }

    /// How many files were shipped that no input has any more, and the first of them.
    pub(crate) fn files_without_input(&self) -> Option<(usize, &Path)> {
        self.inputs.files_without_input()
    }

    /// What the checkpoint is to hold.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.all.iter().filter_map(Source::entry).chain(self.inputs.remembered().cloned()).collect()
    }

    /// How far the spool's files are delivered.
    pub(crate) fn acknowledged(&self) -> Acknowledged {
        let mut acknowledged = self.spool_files.closed();
        for source in &self.all {
            if let Origin::Spool { name, .. } = &source.origin {
                acknowledged.0.insert(name.to_string(), source.tail.acknowledged.offset);
            }
        }
        acknowledged
    }

    /// To be called when [`entries`](Self::entries) and [`acknowledged`](Self::acknowledged), as they were then, are
    /// written.
    pub(crate) fn saved(&mut self, positions: &Positions) {
        let entries = positions.files.iter().map(|entry| (entry.generation.as_str(), entry));
        let entries: HashMap<&str, &Entry> = entries.collect();
        for source in &mut self.all {
            match &source.origin {
                Origin::Spool { name, .. } => {
                    let written = positions.acknowledged.0.get(&name.to_string());
                    source.note_acknowledged(written.copied());
                }
                Origin::Foreign { .. } => source.note_recorded(entries.get(&**source.generation()).copied()),
            }
        }
    }

    /// Files that can't be shipped, with the reason.
    pub(crate) fn troubles(&self) -> BTreeMap<String, String> {
        let own = self.all.iter().filter_map(|source| Some((&source.tail.path, source.trouble()?)));
        let all = own.chain(self.spool_files.refused()).chain(self.inputs.unreadable());
        all.map(|(path, why)| (path.display().to_string(), why.clone())).collect()
    }

    /// What is worth knowing, though it is no fault, by file or pattern.
    pub(crate) fn notes(&self) -> BTreeMap<String, String> {
        let of_sources = self.all.iter().filter_map(|source| Some((&source.tail.path, source.note()?)));
        let of_sources = of_sources.map(|(path, note)| (path.display().to_string(), note)).take(MAX_NOTES);
        of_sources.chain(self.inputs.notes()).collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.all.len()
    }

    /// Bytes that stand in files and are not delivered for good.
    pub(crate) fn lag(&self) -> u64 {
        self.all.iter().map(Source::lag).sum::<u64>() + self.spool_files.lag()
    }
}
