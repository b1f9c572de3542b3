//! Sending dead letters once more.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::folder::LetterFile;
use super::{DeadLetter, DeadLetterFolder, LetterFilter, LetterKind};
use crate::batch::Batch;
use crate::encoder::{Encoder, RowId};
use crate::handle::Handle;
use crate::sink::{Outcome, Sink, SinkError};
use crate::stream::StreamName;

/// So much is sent at once, in bytes.
const BATCH_BYTES: usize = 2 << 20;
/// What a letter's generation begins with.
const GENERATION: &str = "dead-letter-";

/// Whether it is a letter's, and no file's.
pub(crate) fn is_replayed(generation: &str) -> bool {
    generation.starts_with(GENERATION)
}

/// Of so many letters that are refused again the reason is told.
const TOLD: usize = 20;

/// Who takes letters that are sent once more.
pub trait Deliver {
    /// What gives letters the form in which they are delivered.
    fn encoder(&self) -> Box<dyn Encoder>;

    /// Delivers the batch durably, or says of which documents and streams that can't be done.
    ///
    /// # Errors
    /// When the sink can't take it now.
    fn deliver(&mut self, batch: Batch) -> Result<Outcome, SinkError>;

    /// The letters of the batch of these generations are removed: nobody will ask for them again.
    fn forget(&mut self, generations: Vec<Arc<str>>);
}

/// A sink that no shipper uses.
impl Deliver for Box<dyn Sink> {
    fn encoder(&self) -> Box<dyn Encoder> {
        self.as_ref().encoder()
    }

    fn deliver(&mut self, batch: Batch) -> Result<Outcome, SinkError> {
        let outcome = self.send(&Arc::new(batch))?;
        self.settle(true)?;
        Ok(outcome)
    }

    fn forget(&mut self, generations: Vec<Arc<str>>) {
        Sink::forget(self.as_mut(), &generations);
        // A sink that keeps positions keeps these until it commits something else; they cost some bytes at most.
        let empty = Batch::new(Deliver::encoder(self));
        let _ = self.send(&empty.into()).and_then(|_| self.settle(true));
    }
}

/// A shipper at work.
impl Deliver for Handle {
    fn encoder(&self) -> Box<dyn Encoder> {
        self.encoder.another()
    }

    fn deliver(&mut self, batch: Batch) -> Result<Outcome, SinkError> {
        Handle::deliver(self, batch)
    }

    fn forget(&mut self, generations: Vec<Arc<str>>) {
        Handle::forget(self, generations);
    }
}

/// What became of the letters that were sent once more.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replayed {
    /// Were delivered, those included that had been before; they are removed.
    pub delivered: u64,
    /// Of them, those that the sink had already.
    pub duplicates: u64,
    /// Were refused for good once more; they stay.
    pub refused: u64,
    /// The first of those, with the reason.
    pub refusals: Vec<RefusedAgain>,
    /// Nothing is wrong with them, but the sink, or their stream, can't take rows now; they stay. By data stream.
    pub waiting: BTreeMap<String, Waiting>,
    /// Hold no document to be sent; they stay.
    pub records: u64,
}

/// A letter that was refused once more.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedAgain {
    pub id: String,
    pub reason: String,
}

/// Letters of one data stream that have to wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    pub letters: u64,
    /// What was tried, on what, and what to do.
    pub reason: String,
}

impl Replayed {
    /// How many letters have to wait, of all streams.
    pub fn waits(&self) -> u64 {
        self.waiting.values().map(|waiting| waiting.letters).sum()
    }

    /// One more letter of this stream has to wait.
    fn wait(&mut self, stream: &str, reason: &str) {
        match self.waiting.get_mut(stream) {
            Some(waiting) => waiting.letters += 1,
            None => {
                self.waiting.insert(stream.to_owned(), Waiting { letters: 1, reason: reason.to_owned() });
            }
        }
    }
}

/// Sends the letters that are meant, under the ids that their documents would have had: one that arrived before, or is
/// sent by two at a time, is there once. What was acknowledged is removed, and nothing else. Once the sink, or a stream,
/// can't take rows, no more is sent to it.
///
/// # Errors
/// With what was tried, when the files can't be read or changed; what was delivered until then is removed.
pub fn replay(
    folder: &DeadLetterFolder,
    filter: &LetterFilter,
    to: &mut dyn Deliver,
) -> Result<Replayed, String> {
    let mut replay = Replay { folder, filter, replayed: Replayed::default(), halted: None };
    let failed = |e: io::Error| format!("{}: {e}", folder.path().display());
    for path in folder.files().map_err(failed)? {
        let Some(mut file) = LetterFile::open(&path).map_err(failed)? else { continue };
        loop {
            let letters = replay.read(&mut file, to.encoder()).map_err(failed)?;
            if letters.batch.is_empty() {
                break;
            }
            replay.send(letters, &file, to)?;
        }
    }
    Ok(replay.replayed)
}

struct Replay<'a> {
    folder: &'a DeadLetterFolder,
    filter: &'a LetterFilter,
    replayed: Replayed,
    /// Why the sink can't take anything now.
    halted: Option<String>,
}

impl Replay<'_> {
    /// The next letters of a file that can be sent.
    fn read(&mut self, file: &mut LetterFile, encoder: Box<dyn Encoder>) -> io::Result<Letters> {
        let mut letters = Letters { batch: Batch::new(encoder), streams: HashMap::new() };
        while letters.batch.size() < BATCH_BYTES {
            let Some(line) = file.next_line()? else { break };
            let Ok(letter) = serde_json::from_slice::<DeadLetter>(line) else { continue };
            if !self.filter.matches(&letter) {
                continue;
            }
            let Some(stream) = letters.stream(&letter) else {
                self.replayed.records += 1;
                continue;
            };
            match self.why_wait(&letter.stream) {
                Some(reason) => self.replayed.wait(&letter.stream, &reason),
                None => letters.push(&letter, &stream),
            }
        }
        Ok(letters)
    }

    /// Why letters of this stream have to wait.
    fn why_wait(&self, stream: &str) -> Option<String> {
        let held = self.replayed.waiting.get(stream).map(|waiting| waiting.reason.clone());
        held.or_else(|| self.halted.clone())
    }

    fn send(&mut self, letters: Letters, file: &LetterFile, to: &mut dyn Deliver) -> Result<(), String> {
        let Letters { batch, .. } = letters;
        let ids: Vec<String> = (0..batch.documents.len()).map(|document| batch.id(document)).collect();
        let streams: Vec<_> = batch.documents.iter().map(|document| document.stream.clone()).collect();
        let generations = batch.positions.iter().map(|(generation, _)| generation.clone()).collect();
        let outcome = match to.deliver(batch) {
            Ok(outcome) => outcome,
            Err(error) => {
                // What of them arrived all the same is told by its id the next time.
                let reason = error.to_string();
                streams.iter().for_each(|stream| self.replayed.wait(&stream.to_string(), &reason));
                self.halted = Some(reason);
                return Ok(());
            }
        };
        let mut stay: HashSet<&String> = HashSet::new();
        for rejected in outcome.rejected {
            let id = &ids[rejected.document];
            stay.insert(id);
            self.replayed.refused += 1;
            if self.replayed.refusals.len() < TOLD {
                self.replayed.refusals.push(RefusedAgain { id: id.clone(), reason: rejected.reason });
            }
        }
        for (id, stream) in ids.iter().zip(&streams) {
            if let Some(held) = outcome.held.iter().find(|held| held.stream == *stream) {
                stay.insert(id);
                self.replayed.wait(&stream.to_string(), &held.reason);
            }
        }
        let delivered: HashSet<&String> = ids.iter().filter(|id| !stay.contains(id)).collect();
        self.replayed.delivered += delivered.len() as u64;
        self.replayed.duplicates += outcome.duplicates;
        if !delivered.is_empty() {
            self.folder.remove_from(&file.path, |letter| delivered.contains(&letter.id())).map_err(|e| {
                format!(
                    "{}: {} letters are delivered, but can't be removed: {e}; a further replay removes them and doubles \
                     nothing",
                    file.path.display(),
                    delivered.len()
                )
            })?;
        }
        to.forget(generations);
        Ok(())
    }
}

/// Some letters of one file, as a batch in which each is a file of its own: so a sink that keeps positions tells them
/// apart, whatever it knows of the files they come from.
struct Letters {
    batch: Batch,
    streams: HashMap<String, Arc<StreamName>>,
}

impl Letters {
    /// The stream of a letter that holds a document; `None` where it holds none.
    fn stream(&mut self, letter: &DeadLetter) -> Option<Arc<StreamName>> {
        let json = serde_json::from_str::<&RawValue>(&letter.document);
        let is_object = json.is_ok_and(|json| json.get().starts_with('{'));
        if letter.kind != LetterKind::Document || !is_object {
            return None;
        }
        if let Some(known) = self.streams.get(&*letter.stream) {
            return Some(known.clone());
        }
        let stream = Arc::new(letter.stream_name()?);
        self.streams.insert(letter.stream.to_string(), stream.clone());
        Some(stream)
    }

    fn push(&mut self, letter: &DeadLetter, stream: &Arc<StreamName>) {
        let generation = letter.generation.as_ref().into();
        let id = RowId { stream, generation: &generation, offset: letter.offset };
        let file = self.batch.positions.len();
        self.batch.positions.push((format!("{GENERATION}{id}").into(), 1));
        self.batch.push_json(file, 0, &id, &letter.document);
    }
}
