//! The 10 minutes of one metric that are under way.

use std::collections::HashMap;

use kumon_schema::{Column, Columns, Record, Written};
use kumon_spool::RowBatch;

use super::LENGTH;
use super::key::{self, Raw, Texts};
use super::plan::{Plan, Role, Table, Top};
use super::reading::{Names, Read, Reading};
use super::total::Total;

/// The keys that have room, of a metric. Where there are more in 10 minutes, their rows are written before these are over.
const MOST_KEYS: usize = 2048;

pub(super) struct Window {
    plan: &'static Plan,
    /// Which 10 minutes since the Unix epoch.
    number: i64,
    /// The time of the newest row, ns since the Unix epoch.
    newest: i64,
    cells: HashMap<Raw, Cell>,
    /// As records name them: the metric's columns, and those of its histogram.
    columns: [Vec<Column>; 2],
    rows: Rows,
}

/// How many rows an interval had.
#[derive(Default)]
struct Rows {
    /// The interval's time.
    time: i64,
    now: usize,
    most: usize,
}

/// The rows of one key.
#[derive(Default)]
struct Cell {
    key: Texts,
    totals: Totals,
    buckets: HashMap<Raw, Bucket>,
}

#[derive(Default)]
struct Bucket {
    key: Texts,
    totals: Totals,
}

/// By column.
type Totals = Vec<Total>;

impl Window {
    pub(super) fn new(plan: &'static Plan) -> Window {
        Window {
            plan,
            number: 0,
            newest: i64::MIN,
            cells: HashMap::new(),
            columns: [Vec::new(), Vec::new()],
            rows: Rows::default(),
        }
    }

    /// Whether that time is within it.
    pub(super) fn is_of(&self, time: i64) -> bool {
        self.number == time.div_euclid(LENGTH)
    }

    /// Adds a row, of the histogram where `is_bucket`; `names` tells what its key is called, where it is a new one.
    pub(super) fn add(
        &mut self,
        is_bucket: bool,
        time: i64,
        row: &Reading,
        names: impl Fn() -> Names,
        batch: &mut RowBatch,
    ) {
        let is_full = self.cells.len() >= MOST_KEYS && !self.cells.contains_key(&*row.key);
        if !self.is_of(time) || is_full {
            self.finish(batch);
            self.number = time.div_euclid(LENGTH);
        }
        self.newest = self.newest.max(time);
        let Window { plan, cells, columns: [of_metric, of_histogram], rows, .. } = self;
        if !cells.contains_key(&*row.key) {
            cells.insert(row.key.as_slice().into(), Cell { key: names().key, ..Cell::default() });
        }
        let Some(cell) = cells.get_mut(&*row.key) else { return };
        match &plan.histogram {
            Some(table) if is_bucket => {
                if !cell.buckets.contains_key(&*row.bucket) {
                    let Names { columns, bucket, .. } = names();
                    *of_histogram = columns;
                    let bucket = Bucket { key: bucket, totals: Totals::new() };
                    cell.buckets.insert(row.bucket.as_slice().into(), bucket);
                }
                if let Some(bucket) = cell.buckets.get_mut(&*row.bucket) {
                    add(&mut bucket.totals, table, row);
                }
            }
            _ => {
                if of_metric.is_empty() {
                    *of_metric = names().columns;
                }
                add(&mut cell.totals, &plan.table, row);
                let is_other = plan.top.as_ref().is_some_and(|top| top.other == cell.key);
                rows.count(time, !is_other);
            }
        }
    }

    /// Puts the rows so far into the batch.
    pub(super) fn finish(&mut self, batch: &mut RowBatch) {
        let Window { plan, newest, cells, columns, rows, .. } = self;
        let newest = std::mem::replace(newest, i64::MIN);
        let most = std::mem::take(rows).most;
        let mut cells: Vec<Cell> = cells.drain().map(|(_, cell)| cell).collect();
        if let Some(top) = &plan.top {
            merge_others(plan, top, &mut cells, most);
        }
        cells.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        for cell in &cells {
            if !cell.totals.is_empty() {
                batch
                    .append_record(plan.table.coarse, newest, |record| cell.write(plan, &columns[0], record));
            }
            let Some(table) = &plan.histogram else { continue };
            let mut buckets: Vec<&Bucket> = cell.buckets.values().collect();
            buckets.sort_unstable_by(|one, other| one.key.cmp(&other.key));
            for Bucket { key, totals } in buckets {
                batch.append_record(table.coarse, newest, |record| {
                    write(table, &columns[1], [&cell.key, key], totals, |_| None, record);
                });
            }
        }
    }
}

impl Rows {
    /// Counts a row of that time, unless it is that of the others.
    fn count(&mut self, time: i64, counts: bool) {
        if time != self.time {
            (self.time, self.now) = (time, 0);
        }
        self.now += usize::from(counts);
        self.most = self.most.max(self.now);
    }
}

/// Adds a row to what its key's or bucket's rows come to.
fn add(totals: &mut Totals, table: &Table, row: &Reading) {
    totals.resize_with(table.columns.len(), Total::default);
    for ((total, value), column) in totals.iter_mut().zip(&row.values).zip(&table.columns) {
        match value {
            Read::Nothing => {}
            Read::Number(number) => total.add(column.role, *number),
            Read::Text(range) => {
                let text = String::from_utf8_lossy(row.text(range));
                if !matches!(total, Total::Text(known) if **known == *text) {
                    *total = Total::Text(text.into());
                }
            }
        }
    }
}

/// Leaves as many keys as the interval with most rows had, the largest ones, and the row of the others, which takes in the rest.
fn merge_others(plan: &Plan, top: &Top, cells: &mut Vec<Cell>, most: usize) {
    let other = cells.iter().position(|cell| cell.key == top.other).map(|at| cells.swap_remove(at));
    if cells.len() <= most {
        cells.extend(other);
        return;
    }
    let mut other = other.unwrap_or_else(|| Cell { key: top.other.clone(), ..Cell::default() });
    let keep = largest(top, cells, most);
    let mut kept = keep.iter();
    for cell in cells.extract_if(.., |_| kept.next() == Some(&false)) {
        merge(&mut other.totals, &plan.table, &cell.totals);
        let Some(table) = &plan.histogram else { continue };
        for (raw, bucket) in cell.buckets {
            let sum = other.buckets.entry(raw).or_default();
            merge(&mut sum.totals, table, &bucket.totals);
            sum.key = bucket.key;
        }
    }
    cells.push(other);
}

fn merge(totals: &mut Totals, table: &Table, other: &Totals) {
    // Of a key of which there are buckets alone nothing is written but these.
    if other.is_empty() {
        return;
    }
    totals.resize_with(table.columns.len(), Total::default);
    for ((total, other), column) in totals.iter_mut().zip(other).zip(&table.columns) {
        total.merge(column.role, other);
    }
}

/// Which are the largest, so many. Of several columns to be large by each has its turn.
fn largest(top: &Top, cells: &[Cell], most: usize) -> Vec<bool> {
    let ordered = |by: &usize| {
        let weight = |cell: &Cell| cell.totals.get(*by).map_or(0.0, Total::weight);
        let mut order: Vec<usize> = (0..cells.len()).collect();
        order.sort_unstable_by(|one, other| {
            let (one, other) = (&cells[*one], &cells[*other]);
            weight(other).total_cmp(&weight(one)).then_with(|| one.key.cmp(&other.key))
        });
        order.into_iter()
    };
    let mut turns: Vec<_> = top.by.iter().map(ordered).collect();
    let mut keep = vec![false; cells.len()];
    for turn in 0..most {
        let at = turn % turns.len().max(1);
        let Some(next) = turns.get_mut(at).and_then(|turn| turn.find(|cell| !keep[*cell])) else { break };
        keep[next] = true;
    }
    keep
}

impl Cell {
    fn write(&self, plan: &Plan, columns: &[Column], record: &mut Record<'_>) {
        let buckets = plan.histogram.as_ref().map(|table| self.counts(table)).unwrap_or_default();
        let extreme = |role| plan.table.of_role(role).find_map(|at| self.totals[at].number());
        let (min, max) = (extreme(Role::Min).unwrap_or(0), extreme(Role::Max).unwrap_or(u64::MAX));
        let percentile = |percent| Some(percentile(&buckets, percent)?.clamp(min, max.max(min)));
        write(&plan.table, columns, [&self.key, &[]], &self.totals, percentile, record);
    }

    /// The histogram's bounds and counts, in order.
    fn counts(&self, table: &Table) -> Vec<(u64, u64, u64)> {
        let counts = table.of_role(Role::Sum).next();
        let bucket = |bucket: &Bucket| {
            // The bounds are the numbers among what tells buckets apart.
            let mut bounds = key::each(&bucket.key).filter_map(|text| text.parse().ok());
            Some((bounds.next()?, bounds.next()?, bucket.totals.get(counts?)?.number()?))
        };
        let mut buckets: Vec<_> = self.buckets.values().filter_map(bucket).collect();
        buckets.sort_unstable();
        buckets
    }
}

/// By nearest rank; within its bucket values are taken as evenly spread.
fn percentile(buckets: &[(u64, u64, u64)], percent: u8) -> Option<u64> {
    let count: u64 = buckets.iter().map(|(.., count)| count).sum();
    let rank = (u128::from(count) * u128::from(percent)).div_ceil(100) as u64;
    let mut below = 0;
    for (low, high, in_bucket) in buckets {
        if below + in_bucket >= rank {
            let share = (rank - below) as f64 / (*in_bucket).max(1) as f64;
            return Some(low + (high.saturating_sub(*low) as f64 * share) as u64);
        }
        below += in_bucket;
    }
    None
}

fn write(
    table: &Table,
    columns: &[Column],
    keys: [&[u8]; 2],
    totals: &Totals,
    percentile: impl Fn(u8) -> Option<u64>,
    record: &mut Record<'_>,
) {
    let [mut of_key, mut of_bucket] = keys.map(key::each);
    for (at, of) in table.columns.iter().enumerate() {
        let column = columns[at];
        let written = |text: Option<&str>, record: &mut Record<'_>| {
            record.field(column, &Written { text: text.unwrap_or_default(), is_text: of.is_text });
        };
        match of.role {
            Role::LeftOut => {}
            Role::Key => written(of_key.next(), record),
            Role::Bucket => written(of_bucket.next(), record),
            Role::Percentile(percent) => record.field(column, &percentile(percent)),
            _ => totals[at].write(*of, column, record),
        }
    }
}
