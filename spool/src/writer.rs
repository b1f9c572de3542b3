//! Writing rows to the spool.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kumon_schema::{Format, Schema, builtin};

use crate::batch::RowBatch;
use crate::file::{FileName, entries, open, read, replace, sidecar};
use crate::folder::Folder;
use crate::participants::{Presence, Processes};
use crate::shed::{Shedding, SizeWatch, shed};

/// When files are closed, and how much may wait.
#[derive(Debug, Clone)]
pub struct Limits {
    /// A file is closed once it holds so many bytes.
    pub file_bytes: u64,
    /// A file is closed once it is that old.
    pub file_age: Duration,
    /// Above so many bytes the oldest closed files are shed. `u64::MAX` leaves that to another writer.
    pub spool_bytes: u64,
    /// Rows that can't be written (a full disk) wait in memory up to so many bytes per metric; more are lost.
    pub waiting_bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            file_bytes: 16 << 20,
            file_age: Duration::from_secs(600),
            spool_bytes: 1 << 30,
            waiting_bytes: 4 << 20,
        }
    }
}

/// The spool's own ledger, by metric, since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Rows appended.
    pub rows_in: BTreeMap<&'static str, u64>,
    /// Rows that stand in files.
    pub rows_out: BTreeMap<&'static str, u64>,
    pub lost: BTreeMap<(String, Lost), u64>,
}

/// Why the spool lost rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lost {
    /// They could not be written, and too many waited already.
    WriteFailed,
    /// They were shed at the size limit before the shipper had delivered them.
    SpoolLimit,
}

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Lost::WriteFailed => "write failed",
            Lost::SpoolLimit => "spool limit",
        })
    }
}

/// Why rows could not be written now. Nothing is lost yet: they wait, and [`Spool::flush`] tries again.
#[derive(Debug, thiserror::Error)]
#[error("{}: {doing}: {source}{}", path.display(), advice(source))]
pub struct SpoolError {
    path: PathBuf,
    doing: &'static str,
    source: io::Error,
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull => {
            "; free some space or lower spool.max_bytes; rows wait in memory meanwhile"
        }
        io::ErrorKind::PermissionDenied => "; the folder must be writable for the user that collects",
        _ => "",
    }
}

/// The writing side of the spool folder.
#[derive(Debug)]
pub struct Spool {
    root: PathBuf,
    limits: Limits,
    writers: BTreeMap<(&'static str, Format), MetricWriter>,
    stats: Stats,
    size: SizeWatch,
    /// Deletes files at the size limit: it reads them, to count their rows, from a disk that may be in trouble just then,
    /// and who collects must go on.
    shedding: Option<JoinHandle<Shedding>>,
    /// What the last shedding failed at: so it stays until the next one.
    not_shed: Option<io::Error>,
    /// None where it can't be made: then this process is observed, no more.
    _presence: Option<Presence>,
    processes: Processes,
}

/// What was appended is written by itself once so much waits.
const WRITE_BYTES: usize = 1 << 20;

impl Spool {
    /// Opens the folder for writing, making it where it is missing.
    ///
    /// # Errors
    /// When it can't be made or used.
    pub fn open(root: &Path, limits: Limits) -> Result<Spool, SpoolError> {
        fs::create_dir_all(root).map_err(failed(root, "making the spool folder"))?;
        remove_unfinished(root).map_err(failed(root, "removing files that a crash left unfinished"))?;
        Ok(Spool {
            root: root.to_owned(),
            limits,
            writers: BTreeMap::new(),
            stats: Stats::default(),
            size: SizeWatch::default(),
            shedding: None,
            not_shed: None,
            _presence: Presence::make(root).ok(),
            processes: Processes::default(),
        })
    }

    /// The processes that work on the spool, this one among them, each until it ends; looked up once a second. Where they
    /// can't be looked up, those that were known last.
    pub fn processes(&mut self) -> &[u32] {
        self.processes.of(&self.root)
    }

    /// Appends the rows of a batch to their metrics' files, and empties it. They are in the files after the next
    /// [`flush`](Spool::flush).
    pub fn append(&mut self, batch: &mut RowBatch) {
        let Spool { root, limits, writers, stats, size, .. } = self;
        batch.drain(|metric, records| {
            *stats.rows_in.entry(metric).or_default() += records.count;
            let writer = writers.entry((metric, records.format));
            let writer = writer.or_insert_with(|| MetricWriter::new(metric, records.format));
            if writer.waiting.len() >= limits.waiting_bytes.max(WRITE_BYTES) {
                *stats.lost.entry((metric.to_owned(), Lost::WriteFailed)).or_default() += records.count;
                return;
            }
            writer.waiting.extend_from_slice(&records.bytes);
            writer.waiting_rows += records.count;
            if writer.waiting.len() >= WRITE_BYTES {
                // A failure shows again at the next flush, which is the caller's chance to report it.
                let _ = writer.write(root, limits, stats, size);
            }
        });
    }

    /// Counts rows that could not even be appended: too many waited on their way here.
    pub fn count_unwritten(&mut self, rows: BTreeMap<&'static str, u64>) {
        for (metric, count) in rows {
            *self.stats.rows_in.entry(metric).or_default() += count;
            *self.stats.lost.entry((metric.to_owned(), Lost::WriteFailed)).or_default() += count;
        }
    }

    /// Writes what was appended, closes files that are full or old, and has files above the size limit shed; what came of
    /// that shows in a later call.
    ///
    /// # Errors
    /// The first failure; the other metrics are written all the same.
    pub fn flush(&mut self) -> Result<(), SpoolError> {
        let (now, mut result) = (Instant::now(), Ok(()));
        for writer in self.writers.values_mut() {
            let written = writer.write(&self.root, &self.limits, &mut self.stats, &mut self.size);
            result = result.and(written);
            writer.close_if_due(&self.limits, now);
        }
        let shed = self.shedding.take_if(|shedding| shedding.is_finished());
        if let Some(shed) = shed {
            self.finish_shedding(shed);
        }
        result = result.and(self.shed_well());
        if self.shedding.is_none() && self.size.is_due() {
            result = result.and(self.start_shedding());
        }
        result
    }

    /// Waits until what is being shed is gone and counted.
    ///
    /// # Errors
    /// When old files could not be shed.
    pub fn settle(&mut self) -> Result<(), SpoolError> {
        if let Some(shedding) = self.shedding.take() {
            self.finish_shedding(shedding);
        }
        self.shed_well()
    }

    fn shed_well(&self) -> Result<(), SpoolError> {
        let Some(e) = &self.not_shed else { return Ok(()) };
        Err(failed(&self.root, "shedding old files")(io::Error::new(e.kind(), e.to_string())))
    }

    fn start_shedding(&mut self) -> Result<(), SpoolError> {
        let (root, limit) = (self.root.clone(), self.limits.spool_bytes);
        let started = std::thread::Builder::new().name("shed".into()).spawn(move || shed(&root, limit));
        self.shedding =
            Some(started.map_err(failed(&self.root, "starting the thread that sheds old files"))?);
        Ok(())
    }

    fn finish_shedding(&mut self, shedding: JoinHandle<Shedding>) {
        let limit = self.limits.spool_bytes;
        let died =
            |_| Shedding { gone: Vec::new(), left: limit, result: Err(io::Error::other("its thread died")) };
        let Shedding { gone, left, result } = shedding.join().unwrap_or_else(died);
        self.size.looked_at(limit.saturating_sub(left));
        for file in gone {
            log::warn!(
                "the spool is above its limit of {limit} bytes: shed the oldest file of {} with {} undelivered rows",
                file.metric,
                file.rows
            );
            *self.stats.lost.entry((file.metric, Lost::SpoolLimit)).or_default() += file.rows;
        }
        self.not_shed = result.err();
    }

    /// Writes what was appended and closes every file. What can't be written is lost and counted.
    ///
    /// # Errors
    /// As [`flush`](Spool::flush).
    pub fn close(&mut self) -> Result<(), SpoolError> {
        let result = self.flush().and(self.settle());
        for writer in std::mem::take(&mut self.writers).into_values().filter(|w| w.waiting_rows > 0) {
            let reason = (writer.metric.to_owned(), Lost::WriteFailed);
            *self.stats.lost.entry(reason).or_default() += writer.waiting_rows;
        }
        result
    }

    /// What came in, went out and was lost since the start.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }
}

/// One metric's open file and the rows that wait for it.
#[derive(Debug)]
struct MetricWriter {
    metric: &'static str,
    format: Format,
    file: Option<OpenFile>,
    waiting: Vec<u8>,
    waiting_rows: u64,
}

#[derive(Debug)]
struct OpenFile {
    /// Holds a flock for as long as it is open.
    file: File,
    path: PathBuf,
    /// Bytes of whole records.
    size: u64,
    opened: Instant,
    /// A cut record stands at its end and could not be taken back: nothing may follow it.
    torn: bool,
}

impl MetricWriter {
    fn new(metric: &'static str, format: Format) -> MetricWriter {
        MetricWriter { metric, format, file: None, waiting: Vec::new(), waiting_rows: 0 }
    }

    fn write(
        &mut self,
        root: &Path,
        limits: &Limits,
        stats: &mut Stats,
        size: &mut SizeWatch,
    ) -> Result<(), SpoolError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let open = match &mut self.file {
            Some(open) => open,
            none => {
                let open = OpenFile::create(root, self.metric, self.format)?;
                size.add(open.size);
                none.insert(open)
            }
        };
        if let Err(e) = open.append(&self.waiting) {
            if let Some(torn) = self.file.take_if(|open| open.torn) {
                self.forget_what_stands_in(&torn, stats);
            }
            return Err(e);
        }
        size.add(self.waiting.len() as u64);
        *stats.rows_out.entry(self.metric).or_default() += self.waiting_rows;
        self.waiting_rows = 0;
        self.waiting.clear();
        self.waiting.shrink_to(WRITE_BYTES / 16);
        self.close_if_due(limits, Instant::now());
        Ok(())
    }

    /// Whole records that a failing disk took, and would not give back, must not be written once more.
    fn forget_what_stands_in(&mut self, torn: &OpenFile, stats: &mut Stats) {
        let Ok(metadata) = torn.file.metadata() else { return };
        let written = metadata.len().saturating_sub(torn.size).min(self.waiting.len() as u64);
        let (end, records) = whole_records(&self.waiting[..written as usize], self.format);
        self.waiting.drain(..end);
        self.waiting_rows -= records;
        *stats.rows_out.entry(self.metric).or_default() += records;
    }

    fn close_if_due(&mut self, limits: &Limits, now: Instant) {
        let age = |open: &OpenFile| now.saturating_duration_since(open.opened);
        let due = |open: &mut OpenFile| open.size >= limits.file_bytes || age(open) >= limits.file_age;
        self.file.take_if(due);
    }
}

impl OpenFile {
    /// Makes a new file, of CSV with its header. It gets its name only when it is locked and begun, so that nobody takes it
    /// for closed.
    fn create(root: &Path, metric: &'static str, format: Format) -> Result<OpenFile, SpoolError> {
        let folder = root.join(metric);
        fs::create_dir_all(&folder).map_err(failed(&folder, "making the metric's folder"))?;
        let Some(schema) = builtin(metric) else {
            unreachable!("rows are generated from the built-in schemas")
        };
        write_sidecar(root, schema)?;

        let name = FileName::new(metric, schema.version, format);
        let name = name.map_err(failed(&folder, "naming a new file"))?;
        let path = name.path(root);
        let held = Folder::of(&path).map_err(failed(&folder, "opening the metric's folder"))?;
        let unfinished = held.join(&folder.join(format!(".{name}")));
        let header = match format {
            Format::Csv => schema.header(),
            Format::Ndjson => String::new(),
        };
        let create = || -> io::Result<File> {
            // The group may write as far as the umask lets it: the collector, as another user than the shipper,
            // must be able to lock the shipper's files before it sheds them.
            let mut file = OpenOptions::new().append(true).create_new(true).mode(0o660).open(&unfinished)?;
            file.lock()?;
            file.write_all(header.as_bytes())?;
            fs::rename(&unfinished, held.join(&path))?;
            Ok(file)
        };
        let file = create().map_err(|e| {
            // Nothing refers to it; the next start removes it if this fails.
            let _ = fs::remove_file(&unfinished);
            failed(&path, "making a new file")(e)
        })?;
        Ok(OpenFile { file, path, size: header.len() as u64, opened: Instant::now(), torn: false })
    }

    /// Appends whole records or nothing: what a full disk cut is taken back.
    fn append(&mut self, records: &[u8]) -> Result<(), SpoolError> {
        if let Err(e) = self.file.write_all(records) {
            self.torn = self.file.set_len(self.size).is_err();
            return Err(failed(&self.path, "appending rows")(e));
        }
        self.size += records.len() as u64;
        Ok(())
    }
}

/// Where the last whole record ends, and how many there are. Records end in LF, which may also stand within quotes in CSV.
fn whole_records(bytes: &[u8], format: Format) -> (usize, u64) {
    let (mut end, mut records, mut quoted) = (0, 0, false);
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'"' if format == Format::Csv => quoted = !quoted,
            b'\n' if !quoted => (end, records) = (at + 1, records + 1),
            _ => {}
        }
    }
    (end, records)
}

/// The schema's text beside the files, so that a reader of another release can decode them: without it they would never be
/// shipped. One that a power cut emptied is written again.
fn write_sidecar(root: &Path, schema: &Schema) -> Result<(), SpoolError> {
    let path = sidecar(root, &schema.name, schema.version);
    if read(&path).is_ok_and(|text| text == schema.text.as_bytes()) {
        return Ok(());
    }
    let new = path.with_extension("json.new");
    replace(&path, &new, schema.text.as_bytes(), true)
        .map_err(failed(&path, "writing the schema beside the files"))
}

fn remove_unfinished(root: &Path) -> io::Result<()> {
    for entry in entries(root)? {
        let name = entry.file_name();
        let unfinished = name.to_str().and_then(|n| n.strip_prefix('.')).and_then(FileName::parse);
        if unfinished.is_none() {
            continue;
        }
        // What is no file is no writer's either.
        let is_file = entry.file_type()?.is_file();
        if !is_file || !crate::is_being_written(&open(&entry.path())?)? {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn failed(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> SpoolError {
    move |source| SpoolError { path: path.to_owned(), doing, source }
}
