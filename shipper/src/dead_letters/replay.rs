//! Sending dead letters once more.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

use super::folder::LetterFile;
use super::{DeadLetter, DeadLetterFolder, LetterFilter, LetterKind};
use crate::batch::{Batch, Document, StreamName};
use crate::handle::Handle;
use crate::sink::{Outcome, Sink, SinkError};

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
    /// Delivers all of the batch durably, or says of which documents that can't be done.
    ///
    /// # Errors
    /// When the sink can't take it now.
    fn deliver(&mut self, batch: Batch) -> Result<Outcome, SinkError>;

    /// The letters of the batch of these generations are removed: nobody will ask for them again.
    fn forget(&mut self, generations: Vec<Arc<str>>);
}

/// A sink that no shipper uses.
impl Deliver for Box<dyn Sink> {
    fn deliver(&mut self, batch: Batch) -> Result<Outcome, SinkError> {
        let outcome = self.send(&Arc::new(batch))?;
        self.settle(true)?;
        Ok(outcome)
    }

    fn forget(&mut self, generations: Vec<Arc<str>>) {
        Sink::forget(self.as_mut(), &generations);
        // A sink that keeps positions keeps these until it commits something else; they cost some bytes at most.
        let _ = self.send(&Arc::default()).and_then(|_| self.settle(true));
    }
}

/// A shipper at work.
impl Deliver for Handle {
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
    /// Could not be delivered; they stay.
    pub refused: u64,
    /// The first of those, with the reason.
    pub refusals: Vec<RefusedAgain>,
    /// Hold no document to be sent; they stay.
    pub records: u64,
}

/// A letter that was refused once more.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedAgain {
    pub id: String,
    pub reason: String,
}

/// Sends the letters that are meant, under the ids that their documents would have had: one that arrived before, or is
/// sent by two at a time, is there once. What was acknowledged is removed.
///
/// # Errors
/// With what was tried, when the files can't be read or the sink can't take letters now; what was delivered until then
/// is removed.
pub fn replay(
    folder: &DeadLetterFolder,
    filter: &LetterFilter,
    to: &mut dyn Deliver,
) -> Result<Replayed, String> {
    let mut replayed = Replayed::default();
    let failed = |e: io::Error| format!("{}: {e}", folder.path().display());
    for path in folder.files().map_err(failed)? {
        let Some(mut file) = LetterFile::open(&path).map_err(failed)? else { continue };
        loop {
            let letters = Letters::read(&mut file, filter, &mut replayed).map_err(failed)?;
            if letters.batch.is_empty() {
                break;
            }
            letters.send(folder, &file, to, &mut replayed)?;
        }
    }
    Ok(replayed)
}

/// Some letters of one file, as a batch in which each is a file of its own: so a sink that keeps positions tells them
/// apart, whatever it knows of the files they come from.
#[derive(Default)]
struct Letters {
    batch: Batch,
    ids: Vec<String>,
    streams: HashMap<String, Arc<StreamName>>,
}

impl Letters {
    fn read(file: &mut LetterFile, filter: &LetterFilter, replayed: &mut Replayed) -> io::Result<Letters> {
        let mut letters = Letters::default();
        while letters.batch.size() < BATCH_BYTES {
            let Some(line) = file.next_line()? else { break };
            let Ok(letter) = serde_json::from_slice::<DeadLetter>(line) else { continue };
            if filter.matches(&letter) && !letters.push(&letter) {
                replayed.records += 1;
            }
        }
        Ok(letters)
    }

    /// False where the letter holds no document.
    fn push(&mut self, letter: &DeadLetter) -> bool {
        let is_object = || {
            let json = serde_json::from_str::<&RawValue>(&letter.document);
            json.is_ok_and(|json| json.get().starts_with('{'))
        };
        if letter.kind != LetterKind::Document || !is_object() {
            return false;
        }
        let stream = match self.streams.get(&*letter.stream) {
            Some(known) => known.clone(),
            None => {
                let Some(stream) = letter.stream_name().map(Arc::new) else { return false };
                self.streams.insert(letter.stream.to_string(), stream.clone());
                stream
            }
        };
        let (id, batch) = (letter.id(), &mut self.batch);
        let start = batch.body.len();
        let action = json!({"create": {"_index": letter.stream, "_id": id}}).to_string();
        batch.body.extend_from_slice(action.as_bytes());
        batch.body.push(b'\n');
        let json = batch.body.len()..batch.body.len() + letter.document.len();
        batch.body.extend_from_slice(letter.document.as_bytes());
        batch.body.push(b'\n');
        let (action, file) = (start..batch.body.len(), batch.positions.len());
        batch.documents.push(Document { stream, action, json, file, offset: 0 });
        batch.positions.push((format!("{GENERATION}{id}").into(), 1));
        self.ids.push(id);
        true
    }

    fn send(
        self,
        folder: &DeadLetterFolder,
        file: &LetterFile,
        to: &mut dyn Deliver,
        replayed: &mut Replayed,
    ) -> Result<(), String> {
        let generations = self.batch.positions.iter().map(|(generation, _)| generation.clone()).collect();
        let outcome = to.deliver(self.batch).map_err(|e| e.to_string())?;
        let mut delivered: HashSet<&String> = self.ids.iter().collect();
        for rejected in outcome.rejected {
            let id = &self.ids[rejected.document];
            delivered.remove(id);
            replayed.refused += 1;
            if replayed.refusals.len() < TOLD {
                replayed.refusals.push(RefusedAgain { id: id.clone(), reason: rejected.reason });
            }
        }
        replayed.delivered += delivered.len() as u64;
        replayed.duplicates += outcome.duplicates;
        folder.remove_from(&file.path, |letter| delivered.contains(&letter.id())).map_err(|e| {
            format!(
                "{}: {} letters are delivered, but can't be removed: {e}; a further replay removes them and doubles \
                 nothing",
                file.path.display(),
                delivered.len()
            )
        })?;
        to.forget(generations);
        Ok(())
    }
}
