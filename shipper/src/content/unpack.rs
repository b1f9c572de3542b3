//! Decompressing beside the loop that ships. What a compressed file holds, and whether it is whole, shows only once all
//! of it was read, which takes minutes where it holds 10 GB. A thread does that, for all such files in turn.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fs::{self, File};
use std::io;
use std::mem;
use std::os::fd::AsRawFd;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::FileState;
use super::gunzip::Gunzip;
use crate::checkpoint::FileId;
use crate::handle::Message;

/// A compressed file that was written to within that time is waited for.
const SETTLED: Duration = Duration::from_millis(250);
/// So much is decompressed of one file before it is another one's turn, in bytes.
const SLICE: u64 = 8 << 20;
/// So much is decompressed on the loop, to get from a known place to another one, in bytes.
pub(crate) const NEAR: u64 = 4 << 20;
/// So much is remembered of what stands at a place that was asked for: enough for a mark. In bytes.
const PIECE: usize = 1 << 10;
/// Places that were found and could be gone on from; each takes 43 KiB.
const MOST_READERS: usize = 8;
/// What nobody asked for in that time is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// What is known of all compressed files.
#[derive(Debug)]
pub(crate) struct Unpacker {
    files: Mutex<HashMap<FileId, Arc<Unpacked>>>,
    work: Arc<Work>,
    /// Until when the loop may wait for an answer.
    patience: Mutex<Instant>,
}

/// What the thread has to do. There is one as long as that is something.
#[derive(Debug)]
struct Work {
    queue: Mutex<Queue>,
    messages: Sender<Message>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Weak<Unpacked>>,
    /// Whether there is a thread.
    is_running: bool,
    /// Whether it is at a file right now.
    is_working: bool,
}

/// What is known of a compressed file as it was at a time.
#[derive(Debug)]
pub(crate) struct Unpacked {
    file: Arc<File>,
    state: FileState,
    known: Mutex<Facts>,
    news: Condvar,
}

#[derive(Debug)]
struct Facts {
    /// In bytes, decompressed; or why it can't be.
    length: Option<Result<u64, (io::ErrorKind, String)>>,
    /// Places that were asked for, in bytes.
    wanted: BTreeSet<u64>,
    /// What stands at places that were asked for, at the beginning and at the end.
    pieces: BTreeMap<u64, Vec<u8>>,
    readers: VecDeque<Gunzip>,
    /// How far the thread is, and what stands before that.
    pass: Option<Gunzip>,
    before: Vec<u8>,
    is_queued: bool,
    ready_at: Instant,
    asked: Instant,
}

/// For what is not known yet: a message tells when to ask again.
pub(crate) fn later() -> io::Error {
    io::Error::new(io::ErrorKind::WouldBlock, "it is being decompressed")
}

/// Whether something failed for no other reason than that it is being decompressed.
pub(crate) fn is_later(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

impl Unpacker {
    pub(crate) fn new(messages: Sender<Message>) -> Arc<Unpacker> {
        let work = Arc::new(Work { queue: Mutex::default(), messages });
        Arc::new(Unpacker { files: Mutex::default(), work, patience: Mutex::new(Instant::now()) })
    }

    /// Lets the loop wait so long for answers from now on, all together: most files are small.
    pub(crate) fn wait_for(&self, patience: Duration) {
        *lock(&self.patience) = Instant::now() + patience;
        let is_asked_for = |file: &Unpacked| lock(&file.known).asked.elapsed() < FORGOTTEN;
        lock(&self.files).retain(|_, file| Arc::strong_count(file) > 1 || is_asked_for(file));
    }

    /// Whether files are being decompressed, which are not known until then.
    pub(crate) fn is_busy(&self) -> bool {
        let queue = lock(&self.work.queue);
        let is_ready = |file: Arc<Unpacked>| lock(&file.known).ready_at <= Instant::now();
        queue.is_working || queue.waiting.iter().filter_map(Weak::upgrade).any(is_ready)
    }

    /// What is known of a file, and how much it holds in bytes. With `settle` one that was just written to is waited
    /// for.
    ///
    /// # Errors
    /// When it is damaged or not whole; [`is_later`] when that is not known yet.
    pub(crate) fn look_into(&self, file: &Arc<File>, settle: bool) -> io::Result<(Arc<Unpacked>, u64)> {
        let metadata = file.metadata()?;
        let (id, state) = (FileId::of(&metadata), (metadata.len(), metadata.modified()?));
        // A time in the future is no reason to wait for it.
        let age = state.1.elapsed().unwrap_or(SETTLED);
        let ready_at = Instant::now() + SETTLED.saturating_sub(age);
        let mut files = lock(&self.files);
        let unpacked = match files.get(&id).filter(|known| known.state == state) {
            Some(known) => known.clone(),
            None => {
                let unpacked = Arc::new(Unpacked::new(file.clone(), state, ready_at));
                files.insert(id, unpacked.clone());
                unpacked
            }
        };
        drop(files);
        let mut known = lock(&unpacked.known);
        known.asked = Instant::now();
        if !settle {
            known.ready_at = Instant::now();
        }
        if known.length.is_none() {
            known = self.await_news(&unpacked, known, |known| known.length.is_some())?;
        }
        let length = match &known.length {
            Some(Ok(length)) => *length,
            Some(Err((kind, why))) => return Err(io::Error::new(*kind, why.clone())),
            None => return Err(later()),
        };
        drop(known);
        Ok((unpacked, length))
    }

    /// Where to read from to get to a place.
    ///
    /// # Errors
    /// [`is_later`] when that is not known yet.
    pub(crate) fn reader(&self, of: &Arc<Unpacked>, offset: u64) -> io::Result<Gunzip> {
        let mut known = lock(&of.known);
        if known.reader(offset).is_none() {
            known.wanted.insert(offset);
            known = self.await_news(of, known, |known| !known.wanted.contains(&offset))?;
        }
        known.reader(offset).ok_or_else(later)
    }

    /// Lets the thread work on a file, and waits for it as long as there is patience.
    fn await_news<'a>(
        &self,
        file: &'a Arc<Unpacked>,
        mut known: MutexGuard<'a, Facts>,
        until: impl Fn(&Facts) -> bool,
    ) -> io::Result<MutexGuard<'a, Facts>> {
        if !known.is_queued {
            known.is_queued = true;
            // Locked before the file elsewhere.
            drop(known);
            if let Err(e) = self.work.give(file) {
                lock(&file.known).is_queued = false;
                return Err(e);
            }
            known = lock(&file.known);
        }
        let patience = *lock(&self.patience);
        while !until(&known) {
            let left = patience.saturating_duration_since(Instant::now());
            // One that was just written to takes longer than that.
            if left.is_zero() || known.ready_at > Instant::now() || !known.is_queued {
                return Err(later());
            }
            known = file.news.wait_timeout(known, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(known)
    }
}

impl Work {
    fn give(self: &Arc<Work>, file: &Arc<Unpacked>) -> io::Result<()> {
        let mut queue = lock(&self.queue);
        queue.waiting.push_back(Arc::downgrade(file));
        if !queue.is_running {
            let work = self.clone();
            std::thread::Builder::new().name("unpack".to_owned()).spawn(move || work.run())?;
            queue.is_running = true;
        }
        Ok(())
    }

    fn run(&self) {
        // Rows go first. It works as well where that can't be said.
        let _ = rustix::process::nice(5);
        let mut buffer = vec![0; 64 << 10];
        while let Some(file) = self.next() {
            let is_done = file.advance(&mut buffer);
            let mut queue = lock(&self.queue);
            queue.is_working = false;
            if is_done {
                // The shipper may have ended.
                let _ = self.messages.send(Message::Unpacked);
            } else {
                queue.waiting.push_back(Arc::downgrade(&file));
            }
        }
    }

    /// The next file whose turn it is; `None` when there is nothing left to do.
    fn next(&self) -> Option<Arc<Unpacked>> {
        loop {
            let mut queue = lock(&self.queue);
            queue.waiting.retain(|file| file.strong_count() > 0);
            let ready_at = |file: &Weak<Unpacked>| Some(lock(&file.upgrade()?.known).ready_at);
            let times: Vec<Option<Instant>> = queue.waiting.iter().map(ready_at).collect();
            let is_ready = |at: &Option<Instant>| at.is_some_and(|at| at <= Instant::now());
            if let Some(index) = times.iter().position(is_ready) {
                let file = queue.waiting.remove(index).and_then(|file| file.upgrade());
                queue.is_working = file.is_some();
                match file {
                    Some(file) => return Some(file),
                    None => continue,
                }
            }
            let Some(first) = times.into_iter().flatten().min() else {
                queue.is_running = false;
                return None;
            };
            drop(queue);
            // Others may come, and be ready sooner.
            std::thread::sleep(first.saturating_duration_since(Instant::now()).min(SETTLED / 10));
        }
    }
}

/// How far the thread came with a file.
enum Came {
    ToTheEnd,
    ToAllThatIsWanted,
    On,
    Failed(io::Error),
}

impl Unpacked {
    fn new(file: Arc<File>, state: FileState, ready_at: Instant) -> Unpacked {
        let known = Facts {
            length: None,
            wanted: BTreeSet::from([0]),
            pieces: BTreeMap::new(),
            readers: VecDeque::new(),
            pass: None,
            before: Vec::new(),
            is_queued: false,
            ready_at,
            asked: Instant::now(),
        };
        Unpacked { file, state, known: Mutex::new(known), news: Condvar::new() }
    }

    /// What stands at a place, as much of it as fits; the bytes read, where that is known.
    pub(crate) fn piece(&self, offset: u64, buffer: &mut [u8]) -> Option<usize> {
        let known = lock(&self.known);
        let (start, piece) = known.pieces.range(..=offset).next_back()?;
        let rest = piece.get((offset - start) as usize..)?;
        // A shorter one ends with the file.
        if rest.is_empty() || (rest.len() < buffer.len() && piece.len() == PIECE) {
            return None;
        }
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        Some(read)
    }

    /// For a file that was read to its end.
    pub(crate) fn forget_readers(&self) {
        lock(&self.known).readers.clear();
    }

    /// Decompresses a slice; says whether nothing is left to do.
    fn advance(&self, buffer: &mut [u8]) -> bool {
        let mut known = lock(&self.known);
        let (pass, before) = (known.pass.take(), mem::take(&mut known.before));
        let (mut pass, mut before) = match pass {
            Some(pass) => (pass, before),
            None => (known.nearest_start(), Vec::new()),
        };
        let (mut wanted, is_measured) = (known.wanted.clone(), known.length.is_some());
        drop(known);
        let (end, mut found) = (pass.at + SLICE, Vec::new());
        let came = loop {
            let next = wanted.range(pass.at..).next().copied();
            if next == Some(pass.at) {
                let mut piece = vec![0; PIECE];
                let read = pass.clone().read(&self.file, &mut piece);
                piece.truncate(read.unwrap_or(0));
                wanted.remove(&pass.at);
                found.push((pass.clone(), piece));
                continue;
            }
            if is_measured && next.is_none() {
                break Came::ToAllThatIsWanted;
            }
            let room = next.map_or(u64::MAX, |next| next - pass.at).min(buffer.len() as u64) as usize;
            match pass.read(&self.file, &mut buffer[..room]) {
                Ok(read) => {
                    before.extend_from_slice(&buffer[read.saturating_sub(PIECE)..read]);
                    before.drain(..before.len().saturating_sub(PIECE));
                    match read < room {
                        true => break Came::ToTheEnd,
                        false if pass.at >= end => break Came::On,
                        false => {}
                    }
                }
                Err(e) => break Came::Failed(e),
            }
        };
        lock(&self.known).before = before;
        let is_done = self.note(pass, found, came);
        self.news.notify_all();
        is_done
    }

    fn note(&self, pass: Gunzip, found: Vec<(Gunzip, Vec<u8>)>, came: Came) -> bool {
        let mut known = lock(&self.known);
        for (reader, piece) in found {
            known.wanted.remove(&reader.at);
            known.pieces.insert(reader.at, piece);
            if reader.at > 0 {
                known.readers.push_back(reader);
            }
        }
        let too_many = known.readers.len().saturating_sub(MOST_READERS);
        known.readers.drain(..too_many);
        match came {
            Came::On => {
                known.pass = Some(pass);
                return false;
            }
            Came::ToAllThatIsWanted => {}
            Came::ToTheEnd | Came::Failed(_) if !self.is_unchanged() => {
                // Whoever looks again finds another file.
                known.wanted.clear();
            }
            Came::ToTheEnd => {
                self.tell_rest(&pass);
                let behind = known.wanted.split_off(&pass.at);
                known.pieces.extend(behind.into_iter().map(|offset| (offset, Vec::new())));
                let before = mem::take(&mut known.before);
                known.pieces.insert(pass.at - before.len() as u64, before);
                known.length = Some(Ok(pass.at));
            }
            Came::Failed(e) => {
                known.length = Some(Err((e.kind(), e.to_string())));
                known.wanted.clear();
            }
        }
        known.is_queued = !known.wanted.is_empty();
        !known.is_queued
    }

    fn is_unchanged(&self) -> bool {
        let state = self.file.metadata().and_then(|file| Ok((file.len(), file.modified()?)));
        state.is_ok_and(|state| state == self.state)
    }

    /// As gzip does, leaves out what stands behind the data, and says so.
    fn tell_rest(&self, pass: &Gunzip) {
        let rest = self.state.0.saturating_sub(pass.used());
        if rest > 0 {
            let path = fs::read_link(format!("/proc/self/fd/{}", self.file.as_raw_fd())).unwrap_or_default();
            let path = path.display();
            log::warn!("{path}: {rest} bytes behind its gzip data are none, and are left out");
        }
    }
}

impl Facts {
    /// From where all that is wanted can be reached.
    fn nearest_start(&self) -> Gunzip {
        let first = self.wanted.first().filter(|_| self.length.is_some());
        let readers = self.readers.iter().filter(|reader| first.is_some_and(|first| reader.at <= *first));
        readers.max_by_key(|reader| reader.at).cloned().unwrap_or_else(Gunzip::start)
    }

    fn reader(&self, offset: u64) -> Option<Gunzip> {
        let is_near = |reader: &&Gunzip| (reader.at..=reader.at + NEAR).contains(&offset);
        let nearest = self.readers.iter().filter(is_near).max_by_key(|reader| reader.at);
        nearest.cloned().or_else(|| (offset <= NEAR).then(Gunzip::start))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
