//! Rows by 10 minutes: what the rows of summaries come to, so that years of them take little room.
//!
//! It sees every row that is emitted, and no collector knows of it. The rows of one key, which is all that tells rows apart,
//! make one row of each 10 minutes of the wall clock, by their times. That row has the time of the newest row in it, so that
//! steps of 10 minutes, and of what consists of them, hold the same sums in both. Where 10 minutes are cut in two, by the end of
//! the agent or a step of the clock, each part has its rows, which add up.

mod key;
mod plan;
mod reading;
#[cfg(test)]
mod tests;
mod total;
mod window;

use std::collections::BTreeMap;

use kumon_schema::{Row, SubjectFields};
use kumon_spool::RowBatch;

use reading::{Names, Reading};
use window::Window;

/// ns.
const LENGTH: i64 = 600 * 1_000_000_000;

/// The 10 minutes that are under way.
#[derive(Default)]
pub(crate) struct Coarse {
    /// By metric; what is measured and its histogram have one together.
    windows: BTreeMap<&'static str, Window>,
    reading: Reading,
}

impl Coarse {
    /// Adds a row, where its metric has rows by 10 minutes. Where it is the first one of other 10 minutes, or there is no room
    /// for its key, the rows so far go into the batch.
    pub(crate) fn add<R: Row>(&mut self, row: &R, subject: &SubjectFields<'_>, batch: &mut RowBatch) {
        let Some(place) = plan::place(R::METRIC) else { return };
        self.reading.read(place.table(), row, subject);
        let window = self.windows.entry(place.plan.metric).or_insert_with(|| Window::new(place.plan));
        let names = || Names::read(place.table(), row, subject);
        window.add(place.is_histogram, row.timestamp(), &self.reading, names, batch);
    }

    /// Puts the rows of those 10 minutes into the batch that are not those of `now` (ns since the Unix epoch).
    pub(crate) fn finish_past(&mut self, now: i64, batch: &mut RowBatch) {
        for window in self.windows.values_mut() {
            if !window.is_of(now) {
                window.finish(batch);
            }
        }
    }

    /// Puts all rows so far into the batch.
    pub(crate) fn finish(&mut self, batch: &mut RowBatch) {
        self.windows.values_mut().for_each(|window| window.finish(batch));
    }
}
