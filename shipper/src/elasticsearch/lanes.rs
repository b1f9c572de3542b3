//! How many requests go at the same time.

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

/// Grows with calm, shrinks when the cluster pushes back. A file's rows never are in two requests at a time: so they
/// arrive in their order.
#[derive(Debug)]
pub(super) struct Lanes {
    now: usize,
    calm: u32,
}

impl Default for Lanes {
    fn default() -> Lanes {
        Lanes { now: 1, calm: 0 }
    }
}

impl Lanes {
    /// Parts for requests that may go at the same time; each keeps the documents' order.
    pub(super) fn split(&self, batch: &Batch, documents: &[usize]) -> Vec<Vec<usize>> {
        let lanes = self.now.min(batch.positions.len()).min(batch.body.len() / LEAST_BYTES);
        if lanes <= 1 {
            return vec![documents.to_vec()];
        }
        let mut sizes: HashMap<usize, usize> = HashMap::new();
        for document in documents.iter().map(|document| &batch.documents[*document]) {
            *sizes.entry(document.file).or_default() += document.action.len();
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

    use super::{LEAST_BYTES, Lanes, MOST};
    use crate::{Batch, Document, StreamName};

    /// A batch of files of so many documents, in turn; each document is of 1000 bytes.
    fn batch(files: &[usize]) -> Batch {
        let stream = StreamName { kind: Kind::Event, dataset: "a".into(), namespace: "default".into() };
        let (stream, mut batch) = (Arc::new(stream), Batch::default());
        for (file, documents) in files.iter().enumerate() {
            batch.positions.push((format!("{file}").into(), 0));
            for offset in 0..*documents as u64 {
                let start = batch.body.len();
                batch.body.resize(start + 1000, b' ');
                let (action, json) = (start..start + 1000, start + 500..start + 999);
                batch.documents.push(Document { stream: stream.clone(), action, json, file, offset });
            }
        }
        batch
    }

    #[test]
    fn requests_get_more_with_calm_and_a_file_is_in_one_of_them() {
        let mut lanes = Lanes::default();
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
    fn little_goes_in_one_request() {
        let mut lanes = Lanes::default();
        (0..40).for_each(|_| lanes.took(lanes.now, Duration::from_millis(5)));
        let batch = batch(&[LEAST_BYTES / 3000, LEAST_BYTES / 3000]);
        let all: Vec<usize> = (0..batch.documents.len()).collect();
        assert_eq!(lanes.split(&batch, &all).len(), 1);
    }
}
