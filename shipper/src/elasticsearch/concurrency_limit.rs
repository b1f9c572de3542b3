//! How many requests go at the same time, and how large they may be.

use std::collections::HashMap;
use std::time::Duration;

use crate::Batch;

/// More at a time than these gain little on one node, and take what others may need.
const MOST: usize = 4;
/// Smaller requests are mostly overhead. In bytes.
const LEAST_BYTES: usize = 256 << 10;
/// So many calm rounds later one more is tried.
const CALM: u32 = 4;
/// A round that took longer is not calm.
const LONG: Duration = Duration::from_secs(1);
/// Smaller requests are not worth trying where the cluster takes no larger ones. In bytes.
const LEAST_PORTION: usize = 64 << 10;
/// So many answered requests later a larger one is tried again: what the cluster has room for may have changed.
const TRY_AGAIN: u32 = 100;

/// Grows with calm, shrinks when the cluster pushes back. A file's rows never are in two requests at a time: so they
/// arrive in their order.
#[derive(Debug)]
pub(super) struct ConcurrencyLimit {
    now: usize,
    calm: u32,
    /// A request has no more bytes, once the cluster had no room for a larger one.
    portion: usize,
    /// Requests until a larger one is tried.
    rest: u32,
}

impl Default for ConcurrencyLimit {
    fn default() -> ConcurrencyLimit {
        ConcurrencyLimit { now: 1, calm: 0, portion: usize::MAX, rest: 0 }
    }
}

impl ConcurrencyLimit {
    /// Parts for requests that go one after the other.
    pub(super) fn portions<'d>(&self, batch: &Batch, documents: &'d [usize]) -> Vec<&'d [usize]> {
        let bytes = |document: &usize| batch.documents[*document].encoded.len();
        let mut size = 0;
        let fits = |first: &usize, next: &usize| {
            size = if size == 0 { bytes(first) } else { size } + bytes(next);
            let fits = size <= self.portion;
            size *= usize::from(fits);
            fits
        };
        documents.chunk_by(fits).collect()
    }

    /// The cluster had no room for a request of so many bytes.
    pub(super) fn had_no_room(&mut self, bytes: usize) {
        self.pushed_back();
        (self.portion, self.rest) = ((bytes.min(self.portion) / 2).max(LEAST_PORTION), TRY_AGAIN);
    }

    /// Parts for requests that may go at the same time; each keeps the documents' order.
    pub(super) fn split(&self, batch: &Batch, documents: &[usize]) -> Vec<Vec<usize>> {
        let lanes = self.now.min(batch.positions.len()).min(batch.body.len() / LEAST_BYTES);
        if lanes <= 1 {
            return vec![documents.to_vec()];
        }
        let mut sizes: HashMap<usize, usize> = HashMap::new();
        for document in documents.iter().map(|document| &batch.documents[*document]) {
            *sizes.entry(document.file).or_default() += document.encoded.len();
        }
        // The largest first, each to the lane that has least.
        let mut files: Vec<(usize, usize)> = sizes.into_iter().collect();
        files.sort_by_key(|(file, size)| (usize::MAX - size, *file));
        let (mut loads, mut lane_of) = (vec![0; lanes], HashMap::new());
        for (file, size) in files {
            let lane = (0..lanes).min_by_key(|lane| loads[*lane]).unwrap_or(0);
            loads[lane] += size;
            lane_of.insert(file, lane);
        }
        let mut parts = vec![Vec::new(); lanes];
        for document in documents {
            parts[lane_of[&batch.documents[*document].file]].push(*document);
        }
        parts.retain(|part| !part.is_empty());
        parts
    }

    /// So many requests at a time were answered after this time.
    pub(super) fn took(&mut self, lanes: usize, time: Duration) {
        self.rest = self.rest.saturating_sub(1);
        if self.rest == 0 && self.portion < usize::MAX {
            (self.portion, self.rest) = (self.portion.saturating_mul(2), TRY_AGAIN);
        }
        if time > LONG {
            return self.pushed_back();
        }
        // Fewer than are allowed say nothing of more.
        self.calm += u32::from(lanes >= self.now || lanes == 1);
        if self.calm >= CALM {
            (self.now, self.calm) = ((self.now + 1).min(MOST), 0);
        }
    }

    /// The cluster has more to do than it can take.
    pub(super) fn pushed_back(&mut self) {
        (self.now, self.calm) = ((self.now / 2).max(1), 0);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use kumon_schema::Kind;

    use super::{ConcurrencyLimit, LEAST_BYTES, LEAST_PORTION, MOST, TRY_AGAIN};
    use crate::elasticsearch::BulkEncoder;
    use crate::{Batch, Document, StreamName};

    /// A batch of files of so many documents, in turn; each document is of 1000 bytes.
    fn batch(files: &[usize]) -> Batch {
        let stream = StreamName { kind: Kind::Event, dataset: "a".into(), namespace: "default".into() };
        let (stream, mut batch) = (Arc::new(stream), Batch::new(Box::new(BulkEncoder::default())));
        for (file, documents) in files.iter().enumerate() {
            batch.positions.push((format!("{file}").into(), 0));
            for offset in 0..*documents as u64 {
                let start = batch.body.len();
                batch.body.resize(start + 1000, b' ');
                let encoded = start..start + 1000;
                batch.documents.push(Document { stream: stream.clone(), encoded, file, offset });
            }
        }
        batch
    }

    #[test]
    fn requests_get_more_with_calm_and_a_file_is_in_one_of_them() {
        let mut lanes = ConcurrencyLimit::default();
        let batch = batch(&[1000, 400, 300, 20, 10]);
        let all: Vec<usize> = (0..batch.documents.len()).collect();
        assert_eq!(lanes.split(&batch, &all), vec![all.clone()]);
        (0..40).for_each(|_| lanes.took(lanes.now, Duration::from_millis(50)));
        let parts = lanes.split(&batch, &all);
        assert_eq!(parts.len(), MOST);
        assert_eq!(parts.iter().map(Vec::len).max(), Some(1000));
        for file in 0..5 {
            let has =
                |part: &&Vec<usize>| part.iter().any(|document| batch.documents[*document].file == file);
            assert_eq!(parts.iter().filter(has).count(), 1, "file {file}");
        }
        assert!(parts.iter().all(|part| part.is_sorted()));
        assert_eq!(parts.concat().len(), all.len());

        lanes.pushed_back();
        assert_eq!(lanes.split(&batch, &all).len(), MOST / 2);
        lanes.took(2, Duration::from_secs(3));
        assert_eq!(lanes.split(&batch, &all).len(), 1);
    }

    #[test]
    fn what_the_cluster_has_no_room_for_goes_in_portions_for_a_while() {
        let mut lanes = ConcurrencyLimit::default();
        let batch = batch(&[600, 400]);
        let all: Vec<usize> = (0..1000).collect();
        let sizes = |lanes: &ConcurrencyLimit| {
            lanes.portions(&batch, &all).iter().map(|it| it.len()).collect::<Vec<_>>()
        };
        assert_eq!(sizes(&lanes), [1000]);
        lanes.had_no_room(batch.body.len());
        assert_eq!(sizes(&lanes), [500, 500]);
        lanes.had_no_room(500_000);
        assert_eq!(sizes(&lanes), [250; 4]);
        assert_eq!(lanes.portions(&batch, &all).concat(), all);
        (0..20).for_each(|_| lanes.had_no_room(1));
        assert_eq!(lanes.portions(&batch, &all)[0].len(), LEAST_PORTION / 1000);
        (0..5 * TRY_AGAIN).for_each(|_| lanes.took(1, Duration::from_millis(50)));
        assert_eq!(sizes(&lanes), [1000]);
    }

    #[test]
    fn little_goes_in_one_request() {
        let mut lanes = ConcurrencyLimit::default();
        (0..40).for_each(|_| lanes.took(lanes.now, Duration::from_millis(5)));
        let batch = batch(&[LEAST_BYTES / 3000, LEAST_BYTES / 3000]);
        let all: Vec<usize> = (0..batch.documents.len()).collect();
        assert_eq!(lanes.split(&batch, &all).len(), 1);
    }
}
